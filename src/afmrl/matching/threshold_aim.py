"""What a threshold on labeled pairs should reach, and the curve of precision and recall that it is a point of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from afmrl.errors import InputError
from afmrl.matching.guarantee import guaranteed_count
from afmrl.matching.pair_model import PairModel
from afmrl.matching.probability import precision_and_recall
from afmrl.matching.scorer import SURE
from afmrl.retrieval.interval import Interval

CURVE_POINTS = 40


@dataclass(frozen=True)
class ThresholdAim:
    """How the threshold is chosen; none of these: by the quality of groups on validation products."""

    precision: float | None = None
    """The lowest score from which this share of the validation pairs called the same is."""
    recall: float | None = None
    """The highest score from which this share of the validation pairs that are the same is found."""
    best_f1: bool = False
    """The score of the highest F1 on validation pairs."""
    probability: float | None = None
    """This probability, whatever labels say."""
    confidence: float | None = None
    """With `precision`: the precision is to hold for pairs to come with this confidence."""

    def __post_init__(self) -> None:
        asked = self.asked
        if len(asked) > 1:
            raise InputError(f"{' and '.join(asked)} exclude each other; give one")
        for option in ("--precision", "--recall"):
            share = asked.get(option)
            if share is not None and not 0 < share <= 1:
                raise InputError(f"{option} {share:g}: a share above 0, up to 1")
        if self.confidence is not None and self.precision is None:
            raise InputError("--confidence says how sure a precision is; give --precision too")
        if self.confidence is not None and not 0 < self.confidence < 1:
            raise InputError(f"--confidence {self.confidence:g}: a probability above 0 and below 1, such as 0.95")
        if self.confidence is not None and self.precision == 1:
            raise InputError("--precision 1: no labels can show that no pair is ever wrong; give less, such as 0.99")
        if self.probability is not None and not 0 < self.probability < 1:
            raise InputError(f"--threshold {self.probability:g}: a probability above 0 and below 1")

    @property
    def asked(self) -> Mapping[str, Any]:
        """Option → value, of what was asked for."""
        options = {
            "--precision": self.precision, "--recall": self.recall, "--best-f1": self.best_f1 or None,
            "--threshold": self.probability,
        }  # fmt: skip
        return {option: value for option, value in options.items() if value is not None}

    @property
    def needs_labels(self) -> bool:
        """Whether there is no such threshold without labels."""
        return bool(self.asked) and self.probability is None


@dataclass(frozen=True)
class CurvePoint:
    """Precision and recall of calling pairs the same from one score on."""

    logit: float
    precision: Interval
    recall: Interval
    num_found: int
    """Pairs that are the same product and are called so."""


@dataclass(frozen=True)
class JudgedPairs:
    """Labeled pairs that the scores were not fitted on.

    Shape:
        logits (P,); same, vetoed (P,) bool; left, right (P,) rows of their offers.
    """

    logits: np.ndarray
    same: np.ndarray
    vetoed: np.ndarray
    left: np.ndarray
    right: np.ndarray

    @classmethod
    def joined(cls, parts: Sequence[JudgedPairs]) -> JudgedPairs:
        """The pairs of several parts."""
        return cls(*(np.concatenate([getattr(of, column.name) for of in parts]) for column in fields(cls)))

    def point(self, logit: float) -> CurvePoint:
        """What a threshold gives on these pairs."""
        called = (self.logits >= logit) & ~self.vetoed
        return CurvePoint(logit, *precision_and_recall(called, self.same), int((called & self.same).sum()))

    def threshold(self, aim: ThresholdAim) -> tuple[float, bool]:
        """The logit that an aim of precision, recall or F1 leads to, and whether it is reached; else the nearest to it.

        >>> same, rows = np.array([True, True, False, True]), np.arange(4)
        >>> pairs = JudgedPairs(np.array([4.0, 3, 2, 1]), same, np.zeros(4, bool), rows, rows + 4)
        >>> [pairs.threshold(aim)[0] for aim in (ThresholdAim(precision=0.9), ThresholdAim(recall=0.9))]
        [2.5, 0.5]
        """
        order = self._order()
        ends, logits, found = self._steps(order)
        if not len(ends):
            return SURE, False  # all are vetoed: nothing is the same but for an equal GTIN
        if aim.precision is not None and aim.confidence is not None:
            left, right, same = self.left[order], self.right[order], self.same[order]
            count = guaranteed_count(left, right, same, ends + 1, aim.precision, aim.confidence)
            # where nothing is sure, only equal GTINs are
            return (float(logits[np.searchsorted(ends + 1, count)]), True) if count else (SURE, False)
        precision, recall = found / (ends + 1), found / max(int(self.same.sum()), 1)
        if aim.precision is not None:
            reached = np.flatnonzero(precision >= aim.precision)
            place = int(reached[-1]) if len(reached) else int(np.argmax(precision))
        elif aim.recall is not None:
            reached = np.flatnonzero(recall >= aim.recall)
            place = int(reached[0]) if len(reached) else int(np.argmax(recall))
        else:
            place = int(np.argmax(2 * found / (ends + 1 + max(int(self.same.sum()), 1))))
            reached = np.array([place])
        return float(logits[place]), bool(len(reached))

    def curve(self) -> list[CurvePoint]:
        """Points of about equal steps of recall, the surest first."""
        ends, logits, found = self._steps(self._order())
        if not len(ends):
            return []
        steps = np.unique(np.linspace(1, max(found[-1], 1), CURVE_POINTS).round())
        # the last threshold that finds so many, and no more pairs of other products than it must
        places = np.unique(np.minimum(np.searchsorted(found, steps), len(found) - 1))
        return [self.point(float(logits[place])) for place in places]

    def _order(self) -> np.ndarray:
        """Pairs that no veto keeps apart, the surest first."""
        kept = np.flatnonzero(~self.vetoed)
        return kept[np.argsort(-self.logits[kept], kind="stable")]

    def _steps(self, order: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Every threshold that tells pairs apart: pairs above it less one, the logit, and how many are the same.

        A threshold is halfway to the next pair: neither of the two is more sure than that.
        """
        ours, true = self.logits[order].astype(np.float64), self.same[order]
        ends = np.flatnonzero(np.append(np.diff(ours) != 0, True)) if len(ours) else np.empty(0, np.int64)
        below = np.append(ours, ours[-1:] - 1)[ends + 1] if len(ours) else ours
        return ends, (ours[ends] + below) / 2, np.cumsum(true)[ends]


def logit_of(model: PairModel, probability: float) -> float:
    """The score of a calibrated probability."""
    return float((np.log(probability / (1 - probability)) - model.offset) / max(model.slope, 1e-9))


def cost_of(pairs: JudgedPairs, chosen: CurvePoint, aim: ThresholdAim) -> str:
    """What a high precision costs, in one line.

    Args:
        chosen: where the aim led.
    """
    total = int(pairs.same.sum())
    parts = [f"at precision {aim.precision:g}: {chosen.num_found:,} of {total:,} same-product pairs found"]
    for lower in (0.97, 0.95, 0.9, 0.8):
        logit, reached = pairs.threshold(replace(aim, precision=lower))
        point = pairs.point(logit)
        if reached and aim.precision is not None and lower < aim.precision and point.num_found > chosen.num_found:
            parts.append(f"at {lower:g}: {point.num_found:,}")
    best = pairs.point(pairs.threshold(ThresholdAim(best_f1=True))[0])
    parts.append(
        f"at the best F1: {best.num_found:,}, with precision {best.precision.mean:.2f} (--best-f1); without an option "
        "the best groups are looked for"
    )
    return "; ".join(parts)
