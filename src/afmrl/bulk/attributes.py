"""The work of `afmrl attributes`: key attributes of offers, as rows; and the writer that `afmrl embed` uses too."""

from __future__ import annotations

import dataclasses
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from afmrl.attributes.evidence import OfferText
from afmrl.attributes.key_attributes import InvalidCompletion, KeyAttributes
from afmrl.attributes.schema import AttributeSchema
from afmrl.bulk.fingerprints import model_fingerprint, rendering_fingerprint, without_image
from afmrl.bulk.folder import ATTRIBUTES, schema
from afmrl.bulk.images.loader import ImageLoader, image_loader
from afmrl.bulk.work import (
    WINDOW_BATCHES,
    AttributesOptions,
    Task,
    TaskResult,
    WorkDescription,
    absolute,
    imageless,
    record_batch,
)
from afmrl.data.offer import Offer
from afmrl.data.offer_from_row import ARCHIVE_SEPARATOR
from afmrl.errors import InputError, shown_address
from afmrl.files import fingerprint
from afmrl.generator.engines.base import Completion
from afmrl.generator.engines.server import ServerEngine
from afmrl.generator.generator import AttributeGenerator, open_generator
from afmrl.generator.prompt import GeneratorPrompt
from afmrl.generator.small.build import generator_folder
from afmrl.terminal import counted

SHOWN_REASONS = 5
QUOTED = re.compile(r"""(["']).*?\1|\d+""")  # what differs from one reason to the next of its kind
READERS = 16  # threads that unpack and fetch images
NOT_LOCAL = ("openai:", "recorded:", "trained:")


class AttributesWork:
    """Writes key attributes with a generator.

    Args:
        options: which generator, and how.

    Raises:
        InputError: the generator does not load.
    """

    def __init__(self, options: AttributesOptions) -> None:
        self.options = options
        generator = bulk_generator(
            options.generator, options.device, options.schema, options.concurrency, options.show_sellers
        )
        self.writer = AttributeWriter(
            generator,
            images=image_loader(options.fetch),
            batch_size=options.batch_size,
            max_new_tokens=options.max_new_tokens,
        )
        made_by = generator_fingerprint(options.generator, generator)
        self._description = WorkDescription(
            kind=ATTRIBUTES,
            fingerprint=fingerprint(
                ATTRIBUTES, made_by, rendering_fingerprint(), options.max_new_tokens, "without_evidence"
            ),
            schema=schema(ATTRIBUTES),
            manifest={"generator": {"path": absolute(options.generator), "fingerprint": made_by}},
            window=WINDOW_BATCHES * options.batch_size,
        )

    def describe(self) -> WorkDescription:
        """What this work is."""
        return self._description

    def run(self, tasks: Iterable[Task]) -> Iterator[TaskResult]:
        """Do the tasks, in their order."""
        for task in tasks:
            written = self.writer.write(task.offers)
            places = sorted(written.completions)
            rows = record_batch(
                self._description.schema,
                imageless(task, written.lost_images),
                places,
                self._description.fingerprint,
                [written.key_attributes[place] for place in places],
                {
                    "valid": [written.valid[place] for place in places],
                    "completion": [written.completions[place] for place in places],
                    "without_evidence": [
                        OfferText(task.offers[place]).unsaid(written.key_attributes[place]) for place in places
                    ],
                },
            )
            lost_images = {place: why for place, why in written.lost_images.items() if place not in written.bad}
            yield TaskResult(task, rows, written.bad, lost_images)


def bulk_generator(
    address: str,
    device: str | None,
    schema: str | None = None,
    concurrency: int | None = None,
    show_sellers: bool = False,
) -> AttributeGenerator:
    """The generator of a job, by its address (see `afmrl.generator.open_generator`).

    Args:
        schema: file of the keys that it is asked for; None: its own prompt.
        concurrency: requests under way at a time, of a server; None: its default.
        show_sellers: show a general model the sellers' own attributes too.

    Raises:
        InputError: it does not load, a device is asked of one that runs elsewhere, a concurrency of one that runs here
            or is recorded, a schema or sellers' attributes for one that was trained with a prompt of its own.
    """
    prompt = None
    address = str(generator_folder(address))
    own = GeneratorPrompt.load(address)
    if schema is not None and not show_sellers and own.any_schema:
        prompt = dataclasses.replace(own, schema=AttributeSchema.load(schema))
    elif schema is not None or show_sellers:
        by_training = (Path(address) / "history.json").exists() or own != GeneratorPrompt()
        if by_training or address.startswith("trained:") or "@trained:" in address:
            option = "--schema" if schema is not None else "--show-sellers"
            raise InputError(f"generator {address}: was trained with a prompt of its own; leave out {option}")
        keys = AttributeSchema.load(schema) if schema is not None else None
        prompt = GeneratorPrompt.for_teacher(keys, show_sellers_attributes=show_sellers)
    server = address.startswith("openai:") or (address.startswith(NOT_LOCAL) and "@openai:" in address)
    if concurrency is not None and not server:
        raise InputError(f"generator {address}: is not a server and takes no --concurrency; leave it out")
    if not address.startswith(NOT_LOCAL):
        return open_generator(address, prompt=prompt, device=device)
    if device is not None:
        raise InputError(f"generator {address}: runs elsewhere and takes no --device; leave it out")
    options: dict[str, Any] = {} if concurrency is None else {"concurrency": concurrency}
    return open_generator(address, prompt=prompt, **options)


def generator_fingerprint(address: str, generator: AttributeGenerator) -> str:
    """Of a generator and its prompt; a server is known by its address and the name of its model alone."""
    made_by = address if address.startswith(NOT_LOCAL) else model_fingerprint(generator_folder(address))
    if isinstance(generator.engine, ServerEngine) and "#" not in address:  # the only model there, today
        made_by = f"{address}#{generator.engine.model_name}"
    return fingerprint(shown_address(made_by), generator.prompt.as_dict(), generator.lenient)


@dataclass(frozen=True)
class TaskAttributes:
    """What a generator wrote for some offers, by their places.

    Invalid completions count as no key attributes, as in `AttributeGenerator.attributes`.
    """

    key_attributes: dict[int, KeyAttributes] = field(default_factory=dict)
    completions: dict[int, str] = field(default_factory=dict)
    valid: dict[int, bool] = field(default_factory=dict)
    bad: dict[int, tuple[str, str]] = field(default_factory=dict)
    """Field and reason, where an image cannot be read and there is no title, or the generator gave no answer: tried
    again in the next run."""
    lost_images: dict[int, str] = field(default_factory=dict)
    """Reason, of offers that were written of without their image: tried again as well."""


class AttributeWriter:
    """Writes key attributes, greedily; an image that cannot be read costs its own row alone.

    Args:
        generator: writes the completions.
        images: opens references that are no plain files.
        batch_size: offers generated together.
        max_new_tokens: of a completion; None: the generator's default.
    """

    def __init__(
        self, generator: AttributeGenerator, *, images: ImageLoader, batch_size: int, max_new_tokens: int | None
    ) -> None:
        self.generator, self.images = generator, images
        self.batch_size, self.max_new_tokens = batch_size, max_new_tokens
        self._unread_images = 0
        self._invalid: Counter[str] = Counter()
        self._first: dict[str, str] = {}

    @property
    def num_invalid(self) -> int:
        """Completions so far that were no list of key attributes."""
        return self._invalid.total()

    def notes(self) -> list[str]:
        """What a person wants to know at the end: tokens read and written, and why completions were not valid."""
        lines = []
        usage = getattr(self.generator.engine, "usage", None)
        if usage is not None and usage.requests:
            lines.append(f"generator: {usage}")
        if self._unread_images:
            lines.append(f"this generator reads text alone: {counted(self._unread_images, 'image')} not read")
        if self._invalid:
            lines.append(f"no valid list of key attributes: {self._invalid.total():,} rows (column `valid`)")
            lines += [
                f"  {number:,} like offer {self._first[kind]}"
                for kind, number in self._invalid.most_common(SHOWN_REASONS)
            ]
        return lines

    def _note(self, offer: Offer, error: InvalidCompletion) -> None:
        kind = QUOTED.sub("…", str(error))
        self._invalid[kind] += 1
        self._first.setdefault(kind, f"{offer.id}: {error}")

    def write(self, offers: Sequence[Offer]) -> TaskAttributes:
        """Key attributes of each offer."""
        written = TaskAttributes()
        if not self.generator.reads_images:
            self._unread_images += sum(bool(offer.image) for offer in offers)
            offers = [without_image(offer) for offer in offers]
        with _as_files(offers, self.images, written.bad) as files:
            self._without_images(files, written)
            places = [place for place in range(len(offers)) if place not in written.bad]
            try:
                completions = self._generate([files[place] for place in places])
            except InputError:
                # one image spoils the call: find it, and all others like it
                for place in places:
                    if files[place].image:
                        try:
                            self.images.load(files[place].image)
                        except InputError as error:
                            written.bad[place] = ("image", str(error).removeprefix("image "))
                if not written.bad.keys() & set(places):
                    raise
                self._without_images(files, written)
                places = [place for place in places if place not in written.bad]
                completions = self._generate([files[place] for place in places])
        for place, completion in zip(places, completions, strict=True):
            if completion.failure:
                written.bad[place] = ("key_attributes", completion.failure)
                continue
            written.completions[place] = completion.text
            try:
                written.key_attributes[place] = self.generator.read(completion, offers[place])
                written.valid[place] = True
            except InvalidCompletion as error:
                self._note(offers[place], error)
                written.key_attributes[place] = KeyAttributes()
                written.valid[place] = False
        return written

    @staticmethod
    def _without_images(files: list[Offer], written: TaskAttributes) -> None:
        """An offer with a title is written of without the image that cannot be read."""
        for place in [place for place, (field_name, _) in written.bad.items() if field_name == "image"]:
            if files[place].title.strip():
                written.lost_images[place] = written.bad.pop(place)[1]
                files[place] = without_image(files[place])

    def _generate(self, offers: list[Offer]) -> list[Completion]:
        if not offers:
            return []
        completions = self.generator.generate(
            offers, batch_size=self.batch_size, max_new_tokens=self.max_new_tokens, failures=True
        )
        return [first for (first,) in completions]


@contextmanager
def _as_files(offers: Sequence[Offer], images: ImageLoader, bad: dict[int, tuple[str, str]]) -> Iterator[list[Offer]]:
    """The offers with members of archives and addresses as temporary files, which generators can open."""
    files = list(offers)
    elsewhere = [n for n, offer in enumerate(offers) if "://" in offer.image or ARCHIVE_SEPARATOR in offer.image]
    folder = Path(tempfile.mkdtemp(prefix="afmrl-")) if elsewhere else None

    def content(place: int) -> bytes | str:
        try:
            return images.read(offers[place].image)
        except InputError as error:
            return str(error).removeprefix("image ")

    try:
        if folder is not None:
            with ThreadPoolExecutor(READERS) as readers:
                for place, read in zip(elsewhere, readers.map(content, elsewhere), strict=True):
                    if isinstance(read, str):
                        bad[place] = ("image", read)
                    else:
                        path = folder / str(place)
                        path.write_bytes(read)
                        files[place] = dataclasses.replace(offers[place], image=str(path))
        yield files
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
