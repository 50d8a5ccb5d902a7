"""What the score of two embeddings is, to the last bit, and how far a fast product may be from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from afmrl.errors import InputError

PAIR_VALUES = 2**16  # embedding values gathered at a time: more fall out of the cache
EXACT_COLUMNS = 512  # gallery rows that are float64 at a time
UNIT_ROUNDOFF = 2.0**-24  # of float32


def pair_scores(
    queries: np.ndarray, gallery: np.ndarray, query_rows: np.ndarray, gallery_rows: np.ndarray
) -> np.ndarray:
    """The score of each pair of rows: their dot product summed in float64, in one fixed order, then float32.

    Shape:
        queries (Q, D), gallery (N, D), query_rows and gallery_rows (M,); returns (M,) float32.

    >>> pair_scores(np.eye(2), np.array([[0.6, 0.8]]), np.array([0, 1]), np.array([0, 0])).tolist()
    [0.6000000238418579, 0.800000011920929]
    """
    scores = np.empty(len(query_rows), dtype=np.float32)
    step = max(1, PAIR_VALUES // max(queries.shape[1], 1))
    for start in range(0, len(scores), step):
        part = slice(start, start + step)
        ours = queries[query_rows[part]].astype(np.float64)
        theirs = gallery[gallery_rows[part]].astype(np.float64)
        # both rows contiguous, so that each sum runs over D in the same order; `@` would choose one by shape
        scores[part] = np.einsum("md,md->m", ours, theirs)
    return scores


@dataclass(frozen=True)
class Embeddings:
    """Queries and gallery, checked, and how far a float32 product of theirs may be from its score."""

    queries: np.ndarray
    """(Q, D)"""
    gallery: np.ndarray
    """(N, D)"""
    margin: np.ndarray
    """(Q,) float32; 0 where every score is 0 exactly."""

    @classmethod
    def checked(cls, queries: np.ndarray, gallery: np.ndarray, *, longest: float | None = None) -> Embeddings:
        """Raises InputError on shapes that do not fit and on numbers that cannot be compared.

        Args:
            longest: what `lengths(gallery).max()` is, where a gallery that does not change was checked before.
        """
        queries, gallery = np.asarray(queries), np.asarray(gallery)
        if queries.ndim != 2 or gallery.ndim != 2 or queries.shape[1] != gallery.shape[1]:
            raise InputError(f"search: queries {queries.shape} and gallery {gallery.shape} must be (Q, D) and (N, D)")
        longest = lengths(gallery, "gallery").max(initial=0.0) if longest is None else longest
        products = lengths(queries, "query") * longest
        if products.max(initial=0.0) > 1e38:
            raise InputError("search: embeddings are too long for float32 products; normalize them")
        # |fl(q·g) − q·g| ≤ γ_D ‖q‖‖g‖ in whatever order it is summed (Higham, Accuracy and Stability of Numerical
        # Algorithms, 2002, section 3.1); the rest is for rounding rows, scores and bounds to float32, and underflow
        margin = 1.01 * (queries.shape[1] + 8) * UNIT_ROUNDOFF * products + 1e-36
        return cls(queries, gallery, np.where(products > 0, margin, 0.0).astype(np.float32))

    @property
    def num_queries(self) -> int:
        """Q."""
        return len(self.queries)

    @property
    def num_gallery(self) -> int:
        """N."""
        return len(self.gallery)

    def scores(self, query_rows: np.ndarray, gallery_rows: np.ndarray) -> np.ndarray:
        """(M,) float32, see `pair_scores`."""
        return pair_scores(self.queries, self.gallery, query_rows, gallery_rows)

    def fill(self, block: np.ndarray, start: int, first: int) -> None:
        """The scores of queries from `start` and gallery rows from `first`, wrong by up to the margin."""
        stop, last = start + block.shape[0], first + block.shape[1]
        ours = np.ascontiguousarray(self.queries[start:stop], dtype=np.float32)
        np.matmul(ours, np.asarray(self.gallery[first:last], dtype=np.float32).T, out=block)

    def fill_exactly(self, block: np.ndarray, start: int, first: int) -> None:
        """The same, as `pair_scores` computes them, at about three times the cost."""
        ours = self.queries[start : start + len(block)].astype(np.float64)
        # γ_D of float64, for what BLAS returns and for what `pair_scores` would
        margin = self.margin[start : start + len(block), None].astype(np.float64) * 2.0**-28
        for left in range(0, block.shape[1], EXACT_COLUMNS):
            part = block[:, left : left + EXACT_COLUMNS]
            theirs = self.gallery[first + left : first + left + part.shape[1]].astype(np.float64)
            products = ours @ theirs.T
            part[:] = products - margin
            # one in a million is so near the middle of two float32 that the order of summing decides
            unsure = np.flatnonzero(part != (products + margin).astype(np.float32))
            query, column = np.divmod(unsure, part.shape[1])
            part[query, column] = self.scores(start + query, first + left + column)


def lengths(rows: np.ndarray, name: str) -> np.ndarray:
    """(N,) float64: no shorter than the rows' Euclidean norms, and 0 for a row of zeros.

    Raises:
        InputError: a row that is not finite, or too long for float32.
    """
    squares = np.empty(len(rows))
    step = max(1, 2**20 // max(rows.shape[1], 1))
    for start in range(0, len(rows), step):
        with np.errstate(over="ignore"):
            part = np.asarray(rows[start : start + step], dtype=np.float32)
        found = squares[start : start + step]
        found[:] = np.einsum("nd,nd->n", part, part)
        small = found < 1e-30
        if small.any():  # float32 may have lost all of it
            found[small] = np.square(rows[start : start + step][small], dtype=np.float64).sum(axis=1)
    if not np.isfinite(squares).all():
        bad = int(np.flatnonzero(~np.isfinite(squares))[0])
        raise InputError(
            f"search: the {name} embedding of row {bad} is not finite, or too long for float32; embed that offer again "
            "or leave it out"
        )
    return np.sqrt(squares * (1 + 2 * rows.shape[1] * UNIT_ROUNDOFF))
