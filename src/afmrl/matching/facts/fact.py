"""One fact: a value of a key of an offer, and who says so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Source = Literal["seller", "generated", "extracted"]


@dataclass(frozen=True, slots=True, order=True)
class Fact:
    """One value of one key of an offer."""

    key: str
    value: str
    source: Source
