"""Exact retrieval: the best k of a gallery, and ranks, in blocks of bounded memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from afmrl.errors import InputError
from afmrl.retrieval.scores import Embeddings
from afmrl.retrieval.sweep import Targets, sweep

BLOCK_BYTES = 64_000_000  # held at a time beside embeddings and result: scores, masks, candidates


@dataclass(frozen=True)
class ExactSearch:
    """What `search` found."""

    scores: np.ndarray
    """(Q, K) float32, best first; K = min(k, N)."""
    rows: np.ndarray
    """(Q, K) int64 gallery rows."""
    ranks: np.ndarray
    """(Q,) int64 rank of the best relevant offer, from 1; N + 1 if there is none."""
    relevant_ranks: np.ndarray
    """(M,) int64 rank of every relevant offer, in the order of `np.concatenate(relevant)`."""
    relevant_scores: np.ndarray
    """(M,) float32 their scores."""
    relevant_ties: np.ndarray
    """(M,) int64 how many other gallery offers have the same score."""


def search(
    queries: np.ndarray,
    gallery: np.ndarray,
    k: int,
    relevant: Sequence[np.ndarray] | None = None,
    *,
    progress: bool = False,
) -> ExactSearch:
    """The k gallery rows of highest dot product, and the rank of every relevant one, in one pass.

    A score is the dot product summed in float64 and rounded once to float32. It depends on its two rows alone, not on
    block sizes, threads or the rows beside them: offers with the same embedding have the same score, and equal scores
    are in gallery order. (`queries @ gallery.T` does not promise that: its last bit may change with the shape.)

    Time grows with Q·N·D: by about a quarter for each relevant offer of a query that is far below its best k, and up to
    sevenfold where k is near N or most scores are equal. Work of more than a moment runs on as many threads as BLAS is
    allowed (OMP_NUM_THREADS); two searches that do so in one process wait for each other.

    Args:
        progress: a bar on the terminal.

    Shape:
        queries (Q, D), gallery (N, D), of any real type; relevant: Q arrays of gallery rows.

    Raises:
        InputError: shapes that do not fit, embeddings that are not finite or too large for float32, k below 0,
            relevant rows outside the gallery.

    >>> found = search(np.eye(3), np.eye(3), 2, [[0], [0], [1, 2]])
    >>> found.rows.tolist(), found.ranks.tolist(), found.relevant_ranks.tolist()
    ([[0, 1], [1, 0], [2, 0]], [1, 2, 1], [1, 2, 3, 1])
    """
    if k < 0:
        raise InputError(f"search: k={k}: give 0 or more")
    embeddings = Embeddings.checked(queries, gallery)
    none = [np.empty(0, dtype=np.int64)] * embeddings.num_queries
    targets, place = Targets.of(embeddings, none if relevant is None else relevant)
    scores, rows = sweep(
        embeddings, min(k, embeddings.num_gallery), targets if len(place) else None, BLOCK_BYTES, progress=progress
    )
    ranks = _best_ranks(embeddings, targets.best())
    return ExactSearch(scores, rows, ranks, 1 + targets.before[place], targets.score[place], targets.ties[place])


def top_k(queries: np.ndarray, gallery: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k gallery rows of highest dot product, best first; equal scores in gallery order. Scores as in `search`.

    Shape:
        queries (Q, D), gallery (N, D); returns scores (Q, min(k, N)) float32 and rows (Q, min(k, N)) int64.

    Raises:
        InputError: as `search`.
    """
    found = search(queries, gallery, k)
    return found.scores, found.rows


def top_k_of_scores(scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k highest of each row of a score matrix (Q, N), best first; equal scores in column order.

    >>> top_k_of_scores(np.array([[0.5, 0.9, 0.9]]), 2)[1].tolist()
    [[1, 2]]
    """
    scores = np.asarray(scores, dtype=np.float32)
    count = scores.shape[1]
    k = min(k, count)
    if k < count:
        # the k-th score; ties with it are settled by column, which a bare partition would not do
        bound = np.partition(scores, count - k, axis=1)[:, count - k] if k else np.empty(len(scores))
        columns = np.empty((len(scores), k), dtype=np.int64)
        for row, (values, limit) in enumerate(zip(scores, bound, strict=True) if k else ()):
            above = np.flatnonzero(values > limit)
            equal = np.flatnonzero(values == limit)[: k - len(above)]
            columns[row] = np.sort(np.concatenate([above, equal]))
    else:
        columns = np.broadcast_to(np.arange(count), scores.shape)
    kept = np.take_along_axis(scores, columns, axis=1)
    order = np.argsort(-kept, axis=1, kind="stable")
    return np.take_along_axis(kept, order, axis=1), np.take_along_axis(columns, order, axis=1)


def ranks_of(queries: np.ndarray, gallery: np.ndarray, relevant: Sequence[np.ndarray]) -> np.ndarray:
    """Rank (from 1) of each query's best relevant gallery row, counted, not sorted; equal scores in gallery order.

    Scores as in `search`; only the best relevant row of a query is counted for, so many cost no more than one.

    Shape:
        queries (Q, D), gallery (N, D), relevant: Q arrays of gallery rows; returns (Q,) int64, N + 1 where none is.

    Raises:
        InputError: as `search`.
    """
    embeddings = Embeddings.checked(queries, gallery)
    targets = Targets.of(embeddings, relevant)[0].best()
    sweep(embeddings, 0, targets, BLOCK_BYTES)
    return _best_ranks(embeddings, targets)


def _best_ranks(embeddings: Embeddings, targets: Targets) -> np.ndarray:
    ranks = np.full(embeddings.num_queries, embeddings.num_gallery + 1, dtype=np.int64)
    ranks[targets.query] = 1 + targets.before
    return ranks


def ranks_of_scores(scores: np.ndarray, relevant: Sequence[np.ndarray]) -> np.ndarray:
    """As `ranks_of`, of a score matrix (Q, N)."""
    ranks = np.full(len(scores), scores.shape[1] + 1, dtype=np.int64)
    for row, (values, columns) in enumerate(zip(scores, relevant, strict=True)):
        if len(columns):
            best = np.sort(columns)[np.argmax(values[np.sort(columns)])]
            ranks[row] = 1 + (values > values[best]).sum() + (values[:best] == values[best]).sum()
    return ranks
