"""Model numbers, series and GTINs of a text."""

from __future__ import annotations

import re
from collections.abc import Iterator

from afmrl.attributes.quantities import quantities
from afmrl.data.check_digit import is_gtin

_CHUNK = re.compile(r"[a-z0-9]+(?:[-./+][a-z0-9]+)*")
_MARKS = re.compile(r"[-./+]")
# standards, sizes and products' own words that look like codes
_NO_CODE = re.compile(
    r"(?:mp[34]|ddr\d\w?|gddr\d\w?|lpddr\d\w?|usb\d*\w?|h26[45]|ps[1-5]|xbox\d*|[234]k|8k|[2345]g|wifi\d?\w?|80211\w*|"
    r"cat\d\w?|rj\d\d|\d+(?:st|nd|rd|th|er|ème|e)|\d+x\d+(?:x\d+)?\w{0,2}|\d+in\d+|win\d+|sata\d*|pcie\d*|gen\d|"
    r"m2|ip[x6]\d\d?|\d+[spxw]|\d+s|\d+pcs?|\d+pack|x\d+|r\d\d|dvd\d*|core2?|i[3579]|u[13]|c10|v[369]0|a[12]|cl\d\d?|"
    r"\d+(?:gb|tb|mb|mm|cm|ml|kg|hz|mhz|ghz|mah|wh|mp|in|ft|lb|oz|dpi|rpm|fps|ch|port|way|pin|bit|nm|db|va|spd|sp|fach|str|pgs|pages|ppm|cores?)|"
    r"\d{1,2}v|f\d{1,2})$"
)
_DIGITS = re.compile(r"\d+")
_SHORT = re.compile(r"([a-z]{1,3})(\d{1,4}(?:[a-z]{1,2})?)$")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_STEM = re.compile(r"(.*\d)[a-z]{1,3}$")
_LEADING = re.compile(r"[a-z]+")
_GTIN = re.compile(r"(?<!\d)(?:\d{8}|\d{12,14})(?!\d)")
_NUMBERED = re.compile(
    r"(?<![\w.-])([a-z][a-z']+)[ -](\d{1,4}(?:\.\d)?[a-z]{0,2})(?![\w./-]| ?['\"]|"
    r"[ -](?:x |disc|series|in |inch|th |way))"
)
_VARIANT_NAMES = "pro plus max mini lite ultra air xt ti super se fe xl slim fold flip"
_VARIANTS = {
    **{name: name for name in _VARIANT_NAMES.split()},
    **dict.fromkeys(("professional", "prof"), "pro"),
}
# words before a number that does not name a model: "pack of 2", "with 3 ports"
_NO_SERIES_WORDS = (
    "of in on at by to or no nr eu uk us de "
    "and for with the from plus pack set box lot case per over under about approx gen generation size part class level "
    "usb ddr hdmi sata pcie gddr bluetooth wifi wireless speed type version ver vers mhz ghz rpm black white blue red "
    "green gold silver gray grey pink yellow cyan magenta purple orange brown"
)
_NO_SERIES = frozenset(_NO_SERIES_WORDS.split())


def codes(text: str) -> list[str]:
    """Codes that can name one product: letters and digits (five signs or more) or at least five digits, unpunctuated.

    >>> codes("dymo d1 tape s-0720680 9mm x 7m 1920x1080")
    ['s0720680']
    """
    found: dict[str, None] = {}
    for chunk in _CHUNK.findall(quantities(text)[1]):
        code = _MARKS.sub("", chunk)
        digits = sum(map(len, _DIGITS.findall(code)))
        if len(code) < 5 or digits < 2 or len(code) > 24 or _NO_CODE.match(code):
            continue
        if digits == len(code) and ("." in chunk or is_gtin(code)):
            continue
        if any(_is_word(part) for part in _MARKS.split(chunk)):
            continue
        found[code] = None
    return list(found)[:6]


def _is_word(part: str) -> bool:
    # "wall-mount-42": a phrase, not a code
    return part.isalpha() and len(part) > 5


def forms(text: str) -> Iterator[str]:
    """Every spelling that a code may have in a text: parts, chunks and neighbors written as one.

    >>> sorted(set(forms("wd 10-ezex")))
    ['10', '10ezex', 'ezex', 'wd', 'wd10', 'wd10ezex']
    """
    before, joined = "", ""
    for chunk in _CHUNK.findall(text):
        parts = _MARKS.split(chunk)
        whole = "".join(parts)
        yield whole
        if len(parts) > 1:
            yield from parts
            for stop in range(2, len(parts)):
                yield "".join(parts[:stop])
        if before and len(before) + len(whole) <= 24:
            yield before + whole
            yield before + parts[0]
            if joined and len(joined) + len(whole) <= 24:
                yield joined + whole
        joined = before + whole if before else ""
        before = whole


def numbers(text: str) -> set[str]:
    """Every run of digits, decimals whole.

    >>> sorted(numbers("ef-s 18-200mm f/3.50"))
    ['18', '200', '3.5']
    """
    return {found.rstrip("0").rstrip(".") if "." in found else found for found in _NUMBER.findall(text)}


def loose_forms(code: str) -> Iterator[str]:
    """What other shops may leave of a code: its beginning, and what follows its leading letters.

    >>> sorted(loose_forms("tv24746b"))
    ['24746b', 'tv247', 'tv2474', 'tv24746', 'tv24746b']
    """
    yield code
    yield from (code[:stop] for stop in range(5, len(code)))
    rest = _LEADING.sub("", code, count=1)
    if len(rest) >= 5:
        yield rest


def stem(code: str) -> str:
    """A code without the one to three letters at its end, by which shops tell colors and countries apart.

    >>> stem("rxv663bk"), stem("ab12c")
    ('rxv663', 'ab12c')
    """
    match = _STEM.match(code)
    return match[1] if match and len(match[1]) >= 5 and sum(map(str.isdigit, match[1])) >= 2 else code


def schemes(code: str) -> tuple[str, str]:
    """How a maker builds its codes: which signs are letters and which digits, and how the code begins.

    >>> schemes("wd20ezrx")
    ('aa99aaaa', 'wd2')
    """
    return re.sub("[a-z]", "a", _DIGITS.sub(lambda digits: "9" * len(digits[0]), code)), code[:3]


def series(text: str) -> list[tuple[str, str, str | None]]:
    """Short model names: a name, the number after it, and the variant after that.

    The variant is "" where the text names none, and None where one is elsewhere and may belong to something else.

    A name with several numbers is left out.

    >>> series("samsung galaxy a12s, iphone 12 pro max, office 2007.0")
    [('a', '12s', None), ('iphone', '12', 'pro max'), ('office', '2007', None)]
    """
    found: dict[str, dict[str, str | None]] = {}
    rest = quantities(text)[1]
    for match in _CHUNK.finditer(rest):
        whole = _MARKS.sub("", match[0])
        short = _SHORT.match(whole)
        if short and len(whole) <= 5 and not _NO_CODE.match(whole):
            found.setdefault(short[1], {})[short[2]] = _variant(rest, match.end())
    for match in _NUMBERED.finditer(rest):
        if match[1] not in _NO_SERIES and (match[2].endswith("s") or not _NO_CODE.match(match[2])):
            found.setdefault(match[1], {})[match[2].removesuffix(".0")] = _variant(rest, match.end())
    return [(name, *next(iter(values.items()))) for name, values in found.items() if len(values) == 1]


def _variant(text: str, start: int) -> str | None:
    """The words that tell variants of one model apart, where they come first in the rest of the text."""
    words: list[str] = []
    for word in text[start:].split(maxsplit=3)[:3]:
        plain = word.strip(",;()[]|-")
        if plain not in _VARIANTS:
            break
        words.append(_VARIANTS[plain])
    if words or not any(word in _VARIANTS for word in _CHUNK.findall(text)):
        return " ".join(words)
    return None


def gtins(text: str) -> list[str]:
    """Article numbers whose check digit is right, without leading zeros.

    >>> gtins("ean 4006381333931")
    ['4006381333931']
    """
    return list(dict.fromkeys(found.lstrip("0") for found in _GTIN.findall(text) if is_gtin(found)))
