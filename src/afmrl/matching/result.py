"""What a match found: groups of offers that are the same product, and pairs with their probability and reasons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from afmrl.data.offer import Offer
from afmrl.matching.reasons import Reasons


@dataclass(frozen=True, slots=True)
class MatchedPair:
    """Two offers, how likely they are the same product, and why.

    Only likely pairs are listed, those of one group, and those that only a veto keeps apart.
    """

    left: Offer
    right: Offer
    score: float
    """The logit of the pair model."""
    probability: float
    """Calibrated; that of a vetoed pair is at most what vetoed pairs were seen to be."""
    same: bool
    """Whether both are in one group."""
    reasons: Reasons

    @property
    def veto(self) -> tuple[str, ...]:
        """Keys whose conflict keeps the two apart."""
        return self.reasons.veto

    def __str__(self) -> str:
        """One line: `a = b   0.94   agree: brand, color`, or `a ≠ c   veto   color: red | navy`."""
        verdict = "veto" if self.veto else f"{self.probability:.2f}"
        return f"{self.left.id} {'=' if self.same else '≠'} {self.right.id}   {verdict}   {self.reasons}".rstrip()


@dataclass(frozen=True, slots=True)
class MatchedGroup:
    """Two or more offers that matching believes to be one product."""

    offers: tuple[Offer, ...]
    probability: float
    """Of its least likely pair, among the pairs that were compared."""

    @property
    def ids(self) -> list[str]:
        """The offers' ids."""
        return [offer.id for offer in self.offers]


@dataclass(frozen=True, slots=True)
class Review:
    """What a reader should look at first; its size does not grow with the catalog."""

    vetoed: Sequence[MatchedPair]
    """Pairs that are alike but for what vetoes, the most alike first."""
    num_vetoed: int
    """How many there are in all."""
    near: Sequence[MatchedPair]
    """Pairs near the threshold, the nearest first."""
    num_near: int
    groups: Sequence[MatchedGroup]
    """Those with the least likely pairs first, then the largest."""


@dataclass(frozen=True)
class MatchResult:
    """What `match` found."""

    groups: list[MatchedGroup]
    """By first id; an offer that is the same as no other is in none."""
    pairs: Sequence[MatchedPair]
    """The pairs listed, by ids. A list; or, where they were written to a folder, read from there when asked for."""
    summary: dict[str, Any]
    """Counts, the threshold and where it is from, what the labels say, notes: as in summary.json."""
    review: Review
    """The pairs and groups that a reader should look at first."""
    out: Path | None = None
    """Where the files are; None: nothing was written."""

    def __repr__(self) -> str:
        """A line for a notebook; groups and pairs hold every offer, and would be a wall."""
        grouped, offers = self.summary["offers_in_groups"], self.summary["offers"]
        return f"MatchResult({len(self.groups):,} groups of {grouped:,} of {offers:,} offers)"
