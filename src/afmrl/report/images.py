"""The images of a page: small JPEGs as data URIs, each embedded once however often it is shown."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

from afmrl.data.images import open_image
from afmrl.errors import InputError

THUMBNAIL_SIDE = 160  # pixels
JPEG_QUALITY = 78
MAX_BYTES = 9_000_000
"""Of all data URIs of a page, so that it stays below 15 MB whatever the images are."""


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """An image as a page holds it."""

    id: str
    """Of its element on the page."""
    width: int
    height: int
    uri: str


class PageImages:
    """Collects the images that a page shows; `embedded` goes into the page once.

    Args:
        max_bytes: of all data URIs.
    """

    def __init__(self, *, max_bytes: int = MAX_BYTES) -> None:
        self.max_bytes = max_bytes
        self.num_bytes = 0
        self.num_unreadable = 0
        """Images that could not be opened."""
        self.num_left_out = 0
        """Images for which the page had no room left."""
        self.embedded: list[Thumbnail] = []
        self._by_path: dict[str, Thumbnail | None] = {}
        self._by_content: dict[bytes, Thumbnail] = {}

    def thumbnail(self, path: str) -> Thumbnail | None:
        """The thumbnail of an image's file; None where it cannot be shown."""
        if path not in self._by_path:
            self._by_path[path] = self._embed(path)
        return self._by_path[path]

    def _embed(self, path: str) -> Thumbnail | None:
        try:
            image = open_image(path, max_side=THUMBNAIL_SIDE)
        except (InputError, OSError):
            self.num_unreadable += 1
            return None
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=JPEG_QUALITY, optimize=True)
        content = buffer.getvalue()
        if content in self._by_content:
            return self._by_content[content]
        uri = "data:image/jpeg;base64," + base64.b64encode(content).decode("ascii")
        if self.num_bytes + len(uri) > self.max_bytes:
            self.num_left_out += 1
            return None
        self.num_bytes += len(uri)
        thumbnail = Thumbnail(f"p{len(self.embedded)}", *image.size, uri)
        self.embedded.append(thumbnail)
        self._by_content[content] = thumbnail
        return thumbnail
