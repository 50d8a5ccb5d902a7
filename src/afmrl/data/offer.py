"""One offer of a catalog, and a row that could not be read as one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

TEXT_FIELDS = ("title", "description", "image", "category", "product_id")
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

    def column(self, name: str) -> str:
        """The offer's value in a column as text, be it one of the fields or any other; "" where it has none.

        >>> Offer("1", title="red dress", extra={"style_id": 7}).column("style_id")
        '7'
        """
        value = getattr(self, name) if name in FIELDS else self.extra.get(name)
        return "" if value is None or value != value else str(value)  # NaN: an empty cell


@dataclass(frozen=True, slots=True)
class SkippedRow:
    """A row that was not taken, and why."""

    file: str
    row: int
    """Line of the file (JSONL, CSV) or number of the row (Parquet), from 1."""
    field: str
    reason: str
    id: str = ""
    """The row's id, where it could still be read."""

    def __str__(self) -> str:
        return f"{self.file}:{self.row}: {self.field}: {self.reason}"
