"""What a match says of every offer: its group, how sure that is, whether to look at it, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from afmrl.data.offer import Offer
from afmrl.matching.result import MatchedGroup, MatchedOffer, MatchedPair

NEAR = 0.5
"""Logits around the threshold within which an offer's surest pair is worth a look."""


@dataclass(slots=True)
class _Seen:
    """The pairs of one offer, as far as they count."""

    sum_inside: float = 0.0
    num_inside: int = 0
    surest: tuple[float, str, str] = (float("-inf"), "", "")
    """Score, other offer's id and reasons of the surest pair of its group."""
    weakest: tuple[float, str] = (float("inf"), "")
    outside: tuple[float, str] = (0.0, "")
    """Probability of the likeliest pair of another group."""
    kept_apart: tuple[float, str] = (float("-inf"), "")
    vetoed: tuple[bool, float, str, str] = (False, float("-inf"), "", "")
    """Whether the GTIN is equal, score without the veto, other offer's id and keys."""


class OfferCollector:
    """Watches the pairs go by and keeps what they say of each offer.

    Args:
        threshold: the logit from which pairs are called the same.
        doubts: id of an offer → what else there is to look at.
    """

    def __init__(self, threshold: float, doubts: Mapping[str, str]) -> None:
        self.threshold = threshold
        self.doubts = doubts
        self._seen: dict[str, _Seen] = {}

    def see(self, pair: MatchedPair, alike: float) -> None:
        """One pair that is listed.

        Args:
            alike: the logit that it would have without a veto.
        """
        for ours, theirs in ((pair.left.id, pair.right.id), (pair.right.id, pair.left.id)):
            seen = self._seen.setdefault(ours, _Seen())
            if pair.reasons.verdict is not None:  # somebody has looked at it
                if pair.same:
                    seen.sum_inside += 1
                    seen.num_inside += 1
                    seen.surest = max(seen.surest, (float("inf"), theirs, "verdict"))
            elif pair.same:
                seen.sum_inside += pair.probability
                seen.num_inside += 1
                if pair.score > seen.surest[0]:
                    seen.surest = (pair.score, theirs, _short(pair))
                seen.weakest = min(seen.weakest, (pair.score, theirs))
            else:
                seen.outside = max(seen.outside, (pair.probability, theirs))
                if pair.veto and alike >= self.threshold:
                    seen.vetoed = max(seen.vetoed, (pair.reasons.same_gtin, alike, theirs, ", ".join(pair.veto)))
                elif pair.reasons.kept_apart:
                    seen.kept_apart = max(seen.kept_apart, (pair.score, theirs))

    def offers(self, offers: Sequence[Offer], groups: Sequence[MatchedGroup], ids: Sequence[str]) -> list[MatchedOffer]:
        """What is known of every offer, in the order given.

        Args:
            ids: the group's id of each of `offers`.
        """
        of_group = {offer.id: group for group in groups for offer in group.offers}
        return [
            self._offer(offer, of_group.get(offer.id), identifier)
            for offer, identifier in zip(offers, ids, strict=True)
        ]

    def _offer(self, offer: Offer, group: MatchedGroup | None, identifier: str) -> MatchedOffer:
        seen = self._seen.get(offer.id, _Seen())
        doubts = [*self._doubts(seen), *filter(None, [self.doubts.get(offer.id)])]
        if group is None:
            confidence = 1 - seen.outside[0]
            _, _, other, keys = seen.vetoed
            nearest = (
                f"nearest: {seen.outside[1]} ({seen.outside[0]:.2f})" if seen.outside[1] else "no offer is like it"
            )
            why = f"like {other} but for {keys}" if other else nearest
        else:
            confidence = seen.sum_inside / seen.num_inside if seen.num_inside else group.probability
            why = f"with {seen.surest[1]}: {seen.surest[2]}" if seen.surest[1] else "by the others of its group"
        return MatchedOffer(
            offer,
            identifier,
            offer.id if group is None else group.canonical.id,
            round(confidence, 4),
            bool(doubts),
            "; ".join(doubts or [why]),
        )

    def _doubts(self, seen: _Seen) -> list[str]:
        doubts = []
        if seen.weakest[0] < self.threshold:
            doubts.append(f"unlike {seen.weakest[1]} of its group")
        elif seen.num_inside and seen.surest[0] < self.threshold + NEAR:
            doubts.append(f"only just like {seen.surest[1]}")
        if seen.kept_apart[1]:
            doubts.append(f"like {seen.kept_apart[1]}, but unlike that one's group on average")
        # siblings that differ in color are no doubt; an equal GTIN of two colors is
        if seen.vetoed[0]:
            doubts.append(f"the GTIN of {seen.vetoed[2]}, but another {seen.vetoed[3]}")
        return doubts


def _short(pair: MatchedPair) -> str:
    keys = ", ".join(pair.reasons.agree)
    said = ["same GTIN"] if pair.reasons.same_gtin else []
    return "; ".join([*said, f"agree: {keys}"] if keys else said or ["words"])
