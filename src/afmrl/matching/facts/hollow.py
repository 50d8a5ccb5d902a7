"""Identifiers that identify nothing: placeholders that no list knows, given away by the offers that share them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import combinations, islice

from afmrl.attributes.extractor import sellers_brand
from afmrl.attributes.words import tokenize
from afmrl.data.offer import Offer

HANDFUL = 5
"""Offers with unlike titles that may share an identifier."""
MANY = 24
"""Offers with unlike titles that may share a GTIN though nothing else is known of them: a title in each language of
the European Union."""
UNLIKE = 0.3
"""Share of the shorter title's words below which two titles are unlike, on average."""
MAX_TITLES = 40  # compared for one identifier


def hollow_identifiers(
    offers: Sequence[Offer], identifiers: Callable[[Offer], Iterable[str]], *, unique_to_brand: bool
) -> dict[str, list[int]]:
    """Identifiers that offers with unlike titles share, and the rows of the offers that share each.

    More than HANDFUL offers have to share it; fewer are enough for a part number without a digit, or of several brands.
    Unlike titles alone say little against a GTIN, which one product keeps in all languages: its offers have to be of
    several brands, or more than MANY without a brand.

    Args:
        identifiers: those of an offer.
        unique_to_brand: a part number is its brand's own; a GTIN names one product whatever a seller calls the brand.
    """
    sharing: dict[str, list[int]] = defaultdict(list)
    for row, offer in enumerate(offers):
        for identifier in identifiers(offer):
            sharing[identifier].append(row)
    hollow: dict[str, list[int]] = {}
    for identifier, rows in sharing.items():
        if len(rows) < 2:
            continue
        stated = [brand for row in rows if (brand := sellers_brand(offers[row]))]
        if unique_to_brand:
            without_digit = not any(sign.isdigit() for sign in identifier)
            suspect = len(rows) > HANDFUL or len(set(stated)) > 1 or without_digit
        else:  # prices are no evidence: a product titled in many languages is sold in many currencies
            of_several = bool(stated) and max(Counter(stated).values()) <= len(stated) / 2
            suspect = len(rows) > (HANDFUL if of_several else MANY if len(stated) < len(rows) / 2 else len(rows))
        if suspect and _likeness([set(tokenize(offers[row].title)) for row in rows[:MAX_TITLES]]) < UNLIKE:
            hollow[identifier] = rows
    return hollow


def _likeness(titles: Collection[set[str]]) -> float:
    pairs = list(islice(combinations(titles, 2), MAX_TITLES * MAX_TITLES))
    return sum(len(one & other) / max(min(len(one), len(other)), 1) for one, other in pairs) / len(pairs)
