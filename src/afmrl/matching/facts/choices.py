"""Words that exclude one another: an offer for the left side is not one for the right side."""

from __future__ import annotations

import re
from collections.abc import Mapping

_LANGUAGES = (
    "english french german spanish italian japanese chinese mandarin portuguese russian korean arabic dutch polish "
    "swedish greek hebrew"
)
_GRADES = "1st 2nd 3rd 4th 5th 6th 7th 8th"
CHOICES: Mapping[str, Mapping[str, str]] = {
    "side": {
        **dict.fromkeys(("left", "links", "gauche"), "left"),
        **dict.fromkeys(("right", "rechts", "droite"), "right"),
    },
    "wearer": {
        **dict.fromkeys(("men", "mens", "men's", "male", "herren", "homme"), "men"),
        **dict.fromkeys(("women", "womens", "women's", "ladies", "lady", "damen", "femme", "female"), "women"),
        **dict.fromkeys(("kids", "kid's", "children", "children's", "kinder", "enfant", "junior"), "children"),
    },
    "channels": {"mono": "mono", "monaural": "mono", "duo": "stereo", "stereo": "stereo", "binaural": "stereo"},
    "language": {name: name for name in _LANGUAGES.split()},
    "grade": {
        **{name: name for name in ("preschool", "toddler", "kindergarten")},
        **{f"{name} grade": name for name in _GRADES.split()},
    },
    "multiple": {
        **dict.fromkeys(("single", "1-pack", "1pk"), "single"),
        **dict.fromkeys(("twin", "double", "2-pack", "2pk", "twinpack", "twin-pack"), "twin"),
        **dict.fromkeys(("triple", "3-pack", "3pk"), "triple"),
    },
}
"""Key, and its words with what they mean. An offer that names several of one key has chosen none."""


def _pattern(words: Mapping[str, str]) -> re.Pattern[str]:
    return re.compile(
        rf"(?<![\w-])({'|'.join(re.escape(word) for word in sorted(words, key=len, reverse=True))})(?![\w])"
    )


_PATTERNS = {key: _pattern(words) for key, words in CHOICES.items()}


_SIZE = re.compile(
    r"(?<!\w)(?:size|taille|größe|gr\.?|talla|eu|uk)[ :.]{1,2}(x{0,4}[sl]|m|\d{1,3}(?:[.,]5)?)(?![\w./-])|"
    r"(?<![\w-])(x{1,4}s|x{2,4}l)(?!\w)|, (s|m|l|xl)(?= ?(?:,|$))"
)
"""A size that is named so; XS and XXL by themselves; S, M, L after a comma. XL alone is as often a large cartridge."""


def sizes(text: str) -> list[str]:
    """Sizes of clothes and shoes in a normalized text, each once.

    >>> sizes("t-shirt size m, xxl")
    ['m', 'xxl']
    """
    return list(dict.fromkeys(next(filter(None, match.groups())) for match in _SIZE.finditer(text)))


def choices(text: str) -> list[tuple[str, str]]:
    """What a normalized text chooses, one value a key.

    >>> choices("jabra biz 2300 mono usb, left and right")
    [('channels', 'mono')]
    """
    found: list[tuple[str, str]] = []
    for key, pattern in _PATTERNS.items():
        values = {CHOICES[key][word] for word in pattern.findall(text)}
        if len(values) == 1:
            found.append((key, values.pop()))
    return found
