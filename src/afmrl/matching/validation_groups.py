"""Validation products grouped among a catalog's candidates, by several models and thresholds: which groups best?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from afmrl.matching.group_quality import GroupQuality, SameProbability, bcubed_f1
from afmrl.matching.groups import group_offers
from afmrl.matching.labeled_pairs import KnownPairs
from afmrl.matching.pair_model import PairModel
from afmrl.matching.probability import calibrated
from afmrl.matching.scorer import Scorer

MAX_OFFERS = 4_000
"""Validation offers that groups are judged on; of more, whole products are drawn."""
GRID = tuple(np.arange(-3.0, 5.1, 0.5).tolist())
"""Logits that are tried as thresholds, beside the default one."""


@dataclass(frozen=True)
class GroupChoice:
    """The model and threshold of the best groups, and how good they are expected to be on validation products."""

    is_fitted: bool
    logit: float
    bcubed_f1: float
    default_bcubed_f1: float
    """Of the default model and threshold: what there is without labels."""
    is_default: bool
    """Whether it is the default model and threshold."""


class RememberedScores:
    """Scores of pairs by one model; each pair is scored once, however often groups ask for it."""

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer
        self._codes = np.empty(0, np.int64)
        self._logits, self._vetoed = np.empty(0, np.float32), np.empty(0, bool)

    def __call__(self, left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Logits and vetoes.

        Shape:
            left, right (P,) rows; returns (P,), (P,).
        """
        count = np.int64(len(self.scorer.table))
        codes = np.minimum(left, right).astype(np.int64) * count + np.maximum(left, right)
        new = np.setdiff1d(codes, self._codes)
        if len(new):
            scores = self.scorer.score(new // count, new % count)
            order = np.argsort(np.concatenate([self._codes, new]), kind="stable")
            self._codes = np.concatenate([self._codes, new])[order]
            self._logits = np.concatenate([self._logits, scores.logits])[order]
            self._vetoed = np.concatenate([self._vetoed, scores.vetoed])[order]
        places = np.searchsorted(self._codes, codes)
        return self._logits[places], self._vetoed[places]


class ValidationPart:
    """Validation offers, and a fitted model that has seen no label of theirs.

    Args:
        probability: how likely pairs are the same product where labels do not say it.
        default, fitted: scores by the default model, and by the fitted one.

    Shape:
        offers (V,) rows; left, right (P,) rows of the catalog's candidates.
    """

    def __init__(
        self,
        offers: np.ndarray,
        known: KnownPairs,
        probability: SameProbability,
        default: RememberedScores,
        fitted: RememberedScores,
        left: np.ndarray,
        right: np.ndarray,
    ) -> None:
        measured, near = np.zeros((2, len(known.products)), dtype=bool)
        measured[offers] = True
        touching = measured[left] | measured[right]
        near[offers] = True
        near[left[touching]] = near[right[touching]] = True
        # groups of the offers and their neighbors: of the rest of a large catalog they know nothing
        inside = near[left] & near[right]
        self.left, self.right = left[inside], right[inside]
        self._touching = touching[inside]
        self.quality = GroupQuality(offers, known, probability, left[touching], right[touching])
        self._scores = (default, fitted)

    def bcubed(self, is_fitted: bool, logit: float) -> tuple[np.ndarray, np.ndarray]:
        """Precision and recall of every offer, grouped from this logit on."""
        score = self._scores[is_fitted]
        logits, vetoed = score(self.left, self.right)
        count = len(score.scorer.table)
        groups = group_offers(count, self.left, self.right, logits, vetoed, threshold=logit, score=score)
        return self.quality.of(groups)

    def calibration_pairs(self, is_fitted: bool) -> tuple[np.ndarray, np.ndarray]:
        """Logits of the offers' candidates, and how likely each is the same product."""
        left, right = self.left[self._touching], self.right[self._touching]
        return self._scores[is_fitted](left, right)[0], self.quality.same(left, right)


class ValidationGroups:
    """Parts of the validation offers, each with its own fitted model: one, or one a fold.

    Args:
        default_logit: the default threshold.
    """

    def __init__(self, parts: Sequence[ValidationPart], known: KnownPairs, default_logit: float) -> None:
        self.parts = parts
        self._products = known.products[np.concatenate([part.quality.offers for part in parts])]
        self._default = (False, default_logit)
        self._found: dict[tuple[bool, float], tuple[np.ndarray, np.ndarray]] = {}

    def best(self) -> GroupChoice:
        """The best of GRID and the default threshold, for the default and the fitted model.

        The fitted model is taken where it is better than the default model by more than one standard error of the
        difference, at the best threshold of each; so is another threshold instead of the default one.
        """
        options = [(is_fitted, logit) for is_fitted in (False, True) for logit in (self._default[1], *GRID)]
        f1, drawn = self._f1(options)
        by_default, half = int(np.argmax(f1[: len(options) // 2])), len(options) // 2
        by_fitted = half + int(np.argmax(f1[half:]))
        best = by_fitted if _is_better(f1, drawn, by_fitted, by_default) else by_default
        if not _is_better(f1, drawn, best, 0):
            best = 0
        return GroupChoice(*options[best], float(f1[best]), float(f1[0]), best == 0)

    def at(self, is_fitted: bool, logit: float) -> GroupChoice:
        """A threshold that was chosen otherwise."""
        f1, _ = self._f1([self._default, (is_fitted, logit)])
        return GroupChoice(is_fitted, logit, float(f1[1]), float(f1[0]), False)

    def calibrated(self, model: PairModel, is_fitted: bool) -> PairModel:
        """The model, its probabilities calibrated on the candidates of the validation offers."""
        pairs = [part.calibration_pairs(is_fitted) for part in self.parts]
        logits, same = (np.concatenate([of[end] for of in pairs]) for end in (0, 1))
        return calibrated(model, logits, same) if len(logits) and 0 < same.sum() < len(same) else model

    def _f1(self, options: Sequence[tuple[bool, float]]) -> tuple[np.ndarray, np.ndarray]:
        for option in options:
            if option not in self._found:
                of_parts = [part.bcubed(*option) for part in self.parts]
                self._found[option] = (
                    np.concatenate([precision for precision, _ in of_parts]),
                    np.concatenate([recall for _, recall in of_parts]),
                )
        precision, recall = (np.stack([self._found[option][end] for option in options]) for end in (0, 1))
        return bcubed_f1(precision, recall, self._products)


def drawn_offers(offers: np.ndarray, known: KnownPairs, most: int = MAX_OFFERS) -> np.ndarray:
    """Offers, or about `most` of them, in whole products."""
    if len(offers) <= most:
        return offers
    products = np.unique(known.products[offers])
    drawn = np.random.default_rng(0).permutation(products)
    rank = np.empty(len(products), dtype=np.int64)
    rank[np.searchsorted(products, drawn)] = np.arange(len(products))
    of_offer = rank[np.searchsorted(products, known.products[offers])]
    sizes = np.bincount(of_offer, minlength=len(products))
    last = int(np.searchsorted(np.cumsum(sizes), most))
    return offers[of_offer <= last]


def _is_better(f1: np.ndarray, drawn: np.ndarray, one: int, other: int) -> bool:
    """By more than one standard error of the difference, over resampled products."""
    return bool(f1[one] - f1[other] > (drawn[:, one] - drawn[:, other]).std())
