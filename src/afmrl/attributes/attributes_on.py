"""Where key attributes are in the text: in the query's, in the gallery's, in both, or in none."""

from __future__ import annotations

from typing import Literal, get_args

AttributesOn = Literal["query", "gallery", "both", "none"]
ATTRIBUTES_ON: tuple[AttributesOn, ...] = get_args(AttributesOn)


def on_query(attributes_on: str | None) -> bool:
    """Whether the query's text carries them.

    >>> [choice for choice in ATTRIBUTES_ON if on_query(choice)]
    ['query', 'both']
    """
    return attributes_on in ("query", "both")


def on_gallery(attributes_on: str | None) -> bool:
    """Whether the texts of the gallery's offers carry them.

    >>> [choice for choice in ATTRIBUTES_ON if on_gallery(choice)]
    ['gallery', 'both']
    """
    return attributes_on in ("gallery", "both")
