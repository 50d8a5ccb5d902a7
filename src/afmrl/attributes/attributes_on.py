"""Which side of a search carries key attributes in its text: what is asked with, what is searched in, both."""

from __future__ import annotations

from typing import Literal, get_args

Side = Literal["query", "gallery", "both", "none"]
SIDES: tuple[Side, ...] = get_args(Side)


def on_query(side: str | None) -> bool:
    """Whether the query's text carries them.

    >>> [side for side in SIDES if on_query(side)]
    ['query', 'both']
    """
    return side in ("query", "both")


def on_gallery(side: str | None) -> bool:
    """Whether the text of the gallery's offers carries them.

    >>> [side for side in SIDES if on_gallery(side)]
    ['gallery', 'both']
    """
    return side in ("gallery", "both")
