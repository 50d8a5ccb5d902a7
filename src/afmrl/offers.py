"""Offers and catalogues: read, validate, write."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from afmrl.errors import InputError
from afmrl.images import verify_image

MAX_TITLE_CHARACTERS = 10_000
TEXT_FIELDS = ("title", "description", "image", "category", "product_id")
FIELDS = ("id", "title", "description", "image", "category", "attributes", "product_id")
SHOWN = 10  # skipped rows that an error message lists


@dataclass(frozen=True, slots=True)
class Offer:
    """One catalogue row. Any field but `id` may be empty; `image` is a path (absolute once read from a file)."""

    id: str
    title: str = ""
    description: str = ""
    image: str = ""
    category: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    product_id: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Every other column of the row as it was read (split, role, family_id, …)."""


@dataclass(frozen=True, slots=True)
class SkippedRow:
    """A row that was not taken, and why."""

    file: str
    row: int
    """Line of the file (JSONL, CSV) or number of the row (Parquet), from 1."""
    field: str
    reason: str
    id: str = ""
    """The row's id, where it could still be read."""

    def __str__(self) -> str:
        return f"{self.file}:{self.row}: {self.field}: {self.reason}"


@dataclass(frozen=True)
class Catalogue:
    """The offers of one file, and the rows of it that were skipped."""

    offers: tuple[Offer, ...]
    skipped: tuple[SkippedRow, ...] = ()
    path: str = ""

    def __len__(self) -> int:
        return len(self.offers)

    def __iter__(self) -> Iterator[Offer]:
        return iter(self.offers)

    @cached_property
    def by_id(self) -> dict[str, Offer]:
        """Offers by their id."""
        return {offer.id: offer for offer in self.offers}


class _BadRow(Exception):
    def __init__(self, field_name: str, reason: str) -> None:
        super().__init__(reason)
        self.field, self.reason = field_name, reason


def read_catalogue(path: str | Path, *, max_bad: float = 0.01, check_images: bool = True) -> Catalogue:
    """Read a catalogue: JSONL, CSV, TSV or Parquet, by the file's ending.

    A row that cannot be used (malformed, no title and no picture, a picture that is missing or none) is skipped and
    listed in `Catalogue.skipped`.

    Args:
        max_bad: share of the rows that may be skipped.
        check_images: look at every picture's header (about 0.1 ms each).

    Raises:
        InputError: no such file, an unknown ending, no rows, an id twice, or more than `max_bad` rows to skip.
    """
    path = Path(path)
    offers: list[Offer] = []
    skipped: list[SkippedRow] = []
    first_row: dict[str, int] = {}
    count = 0
    for row_number, row in _rows(path):
        count += 1
        try:
            if isinstance(row, _BadRow):
                raise row
            offer = _offer(row, path.parent, check_images)
        except _BadRow as bad:
            identifier = "" if isinstance(row, _BadRow) else str(row.get("id") or "")
            skipped.append(SkippedRow(str(path), row_number, bad.field, bad.reason, identifier))
            continue
        if offer.id in first_row:
            raise InputError(
                f"{path}:{row_number}: id: {offer.id!r} stands already in row {first_row[offer.id]}; ids must be "
                "unique, remove one of the rows or rename it"
            )
        first_row[offer.id] = row_number
        offers.append(offer)
    if not count:
        raise InputError(f"{path}: the catalogue is empty; one offer a row is expected")
    if len(skipped) > max_bad * count or not offers:
        listed = "\n".join(f"  {row}" for row in skipped[:SHOWN])
        more = f"\n  … and {len(skipped) - SHOWN} more" if len(skipped) > SHOWN else ""
        tolerated = f"more than the tolerated share of {max_bad:g}" if offers else "so none is left"
        raise InputError(
            f"{path}: {len(skipped)} of {count} rows cannot be used, {tolerated}; "
            f"mend them or raise max_bad (--max-bad, in a recipe catalogue.max_bad):\n{listed}{more}"
        )
    return Catalogue(tuple(offers), tuple(skipped), str(path))


def write_catalogue(path: str | Path, offers: Iterable[Offer]) -> None:
    """Write offers as JSONL, atomically; pictures below the file's folder are named relative to it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = path.parent.resolve()
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "w", encoding="utf-8") as file:
        for offer in offers:
            image = offer.image
            if image and Path(image).is_absolute() and Path(image).is_relative_to(folder):
                image = Path(image).relative_to(folder).as_posix()
            row = {
                "id": offer.id,
                "title": offer.title,
                "description": offer.description,
                "image": image,
                "category": offer.category,
                "attributes": dict(offer.attributes),
                "product_id": offer.product_id,
                **offer.extra,
            }
            # str: a date of a Parquet column
            file.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")
    os.replace(temporary, path)


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any] | _BadRow]]:
    if not path.is_file():
        raise InputError(f"{path}: no such file; give a catalogue as .jsonl, .csv, .tsv or .parquet")
    ending = path.suffix.lower()
    if ending in (".jsonl", ".ndjson"):
        yield from _jsonl_rows(path)
    elif ending in (".csv", ".tsv"):
        yield from _csv_rows(path, "\t" if ending == ".tsv" else ",")
    elif ending == ".parquet":
        yield from _parquet_rows(path)
    else:
        raise InputError(f"{path}: unknown ending {ending!r}; known are .jsonl, .csv, .tsv, .parquet")


def _jsonl_rows(path: Path) -> Iterator[tuple[int, dict[str, Any] | _BadRow]]:
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip(b"\xef\xbb\xbf \t\r\n"):
                continue
            try:
                row = json.loads(line.decode("utf-8-sig"))
            except UnicodeDecodeError:
                yield number, _BadRow("line", "is not UTF-8")
                continue
            except (ValueError, RecursionError) as error:
                yield number, _BadRow("line", f"is not JSON ({error})")
                continue
            yield number, row if isinstance(row, dict) else _BadRow("line", "is not a JSON object")


def _csv_rows(path: Path, delimiter: str) -> Iterator[tuple[int, dict[str, Any] | _BadRow]]:
    # strict: a quote that is never closed would else swallow the rows after it
    with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.DictReader(file, delimiter=delimiter, strict=True)
        try:
            header = reader.fieldnames
        except csv.Error as error:
            raise InputError(f"{path}:1: the header is not CSV ({error})") from error
        if header is not None and "id" not in header:
            columns = ", ".join(header).encode("utf-8", "replace").decode()
            raise InputError(f"{path}:1: the header has no column 'id' (columns: {columns[:200]})")
        while True:
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
                yield reader.reader.line_num, _BadRow("line", f"is not CSV ({error})")
                continue
            if None in row or None in row.values():
                yield reader.reader.line_num, _BadRow("line", "has another number of cells than the header")
                continue
            if not all(_is_unicode(cell) for cell in row.values()):
                yield reader.reader.line_num, _BadRow("line", "is not UTF-8")
                continue
            yield reader.reader.line_num, dict(row)


def _parquet_rows(path: Path) -> Iterator[tuple[int, dict[str, Any] | _BadRow]]:
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise InputError(f"{path}: is not Parquet ({error})") from error
    if "id" not in file.schema_arrow.names:
        raise InputError(f"{path}: has no column 'id' (columns: {', '.join(file.schema_arrow.names)[:200]})")
    number = 0
    try:
        for batch in file.iter_batches(4096):
            for row in batch.to_pylist():
                number += 1
                yield number, row
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read after row {number} ({error}); the file is damaged") from error


def _offer(row: dict[str, Any], folder: Path, check_images: bool) -> Offer:
    identifier = row.get("id")
    if isinstance(identifier, int) and not isinstance(identifier, bool):
        identifier = str(identifier)
    if not isinstance(identifier, str) or not identifier.strip() or not _is_unicode(identifier):
        raise _BadRow("id", "is missing or no text")
    text: dict[str, str] = {}
    for name in TEXT_FIELDS:
        value = row.get(name)
        if value is None or value != value:  # NaN: what pandas writes for an empty cell
            value = ""
        if isinstance(value, int | float) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str):
            raise _BadRow(name, f"is {type(value).__name__}, expected text")
        if not _is_unicode(value):
            raise _BadRow(name, "holds half a character (a lone surrogate)")
        text[name] = value
    if len(text["title"]) > MAX_TITLE_CHARACTERS:
        raise _BadRow("title", f"has {len(text['title']):,} characters, at most {MAX_TITLE_CHARACTERS:,} are read")
    if not text["title"].strip() and not text["image"].strip():
        raise _BadRow("title, image", "are both empty, one of them is needed")
    return Offer(
        id=identifier,
        title=text["title"],
        description=text["description"],
        image=_image(text["image"].strip(), folder, check_images),
        category=text["category"],
        attributes=_attributes(row.get("attributes")),
        product_id=text["product_id"],
        extra={key: value for key, value in row.items() if key not in FIELDS},
    )


def _attributes(value: Any) -> dict[str, str]:
    if value is None or value == "" or (isinstance(value, float) and value != value):  # NaN: an empty cell
        return {}
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise _BadRow("attributes", f"is text but not a JSON object ({error})") from error
    if isinstance(value, list) and all(isinstance(pair, tuple | list) and len(pair) == 2 for pair in value):
        value = dict(value)  # a Parquet map
    if not isinstance(value, dict):
        raise _BadRow("attributes", f"is {type(value).__name__}, expected an object of key: value")
    return {str(key): str(of_key) for key, of_key in value.items() if of_key is not None}


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _image(value: str, folder: Path, check: bool) -> str:
    if not value:
        return ""
    if "://" in value:
        raise _BadRow("image", f"{value[:80]!r} is an address; pictures are not fetched, give a file")
    if "\0" in value or len(value) > 4096:
        raise _BadRow("image", "is no path")
    path = Path(value)
    path = path if path.is_absolute() else folder.resolve() / path
    if check:
        try:
            verify_image(path)
        except (InputError, OSError) as error:
            raise _BadRow("image", str(error).removeprefix("picture ")) from error
    return str(path)
