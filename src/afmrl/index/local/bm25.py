"""BM25 over the rows of a snapshot, with the document frequencies and lengths of its living rows."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from afmrl.attributes.words import tokenize
from afmrl.files import hash64
from afmrl.index.local.snapshot import Snapshot
from afmrl.retrieval.bm25 import K1, B

REMEMBERED = 16  # texts whose scores are kept: a hybrid search asks for the best rows, then for chosen ones


class SnapshotBM25:
    """Lucene's BM25 (Kamphuis et al. 2020) of texts against a snapshot's rows.

    Args:
        snapshot: what is searched; lengths are summed over its living rows at once, frequencies a word at a time.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.num_rows = len(snapshot)
        lengths = [segment.postings.lengths for segment in snapshot.segments]
        total = sum(int(part[alive].sum()) for part, alive in zip(lengths, snapshot.alive, strict=True))
        mean = total / max(self.num_rows, 1) or 1.0
        all_lengths = np.concatenate([np.empty(0, np.int32), *lengths])
        self._remembered: OrderedDict[str, tuple[np.ndarray, np.ndarray]] = OrderedDict()
        self._norms = (K1 * (1 - B + B * all_lengths / mean)).astype(np.float32)

    def scores(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """The living rows that hold a word of the text, ascending, and their BM25.

        Shape:
            returns rows (n,) int64, scores (n,) float32 above 0.
        """
        found = self._remembered.get(text)
        if found is None:
            found = self._remembered[text] = self._computed(text)
            if len(self._remembered) > REMEMBERED:
                self._remembered.popitem(last=False)
        return found

    def scores_of(self, text: str, rows: np.ndarray) -> np.ndarray:
        """BM25 of chosen rows; 0 where no word is common.

        Shape:
            rows (n,) int64, −1: no row; returns (n,) float32.
        """
        found, scores = self.scores(text)
        if not len(found):
            return np.zeros(len(rows), dtype=np.float32)
        place = np.minimum(np.searchsorted(found, rows), len(found) - 1)
        return np.where(found[place] == rows, scores[place], np.float32(0.0))

    def _computed(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        if not self.num_rows:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        words = hash64(tokenize(text))
        snapshot = self.snapshot
        parts: list[tuple[np.ndarray, np.ndarray]] = []
        for word, times in zip(*np.unique(words, return_counts=True), strict=True):
            rows, counts = self._occurrences(word)
            if len(rows):
                idf = np.log(1 + (self.num_rows - len(rows) + 0.5) / (len(rows) + 0.5))
                parts.append((rows, times * idf * (counts / (counts + self._norms[rows]))))
        if not parts:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        if sum(len(rows) for rows, _ in parts) > len(snapshot.living) // 8:
            sums = np.zeros(len(snapshot.living))
            for rows, values in parts:
                sums[rows] += values
            found = np.flatnonzero(sums)
            return found, sums[found].astype(np.float32)
        found, place = np.unique(np.concatenate([rows for rows, _ in parts]), return_inverse=True)
        return found, np.bincount(place, np.concatenate([values for _, values in parts])).astype(np.float32)

    def top(self, texts: Sequence[str], k: int, passing: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """Of each text the k best rows that pass, and their scores, best first, equal ones by insertion.

        Args:
            passing: (T,) bool.
        """
        found = []
        for text in texts:
            rows, scores = self.scores(text)
            chosen = passing[rows]
            found.append(best(rows[chosen], scores[chosen], self.snapshot.orders, k))
        return found

    def _occurrences(self, word: np.uint64) -> tuple[np.ndarray, np.ndarray]:
        rows, counts = [], []
        for segment, alive, edge in zip(self.snapshot.segments, self.snapshot.alive, self.snapshot.edges, strict=False):
            of_segment, of_counts = segment.postings.of_word(word)
            living = alive[of_segment]
            rows.append(of_segment[living].astype(np.int64) + edge)
            counts.append(of_counts[living])
        return np.concatenate(rows), np.concatenate(counts).astype(np.float32)


def best(rows: np.ndarray, scores: np.ndarray, orders: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k rows of highest score, best first; of equal scores the one inserted first.

    Args:
        orders: (T,) of all rows.
    """
    if len(rows) > 4 * k:
        bound = np.partition(scores, len(scores) - k)[len(scores) - k]
        likely = scores >= bound
        rows, scores = rows[likely], scores[likely]
    chosen = np.lexsort((orders[rows], -scores))[:k]
    return rows[chosen], scores[chosen]
