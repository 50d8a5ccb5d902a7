"""A ranking: the rank of every relevant offer of every query, and how the order of equal scores would change it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from afmrl.retrieval.exact import search, top_k_of_scores
from afmrl.retrieval.score_matrix import DenseScores, ScoreMatrix

BLOCK_BYTES = 256_000_000  # of the score matrix held at a time
FEW = 16  # relevant offers of a query that are counted one by one; of more, its whole row is sorted once

TieOrder = Literal["id", "best", "worst"]


@dataclass(frozen=True)
class Ranking:
    """Every relevant offer of every query with its rank: all that a metric of the whole ranking needs.

    Ranks start at 1, the query's own offer taken out; equal scores are in gallery order. An offer that was not
    retrieved has the rank inf.
    """

    num_queries: int
    num_gallery: int
    query: np.ndarray
    """(M,) int64: which query each of the M relevant offers belongs to, rising."""
    grade: np.ndarray
    """(M,) float64: how relevant it is, above 0."""
    rank: np.ndarray
    """(M,) float64, equal scores in gallery order."""
    best: np.ndarray
    """(M,) float64, as if of equal scores the more relevant came first: no order of equal scores is kinder."""
    worst: np.ndarray
    """(M,) float64, as if of equal scores the less relevant came first."""
    own_rank: np.ndarray
    """(Q,) float64: rank of the query's own offer before it was taken out; inf where the gallery does not hold it."""
    hit_rows: np.ndarray
    """(Q, K) gallery rows, best first, the own offer taken out."""
    hit_scores: np.ndarray
    """(Q, K) their scores; −inf: no hit."""

    def ranks(self, order: TieOrder = "id") -> np.ndarray:
        """(M,) ranks under an order of equal scores; "id" is the gallery's own, which evaluations sort by id."""
        return {"id": self.rank, "best": self.best, "worst": self.worst}[order]


def rank_gallery(
    scores: ScoreMatrix,
    relevant: Sequence[np.ndarray],
    grades: Sequence[np.ndarray] | None = None,
    own_rows: np.ndarray | None = None,
    *,
    num_hits: int = 100,
) -> Ranking:
    """Rank the gallery for every query, in blocks of bounded memory; relevant offers are counted or sorted exactly.

    Args:
        scores: higher is better, compared as float32. `DenseScores` are searched by `afmrl.retrieval.exact.search`
            (but where queries have many relevant offers): offers with the same embedding tie, whatever the blocks.
        relevant: gallery rows of each query's relevant offers; the query's own row is skipped.
        grades: of the same shapes, above 0; None: all 1.
        own_rows: (Q,) gallery row of each query's own offer, −1 if it has none: it is no hit and not relevant.
        num_hits: K, hits kept of each query.
    """
    own = np.full(scores.num_queries, -1) if own_rows is None else np.asarray(own_rows, dtype=np.int64)
    columns, of_query = [], []
    for query, rows in enumerate(relevant):
        order = np.argsort(rows, kind="stable")
        order = order[np.asarray(rows)[order] != own[query]]
        columns.append(np.asarray(rows, dtype=np.int64)[order])
        of_query.append(np.ones(len(order)) if grades is None else np.asarray(grades[query], dtype=np.float64)[order])
    if isinstance(scores, DenseScores) and sum(map(len, columns)) <= FEW * scores.num_queries:
        return _rank_dense(scores, columns, of_query, own, num_hits)
    return _rank_blocks(scores, columns, of_query, own, num_hits)


def _rank_blocks(
    scores: ScoreMatrix, relevant: Sequence[np.ndarray], grades: Sequence[np.ndarray], own: np.ndarray, num_hits: int
) -> Ranking:
    """Any scores: block by block."""
    ranks: list[np.ndarray] = []
    hits = [(np.empty((0, min(num_hits, scores.num_gallery)), np.float32), np.empty((0, 0), np.int64))]
    own_rank = np.full(scores.num_queries, np.inf)
    step = max(1, BLOCK_BYTES // (4 * max(scores.num_gallery, 1)))
    for start in range(0, scores.num_queries, step):
        stop = min(start + step, scores.num_queries)
        block = scores.block(start, stop)
        for query in range(start, stop):
            values, column = block[query - start], int(own[query])
            if column >= 0:
                own_rank[query] = 1 + (values > values[column]).sum() + (values[:column] == values[column]).sum()
                values[column] = -np.inf
            ranks.append(_ranks_in_row(values, relevant[query], grades[query]))
        hits.append(top_k_of_scores(block, num_hits))
    rank, best, worst = np.concatenate([np.empty((3, 0)), *ranks], axis=1)
    return Ranking(
        num_queries=scores.num_queries,
        num_gallery=scores.num_gallery,
        query=_queries(relevant),
        grade=_flat(grades),
        rank=rank,
        best=best,
        worst=worst,
        own_rank=own_rank,
        hit_rows=np.concatenate([rows.reshape(-1, hits[0][0].shape[1]) for _, rows in hits]),
        hit_scores=np.concatenate([values for values, _ in hits]),
    )


def _ranks_in_row(values: np.ndarray, columns: np.ndarray, grades: np.ndarray) -> np.ndarray:
    """(3, R) ranks of `columns` (rising) in a row of scores: in gallery order of equal ones, at best, at worst."""
    ours = values[columns]
    if len(columns) <= FEW:
        above = np.array([(values > value).sum() for value in ours], dtype=np.int64)
        equal = np.array([(values == value).sum() for value in ours], dtype=np.int64)
    else:
        rising = np.sort(values)
        above = len(values) - np.searchsorted(rising, ours, "right")
        equal = len(values) - above - np.searchsorted(rising, ours, "left")
    rank = above + 1.0
    for value in np.unique(ours[equal > 1]):
        group = np.flatnonzero(ours == value)
        rank[group] += np.searchsorted(np.flatnonzero(values == value), columns[group])
    ranks = np.stack([rank, *_extremes(above, equal, ours, grades)])
    ranks[:, ~np.isfinite(ours)] = np.inf
    return ranks


def _extremes(
    above: np.ndarray, equal: np.ndarray, scores: np.ndarray, grades: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Ranks (R,) of one query's relevant offers under the kindest and the unkindest order of equal scores.

    Args:
        above: how many gallery offers score higher; equal: how many score the same, itself included.
    """
    best, worst = above + 1.0, above + 1.0
    for value in np.unique(scores[equal > 1]):
        group = np.flatnonzero(scores == value)
        kindest = group[np.argsort(-grades[group], kind="stable")]
        best[kindest] += np.arange(len(group))
        worst[kindest] += equal[group[0]] - 1 - np.arange(len(group))
    return best, worst


def _rank_dense(
    scores: DenseScores, relevant: Sequence[np.ndarray], grades: Sequence[np.ndarray], own: np.ndarray, num_hits: int
) -> Ranking:
    """Dot products: one exact search, which ranks the own offers among the relevant ones."""
    num_queries, num_gallery = scores.num_queries, scores.num_gallery
    has_own = own >= 0
    asked = [np.append(rows, own[query]) if has_own[query] else rows for query, rows in enumerate(relevant)]
    found = search(scores.queries, scores.gallery, num_hits + bool(has_own.any()), asked)
    query_of = _queries(asked)
    is_own = own[query_of] == _flat(asked)
    own_rank, own_score = np.full(num_queries, np.inf), np.full(num_queries, -np.inf, dtype=np.float32)
    own_rank[has_own], own_score[has_own] = found.relevant_ranks[is_own], found.relevant_scores[is_own]
    query, score = query_of[~is_own], found.relevant_scores[~is_own]
    before_own = found.relevant_ranks[~is_own].astype(np.float64)
    rank = before_own - (own_rank[query] < before_own)
    equal = 1 + found.relevant_ties[~is_own] - (own_score[query] == score)
    best, worst = rank.copy(), rank.copy()
    grade = _flat(grades)
    starts = np.searchsorted(query, np.arange(num_queries + 1))
    # a rank does not say how many offers of the same score come before it
    for tied, row in _rows_down_to_ties(scores, found.scores, query, before_own, found.relevant_ties[~is_own]):
        rows = slice(starts[tied], starts[tied + 1])
        above = (row[:, None] > score[rows]).sum(axis=0) - (own_score[tied] > score[rows])
        best[rows], worst[rows] = _extremes(above, equal[rows], score[rows], grade[rows])
    hit_rows, hit_scores = _without_own(found.rows, found.scores, own, min(num_hits, num_gallery))
    return Ranking(
        num_queries=num_queries,
        num_gallery=num_gallery,
        query=query,
        grade=grade,
        rank=rank,
        best=best,
        worst=worst,
        own_rank=own_rank,
        hit_rows=hit_rows,
        hit_scores=hit_scores,
    )


def _rows_down_to_ties(
    scores: DenseScores, hits: np.ndarray, query: np.ndarray, rank: np.ndarray, ties: np.ndarray
) -> Iterator[tuple[int, np.ndarray]]:
    """(query, scores that hold all above its last relevant offer) of the queries with ties: its hits, or its row."""
    depth = np.zeros(scores.num_queries, dtype=np.int64)
    np.maximum.at(depth, query, (rank + ties).astype(np.int64))
    tied = np.unique(query[ties > 0])
    for near in tied[depth[tied] <= hits.shape[1]].tolist():
        yield near, hits[near]
    deep = tied[depth[tied] > hits.shape[1]]
    step = max(1, BLOCK_BYTES // (4 * max(scores.num_gallery, 1)))
    for start in range(0, len(deep), step):
        yield from zip(deep[start : start + step].tolist(), scores.rows(deep[start : start + step]), strict=True)


def _without_own(rows: np.ndarray, scores: np.ndarray, own: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The first `width` hits, the own offer moved after all others and marked with −inf."""
    is_own = rows == own[:, None]
    order = np.argsort(is_own, axis=1, kind="stable")[:, :width]
    scores = np.where(is_own, np.float32(-np.inf), scores)
    return np.take_along_axis(rows, order, axis=1), np.take_along_axis(scores, order, axis=1)


def _queries(relevant: Sequence[np.ndarray]) -> np.ndarray:
    """(M,) which query each of the concatenated entries belongs to."""
    return np.repeat(np.arange(len(relevant)), [len(rows) for rows in relevant]).astype(np.int64)


def _flat(arrays: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.empty(0, dtype=arrays[0].dtype), *arrays]) if len(arrays) else np.empty(0)
