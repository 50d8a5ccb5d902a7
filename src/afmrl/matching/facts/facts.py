"""What an offer states of itself: key and value, and whether the seller, the generator or a rule says so."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from afmrl.attributes.colors import plain_colors
from afmrl.attributes.extractor import AttributeExtractor
from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.attributes.missing import says_nothing
from afmrl.attributes.quantities import UNITS, Measures, measures, written
from afmrl.attributes.words import normalize
from afmrl.data.gtin import gtins_in, is_gtin_key
from afmrl.data.offer import Offer
from afmrl.matching.facts.choices import choices, sizes
from afmrl.matching.facts.codes import codes, gtins, series
from afmrl.matching.facts.fact import Fact, Source
from afmrl.matching.facts.packs import in_total

# between two numbers: the unit of a zoom is an x too
_SEVERAL = re.compile(r" x (?=\d)| / ")
SELLERS_KEYS: Mapping[str, str] = {
    **dict.fromkeys(("color", "colour", "farbe", "couleur", "kleur", "colore", "colour name", "color name"), "color"),
    **dict.fromkeys(("mpn", "sku model", "part number", "part no", "model number", "model no", "modelno"), "mpn"),
    **dict.fromkeys(("manufacturer part number", "manufacturer number", "herstellernummer", "teilenummer"), "mpn"),
    **dict.fromkeys(("storage", "capacity", "memory", "storage capacity", "ssd", "hard disk"), "memory"),
    **dict.fromkeys(
        ("pack", "pack size", "pack count", "count", "number of pieces", "multipack", "unit count"), "pack"
    ),
    **dict.fromkeys(("number of items", "pieces", "items per pack", "stückzahl", "packungsgröße"), "pack"),
    **dict.fromkeys(("units per pack", "pieces per pack", "multi pack", "pack quantity"), "pack"),
    **dict.fromkeys(("brand", "manufacturer", "vendor", "marke", "品牌"), "brand"),
    **dict.fromkeys(("size", "größe", "taille", "shoe size", "clothing size"), "size"),
    **dict.fromkeys(("version",), "version"),
    **dict.fromkeys(("edition",), "edition"),
    **dict.fromkeys(("model", "model name"), "model name"),
}
"""What sellers call a key that rules read off titles too."""
QUANTITIES = frozenset(UNITS)
EXACT = frozenset(("memory", "pack", "users", "ports", "speeds", "bits", "cups"))
"""Quantities that are counted; all others are measured, and two shops round them differently."""
SILENT = frozenset(("price", "currency", "url", "id", "sku"))
"""Keys that say nothing of which product it is."""
STOCK = frozenset(("quantity", "qty", "units", "stock", "inventory", "stock quantity", "menge", "bestand"))
"""Keys whose bare number is how many a shop has, not how many a pack holds."""
IDENTIFIERS = frozenset(("brand", "mpn", "gtin"))
"""Keys whose zeros and "generic" say nothing."""
_MARKS = re.compile("[™®©℠]")
_NAMESPACE = re.compile(r"^[a-z]{1,8}:(?=\w)")
_BETWEEN_WORDS = re.compile(r"[\s_.-]+")
_PACK_VALUE = re.compile(r"(\d{1,5})(?:[.,]0+)?(?:['’]?er| ?x)?")  # 6, 6.0, 6er
_MAX_VALUE = 80
MAX_COLORS = 5
_FROM_RULES = frozenset(("brand", "gtin", "aperture", "year", "version", "license", "edition", "platform", *QUANTITIES))


def facts(offer: Offer, generated: KeyAttributes | None, extractor: AttributeExtractor) -> Iterator[Fact]:
    """All that an offer states; a key may come several times, with the several values that a title names.

    Of a pack, volume and weight are those of all that is in it.

    >>> offer = Offer("1", "Samsung Galaxy A12s 64GB, blue", attributes={"Color": "Blue"})
    >>> [f"{fact.key}={fact.value}" for fact in facts(offer, None, AttributeExtractor(["samsung"]))]
    ['brand=samsung', 'memory=64 gb', 'color=blue', 'series a=12s', 'variant a 12s=plain', 'color=blue']
    >>> lens = facts(Offer("2", "Lens 12x 4x"), None, AttributeExtractor())
    >>> [f"{fact.key}={fact.value}" for fact in lens]
    ['zoom=12 x', 'zoom=4 x']
    """
    text = title(offer)
    measured = measures(text)
    found = list(_of_title(offer, text, measured, extractor))
    for key, value in offer.attributes.items():
        found.extend(_stated(str(key), value, "seller"))
    yield from in_total(found, each=measured.each, rounded=rounded)
    for key, value in generated or ():
        yield from _stated(key, value, "generated")


def _of_title(offer: Offer, text: str, measured: Measures, extractor: AttributeExtractor) -> Iterator[Fact]:
    for key, value in extractor.extract(Offer(id=offer.id, title=text, attributes=offer.attributes)):
        if key in _FROM_RULES and key != "gtin":
            for part in _SEVERAL.split(value):
                yield Fact(key, rounded(key, part.removesuffix(".0")), "extracted")
    for key, others in measured.others.items():
        yield from (Fact(key, rounded(key, value), "extracted") for value in others)
    for color in plain_colors(text)[:MAX_COLORS]:
        yield Fact("color", color, "extracted")
    for gtin in gtins(text):
        yield Fact("gtin", gtin, "extracted")
    for name, value, variant in series(text):
        yield Fact(f"series {name}", value, "extracted")
        if variant is not None:
            yield Fact(f"variant {name} {value}", variant or "plain", "extracted")
    for key, value in choices(text):
        yield Fact(key, value, "extracted")
    for size in sizes(text):
        yield Fact("size", size, "extracted")
    for code in codes(text):
        yield Fact("model", code, "extracted")


def title(offer: Offer) -> str:
    """An offer's title, normalized; inches that an export has escaped are mended."""
    return normalize(_MARKS.sub(" ", offer.title[:2_000].replace('\\"', '"')))


def mpns(offer: Offer) -> list[str]:
    """Part numbers that the seller states, unpunctuated; those that say nothing are left out.

    >>> mpns(Offer("1", attributes={"MPN": "WD-10 EZEX", "part_number": "Does not apply"}))
    ['wd10ezex']
    """
    named = (value for key, value in offer.attributes.items() if key_name(str(key)) == "mpn")
    return list(dict.fromkeys(code for value in named for one in _each(value) if (code := _unpunctuated(one))))


def stated_gtins(offer: Offer) -> list[str]:
    """GTINs that the seller states, without leading zeros."""
    named = (value for key, value in offer.attributes.items() if key_name(str(key)) == "gtin")
    return list(dict.fromkeys(gtin.lstrip("0") for value in named for gtin in gtins_in(value)))


def key_name(key: str) -> str:
    """A key as facts call it.

    >>> key_name("GTIN/EAN"), key_name("g:mpn"), key_name("Shoe_Size"), key_name("Wood")
    ('gtin', 'mpn', 'size', 'wood')
    """
    key = _NAMESPACE.sub("", normalize(key))
    if is_gtin_key(key):
        return "gtin"
    key = " ".join(_BETWEEN_WORDS.sub(" ", key).split()) or key
    return SELLERS_KEYS.get(key, key)


def _each(value: Any) -> Iterator[Any]:
    yield from value if isinstance(value, list | tuple) else [value]


def _unpunctuated(value: Any) -> str:
    return "" if says_nothing(value, identifier=True) else re.sub(r"[\W_]+", "", normalize(str(value)))


def _stated(key: str, value: Any, source: Source) -> Iterator[Fact]:
    if isinstance(value, list | tuple):
        for one in value:
            yield from _stated(key, one, source)
        return
    key = key_name(key)
    if not key or key in SILENT or says_nothing(value, identifier=key in IDENTIFIERS):
        return
    if key == "gtin":
        yield from (Fact("gtin", gtin.lstrip("0"), source) for gtin in gtins_in(value))
        return
    value = normalize(str(value))
    if len(value) > _MAX_VALUE:
        return
    if key == "brand":  # 3m is no length
        yield Fact("brand", value, source)
        return
    if key == "mpn":
        if code := _unpunctuated(value):
            yield Fact("mpn", code, source)
        return
    if key == "color":
        named = plain_colors(value)[:MAX_COLORS]
        yield from (Fact("color", name, source) for name in named or [value])
        return
    if key in STOCK and re.fullmatch(r"[\d.,]+", value):
        return
    if key == "pack" and (count := _PACK_VALUE.fullmatch(value)):
        if int(count[1]):  # 0: what a feed writes for no pack
            yield Fact("pack", f"{int(count[1])} pieces", source)
        return
    measured = measures(value)
    if measured.found:
        for kind, values in measured.found.items():
            for one in (*_SEVERAL.split(values), *measured.others.get(kind, ())):
                yield Fact(kind, rounded(kind, one), source)
        return
    if key == "pack":  # "large box": no count
        key = "packaging"
    yield Fact(key, value, source)


def rounded(key: str, value: str) -> str:
    """A measured quantity to three figures, a length to two: 24 inches are 61 cm."""
    number, _, unit = value.partition(" ")
    if key not in QUANTITIES or not unit or (key in EXACT and key != "memory"):
        return value
    if key == "memory":
        return _memory(float(number))
    figures = 2 if key in ("length", "pixels") else 3
    try:
        figure = float(f"{float(number):.{figures}g}")
    except ValueError:
        return value
    return f"{written(figure)} {unit}"


def _memory(gigabytes: float) -> str:
    """Gigabytes; what was counted in steps of 1,024 (4,096 mb, 2,048 gb) as if in steps of 1,000."""
    whole = gigabytes / 1.024
    if abs(whole - round(whole)) < 1e-6 and (gigabytes != round(gigabytes) or gigabytes >= 1000):
        gigabytes = round(whole)
    return f"{gigabytes:.4g} gb"
