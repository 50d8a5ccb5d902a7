"""Objects inside of a row: what they say by names that are known, and GTINs that nobody would look for there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from afmrl.data.check_digit import is_gtin
from afmrl.data.columns import attribute_named, field_named, plain_name
from afmrl.data.feeds.notes import FeedNotes
from afmrl.data.missing import says_nothing

_OF_OTHERS = re.compile(r"ship|pack|deliver|versand|seller|rating|review|meta|attribute|offer|parent|related")
"""Objects that are not of the product itself, and those that are read elsewhere."""
SHORTEST_GTIN = 12  # one number in ten of eight digits is a GTIN by accident


def unnested(row: dict[str, Any], notes: FeedNotes) -> dict[str, Any]:
    """The row with the attributes in its objects as columns, where no column says the same.

    >>> unnested({"id": 1, "identifiers": {"ean": "4006381333931"}}, FeedNotes())["ean"]
    '4006381333931'
    """
    objects = {name: value for name, value in row.items() if isinstance(value, Mapping) and _is_of_product(name)}
    if not objects:
        return row
    stated = {attribute_named(name) for name, value in row.items() if not says_nothing(value)}
    found: dict[str, Any] = {}
    for name, value in objects.items():
        read = 0
        for key, of_key in value.items():
            attribute = attribute_named(str(key))
            if not attribute or attribute in stated or isinstance(of_key, Mapping | list) or says_nothing(of_key):
                continue
            found[str(key)] = of_key
            stated.add(attribute)
            notes.takes(str(key), f"{name}.{key}")
            read += 1
        if read == len(value):
            notes.consumed.add(name)
    return {**row, **found}


def nested_gtins(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """The GTINs inside of a list or an object, each with its path: `("codes.list.ean", "4006381333931")`."""
    if isinstance(value, Mapping):
        for key, of_key in value.items():
            yield from nested_gtins(f"{name}.{key}", of_key)
    elif isinstance(value, list | tuple):
        for one in value[:20]:
            yield from nested_gtins(name, one)
    elif isinstance(value, str | int) and not isinstance(value, bool):
        text = str(value).strip()
        if len(text) >= SHORTEST_GTIN and is_gtin(text):
            yield name, text


def _is_of_product(name: str) -> bool:
    return not field_named(name) and not attribute_named(name) and not _OF_OTHERS.search(plain_name(name))
