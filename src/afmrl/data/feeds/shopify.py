"""Shopify's product export: one row a variant, rows of images between, cells of the product in its first row alone."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from afmrl.data.columns import attribute_named
from afmrl.data.feeds.notes import FeedNotes
from afmrl.data.offer import BadRow

HEADER = ("Handle", "Title")
NEWER_NAMES = {
    "URL handle": "Handle",
    "Description": "Body (HTML)",
    "SKU": "Variant SKU",
    "Barcode": "Variant Barcode",
    "Price": "Variant Price",
    "Product image URL": "Image Src",
    "Image position": "Image Position",
    "Variant image URL": "Variant Image",
    **{
        f"Option{number} {part}": f"Option{number} {part.title()}" for number in (1, 2, 3) for part in ("name", "value")
    },
}
"""Shopify has renamed the columns of its export once."""
_METAFIELD = re.compile(r"^(?P<name>.+?)\s*\(product\.metafields\.(?P<namespace>[\w-]+)\..+\)$")
_NO_ATTRIBUTES = ("reviews", "shopify--discovery", "seo", "mc-facebook")
"""Namespaces of metafields that say nothing of the product itself."""
_OPTION = re.compile(r"^Option(\d) (Name|Value)$")
_VARIANTS = re.compile(r"^(?:Variant |Image |Option\d |Cost per item$|Unit Price )")


def is_shopify(header: Collection[str]) -> bool:
    """Whether a header is that of Shopify's export."""
    names = {NEWER_NAMES.get(name, name) for name in header} if "URL handle" in header else set(header)
    return {*HEADER} <= names and any(name.startswith(("Option1 ", "Variant ")) for name in names)


def shopify_rows(
    rows: Iterable[tuple[int, dict[str, Any] | BadRow]], notes: FeedNotes | None = None
) -> Iterator[tuple[int, dict[str, Any] | BadRow]]:
    """One row a variant, whole: what only the handle's first row says is said by each, options are attributes.

    The id is the variant's SKU; without one, or where it is another variant's too, handle and options.
    """
    notes = notes or FeedNotes()
    notes.consumed |= {"handle", "Variant Image"}
    product: list[tuple[int, dict[str, Any]]] = []
    skus: set[str] = set()
    for number, row in rows:
        if isinstance(row, BadRow):
            yield number, row
            continue
        if "URL handle" in row:
            row = {NEWER_NAMES.get(column, column): value for column, value in row.items()}
        if product and row["Handle"] and row["Handle"] != product[0][1]["Handle"]:
            yield from _variants(product, skus, notes)
            product = []
        product.append((number, row))
    if product:
        yield from _variants(product, skus, notes)


def _variants(
    product: list[tuple[int, dict[str, Any]]], skus: set[str], notes: FeedNotes
) -> Iterator[tuple[int, dict[str, Any]]]:
    first = product[0][1]
    handle = first["Handle"]
    images = [row["Image Src"] for _, row in sorted(product, key=_position) if row.get("Image Src")]
    names = {match[1]: first[column] for column in first if (match := _OPTION.match(column)) and match[2] == "Name"}
    for place, (number, row) in enumerate(product):
        is_variant = any(row.get(name) for name in ("Option1 Value", "Variant SKU", "Variant Price", "Variant Barcode"))
        if place and not is_variant:
            notes.besides["image row"] += 1  # one more image of the product
            continue
        attributes = _metafields(row) or _metafields(first)
        options = {
            names[one]: value
            for one in names
            if names[one] and (value := row.get(f"Option{one} Value", "")) and value != "Default Title"
        }
        inherited = {
            column: value or first[column]
            for column, value in row.items()
            if not _VARIANTS.match(column) and column not in ("Handle", "attributes")
        }
        variants = {column: value for column, value in row.items() if column.startswith(("Variant ", "Cost "))}
        sku = row.get("Variant SKU", "").strip().removeprefix("'")
        by_sku = bool(sku) and sku not in skus
        identifier = sku if by_sku else "/".join([handle, *options.values()])
        notes.takes("id", "Variant SKU" if by_sku else "Handle")
        skus.add(sku)
        for one in names:
            if names[one] in options:
                notes.takes("attributes", f"Option{one} Value")
        for column in ("Variant Image", "Image Src"):
            if column in row:
                notes.takes("image", column)
        own = row.get("Variant Image", "")
        yield (
            number,
            {
                "id": identifier,
                **inherited,
                **variants,
                "image": [*([own] if own else []), *(image for image in images if image != own)],
                "attributes": {**attributes, **options},
                "handle": handle,
            },
        )


def _metafields(row: dict[str, Any]) -> dict[str, str]:
    """What the shop says of its products in fields of its own."""
    found = {}
    for column, value in row.items():
        if value and (match := _METAFIELD.match(column)) and not match["namespace"].startswith(_NO_ATTRIBUTES):
            name = match["name"].rpartition(":")[2].strip()  # "Google: Custom Product"
            found[attribute_named(name) or name] = value.replace("; ", ", ")
    return found


def _position(numbered: tuple[int, dict[str, Any]]) -> tuple[int, int]:
    number, row = numbered
    position = row.get("Image Position", "")
    return int(position) if position.isdecimal() else 10_000, number
