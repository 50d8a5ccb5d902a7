"""The pairs of an AGCL run: which two offers, in which batch, with or without attributes in their text."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from afmrl.attributes.attributes_on import on_gallery, on_query
from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.attributes.relations import AttributeBM25
from afmrl.data.offer import FIELDS, Offer
from afmrl.errors import InputError
from afmrl.losses.batch_drawing import draw_batches
from afmrl.retrieval.mining import mine_hard_negatives
from afmrl.training.processes import world_size

if TYPE_CHECKING:
    from afmrl.training.config import AGCLStage

NUM_NEIGHBORS = 32  # similar products looked up for one product when batches are made
EXACT_PRODUCTS = 20_000  # of more products the similar ones are mined, since comparing all would cost their square


@dataclass(frozen=True)
class TrainingPlan:
    """Every pair of a run, in order: row r belongs to step r // batch_size."""

    anchors: np.ndarray
    """(S·B,) row numbers of offers."""
    candidates: np.ndarray
    """(S·B,) row numbers of offers: the same product as the anchor."""
    with_attributes: np.ndarray
    """(S·B, 2) whether the text of anchor and candidate carries its attributes."""
    batch_size: int
    """B, pairs of a step, of all processes together."""
    num_products: int
    """Products that pairs are drawn from."""


def positives_by_product(offers: Sequence[Offer], *, least: int = 2) -> list[list[int]]:
    """Row numbers of the offers of each labeled product that has at least two (or `least`).

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
            "positives in the recipe, catalog.positives: {column: gtin} or {column: null, pairs: FILE}"
        )
    return groups


def fitting_batch_size(batch_size: int, num_products: int) -> int:
    """The batch size, or where there are fewer products all of them, as far as the processes share them evenly."""
    if batch_size <= num_products:
        return batch_size
    return max(num_products - num_products % world_size(), 1)


def make_plan(
    offers: Sequence[Offer],
    attributes: Sequence[KeyAttributes],
    config: AGCLStage,
    lexical: AttributeBM25,
    queries: Collection[int] = (),
    *,
    seed: int = 0,
) -> TrainingPlan:
    """Draw the pairs of every step. No product is twice in a batch; similar products are in one batch.

    Every product is drawn once before any is drawn again, however large its family and however many are its equals.

    Args:
        queries: rows of the offers that are queries, for `across_roles`; the others are the gallery.
    """
    generator = np.random.default_rng(seed)
    products = positives_by_product(offers, least=1 if config.self_pairs else 2)
    batch_size = fitting_batch_size(config.batch_size, len(products))
    batches = draw_batches(
        np.arange(len(products)),
        batch_size,
        _neighbors(products, offers, attributes, config, lexical, generator),
        generator,
        similar_group=config.similar_group,
        similar_share=config.similar_share,
    )
    is_query = np.zeros(len(offers), dtype=bool)
    is_query[list(queries)] = True
    pairs = [
        _draw_pair(products[product], is_query, config.across_roles, generator)
        for batch in islice(batches, config.max_steps)
        for product in batch
    ]
    anchors, candidates = np.array(pairs).T
    with_attributes = _draw_with_attributes(len(pairs), config, generator)
    return TrainingPlan(anchors, candidates, with_attributes, batch_size, len(products))


def _draw_pair(
    rows: Sequence[int], is_query: np.ndarray, across_roles: float, generator: np.random.Generator
) -> tuple[int, int]:
    """Two offers of one product (`rows`); of a product of one offer that offer twice."""
    asked = [row for row in rows if is_query[row]]
    offered = [row for row in rows if not is_query[row]]
    if across_roles and asked and offered and generator.random() < across_roles:
        return int(generator.choice(asked)), int(generator.choice(offered))
    first, second = generator.choice(rows, size=2, replace=len(rows) == 1)
    return int(first), int(second)


def _draw_with_attributes(count: int, config: AGCLStage, generator: np.random.Generator) -> np.ndarray:
    """(count, 2) whether the text of anchor and candidate carries attributes."""
    kept = generator.random(count) >= config.attribute_dropout
    lost = generator.random(count)  # below one_sided / 2 the anchor loses its attributes, above 1 - that the candidate
    if config.attributes_on == "both":
        return np.stack([kept & (lost >= config.one_sided / 2), kept & (lost < 1 - config.one_sided / 2)], axis=1)
    return np.stack([kept & on_query(config.attributes_on), kept & on_gallery(config.attributes_on)], axis=1)


def _neighbors(
    products: Sequence[Sequence[int]],
    offers: Sequence[Offer],
    attributes: Sequence[KeyAttributes],
    config: AGCLStage,
    lexical: AttributeBM25,
    generator: np.random.Generator,
) -> Callable[[], np.ndarray]:
    """Gives at each round (P, K) the products most similar to each, -1 for none, as the config says."""
    firsts = np.array([rows[0] for rows in products])
    if config.group_column is not None:
        families = _families([offers[row] for row in firsts], config.group_column)
        return partial(_family_products, families, generator)
    if config.similar_group == 1 or len(firsts) <= 2:
        none = np.full((len(firsts), 0), -1)
        return lambda: none
    if len(firsts) > EXACT_PRODUCTS:
        mined = mine_hard_negatives(
            [attributes[row] for row in firsts], NUM_NEIGHBORS, min_shared=config.agreement_min_shared
        )
        return lambda: mined.rows
    similar = _similar_products(firsts, lexical, generator)
    return lambda: similar


def _similar_products(firsts: np.ndarray, lexical: AttributeBM25, generator: np.random.Generator) -> np.ndarray:
    """(P, K) product numbers by falling BM25 of the attributes of each product's first offer (rows `firsts`).

    Among equal scores chance decides: otherwise all products of equal attributes would have the same neighbors.
    """
    width = min(NUM_NEIGHBORS, len(firsts) - 1)
    found = np.empty((len(firsts), width), dtype=np.int64)
    for start in range(0, len(firsts), 1024):
        scores = np.array(lexical.scores(firsts[start : start + 1024], firsts), dtype=np.float64)  # (C, P)
        scores = scores * 1e6 + generator.random(scores.shape)  # below what float32 tells apart
        own = np.arange(len(scores))
        scores[own, start + own] = -1.0
        top = np.argpartition(-scores, width - 1, axis=1)[:, :width]
        order = np.argsort(-np.take_along_axis(scores, top, axis=1), axis=1, kind="stable")
        found[start : start + 1024] = np.take_along_axis(top, order, axis=1)
    return found


def _families(firsts: Sequence[Offer], column: str) -> np.ndarray:
    """(P,) numbers, equal where the products' first offers have an equal value in `column`; without one its own."""
    values = [str(getattr(offer, column) if column in FIELDS else offer.extra.get(column) or "") for offer in firsts]
    if not any(values):
        raise InputError(f"agcl.group_column: no offer has a value in the column {column!r}")
    return np.unique([value or f"\0{place}" for place, value in enumerate(values)], return_inverse=True)[1]


def _family_products(families: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """(P, NUM_NEIGHBORS) other products of each one's family, drawn at random where it is larger; -1: no more."""
    order = np.lexsort((generator.random(len(families)), families))  # family by family, within one by chance
    starts, sizes = np.unique(families[order], return_index=True, return_counts=True)[1:]
    of = families[order]
    place = np.arange(len(order)) - starts[of]
    # a family is a ring, and its members' neighbors are the next ones in it
    step = np.arange(1, min(NUM_NEIGHBORS, max(int(sizes.max()) - 1, 1)) + 1)
    ring = order[starts[of][:, None] + (place[:, None] + step) % sizes[of][:, None]]
    found = np.empty_like(ring)
    found[order] = np.where(step < sizes[of][:, None], ring, -1)
    return found


def plan_batches(dataset: Any, batch_size: int, **_: Any) -> Any:
    """Batches of consecutive rows: the plan already holds the order, so a resumed run sees the same batches."""
    from torch.utils.data import BatchSampler, SequentialSampler

    return BatchSampler(SequentialSampler(dataset), batch_size, drop_last=False)
