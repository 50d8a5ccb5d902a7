"""Pictures read, decoded and resized by threads ahead of the model: each once, in bounded memory."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from afmrl.bulk.pictures import PictureLoader
from afmrl.bulk.resizing import Resizing
from afmrl.errors import InputError
from afmrl.images import MAX_SIDE, bounded_size, decode, open_header, upright_size

if TYPE_CHECKING:
    from PIL.Image import Image

MEMORY_BYTES = 512 * 2**20
ENTRY_BYTES = 1_024  # of a picture's bookkeeping: bounds how many are remembered
KEPT_SHARE = 4  # one part in so many of the memory remembers pictures for offers to come


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class ReadyPicture:
    """A picture as the processor takes it."""

    def __init__(self, image: Image) -> None:
        self.image = image
        self.num_bytes = 4 * image.width * image.height  # Pillow keeps four bytes a pixel


class PendingPicture:
    """A picture that was asked for; `number` is its turn."""

    def __init__(self, reference: str, number: int) -> None:
        self.reference, self.number = reference, number
        self.future: Future[ReadyPicture] = Future()
        self.users = 1  # who asked and did not let go; remembering counts as one
        self.num_bytes = ENTRY_BYTES
        self.content = b""
        self.same_as: PendingPicture | None = None


class ReadAhead:
    """Reads pictures in the order in which they were asked for.

    A reference that was asked for before, and a file of the same content under another name, are read or decoded only
    once, as long as they are remembered.

    Bytes are counted for what waits, what is being decoded and what is remembered. A thread that would go beyond
    `memory_bytes` waits, unless its picture is the one that is waited for, for nothing else would then free any: the
    most ever taken is `memory_bytes` and one picture.

    Args:
        loader: opens references.
        workers: threads.
        resizing: of the model's processor; None: pictures are kept as `open_image` gives them.
        scaled_jpeg: decode JPEG at a fraction of its size where the resizing leaves enough.
        memory_bytes: as said.

    Raises:
        InputError: no thread, or no memory.
    """

    def __init__(
        self,
        loader: PictureLoader,
        *,
        workers: int,
        resizing: Resizing | None = None,
        scaled_jpeg: bool = False,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        for name, value in (("workers", workers), ("memory_bytes", memory_bytes)):
            if value < 1:
                raise InputError(f"reading pictures: {name}={value} must be at least 1")
        self.memory_bytes = memory_bytes
        self.used_bytes = self.most_bytes = 0
        self.num_busy = 0
        """Threads that decode just now: what they have of the machine, the model cannot have."""
        self._loader, self._resizing, self._scaled = loader, resizing, scaled_jpeg
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="pictures")
        self._changed = threading.Condition()  # and the lock of all that follows
        self._asked, self._awaited, self._closed = 0, -1, False
        self._remembered: OrderedDict[str, PendingPicture] = OrderedDict()
        self._remembered_bytes = 0
        self._by_content: dict[bytes, PendingPicture] = {}

    def ask(self, reference: str) -> PendingPicture:
        """Have a picture read; to be let go with `release`."""
        with self._changed:
            picture = self._remembered.get(reference)
            if picture is not None:
                self._remembered.move_to_end(reference)
                picture.users += 1
                return picture
            picture = self._remembered[reference] = PendingPicture(reference, self._asked)
            picture.users += 1
            self._asked += 1
            self._take(ENTRY_BYTES)
            self._remember(ENTRY_BYTES)
        self._threads.submit(self._read, picture)
        return picture

    def wait(self, picture: PendingPicture) -> ReadyPicture:
        """The picture, when it is there.

        Raises:
            InputError: it cannot be read.
        """
        if not picture.future.done():
            with self._changed:
                self._awaited = max(self._awaited, picture.number)
                self._changed.notify_all()
        return picture.future.result()

    def release(self, picture: PendingPicture) -> None:
        """Let a picture go that was asked for."""
        with self._changed:
            self._release(picture)

    def close(self) -> None:
        """Stop reading."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._threads.shutdown(wait=True)  # what is still queued ends at once, so that nobody waits for it

    def _read(self, picture: PendingPicture) -> None:
        try:
            ready = self._made(picture)
        except BaseException as error:  # whoever waits for the picture gets it
            picture.future.set_exception(error)
        else:
            picture.future.set_result(ready)

    def _made(self, picture: PendingPicture) -> ReadyPicture:
        if self._closed:
            raise InputError("stopped")
        content = self._loader.read(picture.reference)
        digest = hashlib.blake2b(content, digest_size=16).digest()
        with self._changed:
            first = self._by_content.setdefault(digest, picture)
            if first is picture:
                picture.content = digest
            else:
                first.users += 1
                picture.same_as = first
                first.number = min(first.number, picture.number)  # who waits for this one waits for that one
                self._changed.notify_all()
        if first is not picture:
            with contextlib.suppress(InputError):  # its message names the other file
                return first.future.result()
        return self._decoded(picture, content)

    def _decoded(self, picture: PendingPicture, content: bytes) -> ReadyPicture:
        taken = 0

        def admit(count: int) -> None:
            nonlocal taken
            count += len(content)
            with self._changed:
                self._changed.wait_for(
                    lambda: (
                        self._closed or self.used_bytes + count <= self.memory_bytes or picture.number <= self._awaited
                    )
                )
                if self._closed:
                    raise InputError("stopped")  # nobody waits for this picture any more
                self._take(count)
                self.num_busy += 1
                taken = count

        name = picture.reference
        try:
            with open_header(content, name) as image:
                size = least = None
                if self._resizing and self._scaled and image.format in ("JPEG", "MPO"):
                    size = bounded_size(upright_size(image), MAX_SIDE)
                    least = self._resizing.enough(size)
                pixels = decode(image, name, max_side=MAX_SIDE, least=least, admit=admit)
            ready = ReadyPicture(self._resizing.resize(pixels, size or pixels.size) if self._resizing else pixels)
        except BaseException:
            with self._changed:
                self._take(-taken)
                self.num_busy -= taken > 0
            raise
        with self._changed:
            self._take(ready.num_bytes - taken)
            self.num_busy -= 1
            picture.num_bytes += ready.num_bytes
            if self._remembered.get(name) is picture:
                self._remember(ready.num_bytes)
        return ready

    # the following with the lock held

    def _take(self, count: int) -> None:
        self.used_bytes += count
        self.most_bytes = max(self.most_bytes, self.used_bytes)
        if count < 0:
            self._changed.notify_all()

    def _remember(self, more: int) -> None:
        self._remembered_bytes += more
        while self._remembered_bytes > self.memory_bytes // KEPT_SHARE and len(self._remembered) > 1:
            _, oldest = self._remembered.popitem(last=False)
            self._remembered_bytes -= oldest.num_bytes
            self._release(oldest)

    def _release(self, picture: PendingPicture) -> None:
        picture.users -= 1
        if picture.users:
            return
        self._take(-picture.num_bytes)
        if picture.content and self._by_content.get(picture.content) is picture:
            del self._by_content[picture.content]
        if picture.same_as is not None:
            self._release(picture.same_as)
