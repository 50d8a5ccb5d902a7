"""Images of offers that were put into the index, as files that stay."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from afmrl.files import atomic_write, digest
from afmrl.serving.refusal import Refusal


class KeptImages:
    """Writes images to a folder, named by their content; a request whose offers are not put in leaves none there.

    Args:
        folder: None: no image can be kept.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._users = Counter[str]()
        self._new: set[str] = set()  # written by requests that are in work, so that no offer of the index names them
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def keeping(self) -> Iterator[Keeping]:
        """Keep images for one request, and remove them where its offers were surely not put in.

        An image stays that was there before, or that another request in work keeps too.
        """
        images = Keeping(self)
        try:
            yield images
        except BaseException as error:
            self._release(images, stay=images.may_be_written and not isinstance(error, Refusal))
            raise
        self._release(images, stay=True)

    def add(self, content: bytes, known: set[str]) -> str:
        """The path of a file with this content; `known`, the names that its request has, gets its name.

        Raises:
            Refusal: there is no folder.
        """
        if self.folder is None:
            raise Refusal(
                400, "an index in a database keeps no image files; start the server with --images FOLDER",
                param="image",
            )  # fmt: skip
        name = digest(content).hex()
        path = self.folder / name
        with self._lock:  # two requests may bring one image
            if not path.is_file():
                with atomic_write(path, "wb") as file:
                    file.write(content)
                self._new.add(name)
            if name not in known:
                known.add(name)
                self._users[name] += 1
        return str(path.resolve())

    def _release(self, images: Keeping, *, stay: bool) -> None:
        with self._lock:
            if stay:
                self._new -= images.names
            self._users.subtract(images.names)
            for name in images.names:
                if self._users[name]:
                    continue
                del self._users[name]
                if self.folder is not None and name in self._new:
                    self._new.remove(name)
                    (self.folder / name).unlink(missing_ok=True)


class Keeping:
    """The images that one request keeps."""

    def __init__(self, images: KeptImages) -> None:
        self._images = images
        self.names: set[str] = set()
        self.may_be_written = False
        """Whether writing the offers has begun: an error from then on does not say that they are not in the index."""

    def add(self, content: bytes) -> str:
        """The path of a file with this content. See `KeptImages.add`."""
        return self._images.add(content, self.names)
