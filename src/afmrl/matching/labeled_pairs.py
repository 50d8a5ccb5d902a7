"""Labeled pairs: fit the pair model to them, calibrate it, choose the threshold, say how good it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np

from afmrl.data.pairs import LabeledPair
from afmrl.errors import InputError
from afmrl.interval import Interval
from afmrl.matching.features import FALLING
from afmrl.matching.pair_model import PairModel, Threshold, fit_pair_model
from afmrl.matching.probability import (
    ReliabilityRow,
    calibrated,
    precision_and_recall,
    reliability,
    threshold_for_precision,
)
from afmrl.matching.scorer import Scorer

FOLDS = 5
FEWEST = 10
"""Pairs of either kind below which labels only choose the threshold."""


AIMS = (0.99, 0.97, 0.95, 0.9)
"""Target precisions where none is asked for: a few wrong labels can put the highest out of reach."""
MIN_RECALL = 0.25


@dataclass(frozen=True)
class LabeledResult:
    """What labels gave."""

    model: PairModel
    threshold: Threshold
    num_train: int
    num_validation: int
    precision: Interval
    """At the threshold, on the test pairs (or, without any, out of fold on all)."""
    recall: Interval
    measured_on: str
    reliability: list[ReliabilityRow]


@dataclass(frozen=True)
class LabeledRows:
    """Labeled pairs as rows of a table.

    Shape:
        left, right (P,) rows; same (P,) bool; split P names: "train", "validation", "test" or "".
    """

    left: np.ndarray
    right: np.ndarray
    same: np.ndarray
    split: np.ndarray

    @classmethod
    def of(cls, pairs: Sequence[LabeledPair], rows: Mapping[str, int]) -> LabeledRows:
        """Pairs of offers whose rows are known."""
        splits = [
            "train" if name.startswith("train") else "validation" if name.startswith("val") else "test" if name else ""
            for name in (pair.split.lower() for pair in pairs)
        ]
        return cls(
            np.array([rows[pair.left.id] for pair in pairs], dtype=np.int64),
            np.array([rows[pair.right.id] for pair in pairs], dtype=np.int64),
            np.array([pair.same for pair in pairs], dtype=bool),
            np.array(splits),
        )


def learn_from_labels(scorer: Scorer, labels: LabeledRows, precision: float | None) -> LabeledResult:
    """Fit on the train pairs around the scorer's coefficients, calibrate and choose the threshold on validation pairs.

    Pairs without a split, and sets without train or validation pairs, are dealt into folds by their left offer: the
    threshold and the calibration are then chosen on what each fold's model says of pairs that it has not seen. Test
    pairs are only measured on.

    Args:
        precision: the target; None: the first of AIMS at which MIN_RECALL of the true pairs are still called the same,
            else the last.

    Raises:
        InputError: pairs of one kind alone, where both are needed.
    """
    features = scorer.compare(labels.left, labels.right)
    vetoed = scorer.of_features(features)[1]
    learns = labels.split != "test"
    if not labels.same[learns].any() or labels.same[learns].all():
        raise InputError(
            "labels: pairs of both kinds are needed to choose a threshold (label 1: same product, 0: not); "
            f"{int(labels.same[learns].sum())} of {int(learns.sum())} pairs outside the test split are labeled 1"
        )
    train, held = labels.split == "train", labels.split == "validation"
    if _enough(labels.same[train]) and _both(labels.same[held]):
        model = _fit(features.values[train], labels.same[train], scorer)
        logits, judged, num_train = model.logits(features.values), held, int(train.sum())
    else:
        logits = _out_of_fold(features.values, labels, learns, scorer)
        model = _fit(features.values[learns], labels.same[learns], scorer)
        logits[~learns] = model.logits(features.values[~learns])
        judged, num_train = learns, int(learns.sum())
    model = calibrated(model, logits[judged], labels.same[judged])
    for aim in AIMS if precision is None else (precision,):
        logit, reached = threshold_for_precision(logits[judged], labels.same[judged], vetoed[judged], aim)
        called = (logits >= logit) & ~vetoed
        of_judged = precision_and_recall(called[judged], labels.same[judged])
        if reached and of_judged[1].mean >= MIN_RECALL:
            break
    how = f"labels: precision {aim:g} on {int(judged.sum()):,} " + (
        "validation pairs" if judged is held else f"pairs in {FOLDS} folds"
    )
    if not reached:
        how += f" is not reached; the highest, {of_judged[0].mean:.3f}, was taken"
    if precision is None and aim != AIMS[0]:
        how += f"; at {AIMS[0]:g} too few of the true pairs are found, --precision {AIMS[0]:g} asks for it"
    test = labels.split == "test"
    measured = test if _both(labels.same[test]) else judged
    found = precision_and_recall(called[measured], labels.same[measured])
    return LabeledResult(
        model,
        Threshold(logit, how, *of_judged, reached),
        num_train,
        int(judged.sum()),
        *found,
        "test pairs" if measured is test else "the same pairs as the threshold",
        reliability(model.probabilities(logits[measured]), labels.same[measured]),
    )


def _fit(values: np.ndarray, same: np.ndarray, scorer: Scorer) -> PairModel:
    if not _enough(same):
        return scorer.model
    return fit_pair_model(values, same, scorer.model.features, scorer.model, falling=FALLING)


def _out_of_fold(values: np.ndarray, labels: LabeledRows, learns: np.ndarray, scorer: Scorer) -> np.ndarray:
    offers = scorer.table.offers
    folds = np.array([crc32(offers[row].id.encode("utf-8", "replace")) % FOLDS for row in labels.left])
    logits = np.zeros(len(values))
    for fold in range(FOLDS):
        others, ours = learns & (folds != fold), learns & (folds == fold)
        logits[ours] = _fit(values[others], labels.same[others], scorer).logits(values[ours])
    return logits


def _both(same: np.ndarray) -> bool:
    return bool(same.any() and not same.all())


def _enough(same: np.ndarray) -> bool:
    return int(same.sum()) >= FEWEST and int((~same).sum()) >= FEWEST
