"""What a new catalog changes in a match: offers that are new, changed, deleted, or there again."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from afmrl.data.bad_rows import MAX_DELETED, check_deleted
from afmrl.data.offer import Offer, SkippedRow
from afmrl.errors import InputError
from afmrl.matching.kept import KeptMatch, fingerprints_of
from afmrl.terminal import counted


@dataclass
class Delta:
    """Changes of a match's offers."""

    reasons: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Id → "added", "changed" or "deleted", and why."""
    rows: list[int] = field(default_factory=list)
    """Rows that die or live again."""
    dead: list[int] = field(default_factory=list)
    again: list[int] = field(default_factory=list)
    """Rows of the first run that are as they were then."""
    offers: list[Offer] = field(default_factory=list)
    """Those to be read."""
    unchanged: int = 0
    missing: list[str] = field(default_factory=list)
    """Ids to delete that are not there."""

    @property
    def counts(self) -> dict[str, int]:
        """How many offers there are of each kind."""
        kinds = [kind for kind, _ in self.reasons.values()]
        return {**{kind: kinds.count(kind) for kind in ("added", "changed", "deleted")}, "unchanged": self.unchanged}


def delta_of(
    kept: KeptMatch,
    offers: Sequence[Offer] | None,
    source: str,
    delete: Collection[str],
    *,
    mirror: bool,
    max_deleted: float = MAX_DELETED,
    skipped: Sequence[SkippedRow] = (),
) -> Delta:
    """What offers change in a match.

    Args:
        offers: None: none are given, and none are deleted for that.
        source: where the offers are from, in words.
        delete: ids of offers to delete.
        mirror: offers of the match that are not among `offers` are deleted.
        max_deleted: share of the offers that `mirror` may delete, see `check_deleted`.
        skipped: rows that could not be read: their offers stay as they were.

    Raises:
        InputError: an id that is to be deleted and given; a mirror that would delete too much, or that cannot know
            which offers could not be read.
    """
    delta = Delta()
    alive = {kept.ids[row]: row for row in np.flatnonzero(kept.alive).tolist()}
    given = sorted(offers or (), key=lambda offer: offer.id)
    prints = fingerprints_of(given)
    first = dict(zip(kept.ids[: kept.num_first], range(kept.num_first), strict=True))
    names = {offer.id for offer in given}
    if both := sorted(names & set(delete)):
        raise InputError(f"{source}: has the offer {both[0]!r}, which is also to be deleted; take it out of one")
    for offer, found in zip(given, prints, strict=True):
        row = alive.get(offer.id)
        if row is not None and kept.fingerprints[row] == found:
            delta.unchanged += 1
            continue
        delta.reasons[offer.id] = ("added" if row is None else "changed", source)
        if row is not None:
            delta.dead.append(row)
        before = first.get(offer.id)
        if before is not None and kept.fingerprints[before] == found:
            delta.again.append(before)
        else:
            delta.offers.append(offer)
    gone: dict[str, Any] = dict.fromkeys(delete, "asked for")
    if mirror and offers is not None:
        unread = [row for row in skipped if row.lost == "row"]
        if nameless := [row for row in unread if not row.id]:
            raise InputError(
                f"--mirror would delete the offers of {counted(len(nameless), 'row')} of {source} whose ids could not "
                f"be read (first: {nameless[0]}); mend the file, or leave --mirror out"
            )
        absent = alive.keys() - names - {row.id for row in unread}
        check_deleted(sorted(absent), len(alive), max_deleted, "the match")
        gone |= dict.fromkeys(absent, f"not in {source}")
    for name, why in sorted(gone.items()):
        if name not in alive:
            delta.missing.append(name)
            continue
        delta.reasons[name] = ("deleted", why)
        delta.dead.append(alive[name])
    return delta
