"""An image as a data URL, for servers."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from afmrl.data.image_cache import image_file
from afmrl.data.images import open_image

JPEG_QUALITY = 95
_SENT_AS_IT_IS = {"JPEG": "image/jpeg", "PNG": "image/png"}


def image_url(path: str | Path, *, max_side: int = 1024) -> str:
    """The image as `data:image/…;base64,…`, no side longer than `max_side` pixels.

    A JPEG or PNG that is small enough, upright and opaque RGB travels as its own bytes, so that a server sees the
    pixels that a local model sees; every other image is brought there by `open_image`, and JPEG stays JPEG.

    Raises:
        InputError: of `open_image`.
    """
    from PIL import Image

    image = open_image(path, max_side=max_side)
    file = Path(image_file(path))
    with Image.open(file) as raw:
        kind = raw.format or ""
        plain = raw.mode == "RGB" and raw.size == image.size and "transparency" not in raw.info
        if kind in _SENT_AS_IT_IS and plain and raw.getexif().get(0x0112, 1) == 1:
            return _url(_SENT_AS_IT_IS[kind], file.read_bytes())
    data = io.BytesIO()
    if kind in ("JPEG", "MPO", "WEBP"):
        image.save(data, "JPEG", quality=JPEG_QUALITY)
        return _url("image/jpeg", data.getvalue())
    image.save(data, "PNG")
    return _url("image/png", data.getvalue())


def _url(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
