"""How many rows of a catalog may be unusable before its file is taken for broken: one rule for every command."""

from __future__ import annotations

from afmrl.errors import InputError

MAX_BAD = 0.5
"""Bad rows are listed and counted, and the rest is done: a shop's file always has some. Where most rows are bad, the
file itself is wrong: another column, another encoding, half a download."""
MAX_BAD_OF_A_SET = 0.01
"""Of a public data set, which is sound as published: more bad rows are a download that is not complete."""
LEAST_ROWS = 20
"""The share is taken of at least so many rows: of three rows two may be bad, and the third still counts."""


def checked_max_bad(max_bad: float) -> float:
    """The share, if it is one.

    Raises:
        InputError: not a number from 0 to 1.
    """
    if isinstance(max_bad, bool) or not isinstance(max_bad, int | float) or not 0 <= max_bad <= 1:
        raise InputError(f"max_bad (--max-bad) {max_bad!r}: a share between 0 (no bad row) and 1 (any number)")
    return float(max_bad)


def too_many_bad(bad: int, rows: int, max_bad: float, *, lost_images: int = 0) -> bool:
    """Whether so many bad rows are more than is allowed.

    An offer that lost only an image is no bad row, unless none is allowed at all.

    >>> too_many_bad(2, 3, MAX_BAD), too_many_bad(60, 100, MAX_BAD), too_many_bad(1, 1000, 0.0)
    (False, True, True)
    """
    return bool(lost_images and not max_bad) or bad > max_bad * max(rows, LEAST_ROWS)
