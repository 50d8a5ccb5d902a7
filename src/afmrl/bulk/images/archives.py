"""Images inside archives: members of a .zip or an uncompressed .tar, read in place and by many threads."""

from __future__ import annotations

import os
import tarfile
import threading
import weakref
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Protocol

from afmrl.data.offer_from_row import ARCHIVE_SEPARATOR
from afmrl.errors import InputError

ENDINGS = (".zip", ".tar")
MAX_BYTES = 256 * 2**20
"""A file or member of more bytes is not read: 64 million pixels of three bytes fit."""
KEPT_OPEN = 16  # archives


def split_member(reference: str) -> tuple[str, str] | None:
    """The archive and the member that `photos.zip!/shoes/1.jpg` names; None for any other reference.

    >>> split_member("/data/photos.zip!/shoes/1.jpg")
    ('/data/photos.zip', 'shoes/1.jpg')
    >>> split_member("/data/wow!/1.jpg") is None
    True
    """
    for ending in ENDINGS:
        place = reference.lower().find(ending + ARCHIVE_SEPARATOR)
        if place >= 0:
            end = place + len(ending)
            return reference[:end], reference[end + len(ARCHIVE_SEPARATOR) :]
    return None


class Archives:
    """Open archives. Members are found by their exact name and read into memory; nothing is ever unpacked to disk.

    Args:
        max_bytes: a member of more is refused, by its header and while it is unpacked.
    """

    def __init__(self, *, max_bytes: int = MAX_BYTES) -> None:
        self.max_bytes = max_bytes
        self._lock = threading.Lock()
        self._open: OrderedDict[str, _Archive] = OrderedDict()

    def read(self, archive: str, member: str) -> bytes:
        """A member's content.

        Raises:
            InputError: no such archive or member, encrypted, damaged, or too large.
        """
        with self._lock:  # an archive's index is read once; the members then by all threads at a time
            opened = self._open.get(archive)
            if opened is None:
                opened = self._open[archive] = _open(archive)
                if len(self._open) > KEPT_OPEN:
                    self._open.popitem(last=False)  # closed when the last thread that reads from it lets go
            self._open.move_to_end(archive)
        name = f"{archive}{ARCHIVE_SEPARATOR}{member}"
        size = opened.size(member)
        if size is None:
            raise InputError(f"image {name}: the archive has no such file")
        if size > self.max_bytes:
            raise InputError(f"image {name}: {size:,} bytes, at most {self.max_bytes:,} are read")
        try:
            content = opened.content(member, size)
        except Exception as error:  # zipfile answers damage, encryption and unknown methods each with its own
            raise InputError(f"image {name}: cannot be read from the archive ({error})") from error
        if len(content) != size:
            raise InputError(f"image {name}: the archive is cut off or damaged")
        return content


class _Archive(Protocol):
    def size(self, member: str) -> int | None: ...

    def content(self, member: str, size: int) -> bytes: ...


class _Zip:
    # ZipFile may be read from by several threads: its reads share one lock
    def __init__(self, path: str) -> None:
        self._file = zipfile.ZipFile(path)
        self._members = {_plain(info.filename): info for info in self._file.infolist() if not info.is_dir()}

    def size(self, member: str) -> int | None:
        info = self._members.get(_plain(member))
        return None if info is None else info.file_size

    def content(self, member: str, size: int) -> bytes:
        with self._file.open(self._members[_plain(member)]) as file:
            return file.read(size + 1)  # one more than the header says: then its checksum is looked at


class _Tar:
    def __init__(self, path: str) -> None:
        self._members: dict[str, tuple[int, int]] = {}
        with tarfile.open(path, "r:") as tar:  # "r:" takes no compressed one, which cannot be read in place
            for info in tar:
                if info.isreg() and not info.issparse():  # no links: a member is what the archive holds
                    self._members[_plain(info.name)] = info.offset_data, info.size
                tar.members = []  # type: ignore[attr-defined]  # otherwise it keeps every one that it has seen
        self._descriptor = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._descriptor)

    def size(self, member: str) -> int | None:
        place = self._members.get(_plain(member))
        return None if place is None else place[1]

    def content(self, member: str, size: int) -> bytes:
        return os.pread(self._descriptor, size, self._members[_plain(member)][0])


def _plain(member: str) -> str:
    return member.removeprefix("./")


def _open(path: str) -> _Archive:
    if not Path(path).is_file():
        raise InputError(f"archive {path}: no such file")
    try:
        return _Zip(path) if path.lower().endswith(".zip") else _Tar(path)
    except Exception as error:
        raise InputError(
            f"archive {path}: cannot be read as a .zip or an uncompressed .tar ({error}); pack it again or unpack it"
        ) from error
