"""From scores to probabilities: Platt scaling, precision and recall, reliability."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from afmrl.matching.pair_model import PairModel
from afmrl.retrieval.interval import Interval

BINS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)


@dataclass(frozen=True)
class ReliabilityRow:
    """Pairs whose probability lies in one bin."""

    low: float
    high: float
    num_pairs: int
    mean_probability: float
    share_same: Interval


def calibrated(model: PairModel, logits: np.ndarray, same: np.ndarray) -> PairModel:
    """Platt scaling (1999) on pairs that the coefficients were not fitted on, with his smoothed targets.

    Shape:
        logits (P,); same (P,) 0 or 1, or how likely a pair is the same product.
    """
    from sklearn.linear_model import LogisticRegression

    num_same = float(np.sum(same))
    num_other = len(same) - num_same
    high, low = (num_same + 1) / (num_same + 2), 1 / (num_other + 2)
    target = low + np.asarray(same, dtype=np.float64) * (high - low)
    inputs = np.concatenate([logits, logits])[:, None]
    weights = np.concatenate([target, 1 - target])
    fitted = LogisticRegression(C=1e6, max_iter=1000).fit(inputs, np.repeat([1, 0], len(logits)), sample_weight=weights)
    slope = float(fitted.coef_[0, 0])
    if slope <= 0:  # scores that say nothing: every pair has the same probability
        return replace(model, slope=1e-6, offset=float(np.log((num_same + 1) / (num_other + 1))))
    return replace(model, slope=slope, offset=float(fitted.intercept_[0]))


def precision_and_recall(called: np.ndarray, same: np.ndarray) -> tuple[Interval, Interval]:
    """Of labeled pairs, with Wilson's 95 % intervals (1927)."""
    true = int(np.sum(called & (np.asarray(same) > 0)))
    return wilson(true, int(np.sum(called))), wilson(true, int(np.sum(same)))


def wilson(successes: int, trials: int) -> Interval:
    """A share and its 95 % interval, right for small numbers too.

    >>> print(wilson(9, 10))
    0.900 [0.596, 0.982]
    """
    if not trials:
        return Interval(float("nan"), 0.0, 1.0)
    z = 1.959964
    share = successes / trials
    middle = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * np.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    return Interval(share, max(0.0, float(middle - half)), min(1.0, float(middle + half)))


def reliability(probabilities: np.ndarray, same: np.ndarray, bins: Sequence[float] = BINS) -> list[ReliabilityRow]:
    """How often pairs of about one probability are the same product; bins without pairs are left out."""
    places = np.clip(np.searchsorted(bins, probabilities, side="right") - 1, 0, len(bins) - 2)
    rows = []
    for place in range(len(bins) - 1):
        inside = places == place
        if inside.any():
            true = int(np.asarray(same)[inside].sum())
            rows.append(
                ReliabilityRow(
                    bins[place], bins[place + 1], int(inside.sum()), float(probabilities[inside].mean()),
                    wilson(true, int(inside.sum())),
                )
            )  # fmt: skip
    return rows
