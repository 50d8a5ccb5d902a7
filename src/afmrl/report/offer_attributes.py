"""Key attributes as a page lists them: a query's beside what it should be, a hit's beside the query's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from afmrl.report.views import OfferView

MAX_LINES = 16  # attributes shown of an offer


@dataclass(frozen=True, slots=True)
class AttributeLine:
    """One attribute, and how it compares."""

    css: str
    """Class: "ne" differs, "eq" agrees, "one" is on one side of the comparison only, "ok" is right, "bare"."""
    sign: str
    """Shown before it: ≠, =, +, −, ✓, ✗, ? or nothing."""
    spoken: str
    """What the sign says, for readers who do not see it."""
    key: str
    value: str
    remark: str = ""


@dataclass(frozen=True, slots=True)
class AttributeList:
    """The attributes of one offer."""

    lines: Sequence[AttributeLine] = ()
    agreeing: Sequence[tuple[str, str]] = ()
    """Attributes that agree with the query's, shown on one line: they are of the least interest."""
    num_more: int = 0
    """How many more there are than are shown."""
    sellers: bool = False
    """Whether the seller wrote them."""
    absent: Literal["", "none known", "none written"] = ""
    """Why there are no attributes, where that has to be said."""


def query_attributes(offer: OfferView) -> AttributeList:
    """The attributes written for a query, each compared with its target where there is one."""
    if offer.targets is None:
        return _plain(offer)
    written, targets = offer.attributes.as_dict(), offer.targets.as_dict()
    lines = []
    for key, value in written.items():
        if key not in targets:
            lines.append(AttributeLine("one", "?", "not to be seen or read", key, value, "not visible"))
        elif targets[key] == value:
            lines.append(AttributeLine("ok", "✓", "right", key, value))
        else:
            lines.append(AttributeLine("ne", "✗", "wrong", key, value, f"target: {targets[key]}"))
    lines += [
        AttributeLine("one", "−", "not written", key, value, "missed")
        for key, value in targets.items()
        if key not in written
    ]
    return _bounded(AttributeList(lines, absent="" if written else "none written"))


def hit_attributes(query: OfferView, hit: OfferView) -> AttributeList:
    """A hit's attributes beside the query's: what differs first, what agrees last.

    What a seller wrote is not compared with what a generator wrote: they have keys of their own.
    """
    if not query.attributes or query.sellers != hit.sellers:
        return _plain(hit)
    if not hit.attributes:  # nothing is known of it, which is no difference
        return AttributeList(absent="none known")
    ours, theirs = query.attributes.as_dict(), hit.attributes.as_dict()
    keys = query.attributes.compared_with(hit.attributes)
    lines = [AttributeLine("ne", "≠", "differs", key, theirs[key], f"query: {ours[key]}") for key in keys.differ]
    lines += [AttributeLine("one", "+", "only here", key, theirs[key]) for key in keys.only_right]
    lines += [AttributeLine("one", "−", "only the query has", key, ours[key]) for key in keys.only_left]
    agreeing = [(key, theirs[key]) for key in keys.agree]
    return _bounded(AttributeList(lines, agreeing, sellers=hit.sellers))


def _plain(offer: OfferView) -> AttributeList:
    lines = [AttributeLine("bare", "", "", key, value) for key, value in offer.attributes]
    return _bounded(AttributeList(lines, sellers=offer.sellers and bool(offer.attributes)))


def _bounded(attributes: AttributeList) -> AttributeList:
    return replace(
        attributes,
        lines=attributes.lines[:MAX_LINES],
        agreeing=attributes.agreeing[:MAX_LINES],
        num_more=max(len(attributes.lines) - MAX_LINES, 0) + max(len(attributes.agreeing) - MAX_LINES, 0),
    )
