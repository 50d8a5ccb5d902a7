"""Images of requests as files, for as long as a request needs them."""

from __future__ import annotations

import base64
import binascii
import contextlib
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from afmrl.bulk.images.cache import ImageCache
from afmrl.data.image_cache import is_address
from afmrl.data.images import open_header, verify_image
from afmrl.errors import InputError
from afmrl.files import digest
from afmrl.serving.batching import check_time
from afmrl.serving.decoding import Decoding
from afmrl.serving.limits import Limits
from afmrl.serving.refusal import Refusal

SHOWN_CHARACTERS = 60
UPLOADED = "in the request"


class Uploads:
    """Writes images that came in requests to a temporary folder, named by their content, and takes them away again.

    Args:
        limits: of the images' bytes and pixels.
        decoding: of all images of the server.
        fetch: whether images that are http(s) addresses are fetched, as bulk jobs fetch them; False refuses them.
    """

    def __init__(self, limits: Limits, decoding: Decoding, *, fetch: bool = False) -> None:
        self._limits, self._decoding = limits, decoding
        self._images = ImageCache() if fetch else None
        self._folder = tempfile.TemporaryDirectory(prefix="afmrl-serve-")
        self._users = Counter[str]()
        self._lock = threading.Lock()

    @property
    def folder(self) -> Path:
        """Where they are."""
        return Path(self._folder.name)

    def content(self, image: str, deadline: float) -> bytes:
        """The file that an image in a request holds or names: base64, a data: URI, or an http(s) address.

        Raises:
            Refusal: neither of these, too large, an address where none is fetched, or the deadline is over.
        """
        check_time(deadline)
        most = self._limits.image_bytes
        if is_address(image):
            content = self._fetched(image)
        else:
            encoded = image
            if image[:5].lower() == "data:":
                kind, comma, encoded = image.partition(",")
                if not comma or not kind.lower().endswith(";base64"):
                    raise Refusal(400, "the data: URI is not base64; give data:image/jpeg;base64,…")
            encoded = "".join(encoded.split())
            if len(encoded) > most * 4 // 3 + 8:
                raise Refusal(413, f"has more than {most:,} bytes; send a smaller one")
            try:
                content = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
            except (binascii.Error, ValueError):
                shown = image[:SHOWN_CHARACTERS] + "…" * (len(image) > SHOWN_CHARACTERS)
                raise Refusal(400, f"{shown!r} is neither base64 nor a data: URI; send the image's bytes") from None
        if len(content) > most:
            raise Refusal(413, f"has more than {most:,} bytes; send a smaller one")
        with _refused(UPLOADED):
            open_header(content, UPLOADED, max_pixels=self._limits.image_pixels).close()
        return content

    @contextlib.contextmanager
    def held(self, content: bytes, deadline: float) -> Iterator[str]:
        """The path of a file with this content, which is there while the block runs.

        Raises:
            Refusal: a damaged image, or one that could not be looked at before the deadline.
        """
        name = digest(content).hex()
        path = self.folder / name
        with self._lock:
            self._users[name] += 1
            if not path.exists():
                path.write_bytes(content)
        try:
            with _refused(path), self._decoding.turn(deadline):
                verify_image(path, max_pixels=self._limits.image_pixels)
            yield str(path)
        finally:
            with self._lock:
                self._users[name] -= 1
                if not self._users[name]:
                    del self._users[name]
                    path.unlink(missing_ok=True)

    def close(self) -> None:
        """Remove the folder."""
        if self._images is not None:
            self._images.close()
        self._folder.cleanup()

    def _fetched(self, address: str) -> bytes:
        if self._images is None:
            raise Refusal(
                400,
                "this server fetches no addresses; send the image's bytes as base64 or a data: URI",
            )
        with _refused(address):
            return self._images.fetch(address)


@contextlib.contextmanager
def _refused(image: str | Path) -> Iterator[None]:
    """What is wrong with an image, without its name: the request has another for it."""
    try:
        yield
    except InputError as error:
        raise Refusal(400, str(error).removeprefix(f"image {image}: ")) from error
