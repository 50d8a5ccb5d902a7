"""What it would take to decode an image, known before it is decoded: a small file must not hold a core for a minute."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from afmrl.errors import InputError

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

MAX_SLOW_PIXELS = 16_000_000
"""Of formats that take a second for four million pixels."""
SLOW_FORMATS = ("JPEG2000",)
MAX_PLAIN_PIXELS = 1_000_000
"""Of formats that Pillow reads number by number in Python."""
PLAIN_DECODERS = ("ppm_plain", "ppm", "bmp_rle", "MSP", "SGI16", "qoi", "xpm", "fits_gzip", "dds_rgb")
MAX_SCANNED_PIXELS = 1_000_000_000
"""Pixels times scans of a progressive JPEG, of which ordinary ones have about ten."""
HEADER_BYTES = 4096
_SCAN = re.compile(rb"\xff\xda")
_PIXMAP = re.compile(rb"P[1-7fFy]\s")
_PIXMAP_HEADER = re.compile(rb"P[1-7fFy]\s(?:\s|#[^\n]*\n)*[^\s#]+(?:\s|#[^\n]*\n)+[^\s#]+\s")


def check_header(start: bytes, name: str) -> None:
    """Refuse a file whose header alone would take long to read.

    Args:
        start: the file's first HEADER_BYTES.

    Raises:
        InputError: a pixmap whose size does not stand at its beginning.
    """
    if _PIXMAP.match(start) and len(start) == HEADER_BYTES and not _PIXMAP_HEADER.match(start):
        raise InputError(f"image {name}: not an image that can be read (its size is not at its beginning)")


def check_cost(image: ImageFile, name: str) -> None:
    """Refuse an opened image, not decoded yet, that would take many seconds.

    Raises:
        InputError: more pixels than its format is read at, or more scans.
    """
    pixels = image.width * image.height
    decoder = image.tile[0][0] if getattr(image, "tile", None) else ""
    most = None
    if image.format in SLOW_FORMATS:
        most = MAX_SLOW_PIXELS
    elif decoder in PLAIN_DECODERS and not (decoder == "ppm" and image.mode in ("1", "L", "RGB")):
        most = MAX_PLAIN_PIXELS if decoder != "ppm" else MAX_SLOW_PIXELS
    if most is not None and pixels > most:
        raise InputError(
            f"image {name}: {image.width} × {image.height} pixels, at most {most:,} are opened of a "
            f"{image.format} of this kind; scale it down, or save it as JPEG or PNG"
        )
    if image.info.get("progressive") and (file := image.fp) is not None:
        place = file.tell()
        file.seek(0)
        scans = len(_SCAN.findall(file.read()))
        file.seek(place)
        if scans * pixels > MAX_SCANNED_PIXELS:
            raise InputError(
                f"image {name}: {image.width} × {image.height} pixels in {scans} scans would take too long to decode; "
                "save it again"
            )


def first_bytes(source: str | bytes) -> bytes:
    """The first HEADER_BYTES of a file, or of a file's content."""
    if isinstance(source, bytes):
        return source[:HEADER_BYTES]
    with open(source, "rb") as file:
        return file.read(HEADER_BYTES)
