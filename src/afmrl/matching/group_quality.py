"""How good groups are on offers whose products are known in part: B-cubed, pairs that nobody knows by probability."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from afmrl.matching.labeled_pairs import KnownPairs

RESAMPLES = 300
SameProbability = Callable[[np.ndarray, np.ndarray], np.ndarray]


class GroupQuality:
    """B-cubed precision and recall (Bagga & Baldwin 1998) that groups are expected to have on some offers.

    A pair counts as labels say; one that they say nothing of counts by its probability. Leaving it out would take the
    labeled pairs for a fair sample of what can go wrong, which they never are.

    Args:
        offers: rows to measure on.
        known: what labels say.
        probability: of any pairs of rows being the same product, for those that labels say nothing of.

    Shape:
        offers (V,) rows; left, right (P,) rows of all candidates that one of them has.
    """

    def __init__(
        self,
        offers: np.ndarray,
        known: KnownPairs,
        probability: SameProbability,
        left: np.ndarray,
        right: np.ndarray,
    ) -> None:
        self.offers, self._known, self._probability = offers, known, probability
        self._measured = np.zeros(len(known.products), dtype=bool)
        self._measured[offers] = True
        count = len(known.products)
        same = self.same(left, right)
        total = 1 + np.bincount(left, same, count) + np.bincount(right, same, count)
        self._total = np.maximum(total, known.sizes)[offers]

    def same(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """(P,) how likely pairs are the same product: 0 or 1 where labels say it."""
        same = self._known.of(left, right)
        unknown = np.flatnonzero(np.isnan(same))
        same[unknown] = self._probability(left[unknown], right[unknown])
        return same

    def of(self, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Precision and recall of every measured offer.

        Shape:
            groups (N,); returns (V,), (V,).
        """
        count = len(groups)
        left, right = self._pairs_inside(groups)
        same = self.same(left, right)
        found = (1 + np.bincount(left, same, count) + np.bincount(right, same, count))[self.offers]
        sizes = np.bincount(np.unique(groups, return_inverse=True)[1])[np.unique(groups, return_inverse=True)[1]]
        return found / sizes[self.offers], np.minimum(found / self._total, 1)

    def _pairs_inside(self, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pairs of one group, of those groups that hold a measured offer."""
        order = np.argsort(groups, kind="stable")
        starts = np.flatnonzero(np.append(True, np.diff(groups[order]) != 0))
        ours: list[np.ndarray] = [np.empty(0, np.int64)]
        theirs: list[np.ndarray] = [np.empty(0, np.int64)]
        sizes = np.diff(np.append(starts, len(order)))
        for start, size in zip(starts[sizes > 1].tolist(), sizes[sizes > 1].tolist(), strict=True):
            rows = order[start : start + size]
            if self._measured[rows].any():
                one, other = np.triu_indices(size, 1)
                ours.append(rows[one])
                theirs.append(rows[other])
        return np.concatenate(ours), np.concatenate(theirs)


def bcubed_f1(
    precision: np.ndarray, recall: np.ndarray, products: np.ndarray, *, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """The F1 of mean precision and mean recall of several groupings, and the same of resampled products.

    Shape:
        precision, recall (G, V); products (V,); returns (G,), (RESAMPLES, G).
    """
    numbers = np.unique(products, return_inverse=True)[1]
    size = int(numbers.max()) + 1
    sums = [np.stack([np.bincount(numbers, row, size) for row in of], axis=1) for of in (precision, recall)]
    counts = np.bincount(numbers, minlength=size).astype(np.float64)
    times = np.random.default_rng(seed).multinomial(size, np.full(size, 1 / size), size=RESAMPLES).astype(np.float64)
    drawn = [times @ of / (times @ counts)[:, None] for of in sums]
    return _harmonic(precision.mean(axis=1), recall.mean(axis=1)), _harmonic(*drawn)


def _harmonic(precision: np.ndarray, recall: np.ndarray) -> np.ndarray:
    return np.asarray(2 * precision * recall / np.maximum(precision + recall, 1e-12))
