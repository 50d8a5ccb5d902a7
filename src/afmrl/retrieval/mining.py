"""Hard negatives for a whole catalog: the offers most like each one that are not the same product."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, get_args

import numpy as np

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.attributes.relations import AttributeAgreement, AttributeBM25, ProductIds
from afmrl.errors import InputError
from afmrl.retrieval.exact import BLOCK_BYTES
from afmrl.retrieval.permuted_index import PermutedIndex

MineBy = Literal["attributes", "embeddings", "both"]
Search = Literal["exact", "ann"]
NOTHING_FOUND = -1
PAIRS_AT_ONCE = 200_000  # scored together: bounds the temporaries
ALONE = 4_096  # rows of an approximate index that one thread puts in before others help
SLACK = 32  # neighbors asked of an approximate index beyond k, in the place of those that are refused


@dataclass(frozen=True)
class HardNegatives:
    """Hard negatives of N offers, by row number.

    Shape:
        rows (N, k) int64, hardest first, NOTHING_FOUND (-1) where there are fewer; scores (N, k) float32, -inf there.
    """

    rows: np.ndarray
    scores: np.ndarray

    def joined(self, other: HardNegatives, k: int | None = None) -> HardNegatives:
        """Both kinds by turns, this one's first, each offer once: the k hardest of either kind (default: this one's k).

        Scores of two kinds do not compare, so `scores` are reciprocal places: 1, 1/2, 1/3, ….

        Raises:
            InputError: of catalogs of different sizes.
        """
        if len(self.rows) != len(other.rows):
            raise InputError(f"hard negatives of {len(self.rows)} and of {len(other.rows)} offers: not one catalog")
        k = self.rows.shape[1] if k is None else k
        width = max(self.rows.shape[1], other.rows.shape[1])
        turns = np.full((len(self.rows), 2 * width), NOTHING_FOUND, dtype=np.int64)
        turns[:, 0 : 2 * self.rows.shape[1] : 2] = self.rows
        turns[:, 1 : 2 * other.rows.shape[1] : 2] = other.rows
        again = np.zeros_like(turns, dtype=bool)
        for place in range(1, turns.shape[1]):
            again[:, place] = (turns[:, :place] == turns[:, place : place + 1]).any(axis=1)
        places = np.broadcast_to(-np.arange(turns.shape[1], dtype=np.float32), turns.shape)
        rows, scores = _best(turns, np.where(again | (turns < 0), -np.inf, places), k)
        ranks = 1.0 / np.arange(1, rows.shape[1] + 1, dtype=np.float32)
        return HardNegatives(rows, np.where(rows >= 0, ranks, -np.inf).astype(np.float32))


class SameProduct:
    """Which pairs are no negatives: those of one known product id, or of key attributes that agree.

    Args:
        attributes: key attributes by row number; None: nobody agrees.
        product_ids: by row number, "" for unknown; None: all are unknown.
        min_shared: keys that two offers must share before agreeing attributes call them the same product.

    >>> table = [KeyAttributes.of({"color": "red", "size": size}) for size in "mml"]
    >>> SameProduct(table, ["p", "q", "p"], min_shared=2).pairs_are_same(np.array([0, 0]), np.array([1, 2])).tolist()
    [True, True]
    """

    def __init__(
        self, attributes: Sequence[KeyAttributes] | None, product_ids: Sequence[str] | None, *, min_shared: int = 3
    ) -> None:
        if min_shared < 1:
            raise InputError(f"mining: min_shared={min_shared} must be at least 1")
        if attributes is not None and product_ids is not None and len(attributes) != len(product_ids):
            raise InputError(f"mining: {len(product_ids)} product ids for {len(attributes)} offers: give one for each")
        self.min_shared = min_shared
        self._agreement = None if attributes is None else AttributeAgreement(attributes)
        self._products = None if product_ids is None else ProductIds(product_ids)

    def pairs_are_same(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """(P,) bool, of P pairs of row numbers."""
        same = np.zeros(len(left), dtype=bool)
        if self._products is not None:
            same |= self._products.pairs_are_same(left, right)
        if self._agreement is not None:
            same |= self._agreement.pairs_agree(left, right, min_shared=self.min_shared)
        return same

    def against_all(self, rows: np.ndarray, num_offers: int) -> np.ndarray:
        """(B, N) bool, of rows with the whole catalog."""
        same = np.zeros((len(rows), num_offers), dtype=bool)
        if self._products is not None:
            same |= self._products.against(np.arange(num_offers))(rows)
        if self._agreement is not None:
            same |= self._agreement.against(np.arange(num_offers), min_shared=self.min_shared)(rows)
        return same


def mine_hard_negatives(
    attributes: Sequence[KeyAttributes] | None,
    k: int,
    *,
    by: MineBy | str = "attributes",
    embeddings: np.ndarray | None = None,
    product_ids: Sequence[str] | None = None,
    min_shared: int = 3,
    search: Search | str = "exact",
) -> HardNegatives:
    """The k offers most like each one of a catalog that are not the same product.

    An offer is refused as a negative where both have one known product id, or where their key attributes agree: at
    least `min_shared` keys in common, and none that differs.

    Args:
        attributes: key attributes by row number; None, with `by="embeddings"`: product ids alone refuse.
        k: negatives of each offer.
        by: likeness is BM25 of "attributes" (see `mine_by_attributes`), cosine of "embeddings" (see
            `mine_by_embeddings`), or "both": the hardest of either kind by turns.
        embeddings: (N, D) unit rows by row number, for "embeddings" and "both".
        product_ids: by row number, "" or None for unknown; None: all are unknown.
        min_shared: keys that two offers must share before agreeing attributes call them the same product.
        search: how embeddings are searched: "exact", or "ann" (needs `afmrl[ann]`).

    Returns:
        `rows` (N, k), hardest first, -1 where there are fewer, and `scores` (N, k).

    Raises:
        InputError: an option out of range, tables of unequal length, or what `by` compares is missing.

    >>> table = [KeyAttributes.of({"color": color, "cut": "wide"}) for color in ("deep red", "red", "blue")]
    >>> mine_hard_negatives(table, 1).rows[:, 0].tolist()
    [1, 0, 1]
    """
    if by not in get_args(MineBy):
        raise InputError(f"mining: by={by!r} is unknown; one of {', '.join(get_args(MineBy))}")
    if by != "attributes" and embeddings is None:
        raise InputError(f"mining: by={by!r} needs embeddings, one row for each offer")
    if by != "embeddings" and attributes is None:
        raise InputError(f"mining: by={by!r} needs key attributes, one for each offer")
    found: list[HardNegatives] = []
    if by != "embeddings" and attributes is not None:
        found.append(mine_by_attributes(attributes, k, product_ids=product_ids, min_shared=min_shared))
    if by != "attributes" and embeddings is not None:
        found.append(
            mine_by_embeddings(
                embeddings, k, attributes=attributes, product_ids=product_ids, min_shared=min_shared, search=search
            )
        )
    return found[0] if len(found) == 1 else found[0].joined(found[1])


def mine_by_attributes(
    attributes: Sequence[KeyAttributes],
    k: int,
    *,
    product_ids: Sequence[str] | None = None,
    min_shared: int = 3,
    window: int = 8,
    max_words: int = 8,
    lexical: AttributeBM25 | None = None,
) -> HardNegatives:
    """Offers of highest BM25 of key attributes that are not the same product.

    Scoring every pair would cost n². Instead offers are listed once for each of their rarest words, sorted by that
    word and the words that follow it (a permuted index), and are compared with their neighbors in the list. Those
    share that word and, where many do, most of the next ones too (Hernández & Stolfo 1995, sorted neighborhood).
    Words of fewer than `window` offers are searched completely. Time is n log n, memory bounded by `max_words` entries
    an offer; the BM25 of what is found is exact.

    Args:
        k: negatives an offer.
        product_ids: offers of one known product are refused.
        min_shared: offers whose attributes agree on at least so many shared keys, and differ on none, are refused.
        window: neighbors on either side that are compared, at each of an offer's places.
        max_words: places an offer has in the list.
        lexical: BM25 of the same offers, to reuse one.

    Raises:
        InputError: an option out of range, or tables of unequal length.
    """
    _check(k=k, window=window, max_words=max_words)
    lexical = lexical or AttributeBM25(attributes)
    if lexical.num_offers != len(attributes):
        raise InputError(f"mining: lexical was made of {lexical.num_offers} offers, the table has {len(attributes)}")
    refused = SameProduct(attributes, product_ids, min_shared=min_shared)
    rows, scores = _nothing(len(attributes), k)
    # a block's pairs are at most max_words · 2 · window an offer
    at_once = max(1, PAIRS_AT_ONCE // (2 * window * max_words))
    index = PermutedIndex(lexical.words, max_words=max_words)
    for start, found in index.neighbors(window=window, at_once=at_once):
        ours, place = np.nonzero(found >= 0)
        pairs = ours + start, found[ours, place]
        values = lexical.pair_scores(*pairs)
        values[(values <= 0) | refused.pairs_are_same(*pairs)] = -np.inf
        of_found = np.full(found.shape, -np.inf, dtype=np.float32)
        of_found[ours, place] = values
        stop = start + len(found)
        rows[start:stop], scores[start:stop] = _best(found, of_found, k)
    return HardNegatives(rows, scores)


def mine_by_embeddings(
    embeddings: np.ndarray,
    k: int,
    *,
    attributes: Sequence[KeyAttributes] | None = None,
    product_ids: Sequence[str] | None = None,
    min_shared: int = 3,
    search: Search | str = "exact",
) -> HardNegatives:
    """Offers of highest cosine that are not the same product.

    Args:
        embeddings: (N, D) unit rows, such as an Embedder's; may be memory-mapped.
        k: negatives an offer.
        attributes: for the rule of agreement; None: product ids alone refuse.
        product_ids, min_shared: as of `mine_by_attributes`.
        search: "exact" compares every pair, in blocks of bounded memory; "ann" asks a usearch index (HNSW), for
            catalogs of more than about 100,000 offers, and loses a few.

    Raises:
        InputError: an option out of range, tables of unequal length, or usearch is not installed.
    """
    _check(k=k)
    if search not in get_args(Search):
        raise InputError(f"mining: search={search!r} is unknown; one of {', '.join(get_args(Search))}")
    for name, table in (("attributes", attributes), ("product_ids", product_ids)):
        if table is not None and len(table) != len(embeddings):
            raise InputError(f"mining: {len(table)} {name} for {len(embeddings)} embeddings: give one for each")
    refused = SameProduct(attributes, product_ids, min_shared=min_shared)
    rows, scores = _nothing(len(embeddings), k)
    index = _ann_index(embeddings) if search == "ann" else None
    at_once = max(1, (BLOCK_BYTES // 8) // max(len(embeddings), 1)) if index is None else 4096
    for start in range(0, len(embeddings), at_once):
        block = np.asarray(embeddings[start : start + at_once], dtype=np.float32)
        ours = np.arange(start, start + len(block))
        if index is None:
            values = block @ np.asarray(embeddings, dtype=np.float32).T
            values[refused.against_all(ours, len(embeddings))] = -np.inf
            values[np.arange(len(block)), ours] = -np.inf
            found = np.broadcast_to(np.arange(len(embeddings)), values.shape)
        else:
            matches = index.search(block, min(k + SLACK, len(embeddings)))
            found = np.asarray(matches.keys, dtype=np.int64).reshape(len(block), -1)
            values = 1.0 - np.asarray(matches.distances, dtype=np.float32).reshape(len(block), -1)
            left = np.repeat(ours, found.shape[1])
            wrong = refused.pairs_are_same(left, found.ravel()) | (left == found.ravel())
            values[wrong.reshape(values.shape)] = -np.inf
        rows[start : start + len(block)], scores[start : start + len(block)] = _best(found, values, k)
    return HardNegatives(rows, scores)


def _ann_index(embeddings: np.ndarray) -> Any:
    try:
        from usearch.index import Index
    except ImportError as error:
        raise InputError("mining: search='ann' needs usearch: pip install 'afmrl[ann]'; or search='exact'") from error
    index = Index(ndim=embeddings.shape[1], metric="ip", dtype="f16")
    bounds = [*range(0, len(embeddings), ALONE)][:2] + [*range(65_536, len(embeddings), 65_536), len(embeddings)]
    for start, stop in pairwise(bounds):
        block = np.asarray(embeddings[start:stop], dtype=np.float32)
        # rows that several threads put into a nearly empty graph do not see each other and may never be found
        index.add(np.arange(start, stop), block, threads=1 if start == 0 else 0)
    return index


def _best(candidates: np.ndarray, scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """(B, k) of each row's candidates (B, C) the k of highest score, equal ones in row order; -inf is none."""
    rows, best = _nothing(len(candidates), k)
    width = min(k, scores.shape[1])
    if width < scores.shape[1] and scores.shape[1] > 8 * k:
        top = np.argpartition(-scores, width - 1, axis=1)[:, :width]
        candidates, scores = np.take_along_axis(candidates, top, axis=1), np.take_along_axis(scores, top, axis=1)
    order = np.lexsort((candidates, -scores), axis=1)[:, :width]
    best[:, :width] = np.take_along_axis(scores, order, axis=1)
    rows[:, :width] = np.take_along_axis(candidates, order, axis=1)
    rows[np.isneginf(best)] = NOTHING_FOUND
    return rows, best


def _nothing(count: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    return np.full((count, k), NOTHING_FOUND, dtype=np.int64), np.full((count, k), -np.inf, dtype=np.float32)


def _check(**options: int) -> None:
    for name, value in options.items():
        if value < 1:
            raise InputError(f"mining: {name}={value} must be at least 1")
