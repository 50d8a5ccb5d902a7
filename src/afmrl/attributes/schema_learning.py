"""Learning the attribute schema of a catalog: the keys by which its products are best told apart."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.attributes.key_kinds import traits
from afmrl.attributes.schema import AttributeSchema, SchemaKey, normalize_value
from afmrl.attributes.words import normalize, tokenize
from afmrl.data.offer import Offer
from afmrl.errors import InputError

ROWS_AT_ONCE = 512
"""Offers whose nearest titles are looked for together: bounds memory."""


@dataclass(frozen=True, slots=True)
class KeyDiscrimination:
    """How well one key of a category tells its products apart."""

    key: str
    offers: int
    """That have the key."""
    siblings: int
    """Pairs of siblings (near titles, different products) that both have it."""
    split: int
    """Of these, pairs whose values differ."""
    same: int
    """Pairs of one product that both have it."""
    same_split: int
    """Of these, pairs whose values differ: the key then splits what is one."""
    all_siblings: int
    """Pairs of siblings of the category."""
    all_same: int
    """Pairs of one product of the category."""

    @property
    def score(self) -> float:
        """Share of all sibling pairs that it splits, minus the share of all pairs of one product that it splits."""
        return self.split / max(self.all_siblings, 1) - self.same_split / max(self.all_same, 1)


def key_discrimination(
    offers: Sequence[Offer], attributes: Sequence[KeyAttributes], *, num_siblings: int = 5
) -> dict[str, list[KeyDiscrimination]]:
    """Every key of every category, the best first.

    Siblings of an offer are the `num_siblings` offers of its category whose titles are nearest by TF-IDF of
    `lexical.tokenize` (which splits Chinese sensibly) and that are not known to be its product; without a product
    every other offer counts as another one. Values are compared as `normalize_value` writes them. Prices, stock, ids
    and GTINs tell offers apart and not products; they are left out.

    Args:
        attributes: of each offer.
        num_siblings: of each offer.

    Raises:
        InputError: as many attributes as offers are needed.
    """
    if len(offers) != len(attributes):
        raise InputError(f"schema: {len(offers)} offers and {len(attributes)} attributes: one each is needed")
    if num_siblings < 1:
        raise InputError(f"schema: num_siblings={num_siblings} must be at least 1")
    of_category: dict[str, list[int]] = defaultdict(list)
    for row, offer in enumerate(offers):
        of_category[normalize(offer.category)].append(row)
    return {category: _of_category(offers, attributes, rows, num_siblings) for category, rows in of_category.items()}


def learn_schema(
    offers: Sequence[Offer],
    attributes: Sequence[KeyAttributes],
    *,
    max_keys: int = 8,
    min_offers: int = 3,
    min_score: float = 0.0,
    max_values: int = 0,
    num_siblings: int = 5,
    discrimination: Mapping[str, Sequence[KeyDiscrimination]] | None = None,
) -> AttributeSchema:
    """The schema of a catalog: in each category the keys that best tell its products apart, in that order.

    A category in which no key does has none of its own; the keys of the whole catalog count for it ("*").

    Args:
        attributes: of each offer: a teacher's, or the sellers' (`KeyAttributes.of(offer.attributes)`).
        max_keys: of a category.
        min_offers: of the category that have the key.
        min_score: see `KeyDiscrimination.score`; above it.
        max_values: a key with at most as many values over at least four times as many offers gets these as its only
            allowed ones; 0: no key does.
        num_siblings: see `key_discrimination`.
        discrimination: what `key_discrimination` gave for these, where it is known; None: it is computed.

    Raises:
        InputError: no offer has any attribute, or a number below its least.

    >>> offers = [Offer(id=str(i), title=f"cup {i % 2}", category="Cup") for i in range(6)]
    >>> attributes = [KeyAttributes.of({"material": "china", "color": f"c{i}"}) for i in range(6)]
    >>> learn_schema(offers, attributes).keys("cup")
    ['color']
    """
    if max_keys < 1:
        raise InputError(f"schema: max_keys={max_keys} must be at least 1")
    if not any(attributes):
        raise InputError("schema: no offer has any attribute to learn keys from")
    values: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    for offer, of_offer in zip(offers, attributes, strict=True):
        for key, value in of_offer:
            values[normalize(offer.category)][key][normalize_value(value)] += 1
    categories: dict[str, tuple[SchemaKey, ...]] = {}
    overall: Counter[str] = Counter()
    if discrimination is None:
        discrimination = key_discrimination(offers, attributes, num_siblings=num_siblings)
    for category, keys in discrimination.items():
        chosen = [one for one in keys if one.score > min_score and one.offers >= min_offers]
        for one in chosen:
            overall[one.key] += one.split
        if chosen:
            categories[category or "*"] = tuple(
                _schema_key(one, values[category][one.key], max_values) for one in chosen[:max_keys]
            )
    if not categories:
        raise InputError(f"schema: no key splits siblings of {min_offers} offers or more; write one by hand")
    if "*" not in categories:
        categories["*"] = tuple(SchemaKey(key) for key, _ in overall.most_common(max_keys))
    return AttributeSchema(dict(sorted(categories.items())))


def _schema_key(found: KeyDiscrimination, values: Counter[str], max_values: int) -> SchemaKey:
    if not 0 < len(values) <= max_values or found.offers < 4 * len(values):
        return SchemaKey(found.key)
    return SchemaKey(found.key, values={value: () for value, _ in values.most_common()}, closed=True)


def _of_category(
    offers: Sequence[Offer], attributes: Sequence[KeyAttributes], rows: list[int], num_siblings: int
) -> list[KeyDiscrimination]:
    siblings = _siblings([offers[row] for row in rows], num_siblings)
    same = _same_products([offers[row].product_id for row in rows])
    normal = [{key: normalize_value(value) for key, value in traits(attributes[row])} for row in rows]
    held = Counter(key for of_offer in normal for key in of_offer)
    (near, near_split), (one, one_split) = _compared(normal, siblings), _compared(normal, same)
    found = [
        KeyDiscrimination(
            key, held[key], near[key], near_split[key], one[key], one_split[key], len(siblings), len(same)
        )
        for key in held
    ]
    return sorted(found, key=lambda one: (-one.score, -one.offers, one.key))


def _compared(
    attributes: Sequence[dict[str, str]], pairs: Sequence[tuple[int, int]]
) -> tuple[Counter[str], Counter[str]]:
    """For each key: pairs that both have it, and pairs whose values differ."""
    both: Counter[str] = Counter()
    differ: Counter[str] = Counter()
    for left, right in pairs:
        for key, value in attributes[left].items():
            if key in attributes[right]:
                both[key] += 1
                differ[key] += value != attributes[right][key]
    return both, differ


def _siblings(offers: Sequence[Offer], num_siblings: int) -> list[tuple[int, int]]:
    """Pairs of rows with near titles and different products, each once."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    titles = [offer.title for offer in offers]
    if len(offers) < 2 or not any(tokenize(title) for title in titles):
        return []
    vectors = TfidfVectorizer(analyzer=tokenize, sublinear_tf=True, dtype=np.float32).fit_transform(titles)
    pairs: dict[tuple[int, int], None] = {}
    for start in range(0, len(offers), ROWS_AT_ONCE):
        scores = (vectors[start : start + ROWS_AT_ONCE] @ vectors.T).toarray()  # (rows, N)
        for place, of_row in enumerate(scores):
            row = start + place
            product = offers[row].product_id
            left = num_siblings
            # enough that a product with many offers does not hide its siblings; stable, so that runs are the same
            for other in np.argsort(-of_row, kind="stable")[: 4 * num_siblings + 1]:
                if other == row or (product and offers[other].product_id == product):
                    continue
                if not left or of_row[other] <= 0:
                    break
                pairs[min(row, int(other)), max(row, int(other))] = None
                left -= 1
    return list(pairs)


def _same_products(products: Sequence[str], most: int = 10) -> list[tuple[int, int]]:
    """Pairs of rows of one product; of a product with many offers each with the next ones."""
    rows: dict[str, list[int]] = defaultdict(list)
    for row, product in enumerate(products):
        if product:
            rows[product].append(row)
    return [
        (row, other) for of_product in rows.values() for place, row in enumerate(of_product)
        for other in of_product[place + 1 : place + 1 + most]
    ]  # fmt: skip
