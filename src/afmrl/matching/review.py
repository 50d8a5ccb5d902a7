"""What a reader should look at first: vetoed pairs that look alike, pairs near the threshold, the least sure groups."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from afmrl.data.offer import Offer

if TYPE_CHECKING:
    from afmrl.matching.match import Matched

MAX_PAIRS = 40
"""Of each kind."""
MAX_GROUPS = 30
Ranked = tuple[float, str, str]


@dataclass(frozen=True)
class PairView:
    """A pair as the page shows it."""

    left: Offer
    right: Offer
    score: float
    probability: float
    same: bool
    reasons: dict[str, Any]


class Review:
    """Watches the pairs go by and keeps those worth a look; the memory it takes does not grow with them.

    Args:
        threshold: the logit from which pairs are called the same.
    """

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self.num_vetoed = self.num_near = 0
        self._vetoed: list[tuple[Ranked, PairView]] = []
        self._near: list[tuple[Ranked, PairView]] = []

    def see(
        self, left: Offer, right: Offer, score: float, alike: float, probability: float, same: bool,
        reasons: dict[str, Any],
    ) -> None:  # fmt: skip
        """One pair that is written."""
        view = PairView(left, right, score, probability, same, reasons)
        if reasons["veto"]:
            if alike >= self.threshold:
                self.num_vetoed += 1
                _keep(self._vetoed, (alike, left.id, right.id), view)
        elif abs(score - self.threshold) < 1.5:
            self.num_near += 1
            _keep(self._near, (-abs(score - self.threshold), left.id, right.id), view)

    @property
    def vetoed(self) -> list[PairView]:
        """Pairs that are alike but for what vetoes, the most alike first."""
        return _sorted(self._vetoed)

    @property
    def near(self) -> list[PairView]:
        """Pairs near the threshold, the nearest first."""
        return _sorted(self._near)

    def write(self, path: Path, matched: Matched, summary: dict[str, Any], lists: Sequence[np.ndarray]) -> None:
        """OUT/report.html."""
        from afmrl.report.match_page import write_review_page

        write_review_page(path, self, summary, least_sure_groups(matched, lists))


def _keep(heap: list[tuple[Ranked, PairView]], rank: Ranked, view: PairView) -> None:
    # of equal ranks the ids decide: no two pairs are compared by their views
    if len(heap) < MAX_PAIRS:
        heapq.heappush(heap, (rank, view))
    elif rank > heap[0][0]:
        heapq.heapreplace(heap, (rank, view))


def _sorted(heap: list[tuple[Ranked, PairView]]) -> list[PairView]:
    return [view for _, view in sorted(heap, key=lambda kept: (-kept[0][0], kept[0][1:]))]


def least_sure_groups(matched: Matched, lists: Sequence[np.ndarray]) -> list[tuple[float, list[Offer]]]:
    """(probability of the least likely pair, offers) of the groups with the least likely pairs, then the largest."""
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
    return [(float(probabilities[place]), [offers[row] for row in lists[place]]) for place in order]
