"""Which of a seller's attributes are part of an offer's text, under one name a key, the most identifying first."""

from __future__ import annotations

import functools
from typing import Any, Literal, get_args

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.attributes.key_kinds import is_trait
from afmrl.attributes.missing import says_nothing
from afmrl.attributes.words import normalize, tokenize
from afmrl.data.columns import attribute_named
from afmrl.data.gtin import gtins_in, is_gtin_key
from afmrl.data.offer import Offer
from afmrl.errors import InputError

SellerAttributes = Literal["none", "identifying", "all"]
"""Which seller attributes embedder and BM25 read: "none", "identifying" (brand, model number, GTIN, color, size, …), or
"all" but prices, stock, ids and links."""
SELLER_ATTRIBUTES: tuple[str, ...] = get_args(SellerAttributes)
DEFAULT_SELLER_ATTRIBUTES: SellerAttributes = "identifying"
"""Chosen on titles of web shops (benchmarks/seller_attributes.py, docs/results/seller_attributes.md)."""
MAX_CHARACTERS = 100
"""Of a value: what is longer is a description."""
_ORDER = (
    "brand", "mpn", "model", "gtin", "color", "size", "material", "capacity", "storage", "memory", "ram", "pack",
    "edition", "format", "platform", "flavor", "scent", "pattern", "style", "finish", "gender", "age_group", "volume",
    "weight", "net content", "length", "width", "height", "diameter", "dimensions", "power", "voltage",
)  # fmt: skip
_PLACE = {name: place for place, name in enumerate(_ORDER)}
_NAMES = {
    **dict.fromkeys(("品牌", "бренд", "ブランド", "maker", "producer", "publisher", "author", "autor"), "brand"),
    **dict.fromkeys(("item model number", "part no", "sku model", "teilenummer", "型号", "型番"), "mpn"),
    **dict.fromkeys(("颜色", "颜色分类", "cor", "kolor", "цвет", "色", "カラー"), "color"),
    **dict.fromkeys(("尺码", "尺寸", "shoe size", "clothing size", "rozmiar", "размер", "サイズ"), "size"),
    **dict.fromkeys(("材质", "materiaal", "materiał", "материал", "fabric type", "素材"), "material"),
    **dict.fromkeys(("storage capacity", "speicher", "speicherkapazität", "hard disk", "ssd"), "storage"),
    **dict.fromkeys(("pack size", "pack count", "unit count", "number of items", "number of pieces"), "pack"),
    **dict.fromkeys(("multipack", "pieces", "stückzahl", "packungsgröße", "pack quantity"), "pack"),
    **dict.fromkeys(("volumen", "inhalt", "contenance", "contenido", "contenuto", "inhoud"), "volume"),
    **dict.fromkeys(("gewicht", "poids", "peso", "waga"), "weight"),
    **dict.fromkeys(("länge", "longueur", "largo"), "length"),
    **dict.fromkeys(("wattage", "leistung", "puissance"), "power"),
}
_IDENTIFIERS = ("brand", "mpn", "gtin")


def check_seller_attributes(which: str | None) -> None:
    """Refuse an unknown choice.

    Raises:
        InputError: it is none of SELLER_ATTRIBUTES.
    """
    if which is not None and which not in SELLER_ATTRIBUTES:
        raise InputError(f"seller_attributes {which!r}: one of {', '.join(SELLER_ATTRIBUTES)}")


def stated_attributes(offer: Offer, which: SellerAttributes = "identifying") -> KeyAttributes:
    """The seller's attributes that are part of the offer's text.

    Values that say nothing, prices, stock, ids, links and GTINs that a spreadsheet has destroyed never are. Valid GTINs
    have 14 digits.

    >>> stated = {"Farbe": "Rot", "price": "12.99", "EAN-Code": "4006381333931", "Hersteller": "Stabilo", "Cap": "no"}
    >>> str(stated_attributes(Offer("1", "pen", attributes=stated)))
    'brand: stabilo; gtin: 04006381333931; color: rot'
    >>> str(stated_attributes(Offer("1", "pen", attributes=stated), "all"))
    'brand: stabilo; gtin: 04006381333931; color: rot; cap: no'
    >>> len(stated_attributes(Offer("1", "pen", attributes={"brand": "N/A", "ean": "5.9E+12"}), "all"))
    0
    """
    if which == "none" or not offer.attributes:
        return KeyAttributes()
    found: list[tuple[str, str]] = []
    for key, value in offer.attributes.items():
        name = key_name(str(key))
        if (which == "all" or name in _PLACE) and (text := _text(name, value)):
            found.append((name, text))
    return KeyAttributes.of(sorted(found, key=lambda pair: _PLACE.get(pair[0], len(_PLACE))))


@functools.lru_cache(maxsize=2**14)
def key_name(key: str) -> str:
    """A seller's key under the name that all spellings and languages of it share.

    >>> [key_name(key) for key in ("g:color", "Colour", "颜色", "GTIN/EAN", "Item_Model_Number", "Sleeve Length")]
    ['color', 'color', 'color', 'gtin', 'mpn', 'sleeve length']
    """
    if is_gtin_key(key):
        return "gtin"
    plain = " ".join(normalize(key).replace("_", " ").split())
    return attribute_named(key) or _NAMES.get(plain, plain)


def new_values(attributes: KeyAttributes, title: str) -> list[str]:
    """What the seller's attributes add to a title: the values whose words it lacks, with their keys where a value alone
    says little.

    >>> new_values(KeyAttributes.of({"brand": "Sony", "color": "red", "waterproof": "yes"}), "SONY A7")
    ['red', 'waterproof: yes']
    """
    return [value if key in _PLACE else f"{key}: {value}" for key, value in not_in(attributes, title)]


def not_in(attributes: KeyAttributes, text: str) -> KeyAttributes:
    """The pairs whose value has a word that the text lacks.

    >>> str(not_in(KeyAttributes.of({"brand": "Sony", "color": "red"}), "SONY A7"))
    'color: red'
    """
    words = set(tokenize(text))
    return KeyAttributes(tuple(pair for pair in attributes if not words.issuperset(tokenize(pair[1]))))


def _text(name: str, value: Any) -> str:
    """A value as text; "" where it is not part of the offer's text."""
    if name == "gtin":
        return ", ".join(gtins_in(value))
    if isinstance(value, list | tuple | set | frozenset):
        value = ", ".join(str(one) for one in value if not says_nothing(one))
    if says_nothing(value, identifier=name in _IDENTIFIERS) or not is_trait(name, value):
        return ""
    return str(value)[:MAX_CHARACTERS]
