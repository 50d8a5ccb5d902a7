"""A threshold whose precision holds for pairs to come, not only on the labels that it was chosen on.

Thresholds are tested from the strictest down, and the first that fails ends it (fixed-sequence testing, as in Learn
then Test, Angelopoulos et al. 2021). A test is Clopper and Pearson's bound (1934) on as many pairs as the called ones
are worth (Korn and Graubard 1998): pairs that share offers, over whatever chain, count as one observation. That is an
approximation; `benchmarks/match_guarantee.py` measures how often it holds.
"""

from __future__ import annotations

import numpy as np

NUM_THRESHOLDS = 60
"""Numbers of called pairs that are tried, in about equal ratios."""
STARTS = (0, 2, 8, 32)
"""A sequence starts where so many wrong pairs would still pass; the confidence is shared among the sequences."""


def guaranteed_count(
    left: np.ndarray, right: np.ndarray, same: np.ndarray, counts: np.ndarray, precision: float, confidence: float
) -> int:
    """How many of the surest pairs may be called the same so that their precision holds for pairs to come; 0: none.

    With this confidence the share of true pairs among all that such a threshold calls is at least `precision`, if the
    products of the labels were drawn as those to come are.

    Args:
        left, right: (P,) offers of labeled pairs, the surest first.
        same: (P,) bool.
        counts: (T,) numbers of pairs that a threshold can call, rising: pairs of one score go together.

    >>> pair = np.arange(400)
    >>> guaranteed_count(pair, pair + 400, pair < 380, pair + 1, precision=0.9, confidence=0.95)
    400
    >>> guaranteed_count(pair // 20, pair + 400, pair < 380, pair + 1, precision=0.9, confidence=0.95)  # as 20 pairs
    0
    """
    if not len(counts):
        return 0
    tried = np.geomspace(counts[0], counts[-1], NUM_THRESHOLDS).round()
    counts = counts[np.unique(np.minimum(np.searchsorted(counts, tried), len(counts) - 1))]
    worth = np.array([num_observations(left[:count], right[:count]) for count in counts])
    wrong = worth * (1 - np.cumsum(same)[counts - 1] / counts)
    level = 1 - (1 - confidence) / len(STARTS)
    holds = precision_bound(worth, wrong, level) >= precision
    best = -1
    for allowed in STARTS:
        possible = precision_bound(worth, np.full(len(worth), allowed), level) >= precision
        place = int(np.argmax(np.append(possible, True)))
        fails = int(np.argmin(np.append(holds[place:], False)))
        if fails:
            best = max(best, place + fails - 1)
    return int(counts[best]) if best >= 0 else 0


def precision_bound(num: np.ndarray, wrong: np.ndarray, confidence: float) -> np.ndarray:
    """The lower bound of a precision, of which `wrong` of `num` observations speak against it.

    Shape:
        num, wrong (K,), not necessarily whole; returns (K,).

    >>> precision_bound(np.array([300.0, 300, 10]), np.array([0.0, 3, 10]), 0.95).round(3).tolist()
    [0.99, 0.974, 0.0]
    """
    from scipy.stats import beta

    right = np.maximum(num - wrong, 1e-9)
    return np.where(wrong < num, 1 - beta.ppf(confidence, wrong + 1, right), 0.0)


def fewest_observations(precision: float, confidence: float) -> int:
    """Observations without a wrong one that a precision needs.

    >>> fewest_observations(0.9, 0.95)
    42
    """
    return int(np.ceil(np.log((1 - confidence) / len(STARTS)) / np.log(precision))) if precision < 1 else 0


def num_observations(left: np.ndarray, right: np.ndarray) -> float:
    """What pairs are worth, where those that share offers, over whatever chain, are one observation of their size.

    >>> num_observations(np.array([0, 2, 4]), np.array([1, 3, 5])), num_observations(np.array([0, 1]), np.array([1, 2]))
    (3.0, 1.0)
    """
    from scipy import sparse
    from scipy.sparse.csgraph import connected_components

    offers, rows = np.unique(np.concatenate([left, right]), return_inverse=True)
    ours, theirs = rows[: len(left)], rows[len(left) :]
    graph = sparse.coo_matrix((np.ones(len(ours), np.int8), (ours, theirs)), shape=(len(offers), len(offers)))
    sizes = np.bincount(connected_components(graph, directed=False)[1][ours]).astype(np.float64)
    return float(sizes.sum() ** 2 / np.square(sizes).sum())
