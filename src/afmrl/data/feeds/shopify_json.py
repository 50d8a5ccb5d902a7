"""Shopify's products.json: one object a product, its variants in a list."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from afmrl.data.feeds.notes import FeedNotes
from afmrl.data.offer import BadRow

_VARIANT = ("sku", "barcode", "option1")
_FROM_VARIANT = ("barcode", "price", "compare_at_price", "grams", "weight")
_OWN = ("id", "variants", "options", "images", "image")
"""Columns of a product that its variants do not have as they are."""


def is_shopify_product(value: Any) -> bool:
    """Whether a JSON value is a product as Shopify writes it."""
    if not isinstance(value, Mapping) or "title" not in value:
        return False
    variants = value.get("variants")
    if not isinstance(variants, list) or not variants:
        return False
    return all(isinstance(one, Mapping) and any(name in one for name in _VARIANT) for one in variants)


def shopify_product_rows(
    rows: Iterable[tuple[int, dict[str, Any] | BadRow]], notes: FeedNotes
) -> Iterator[tuple[int, dict[str, Any] | BadRow]]:
    """One row a variant of each product; rows that are no product of Shopify's as they are.

    The id is the variant's SKU; without one, or where it is another variant's too, the variant's id.
    """
    skus: set[str] = set()
    for number, row in rows:
        if isinstance(row, BadRow) or not is_shopify_product(row):
            yield number, row
            continue
        for variant in row["variants"]:
            yield number, _row(row, variant, skus, notes)


def _row(product: Mapping[str, Any], variant: Mapping[str, Any], skus: set[str], notes: FeedNotes) -> dict[str, Any]:
    sku = str(variant.get("sku") or "").strip()
    source = "sku" if sku and sku not in skus else "id"
    skus.add(sku)
    notes.takes("id", f"variants.{source}")
    options = {}
    for place, option in enumerate(_list(product.get("options")), 1):
        name = option.get("name") if isinstance(option, Mapping) else option
        value = variant.get(f"option{place}")
        if name and value and value != "Default Title":
            options[str(name)] = value
            notes.takes("attributes", f"variants.option{place}")
    images = [one for one in [*_list(product.get("images")), product.get("image")] if isinstance(one, Mapping)]
    own = [one for one in images if variant.get("id") in _list(one.get("variant_ids"))]
    if isinstance(variant.get("featured_image"), Mapping):
        own.insert(0, variant["featured_image"])
    cells = {name: variant[name] for name in _FROM_VARIANT if name in variant}
    for name in cells:
        notes.takes(name, f"variants.{name}")
    notes.takes("image", "images")
    notes.consumed.add("handle")
    return {
        "id": sku if source == "sku" else variant.get("id"),
        **{name: value for name, value in product.items() if name not in _OWN},
        **cells,
        "image": list(dict.fromkeys(one["src"] for one in [*own, *images] if one.get("src"))),
        "attributes": options,
    }


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
