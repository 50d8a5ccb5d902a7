"""A system under evaluation: a model, a generator and fusion, or a floor, as one thing that scores queries."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np

from afmrl.attributes.attributes_on import ATTRIBUTES_ON, on_gallery, on_query
from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.data.offer import Offer
from afmrl.embedder.embedder import Embedder, Modality
from afmrl.embedder.text import embedder_text
from afmrl.errors import InputError
from afmrl.evaluation.ranking import DenseScores, Scores
from afmrl.retrieval.floors import Floor, floor_scores
from afmrl.retrieval.fusion import FusionWeights

if TYPE_CHECKING:
    from afmrl.generator.generator import AttributeGenerator

FLOOR_READS = {"tfidf": ("text",), "bm25": ("text",), "color": ("image",), "tfidf+color": ("text", "image")}
MATRIX_BYTES = 600_000_000  # of scores that are made at a time where they are no plain product


def shown(offer: Offer, modality: Modality) -> Offer:
    """The offer with what `modality` leaves of it: "image" the image alone, "text" everything but the image.

    >>> shown(Offer("1", title="red dress", image="1.jpg"), "image").title
    ''
    """
    if modality == "text":
        return dataclasses.replace(offer, image="") if offer.image else offer
    if modality == "image":
        return dataclasses.replace(offer, title="", description="", attributes={})
    return offer


class System:
    """What is evaluated. Offers that read and look the same are embedded once, however many tasks ask for them.

    Args:
        embedder: None for a floor.
        floor: "tfidf", "bm25", "color" or "tfidf+color".
        generator: writes key attributes that are embedded with the text.
        weights: of BM25 and colors beside the cosine.
        attributes_on: which side carries generated attributes.
    """

    def __init__(
        self,
        embedder: Embedder | None = None,
        *,
        floor: str = "",
        generator: AttributeGenerator | None = None,
        weights: FusionWeights | None = None,
        attributes_on: str = "query",
        batch_size: int = 64,
        progress: bool = False,
    ) -> None:
        self.embedder, self.floor, self.generator, self.weights = embedder, floor, generator, weights
        self.attributes_on, self.batch_size, self.progress = attributes_on, batch_size, progress
        self._embeddings: dict[tuple[str, str], np.ndarray] = {}
        self._attributes: dict[tuple[str, str, str], KeyAttributes] = {}

    @classmethod
    def load(
        cls,
        model: str | Path,
        *,
        generator: str | Path | None = None,
        fuse: bool = False,
        attributes_on: str | None = None,
        batch_size: int = 64,
        progress: bool = False,
    ) -> System:
        """Load a model: an embedder's folder, any sentence-transformers model, or a floor by its name.

        Args:
            attributes_on: "query", "gallery", "both" or "none"; None: what the model was trained for, "query" if it
                does not say.

        Raises:
            InputError: options that do not go together, or a model that does not load.
        """
        if attributes_on not in (None, *ATTRIBUTES_ON):
            raise InputError(f"attributes_on {attributes_on!r}: one of {', '.join(ATTRIBUTES_ON)}")
        if batch_size < 1:
            raise InputError(f"batch_size={batch_size}: at least one offer a batch")
        if str(model) in get_args(Floor):
            if fuse or generator is not None:
                raise InputError(
                    f"the floor {str(model)!r} reads no generated attributes and is not fused; leave them out"
                )
            return cls(floor=str(model), batch_size=batch_size, progress=progress)
        weights = FusionWeights.load(model) if fuse else None
        embedder = Embedder.from_pretrained(model)
        sides = attributes_on or (embedder.settings.get("attributes_on") if generator else None) or "query"
        writer = None
        if generator is not None and sides != "none":
            from afmrl.generator.generator import open_generator

            writer = open_generator(generator)
        return cls(
            embedder,
            generator=writer,
            weights=weights,
            attributes_on=sides,
            batch_size=batch_size,
            progress=progress,
        )

    @property
    def reads(self) -> tuple[str, ...]:
        """The parts of an offer that it reads: "text", "image" or both."""
        if self.embedder is None:
            return FLOOR_READS[self.floor]
        # a sentence-transformers model that names no modality reads text
        return tuple(part for part in ("text", "image") if self.embedder.model.supports(part))

    def sees(self, offer: Offer) -> bool:
        """Whether the offer has a part that the system reads."""
        return bool(("image" in self.reads and offer.image) or ("text" in self.reads and offer.title.strip()))

    def attributes(self, offers: Sequence[Offer]) -> list[KeyAttributes] | None:
        """The generator's key attributes of each offer, as shown; None without a generator."""
        if self.generator is None:
            return None
        prompt = self.generator.prompt  # what it does not show cannot make a difference; a schema is that of a category
        keys = [(prompt.text(offer), offer.image, offer.category if prompt.schema else "") for offer in offers]
        missing = {key: offer for key, offer in zip(keys, offers, strict=True) if key not in self._attributes}
        if missing:
            written = self.generator.attributes(
                list(missing.values()), batch_size=self.batch_size, **({"progress": True} if self.progress else {})
            )
            self._attributes.update(zip(missing, written, strict=True))
        return [self._attributes[key] for key in keys]

    def embed(self, offers: Sequence[Offer], attributes: Sequence[KeyAttributes] | None = None) -> np.ndarray:
        """Embeddings of offers as shown, with key attributes behind their text.

        Shape:
            returns (N, D) float32, rows of unit length.

        Raises:
            InputError: a floor embeds nothing; a model whose embedding of an offer is not finite.
        """
        if self.embedder is None:
            raise InputError(f"the floor {self.floor!r} has no embeddings")
        if "image" not in self.reads:
            offers = [shown(offer, "text") for offer in offers]
        given = attributes or [KeyAttributes()] * len(offers)
        keys = [(embedder_text(o, a or None), o.image) for o, a in zip(offers, given, strict=True)]
        missing: dict[tuple[str, str], int] = {}
        for row, key in enumerate(keys):
            if key not in self._embeddings:
                missing.setdefault(key, row)
        if missing:
            rows = list(missing.values())
            made = self.embedder.encode(
                [offers[row] for row in rows],
                [given[row] for row in rows] if attributes else None,
                batch_size=self.batch_size,
                progress=self.progress,
            )
            if not np.isfinite(made).all():
                bad = offers[rows[int(np.flatnonzero(~np.isfinite(made).all(axis=1))[0])]].id
                raise InputError(f"model: the embedding of offer {bad!r} is not finite; the model is damaged")
            self._embeddings.update(zip(missing, made, strict=True))
        if not keys:
            return np.empty((0, self.embedder.dimension), dtype=np.float32)
        return np.stack([self._embeddings[key] for key in keys])

    def scores(
        self,
        queries: Sequence[Offer],
        gallery: Sequence[Offer],
        *,
        query_modality: Modality = "fused",
        gallery_modality: Modality = "fused",
    ) -> Scores:
        """(Q, N) scores of queries against a gallery, each side as its modality shows it.

        Attributes are written from what is shown, so a text query's from its text alone; a gallery of images alone
        carries none.
        """
        queries = [shown(offer, query_modality) for offer in queries]
        gallery = [shown(offer, gallery_modality) for offer in gallery]
        if self.embedder is None:
            return _MadeScores(
                len(queries), gallery, lambda start, stop: floor_scores(queries[start:stop], gallery, self.floor)
            )
        attributes_on = self.attributes_on
        of_queries = self.attributes(queries) if on_query(attributes_on) else None
        of_gallery = self.attributes(gallery) if on_gallery(attributes_on) and gallery_modality != "image" else None
        dense = DenseScores(self.embed(queries, of_queries), self.embed(gallery, of_gallery))
        weights = self.weights
        if weights is None:
            return dense

        def fused(start: int, stop: int) -> np.ndarray:
            return weights.fuse_offers(
                dense.block(start, stop),
                queries[start:stop],
                gallery,
                of_queries[start:stop] if of_queries else None,
                of_gallery,
            )

        return _MadeScores(len(queries), gallery, fused)


class _MadeScores:
    """Scores that cost a pass over the gallery however few the queries: made for many queries at once."""

    def __init__(self, num_queries: int, gallery: Sequence[Offer], make: Callable[[int, int], np.ndarray]) -> None:
        self.num_queries, self.num_gallery = num_queries, len(gallery)
        self._make = make
        self._start, self._rows = 0, np.empty((0, self.num_gallery), dtype=np.float32)

    def block(self, start: int, stop: int) -> np.ndarray:
        if not self._start <= start <= stop <= self._start + len(self._rows):
            many = max(stop - start, MATRIX_BYTES // (4 * max(self.num_gallery, 1)))
            self._start, self._rows = start, self._make(start, min(start + many, self.num_queries))
        return np.array(self._rows[start - self._start : stop - self._start], dtype=np.float32)
