"""Groups of offers that are the same product: every member close to all others on average, no veto inside."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np

from afmrl.matching.verdicts import Constraints

MAX_LINKAGE = 200
"""Offers of a component whose pairs are all scored; a larger one is cut by stars."""
FAR = 1e6  # distance of a vetoed pair: no average over a group outweighs it
SLACK = 1.0
"""By how much the mean of two groups' pairs may lie below the threshold: a true group holds pairs that say little of
each other (measured in benchmarks/match.py linkage)."""
CLIP = 12.0  # logits beyond are as sure
AT_ONCE = 500_000  # pairs scored together
Score = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def group_offers(
    num_offers: int,
    left: np.ndarray,
    right: np.ndarray,
    logits: np.ndarray,
    vetoed: np.ndarray,
    *,
    threshold: float,
    score: Score,
    constraints: Constraints | None = None,
) -> np.ndarray:
    """The group of every offer, without chaining.

    Offers linked by pairs at or above the threshold form components. Inside each all pairs are scored, and offers are
    joined by average linkage while the mean logit of two groups' pairs stays within SLACK of the threshold: A–B and B–C
    alike but A–C unlike is not a group of three. A vetoed pair is never in one group, unless verdicts join the two.

    Args:
        num_offers: N.
        score: logits and vetoes of any pairs of rows, for those that were no candidates.
        constraints: what verdicts join and keep apart; every one of them holds in the groups.

    Shape:
        left, right, logits, vetoed (P,); returns (N,) int64 group numbers, that of a group's first row.
    """
    from scipy import sparse
    from scipy.sparse.csgraph import connected_components

    if constraints is not None:
        of_words = score
        vetoed = vetoed | (constraints.of(left, right) < 0)

        def score(left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            logits, vetoed = of_words(left, right)
            return logits, vetoed | (constraints.of(left, right) < 0)

    linked = (logits >= threshold) & ~vetoed
    left, right, logits = left[linked], right[linked], logits[linked]
    graph = sparse.coo_matrix((np.ones(len(left), np.int8), (left, right)), shape=(num_offers, num_offers))
    _, component = connected_components(graph, directed=False)
    sizes = np.bincount(component, minlength=1)
    groups = np.arange(num_offers, dtype=np.int64)
    several = sizes[component[left]] > 2
    pairs = ~several
    groups[right[pairs]] = left[pairs]
    members: dict[int, list[int]] = {}
    for row in np.flatnonzero(sizes[component] > 2):
        members.setdefault(int(component[row]), []).append(int(row))
    small = [rows for rows in members.values() if len(rows) <= MAX_LINKAGE]
    for rows in members.values():
        if len(rows) > MAX_LINKAGE:
            inside = component[left] == component[rows[0]]
            small += _stars(rows, left[inside], right[inside], logits[inside])
    _by_linkage(groups, [rows for rows in small if len(rows) > 1], threshold, score)
    return groups if constraints is None else constraints.bound(groups)


def _by_linkage(groups: np.ndarray, components: list[list[int]], threshold: float, score: Score) -> None:
    batch: list[list[int]] = []
    size = 0
    for place, rows in enumerate(components):
        batch.append(rows)
        size += len(rows) * (len(rows) - 1) // 2
        if size < AT_ONCE and place + 1 < len(components):
            continue
        pairs = np.array([pair for rows in batch for pair in combinations(rows, 2)], dtype=np.int64)
        logits, vetoed = score(pairs[:, 0], pairs[:, 1])
        distances = np.where(vetoed, FAR, CLIP - np.clip(logits, -CLIP, CLIP))
        start = 0
        for rows in batch:
            stop = start + len(rows) * (len(rows) - 1) // 2
            _join(groups, rows, distances[start:stop], CLIP - threshold + SLACK)
            start = stop
        batch, size = [], 0


def _join(groups: np.ndarray, rows: list[int], distances: np.ndarray, furthest: float) -> None:
    from scipy.cluster.hierarchy import linkage

    members = {place: [row] for place, row in enumerate(rows)}
    # steps are in the order of their distances; scipy's fcluster takes four times as long for the few offers of a group
    for step, (one, other, distance, _) in enumerate(linkage(distances, "average").tolist()):
        if distance > max(furthest, 0.0) + 1e-9:
            break
        members[len(rows) + step] = members.pop(int(one)) + members.pop(int(other))
    for joined in members.values():
        groups[joined] = min(joined)


def _stars(rows: list[int], left: np.ndarray, right: np.ndarray, logits: np.ndarray) -> list[list[int]]:
    """A large component cut into stars: an offer of most and strongest links, and those linked to it."""
    near: dict[int, dict[int, float]] = {row: {} for row in rows}
    for one, other, logit in zip(left.tolist(), right.tolist(), logits.tolist(), strict=True):
        near[one][other] = near[other][one] = logit
    free = set(rows)
    stars: list[list[int]] = []
    for center in sorted(rows, key=lambda row: (-sum(near[row].values()), row)):
        if center not in free:
            continue
        ours = sorted((row for row in near[center] if row in free), key=lambda row: (-near[center][row], row))
        star = sorted([center, *ours[: MAX_LINKAGE - 1]])
        free.difference_update(star)
        stars.append(star)
    return stars
