"""What a feed's reader tells of the rows that it makes of a file."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class FeedNotes:
    """Where a feed's rows come from: their columns are not the file's, and a row of the file may be none of theirs."""

    made_from: dict[str, list[str]] = field(default_factory=dict)
    """Column of the rows → the file's columns that it was made from."""
    consumed: set[str] = field(default_factory=set)
    """Columns of the rows that hold what another one says already."""
    besides: Counter[str] = field(default_factory=Counter)
    """Kind of row that is no offer of its own ("image row") → how many there are."""

    def takes(self, column: str, source: str) -> None:
        """Note that a column was made from one of the file's."""
        sources = self.made_from.setdefault(column, [])
        if source not in sources:
            sources.append(source)
