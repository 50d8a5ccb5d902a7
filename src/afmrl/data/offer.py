"""One offer of a catalog, and a row that could not be read as one."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from afmrl.errors import check_type

_OF_ONE_ROW = re.compile(r" ?\([^()]*\)?|'[^']*'|\"[^\"]*\"|\d[\d,]*")
_TEXTS = ("id", "title", "description", "image", "category", "product_id")
FIELDS = ("id", "title", "description", "image", "category", "attributes", "product_id")


@dataclass(frozen=True, slots=True)
class Offer:
    """One catalog row. Any field but `id` may be empty; `image` is a path (absolute once read from a file)."""

    id: str
    title: str = ""
    description: str = ""
    image: str = ""
    category: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    product_id: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Every other column of the row as it was read (split, role, family_id, …)."""

    def __post_init__(self) -> None:
        if isinstance(self.image, os.PathLike):
            object.__setattr__(self, "image", os.fspath(self.image))
        for name in _TEXTS:
            value = getattr(self, name)
            if type(value) is not str:
                check_type(f"Offer: {name}", value, str, "text")
        if type(self.attributes) is not dict:
            check_type("Offer: attributes", self.attributes, Mapping, 'a dict, such as {"color": "red"}')

    def column(self, name: str) -> str:
        """The offer's value in a column as text: a field, any other column, or an attribute; "" where it has none.

        >>> Offer("1", title="red dress", extra={"style_id": 7}).column("style_id")
        '7'
        """
        value = getattr(self, name) if name in FIELDS else self.extra.get(name, self.attributes.get(name))
        return "" if value is None or value != value else str(value)  # NaN: an empty cell


@dataclass(frozen=True, slots=True)
class SkippedRow:
    """A row that was not taken, or an image of it that was not, and why."""

    file: str
    row: int
    """Line of the file (JSONL, CSV) or number of the row (Parquet), from 1."""
    field: str
    reason: str
    id: str = ""
    """The row's id, where it could still be read."""
    lost: Literal["row", "image"] = "row"
    """What it cost: the whole row, or one image of an offer that was kept."""

    @property
    def kind(self) -> str:
        """The reason without what is this row's own, so that rows can be counted by it.

        >>> SkippedRow("a.csv", 7, "image", "/shop/a.jpg: no such file").kind
        'image: no such file'
        """
        reason = self.reason.rpartition(": ")[2] if self.field == "image" else self.reason
        return f"{self.field}: {' '.join(_OF_ONE_ROW.sub('…', reason).split())}"

    def __str__(self) -> str:
        return f"{self.file}:{self.row}: {self.field}: {self.reason}"


def skipped_in_words(skipped: Sequence[SkippedRow]) -> str:
    """How many rows and images were left out, and the first of them; "" where none was.

    >>> skipped_in_words([SkippedRow("a.csv", 7, "id", "is missing or not text")])
    '1 row was left out, the first: a.csv:7: id: is missing or not text'
    """
    parts = []
    for lost, one, many in (
        ("row", "row was left out", "rows were left out"),
        (
            "image",
            "image cannot be read and its offer is used without it",
            "images cannot be read and their offers are used without them",
        ),
    ):
        if found := [row for row in skipped if row.lost == lost]:
            parts.append(f"{len(found):,} {one if len(found) == 1 else many}, the first: {found[0]}")
    return "; ".join(parts)


class BadRow(Exception):
    """A row that cannot be used: which field, and why."""

    def __init__(self, field_name: str, reason: str) -> None:
        super().__init__(reason)
        self.field, self.reason = field_name, reason


def is_unicode(text: str) -> bool:
    """Whether text can be written as UTF-8: it holds no half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
