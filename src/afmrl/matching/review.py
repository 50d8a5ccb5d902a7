"""What a reader should look at first: vetoed pairs that look alike, pairs near the threshold, the least sure groups."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from afmrl.data.offer import Offer

if TYPE_CHECKING:
    from afmrl.matching.match import Matched

MAX_PAIRS_A_KIND = 40
MAX_GROUPS = 30
NEAR_THRESHOLD = 1.5  # logits
Ranked = tuple[float, str, str]


@dataclass(frozen=True)
class PairToReview:
    """A pair as it was decided."""

    left: Offer
    right: Offer
    score: float
    probability: float
    same: bool
    reasons: dict[str, Any]


@dataclass(frozen=True)
class GroupToReview:
    """A group and how likely its least likely pair is."""

    probability: float
    offers: Sequence[Offer]


@dataclass(frozen=True)
class Review:
    """What a match's page shows; its size does not grow with the catalog."""

    vetoed: Sequence[PairToReview]
    """Pairs that are alike but for what vetoes, the most alike first."""
    num_vetoed: int
    """How many there were in all."""
    near: Sequence[PairToReview]
    """Pairs near the threshold, the nearest first."""
    num_near: int
    groups: Sequence[GroupToReview]
    """Those with the least likely pairs first, then the largest."""


class ReviewCollector:
    """Watches the pairs go by and keeps those worth a look; the memory it takes does not grow with them.

    Args:
        threshold: the logit from which pairs are called the same.
    """

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self._num_vetoed = self._num_near = 0
        self._vetoed: list[tuple[Ranked, PairToReview]] = []
        self._near: list[tuple[Ranked, PairToReview]] = []

    def see(self, pair: PairToReview, alike: float) -> None:
        """One pair that is written.

        Args:
            alike: the logit that it would have without a veto.
        """
        ids = (pair.left.id, pair.right.id)
        if pair.reasons["veto"]:
            if alike >= self.threshold:
                self._num_vetoed += 1
                _keep(self._vetoed, (alike, *ids), pair)
        elif abs(pair.score - self.threshold) < NEAR_THRESHOLD:
            self._num_near += 1
            _keep(self._near, (-abs(pair.score - self.threshold), *ids), pair)

    def review(self, groups: Sequence[GroupToReview]) -> Review:
        """What was kept so far, with the groups to look at."""
        return Review(_sorted(self._vetoed), self._num_vetoed, _sorted(self._near), self._num_near, groups)


def _keep(heap: list[tuple[Ranked, PairToReview]], rank: Ranked, pair: PairToReview) -> None:
    # ids decide between equal ranks: pairs themselves have no order
    if len(heap) < MAX_PAIRS_A_KIND:
        heapq.heappush(heap, (rank, pair))
    elif rank > heap[0][0]:
        heapq.heapreplace(heap, (rank, pair))


def _sorted(heap: list[tuple[Ranked, PairToReview]]) -> list[PairToReview]:
    return [pair for _, pair in sorted(heap, key=lambda kept: (-kept[0][0], kept[0][1:]))]


def least_sure_groups(matched: Matched, lists: Sequence[np.ndarray]) -> list[GroupToReview]:
    """The groups with the least likely pairs, then the largest.

    Args:
        lists: rows of each group of two or more.
    """
    if not lists:
        return []
    weakest = np.full(len(matched.groups), np.inf)
    left, right, logits = matched.left, matched.right, matched.scores.logits
    inside = matched.groups[left] == matched.groups[right]
    np.minimum.at(weakest, matched.groups[left[inside]], logits[inside])
    numbers = np.array([matched.groups[members[0]] for members in lists])
    sizes = np.array([len(members) for members in lists])
    order = np.lexsort((numbers, -sizes, weakest[numbers]))[:MAX_GROUPS]
    offers = matched.scorer.table.offers
    probabilities = matched.scorer.model.probabilities(weakest[numbers])
    return [GroupToReview(float(probabilities[place]), [offers[row] for row in lists[place]]) for place in order]
