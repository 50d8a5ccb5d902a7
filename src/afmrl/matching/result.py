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
        verdict = "verdict" if self.reasons.verdict else "veto" if self.veto else f"{self.probability:.2f}"
        return f"{self.left.id} {'=' if self.same else '≠'} {self.right.id}   {verdict}   {self.reasons}".rstrip()


@dataclass(frozen=True, slots=True)
class MatchedGroup:
    """Two or more offers that matching believes to be one product."""

    offers: tuple[Offer, ...]
    probability: float
    """Of its least likely pair, among the pairs that were compared."""
    id: str = ""
    """Stays while the members do; with `previous` it is carried over from the last run."""

    @property
    def ids(self) -> list[str]:
        """The offers' ids."""
        return [offer.id for offer in self.offers]

    @property
    def canonical(self) -> Offer:
        """The offer that says most: the one to show for all of them. Of equals, the first by id."""
        return min(self.offers, key=lambda offer: (*(-said for said in _said(offer)), offer.id))


def _said(offer: Offer) -> tuple[int, int, int]:
    """How much an offer says: fields that are filled, attributes, characters of its texts."""
    filled = sum(map(bool, (offer.title, offer.description, offer.image, offer.category)))
    return filled, len(offer.attributes), len(offer.title) + len(offer.description)


@dataclass(frozen=True, slots=True)
class MatchedOffer:
    """One offer, its group, and whether somebody should look at it."""

    offer: Offer
    group_id: str
    """An offer that is alone has one too."""
    canonical_id: str
    """The offer to show for all of its group."""
    confidence: float
    """In a group: the mean probability of its pairs there. Alone: 1 less the probability of its likeliest pair."""
    needs_review: bool
    why: str
    """What speaks for its group; where it needs review, what speaks against."""


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
    offers: Sequence[MatchedOffer] = ()
    """Every offer, by id."""
    out: Path | None = None
    """Where the files are; None: nothing was written."""

    def __repr__(self) -> str:
        """A line for a notebook; groups and pairs hold every offer, and would be a wall."""
        grouped, offers = self.summary["offers_in_groups"], self.summary["offers"]
        return f"MatchResult({len(self.groups):,} groups of {grouped:,} of {offers:,} offers)"
