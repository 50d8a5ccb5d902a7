"""B-cubed precision and recall of a grouping (Bagga & Baldwin 1998; Amigó et al. 2009)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def bcubed(
    groups: Sequence[object] | np.ndarray, products: Sequence[object] | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Precision and recall of every offer; their means over offers are B-cubed precision and recall.

    Shape:
        groups, products (N,); returns (N,), (N,).

    >>> precision, recall = bcubed([1, 1, 2], ["p", "p", "p"])
    >>> precision.tolist(), recall.round(3).tolist()
    ([1.0, 1.0, 1.0], [0.667, 0.667, 0.333])
    """
    ours = np.unique(np.asarray(groups), return_inverse=True)[1]
    truth = np.unique(np.asarray(products), return_inverse=True)[1]
    _, both, together = np.unique(
        ours.astype(np.int64) * (truth.max() + 1) + truth, return_inverse=True, return_counts=True
    )
    shared = together[both].astype(np.float64)
    return shared / np.bincount(ours)[ours], shared / np.bincount(truth)[truth]


def bcubed_f1(precision: np.ndarray, recall: np.ndarray) -> float:
    """The harmonic mean of mean precision and mean recall."""
    p, r = float(np.mean(precision)), float(np.mean(recall))
    return 2 * p * r / (p + r) if p + r else 0.0
