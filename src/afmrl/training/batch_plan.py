"""The pairs of an AGCL run: which two offers, in which batch, with or without attributes in their text."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import numpy as np

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.attributes.relations import AttributeBM25
from afmrl.data.offer import FIELDS, Offer
from afmrl.errors import InputError
from afmrl.retrieval.mining import mine_by_attributes
from afmrl.training.processes import world_size

if TYPE_CHECKING:
    from afmrl.training.config import AGCLStage

NEIGHBOURS = 32  # similar products looked up for one product when batches are made
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


def batch_size_of(config: AGCLStage, num_products: int) -> int:
    """The recipe's, or where there are fewer products all of them, as far as the processes share them evenly."""
    if config.batch_size <= num_products:
        return config.batch_size
    return max(num_products - num_products % world_size(), 1)


def make_plan(
    offers: Sequence[Offer],
    attributes: Sequence[KeyAttributes],
    config: AGCLStage,
    lexical: AttributeBM25,
    queries: Collection[int] = (),
) -> TrainingPlan:
    """Draw the pairs of every step. No product stands twice in a batch; similar products stand together.

    Every product is drawn once before any is drawn again, however large its family and however many are its equals:
    what is similar decides who stands beside whom, not how often.

    Args:
        queries: rows of the offers that are queries, for `across_roles`; the others are the gallery.
    """
    generator = np.random.default_rng(config.seed)
    groups = positives_by_product(offers, least=1 if config.self_pairs else 2)
    batch_size = batch_size_of(config, len(groups))
    firsts = np.array([group[0] for group in groups])
    if config.group_column is not None:
        families = _families([offers[row] for row in firsts], config.group_column)
        neighbors = partial(_family_products, families, generator)
    elif config.similar_group > 1 and len(firsts) > 2:
        if len(firsts) > EXACT_PRODUCTS:
            mined = [attributes[row] for row in firsts]
            similar = mine_by_attributes(mined, NEIGHBOURS, min_shared=config.agreement_min_shared).rows
        else:
            similar = _similar_products(firsts, lexical, generator)
        neighbors = partial(np.asarray, similar)
    else:
        neighbors = partial(np.full, (len(groups), 0), -1)
    asked = set(queries)
    sides = [([row for row in group if row in asked], [row for row in group if row not in asked]) for group in groups]
    anchors, candidates = [], []
    batches = _draw_batches(
        len(groups), batch_size, neighbors, config.similar_group, generator, similar_share=config.similar_share
    )
    for batch in islice(batches, config.max_steps):
        for product in batch:
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
    elif config.attributes_on != "both":
        one = 0 if config.attributes_on == "query" else 1
        shown[:, 1 - one] = False
        shown[:, one] = with_attributes
    return TrainingPlan(np.array(anchors), np.array(candidates), shown)


def _similar_products(firsts: np.ndarray, lexical: AttributeBM25, generator: np.random.Generator) -> np.ndarray:
    """(P, K) product numbers by falling BM25 of the attributes of each product's first offer (rows `firsts`).

    Of equal scores it is chance who is among the K: else all products of equal attributes had the same ones.
    """
    width = min(NEIGHBOURS, len(firsts) - 1)
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
    """(P, NEIGHBOURS) other products of each one's family, drawn at random where it is larger; -1: no more."""
    order = np.lexsort((generator.random(len(families)), families))  # family by family, within one by chance
    starts, sizes = np.unique(families[order], return_index=True, return_counts=True)[1:]
    of = families[order]
    place = np.arange(len(order)) - starts[of]
    # a family stands in a ring, and its members' neighbors are the next ones there
    step = np.arange(1, min(NEIGHBOURS, max(int(sizes.max()) - 1, 1)) + 1)
    ring = order[starts[of][:, None] + (place[:, None] + step) % sizes[of][:, None]]
    found = np.empty_like(ring)
    found[order] = np.where(step < sizes[of][:, None], ring, -1)
    return found


def _draw_batches(
    num_products: int,
    batch_size: int,
    neighbors: Callable[[], np.ndarray],
    group: int,
    generator: np.random.Generator,
    *,
    similar_share: float = 1.0,
) -> Iterator[list[int]]:
    """Without end, `batch_size` different products: at random, or (`similar_share` of the batches) in groups of one and
    its neighbors.

    A round draws every product once; a batch may hold the end of one round and the beginning of the next. `neighbors`
    is asked for its table (P, K), -1: none, at the beginning of a round.
    """
    table = np.empty((num_products, 0), dtype=np.int64)
    due = np.zeros(num_products, dtype=bool)  # not yet drawn in this round
    order: Iterator[int] = iter(())
    while True:
        size = group if similar_share >= 1 or generator.random() < similar_share else 1
        batch: dict[int, None] = {}  # a set that keeps its order
        met: list[int] = []  # due again, but in this batch by the round before
        while len(batch) < batch_size:
            product = next(order, -1)
            if product < 0:
                due[:] = True
                order = iter(generator.permutation(num_products).tolist())
                table = neighbors()
            elif product in batch and due[product]:
                met.append(product)
            elif due[product]:
                batch[product] = None
                due[product] = False
                near = (other for other in table[product].tolist() if other >= 0 and due[other] and other not in batch)
                for other in list(islice(near, min(size - 1, batch_size - len(batch)))):
                    batch[other] = None
                    due[other] = False
        if met:  # at the turn of a round alone
            order = chain(met, order)
        yield list(batch)


def plan_batches(dataset: Any, batch_size: int, **_: Any) -> Any:
    """Batches of consecutive rows: the plan already holds the order, so a resumed run sees the same batches."""
    from torch.utils.data import BatchSampler, SequentialSampler

    return BatchSampler(SequentialSampler(dataset), batch_size, drop_last=False)
