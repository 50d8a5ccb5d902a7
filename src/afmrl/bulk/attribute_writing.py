"""Key attributes for many offers: the one call of a generator that bulk jobs make."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from afmrl.attributes import InvalidCompletion, KeyAttributes
from afmrl.bulk.pictures import PictureLoader
from afmrl.errors import InputError
from afmrl.generator import AttributeGenerator, Completion
from afmrl.offers import ARCHIVE_SEPARATOR, Offer

READERS = 16  # threads that unpack and fetch pictures


@dataclass(frozen=True)
class Written:
    """What a generator wrote for some offers, by their places.

    Invalid completions count as no key attributes, as in `AttributeGenerator.attributes`.
    """

    key_attributes: dict[int, KeyAttributes] = field(default_factory=dict)
    completions: dict[int, str] = field(default_factory=dict)
    valid: dict[int, bool] = field(default_factory=dict)
    bad: dict[int, str] = field(default_factory=dict)
    """Reasons, where a picture cannot be read."""


class AttributeWriter:
    """Writes key attributes, greedily; a picture that cannot be read costs its own row alone.

    Args:
        generator: writes the completions.
        pictures: opens references that are no plain files.
        batch_size: offers generated together.
        max_new_tokens: of a completion.
    """

    def __init__(
        self, generator: AttributeGenerator, *, pictures: PictureLoader, batch_size: int, max_new_tokens: int
    ) -> None:
        self.generator, self.pictures = generator, pictures
        self.batch_size, self.max_new_tokens = batch_size, max_new_tokens

    def write(self, offers: Sequence[Offer]) -> Written:
        """Key attributes of each offer."""
        written = Written()
        with _as_files(offers, self.pictures, written.bad) as files:
            places = [place for place in range(len(offers)) if place not in written.bad]
            try:
                completions = self._generate([files[place] for place in places])
            except InputError:
                # one picture spoils the call: find it, and all others like it
                for place in places:
                    if files[place].image:
                        try:
                            self.pictures.load(files[place].image)
                        except InputError as error:
                            written.bad[place] = str(error).removeprefix("picture ")
                good = [place for place in places if place not in written.bad]
                if len(good) == len(places):
                    raise
                places = good
                completions = self._generate([files[place] for place in places])
        for place, completion in zip(places, completions, strict=True):
            written.completions[place] = completion.text
            try:
                if not completion.ended:
                    raise InvalidCompletion("cut off at the limit of tokens")
                written.key_attributes[place] = KeyAttributes.parse(completion.text)
                written.valid[place] = True
            except InvalidCompletion:
                written.key_attributes[place] = KeyAttributes()
                written.valid[place] = False
        return written

    def _generate(self, offers: list[Offer]) -> list[Completion]:
        if not offers:
            return []
        completions = self.generator.generate(offers, batch_size=self.batch_size, max_new_tokens=self.max_new_tokens)
        return [first for (first,) in completions]


@contextmanager
def _as_files(offers: Sequence[Offer], pictures: PictureLoader, bad: dict[int, str]) -> Iterator[list[Offer]]:
    """The offers with members of archives and addresses as temporary files, which generators can open."""
    files = list(offers)
    elsewhere = [n for n, offer in enumerate(offers) if "://" in offer.image or ARCHIVE_SEPARATOR in offer.image]
    folder = Path(tempfile.mkdtemp(prefix="afmrl-")) if elsewhere else None

    def content(place: int) -> bytes | str:
        try:
            return pictures.read(offers[place].image)
        except InputError as error:
            return str(error).removeprefix("picture ")

    try:
        if folder is not None:
            with ThreadPoolExecutor(READERS) as readers:
                for place, read in zip(elsewhere, readers.map(content, elsewhere), strict=True):
                    if isinstance(read, str):
                        bad[place] = read
                    else:
                        path = folder / str(place)
                        path.write_bytes(read)
                        files[place] = dataclasses.replace(offers[place], image=str(path))
        yield files
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
