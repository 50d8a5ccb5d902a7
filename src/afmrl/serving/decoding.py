"""Which images a server decodes at a time, and until when."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

from afmrl.bulk.images.read_ahead import num_cores
from afmrl.serving.batching import check_time, late


class Decoding:
    """Lets a bounded number of images be decoded at a time, whoever asks; a decoded one may have a hundred megabytes.

    What a model opens itself, within its pass, is not counted: one thread does that.

    Args:
        places: images at a time; None: the cores of the machine.
    """

    def __init__(self, places: int | None = None) -> None:
        self.places = places or num_cores()
        self._free = threading.BoundedSemaphore(self.places)

    @contextlib.contextmanager
    def turn(self, deadline: float) -> Iterator[None]:
        """One image is decoded while the block runs; no block within another.

        Args:
            deadline: of `time.monotonic`.

        Raises:
            Refusal: the deadline is over, or no place was free before it.
        """
        check_time(deadline)
        if not self._free.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise late()
        try:
            yield
        finally:
            self._free.release()
