"""Words of a text: normalized, tokenized, Chinese and Japanese included."""

from __future__ import annotations

import re

from afmrl.data.normalized import normalize

__all__ = ["has_ideographs", "normalize", "tokenize"]

# Han, kana and the iteration mark, without the middle dot that separates words
_IDEOGRAPH = "\u3005\u3040-\u309f\u30a1-\u30fa\u30fc-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = rf"[^\W_{_IDEOGRAPH}]+"
_TOKENS = re.compile(rf"(?P<run>[{_IDEOGRAPH}]+)|{_WORD}(?:(?<=\d)\.(?=\d){_WORD})*")

# a number that is grouped or has decimals, or four digits, and its unit, also before another number ("6.4g/65mm", and
# not "1.5 m/s" or the fraction "1/2.5"); a v is as often a version: series 4000 v. 10
_MEASURED = re.compile(
    r"(?<![\w.,'’-])(?<!\d/)(\d{1,3}(?:[.,'’]\d{3})+(?:[.,]\d{1,2})?|\d{1,6}[.,]\d{1,4}|"
    r"\d{1,3}(?: \d{3})+|\d{4,6}(?= ?(?:mah|wh|rpm|btu|watt|w|g|ml)(?!\w))) ?"
    r"(mah|wh|rpm|btu|dpi|watt|kw|w|mhz|ghz|khz|hz|tb|gb|mb|kg|mg|g|ml|cl|liter|litre|l|cm|mm|m|lbs?|oz)(?![\w-]|/(?!\d))"
)
_ONE_UNIT = {"watt": "w", "liter": "l", "litre": "l", "lbs": "lb"}
_COUNTED = frozenset(("mah", "rpm", "btu", "dpi", "watt", "w", "hz"))
_SMALL = frozenset(("g", "mg", "ml", "mm", "mb", "mhz"))
"""Units in which three digits after one mark are thousands, not decimals."""
_SURELY_SPACED = frozenset(("mah", "rpm", "btu"))


def tokenize(text: str) -> list[str]:
    """Words of a text, normalized; a large or broken number and its unit are one word, however they are written.

    A run of Chinese or Japanese characters, which has no spaces, gives its characters and its bigrams: values are
    short, and bigrams alone (Lucene's default for such text) would find nothing in common between 红 and 红色.

    >>> tokenize("Deep-red 1.5L 深红色")
    ['deep', 'red', '1.5l', '深', '红', '色', '深红', '红色']
    >>> tokenize("lure 2.0g/65.0mm"), tokenize("2.0 g")
    (['lure', '2g', '65mm'], ['2g'])
    >>> tokenize("26.800 mAh 26800mAh 26'800 mAh 1,5 L 1,500 kg v14.10.2")
    ['26800mah', '26800mah', '26800mah', '1.5l', '1', '500', 'kg', 'v14.10.2']
    """
    tokens: list[str] = []
    for found in _TOKENS.finditer(_MEASURED.sub(_one_word, normalize(text))):
        word = found.group()
        if found.group("run"):
            tokens.extend(word)
            tokens.extend(word[i : i + 2] for i in range(len(word) - 1))
        else:
            tokens.append(word)
    return tokens


def _one_word(found: re.Match[str]) -> str:
    """A measured number and its unit as one word; unchanged where the number may be two."""
    number, unit = found.groups()
    if " " in number:  # drill 18 500 w
        if unit not in _SURELY_SPACED and not number.endswith(" 000"):
            return found[0]
        number = number.replace(" ", "")
    marks = [sign for sign in number if sign in ".,'’"]
    *groups, last = re.split("[.,'’]", number)
    whole, decimal = "".join(groups) + last, f"{''.join(groups)}.{last}"
    if not marks:
        plain = number
    elif len(last) != 3 or not groups[0].strip("0") or len(groups[0]) > 3:
        plain = decimal
    elif len(marks) > 1:
        plain = whole if len(set(marks)) == 1 else decimal
    elif marks[0] in "'’" or unit in _COUNTED or unit in _SMALL:
        plain = whole
    else:
        return found[0]  # 1,500 kg: fifteen hundred, or one and a half
    if "." in plain:
        plain = plain.rstrip("0").rstrip(".")
    return plain + _ONE_UNIT.get(unit, unit)


def has_ideographs(text: str) -> bool:
    """Whether a text holds Chinese or Japanese characters, which are written without spaces.

    >>> has_ideographs("red dress 红"), has_ideographs("red dress")
    (True, False)
    """
    return re.search(rf"[{_IDEOGRAPH}]", text) is not None
