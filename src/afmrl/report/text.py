"""What a user or a model wrote, made fit to stand in the report's HTML."""

import re
from html import escape

MAX_TITLE, MAX_VALUE, MAX_TEXT = 160, 60, 2_000  # characters shown
_UNSHOWN = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")


def text(value: object, limit: int = MAX_TEXT) -> str:
    """Escaped for HTML; control characters, bidi overrides and lone surrogates dropped; cut at `limit` characters.

    >>> text("<b>&\\x00")
    '&lt;b&gt;&amp;'
    """
    shown = " ".join(_UNSHOWN.sub("", str(value)[: 4 * limit]).split())
    return escape(shown if len(shown) <= limit else shown[: limit - 1].rstrip() + "…")
