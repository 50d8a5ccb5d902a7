"""What labels teach: whether to fit the pair model to them, how to calibrate it, which threshold to use.

Labels never hurt: the default model and threshold stay unless validation products say that others group better.
"""

from __future__ import annotations

from dataclasses import dataclass
from zlib import crc32

import numpy as np

from afmrl.errors import InputError
from afmrl.matching.features import FALLING, PairFeatures
from afmrl.matching.guarantee import fewest_observations
from afmrl.matching.labeled_pairs import MAX_PAIRS, KnownPairs, LabeledRows
from afmrl.matching.pair_model import DefaultModel, PairModel, Threshold, fit_pair_model
from afmrl.matching.probability import ReliabilityRow, calibrated, reliability
from afmrl.matching.scorer import Scorer
from afmrl.matching.threshold_aim import CurvePoint, JudgedPairs, ThresholdAim, cost_of, logit_of
from afmrl.matching.validation_groups import (
    MAX_OFFERS,
    GroupChoice,
    RememberedScores,
    ValidationGroups,
    ValidationPart,
    drawn_offers,
)
from afmrl.retrieval.interval import Interval

FOLDS = 5
FEWEST = 10
"""Pairs of either kind below which the model is not fitted."""
FEW_FOUND = 0.25
"""Recall below which the command says what the precision that was asked for costs."""


@dataclass(frozen=True)
class LabeledResult:
    """What labels gave."""

    model: PairModel
    threshold: Threshold
    groups: GroupChoice
    """How good the groups are on validation products, with this threshold and by default."""
    num_train: int
    num_validation: int
    precision: Interval
    """At the threshold, on the test pairs (or, without any, on the validation pairs)."""
    recall: Interval
    measured_on: str
    reliability: list[ReliabilityRow]
    curve: list[CurvePoint]
    """On the validation pairs."""
    chosen: CurvePoint
    """The threshold on the validation pairs."""
    notes: list[str]


def learn_from_labels(
    scorer: Scorer,
    labels: LabeledRows,
    candidates: tuple[np.ndarray, np.ndarray],
    default: DefaultModel,
    aim: ThresholdAim | None = None,
) -> LabeledResult:
    """Fit around the scorer's coefficients on train pairs; choose model and threshold on validation products.

    The default and the fitted model group the validation products among the catalog's candidates, at several
    thresholds. The best by expected B-cubed F1 is taken, and the default stays unless the best is better by more than
    one standard error of the difference. Labeled pairs by themselves cannot choose: they are those that somebody found
    worth labeling, and hold more matches than the candidates do.

    Pairs without a split, and sets without train or validation pairs, are dealt into folds by their products. Test
    pairs are only measured on.

    Args:
        scorer: with the default model.
        default: its threshold, and what vetoed pairs were seen to be.
        aim: how to choose the threshold instead; the model is still the one of the better groups.

    Shape:
        candidates: (P,), (P,) rows.

    Raises:
        InputError: pairs of one kind alone.
    """
    aim = aim or ThresholdAim()
    learns = labels.split != "test"
    if not _both(labels.same[learns]):
        raise InputError(
            "labels: pairs of both kinds are needed to choose a threshold (label 1: same product, 0: not); "
            f"{int(labels.same[learns].sum())} of {int(learns.sum())} pairs outside the test split are labeled 1"
        )
    features = scorer.compare(labels.left, labels.right)
    known = KnownPairs(labels, len(scorer.table))
    by_default = RememberedScores(scorer)
    cautious = _known_calibration(by_default, known, candidates)

    def probability(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        logits, vetoed = by_default(left, right)
        found = np.minimum(scorer.model.probabilities(logits), cautious.probabilities(logits))
        return np.where(vetoed, np.minimum(found, default.max_vetoed_probability), found)

    def fitted(rows: np.ndarray) -> PairModel:
        same = labels.same[rows]
        if not _enough(same):
            return scorer.model
        return fit_pair_model(features.values[rows], same, scorer.model.features, scorer.model, falling=FALLING)

    train, held = labels.split == "train", labels.split == "validation"
    if _enough(labels.same[train]) and _both(labels.same[held]):
        model, num_train = fitted(train), int(train.sum())
        dealt = [(_offers(labels, held, "validation"), train, held)]
    else:
        model, num_train = fitted(learns), int(learns.sum())
        dealt = _folds(scorer, labels, learns, known)
    parts, judged_by = [], []
    for offers, taught, held in dealt:
        of_part = scorer.with_model(model if len(dealt) == 1 else fitted(taught))
        offers = drawn_offers(offers, known, MAX_OFFERS // len(dealt))
        by_fitted = RememberedScores(of_part)
        parts.append(ValidationPart(offers, known, probability, by_default, by_fitted, *candidates))
        judged_by.append((held, of_part))
    groups = ValidationGroups(parts, known, default.threshold.logit)
    choice = groups.best()
    if aim.confidence is not None and len(dealt) > 1:
        # a promise holds for the very scores that it was made on: each fold has a fitted model of its own
        choice = groups.at(False, default.threshold.logit)
    judged = JudgedPairs.joined(
        [_judged(of_part if choice.is_fitted else scorer, features, labels, rows) for rows, of_part in judged_by]
    )
    model = groups.calibrated(model if choice.is_fitted else scorer.model, choice.is_fitted)
    asked, reached = choice.logit, True
    if aim.probability is not None:
        asked = logit_of(model, aim.probability)
    elif aim.asked:
        asked, reached = judged.threshold(aim)
    if aim.asked:
        choice = groups.at(choice.is_fitted, asked)
    point = judged.point(asked)
    test = labels.split == "test"
    measured = _judged(scorer.with_model(model), features, labels, test) if _both(labels.same[test]) else judged
    on_measured = measured.point(asked)
    pairs = f"{len(judged.same):,} " + ("validation pairs" if len(dealt) == 1 else f"pairs in {FOLDS} folds")
    origin, notes = _origin(aim, choice, point, reached, pairs), []
    if aim.precision is not None and point.recall.mean < FEW_FOUND:
        notes.append(cost_of(judged, point, aim))
    return LabeledResult(
        model,
        Threshold(asked, origin, point.precision, point.recall, reached),
        choice,
        num_train,
        len(judged.same),
        on_measured.precision,
        on_measured.recall,
        "the same pairs as the threshold" if measured is judged else "test pairs",
        reliability(model.probabilities(measured.logits), measured.same),
        judged.curve(),
        point,
        notes,
    )


def _known_calibration(
    by_default: RememberedScores, known: KnownPairs, candidates: tuple[np.ndarray, np.ndarray]
) -> PairModel:
    """The default model, calibrated on the candidates that labels say something of.

    Labeled pairs hold more matches than others, so this is believed only where it is below the default probability: in
    a catalog whose labels tell more products apart than the default model knows to.
    """
    left, right = candidates
    same = known.of(left, right)
    places = np.flatnonzero(~np.isnan(same))
    if len(places) > MAX_PAIRS:
        places = np.sort(np.random.default_rng(0).choice(places, MAX_PAIRS, replace=False))
    logits, vetoed = by_default(left[places], right[places])
    same = same[places][~vetoed]
    model = by_default.scorer.model
    return calibrated(model, logits[~vetoed], same) if _enough(same > 0) else model


def _offers(labels: LabeledRows, pairs: np.ndarray, split: str) -> np.ndarray:
    """Rows of the offers of some labeled pairs, or of the labeled products of a split; "": of all but test."""
    if labels.products is None or labels.product_splits is None:
        return np.unique(np.concatenate([labels.left[pairs], labels.right[pairs]]))
    ours = labels.product_splits == split if split else labels.product_splits != "test"
    return np.flatnonzero(ours & (labels.products >= 0))


def _folds(
    scorer: Scorer, labels: LabeledRows, learns: np.ndarray, known: KnownPairs
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Of each fold: its offers, the pairs of no offer of it, and the pairs that it judges."""
    first = np.unique(known.products, return_index=True, return_inverse=True)
    ids = [scorer.table.offers[row].id for row in first[1].tolist()]
    # by what an offer is, not by its place: the order of a file changes nothing
    fold = np.array([crc32(identifier.encode("utf-8", "replace")) % FOLDS for identifier in ids])[first[2]]
    left, right = fold[labels.left], fold[labels.right]
    offers = _offers(labels, learns, "")
    dealt = []
    for number in range(FOLDS):
        ours = offers[fold[offers] == number]
        if len(ours):
            judged = learns & (np.minimum(left, right) == number)
            dealt.append((ours, learns & (left != number) & (right != number), judged))
    return dealt


def _judged(scorer: Scorer, features: PairFeatures, labels: LabeledRows, rows: np.ndarray) -> JudgedPairs:
    logits, vetoed, _ = scorer.of_features(features.at(rows))
    return JudgedPairs(logits, labels.same[rows], vetoed, labels.left[rows], labels.right[rows])


def _origin(aim: ThresholdAim, choice: GroupChoice, point: CurvePoint, reached: bool, pairs: str) -> str:
    """Where a threshold comes from, in words."""
    if aim.probability is not None:
        return f"--threshold {aim.probability:g}"
    if not aim.asked:
        if choice.is_default:
            return (
                "labels: the default model and threshold, with probabilities as the labels calibrate them; no other "
                f"groups validation products better (B-cubed F1 {choice.bcubed_f1:.3f})"
            )
        model = "fitted" if choice.is_fitted else "default"
        return (
            f"labels: the best groups of validation products, by the {model} model (B-cubed F1 {choice.bcubed_f1:.3f}, "
            f"without labels {choice.default_bcubed_f1:.3f})"
        )
    option, value = next(iter(aim.asked.items()))
    if aim.best_f1:
        return f"labels: the highest F1 on {pairs}"
    origin = f"labels: {option.strip('-')} {value:g} on {pairs}"
    if aim.confidence is not None and aim.precision is not None:
        sure = f"{aim.confidence:.0%}".replace("%", " %")
        if reached:
            return f"{origin}, for pairs to come too with {sure} confidence"
        fewest = fewest_observations(aim.precision, aim.confidence)
        return (
            f"{origin} cannot be promised with {sure} confidence, so only an equal GTIN makes two offers the same; it "
            f"takes {fewest:,} pairs of different offers without a wrong one among the surest, or more with a few"
        )
    if not reached:
        highest = point.precision if aim.precision is not None else point.recall
        origin += f" is not reached; the highest, {highest.mean:.3f}, was taken"
    return origin


def _both(same: np.ndarray) -> bool:
    return bool(same.any() and not same.all())


def _enough(same: np.ndarray) -> bool:
    return int(same.sum()) >= FEWEST and int((~same).sum()) >= FEWEST
