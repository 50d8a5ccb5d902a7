"""WooCommerce's product export: simple products, and variations that inherit from their parent."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from afmrl.data.offer import BadRow

Rows = Iterator[tuple[int, dict[str, Any] | BadRow]]
HEADER = ("ID", "Type", "SKU", "Name")
_ATTRIBUTE = re.compile(r"^Attribute (\d+) name$")
_OWN = ("ID", "Type", "SKU", "Parent", "Position")
"""What a variation does not inherit."""


def is_woocommerce(header: Iterable[str]) -> bool:
    """Whether a header is that of WooCommerce's export."""
    return {*HEADER} <= set(header)


def woocommerce_rows(open_rows: Callable[[], Rows]) -> Rows:
    """One row a simple product or a variation, whole. A variable product is an offer only without variations.

    The id is the SKU; without one, or where it is another row's too, the ID.

    Args:
        open_rows: begins to read the file; it is read twice, because a parent may come after its variations.
    """
    parents: dict[str, dict[str, Any]] = {}
    named: set[str] = set()
    for _, row in open_rows():
        if isinstance(row, BadRow):
            continue
        if _kind(row) == "variable":
            parents[f"id:{row['ID']}"] = row
            if row["SKU"]:
                parents[row["SKU"]] = row
        elif _kind(row) == "variation":
            named.add(row.get("Parent", "").strip())
    skus: set[str] = set()
    for number, row in open_rows():
        if isinstance(row, BadRow):
            yield number, row
            continue
        kind = _kind(row)
        if kind == "variable" and {f"id:{row['ID']}", row["SKU"]} & named - {""}:
            continue
        parent = parents.get(row.get("Parent", "").strip()) if kind == "variation" else None
        sku = row["SKU"].strip()
        identifier = sku if sku and sku not in skus else row["ID"].strip()
        skus.add(sku)
        yield number, _offer(row, parent, identifier)


def _kind(row: dict[str, Any]) -> str:
    kinds = [kind.strip().lower() for kind in str(row["Type"]).split(",")]
    return next((kind for kind in kinds if kind in ("variable", "variation")), kinds[0])


def _offer(row: dict[str, Any], parent: dict[str, Any] | None, identifier: str) -> dict[str, Any]:
    attributes = {name: value for name, value in _attributes(parent).items() if "," not in value} if parent else {}
    attributes.update(_attributes(row))
    cells = {
        column: value or (parent[column] if parent and column not in _OWN else "")
        for column, value in row.items()
        if column not in ("ID", "Type") and not column.startswith("Attribute ")
    }
    for column in ("Description", "Short description"):
        if column in cells:
            cells[column] = cells[column].replace("\\n", "\n")
    if "Categories" in cells:
        # paths with commas between: the one that says most
        cells["Categories"] = max(cells["Categories"].split(", "), key=lambda path: path.count(">"))
    return {"id": identifier, **cells, "attributes": attributes, "woocommerce_type": row["Type"]}


def _attributes(row: dict[str, Any]) -> dict[str, str]:
    found = {}
    for column in row:
        if match := _ATTRIBUTE.match(column):
            name, value = row[column].strip(), row.get(f"Attribute {match[1]} value(s)", "").strip()
            if name and value:
                found[name] = value.replace("\\,", ",")
    return found
