"""Fetched images are kept: what was fetched once is read from the disk, by every command."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from afmrl.bulk.images.fetch import Fetcher
from afmrl.data.damage import Checked
from afmrl.data.image_cache import cache_folder, cached_image
from afmrl.data.images import open_header, verify_image
from afmrl.errors import InputError


class ImageCache:
    """Fetches an image unless it was fetched before; threads and processes may share the folder.

    An address that fails is tried again the next time. Another image under the same address is not noticed: remove the
    folder to fetch all anew.

    Args:
        fetcher: fetches what is not there yet.
    """

    def __init__(self, fetcher: Fetcher | None = None) -> None:
        self._fetcher = fetcher or Fetcher()
        self.num_fetched = self.num_known = 0
        """Images that came from the network, and from the folder."""

    def fetch(self, address: str) -> bytes:
        """The image's file content.

        Raises:
            InputError: it cannot be fetched, or is not an image.
        """
        path = cached_image(address)
        with contextlib.suppress(OSError):
            content = path.read_bytes()
            self.num_known += 1
            return content
        content = self._fetcher.fetch(address)
        open_header(content, address).close()  # a page that says that there is no image is not kept
        self.num_fetched += 1
        with contextlib.suppress(OSError):  # a full disk: the image is there all the same
            _store(path, content)
        return content

    def keep(self, address: str) -> Path:
        """The image's file, fetched if it is not there.

        Raises:
            InputError: it cannot be fetched, is not an image, or cannot be written.
        """
        path = cached_image(address)
        if path.is_file():
            self.num_known += 1
            return path
        content = self.fetch(address)
        if not path.is_file():
            try:
                _store(path, content)
            except OSError as error:
                raise InputError(
                    f"{cache_folder()}: fetched images cannot be kept there ({error.strerror or error}); "
                    "AFMRL_IMAGE_CACHE names another folder"
                ) from error
        return path

    def close(self) -> None:
        """Close the connections."""
        self._fetcher.close()

    def __enter__(self) -> ImageCache:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def check_cache(folder: Path) -> Iterator[Checked]:
    """Read the images of a cache's folder; those that are damaged are named, the others counted."""
    count = 0
    for path in sorted(folder.glob("[0-9a-f][0-9a-f]/*")):
        try:
            verify_image(path)
            count += 1
        except (InputError, OSError) as error:
            yield Checked(str(path.relative_to(folder)), f"{error}; remove it, and it is fetched again")
    yield Checked(f"{count:,} fetched images")


def _store(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # a name of its own: two threads or processes may fetch one address at a time
    temporary = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
