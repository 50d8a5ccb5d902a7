"""Score matrices of queries against a gallery, made block by block."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

COLUMNS = 16_384  # gallery offers whose float64 copy is held at a time
MATRIX_BYTES = 600_000_000  # of computed scores that are held at a time


class ScoreMatrix(Protocol):
    """A score matrix (Q, N) that is made block by block: a million gallery offers need not fit at once."""

    num_queries: int
    num_gallery: int

    def block(self, start: int, stop: int) -> np.ndarray:
        """Rows `start` to `stop` (stop − start, N) float32, which the caller may overwrite; −inf: not retrieved."""
        ...


class MatrixScores:
    """A score matrix that is there already.

    Shape:
        matrix (Q, N).
    """

    def __init__(self, matrix: np.ndarray) -> None:
        self.matrix = np.asarray(matrix, dtype=np.float32)
        self.num_queries, self.num_gallery = self.matrix.shape

    def block(self, start: int, stop: int) -> np.ndarray:
        """Rows `start` to `stop`, copied."""
        return self.matrix[start:stop].copy()


class DenseScores:
    """Dot products of embeddings.

    Shape:
        queries (Q, D), gallery (N, D).
    """

    def __init__(self, queries: np.ndarray, gallery: np.ndarray) -> None:
        self.queries, self.gallery = queries, gallery
        self.num_queries, self.num_gallery = len(queries), len(gallery)

    def block(self, start: int, stop: int) -> np.ndarray:
        """Rows `start` to `stop` of the product, summed in float64 and rounded once, so that equal rows tie."""
        return self.rows(np.arange(start, stop))

    def rows(self, queries: np.ndarray) -> np.ndarray:
        """The rows of some queries, as `block`."""
        ours = self.queries[queries].astype(np.float64)
        scores = np.empty((len(ours), self.num_gallery), dtype=np.float32)
        for start in range(0, self.num_gallery, COLUMNS):
            part = slice(start, start + COLUMNS)
            scores[:, part] = ours @ self.gallery[part].astype(np.float64).T
        return scores


class ComputedScores:
    """Scores that cost a pass over the gallery however few the queries: computed for many queries at once.

    Args:
        compute: gives rows `start` to `stop` (stop − start, N) float32.
    """

    def __init__(self, num_queries: int, num_gallery: int, compute: Callable[[int, int], np.ndarray]) -> None:
        self.num_queries, self.num_gallery = num_queries, num_gallery
        self._compute = compute
        self._start, self._rows = 0, np.empty((0, num_gallery), dtype=np.float32)

    def block(self, start: int, stop: int) -> np.ndarray:
        """Rows `start` to `stop`, copied."""
        if not self._start <= start <= stop <= self._start + len(self._rows):
            many = max(stop - start, MATRIX_BYTES // (4 * max(self.num_gallery, 1)))
            self._start, self._rows = start, self._compute(start, min(start + many, self.num_queries))
        return np.array(self._rows[start - self._start : stop - self._start], dtype=np.float32)
