"""Pictures: open, verify, bound."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
        except Exception as error:  # Pillow's decoders raise what they like on damaged files
            raise InputError(f"picture {path}: damaged or cut off ({error}); replace the file") from error
    if max_side and max(result.size) > max_side:
        result.thumbnail((max_side, max_side), Image.Resampling.BICUBIC)
    return result


def bound_pixels(processor: Any, max_pixels: int) -> None:
    """Let a model's processor bring larger pictures down to about `max_pixels` pixels, and so to fewer tokens.

    Raises:
        InputError: this processor knows no such bound.
    """
    pictures = getattr(processor, "image_processor", processor)
    size = getattr(pictures, "size", None)
    if not size or "longest_edge" not in size:
        raise InputError(f"max_pixels: {type(pictures).__name__} knows no bound of pixels; leave max_pixels out")
    pictures.size = {"shortest_edge": min(size["shortest_edge"], max_pixels), "longest_edge": max_pixels}


def bound_saved_pixels(folder: Path, max_pixels: int) -> None:
    """The same in the files of a saved processor."""
    for name in ("preprocessor_config.json", "processor_config.json"):
        path = folder / name
        if not path.is_file():
            continue
        config = json.loads(path.read_text(encoding="utf-8"))
        pictures = config.get("image_processor", config)
        if "image_processor_type" in pictures:
            least = (pictures.get("size") or {}).get("shortest_edge") or pictures.pop("min_pixels", max_pixels)
            pictures.pop("max_pixels", None)  # the older name of the bound
            pictures["size"] = {"shortest_edge": min(least, max_pixels), "longest_edge": max_pixels}
            path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _open(path: str | Path, max_pixels: int) -> Image:
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own bound stands below
            image = Image.open(path)
    except FileNotFoundError as error:
        raise InputError(f"picture {path}: no such file") from error
    except Image.DecompressionBombError as error:
        raise InputError(f"picture {path}: over {max_pixels:,} pixels; scale it down") from error
    except Exception as error:
        raise InputError(f"picture {path}: not a picture that can be read") from error
    width, height = image.size
    if width * height > max_pixels:
        image.close()
        raise InputError(f"picture {path}: {width} × {height} pixels, at most {max_pixels:,} are opened; scale it down")
    return image
