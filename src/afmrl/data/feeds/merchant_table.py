"""Google Merchant feeds as tables: what a cell holds several of."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from afmrl.data.offer import BadRow

_DETAIL = re.compile(r'(?:^|,)\s*(?:"((?:[^"]|"")*)"(?=\s*(?:,|$))|([^,]*))')
_COLON = re.compile(r"(?<!\\):")


def is_merchant(header: Iterable[str]) -> bool:
    """Whether a header is that of a Merchant feed."""
    return {"image_link", "availability"} <= {_name(column) for column in header}


def merchant_table_rows(rows: Iterable[tuple[int, dict[str, Any] | BadRow]]) -> Iterator[tuple[int, Any]]:
    """The rows with `product_detail` (section:name:value, several with commas) as attributes."""
    for number, row in rows:
        if not isinstance(row, BadRow):
            details = [value for column, value in row.items() if _name(column) == "product_detail" and value]
            if details:
                row = {**row, "attributes": product_details(details[0])}
        yield number, row


def product_details(text: str) -> dict[str, str]:
    """The details of one cell; one whose value has commas is in quotes, unless the table's reader took them away.

    >>> product_details('General:Volume:0.4 l,"Care:Climate:Cool, Windy"')
    {'Volume': '0.4 l', 'Climate': 'Cool, Windy'}
    >>> product_details("Care:Climate:Cool, Windy,Size:Ratio:16\\\\:9")
    {'Climate': 'Cool, Windy', 'Ratio': '16:9'}
    """
    found: dict[str, str] = {}
    name = ""
    for quoted, plain in _DETAIL.findall(text):
        parts = _COLON.split((quoted.replace('""', '"') or plain).strip(), maxsplit=2)
        if len(parts) == 3:
            name = parts[1].strip()
            found[name] = parts[2].strip()
        elif name:
            found[name] += ", " + plain.strip()
    return {name: value.replace("\\:", ":") for name, value in found.items() if name and value}


def _name(column: str) -> str:
    return column.strip().lower().removeprefix("g:").replace(" ", "_")
