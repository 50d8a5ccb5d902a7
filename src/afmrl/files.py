"""Files on disk: written whole or not at all, locked by one writer, known by a hash of their content."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from afmrl.errors import InputError

TEMPORARY = ".tmp"
"""Ending of a file that is being written; such a file is never read."""


@contextlib.contextmanager
def atomic_write(path: str | Path, mode: str = "w", *, newline: str | None = None) -> Iterator[IO[Any]]:
    """Open a file that appears at `path` whole, when the block ends; after an error the old file is still there.

    The content and the name are on disk when the block has ended, also after a loss of power. Missing folders are
    made. Text is UTF-8.

    Args:
        mode: "w" for text, "wb" for bytes.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a" / "b.txt"
    >>> with atomic_write(path) as file:
    ...     _ = file.write("whole")
    >>> path.read_text()
    'whole'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + TEMPORARY)
    try:
        with open(temporary, mode, encoding=None if "b" in mode else "utf-8", newline=newline) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_write(path) as file:
        file.write(text)


def write_json(path: str | Path, value: Any) -> None:
    """Write a JSON file atomically, keys in the order given."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def sync_folder(path: str | Path) -> None:
    """Have the names in a folder on disk before going on."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def replace_folder(new: str | Path, target: str | Path) -> None:
    """Put the folder `new` in the place of `target`, whatever was there."""
    shutil.rmtree(target, ignore_errors=True)
    os.replace(new, target)


@contextlib.contextmanager
def exclusive_lock(path: str | Path, what: str) -> Iterator[None]:
    """Hold the lock file `path` for as long as the block lasts; the system lets it go when the process ends.

    Args:
        what: names what is locked in the error's message, as "index DIR".

    Raises:
        InputError: another process holds it.
    """
    import fcntl

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read(20).strip() or "unknown"
            raise InputError(f"{what}: another process ({holder}) is writing it; wait until it is done") from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def fingerprint(*parts: Any) -> str:
    """32 hexadecimal digits that stand for settings: texts, numbers, lists, dicts, dataclasses; equal for equal ones.

    >>> fingerprint({"a": 1}, "x") == fingerprint({"a": 1}, "x") != fingerprint({"a": "1"}, "x")
    True
    """
    plain = [dataclasses.asdict(p) if dataclasses.is_dataclass(p) and not isinstance(p, type) else p for p in parts]
    text = json.dumps(plain, ensure_ascii=True, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def file_hash(path: str | Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash64(texts: Iterable[str]) -> np.ndarray:
    """64 bits of each text.

    Shape:
        returns (n,) uint64.
    """
    digests = b"".join(hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts)
    return np.frombuffer(digests, dtype=np.uint64)
