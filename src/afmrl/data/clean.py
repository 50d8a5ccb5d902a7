"""A row as it came, made safe once: what is no character, steers a terminal or has no end goes no further."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from afmrl.data.offer import BadRow

MAX_CHARACTERS = 1_000_000
"""Of one text of a row. A description of a thousand pages has as many; more is a file inside a cell."""
MAX_DEPTH = 32
"""Levels of lists and objects inside of each other."""
MAX_ENTRIES = 100_000
"""Of one row, lists and objects counted through."""
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_LINE_END = re.compile(r"\r\n?")
_HALF = re.compile("[\ud800-\udfff]")


def clean_text(text: str) -> str:
    """Text that can be written as UTF-8 and shown on a terminal.

    Half characters (lone surrogates) become U+FFFD, control characters blanks; tabs and ends of lines stay.

    >>> clean_text("red\\ud83d dress\\x1b[31m"), clean_text("a\\r\\nb")
    ('red� dress [31m', 'a\\nb')
    """
    if text.isprintable():
        return text
    return _LINE_END.sub("\n", _HALF.sub("\ufffd", _CONTROL.sub(" ", text)))


def clean_row(row: Mapping[Any, Any]) -> dict[str, Any]:
    """The row with every text clean, also inside of lists and objects; names of columns too.

    Raises:
        BadRow: a text of over MAX_CHARACTERS, levels beyond MAX_DEPTH, more than MAX_ENTRIES entries; names the column.
    """
    left = [MAX_ENTRIES]
    cleaned: dict[str, Any] = {}
    for name, value in row.items():
        name = clean_text(str(name))
        cleaned[name] = value if value is None or isinstance(value, _PLAIN) else _clean(name[:80], value, 0, left)
    return cleaned


_PLAIN = (int, float, bytes)


def _clean(name: str, value: Any, depth: int, left: list[int]) -> Any:
    if isinstance(value, str):
        if len(value) > MAX_CHARACTERS:
            raise BadRow(name, f"has {len(value):,} characters, at most {MAX_CHARACTERS:,} are read")
        return clean_text(value)
    if not isinstance(value, Mapping | list | tuple):
        return value
    left[0] -= len(value)
    if depth >= MAX_DEPTH:
        raise BadRow(name, f"holds lists or objects over {MAX_DEPTH} levels deep")
    if left[0] < 0:
        raise BadRow(name, f"holds more than {MAX_ENTRIES:,} entries")
    if isinstance(value, Mapping):
        return {_clean(name, key, depth + 1, left): _clean(name, of, depth + 1, left) for key, of in value.items()}
    return [_clean(name, one, depth + 1, left) for one in value]
