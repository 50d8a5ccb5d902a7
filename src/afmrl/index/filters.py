"""Filters as people write them: without case, and with a suggestion where no offer has such a value."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from difflib import get_close_matches

from afmrl.attributes.words import normalize
from afmrl.index.backend import Where, check_where

WRITTEN_BY_PEOPLE = ("category", "seller")
"""Columns whose values are compared without case and with white space collapsed; product ids are ids."""
MOST_COMPARED = 10_000  # values that one is compared with for a suggestion
SUGGESTED = 3
MOST_SUGGESTED = 5
"""Unknown values of one filter for which the nearest are looked for; that takes long."""


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
                for value, written in (
                    self._written(column, values) if column in WRITTEN_BY_PEOPLE else dict.fromkeys(values)
                ).items()
                for found in written or [value]
            )
            for column, values in checked.items()
        }

    def unknown(self, where: Where | None) -> list[str]:
        """A sentence for each value of a filter that no offer has, the first ones with the nearest that there are."""
        unknown = [
            (column, value)
            for column, values in check_where(where).items()
            if column in WRITTEN_BY_PEOPLE
            for value, written in sorted(self._written(column, values).items())
            if not written
        ]
        return [
            f"no offer has the {column} {value!r}"
            + (f"; {self._suggestion(column, value)}" if place < MOST_SUGGESTED else "")
            for place, (column, value) in enumerate(unknown)
        ]

    def _written(self, column: str, values: Iterable[str]) -> dict[str, list[str]]:
        """Of each value: those of the column that are the same but for case."""
        folded = {value: normalize(value) for value in values}
        if not self._folded.get(column, {}).keys() >= set(folded.values()):  # asked anew: the index may have grown
            known: dict[str, list[str]] = defaultdict(list)
            for name in self._values(column):
                known[normalize(name)].append(name)
            self._folded[column] = dict(known)
        return {value: self._folded.get(column, {}).get(name, []) for value, name in folded.items()}

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
