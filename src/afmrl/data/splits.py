"""The split of an offer: whether it trains, validates, tests; read here for everybody."""

from __future__ import annotations

from afmrl.data.offer import Offer


def split_of(offer: Offer, column: str = "split") -> str:
    """The offer's split as a column says it, "" where it says none.

    >>> split_of(Offer("1", "a", extra={"split": "train"})), split_of(Offer("2", "b"))
    ('train', '')
    """
    return offer.column(column)
