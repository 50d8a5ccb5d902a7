"""The pairs of an AGCL run: which two offers, in which batch, with or without attributes in their text."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from afmrl.attributes import KeyAttributes
from afmrl.errors import InputError
from afmrl.lexical import AttributeBM25
from afmrl.mining import mine_by_attributes
from afmrl.offers import FIELDS, Offer

if TYPE_CHECKING:
    from afmrl.stages.agcl import AGCLStage

NEIGHBOURS = 32  # attribute-similar products looked up for one product when batches are made
EXACT_PRODUCTS = 20_000  # of more products the similar ones are mined, since comparing all would cost their square


@dataclass(frozen=True)
class TrainingPlan:
    """Every pair of a run, in order: row r belongs to step r // batch_size."""

    anchors: np.ndarray
    """(S·B,) row numbers of offers."""
    candidates: np.ndarray
    """(S·B,) row numbers of offers: the same product as the anchor."""
    shown: np.ndarray
    """(S·B, 2) whether anchor and candidate show their attributes."""


def positives_by_product(offers: Sequence[Offer], *, least: int = 2) -> list[list[int]]:
    """Row numbers of the offers of each labelled product that has at least two (or `least`).

    Raises:
        InputError: no product has two offers, so there is nothing to learn from.
    """
    rows: dict[str, list[int]] = defaultdict(list)
    for row, offer in enumerate(offers):
        if offer.product_id:
            rows[offer.product_id].append(row)
    groups = [group for group in rows.values() if len(group) >= least]
    pairs = sum(len(group) > 1 for group in groups)
    if pairs < 2:
        raise InputError(
            f"{pairs} products have two offers with the same product_id, at least 2 are needed: name the "
            "positives in the recipe, catalogue.positives: {column: gtin} or {column: null, pairs: FILE}"
        )
    return groups


def make_plan(
    offers: Sequence[Offer],
    attributes: Sequence[KeyAttributes],
    config: AGCLStage,
    lexical: AttributeBM25,
    queries: Collection[int] = (),
) -> TrainingPlan:
    """Draw the pairs of every step. No product stands twice in a batch; similar products stand together.

    Args:
        queries: rows of the offers that are queries, for `across_roles`; the others are the gallery.
    """
    generator = np.random.default_rng(config.seed)
    groups = positives_by_product(offers, least=1 if config.self_pairs else 2)
    batch_size = min(config.batch_size, len(groups))
    firsts = np.array([group[0] for group in groups])
    neighbours: Sequence[np.ndarray] | np.ndarray | None = None
    if config.group_column is not None:
        neighbours = _family_products([offers[row] for row in firsts], config.group_column)
    elif config.similar_group > 1 and len(firsts) > 2:
        if len(firsts) > EXACT_PRODUCTS:
            mined = [attributes[row] for row in firsts]
            neighbours = mine_by_attributes(mined, NEIGHBOURS, min_shared=config.agreement_min_shared).rows
        else:
            neighbours = _similar_products(firsts, lexical)
    asked = set(queries)
    sides = [([row for row in group if row in asked], [row for row in group if row not in asked]) for group in groups]
    anchors, candidates = [], []
    for _ in range(config.max_steps):
        for product in _draw_products(len(groups), batch_size, neighbours, config.similar_group, generator):
            group, (ours, theirs) = groups[product], sides[product]
            if config.across_roles and ours and theirs and generator.random() < config.across_roles:
                first, second = generator.choice(ours), generator.choice(theirs)
            else:
                first, second = generator.choice(group, size=2, replace=len(group) == 1)
            anchors.append(first)
            candidates.append(second)
    count = len(anchors)
    with_attributes = generator.random(count) >= config.attribute_dropout
    one_sided = generator.random((count, 1))
    shown = np.repeat(with_attributes[:, None], 2, axis=1)
    shown[:, :1] &= one_sided >= config.one_sided / 2
    shown[:, 1:] &= one_sided < 1 - config.one_sided / 2
    if config.attributes_on == "none":
        shown[:] = False
    elif config.attributes_on == "query":
        shown[:, 1] = False
        shown[:, 0] = with_attributes
    return TrainingPlan(np.array(anchors), np.array(candidates), shown)


def _similar_products(firsts: np.ndarray, lexical: AttributeBM25) -> np.ndarray:
    """(P, K) product numbers by falling BM25 of the attributes of each product's first offer (rows `firsts`)."""
    width = min(NEIGHBOURS, len(firsts) - 1)
    found = np.empty((len(firsts), width), dtype=np.int64)
    for start in range(0, len(firsts), 1024):
        scores = np.array(lexical.scores(firsts[start : start + 1024], firsts))  # (C, P)
        own = np.arange(len(scores))
        scores[own, start + own] = -1.0
        top = np.argpartition(-scores, width - 1, axis=1)[:, :width]
        order = np.argsort(-np.take_along_axis(scores, top, axis=1), axis=1, kind="stable")
        found[start : start + 1024] = np.take_along_axis(top, order, axis=1)
    return found


def _family_products(firsts: Sequence[Offer], column: str) -> list[np.ndarray]:
    """For each product, by its first offer, the numbers of all of equal value in `column`."""
    members: dict[str, list[int]] = defaultdict(list)
    values = [str(getattr(offer, column) if column in FIELDS else offer.extra.get(column) or "") for offer in firsts]
    for product, value in enumerate(values):
        members[value].append(product)
    if not any(values):
        raise InputError(f"agcl.group_column: no offer has a value in the column {column!r}")
    families = {value: np.array(products if value else [], dtype=np.int64) for value, products in members.items()}
    return [families[value] for value in values]


def _draw_products(
    num_products: int,
    batch_size: int,
    neighbours: Sequence[np.ndarray] | np.ndarray | None,
    group: int,
    generator: np.random.Generator,
) -> list[int]:
    """`batch_size` different products: at random, or in groups of one and its attribute-similar neighbours."""
    taken: dict[int, None] = {}  # a set that keeps its order
    for product in _random_order(num_products, generator):
        if len(taken) >= batch_size:
            break
        if product in taken:
            continue
        taken[product] = None
        others = iter(()) if neighbours is None else (int(other) for other in neighbours[product])
        near = (other for other in others if other >= 0 and other not in taken)
        taken.update(dict.fromkeys(islice(near, min(group - 1, batch_size - len(taken)))))
    return list(taken)


def _random_order(num_products: int, generator: np.random.Generator) -> Iterator[int]:
    """A permutation; of many products draws without end, since a batch is few of them."""
    if num_products <= EXACT_PRODUCTS:
        yield from generator.permutation(num_products).tolist()
    while num_products > EXACT_PRODUCTS:
        yield from generator.integers(num_products, size=1024).tolist()


def plan_batches(dataset: Any, batch_size: int, **_: Any) -> Any:
    """Batches of consecutive rows: the plan already holds the order, so a resumed run sees the same batches."""
    from torch.utils.data import BatchSampler, SequentialSampler

    return BatchSampler(SequentialSampler(dataset), batch_size, drop_last=False)
