"""Tables of text: their encoding and their delimiter detected, read row by row."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from afmrl.data.offer import BadRow, is_unicode
from afmrl.errors import InputError

DELIMITERS = (",", ";", "\t", "|")
MAX_CELL_CHARACTERS = 1 << 26
CHUNK = 1 << 20  # bytes
BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_FORMULA = re.compile("'*[=+\\-@\t\r]")
_NUMBER = re.compile(r"-\d+(\.\d+)?(e-?\d+)?", re.ASCII)
_NAMES = {"utf-8-sig": "UTF-8", "utf-8": "UTF-8", "utf-16": "UTF-16", "utf-16-le": "UTF-16", "utf-16-be": "UTF-16"}


@dataclass(frozen=True)
class Dialect:
    """How a table of text is written."""

    encoding: str
    delimiter: str
    quoted: bool = True
    """Whether a cell may be in quotes; otherwise a quote is a character as any."""
    skip_lines: int = 0
    """Before the header: Excel's `sep=;`."""

    def __str__(self) -> str:
        named = {"\t": "tab"}.get(self.delimiter, f"'{self.delimiter}'")
        return f"{named}, {encoding_name(self.encoding)}" + ("" if self.quoted else ", quotes are characters")


def encoding_name(encoding: str) -> str:
    """An encoding as people name it."""
    return _NAMES.get(encoding, encoding)


def known_encoding(encoding: str) -> str:
    """The encoding that a user named.

    Raises:
        InputError: there is none of this name.
    """
    try:
        name = codecs.lookup(encoding).name
    except LookupError as error:
        raise InputError(
            f"--encoding {encoding}: there is no such encoding; known are utf-8, utf-16, cp1252, latin-1, …"
        ) from error
    return "utf-8-sig" if name == "utf-8" else name


def detect_encoding(path: Path) -> str:
    """UTF-8, UTF-16 or UTF-32 by its mark or its bytes, otherwise cp1252 where most lines beyond ASCII are not UTF-8.

    In a file of cp1252 some lines look like UTF-8: those that an earlier export spoiled (`CafÃ©`). A file in which most
    lines are UTF-8 is UTF-8, and those that are not are faults of their own.
    """
    with open(path, "rb") as file:
        start = file.read(4096)
        for mark, name in BOMS:
            if start.startswith(mark):
                return name
        if len(start) >= 4 and start[1:2] == b"\0" and start[3:4] == b"\0":
            return "utf-16-le"
        if len(start) >= 4 and start[0:1] == b"\0" and start[2:3] == b"\0":
            return "utf-16-be"
        file.seek(0)
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            while chunk := file.read(CHUNK):
                decoder.decode(chunk)
            decoder.decode(b"", final=True)
            return "utf-8-sig"
        except UnicodeDecodeError:
            pass
        file.seek(0)
        found = Counter(_encoding_of(line) for line in file if not line.isascii())
    return "cp1252" if found["cp1252"] > found["utf-8"] + found[""] else "utf-8-sig"


def _encoding_of(line: bytes) -> str:
    for encoding in ("utf-8", "cp1252"):
        try:
            line.decode(encoding)
        except UnicodeDecodeError:
            continue
        return encoding
    return ""


def detect_dialect(path: Path, *, delimiter: str | None = None, encoding: str | None = None) -> Dialect:
    """How a table is written: its encoding, its delimiter by the header, whether quotes enclose cells.

    Args:
        delimiter, encoding: given by the user.

    Raises:
        InputError: no such encoding, or a delimiter of more than one character.
    """
    encoding = known_encoding(encoding) if encoding else detect_encoding(path)
    if delimiter is not None:
        delimiter = {"\\t": "\t", "tab": "\t"}.get(delimiter, delimiter)
        if len(delimiter) != 1 or delimiter in '"\r\n':
            raise InputError(f"--delimiter {delimiter!r}: one character, or tab")
    skip = 0
    with open(path, encoding=encoding, errors="replace", newline="") as file:
        header = next((line for line in file if line.strip()), "")
        if header.lower().startswith("sep=") and len(header.strip()) == 5:
            delimiter, skip = delimiter or header.strip()[4], 1
            header = next((line for line in file if line.strip()), "")
    if delimiter is None:
        usual = "\t" if path.suffix.lower() in (".tsv", ".tab") else ","
        counts = {one: _outside_quotes(header, one) for one in DELIMITERS}
        most = max(counts.values())
        delimiter = usual if counts[usual] == most else max(DELIMITERS, key=lambda one: counts[one])
    quoted = delimiter != "\t" or _tabs_are_quoted(path, encoding, delimiter)
    return Dialect(encoding, delimiter, quoted, skip)


def _outside_quotes(line: str, delimiter: str) -> int:
    return sum(part.count(delimiter) for part in line.split('"')[::2])


def _tabs_are_quoted(path: Path, encoding: str, delimiter: str) -> bool:
    """Whether quotes enclose cells: feeds with tabs take them for characters, spreadsheets do not.

    A quote that opens a cell and is not closed in it is a character where the line is as wide as the header, and the
    start of a cell of several lines where it is not.
    """
    characters = enclosing = 0
    with open(path, encoding=encoding, errors="replace", newline="") as file:
        width = file.readline().count(delimiter)
        for line in file:
            if '"' not in line:
                continue
            cells = line.rstrip("\r\n").split(delimiter)
            for cell in cells:
                if cell.startswith('"') and not _is_enclosed(cell):
                    characters, enclosing = (
                        (characters + 1, enclosing) if len(cells) == width + 1 else (characters, enclosing + 1)
                    )
    return not characters or enclosing >= characters


def _is_enclosed(cell: str) -> bool:
    return len(cell) > 1 and cell.endswith('"') and '"' not in cell[1:-1].replace('""', "")


class DelimitedFile:
    """The rows of a table of text.

    Args:
        path: the file.
        dialect: of `detect_dialect`.

    Raises:
        InputError: (of iterating) a header that cannot be read or that names a column twice, or a quote that is never
            closed.
    """

    def __init__(self, path: Path, dialect: Dialect) -> None:
        self.path, self.dialect = path, dialect
        self.header: list[str] = []

    def rows(self, at: Callable[[int], None] | None = None) -> Iterator[tuple[int, dict[str, Any] | BadRow]]:
        """Each row with its line.

        Args:
            at: told the position in the file, in bytes.
        """
        path, dialect = self.path, self.dialect
        csv.field_size_limit(MAX_CELL_CHARACTERS)
        errors = "surrogateescape" if dialect.encoding.startswith("utf-8") else "replace"
        with (
            open(path, "rb") as binary,
            io.TextIOWrapper(binary, encoding=dialect.encoding, errors=errors, newline="") as file,
        ):
            for _ in range(dialect.skip_lines):
                file.readline()
            # strict: a quote that is never closed would otherwise swallow the rows after it
            reader = csv.reader(
                file,
                delimiter=dialect.delimiter,
                strict=True,
                quoting=csv.QUOTE_MINIMAL if dialect.quoted else csv.QUOTE_NONE,
            )
            try:
                header = next((cells for cells in reader if cells), None)
            except csv.Error as error:
                raise InputError(f"{path}:1: the header is not CSV ({error})") from error
            if header is None:
                return
            self.header = _checked_header(path, header)
            while True:
                if at is not None:
                    at(binary.tell())
                last_line = reader.line_num
                try:
                    cells = next(reader)
                except StopIteration:
                    return
                except csv.Error as error:
                    if reader.line_num > last_line + 1:
                        raise InputError(
                            f"{path}:{last_line + 1 + dialect.skip_lines}: a quote is opened and not closed properly; "
                            f"the rows up to line {reader.line_num} cannot be told apart ({error})"
                        ) from error
                    yield reader.line_num + dialect.skip_lines, BadRow("line", f"is not CSV ({error})")
                    continue
                if cells:
                    yield reader.line_num + dialect.skip_lines, self._row(cells)

    def _row(self, cells: list[str]) -> dict[str, Any] | BadRow:
        width = len(self.header)
        if len(cells) > width and not any(cells[width:]):
            cells = cells[:width]  # delimiters at the end of the line
        if len(cells) != width:
            return BadRow("line", "has another number of cells than the header")
        if not all(is_unicode(cell) for cell in cells):
            return BadRow("line", f"is not {encoding_name(self.dialect.encoding)}")
        row = dict(zip(self.header, map(without_guard, cells), strict=True))
        row.pop("", None)
        return row


def guarded(cell: str) -> str:
    """A cell that no spreadsheet takes for a formula: an apostrophe leads where it would begin with = + - @.

    A number stays a number, and `without_guard` gives back what was there.

    >>> guarded("=1+1"), guarded("-0.5"), guarded("'=x"), guarded("'tis")
    ("'=1+1", '-0.5', "''=x", "'tis")
    """
    return f"'{cell}" if _FORMULA.match(cell) and not _NUMBER.fullmatch(cell) else cell


def without_guard(cell: str) -> str:
    """A cell as it was before `guarded`, which shops' exports do too.

    >>> without_guard("'=1+1"), without_guard("''=x"), without_guard("'tis")
    ('=1+1', "'=x", "'tis")
    """
    guard = cell[:1] == "'" and _FORMULA.match(cell[1:]) and not _NUMBER.fullmatch(cell[1:])
    return cell[1:] if guard else cell


def _checked_header(path: Path, header: list[str]) -> list[str]:
    header = [name.strip() for name in header]
    check_names(path, header)
    return header


def check_names(source: str | Path, names: list[str]) -> None:
    """Refuse a column name that is there twice, be it in another case: one of the two would be lost.

    Raises:
        InputError: names the column.
    """
    places: dict[str, list[int]] = {}
    for place, name in enumerate(names, 1):
        if name:
            places.setdefault(name.strip().casefold(), []).append(place)
    for of_name in places.values():
        if len(of_name) > 1:
            first, *others = dict.fromkeys(names[place - 1] for place in of_name)
            also = f", also as {', '.join(map(repr, others))}" if others else ""
            raise InputError(
                f"{source}:1: column {first!r} is there {len(of_name)} times{also} "
                f"(columns {', '.join(map(str, of_name))}); rename or remove one of them"
            )
