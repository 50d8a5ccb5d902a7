"""Exact retrieval: the best k of a gallery, and ranks, in blocks of bounded memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

BLOCK_BYTES = 64_000_000  # of the score matrix held at a time


def top_k(queries: np.ndarray, gallery: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k gallery rows of highest dot product, best first; equal scores in gallery order.

    Shape:
        queries (Q, D), gallery (N, D); returns scores (Q, min(k, N)) float32 and rows (Q, min(k, N)) int64.
    """
    rows_at_once = max(1, BLOCK_BYTES // (4 * max(len(gallery), 1)))
    pieces = [
        top_k_of_scores(queries[start : start + rows_at_once] @ gallery.T, k)
        for start in range(0, len(queries), rows_at_once)
    ]
    if not pieces:
        return np.empty((0, min(k, len(gallery))), np.float32), np.empty((0, min(k, len(gallery))), np.int64)
    return np.concatenate([scores for scores, _ in pieces]), np.concatenate([rows for _, rows in pieces])


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
        bound = np.partition(scores, count - k, axis=1)[:, count - k]
        columns = np.empty((len(scores), k), dtype=np.int64)
        for row, (values, limit) in enumerate(zip(scores, bound, strict=True)):
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

    Shape:
        queries (Q, D), gallery (N, D), relevant: Q arrays of gallery rows; returns (Q,) int64, N + 1 where none is.
    """
    ranks = np.empty(len(queries), dtype=np.int64)
    rows_at_once = max(1, BLOCK_BYTES // (4 * max(len(gallery), 1)))
    for start in range(0, len(queries), rows_at_once):
        scores = queries[start : start + rows_at_once] @ gallery.T
        ranks[start : start + rows_at_once] = ranks_of_scores(scores, relevant[start : start + rows_at_once])
    return ranks


def ranks_of_scores(scores: np.ndarray, relevant: Sequence[np.ndarray]) -> np.ndarray:
    """As `ranks_of`, of a score matrix (Q, N)."""
    ranks = np.full(len(scores), scores.shape[1] + 1, dtype=np.int64)
    for row, (values, columns) in enumerate(zip(scores, relevant, strict=True)):
        if len(columns):
            best = np.sort(columns)[np.argmax(values[np.sort(columns)])]
            ranks[row] = 1 + (values > values[best]).sum() + (values[:best] == values[best]).sum()
    return ranks
