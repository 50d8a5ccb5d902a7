"""Images of requests decoded before the model's turn comes: beside it, each in its request's thread."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from afmrl.bulk.images.resizing import Resizing
from afmrl.data.images import open_image
from afmrl.data.offer import Offer
from afmrl.embedder.embedder import Embedder
from afmrl.serving.decoding import Decoding

if TYPE_CHECKING:
    from PIL.Image import Image

AHEAD_BYTES = 256 * 2**20
"""Of images that are decoded and wait; what goes beyond is decoded by the pass that needs it."""
BYTES_A_PIXEL = 4


class ImagesAhead:
    """Opens images at the size to which the model's processor would bring them, in bounded memory.

    Args:
        embedder: the model; one whose resizing is not known opens all images itself.
        decoding: of all images of the server.
    """

    def __init__(self, embedder: Embedder, decoding: Decoding) -> None:
        self._resizing = Resizing.of(embedder.model.processor) if embedder.reads_images else None
        self._decoding, self._lock = decoding, threading.Lock()
        self.num_bytes = 0
        """Of the images that wait."""

    @contextlib.contextmanager
    def opened(self, offers: Sequence[Offer], deadline: float) -> Iterator[list[Image | None]]:
        """The offers' images, held while the block runs; None: the offer has none, or the model opens it.

        Raises:
            InputError: an image that cannot be read.
            Refusal: the deadline is over.
        """
        images: list[Image | None] = []
        try:
            for offer in offers:
                images.append(self._open(offer.image, deadline))
            yield images
        finally:
            self._count(-sum(map(_bytes, images)))

    def _open(self, path: str, deadline: float) -> Image | None:
        if not path or self._resizing is None or self.num_bytes >= AHEAD_BYTES:
            return None
        with self._decoding.turn(deadline):
            image = open_image(path)
            small = self._resizing.resize(image, image.size)
        self._count(_bytes(small))
        return small

    def _count(self, change: int) -> None:
        with self._lock:
            self.num_bytes += change


def _bytes(image: Image | None) -> int:
    return 0 if image is None else BYTES_A_PIXEL * image.width * image.height
