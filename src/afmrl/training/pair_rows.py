"""The training rows of AGCL: pairs of offers, whose texts and images are made when their mini-batch is embedded."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.data.offer import Offer
from afmrl.embedder.embedder import Embedder
from afmrl.training.augmentation import augment, is_active
from afmrl.training.batch_plan import TrainingPlan
from afmrl.training.config import Augmentation
from afmrl.training.image_views import ImageViews
from afmrl.training.lazy_rows import lazy_rows

ANCHOR, CANDIDATE = 0, 1  # columns of a pair


class PairInputs:
    """What the embedder reads of a pair's offers, augmented as the recipe says.

    Everything random is seeded by run, draw (the pair's number) and column, so that it is the same both times that
    GradCache embeds it, and again when a run resumes.
    """

    def __init__(
        self,
        embedder: Embedder,
        offers: Sequence[Offer],
        attributes: Sequence[KeyAttributes],
        text_attributes: Sequence[KeyAttributes],
        batch_size: int,
        *,
        augmentation: Augmentation,
        value_dropout: float,
        seed: int,
        views: ImageViews | None = None,
    ) -> None:
        self.embedder = embedder
        self.batch_size, self.value_dropout, self.seed = batch_size, value_dropout, seed
        self.offers, self.attributes, self.text_attributes = offers, attributes, text_attributes
        both = augmentation
        self.changes = [
            both,
            both if both.hide_candidates is None else both.model_copy(update={"hide_values": both.hide_candidates}),
        ]
        self.is_augmented, self.views = is_active(both), views

    def make(self, row: int, with_attributes: bool, draw: int, column: int) -> Any:
        """The input of one offer."""
        offer, seed = self.offers[row], self.seed
        image: Any = self.views.draw(row, (seed, draw, 5 + column)) if self.views else None
        if self.is_augmented:
            offer, image = augment(
                offer,
                self.attributes[row],
                self.changes[column],
                (seed, draw, 3 + column),
                batch_seeds=(seed, draw // self.batch_size),
                made_image=image,
            )
        return self.embedder.input(offer, self._some(row, draw, column) if with_attributes else None, opened=image)

    def _some(self, row: int, draw: int, column: int) -> KeyAttributes:
        """The offer's attributes, a few left out as a generator leaves some out."""
        attributes, dropout = self.text_attributes[row], self.value_dropout
        if dropout <= 0:
            return attributes
        kept = np.random.default_rng((self.seed, draw, column)).random(len(attributes)) >= dropout
        return KeyAttributes(tuple(pair for pair, keep in zip(attributes, kept, strict=True) if keep))


def pair_rows(plan: TrainingPlan, inputs: PairInputs) -> Any:
    """A datasets.Dataset of the plan's pairs, in order: columns anchor, positive and label (row numbers of both)."""

    def make_later(rows: list[int], with_attributes: list[bool], draws: list[int], column: int) -> list[Any]:
        return [partial(inputs.make, *one, column) for one in zip(rows, with_attributes, draws, strict=True)]

    def render(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        return {
            "anchor": make_later(batch["anchor"], batch["anchor_attributes"], batch["draw"], ANCHOR),
            "positive": make_later(batch["candidate"], batch["candidate_attributes"], batch["draw"], CANDIDATE),
            "label": list(zip(batch["anchor"], batch["candidate"], strict=True)),
        }

    columns = {
        "anchor": plan.anchors,
        "candidate": plan.candidates,
        "anchor_attributes": plan.with_attributes[:, ANCHOR],
        "candidate_attributes": plan.with_attributes[:, CANDIDATE],
        "draw": np.arange(len(plan.anchors)),
    }
    return lazy_rows(columns, render)
