"""Images: open, verify, bound."""

from __future__ import annotations

import errno
import functools
import io
import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from afmrl.data.decoding_cost import check_cost, check_header, first_bytes
from afmrl.data.image_cache import image_file, is_address
from afmrl.errors import InputError
from afmrl.files import check_regular

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS = 64_000_000
"""An image of more pixels is refused: a few kilobytes of file can claim gigabytes of memory."""
EXIF_ORIENTATION = 0x0112
TAIL_BYTES = 64  # some cameras and shops write a little behind the end
WIDE_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")
"""Gray of more than 8 bits: Pillow would cut what is above 255, and a photograph would be white."""
BYTES_A_PIXEL = 8
"""Of decoding: Pillow keeps four a pixel, and turning or converting makes a second copy."""


FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM", "ICO", "TGA")
"""What Pillow may take a file for. It knows more, and for one of them (EPS) it would start another program."""
MAX_SIDE = 2048
"""Longest side, in pixels, of an image as it is handed to a model's processor."""


def verify_image(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> None:
    """Look at an image's header and at its end: cheap, decodes only what does not end as its format does.

    Raises:
        InputError: missing, not an image, damaged or cut off, or more than `max_pixels` pixels.
    """
    with open_header(path, max_pixels=max_pixels) as image:
        is_whole = _is_whole(image, path)
    if not is_whole:
        open_image(path, max_pixels=max_pixels)


def _is_whole(image: Image, path: str | Path) -> bool:
    """Whether a file surely ends as its format does; PNG is compared with its checksums."""
    if image.format == "PNG":
        try:
            image.verify()
        except Exception:  # decoding says whether it matters
            return False
        return True
    with open(path, "rb") as file:
        start = file.read(8)
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - TAIL_BYTES))
        end = file.read()
    if image.format == "WEBP":
        return size >= 8 + int.from_bytes(start[4:], "little")
    mark = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "GIF": b"\x3b"}.get(image.format or "")
    return mark is not None and mark in end


def open_image(path: str | Path, *, max_pixels: int = MAX_PIXELS, max_side: int | None = MAX_SIDE) -> Image:
    """An image as RGB, turned upright, transparent parts on white, no side longer than `max_side` pixels.

    Raises:
        InputError: missing, not an image, truncated, or more than `max_pixels` pixels.
    """
    with open_header(path, max_pixels=max_pixels) as image:
        return decode(image, path, max_side=max_side)


def open_header(source: str | Path | bytes, name: str | Path = "", *, max_pixels: int = MAX_PIXELS) -> Image:
    """An image of which only the header was read: its size is known, its pixels are not decoded.

    Args:
        source: a file, an address that was fetched, or a file's content.
        name: what error messages call it; needed for a content.

    Raises:
        InputError: missing, not an image, or more than `max_pixels` pixels.
    """
    from PIL import Image

    _silence_bomb_warnings()  # our own bound is below
    name = name or (source if isinstance(source, str | Path) else "")
    try:
        if not isinstance(source, bytes):
            source = image_file(source)
            check_regular(source)
        check_header(first_bytes(source if isinstance(source, bytes) else str(source)), str(name))
        image = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS)
    except InputError:
        raise
    except FileNotFoundError as error:
        if is_address(str(name)):
            raise InputError(f"image {name}: is an address that was not fetched; --fetch fetches it") from error
        raise InputError(f"image {name}: no such file") from error
    except Image.DecompressionBombError as error:
        raise InputError(f"image {name}: over {max_pixels:,} pixels; scale it down") from error
    except Exception as error:
        odd = isinstance(error, OSError) and error.errno == errno.EINVAL and error.filename
        reason = "not an image: it is not a regular file" if odd else "not an image that can be read"
        raise InputError(f"image {name}: {reason}") from error
    width, height = image.size
    if width * height > max_pixels:
        image.close()
        raise InputError(f"image {name}: {width} × {height} pixels, at most {max_pixels:,} are opened; scale it down")
    try:
        check_cost(image, str(name))
    except InputError:
        image.close()
        raise
    return image


def upright_size(image: Image) -> tuple[int, int]:
    """Width and height once turned upright, by the header."""
    try:
        sideways = image.getexif().get(EXIF_ORIENTATION) in (5, 6, 7, 8)
    except Exception:  # a damaged EXIF block: decode() says so, or Pillow passes over it
        sideways = False
    return (image.height, image.width) if sideways else (image.width, image.height)


def bounded_size(size: tuple[int, int], max_side: int) -> tuple[int, int]:
    """Width and height of an image of `size` once no side is longer than `max_side`.

    >>> bounded_size((4096, 1000), 2048)
    (2048, 500)
    """
    factor = max_side / max(size)
    return size if factor >= 1 else (max(1, round(size[0] * factor)), max(1, round(size[1] * factor)))


def decode(
    image: Image,
    name: str | Path,
    *,
    max_side: int | None = MAX_SIDE,
    least: tuple[int, int] | None = None,
    admit: Callable[[int], None] | None = None,
) -> Image:
    """The pixels of an opened image as RGB, turned upright, transparent parts on white.

    Args:
        image: of `open_header`.
        name: what error messages call it.
        max_side: no side is longer than this.
        least: width and height (upright) that are enough: a JPEG is decoded at the smallest of 1/1, 1/2, 1/4 and 1/8
            of its size that has them, several times as fast and of almost the same pixels once they are resized.
        admit: called before decoding with about the bytes that it takes; may wait for them to be free.

    Raises:
        InputError: damaged or truncated.
    """
    from PIL import Image, ImageOps

    try:
        if least:
            upright = upright_size(image)
            image.draft("RGB", least if upright == image.size else (least[1], least[0]))
        elif max_side and max(image.size) > max_side:
            image.draft("RGB", (max_side, max_side))
        if admit:
            admit(BYTES_A_PIXEL * image.width * image.height)
        upright_image = ImageOps.exif_transpose(image)
        if upright_image.mode in WIDE_MODES:
            upright_image = _as_8_bits(upright_image)
        if upright_image.mode in ("RGBA", "LA", "PA") or "transparency" in upright_image.info:
            upright_image = upright_image.convert("RGBA")
            upright_image = Image.alpha_composite(Image.new("RGBA", upright_image.size, "white"), upright_image)
        result = upright_image.convert("RGB")
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise what they like on damaged files
        raise InputError(f"image {name}: damaged or cut off ({error}); replace the file") from error
    if max_side and max(result.size) > max_side:
        result.thumbnail((max_side, max_side), Image.Resampling.BICUBIC)
    return result


def _as_8_bits(image: Image) -> Image:
    """Gray of 16 or 32 bits or of floats as 8 bits: by the range that its numbers are meant in."""
    import numpy as np
    from PIL import Image

    pixels = np.asarray(image).astype(np.float64)
    pixels = np.nan_to_num(pixels, posinf=0.0, neginf=0.0)
    low, high = float(pixels.min(initial=0.0)), float(pixels.max(initial=0.0))
    if image.mode == "F":
        top = next((bound for bound in (1.0, 255.0, 65535.0) if high <= bound), high)
    else:
        is_8_bit = image.mode == "I" and high <= 255
        top = 255.0 if is_8_bit else 65535.0 if high <= 65535 else high
    scaled = (pixels - min(low, 0.0)) / (top - min(low, 0.0)) * 255.0
    return Image.fromarray(scaled.round().clip(0, 255).astype(np.uint8), "L")


def bound_pixels(processor: Any, max_pixels: int) -> None:
    """Let a model's processor bring larger images down to about `max_pixels` pixels, and so to fewer tokens.

    Raises:
        InputError: this processor knows no such bound.
    """
    images = getattr(processor, "image_processor", processor)
    size = getattr(images, "size", None)
    if not size or "longest_edge" not in size:
        raise InputError(f"max_pixels: {type(images).__name__} knows no bound of pixels; leave max_pixels out")
    images.size = {"shortest_edge": min(size["shortest_edge"], max_pixels), "longest_edge": max_pixels}


def bound_saved_pixels(folder: Path, max_pixels: int) -> None:
    """The same in the files of a saved processor."""
    for name in ("preprocessor_config.json", "processor_config.json"):
        path = folder / name
        if not path.is_file():
            continue
        config = json.loads(path.read_text(encoding="utf-8"))
        images = config.get("image_processor", config)
        if "image_processor_type" in images:
            least = (images.get("size") or {}).get("shortest_edge") or images.pop("min_pixels", max_pixels)
            images.pop("max_pixels", None)  # the older name of the bound
            images["size"] = {"shortest_edge": min(least, max_pixels), "longest_edge": max_pixels}
            path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


@functools.cache
def _silence_bomb_warnings() -> None:
    # once, not by warnings.catch_warnings at every image: that is not safe where threads open images
    from PIL import Image

    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
