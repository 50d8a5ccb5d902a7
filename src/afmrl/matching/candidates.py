"""Candidate pairs: offers that share rare words or codes, or look alike; every other pair is never compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from afmrl.matching.table import OfferTable
from afmrl.matching.vetoes import paired
from afmrl.retrieval.permuted_index import PermutedIndex

WINDOW = 10
MAX_WORDS = 16
AT_ONCE = 4_096  # offers whose neighbors are in memory at a time
MAX_CANDIDATES = 30
"""Best pairs by words that each offer may propose; others may propose it too."""
MAX_SHARING = 40
"""Offers that may share a code before the code is no longer looked at by itself."""
NEIGHBORS = 10  # by embedding or image
EXACT_UP_TO = 20_000  # offers whose embeddings are all compared; above, an approximate index is asked
Progress = Callable[[int], None]


def candidate_pairs(
    table: OfferTable, *, max_candidates: int = MAX_CANDIDATES, progress: Progress | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs that are worth comparing, each once, left row < right row, sorted.

    By words: offers are in a list once for each of their rarest words, sorted by that word and those that follow
    (sorted neighborhood, see `afmrl.retrieval.permuted_index`). Of an offer's neighbors there, the best by TF-IDF are
    kept. By codes: all offers that share a model number, part number or GTIN that few offers have. Where there are
    embeddings or images: the nearest by either. Time is n log n, memory O(n · max_candidates).

    Shape:
        returns (P,) int32 left rows, (P,) int32 right rows.
    """
    count = np.int64(max(len(table), 1))
    found = [*_by_words(table, max_candidates, progress), *_by_codes(table), *_by_embeddings(table)]
    pairs = np.unique(np.concatenate([np.empty(0, np.int64), *found]))
    return (pairs // count).astype(np.int32), (pairs % count).astype(np.int32)


def _coded(count: int, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    left, right = left.astype(np.int64), right.astype(np.int64)
    kept = left != right
    return np.unique(np.minimum(left, right)[kept] * count + np.maximum(left, right)[kept])


def _by_words(table: OfferTable, max_candidates: int, progress: Progress | None) -> Iterator[np.ndarray]:
    titles, texts = table.titles.weights, table.texts.weights
    index = PermutedIndex(table.titles.present, max_words=MAX_WORDS)
    for start, near in index.neighbors(window=WINDOW, at_once=AT_ONCE):
        ours, place = np.nonzero(near >= 0)
        left, right = ours + start, near[ours, place]
        similarity = paired(titles, titles, left, right) + 0.5 * paired(texts, texts, left, right)
        order = np.lexsort((right, -similarity, left))
        left, right = left[order], right[order]
        first = np.flatnonzero(np.diff(left, prepend=-1))
        rank = np.arange(len(left)) - np.repeat(first, np.diff(np.append(first, len(left))))
        kept = rank < max_candidates
        yield _coded(len(table), left[kept], right[kept])
        if progress is not None:
            progress(len(near))


def _by_codes(table: OfferTable) -> Iterator[np.ndarray]:
    stated = [(table.codes, other) for other in (table.codes, table.forms, table.loose)]
    stated += [(table.stems, table.stems)]
    stated += [(of, of) for key in ("gtin", "mpn") if key in table.keys for of in [table.values[:, table.keys[key]]]]
    stated += [(table.distrusted, table.distrusted)]
    if "gtin" in table.keys:
        yield _in_a_row(len(table), table.values[:, table.keys["gtin"]])
    yield _in_a_row(len(table), table.distrusted)
    for ours, theirs in stated:
        yield _sharing(len(table), ours, theirs)


def _sharing(count: int, ours: Any, theirs: Any) -> np.ndarray:
    """Pairs of a row of `ours` and one of `theirs` that share a column which at most MAX_SHARING rows have."""
    from scipy import sparse

    columns, where = np.unique(ours.indices, return_inverse=True)
    if not len(columns):
        return np.empty(0, np.int64)
    place = np.searchsorted(columns, theirs.indices)
    known = columns[np.minimum(place, len(columns) - 1)] == theirs.indices
    their_rows = np.repeat(np.arange(count), np.diff(theirs.indptr))[known]
    frequency = np.bincount(place[known], minlength=len(columns))
    rare = (frequency <= MAX_SHARING) & (np.bincount(where, minlength=len(columns)) <= MAX_SHARING)
    our_rows = np.repeat(np.arange(count), np.diff(ours.indptr))
    mine, others = rare[where], rare[place[known]]
    shape = (count, len(columns))
    left = sparse.csr_matrix((np.ones(mine.sum(), np.int8), (our_rows[mine], where[mine])), shape=shape)
    right = sparse.csr_matrix((np.ones(others.sum(), np.int8), (their_rows[others], place[known][others])), shape=shape)
    right = right.T.tocsr()
    found = [np.empty(0, np.int64)]
    for start in range(0, count, 65_536):
        block = (left[start : start + 65_536] @ right).tocoo()
        found.append(_coded(count, block.row + start, block.col))
    return np.concatenate(found)


def _in_a_row(count: int, values: Any) -> np.ndarray:
    """Pairs of a row with the next MAX_SHARING // 2 ones of a value that more than MAX_SHARING rows have."""
    by_value = values.tocsc()
    found = [np.empty(0, np.int64)]
    for column in np.flatnonzero(np.diff(by_value.indptr) > MAX_SHARING):
        rows = np.sort(by_value.indices[by_value.indptr[column] : by_value.indptr[column + 1]])
        found += [_coded(count, rows[:-step], rows[step:]) for step in range(1, MAX_SHARING // 2 + 1)]
    return np.concatenate(found)


def _by_embeddings(table: OfferTable) -> Iterator[np.ndarray]:
    spaces = [table.dense["fused"]] if "fused" in table.dense else []
    spaces += [table.colors] if table.colors is not None else []
    for embeddings in spaces:
        yield _nearest(embeddings)


def _nearest(embeddings: np.ndarray) -> np.ndarray:
    from afmrl.retrieval.mining import mine_by_embeddings

    rows = np.flatnonzero(np.any(embeddings, axis=1))  # zeros: the offer has no such part
    if len(rows) < 2:
        return np.empty(0, np.int64)
    search = "exact" if len(rows) <= EXACT_UP_TO else "ann"
    near = mine_by_embeddings(embeddings[rows], min(NEIGHBORS, len(rows) - 1), search=search).rows
    ours, place = np.nonzero(near >= 0)
    return _coded(len(embeddings), rows[ours], rows[near[ours, place]])
