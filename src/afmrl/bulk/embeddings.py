"""The work of `afmrl embed`: embeddings of offers, and of their key attributes where they are read, as rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np

from afmrl.attributes.attributes_on import on_gallery
from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.bulk.attributes import AttributeWriter, bulk_generator, generator_fingerprint
from afmrl.bulk.fingerprints import model_fingerprint, rendering_fingerprint
from afmrl.bulk.folder import EMBEDDINGS, schema
from afmrl.bulk.images.encoder import BulkEncoder, EncodedWindow, Window
from afmrl.bulk.images.loader import image_loader
from afmrl.bulk.work import (
    WINDOW_BATCHES,
    EmbedOptions,
    Task,
    TaskResult,
    WorkDescription,
    absolute,
    embedding_array,
    imageless,
    record_batch,
)
from afmrl.embedder.embedder import Embedder
from afmrl.errors import InputError
from afmrl.files import fingerprint
from afmrl.generator.prompt import check_embedder
from afmrl.retrieval.encoder import OfferEncoder
from afmrl.retrieval.floors import Floor


@dataclass(frozen=True)
class _WindowContent:
    """What travels with a window: the task, and which of its offers are in the window."""

    task: Task
    places: list[int]
    key_attributes: list[KeyAttributes] | None
    bad: dict[int, tuple[str, str]]
    lost_images: dict[int, str]


class EmbedWork:
    """Embeds the offers of a gallery, with the same scores as `afmrl evaluate` gives them.

    Key attributes are always written to the rows where there are any; the embedder reads them where it was trained
    with attributes on the gallery or on both, or where `attributes_on` asks for it.

    Args:
        options: which models, and how.

    Raises:
        InputError: a model that does not load.
    """

    def __init__(self, options: EmbedOptions) -> None:
        if options.attributes_on is not None and options.generator is None and options.attributes is None:
            raise InputError("attributes_on: there are no key attributes; give --generator or --attributes as well")
        check_embedder(options.model)
        if options.model in get_args(Floor) and not Path(options.model).is_dir():
            raise InputError(f"{options.model} learns nothing and has no embeddings; give --model a model, or minilm")
        self.options = options
        self.embedder = Embedder.from_pretrained(
            options.model, device=options.device, seller_attributes=options.seller_attributes
        )
        images = image_loader(options.fetch)
        self.encoder = BulkEncoder(
            self.embedder, batch_size=options.batch_size, images=images, scaled_jpeg=options.scaled_jpeg
        )
        self.writer = None
        if options.generator is not None:
            self.writer = AttributeWriter(
                bulk_generator(options.generator, options.device),
                images=images,
                batch_size=options.batch_size,
                max_new_tokens=options.max_new_tokens,
            )
        # what is rendered of an offer is decided where evaluation and search have it decided
        self.offers = OfferEncoder(self.embedder, attributes_on=options.attributes_on)
        self.reads_images = "image" in self.offers.reads
        has_attributes = options.generator is not None or options.attributes is not None
        self.reads_attributes = has_attributes and on_gallery(self.offers.attributes_on)
        self._description = self._describe(self.offers.attributes_on if has_attributes else None)

    def describe(self) -> WorkDescription:
        """What this work is."""
        return self._description

    def run(self, tasks: Iterable[Task]) -> Iterator[TaskResult]:
        """Do the tasks, in their order."""
        for encoded in self.encoder.encode(self._window(task) for task in tasks):
            yield self._result(encoded)

    def _describe(self, attributes_on: str | None) -> WorkDescription:
        options = self.options
        model = model_fingerprint(options.model)
        generator = None
        if options.generator is not None and self.writer is not None:
            generator = generator_fingerprint(options.generator, self.writer.generator)
        work = fingerprint(
            EMBEDDINGS,
            model,
            rendering_fingerprint(self.embedder.seller_attributes or "none"),
            options.dtype,
            options.scaled_jpeg,
            self.reads_attributes,
            # the attributes of a folder are in each row's own fingerprint
            [generator, options.max_new_tokens] if generator else options.attributes is not None,
        )
        return WorkDescription(
            kind=EMBEDDINGS,
            fingerprint=work,
            schema=schema(EMBEDDINGS, dimension=self.embedder.dimension, dtype=options.dtype),
            manifest={
                "model": {"path": absolute(options.model), "fingerprint": model},
                "generator": {"path": absolute(options.generator), "fingerprint": generator} if generator else None,
                "attributes_on": attributes_on,
                "seller_attributes": self.embedder.seller_attributes,
                "dimension": self.embedder.dimension,
                "dtype": options.dtype,
            },
            window=WINDOW_BATCHES * options.batch_size,
            reads_text="text" in self.offers.reads,
        )

    def _window(self, task: Task) -> Window:
        attributes, bad, lost_images = task.key_attributes, {}, {}
        if self.writer is not None:
            written = self.writer.write(task.offers)
            attributes = [written.key_attributes.get(place, KeyAttributes()) for place in range(len(task.offers))]
            bad, lost_images = dict(written.bad), dict(written.lost_images)
        places, offers = [], []
        for place, offer in enumerate(task.offers):
            if place in bad:
                continue
            read_offer = self.offers.readable_part(offer)
            read = attributes[place] if attributes is not None and self.reads_attributes else None
            if not read_offer.image and not self.embedder.text(read_offer, read or None):
                bad[place] = ("title", "is empty, and this model reads text alone")
                continue
            places.append(place)
            offers.append(read_offer)
        chosen = [attributes[place] for place in places] if attributes is not None else None
        return Window(
            offers, chosen if self.reads_attributes else None, _WindowContent(task, places, chosen, bad, lost_images)
        )

    def _result(self, encoded: EncodedWindow) -> TaskResult:
        chosen: _WindowContent = encoded.window.payload
        finite = np.isfinite(encoded.embeddings).all(axis=1)
        kept = [number for number in range(len(chosen.places)) if number not in encoded.bad and finite[number]]
        bad = dict(chosen.bad)
        for number, place in enumerate(chosen.places):
            if number in encoded.bad:
                bad[place] = _field_and_reason(encoded.bad[number])
            elif not finite[number]:
                bad[place] = ("embedding", "is not finite; the model or the row is damaged")
        lost_images = chosen.lost_images | {
            chosen.places[number]: reason for number, reason in encoded.lost_images.items()
        }
        lost_images = {place: reason for place, reason in lost_images.items() if place not in bad}
        attributes = chosen.key_attributes
        rows = record_batch(
            self._description.schema,
            imageless(chosen.task, lost_images),
            [chosen.places[number] for number in kept],
            self._description.fingerprint,
            [attributes[number] for number in kept] if attributes is not None else None,
            {"embedding": embedding_array(encoded.embeddings[kept], self.options.dtype)},
        )
        return TaskResult(chosen.task, rows, bad, lost_images)


def _field_and_reason(reason: str) -> tuple[str, str]:
    field, separator, rest = reason.partition(": ")
    return (field, rest) if separator and field == "embedding" else ("image", reason.removeprefix("image "))
