"""The images of a report: small JPEGs as data URIs, each embedded once however often it is shown."""

from __future__ import annotations

import base64
import io

from afmrl.data.images import open_image
from afmrl.errors import InputError
from afmrl.files import content_hash

THUMBNAIL_SIDE = 160  # pixels
JPEG_QUALITY = 78
MAX_BYTES = 9_000_000
"""Of all data URIs of a page, so that it stays below 15 MB whatever the images are."""


class ImageStore:
    """Collects the images that a page shows; `definitions` goes into the page once, `use` stands for each showing."""

    def __init__(self, *, max_bytes: int = MAX_BYTES) -> None:
        self.max_bytes = max_bytes
        self.num_bytes = 0
        self.num_unreadable = 0
        """Images that could not be opened."""
        self.num_left_out = 0
        """Images for which the page had no room left."""
        self._by_path: dict[str, str] = {}
        self._by_content: dict[str, str] = {}
        self._sizes: dict[str, tuple[int, int]] = {}
        self._definitions: list[str] = []

    def add(self, path: str) -> tuple[str, int, int] | None:
        """(element id, width, height) of the image's thumbnail; None where it cannot be shown."""
        if path not in self._by_path:
            self._by_path[path] = self._embed(path)
        identifier = self._by_path[path]
        return (identifier, *self._sizes[identifier]) if identifier else None

    def _embed(self, path: str) -> str:
        try:
            image = open_image(path, max_side=THUMBNAIL_SIDE)
        except (InputError, OSError):
            self.num_unreadable += 1
            return ""
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=JPEG_QUALITY, optimize=True)
        content = content_hash(buffer.getvalue())
        if content in self._by_content:
            return self._by_content[content]
        uri = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
        if self.num_bytes + len(uri) > self.max_bytes:
            self.num_left_out += 1
            return ""
        self.num_bytes += len(uri)
        identifier = f"p{len(self._definitions)}"
        self._by_content[content] = identifier
        self._sizes[identifier] = image.size
        width, height = image.size
        self._definitions.append(f'<image id="{identifier}" width="{width}" height="{height}" href="{uri}"/>')
        return identifier

    def definitions(self) -> str:
        """An SVG without extent that holds every image."""
        defined = "".join(self._definitions)
        return f'<svg class="images" width="0" height="0" aria-hidden="true"><defs>{defined}</defs></svg>'
