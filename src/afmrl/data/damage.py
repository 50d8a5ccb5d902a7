"""What was written down of files, and what is wrong with them now."""

from __future__ import annotations

import dataclasses
import os
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from afmrl.files import READ_BYTES

_READ_THROUGH: set[tuple[Any, ...]] = set()


def checksum(path: str | Path) -> int:
    """CRC-32 of a file."""
    found = 0
    with open(path, "rb") as file:
        while block := file.read(READ_BYTES):
            found = zlib.crc32(block, found)
    return found


def file_facts(path: str | Path) -> dict[str, int]:
    """What `damage` compares a file with: its "bytes" and "crc32"."""
    return {"bytes": os.stat(path).st_size, "crc32": checksum(path)}


@dataclasses.dataclass(frozen=True)
class Checked:
    """One thing in a folder, as `afmrl check` says it."""

    what: str
    fault: str = ""
    """What is wrong with it, and what to do; "" if nothing."""


def checked_files(folder: Path, facts: Any) -> Iterator[Checked]:
    """Compare files with what was written down of them.

    Args:
        facts: name below the folder → its `file_facts`.
    """
    if not isinstance(facts, Mapping) or not facts:
        yield Checked("no checksums were written of its files: they were not compared")
        return
    for name, of in facts.items():
        try:
            yield Checked(str(name), damage(folder / name, of))
        except FileNotFoundError:
            yield Checked(str(name), "is missing")
        except (OSError, KeyError, TypeError) as error:
            yield Checked(str(name), f"cannot be read ({error})")


def other_format(found: Any, known: int) -> str:
    """What to say of a file of another version of its format."""
    newer = isinstance(found, int) and found > known
    todo = "a later release wrote it; update afmrl" if newer else "make it again"
    return f"is of format {found!r}, this release reads {known}; {todo}"


def damage(path: str | Path, facts: Mapping[str, Any]) -> str:
    """What is wrong with a file, by its "bytes" and "crc32" as they were written down; "" if nothing.

    A file is read through once in a process, and again after it was changed.

    Raises:
        FileNotFoundError: it is not there.
    """
    status = os.stat(path)
    if status.st_size != facts["bytes"]:
        return f"has {status.st_size:,} bytes, {facts['bytes']:,} were written"
    known = (str(path), status.st_ino, status.st_mtime_ns, status.st_size, facts.get("crc32"))
    if facts.get("crc32") is not None and known not in _READ_THROUGH:
        if checksum(path) != facts["crc32"]:
            return "is not what was written (checksum)"
        _READ_THROUGH.add(known)
    return ""
