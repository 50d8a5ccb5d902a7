"""Pictures: open, verify, bound."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from afmrl.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS = 64_000_000
"""A picture of more pixels is refused: a few kilobytes of file can claim gigabytes of memory."""


def verify_image(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> None:
    """Look at a picture's header: cheap, decodes nothing.

    Raises:
        InputError: missing, no picture, or more than `max_pixels` pixels.
    """
    _open(path, max_pixels).close()


def open_image(path: str | Path, *, max_pixels: int = MAX_PIXELS, max_side: int | None = 2048) -> Image:
    """A picture as RGB, turned upright, transparent parts on white, no side longer than `max_side` pixels.

    Raises:
        InputError: missing, no picture, truncated, or more than `max_pixels` pixels.
    """
    from PIL import Image, ImageOps

    with _open(path, max_pixels) as image:
        try:
            if max_side and max(image.size) > max_side:
                image.draft("RGB", (max_side, max_side))  # JPEG: decoded at a fraction of its size
            upright = ImageOps.exif_transpose(image)
            if upright.mode in ("RGBA", "LA", "PA") or "transparency" in upright.info:
                upright = upright.convert("RGBA")
                upright = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright)
            result = upright.convert("RGB")
        except (OSError, SyntaxError, ValueError) as error:
            raise InputError(f"picture {path}: damaged or cut off ({error}); replace the file") from error
    if max_side and max(result.size) > max_side:
        result.thumbnail((max_side, max_side), Image.Resampling.BICUBIC)
    return result


def _open(path: str | Path, max_pixels: int) -> Image:
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own bound stands below
            image = Image.open(path)
    except FileNotFoundError as error:
        raise InputError(f"picture {path}: no such file") from error
    except Image.DecompressionBombError as error:
        raise InputError(f"picture {path}: over {max_pixels:,} pixels; scale it down") from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise InputError(f"picture {path}: not a picture that can be read") from error
    width, height = image.size
    if width * height > max_pixels:
        image.close()
        raise InputError(f"picture {path}: {width} × {height} pixels, at most {max_pixels:,} are opened; scale it down")
    return image
