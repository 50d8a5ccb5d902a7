"""Images read, decoded and resized by threads ahead of the model: each once, in bounded memory."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from afmrl.bulk.images.loader import ImageLoader
from afmrl.bulk.images.resizing import Resizing
from afmrl.data.images import MAX_SIDE, bounded_size, decode, open_header, upright_size
from afmrl.errors import InputError
from afmrl.files import digest

if TYPE_CHECKING:
    from PIL.Image import Image

MEMORY_BYTES = 512 * 2**20
ENTRY_BYTES = 1_024  # of an image's bookkeeping: bounds how many are remembered
KEPT_SHARE = 4  # one part in so many of the memory remembers images for offers to come


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class ReadyImage:
    """An image as the processor takes it."""

    def __init__(self, image: Image) -> None:
        self.image = image
        self.num_bytes = 4 * image.width * image.height  # Pillow keeps four bytes a pixel


class PendingImage:
    """An image that was asked for; `number` is its turn."""

    def __init__(self, reference: str, number: int) -> None:
        self.reference, self.number = reference, number
        self.future: Future[ReadyImage] = Future()
        self.users = 1  # who asked and did not let go; remembering counts as one
        self.num_bytes = ENTRY_BYTES
        self.content = b""
        self.same_as: PendingImage | None = None


class ReadAhead:
    """Reads images in the order in which they were asked for.

    A reference that was asked for before, and a file of the same content under another name, are read or decoded only
    once, as long as they are remembered.

    Bytes are counted for what waits, what is being decoded and what is remembered. A thread that would go beyond
    `memory_bytes` waits, unless its image is the one that is waited for, for nothing else would then free any: the
    most ever taken is `memory_bytes` and one image.

    Args:
        loader: opens references.
        workers: threads.
        resizing: of the model's processor; None: images are kept as `open_image` gives them.
        scaled_jpeg: decode JPEG at a fraction of its size where the resizing leaves enough.
        memory_bytes: see above.

    Raises:
        InputError: no thread, or no memory.
    """

    def __init__(
        self,
        loader: ImageLoader,
        *,
        workers: int,
        resizing: Resizing | None = None,
        scaled_jpeg: bool = False,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        for name, value in (("workers", workers), ("memory_bytes", memory_bytes)):
            if value < 1:
                raise InputError(f"reading images: {name}={value} must be at least 1")
        self.memory_bytes = memory_bytes
        self.used_bytes = self.most_bytes = 0
        self.num_busy = 0
        """Threads that decode just now: what they have of the machine, the model cannot have."""
        self._loader, self._resizing, self._scaled = loader, resizing, scaled_jpeg
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="images")
        self._changed = threading.Condition()  # and the lock of all that follows
        self._asked, self._awaited, self._closed = 0, -1, False
        self._remembered: OrderedDict[str, PendingImage] = OrderedDict()
        self.remembered_bytes = 0
        """Of images kept for offers to come."""
        self._by_content: dict[bytes, PendingImage] = {}

    def ask(self, reference: str) -> PendingImage:
        """Have an image read; to be let go with `release`."""
        with self._changed:
            pending = self._remembered.get(reference)
            if pending is not None:
                self._remembered.move_to_end(reference)
                pending.users += 1
                return pending
            pending = self._remembered[reference] = PendingImage(reference, self._asked)
            pending.users += 1
            self._asked += 1
            self._take(ENTRY_BYTES)
            self._remember(ENTRY_BYTES)
        self._threads.submit(self._read, pending)
        return pending

    def wait(self, pending: PendingImage) -> ReadyImage:
        """The image, when it is there.

        Raises:
            InputError: it cannot be read.
        """
        if not pending.future.done():
            with self._changed:
                self._awaited = max(self._awaited, pending.number)
                self._changed.notify_all()
        return pending.future.result()

    def release(self, pending: PendingImage) -> None:
        """Let an image go that was asked for."""
        with self._changed:
            self._release(pending)

    def close(self) -> None:
        """Stop reading."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._threads.shutdown(wait=True)  # what is still queued ends at once, so that nobody waits for it

    def _read(self, pending: PendingImage) -> None:
        try:
            ready = self._made(pending)
        except (InputError, MemoryError) as error:  # whoever waits for the image gets it
            pending.future.set_exception(error)
        except Exception as error:  # whatever one image causes costs its row alone
            reason = f"image {pending.reference[:200]}: cannot be read ({type(error).__name__}: {error})"
            pending.future.set_exception(InputError(reason))
        except BaseException as error:
            pending.future.set_exception(error)
        else:
            pending.future.set_result(ready)

    def _made(self, pending: PendingImage) -> ReadyImage:
        if self._closed:
            raise InputError("stopped")
        content = self._loader.read(pending.reference)
        key = digest(content)
        with self._changed:
            first = self._by_content.setdefault(key, pending)
            if first is pending:
                pending.content = key
            else:
                first.users += 1
                pending.same_as = first
                first.number = min(first.number, pending.number)  # who waits for this one waits for that one
                self._changed.notify_all()
        if first is not pending:
            with contextlib.suppress(InputError):  # its message names the other file
                return first.future.result()
        return self._decoded(pending, content)

    def _decoded(self, pending: PendingImage, content: bytes) -> ReadyImage:
        taken = 0

        def admit(count: int) -> None:
            nonlocal taken
            count += len(content)
            with self._changed:
                self._changed.wait_for(
                    lambda: (
                        self._closed or self.used_bytes + count <= self.memory_bytes or pending.number <= self._awaited
                    )
                )
                if self._closed:
                    raise InputError("stopped")  # nobody waits for this image any more
                self._take(count)
                self.num_busy += 1
                taken = count

        name = pending.reference
        try:
            with open_header(content, name) as image:
                size = least = None
                if self._resizing and self._scaled and image.format in ("JPEG", "MPO"):
                    size = bounded_size(upright_size(image), MAX_SIDE)
                    least = self._resizing.enough(size)
                pixels = decode(image, name, max_side=MAX_SIDE, least=least, admit=admit)
            ready = ReadyImage(self._resizing.resize(pixels, size or pixels.size) if self._resizing else pixels)
        except BaseException:
            with self._changed:
                self._take(-taken)
                self.num_busy -= taken > 0
            raise
        with self._changed:
            self._take(ready.num_bytes - taken)
            self.num_busy -= 1
            pending.num_bytes += ready.num_bytes
            if self._remembered.get(name) is pending:
                self._remember(ready.num_bytes)
        return ready

    # the following with the lock held

    def _take(self, count: int) -> None:
        self.used_bytes += count
        self.most_bytes = max(self.most_bytes, self.used_bytes)
        if count < 0:
            self._changed.notify_all()

    def _remember(self, more: int) -> None:
        self.remembered_bytes += more
        while self.remembered_bytes > self.memory_bytes // KEPT_SHARE and len(self._remembered) > 1:
            _, oldest = self._remembered.popitem(last=False)
            self.remembered_bytes -= oldest.num_bytes
            self._release(oldest)

    def _release(self, pending: PendingImage) -> None:
        pending.users -= 1
        if pending.users:
            return
        self._take(-pending.num_bytes)
        if pending.content and self._by_content.get(pending.content) is pending:
            del self._by_content[pending.content]
        if pending.same_as is not None:
            self._release(pending.same_as)
