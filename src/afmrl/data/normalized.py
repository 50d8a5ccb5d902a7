"""Text as it is compared: one form for what is written in several."""

from __future__ import annotations

import unicodedata


def normalize(text: str) -> str:
    """Lower case, full-width forms folded (NFKC), white space collapsed.

    >>> normalize("  Deep　ＲＥＤ ")
    'deep red'
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(unicodedata.normalize("NFKC", folded).split())  # folding may undo the first form
