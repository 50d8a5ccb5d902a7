"""Offers and catalogues: read, validate, write."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Offer:
    """One catalogue row. Any field but `id` may be empty; `image` is a path (absolute once read from a file)."""

    id: str
    title: str = ""
    description: str = ""
    image: str = ""
    category: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    product_id: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Every other column of the row as it was read (split, role, family_id, …)."""
