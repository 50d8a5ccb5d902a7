"""What a user or a model wrote, made fit to be shown: bounded and without what no browser could show.

Nothing here escapes: the templates do, for every value.
"""

import re

MAX_TITLE, MAX_VALUE, MAX_TEXT = 160, 60, 2_000  # characters shown
_NOT_SHOWN = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")


def bounded(text: str, limit: int = MAX_TEXT) -> str:
    """Without control characters, bidi overrides and lone surrogates, cut at `limit` characters.

    >>> bounded("a\\x00b"), bounded("abcdef", 4)
    ('ab', 'abc…')
    """
    text = _NOT_SHOWN.sub("", text[: 4 * limit])
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def one_line(value: object, limit: int) -> str:
    """A value on one line, as `bounded`.

    >>> one_line("  a\\n\\tb ", 10)
    'a b'
    """
    return bounded(" ".join(str(value)[: 4 * limit].split()), limit)
