"""The encoder of offers: a model, a generator and fusion weights, as evaluation and search use them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from afmrl.attributes.attributes_on import ATTRIBUTES_ON, on_gallery, on_query
from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.attributes.seller_attributes import SellerAttributes, check_seller_attributes
from afmrl.data.offer import Offer
from afmrl.embedder.embedder import Embedder, Modality
from afmrl.errors import InputError
from afmrl.generator.generator import AttributeGenerator, open_generator
from afmrl.generator.prompt import check_embedder
from afmrl.retrieval.fusion import FusionWeights
from afmrl.retrieval.score_matrix import ComputedScores, DenseScores, ScoreMatrix

if TYPE_CHECKING:
    from PIL.Image import Image


def visible_part(offer: Offer, modality: Modality) -> Offer:
    """The offer with what `modality` leaves of it: "image" the image alone, "text" everything but the image.

    >>> visible_part(Offer("1", title="red dress", image="1.jpg"), "image").title
    ''
    """
    if modality == "text":
        return dataclasses.replace(offer, image="") if offer.image else offer
    if modality == "image":
        return dataclasses.replace(offer, title="", description="", attributes={})
    return offer


def trained_attributes_on(embedder: Embedder) -> str:
    """Whose text carried key attributes when the embedder was trained; "query" where it does not say."""
    return str(embedder.settings.get("attributes_on") or "query")


def check_options(attributes_on: str | None, batch_size: int, seller_attributes: str | None = None) -> None:
    """Refuse options before a model is loaded.

    Raises:
        InputError: an unknown `attributes_on` or `seller_attributes`, a batch of no offers.
    """
    check_seller_attributes(seller_attributes)
    if attributes_on not in (None, *ATTRIBUTES_ON):
        raise InputError(f"attributes_on {attributes_on!r}: one of {', '.join(ATTRIBUTES_ON)}")
    if batch_size < 1:
        raise InputError(f"batch_size={batch_size}: at least one offer a batch")


class OfferEncoder:
    """Turns offers into key attributes, embeddings and scores.

    Offers that read and look the same are embedded once, however often they are asked for.

    Args:
        embedder: the model.
        generator: writes key attributes; None: offers carry none.
        weights: of BM25 and colors beside the cosine; None: the cosine alone.
        attributes_on: whose text carries the generator's key attributes, for the embedder and for BM25: "query",
            "gallery", "both" or "none"; None: what the model was trained for, "query" if it does not say.
    """

    def __init__(
        self,
        embedder: Embedder,
        *,
        generator: AttributeGenerator | None = None,
        weights: FusionWeights | None = None,
        attributes_on: str | None = None,
        batch_size: int = 64,
        progress: bool = False,
    ) -> None:
        check_options(attributes_on, batch_size)
        self.embedder, self.generator, self.weights = embedder, generator, weights
        self.attributes_on = attributes_on or trained_attributes_on(embedder)
        self.batch_size, self.progress = batch_size, progress
        self._embeddings: dict[tuple[str, str], np.ndarray] = {}
        self._attributes: dict[tuple[str, str, str], KeyAttributes] = {}

    @classmethod
    def load(
        cls,
        model: str | Path,
        *,
        generator: str | Path | None = None,
        weights: FusionWeights | None = None,
        attributes_on: str | None = None,
        seller_attributes: SellerAttributes | None = None,
        batch_size: int = 64,
        progress: bool = False,
    ) -> OfferEncoder:
        """Load an embedder's folder or any sentence-transformers model, and a generator by its address.

        Args:
            seller_attributes: which of the sellers' attributes are read, by the embedder and as words; None: those that
                the embedder was trained with.

        Raises:
            InputError: an unknown option, or a model that does not load.
        """
        check_options(attributes_on, batch_size, seller_attributes)
        check_embedder(model)
        embedder = Embedder.from_pretrained(model, seller_attributes=seller_attributes)
        attributes_on = attributes_on or trained_attributes_on(embedder)
        return cls(
            embedder,
            generator=open_generator(generator) if generator is not None and attributes_on != "none" else None,
            weights=weights,
            attributes_on=attributes_on,
            batch_size=batch_size,
            progress=progress,
        )

    @property
    def reads(self) -> tuple[str, ...]:
        """The parts of an offer that the model reads: "text", "image" or both."""
        # a sentence-transformers model that names no modality reads text
        return tuple(part for part in ("text", "image") if self.embedder.model.supports(part))

    def can_read(self, offer: Offer) -> bool:
        """Whether the offer has a part that the model reads."""
        return bool(("image" in self.reads and offer.image) or ("text" in self.reads and self.embedder.text(offer)))

    def readable_part(self, offer: Offer) -> Offer:
        """The offer without an image where the model reads no images."""
        return offer if "image" in self.reads else visible_part(offer, "text")

    def attributes(self, offers: Sequence[Offer]) -> list[KeyAttributes] | None:
        """The generator's key attributes of each offer; None without a generator."""
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

    def query_attributes(self, queries: Sequence[Offer]) -> list[KeyAttributes] | None:
        """What a query's text carries; None where queries carry no key attributes."""
        return self.attributes(queries) if on_query(self.attributes_on) else None

    def gallery_attributes(self, gallery: Sequence[Offer]) -> list[KeyAttributes] | None:
        """What a gallery offer's text carries; None where the gallery carries no key attributes."""
        return self.attributes(gallery) if on_gallery(self.attributes_on) else None

    def embed(
        self,
        offers: Sequence[Offer],
        attributes: Sequence[KeyAttributes] | None = None,
        *,
        opened: Sequence[Image | None] | None = None,
    ) -> np.ndarray:
        """Embeddings of offers, with key attributes after their text.

        Args:
            opened: the offers' images where they are open already.

        Shape:
            returns (N, D) float32, rows of unit length.

        Raises:
            InputError: a model whose embedding of an offer is not finite.
        """
        offers = [self.readable_part(offer) for offer in offers]
        given = attributes or [KeyAttributes()] * len(offers)
        keys = [(self.embedder.text(o, a or None), o.image) for o, a in zip(offers, given, strict=True)]
        missing: dict[tuple[str, str], int] = {}
        for row, key in enumerate(keys):
            if key not in self._embeddings:
                missing.setdefault(key, row)
        if missing:
            rows = list(missing.values())
            made = self.embedder.encode(
                [offers[row] for row in rows],
                [given[row] for row in rows] if attributes else None,
                opened=[opened[row] for row in rows] if opened else None,
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

    def forget(self) -> None:
        """Let go of the embeddings and attributes that were made so far: a process that runs for months must."""
        self._embeddings.clear()
        self._attributes.clear()

    def scores(
        self,
        queries: Sequence[Offer],
        gallery: Sequence[Offer],
        *,
        query_modality: Modality = "fused",
        gallery_modality: Modality = "fused",
        passing: np.ndarray | None = None,
    ) -> ScoreMatrix:
        """Scores of queries against a gallery, each seen as its modality shows it.

        Attributes are written from what is seen, so a text query's from its text alone; a gallery of images alone
        carries none.

        Args:
            passing: (P,) gallery rows that are searched, see `FusionWeights.fuse_offers`; None: all rows.

        Shape:
            returns (Q, N), or (Q, P).
        """
        queries = [visible_part(offer, query_modality) for offer in queries]
        gallery = [visible_part(offer, gallery_modality) for offer in gallery]
        of_queries = self.query_attributes(queries)
        of_gallery = self.gallery_attributes(gallery) if gallery_modality != "image" else None
        rows = range(len(gallery)) if passing is None else passing.tolist()
        embeddings = self.embed([gallery[row] for row in rows], of_gallery and [of_gallery[row] for row in rows])
        dense = DenseScores(self.embedder.as_queries(self.embed(queries, of_queries)), embeddings)
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
                passing=passing,
                seller_attributes=self.embedder.seller_attributes,
            )

        return ComputedScores(len(queries), len(rows), fused)
