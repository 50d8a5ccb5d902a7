"""A gallery that stays as it is while many batches of queries are ranked in it, as RAR's reward does at every step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from afmrl.errors import InputError
from afmrl.retrieval.exact import BLOCK_BYTES
from afmrl.retrieval.scores import Embeddings, lengths
from afmrl.retrieval.sweep import Targets, sweep, within


@dataclass(frozen=True)
class Placed:
    """The ranks of a batch's relevant offers."""

    ranks: np.ndarray
    """(Q,) int64 rank of the best relevant offer, from 1; N + 1 if there is none."""
    relevant_ranks: list[np.ndarray]
    """Of each query, the rank of every relevant offer, best first; the best's alone unless all were asked for."""
    best_scores: np.ndarray
    """(Q,) float32 score of the best relevant offer; NaN if there is none."""
    hardest_scores: np.ndarray
    """(Q,) float32 score of the best other offer; NaN if there is none, or where it was not asked for."""


class FrozenGallery:
    """Ranks of queries in one gallery, counted and not sorted, in memory that the gallery's size does not change.

    Scores and ties are those of `afmrl.retrieval.exact.search`: a score depends on its two rows alone, whatever the
    batch, its blocks and threads, and equal scores are in gallery order. `queries @ gallery.T` does not promise
    that: where a batch of another size runs through another kernel of BLAS, two equal gallery rows may get scores that
    differ in the last bit, and a reward would change with the company that a completion is in.

    Args:
        rows: (N, D) embeddings; they are checked once, here, and not copied.
        block_bytes: held at a time beside them and the queries: scores, masks, candidates.

    Raises:
        InputError: a row that is not finite, or block_bytes below one.

    >>> gallery = FrozenGallery(np.eye(3, dtype=np.float32))
    >>> gallery.place(np.eye(3)[:2], [np.array([0]), np.array([2])]).ranks.tolist()
    [1, 3]
    """

    def __init__(self, rows: np.ndarray, *, block_bytes: int = BLOCK_BYTES) -> None:
        if block_bytes < 1:
            raise InputError(f"gallery: blocks of {block_bytes} bytes hold nothing; give more")
        self.rows, self.block_bytes = rows, block_bytes
        self._longest = float(lengths(rows, "gallery").max(initial=0.0))

    def __len__(self) -> int:
        return len(self.rows)

    def place(
        self, queries: np.ndarray, relevant: Sequence[np.ndarray], *, all_ranks: bool = False, hardest: bool = False
    ) -> Placed:
        """The ranks of each query's relevant offers.

        Args:
            all_ranks: count for all relevant offers; False: for the best of each query, which is cheaper.
            hardest: look for the best of the others, too, in the same pass.

        Shape:
            queries (Q, D), relevant: Q arrays of gallery rows.

        Raises:
            InputError: shapes that do not fit, relevant rows outside the gallery, queries that are not finite.
        """
        embeddings = Embeddings.checked(queries, self.rows, longest=self._longest)
        targets, _ = Targets.of(embeddings, relevant)
        if not all_ranks:
            targets = targets.best()
        # so many that one of them is another's, if there is one
        k = min(1 + max((len(rows) for rows in relevant), default=0), len(self.rows)) if hardest else 0
        top_scores, top_rows = sweep(embeddings, k, targets, self.block_bytes)
        others = np.full(len(queries), np.nan, dtype=np.float32)
        if k:
            counts = [len(rows) for rows in relevant]  # a query and a row of the gallery are one number
            own = np.repeat(np.arange(len(queries)), counts) * len(self.rows)
            own += np.concatenate([*relevant, np.empty(0, np.int64)]).astype(np.int64)
            strange = ~np.isin(np.arange(len(queries))[:, None] * len(self.rows) + top_rows, own)  # (Q, k)
            some, nearest = strange.any(axis=1), strange.argmax(axis=1)
            others[some] = top_scores[some, nearest[some]]
        first = targets.slot == 0
        ranks = np.full(len(queries), len(self.rows) + 1, dtype=np.int64)
        ranks[targets.query[first]] = 1 + targets.before[first]
        best = np.full(len(queries), np.nan, dtype=np.float32)
        best[targets.query[first]] = targets.score[first]
        edges = np.searchsorted(targets.query, np.arange(len(queries) + 1)).tolist()
        of_query = [1 + targets.before[left:right] for left, right in pairwise(edges)]
        return Placed(ranks, of_query, best, others)

    def reaching(self, queries: np.ndarray, query: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """(M,) int64: how many gallery rows score at least `scores[m]` for the query `query[m]`.

        The place of an offer that is not in the gallery, after its equals.

        Shape:
            queries (Q, D), query (M,) rows of `queries`, scores (M,) float32 as `pair_scores` computes them.

        Raises:
            InputError: shapes that do not fit, queries that are not finite.
        """
        embeddings = Embeddings.checked(queries, self.rows, longest=self._longest)
        order = np.lexsort((-scores, query))
        slot = within(np.bincount(query, minlength=len(queries)))
        outside = np.full(len(order), len(self.rows))  # after the last row: all equal scores come before it
        zeros = np.zeros(len(order), dtype=np.int64)
        targets = Targets(query[order], outside, scores[order], slot, zeros, zeros.copy())
        sweep(embeddings, 0, targets, self.block_bytes)
        found = np.empty_like(targets.before)
        found[order] = targets.before
        return found
