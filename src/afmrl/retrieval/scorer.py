"""What scores queries against a gallery: a model, or a floor without learning."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import numpy as np

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.attributes.seller_attributes import DEFAULT_SELLER_ATTRIBUTES, SellerAttributes
from afmrl.data.offer import Offer
from afmrl.embedder.embedder import Modality
from afmrl.embedder.packaged import PACKAGED
from afmrl.errors import InputError
from afmrl.retrieval.encoder import OfferEncoder, check_options, visible_part
from afmrl.retrieval.floors import Floor, floor_scores
from afmrl.retrieval.fusion import FusionWeights
from afmrl.retrieval.score_matrix import ComputedScores, ScoreMatrix

FLOOR_READS = {"tfidf": ("text",), "bm25": ("text",), "color": ("image",), "tfidf+color": ("text", "image")}


class FloorScorer:
    """A floor, with the methods of `OfferEncoder` that need no model.

    Args:
        floor: "tfidf", "bm25", "color" or "tfidf+color".
        seller_attributes: which of the sellers' attributes it reads.
    """

    attributes_on = "none"

    def __init__(self, floor: str, seller_attributes: SellerAttributes = DEFAULT_SELLER_ATTRIBUTES) -> None:
        self.floor, self.seller_attributes = floor, seller_attributes

    @property
    def reads(self) -> tuple[str, ...]:
        """The parts of an offer that it reads: "text", "image" or both."""
        return FLOOR_READS[self.floor]

    def can_read(self, offer: Offer) -> bool:
        """Whether the offer has a part that it reads."""
        return bool(("image" in self.reads and offer.image) or ("text" in self.reads and offer.title.strip()))

    def attributes(self, offers: Sequence[Offer]) -> list[KeyAttributes] | None:
        """None: a floor reads no key attributes."""
        return None

    def gallery_attributes(self, gallery: Sequence[Offer]) -> list[KeyAttributes] | None:
        """None: a floor reads no key attributes."""
        return None

    def scores(
        self,
        queries: Sequence[Offer],
        gallery: Sequence[Offer],
        *,
        query_modality: Modality = "fused",
        gallery_modality: Modality = "fused",
        passing: np.ndarray | None = None,
    ) -> ScoreMatrix:
        """(Q, N) scores of queries against a gallery, each seen as its modality shows it.

        Args:
            passing: (P,) gallery rows that are searched; frequencies of words are those of all rows. None: all rows.
        """
        queries = [visible_part(offer, query_modality) for offer in queries]
        gallery = [visible_part(offer, gallery_modality) for offer in gallery]

        def compute(start: int, stop: int) -> np.ndarray:
            scores = floor_scores(queries[start:stop], gallery, self.floor, seller_attributes=self.seller_attributes)
            return scores if passing is None else scores[:, passing]

        return ComputedScores(len(queries), len(gallery) if passing is None else len(passing), compute)


Scorer = OfferEncoder | FloorScorer


def load_scorer(
    model: str | Path,
    *,
    generator: str | Path | None = None,
    fuse: bool = False,
    attributes_on: str | None = None,
    seller_attributes: SellerAttributes | None = None,
    batch_size: int = 64,
    progress: bool = False,
) -> Scorer:
    """Load a model: an embedder's folder, any sentence-transformers model, or a floor by its name.

    Args:
        fuse: add BM25 and colors with the weights that the model learned.
        attributes_on: see `OfferEncoder`.
        seller_attributes: which of the sellers' attributes are read; None: those that the model was trained with.

    Raises:
        InputError: options that do not go together, or a model that does not load.
    """
    check_options(attributes_on, batch_size, seller_attributes)
    if str(model) in get_args(Floor):
        if fuse or generator is not None:
            raise InputError(f"the floor {str(model)!r} reads no generated attributes and is not fused; leave them out")
        return FloorScorer(str(model), seller_attributes or DEFAULT_SELLER_ATTRIBUTES)
    _refuse_misspelled(str(model))
    return OfferEncoder.load(
        model,
        generator=generator,
        weights=FusionWeights.load(model) if fuse else None,
        attributes_on=attributes_on,
        seller_attributes=seller_attributes,
        batch_size=batch_size,
        progress=progress,
    )


def _refuse_misspelled(model: str) -> None:
    """Name the floors where the model is no folder and reads like one of them, before a hub is asked for it."""
    known = (*get_args(Floor), *PACKAGED)
    near = difflib.get_close_matches(model.lower().replace("-", ""), known, 1, 0.7)
    if near and model not in known and not Path(model).exists():
        raise InputError(
            f"model {model!r}: no such folder; did you mean {near[0]!r}? Known by name: {', '.join(known)}"
        )
