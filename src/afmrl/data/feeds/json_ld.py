"""schema.org/Product as JSON-LD: one, a list, or a graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from afmrl.data.feeds.notes import FeedNotes

_IDS = ("sku", "productID", "@id", "url")
_CODES = ("gtin", "gtin13", "gtin14", "gtin12", "gtin8", "isbn", "mpn")
"""In place of an id, where a product has none."""


def is_json_ld(value: Any) -> bool:
    """Whether a JSON value says what it is in the words of schema.org."""
    return isinstance(value, Mapping) and ("@type" in value or "@graph" in value)


def product_rows(value: Any, notes: FeedNotes | None = None) -> Iterator[dict[str, Any]]:
    """The rows of every product in a JSON-LD value; variants inherit from their group."""
    notes = notes or FeedNotes()
    if isinstance(value, list):
        for part in value:
            yield from product_rows(part, notes)
    elif isinstance(value, Mapping):
        kinds = _types(value)
        if "ProductGroup" in kinds and value.get("hasVariant"):
            inherited = {name: of for name, of in value.items() if name not in (*_IDS, "@type", "hasVariant")}
            for variant in _list(value["hasVariant"]):
                if isinstance(variant, Mapping):
                    yield _row({**inherited, **variant}, notes)
        elif kinds & {"Product", "ProductModel", "IndividualProduct", "ProductGroup", "SomeProducts"}:
            yield _row(value, notes)
        else:
            for name in ("@graph", "itemListElement", "item", "mainEntity"):
                if isinstance(value.get(name), Mapping | list):
                    yield from product_rows(value[name], notes)


def _types(value: Mapping[str, Any]) -> set[str]:
    return {str(kind).replace("#", "/").rpartition("/")[2].rpartition(":")[2] for kind in _list(value.get("@type"))}


def _row(value: Mapping[str, Any], notes: FeedNotes) -> dict[str, Any]:
    attributes = {}
    for one in _list(value.get("additionalProperty")):
        if isinstance(one, Mapping) and one.get("name") and one.get("value") not in (None, ""):
            attributes[str(one["name"])] = " ".join(
                str(part) for part in (_text(one["value"]), one.get("unitText")) if part
            )
    offers = [one for one in _list(value.get("offers")) if isinstance(one, Mapping)]
    sellers = [name for one in offers if (name := _text(one.get("seller")))]
    plain = {
        name.rpartition(":")[2]: _text(of)
        for name, of in value.items()
        if name not in ("@context", "@type", "@id", "offers", "additionalProperty", "image", "isVariantOf", "review")
    }
    named = [(name, _text(value.get(name))) for name in _IDS]
    named += [("offers.sku", _text(one.get("sku"))) for one in offers]
    named += [(name, _text(value.get(name))) for name in _CODES]
    source, identifier = next(((name, text) for name, text in named if text), ("", None))
    if source:
        notes.takes("id", source)
        notes.consumed.add(source)
    row = {"id": identifier, **plain, "image": [_address(one) for one in _list(value.get("image"))]}
    if attributes:
        row["attributes"] = attributes
    if sellers:
        row["seller"] = sellers[0]
    if offers and offers[0].get("price") is not None:
        row["price"] = offers[0]["price"]
    return row


def _text(value: Any) -> Any:
    """A value, or the name of a thing that has one (a brand, a seller, a color)."""
    if isinstance(value, list):
        return [_text(one) for one in value] if len(value) != 1 else _text(value[0])
    if isinstance(value, Mapping):
        return value.get("name") or value.get("@value") or value.get("value") or value.get("@id")
    return value


def _address(value: Any) -> Any:
    if isinstance(value, Mapping):
        return value.get("contentUrl") or value.get("url") or value.get("@id")
    return value


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]
