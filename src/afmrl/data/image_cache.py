"""Images that were fetched from their addresses, as files: one folder for every command."""

from __future__ import annotations

import os
from pathlib import Path

from afmrl.files import digest

FOLDER_VARIABLE = "AFMRL_IMAGE_CACHE"


def is_address(reference: str) -> bool:
    """Whether what names an image is an http(s) address.

    >>> is_address("https://shop/a.jpg"), is_address("images/a.jpg")
    (True, False)
    """
    return reference.lower().startswith(("http://", "https://"))


def cache_folder() -> Path:
    """Where fetched images are: AFMRL_IMAGE_CACHE, or afmrl/images in XDG_CACHE_HOME, by default ~/.cache."""
    if named := os.environ.get(FOLDER_VARIABLE):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "afmrl" / "images"


def cached_image(address: str) -> Path:
    """The file of an address, whether or not it was fetched yet."""
    name = digest(address).hex()
    return cache_folder() / name[:2] / name


def image_file(reference: str | Path) -> str | Path:
    """The file that an image's reference names; of an address the one that it was fetched to."""
    return cached_image(reference) if isinstance(reference, str) and is_address(reference) else reference
