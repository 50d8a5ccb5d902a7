"""Files on disk: written whole or not at all, by one writer at a time, known by a hash of their content."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from afmrl.errors import InputError

TEMPORARY = ".tmp"
"""Ending of a file that is being written; such a file is never read."""
READ_BYTES = 1 << 22
CHECKSUM = "checksum"
"""Of a JSON file: the key of its checksum."""


class PendingFile:
    """A file that is written over a while: `publish` puts it at `path`, `discard` leaves what was there.

    Until then it has the ending TEMPORARY, and is locked: two writers would mix what they write. `atomic_write` does
    the same for a file that one block writes.

    Args:
        path: where it appears; missing folders are made.
        mode: "w" for UTF-8 text, "wb" for bytes.
        newline, errors: as in `open`.
        sync: wait until content and name are on disk, so that a loss of power cannot take them. False only for many
            small files that can be made again.

    Raises:
        InputError: another process is writing it.
    """

    def __init__(
        self,
        path: str | Path,
        mode: str = "w",
        *,
        newline: str | None = None,
        errors: str = "strict",
        sync: bool = True,
    ) -> None:
        self.path, self._sync = Path(path), sync
        self._temporary = self.path.with_name(self.path.name + TEMPORARY)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        text: dict[str, Any] = {} if "b" in mode else {"encoding": "utf-8", "newline": newline, "errors": errors}
        self.file: IO[Any] = open(self._own(), mode, **text)  # noqa: SIM115  # closed by publish or discard

    def _own(self) -> int:
        """The temporary file, opened and emptied, which no other process writes."""
        while True:
            handle = os.open(self._temporary, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                if not _locked(handle):
                    raise InputError(f"{self.path}: another process is writing it; wait until it is done")
                if _is_at(handle, self._temporary):
                    os.ftruncate(handle, 0)
                    return handle
            except BaseException:
                os.close(handle)
                raise
            os.close(handle)  # another process has put it in its place meanwhile

    def publish(self) -> None:
        """Put the file in its place, whatever was there."""
        if self._sync:
            sync_file(self.file)
        else:
            self.file.flush()
        os.replace(self._temporary, self.path)
        self.file.close()  # and not before: until then it is locked
        if self._sync:
            sync_path(self.path.parent)

    def discard(self) -> None:
        """Remove what was written so far."""
        if not self.file.closed:  # while it is locked: afterwards it may be another process'
            with contextlib.suppress(OSError):
                self._temporary.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # a full disk, as it was before
            self.file.close()


@contextlib.contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Let an error of writing, such as a full disk's, name the file."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = str(path)
        raise


@contextlib.contextmanager
def atomic_write(
    path: str | Path, mode: str = "w", *, newline: str | None = None, errors: str = "strict", sync: bool = True
) -> Iterator[IO[Any]]:
    """Open a file that appears at `path` whole when the block ends; after an error the old file is still there.

    The arguments are those of `PendingFile`.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a" / "b.txt"
    >>> with atomic_write(path) as file:
    ...     _ = file.write("whole")
    >>> path.read_text()
    'whole'
    """
    pending = PendingFile(path, mode, newline=newline, errors=errors, sync=sync)
    try:
        with naming(path):
            yield pending.file
            pending.publish()
    except BaseException:
        pending.discard()
        raise


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give the name under which a library may write a file that appears at `path` when the block ends."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + TEMPORARY)
    try:
        yield temporary
        sync_path(temporary)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_path(path.parent)


def check_regular(path: str | Path) -> None:
    """Refuse what is no file that ends: a pipe, a device, a socket or a folder, whose reading could wait for ever.

    Raises:
        OSError: there is no such file, or it is none; FileNotFoundError where nothing is there.

    >>> check_regular("/dev/null")
    Traceback (most recent call last):
    OSError: [Errno 22] is not a regular file: '/dev/null'
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, "is not a regular file", str(path))


def write_text(path: str | Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_write(path) as file:
        file.write(text)


def write_json(path: str | Path, value: Any) -> None:
    """Write a JSON file atomically, keys in the order given."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_sealed(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object atomically, with a checksum of its content that `unsealed` compares."""
    write_json(path, {**content, CHECKSUM: fingerprint(dict(content))})


def parse_json(text: str | bytes) -> Any:
    """JSON's value.

    Raises:
        ValueError: it is no JSON, or nested too deep to be read.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


def read_object(path: str | Path) -> dict[str, Any]:
    """The JSON object of a file.

    Raises:
        OSError: it cannot be read.
        ValueError: it holds none.
    """
    check_regular(path)
    content = parse_json(Path(path).read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError("it holds no JSON object")
    return content


def unsealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """What `write_sealed` was given; an object that was written without a checksum is taken as it is.

    Raises:
        ValueError: it is not what was written.
    """
    content = dict(content)
    sealed = content.pop(CHECKSUM, None)
    if sealed is not None and sealed != fingerprint(content):
        raise ValueError("its checksum is another: it was changed after it was written")
    return content


def read_lines(path: str | Path) -> list[str]:
    """The lines of a UTF-8 text, with or without its mark, without their ends.

    Only "\\n" and "\\r\\n" end a line: `str.splitlines` also breaks at U+2028 and others, which JSON has inside texts.

    Raises:
        OSError: the file cannot be read.
        UnicodeDecodeError: it is not UTF-8.
    """
    check_regular(path)
    with open(path, encoding="utf-8-sig", newline="\n") as file:
        return [line.removesuffix("\n").removesuffix("\r") for line in file]


def write_lines(path: str | Path, lines: Iterable[str]) -> int:
    """Write lines atomically, each ended by a newline; returns how many."""
    count = 0
    with atomic_write(path) as file:
        for line in lines:
            file.write(line + "\n")
            count += 1
    return count


def sync_file(file: IO[Any]) -> None:
    """Wait until what was written to an open file is on disk."""
    file.flush()
    os.fsync(file.fileno())


def sync_path(path: str | Path) -> None:
    """Wait until a file's content, or the names in a folder, are on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        with naming(path):
            os.fsync(handle)
    finally:
        os.close(handle)


def replace_folder(new: str | Path, target: str | Path) -> None:
    """Put the folder `new` in the place of `target`, whatever was there; readers do not see it half removed."""
    old = Path(target).with_name(f".{Path(target).name}.old")
    shutil.rmtree(old, ignore_errors=True)  # of a process that was killed here
    with contextlib.suppress(FileNotFoundError):
        os.replace(target, old)
    os.replace(new, target)
    shutil.rmtree(old, ignore_errors=True)


def remove(path: Path) -> None:
    """Remove a file or folder that may be gone already."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def exclusive_lock(path: str | Path, what: str) -> Iterator[None]:
    """Hold the lock file `path` while the block runs; the system releases it when the process ends, however it ends.

    Args:
        what: begins the error's message and names what is locked, as "index DIR".

    Raises:
        InputError: another process holds it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+", encoding="utf-8") as file:
        if not _locked(file.fileno()):
            file.seek(0)
            holder = file.read(20).strip() or "unknown"
            raise InputError(f"{what}: another process ({holder}) is writing to it; wait until it is done")
        with naming(path):
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
        yield


@contextlib.contextmanager
def one_writer(folder: str | Path) -> Iterator[None]:
    """Keep other processes from writing to a folder while the block runs; the folder is its own lock.

    Raises:
        InputError: another process holds it.
    """
    folder = Path(folder)
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        if not _locked(handle):
            raise InputError(f"{folder}: another process is writing to it; wait until it is done")
        yield
    finally:
        if is_new:
            with contextlib.suppress(OSError):
                folder.rmdir()  # an error came before the first file
        os.close(handle)


def _locked(handle: int) -> bool:
    """Lock an open file until it is closed; False if another process holds it.

    A file system that knows no locks, or none of folders, is written without.
    """
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOTSUP, errno.ENOSYS, errno.ENOLCK, errno.EBADF):
            raise
    return True


def _is_at(handle: int, path: Path) -> bool:
    """Whether an open file is the one that a path names now."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def fingerprint(*parts: Any) -> str:
    """32 hexadecimal digits of settings; equal for equal ones.

    Args:
        parts: texts, numbers, lists, dicts, dataclasses, pydantic models.

    >>> fingerprint({"a": 1}, "x") == fingerprint({"a": 1}, "x") != fingerprint({"a": "1"}, "x")
    True
    """
    plain = [_plain(part) for part in parts]
    return digest(json.dumps(plain, ensure_ascii=True, sort_keys=True, default=str)).hex()


def _plain(part: Any) -> Any:
    if hasattr(part, "model_dump"):
        return part.model_dump(mode="json")
    return dataclasses.asdict(part) if dataclasses.is_dataclass(part) and not isinstance(part, type) else part


def folder_fingerprint(folder: str | Path, *, without: Iterable[str] = ()) -> str:
    """32 hexadecimal digits of the names and contents of a folder's files.

    Args:
        without: names of files that do not count; nor do Markdown and hidden files.
    """
    folder, left_out = Path(folder), set(without)
    state = hashlib.blake2b(digest_size=16)
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in name.parts)
        if not path.is_file() or hidden or path.suffix == ".md" or path.name in left_out:
            continue
        state.update(json.dumps([name.as_posix(), path.stat().st_size]).encode())
        with open(path, "rb") as file:
            while block := file.read(READ_BYTES):
                state.update(block)
    return state.hexdigest()


def file_hash(path: str | Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_hash(content: bytes | str) -> str:
    """SHA-256 of bytes, or of a text as UTF-8, hexadecimal."""
    return hashlib.sha256(_bytes(content)).hexdigest()


def digest(content: bytes | str, num_bytes: int = 16) -> bytes:
    """BLAKE2b of bytes, or of a text as UTF-8: a short hash for names and look-ups."""
    return hashlib.blake2b(_bytes(content), digest_size=num_bytes).digest()


def hash64(texts: Iterable[str]) -> np.ndarray:
    """64 bits of each text; the same in every process.

    Shape:
        returns (n,) uint64.
    """
    return np.frombuffer(b"".join(digest(text, 8) for text in texts), dtype=np.uint64)


def _bytes(content: bytes | str) -> bytes:
    return content.encode() if isinstance(content, str) else content
