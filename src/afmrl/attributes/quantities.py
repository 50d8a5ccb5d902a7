"""Numbers with units in a text, brought to one unit a quantity."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from afmrl.attributes.pack_words import PIECES, pack_count, pack_pattern

_PIECES = (*PIECES.split(), "capsules", "kapseln", "rolls", "rollen")
UNITS: Mapping[str, tuple[str, dict[str, float]]] = {
    # key: (unit that values are written in, {other spelling: its size in that unit})
    "memory": ("gb", {"tb": 1000, "gb": 1, "gig": 1, "mb": 1e-3, "kb": 1e-6}),
    "length": (
        "mm",
        {"mm": 1, "cm": 10, "m": 1000, "meter": 1000, "metre": 1000, "inch": 25.4, "inches": 25.4, "in.": 25.4}
        | {'"': 25.4, "''": 25.4, "”": 25.4, "″": 25.4, "ft": 304.8, "foot": 304.8, "feet": 304.8}
        | {"毫米": 1, "厘米": 10, "米": 1000, "英寸": 25.4},
    ),
    "weight": (
        "g",
        {"mg": 1e-3, "g": 1, "gram": 1, "kg": 1000, "lb": 453.59, "lbs": 453.59, "oz": 28.35}
        | {"毫克": 1e-3, "克": 1, "千克": 1000, "公斤": 1000},
    ),
    "volume": (
        "ml",
        {"ml": 1, "cl": 10, "l": 1000, "liter": 1000, "litre": 1000, "fl oz": 29.57, "毫升": 1, "升": 1000},
    ),
    "area": ("sq ft", {"sq ft": 1, "sqft": 1, "square feet": 1}),
    "power": ("w", {"w": 1, "watt": 1, "kw": 1000, "mw": 1e-3}),
    "voltage": ("v", {"v": 1, "volt": 1, "kv": 1000}),
    "charge": ("mah", {"mah": 1}),
    "frequency": ("mhz", {"hz": 1e-6, "khz": 1e-3, "mhz": 1, "ghz": 1000}),
    "pixels": ("mp", {"mp": 1, "megapixel": 1, "mpix": 1, "mpx": 1}),
    "lines": ("p", {"p": 1}),
    "zoom": ("x", {"x": 1}),
    "speed": ("rpm", {"rpm": 1}),
    "rate": ("mb/s", {"mb/s": 1, "mbs": 1, "mbps": 0.125, "gbps": 125, "gb/s": 1000}),
    "resolution": ("dpi", {"dpi": 1}),
    "heat": ("btu", {"btu": 1}),
    "bits": ("bit", {"bit": 1}),
    "speeds": ("speed", {"speed": 1}),
    "pages": ("pages", {"pages": 1, "page": 1, "sheets": 1, "sheet": 1}),
    "users": ("users", {"user": 1, "users": 1, "license": 1, "licenses": 1, "seat": 1, "seats": 1}),
    "pack": (
        "pieces",
        {
            "pack": 1,
            "pak": 1,
            "pakk": 1,
            "pk": 1,
            "pcs": 1,
            "pc": 1,
            "pieces": 1,
            "piece": 1,
            "ct": 1,
            "count": 1,
            "件": 1,
        }
        | dict.fromkeys(_PIECES, 1.0),
    ),
    "ports": ("ports", {"port": 1, "ports": 1}),
    "cups": ("cups", {"cup": 1, "cups": 1}),
    "duration": ("hours", {"hour": 1, "hours": 1, "hr": 1, "hrs": 1}),
}
_OF = {spelling: (key, unit, size) for key, (unit, sizes) in UNITS.items() for spelling, size in sizes.items()}
_SPELLINGS = "|".join(re.escape(spelling) for spelling in sorted(_OF, key=len, reverse=True))
# 1/4, 1-1/2, and ½ as NFKC writes it: 1⁄2, after a whole number (1½) without a gap: 11⁄2
_FRACTION = r"(?:\d{1,3}[ -])?\d{1,3}/\d{1,3}(?![\d/.,])|\d{1,4}⁄\d{1,2}"
_GROUPED = r"\d{1,3}(?:[.,'’]\d{3})+(?:[.,]\d{1,4})?"
_NUMBER = rf"(?:{_FRACTION}|{_GROUPED}|\d{{1,9}}(?:[.,]\d{{1,4}})?)"
# a number starts no earlier than after something that is neither letter, digit nor a dot: s0720 and v1.5 hold none
_QUANTITY = re.compile(rf"(?<![\w.,-])({_NUMBER})([ -]?)({_SPELLINGS})s?(?![\w/])")
_TIMES = re.compile(
    rf"(?<![\w.])({_NUMBER}) ?[x×*] ?"
    rf"(?={_NUMBER}(?: ?[x×*] ?{_NUMBER})?[ -]?(mm|cm|m|inch|inches|in\.|\"|ft)(?!\w))"
)
_PARTED = ("length", "weight", "volume", "cups", "duration")  # stated in halves and quarters
_WHOLE = ("mm", "cm", "mg")  # but not in these units: 5/8 mm are two sizes
_COUNTED = frozenset(("charge", "speed", "heat", "resolution", "pages", "users", "pack", "ports", "bits", "lines"))
"""Stated in whole numbers: 10.000 mah are ten thousand."""
_COUNTED_UNITS = frozenset(("w", "watt", "hz"))
_SMALL_UNITS = frozenset(("mm", "mg", "g", "gram", "ml", "mb", "mhz", "毫米", "克", "毫升"))
_LARGE_UNITS = frozenset(("kg", "l", "liter", "litre", "千克", "公斤", "升"))
"""1.500 g are rather fifteen hundred than one and a half, 1,500 kg rather one and a half."""
_SPACED = re.compile(r"(?<![\w.,-])(\d{1,3}(?: \d{3})+) ?(mah|rpm|btu|w|watt|g|ml|hz|pages)(?!\w)")
_SURELY_SPACED = ("mah", "rpm", "btu")
_GENERATION = re.compile(r"(?:[2-6]|10|25|40|100)g")
_MOBILE = re.compile(
    r"\d ?[gt]b\b|\b(?:(?:smart)?phones?|iphone|ipad|galaxy|tablet|lte|mobile|cellular|unlocked|sim|wifi|wi-fi|router|"
    r"modem|hotspot|sfp|ethernet|gige|switch|lan|poe)\b|手机"
)
_ZOOM = re.compile(r" (?:optical |digital )?zoom")
_CONTENT = r"(?:fl oz|ml|cl|l|liter|litre|mg|g|gram|kg|oz|lbs?|毫升|升|毫克|克|千克|公斤)s?(?![\w/])"
# 6 x 330 ml, 4 x 6 x 330 ml
_TIMES_CONTENT = re.compile(rf"(?<![\w.,-])(\d{{1,4}})(?: ?[x×*] ?(\d{{1,3}}))? ?[x×*] ?(?={_NUMBER}[ -]?{_CONTENT})")
_CONTENT_TIMES = re.compile(
    rf"(?<![\w.,-])({_NUMBER}[ -]?{_CONTENT}) ?[x×*] ?(\d{{1,4}})(?![\w/]|[.,]\d| ?[x×*]|[ -]?(?:mm|cm|m|in|inch)\b)"
)
# at a title's beginning, where something is measured out: 6 x cola 330 ml
_LEADING_COUNT = re.compile(rf"^(\d{{1,3}}) ?[x×] ?(?=[^\W\d])(?=.*\d[ -]?{_CONTENT})(?!.*zoom)")
_PACK_OF = pack_pattern([spelling for spelling, (key, _, _) in _OF.items() if key != "pack" and spelling[-1].isalpha()])
_HOLDS = re.compile(r"\b(?:for|für|holds|up to|bis zu|pour|per) (?:\d{1,4} ?(?:-|to|bis) ?)?$")
MAX_EACH = 6
"""Pieces up to which volume and weight are rather those of one: 3 pz 500 g, but 100 pieces 500 g."""
_LOOSE = frozenset(("pcs", "pc", "pieces", "piece", "ct", "count", "件", *_PIECES))
"""Count what a pack holds, whose weight is then rather the whole pack's."""


@dataclass(frozen=True, slots=True)
class Measures:
    """What a normalized text measures and counts."""

    found: Mapping[str, str]
    """Key → its quantities in one unit, in order, joined by " x "."""
    others: Mapping[str, tuple[str, ...]]
    """Key → what a number may mean besides: 1,500 kg are fifteen hundred or one and a half."""
    rest: str
    """The text without them."""
    count: int = 0
    """How many of one kind are sold together, where one number says so: 6 of 6 x 330 ml; 0: nothing says so."""
    each: bool = False
    """Whether volume and weight are surely those of one of them: 6 cans of 330 ml, but not 100 pieces, 500 g."""


def quantities(text: str) -> tuple[dict[str, str], str]:
    """Quantities of a normalized text, and the text without them.

    Several of one kind keep their order, joined by " x ": a tape's width and length.

    >>> quantities("ssd 1 tb sata, 2.5 inch")
    ({'memory': '1000 gb', 'length': '63.5 mm'}, 'ssd sata, ')
    >>> quantities("tape 9mm x 7m, pack of 5")[0]
    {'pack': '5 pieces', 'length': '9 mm x 7000 mm'}
    >>> quantities("power bank 10.000 mah")[0], quantities("power bank 10 000 mah")[0]
    ({'charge': '10000 mah'}, {'charge': '10000 mah'})
    """
    read = measures(text)
    return dict(read.found), read.rest


@lru_cache(maxsize=4096)
def measures(text: str) -> Measures:
    """Quantities of a normalized text, with every meaning that an ambiguous number may have.

    >>> measures("kettlebell 1,500 kg").others, measures("kettlebell 1.5 kg").others
    ({'weight': ('1500000 g',)}, {})
    """
    found: dict[str, list[str]] = {}
    others: dict[str, list[str]] = {}
    whole, each, loose = text, False, False

    def note(key: str, unit: str, *readings: float) -> str:
        first, *rest = (f"{written(number)} {unit}" for number in readings)
        values = found.setdefault(key, [])
        if first not in values:
            values.append(first)
        if rest:
            others.setdefault(key, []).extend(rest)
        return " "

    def take(match: re.Match[str]) -> str:
        nonlocal loose
        number, gap, spelling = match[1], match[2], match[3]
        key, unit, size = _OF[spelling]
        if key == "pack" and spelling in _LOOSE:
            loose = True
        if not gap and _GENERATION.fullmatch(number + spelling) and _MOBILE.search(whole):
            return match[0]  # a network's generation or speed, not grams
        if not gap and spelling == "l" and number.isdigit() and len(number) > 3:
            return match[0]  # catalyst 2960l
        if key == "zoom" and len(number) > 3 and number.isdigit() and not _ZOOM.match(match.string, match.end()):
            return match[0]  # ryzen 5 2600x
        before, slash, last = number.rpartition("/")
        if slash and (key not in _PARTED or spelling in _WHOLE or int(before.split("-")[-1].split()[-1]) >= int(last)):
            return f"{before}/" + note(key, unit, float(last) * size)  # 10/100 mbps: two values, the last has the unit
        return note(key, unit, *(number * size for number in _readings(number, key, spelling)))

    def spaced(match: re.Match[str]) -> str:
        key, unit, size = _OF[match[2]]
        whole_number, last = float(match[1].replace(" ", "")), float(match[1].split()[-1])
        if match[2] in _SURELY_SPACED or not last:
            return note(key, unit, whole_number * size)
        return f"{match[1].rpartition(' ')[0]} " + note(key, unit, last * size, whole_number * size)  # drill 18 500 w

    def pack(match: re.Match[str]) -> str:
        nonlocal each
        if _HOLDS.search(match.string[: match.start()]):
            return match[0]  # a rack for 6 bottles
        each = True
        return note("pack", "pieces", pack_count(match))

    def times(match: re.Match[str]) -> str:
        nonlocal each
        if _GENERATION.match(match.string, match.end()) and _MOBILE.search(whole):
            return f"{match[1]} "  # 2 x 10g ports
        each = True
        return note("pack", "pieces", float(match[1]) * float(match[2] or 1))

    def timed(match: re.Match[str]) -> str:
        nonlocal each
        each = True
        return f"{match[1]} " + note("pack", "pieces", float(match[2]))

    text = _LEADING_COUNT.sub(pack, _CONTENT_TIMES.sub(timed, _TIMES_CONTENT.sub(times, text)))
    text = _PACK_OF.sub(pack, text)
    # 100 x 200 mm: the unit belongs to both
    text = _TIMES.sub(lambda match: f"{match[1]} {match[2]} x ", text)
    text = _SPACED.sub(spaced, text)
    text = _QUANTITY.sub(take, text)
    rest = " ".join(text.split(" ")).replace("  ", " ")
    joined = {key: " x ".join(values[:4]) for key, values in found.items()}
    counts = found.get("pack", ())
    count = int(float(counts[0].split()[0])) if len(counts) == 1 else 0
    ambiguous = {key: tuple(dict.fromkeys(values)) for key, values in others.items()}
    return Measures(joined, ambiguous, rest, count, each or not loose or count <= MAX_EACH)


def _readings(text: str, key: str, spelling: str) -> list[float]:
    """What a number may mean, the likeliest first: 2,5 is two and a half, 0,750 three quarters like 3/4 and ¾.

    Three digits after one mark are thousands, or decimals where the unit is large; in whole units always thousands.
    """
    if "⁄" in text:
        over, _, under = text.partition("⁄")
        return [float(over[:-1] or 0) + int(over[-1]) / max(int(under), 1)]
    if "/" in text:
        *whole, part = text.replace("-", " ").split()
        over, _, under = part.partition("/")
        return [float(whole[0] if whole else 0) + int(over) / int(under)]
    marks = [sign for sign in text if sign in ".,'’"]
    *groups, last = re.split("[.,'’]", text)
    if not marks:
        return [float(text)]
    grouped, decimal = float("".join(groups) + last), float(f"{''.join(groups)}.{last}")
    if len(last) != 3 or not groups[0].strip("0") or len(groups[0]) > 3:
        return [decimal]
    if len(marks) > 1:  # 1.234.567; 1.234,567 has its decimals after the other mark
        return [grouped if len(set(marks)) == 1 else decimal]
    if marks[0] in "'’" or key in _COUNTED or spelling in _COUNTED_UNITS:
        return [grouped]
    thousands = spelling in _SMALL_UNITS or (marks[0] == "," and spelling not in _LARGE_UNITS)
    return [grouped, decimal] if thousands else [decimal, grouped]


def written(number: float) -> str:
    """A number to six figures, without an exponent where it is large.

    >>> written(1500), written(0.75), written(1_500_000)
    ('1500', '0.75', '1500000')
    """
    text = f"{number:.6g}"
    return f"{number:.0f}" if "e+" in text else text
