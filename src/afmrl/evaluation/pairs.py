"""Duplicate detection among labeled pairs: precision and recall over all thresholds of the score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from afmrl.data.pairs import LabeledPair
from afmrl.retrieval.interval import Interval

HIGH_PRECISION = 0.99
CURVE_POINTS = 200


def evaluated_and_validation(pairs: Sequence[LabeledPair]) -> tuple[list[int], list[int]]:
    """Rows that are scored, and rows that the threshold is chosen on (none where nothing tells them apart).

    By `pair_split`: names that begin with "val" are validation, with "train" training (left out); all others ("test",
    a gold standard) are scored. Where no other is left the validation pairs are scored, and without them all.

    >>> from afmrl.data.offer import Offer
    >>> a = Offer("a")
    >>> evaluated_and_validation([LabeledPair(a, a, True, name) for name in ("train", "valid", "test")])
    ([2], [1])
    """
    names = [pair.split.lower() for pair in pairs]
    validation = [row for row, name in enumerate(names) if name.startswith("val")]
    scored = [row for row, name in enumerate(names) if not name.startswith(("val", "train"))]
    if scored:
        return scored, validation
    return (validation, []) if validation else (list(range(len(pairs))), [])


@dataclass(frozen=True)
class PairsResult:
    """How well a score tells duplicates from other pairs."""

    metrics: dict[str, Interval]
    """average_precision, best_f1, precision and recall at its threshold, recall@precision=0.99."""
    threshold: float
    """Score from which a pair counts as a duplicate, for best_f1."""
    threshold_from: str
    """"validation pairs", or "the same pairs": then best_f1 is the highest there is, and so too kind."""
    curve: list[tuple[float, float, float]]
    """(threshold, precision, recall) from the highest threshold down, thinned to 200 points."""
    num_pairs: int
    num_same: int


def score_pairs(
    scores: np.ndarray,
    same: np.ndarray,
    clusters: Sequence[str] | None = None,
    *,
    validation: tuple[np.ndarray, np.ndarray] | None = None,
    num_resamples: int = 2000,
) -> PairsResult:
    """Precision and recall of "score ≥ threshold" as "duplicate".

    - average_precision = Σ_n (R_n − R_{n−1}) P_n over the falling thresholds (scikit-learn's definition).
    - best_f1: F1 at the threshold of the highest F1 among the validation pairs; without them, of these same pairs.
    - recall@precision=0.99: the highest recall at any threshold whose precision is at least 0.99; 0 where none is.

    Intervals: percentile bootstrap over clusters of pairs. A threshold from validation pairs stays fixed; a best
    threshold of the same pairs, and that of recall@precision, are sought anew in each resample.

    Args:
        clusters: names of the pairs' left products (or left offers), drawn together.
        validation: (scores, same) of the pairs that the threshold is chosen on.

    Shape:
        scores (P,), same (P,) of 0 and 1; both kinds must be there.

    >>> result = score_pairs(np.array([0.9, 0.8, 0.3, 0.1]), np.array([1, 1, 0, 1]), num_resamples=10)
    >>> result.threshold, round(result.metrics["best_f1"].mean, 6)
    (0.1, 0.857143)
    """
    sweep = _Sweep(scores, same)
    chosen = _Sweep(*validation).best_threshold() if validation is not None else None
    point = sweep.metrics(np.ones(len(scores)), chosen)
    units = np.arange(len(scores)) if clusters is None else np.unique(np.asarray(clusters), return_inverse=True)[1]
    num_units = int(units.max()) + 1
    draw = np.random.default_rng(0)
    found: dict[str, list[float]] = {name: [] for name in point}
    for _ in range(num_resamples):
        times = np.bincount(draw.integers(num_units, size=num_units), minlength=num_units)
        for name, value in sweep.metrics(times[units].astype(np.float64), chosen).items():
            found[name].append(value)
    metrics = {
        name: Interval(value, *(float(end) for end in np.nanquantile(found[name], [0.025, 0.975])))
        for name, value in point.items()
    }
    return PairsResult(
        metrics,
        float(sweep.best_threshold() if chosen is None else chosen),
        "the same pairs" if chosen is None else "validation pairs",
        sweep.curve(),
        len(scores),
        int(np.sum(same)),
    )


class _Sweep:
    """All thresholds of a score at once; weights say how often each pair was drawn."""

    def __init__(self, scores: np.ndarray, same: np.ndarray) -> None:
        scores, same = np.asarray(scores, dtype=np.float64), np.asarray(same, dtype=np.float64)
        self.order = np.argsort(-scores, kind="stable")
        self.scores, self.same = scores[self.order], same[self.order]
        # equal scores cannot be told apart by a threshold: only the last of each group is one
        self.ends = np.flatnonzero(np.append(np.diff(self.scores) != 0, True))
        self.thresholds = self.scores[self.ends]

    def precision_recall(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(T,) precision and recall at each threshold, the highest first; NaN recall where no duplicate was drawn."""
        ours = weights[self.order]
        found = np.cumsum(ours * self.same)[self.ends]
        given = np.cumsum(ours)[self.ends]
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(given > 0, found / given, 1.0), found / found[-1]

    def metrics(self, weights: np.ndarray, threshold: float | None) -> dict[str, float]:
        precision, recall = self.precision_recall(weights)
        place = -1
        f1 = _f1(precision, recall)
        if threshold is None:
            place = int(np.nanargmax(f1)) if np.isfinite(f1).any() else 0
        else:
            place = int(np.searchsorted(-self.thresholds, -threshold, "right")) - 1
        high = recall[precision >= HIGH_PRECISION]
        return {
            "average_precision": float((np.diff(recall, prepend=0.0) * precision).sum()),
            "best_f1": float(f1[place]) if place >= 0 else 0.0,
            "precision": float(precision[place]) if place >= 0 else 1.0,
            "recall": float(recall[place]) if place >= 0 else 0.0,
            f"recall@precision={HIGH_PRECISION}": float(high.max()) if len(high) else 0.0,
        }

    def best_threshold(self) -> float:
        return float(self.thresholds[int(np.argmax(_f1(*self.precision_recall(np.ones(len(self.scores))))))])

    def curve(self) -> list[tuple[float, float, float]]:
        precision, recall = self.precision_recall(np.ones(len(self.scores)))
        places = np.unique(np.linspace(0, len(recall) - 1, min(CURVE_POINTS, len(recall))).round().astype(int))
        return [(float(self.thresholds[p]), float(precision[p]), float(recall[p])) for p in places]


def _f1(precision: np.ndarray, recall: np.ndarray) -> np.ndarray:
    total = precision + recall
    return np.asarray(2 * precision * recall / np.where(total > 0, total, 1.0))
