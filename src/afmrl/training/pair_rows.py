"""The training rows of AGCL: pairs of offers, whose texts and images are made when their mini-batch is embedded."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.data.offer import Offer
from afmrl.embedder.embedder import embedder_input
from afmrl.training.augmentation import augment, hue_of, is_active
from afmrl.training.batch_plan import TrainingPlan
from afmrl.training.config import AGCLStage
from afmrl.training.lazy_rows import lazy_rows

ANCHOR, CANDIDATE = 0, 1  # columns of a pair


class PairInputs:
    """What the embedder reads of a pair's offers, augmented as the config says.

    Everything random is seeded by run, draw (the pair's number) and column, so that it is the same both times that
    GradCache embeds it, and again when a run resumes.
    """

    def __init__(
        self,
        config: AGCLStage,
        offers: Sequence[Offer],
        attributes: Sequence[KeyAttributes],
        text_attributes: Sequence[KeyAttributes],
        batch_size: int,
    ) -> None:
        self.config, self.batch_size = config, batch_size
        self.offers, self.attributes, self.text_attributes = offers, attributes, text_attributes
        both = config.augment
        self.changes = [
            both,
            both if both.hide_candidates is None else both.model_copy(update={"hide_values": both.hide_candidates}),
        ]
        self.is_augmented = is_active(both)

    def make(self, row: int, with_attributes: bool, draw: int, column: int) -> Any:
        """The input of one offer."""
        offer, image, seed = self.offers[row], None, self.config.seed
        if self.is_augmented:
            changes, hue = self.changes[column], hue_of(self.config.augment, (seed, draw, 2))
            offer, image = augment(
                offer,
                self.attributes[row],
                changes,
                (seed, draw, 3 + column),
                batch_seeds=(seed, draw // self.batch_size),
                hue=hue,
            )
            with_attributes = with_attributes and hue is None  # the image shows another color than they name
        return embedder_input(offer, self._some(row, draw, column) if with_attributes else None, opened=image)

    def _some(self, row: int, draw: int, column: int) -> KeyAttributes:
        """The offer's attributes, a few left out as a generator leaves some out."""
        attributes, dropout = self.text_attributes[row], self.config.value_dropout
        if dropout <= 0:
            return attributes
        kept = np.random.default_rng((self.config.seed, draw, column)).random(len(attributes)) >= dropout
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
