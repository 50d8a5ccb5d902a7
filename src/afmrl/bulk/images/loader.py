"""Images by reference: a local file, a member of an archive, and, only when asked, an http(s) address."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from afmrl.bulk.images.archives import MAX_BYTES, Archives, split_member
from afmrl.data.image_cache import is_address
from afmrl.data.images import MAX_SIDE, decode, open_header
from afmrl.errors import InputError
from afmrl.files import check_regular

if TYPE_CHECKING:
    from PIL.Image import Image

    from afmrl.bulk.images.cache import ImageCache
    from afmrl.bulk.images.fetch import Fetcher


class ImageLoader:
    """Opens images by their references; threads may share one.

    A reference is a path (`/data/1.jpg`), a member of an archive (`/data/photos.zip!/shoes/1.jpg`, `.tar` as well),
    or an address (`https://…`).

    Args:
        fetcher: fetches addresses; None: they are refused.
    """

    def __init__(self, fetcher: ImageCache | Fetcher | None = None) -> None:
        self.fetcher = fetcher
        self._archives = Archives()

    def read(self, reference: str) -> bytes:
        """An image's file content, not looked into.

        Raises:
            InputError: it is missing, may not be fetched, or is too large.
        """
        try:
            return self._content(reference)
        except (InputError, MemoryError):
            raise
        except Exception as error:  # whatever one reference causes costs its row alone
            raise InputError(f"image {reference[:200]}: cannot be read ({type(error).__name__}: {error})") from error

    def _content(self, reference: str) -> bytes:
        if is_address(reference):
            if self.fetcher is None:
                raise InputError(f"image {reference}: is an address, and images are fetched only with --fetch")
            return self.fetcher.fetch(reference)
        member = split_member(reference)
        if member and not os.path.isfile(reference):
            return self._archives.read(*member)
        return _file_content(reference)

    def load(self, reference: str, *, max_side: int | None = MAX_SIDE) -> Image:
        """An image as RGB, upright, transparent parts on white, with the bounds of `afmrl.data.images.open_image`.

        Raises:
            InputError: it is missing, no image, damaged, too large, or may not be fetched.
        """
        with open_header(self.read(reference), reference) as image:
            return decode(image, reference, max_side=max_side)


def image_loader(fetch: bool) -> ImageLoader:
    """The loader of a job's images.

    Args:
        fetch: fetch http(s) addresses that are not in the cache.
    """
    if not fetch:
        return ImageLoader()
    from afmrl.bulk.images.cache import ImageCache

    return ImageLoader(ImageCache())


def _file_content(path: str) -> bytes:
    try:
        check_regular(path)
        with open(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise InputError(f"image {path}: no such file") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"image {path}: cannot be read ({reason})") from error
    if len(content) > MAX_BYTES:
        raise InputError(f"image {path}: more than {MAX_BYTES:,} bytes; at most so many are read")
    return content
