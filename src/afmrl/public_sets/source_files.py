"""The files of a downloaded set: found, decoded, read row by row; what is missing or cut off is reported once."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from afmrl.data.offer import SkippedRow
from afmrl.errors import InputError
from afmrl.files import parse_json

READ_CHARACTERS = 1 << 20
MAX_RECORD_CHARACTERS = 16 << 20
"""A JSON record longer than this is taken for a broken file."""


def find_file(folder: Path, name: str) -> Path | None:
    """`name` in `folder` or up to two folders below it (archives unpack into folders of their own); None: not there.

    Raises:
        InputError: there are several, below different folders.
    """
    direct = folder / name
    if direct.is_file():
        return direct
    below = sorted(path for pattern in (f"*/{name}", f"*/*/{name}") for path in folder.glob(pattern) if path.is_file())
    if len(below) > 1:
        raise InputError(f"{folder}: holds {name} twice ({below[0]}, {below[1]}); give the folder of one of them")
    return below[0] if below else None


def require_file(folder: Path, name: str) -> Path:
    """As `find_file`.

    Raises:
        InputError: not there.
    """
    path = find_file(folder, name)
    if path is None:
        raise InputError(f"{folder}: the file {name} is missing")
    return path


def decode(path: Path) -> str:
    """A text file as UTF-8 or, where it is not, as Windows-1252 (Latin-1 where even that has no such character)."""
    data = path.read_bytes()
    for encoding in ("utf-8-sig", "cp1252"):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    return data.decode("latin-1")


def csv_rows(path: Path, columns: Collection[str]) -> Iterator[tuple[int, dict[str, str]] | SkippedRow]:
    """Rows of a comma-separated file (`.gz` too), with the number of their last line.

    Raises:
        InputError: no such column, a quote that is never closed, or a file that is cut off.
    """
    text = "".join(lines_of(path)) if path.suffix == ".gz" else decode(path)
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    missing = [column for column in columns if column not in (reader.fieldnames or [])]
    if missing:
        raise InputError(
            f"{path}:1: the header has no column {missing[0]!r} (columns: {', '.join(reader.fieldnames or [])[:200]}); "
            "is this the file of another set?"
        )
    while True:
        first_line = reader.reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if "unexpected end of data" in str(error):
                raise InputError(
                    f"{path}:{first_line}: a quote is opened here and never closed; the file is cut off or damaged, "
                    "download it again"
                ) from error
            yield SkippedRow(str(path), reader.reader.line_num, "line", f"is not CSV ({error})")
            continue
        if None in row or None in row.values():
            yield SkippedRow(str(path), reader.reader.line_num, "line", "has another number of cells than the header")
            continue
        yield reader.reader.line_num, dict(row)


def lines_of(path: Path) -> Iterator[str]:
    """Lines of a UTF-8 text file, unpacked where its name ends in `.gz`.

    Raises:
        InputError: a gzip file that is cut off, or not one.
    """
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8-sig", errors="replace", newline="\n") as file:
            yield from file
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{path}: is not a complete gzip file ({error}); download it again") from error


def json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]] | SkippedRow]:
    """Records of a file (`.gz` too) with one JSON object a line, and their line numbers.

    Raises:
        InputError: a gzip file that is cut off.
    """
    for number, line in enumerate(lines_of(path), 1):
        if not line.strip():
            continue
        try:
            record = parse_json(line)
        except ValueError as error:
            yield SkippedRow(str(path), number, "line", f"is not JSON ({error})")
            continue
        if isinstance(record, dict):
            yield number, record
        else:
            yield SkippedRow(str(path), number, "line", "is not a JSON object")


def json_object_items(path: Path) -> Iterator[tuple[int, str, Any]]:
    """Members of one JSON object that may be larger than memory: their number from 1, key, value.

    Raises:
        InputError: no JSON object, broken or cut off; the message names the last good member.
    """
    decoder = json.JSONDecoder()
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        buffer, place, count = file.read(READ_CHARACTERS).lstrip(), 1, 0
        if not buffer.startswith("{"):
            raise InputError(f"{path}: holds no JSON object; is this the file of another set?")
        while True:
            place = _skip(buffer, place, ", \t\r\n")
            if buffer[place : place + 1] == "}":
                return
            try:
                key, after = decoder.raw_decode(buffer, place)
                after = _skip(buffer, after, ": \t\r\n")
                value, end = decoder.raw_decode(buffer, after)
            except ValueError as error:
                more = file.read(READ_CHARACTERS) if len(buffer) - place < MAX_RECORD_CHARACTERS else ""
                if not more:
                    raise InputError(
                        f"{path}: cannot be read after record {count:,} ({error}); the file is cut off or damaged, "
                        "download it again"
                    ) from error
                buffer, place = buffer[place:] + more, 0
                continue
            count += 1
            yield count, str(key), value
            place = end


def _skip(text: str, place: int, characters: str) -> int:
    while place < len(text) and text[place] in characters:
        place += 1
    return place


def read_id_list(path: Path) -> list[str]:
    """Ids of a JSON list, of a JSON object's keys, or of a text file with one id a line.

    Raises:
        InputError: something else.
    """
    text = decode(path).strip()
    if text[:1] not in ("[", "{"):
        return [line.strip() for line in text.splitlines() if line.strip()]
    try:
        ids = parse_json(text)
    except ValueError as error:
        raise InputError(f"{path}: is not JSON ({error}); a list of ids is expected") from error
    return [str(identifier) for identifier in ids]
