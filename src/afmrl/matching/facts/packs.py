"""Packs: volume and weight of all that is sold together. 6 x 1 l and 6 l are alike, 6 x 1 l and 1 l are not."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from afmrl.matching.facts.fact import Fact

CONTENT = ("volume", "weight")
UNIT_SIZE = "unit size"
"""What is in one of a pack's pieces: told to readers, compared by nobody."""
MULTIPACK = "multipack"
"""How many pieces are surely sold together, for vetoes alone: readers are told `pack`."""
_NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e[+-]?\d+)?")
_NEAR = 0.02  # two totals may be rounded differently


def in_total(found: Sequence[Fact], *, each: bool, rounded: Callable[[str, str], str]) -> Iterator[Fact]:
    """The facts of an offer, with volume and weight of its whole pack.

    Where the title states the total beside the unit (6 x 330 ml, 1.98 l), that is it.

    Args:
        each: the title's volume and weight are surely those of one piece; otherwise they may be the total already, and
            both are given.
        rounded: a value as facts round it.
    """
    packs = {fact.value for fact in found if fact.key == "pack"}
    count = float(next(iter(packs)).split()[0]) if len(packs) == 1 else 1.0
    sizes = {kind: {_number(fact) for fact in found if fact.key == kind and _is_measured(fact)} for kind in CONTENT}
    totals = {kind: {size for size in of if _near(size / count, of)} for kind, of in sizes.items()}
    if each and count > 1:
        yield Fact(MULTIPACK, f"{count:.0f}", "extracted")
    for fact in found:
        if count <= 1 or fact.key not in CONTENT or not _is_measured(fact):
            yield fact
            continue
        size = _number(fact)
        stated = totals[fact.key]
        if size in stated or not each:
            yield fact
        if each and size not in stated:
            yield Fact(UNIT_SIZE, fact.value, fact.source)
        if not stated and (each or size >= 1):  # 60 capsules, 500 mg: a dose
            unit = fact.value.partition(" ")[2]
            yield Fact(fact.key, rounded(fact.key, f"{size * count:.6g} {unit}"), fact.source)


def _is_measured(fact: Fact) -> bool:
    """Whether a value is a number and its unit; sellers write "heavy" and "1.5" too."""
    number, _, unit = fact.value.partition(" ")
    return bool(unit) and _NUMBER.fullmatch(number) is not None


def _number(fact: Fact) -> float:
    return float(fact.value.split()[0])


def _near(size: float, sizes: set[float]) -> bool:
    return any(abs(size - other) <= _NEAR * other for other in sizes)
