"""How many rows of a catalog may be bad or missing before its file is taken for broken: one rule for every command."""

from __future__ import annotations

from collections.abc import Sequence

from afmrl.errors import InputError

MAX_BAD = 0.5
"""Bad rows are listed and counted, and the rest is done: a shop's file always has some. Where most rows are bad, the
file itself is wrong: another column, another encoding, half a download."""
MAX_BAD_OF_A_SET = 0.01
"""Of a public data set, which is sound as published: more bad rows are a download that is not complete."""
MAX_DELETED = 0.2
"""Of what is there, that --mirror may delete in one go: where more is missing, the file is half a download, or its ids
are of another column."""
LEAST_ROWS = 20
"""The share is taken of at least so many rows: of three rows two may be bad, and the third still counts."""


def checked_max_bad(max_bad: float) -> float:
    """The share, if it is one.

    Raises:
        InputError: not a number from 0 to 1.
    """
    if not _is_share(max_bad):
        raise InputError(f"max_bad (--max-bad) {max_bad!r}: a share between 0 (no bad row) and 1 (any number)")
    return float(max_bad)


def check_deleted(gone: Sequence[str], there: int, max_deleted: float, where: str) -> None:
    """Refuse a mirror that would delete more than is likely.

    Args:
        gone: ids that would be deleted.
        there: how many there are.
        max_deleted: the share that may go; LEAST_ROWS always may.
        where: what would lose them, in words.

    Raises:
        InputError: too many would go, or the share is none.

    >>> check_deleted(["a", "b"], 3, MAX_DELETED, "the index")
    """
    if not _is_share(max_deleted):
        raise InputError(f"max_deleted (--max-deleted) {max_deleted!r}: a share between 0 and 1 (all may go)")
    if len(gone) > LEAST_ROWS and len(gone) > max_deleted * there:
        raise InputError(
            f"--mirror would delete {len(gone):,} of {there:,} offers of {where} (first: {min(gone)!r}); is the file "
            f"whole, and are its ids those of before? --max-deleted 1 deletes them"
        )


def _is_share(value: object) -> bool:
    return not isinstance(value, bool) and isinstance(value, int | float) and 0 <= value <= 1


def too_many_bad(bad: int, rows: int, max_bad: float, *, lost_images: int = 0) -> bool:
    """Whether so many bad rows are more than is allowed.

    An offer that lost only an image is no bad row, unless none is allowed at all.

    >>> too_many_bad(2, 3, MAX_BAD), too_many_bad(60, 100, MAX_BAD), too_many_bad(1, 1000, 0.0)
    (False, True, True)
    """
    return bool(lost_images and not max_bad) or bad > max_bad * max(rows, LEAST_ROWS)
