"""A catalog's file, row by row: JSONL, CSV, TSV or Parquet, by the file's ending."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from afmrl.errors import InputError

ENDINGS = (".jsonl", ".ndjson", ".csv", ".tsv", ".parquet")
MEASURED_EVERY = 256  # rows between two looks at how far the file was read


class BadRow(Exception):
    """A row that cannot be used: which field, and why."""

    def __init__(self, field_name: str, reason: str) -> None:
        super().__init__(reason)
        self.field, self.reason = field_name, reason


class CatalogRows(Protocol):
    """What gives a catalog's rows one by one: a file, or another source that does as `CatalogFile` does."""

    path: Path
    folder: Path

    def __iter__(self) -> Iterator[tuple[int, dict[str, Any] | BadRow]]:
        """Each row with its number."""
        ...

    def total(self) -> int | None:
        """How many rows there are, as far as is known so far."""
        ...


class CatalogFile:
    """The rows of one file, read as a stream.

    Args:
        path: .jsonl, .ndjson, .csv, .tsv or .parquet.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.folder = self.path.parent
        """What an image's relative path is relative to."""
        self._rows_read = 0
        self._total: int | None = None

    def __iter__(self) -> Iterator[tuple[int, dict[str, Any] | BadRow]]:
        """Each row with its line (JSONL, CSV) or number (Parquet), from 1; a `BadRow` where it cannot be read.

        Raises:
            InputError: no such file, an unknown ending, or a file that cannot be read as what it claims to be.
        """
        path = self.path
        if not path.is_file():
            raise InputError(f"{path}: no such file; give a catalog as .jsonl, .csv, .tsv or .parquet")
        ending = path.suffix.lower()
        if ending in (".jsonl", ".ndjson"):
            rows = self._jsonl_rows()
        elif ending in (".csv", ".tsv"):
            rows = self._csv_rows("\t" if ending == ".tsv" else ",")
        elif ending == ".parquet":
            rows = self._parquet_rows()
        else:
            raise InputError(f"{path}: unknown ending {ending!r}; known are .jsonl, .csv, .tsv, .parquet")
        self._rows_read = 0
        for number, row in rows:
            self._rows_read += 1
            yield number, row
        self._total = self._rows_read

    def total(self) -> int | None:
        """How many rows there are: Parquet's count, otherwise an estimate; None: unknown."""
        return self._total

    def _measure(self, position: int, size: int) -> None:
        if self._rows_read and self._rows_read % MEASURED_EVERY == 0 and position:
            self._total = round(self._rows_read * size / position)

    def _jsonl_rows(self) -> Iterator[tuple[int, dict[str, Any] | BadRow]]:
        size = max(self.path.stat().st_size, 1)
        with open(self.path, "rb") as file:
            for number, line in enumerate(file, 1):
                self._measure(file.tell(), size)
                if not line.strip(b"\xef\xbb\xbf \t\r\n"):
                    continue
                try:
                    row = json.loads(line.decode("utf-8-sig"))
                except UnicodeDecodeError:
                    yield number, BadRow("line", "is not UTF-8")
                    continue
                except (ValueError, RecursionError) as error:
                    yield number, BadRow("line", f"is not JSON ({error})")
                    continue
                yield number, row if isinstance(row, dict) else BadRow("line", "is not a JSON object")

    def _csv_rows(self, delimiter: str) -> Iterator[tuple[int, dict[str, Any] | BadRow]]:
        path, size = self.path, max(self.path.stat().st_size, 1)
        # strict: a quote that is never closed would otherwise swallow the rows after it
        with (
            open(path, "rb") as binary,
            io.TextIOWrapper(binary, encoding="utf-8-sig", errors="surrogateescape", newline="") as file,
        ):
            reader = csv.DictReader(file, delimiter=delimiter, strict=True)
            try:
                header = reader.fieldnames
            except csv.Error as error:
                raise InputError(f"{path}:1: the header is not CSV ({error})") from error
            if header is not None and "id" not in header:
                columns = ", ".join(header).encode("utf-8", "replace").decode()
                raise InputError(f"{path}:1: the header has no column 'id' (columns: {columns[:200]})")
            while True:
                self._measure(binary.tell(), size)
                last_line = reader.reader.line_num
                try:
                    row = next(reader)
                except StopIteration:
                    return
                except csv.Error as error:
                    if reader.reader.line_num > last_line + 1:
                        raise InputError(
                            f"{path}:{last_line + 1}: a quote is opened and not closed properly; the rows up to line "
                            f"{reader.reader.line_num} cannot be told apart ({error})"
                        ) from error
                    yield reader.reader.line_num, BadRow("line", f"is not CSV ({error})")
                    continue
                if None in row or None in row.values():
                    yield reader.reader.line_num, BadRow("line", "has another number of cells than the header")
                    continue
                if not all(is_unicode(cell) for cell in row.values()):
                    yield reader.reader.line_num, BadRow("line", "is not UTF-8")
                    continue
                yield reader.reader.line_num, dict(row)

    def _parquet_rows(self) -> Iterator[tuple[int, dict[str, Any] | BadRow]]:
        import pyarrow
        import pyarrow.parquet

        path = self.path
        try:
            file = pyarrow.parquet.ParquetFile(path)
        except (pyarrow.ArrowInvalid, OSError) as error:
            raise InputError(f"{path}: is not Parquet ({error})") from error
        if "id" not in file.schema_arrow.names:
            raise InputError(f"{path}: has no column 'id' (columns: {', '.join(file.schema_arrow.names)[:200]})")
        self._total = file.metadata.num_rows
        number = 0
        try:
            for batch in file.iter_batches(4096):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
        except (pyarrow.ArrowException, OSError, ValueError) as error:
            raise InputError(f"{path}: cannot be read after row {number} ({error}); the file is damaged") from error


def is_unicode(text: str) -> bool:
    """Whether text can be written as UTF-8: it holds no half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
