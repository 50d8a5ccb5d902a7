"""Some rows of a snapshot, compared with queries one by one, with the scores of `afmrl.retrieval.exact`."""

from __future__ import annotations

import numpy as np

from afmrl.index.local.snapshot import Snapshot
from afmrl.retrieval.exact import BLOCK_BYTES
from afmrl.retrieval.scores import UNIT_ROUNDOFF, Embeddings, lengths, pair_scores
from afmrl.retrieval.sweep import sweep

RowHits = tuple[np.ndarray, np.ndarray]
"""One query's rows (n,) int64, best first, and their scores (n,) float32."""
AT_HAND_BYTES = 128_000_000  # up to so many, rows are kept as float32, which BLAS multiplies as they are
FEW_QUERIES = 8  # up to so many, a product each; a sweep in blocks takes milliseconds to prepare


class ExactRows:
    """Finds the best of some rows, without a miss.

    Args:
        rows: numbered rows of the snapshot.
    """

    def __init__(self, snapshot: Snapshot, rows: np.ndarray) -> None:
        orders = snapshot.orders[rows]
        self.rows = rows if (np.diff(orders) > 0).all() else rows[np.argsort(orders)]  # equal scores by insertion
        self.gallery = stored(snapshot, self.rows)
        self._longest = lengths(self.gallery, "gallery").max(initial=0.0)

    def search(self, queries: np.ndarray, k: int) -> list[RowHits]:
        """Of each query the k best rows."""
        if not len(self.rows):
            return [(self.rows, np.empty(0, np.float32))] * len(queries)
        k = min(k, len(self.rows))
        products = lengths(queries, "query") * self._longest
        # as `Embeddings.checked` has it, which would read the whole gallery at every search
        margins = 1.01 * (queries.shape[1] + 8) * UNIT_ROUNDOFF * products + 1e-36
        if len(queries) <= FEW_QUERIES and self.gallery.dtype == np.float32:
            return [self._of_one(queries[i : i + 1], k, margin) for i, margin in enumerate(margins)]
        embeddings = Embeddings(queries, self.gallery, np.where(products > 0, margins, 0.0).astype(np.float32))
        scores, places = sweep(embeddings, k, None, BLOCK_BYTES)
        return [(self.rows[found], values) for found, values in zip(places, scores, strict=True)]

    def _of_one(self, query: np.ndarray, k: int, margin: float) -> RowHits:
        rough = self.gallery @ query[0]
        # neither the k-th score nor a row's own is further than the margin from what BLAS said
        bound = np.partition(rough, len(rough) - k)[len(rough) - k] - 2.001 * margin
        likely = np.flatnonzero(rough >= bound)
        scores = pair_scores(query, self.gallery, np.zeros(len(likely), np.int64), likely)
        best = np.argsort(-scores, kind="stable")[:k]
        return self.rows[likely[best]], scores[best]


def stored(snapshot: Snapshot, rows: np.ndarray) -> np.ndarray:
    """(n, D) of numbered rows: float32 where few or stored as bytes, otherwise as stored; a whole segment is mapped."""
    few = 4 * len(rows) * snapshot.version.dimension <= AT_HAND_BYTES
    if few or not snapshot.segments or snapshot.segments[0].scales is not None:
        return snapshot.embeddings(rows)
    codes = snapshot.segments[0].codes
    if len(snapshot.segments) == 1 and len(rows) == len(codes) and (np.diff(rows) == 1).all():
        return codes
    found = np.empty((len(rows), snapshot.version.dimension), dtype=codes.dtype)
    for segment, places, local in snapshot.by_segment(rows):
        found[places] = snapshot.segments[segment].codes[local]
    return found
