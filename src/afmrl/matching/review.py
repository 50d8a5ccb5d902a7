"""Chooses what a reader should look at first: vetoed pairs that look alike, doubtful pairs, the least sure groups."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from afmrl.matching.result import MatchedGroup, MatchedPair, Review

MAX_PAIRS_A_KIND = 40
MAX_GROUPS = 30
NEAR_THRESHOLD = 1.5  # logits
Ranked = tuple[float, str, str]


class ReviewCollector:
    """Watches the pairs go by and keeps those worth a look; the memory it takes does not grow with them.

    Args:
        threshold: the logit from which pairs are called the same.
    """

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self._num_vetoed = self._num_near = 0
        self._vetoed: list[tuple[Ranked, MatchedPair]] = []
        self._near: list[tuple[Ranked, MatchedPair]] = []

    def see(self, pair: MatchedPair, alike: float) -> None:
        """One pair that is written.

        Args:
            alike: the logit that it would have without a veto.
        """
        if pair.reasons.verdict is not None:
            return
        ids = (pair.left.id, pair.right.id)
        if pair.veto:
            if alike >= self.threshold:
                self._num_vetoed += 1
                _keep(self._vetoed, (alike, *ids), pair)
        elif abs(pair.score - self.threshold) < NEAR_THRESHOLD:
            self._num_near += 1
            _keep(self._near, (-abs(pair.score - self.threshold), *ids), pair)

    def review(self, groups: Sequence[MatchedGroup]) -> Review:
        """What was kept so far, and the least sure of the groups."""
        least_sure = least_sure_groups(groups)
        return Review(_sorted(self._vetoed), self._num_vetoed, _sorted(self._near), self._num_near, least_sure)


def _keep(heap: list[tuple[Ranked, MatchedPair]], rank: Ranked, pair: MatchedPair) -> None:
    # ids decide between equal ranks: pairs themselves have no order
    if len(heap) < MAX_PAIRS_A_KIND:
        heapq.heappush(heap, (rank, pair))
    elif rank > heap[0][0]:
        heapq.heapreplace(heap, (rank, pair))


def _sorted(heap: list[tuple[Ranked, MatchedPair]]) -> list[MatchedPair]:
    return [pair for _, pair in sorted(heap, key=lambda kept: (-kept[0][0], kept[0][1:]))]


def least_sure_groups(groups: Sequence[MatchedGroup]) -> list[MatchedGroup]:
    """The groups with the least likely pairs; of equals the largest."""
    return heapq.nsmallest(MAX_GROUPS, groups, key=lambda group: (group.probability, -len(group.offers)))
