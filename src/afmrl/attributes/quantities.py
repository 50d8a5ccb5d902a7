"""Numbers with units in a text, brought to one unit a quantity."""

from __future__ import annotations

import re
from collections.abc import Mapping

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
    "pack": ("pieces", {"pack": 1, "pk": 1, "pcs": 1, "pc": 1, "pieces": 1, "piece": 1, "ct": 1, "count": 1, "件": 1}),
    "ports": ("ports", {"port": 1, "ports": 1}),
    "cups": ("cups", {"cup": 1, "cups": 1}),
    "duration": ("hours", {"hour": 1, "hours": 1, "hr": 1, "hrs": 1}),
}
_OF = {spelling: (key, unit, size) for key, (unit, sizes) in UNITS.items() for spelling, size in sizes.items()}
_SPELLINGS = "|".join(re.escape(spelling) for spelling in sorted(_OF, key=len, reverse=True))
# 1/4, 1-1/2, and ½ as NFKC writes it: 1⁄2, after a whole number (1½) without a gap: 11⁄2
_FRACTION = r"(?:\d{1,3}[ -])?\d{1,3}/\d{1,3}(?![\d/.,])|\d{1,4}⁄\d{1,2}"
_NUMBER = rf"(?:{_FRACTION}|\d{{1,9}}(?:[.,]\d{{1,4}})?)"
# a number starts no earlier than after something that is neither letter, digit nor a dot: s0720 and v1.5 hold none
_QUANTITY = re.compile(rf"(?<![\w.,-])({_NUMBER})([ -]?)({_SPELLINGS})s?(?![\w/])")
_TIMES = re.compile(
    rf"(?<![\w.])({_NUMBER}) ?[x×*] ?"
    rf"(?={_NUMBER}(?: ?[x×*] ?{_NUMBER})?[ -]?(mm|cm|m|inch|inches|in\.|\"|ft)(?!\w))"
)
_PARTED = ("length", "weight", "volume", "cups", "duration")  # stated in halves and quarters
_WHOLE = ("mm", "cm", "mg")  # but not in these units: 5/8 mm are two sizes
_GENERATION = re.compile(r"[2-6]g")
_MOBILE = re.compile(
    r"\d ?[gt]b\b|\b(?:(?:smart)?phones?|iphone|ipad|galaxy|tablet|lte|mobile|cellular|unlocked|sim|wifi|wi-fi|router|"
    r"modem|hotspot)\b|手机"
)
_ZOOM = re.compile(r" (?:optical |digital )?zoom")
_PACK_OF = re.compile(r"\b(?:pack|set|box|lot|case) of (\d{1,5})\b")


def quantities(text: str) -> tuple[dict[str, str], str]:
    """Quantities of a normalized text, and the text without them.

    Several of one kind keep their order, joined by " x ": a tape's width and length.

    >>> quantities("ssd 1 tb sata, 2.5 inch")
    ({'memory': '1000 gb', 'length': '63.5 mm'}, 'ssd sata, ')
    >>> quantities("tape 9mm x 7m, pack of 5")[0]
    {'pack': '5 pieces', 'length': '9 mm x 7000 mm'}
    """
    found: dict[str, list[str]] = {}

    def note(key: str, unit: str, number: float) -> str:
        value = f"{number:.6g} {unit}"
        values = found.setdefault(key, [])
        if value not in values:
            values.append(value)
        return " "

    def take(match: re.Match[str]) -> str:
        number, gap, spelling = match[1], match[2], match[3]
        key, unit, size = _OF[spelling]
        if not gap and _GENERATION.fullmatch(number + spelling) and _MOBILE.search(whole):
            return match[0]  # a network's generation, not grams
        if key == "zoom" and len(number) > 3 and number.isdigit() and not _ZOOM.match(match.string, match.end()):
            return match[0]  # ryzen 5 2600x
        before, slash, last = number.rpartition("/")
        if slash and (key not in _PARTED or spelling in _WHOLE or int(before.split("-")[-1].split()[-1]) >= int(last)):
            return f"{before}/" + note(key, unit, float(last) * size)  # 10/100 mbps: two values, the last has the unit
        return note(key, unit, _number(number) * size)

    whole = text
    text = _PACK_OF.sub(lambda match: note("pack", "pieces", float(match[1])), text)
    # 100 x 200 mm: the unit belongs to both
    text = _TIMES.sub(lambda match: f"{match[1]} {match[2]} x ", text)
    text = _QUANTITY.sub(take, text)
    return {key: " x ".join(values[:4]) for key, values in found.items()}, " ".join(text.split(" ")).replace("  ", " ")


def _number(text: str) -> float:
    """1,000 is a thousand, 2,5 two and a half, 0,750 three quarters like 3/4 and ¾."""
    if "⁄" in text:
        over, _, under = text.partition("⁄")
        return float(over[:-1] or 0) + int(over[-1]) / max(int(under), 1)
    if "/" in text:
        *whole, part = text.replace("-", " ").split()
        over, _, under = part.partition("/")
        return float(whole[0] if whole else 0) + int(over) / int(under)
    units, comma, rest = text.partition(",")
    if comma:
        return float(units + rest) if len(rest) == 3 and units.strip("0") else float(f"{units}.{rest}")
    return float(text)
