"""Filters as people write them: without case, and with a suggestion where no offer has such a value."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from difflib import get_close_matches

from afmrl.attributes.words import normalize
from afmrl.index.backend import Where, check_where

WRITTEN_BY_PEOPLE = ("category", "seller")
"""Columns whose values are compared without case and with white space collapsed; product ids are ids."""
MOST_COMPARED = 10_000  # values that one is compared with for a suggestion
SUGGESTED = 3


class Filters:
    """Finds the values of offers that a filter means.

    Args:
        values: the different values of a column.

    >>> filters = Filters({"category": ["Shoes", "shoes", "Shoe care", "Mugs"]}.__getitem__)
    >>> sorted(filters.existing({"category": ["SHOES"]})["category"])
    ['Shoes', 'shoes']
    >>> filters.unknown({"category": ["Shoess"]})
    ["no offer has the category 'Shoess'; the nearest are 'Shoes', 'shoes'"]
    """

    def __init__(self, values: Callable[[str], list[str]]) -> None:
        self._values = values
        self._folded: dict[str, dict[str, list[str]]] = {}

    def existing(self, where: Where | None) -> dict[str, frozenset[str]]:
        """The filter with the values that offers have; one that none has stays as it is and finds nothing.

        Raises:
            InputError: a column that cannot be filtered by.
        """
        checked = check_where(where)
        return {
            column: frozenset(
                found
                for value in values
                for found in (self._written(column, value) if column in WRITTEN_BY_PEOPLE else ()) or [value]
            )
            for column, values in checked.items()
        }

    def unknown(self, where: Where | None) -> list[str]:
        """A sentence for each value of a filter that no offer has, with the nearest that there are."""
        return [
            f"no offer has the {column} {value!r}; {self._suggestion(column, value)}"
            for column, values in check_where(where).items()
            if column in WRITTEN_BY_PEOPLE
            for value in sorted(values)
            if not self._written(column, value)
        ]

    def _written(self, column: str, value: str) -> list[str]:
        """The values of a column that are the same but for case."""
        folded = normalize(value)
        if folded not in self._folded.get(column, ()):  # asked anew: the index may have grown
            known: dict[str, list[str]] = defaultdict(list)
            for name in self._values(column):
                known[normalize(name)].append(name)
            self._folded[column] = dict(known)
        return self._folded[column].get(folded, [])

    def _suggestion(self, column: str, value: str) -> str:
        names = [name for name in self._folded[column] if name][:MOST_COMPARED]
        near = get_close_matches(normalize(value), names, n=SUGGESTED)
        written = [one for name in near or names for one in self._folded[column][name]][:SUGGESTED]
        if not written:
            return f"none has any {column}"
        shown = ", ".join(map(repr, written))
        if near:
            return f"the nearest {'is' if len(written) == 1 else 'are'} {shown}"
        return f"there are {shown}{', …' if len(names) > len(written) else ''}"
