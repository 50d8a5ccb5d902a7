"""A permuted index: which offers are near each other when they are sorted by each of their words in turn."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

NOBODY = -1


class PermutedIndex:
    """Offers in a list, once for each of their rarest words, sorted by that word and the three that follow it.

    Of two offers that share a word, those near each other in the list share most of the next words too; sorting is the
    only work that is not linear. An offer's words are sorted by rising document frequency, and the last is followed by
    the first. Words of one offer alone are left out: nobody shares them.

    Args:
        words: (N, V) sparse counts.
        max_words: entries an offer has, its rarest words.

    >>> from scipy.sparse import csr_matrix
    >>> index = PermutedIndex(csr_matrix([[1, 1, 0], [0, 1, 1], [1, 1, 0]]), max_words=4)
    >>> [found.tolist() for _, found in index.neighbors(window=1, at_once=3)]
    [[[2, -1, -1, -1], [2, -1, -1, -1], [0, 1, -1, -1]]]
    """

    def __init__(self, words: Any, *, max_words: int) -> None:
        frequencies = np.bincount(words.indices, minlength=words.shape[1])
        ranks = np.empty(len(frequencies), dtype=np.int32)
        ranks[np.argsort(frequencies, kind="stable")] = np.arange(len(frequencies), dtype=np.int32)
        starts, ours = _filtered(words.indptr, ranks[words.indices], frequencies[words.indices] > 1)
        ours = _sorted_rows(starts, ours, len(ranks))
        place = np.arange(len(ours)) - np.repeat(starts[:-1], np.diff(starts))
        self._starts, ours = _filtered(starts, ours, place < max_words)
        lengths = np.diff(self._starts)
        offers = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
        self._places = (np.arange(len(ours)) - self._starts[offers]).astype(np.int32)

        def following(steps: int) -> np.ndarray:
            return ours[self._starts[offers] + (self._places + steps) % lengths[offers]].astype(np.int64)

        size = max(len(ranks), 1)
        order = np.lexsort((following(2) * size + following(3), following(0) * size + following(1)))
        self._offers, self._words = offers[order], ours[order]
        self._positions = np.empty(len(order), dtype=np.int32)
        self._positions[order] = np.arange(len(order), dtype=np.int32)
        self.width = int(lengths.max(initial=0))
        """The most entries that an offer has."""

    def neighbors(self, *, window: int, at_once: int) -> Iterator[tuple[int, np.ndarray]]:
        """The offers up to `window` entries before and after an offer's that share the entry's word.

        Yields:
            (first row number, (at_once, C) row numbers, each once, then NOBODY), block by block.
        """
        steps = np.array([step for step in range(-window, window + 1) if step], dtype=np.int64)
        num_offers, last = len(self._starts) - 1, max(len(self._offers) - 1, 0)
        for start in range(0, num_offers, at_once):
            stop = min(start + at_once, num_offers)
            entries = slice(self._starts[start], self._starts[stop])
            positions = self._positions[entries].astype(np.int64)
            near = positions[:, None] + steps
            inside = (near >= 0) & (near <= last)
            near = np.clip(near, 0, last)
            shares = inside & (self._words[near] == self._words[positions][:, None])
            found = np.full((stop - start, self.width, len(steps)), NOBODY, dtype=np.int64)
            ours = np.repeat(np.arange(stop - start), np.diff(self._starts[start : stop + 1]))
            found[ours, self._places[entries]] = np.where(shares, self._offers[near], NOBODY)
            found = np.sort(found.reshape(stop - start, -1), axis=1)
            found[:, 1:][found[:, 1:] == found[:, :-1]] = NOBODY
            kept = np.take_along_axis(found, np.argsort(found < 0, axis=1, kind="stable"), axis=1)
            yield start, kept


def _filtered(starts: np.ndarray, entries: np.ndarray, keep: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """CSR row starts and entries with those of `keep` alone."""
    counts = np.concatenate([[0], np.cumsum(keep, dtype=np.int64)])
    return counts[starts], entries[keep]


def _sorted_rows(starts: np.ndarray, entries: np.ndarray, size: int) -> np.ndarray:
    from scipy import sparse

    # scipy sorts each row of a CSR matrix in place
    ones = np.ones(len(entries), dtype=np.int8)
    matrix = sparse.csr_matrix((ones, entries.copy(), starts), shape=(len(starts) - 1, max(size, 1)))
    matrix.sort_indices()
    return np.asarray(matrix.indices, dtype=np.int32)
