"""Words of a text: normalized, tokenized, Chinese and Japanese included."""

from __future__ import annotations

import re

from afmrl.data.normalized import normalize

__all__ = ["has_ideographs", "normalize", "tokenize"]

# Han, kana and the iteration mark, without the middle dot that separates words
_IDEOGRAPH = "\u3005\u3040-\u309f\u30a1-\u30fa\u30fc-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = rf"[^\W_{_IDEOGRAPH}]+"
_TOKENS = re.compile(rf"(?P<run>[{_IDEOGRAPH}]+)|{_WORD}(?:(?<=\d)\.(?=\d){_WORD})*")


def tokenize(text: str) -> list[str]:
    """Words of a text, normalized; decimals stay whole.

    A run of Chinese or Japanese characters, which has no spaces, gives its characters and its bigrams: values are
    short, and bigrams alone (Lucene's default for such text) would find nothing in common between 红 and 红色.

    >>> tokenize("Deep-red 1.5L 深红色")
    ['deep', 'red', '1.5l', '深', '红', '色', '深红', '红色']
    """
    tokens: list[str] = []
    for found in _TOKENS.finditer(normalize(text)):
        word = found.group()
        if found.group("run"):
            tokens.extend(word)
            tokens.extend(word[i : i + 2] for i in range(len(word) - 1))
        else:
            tokens.append(word)
    return tokens


def has_ideographs(text: str) -> bool:
    """Whether a text holds Chinese or Japanese characters, which are written without spaces.

    >>> has_ideographs("red dress 红"), has_ideographs("red dress")
    (True, False)
    """
    return re.search(rf"[{_IDEOGRAPH}]", text) is not None
