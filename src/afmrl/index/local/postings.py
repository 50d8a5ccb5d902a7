"""The words of a segment's rows, by word: what BM25 needs of rows that are never written again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from afmrl.attributes.words import tokenize
from afmrl.files import hash64


@dataclass(frozen=True)
class Postings:
    """Which rows hold which words how often, sorted by word, then row.

    A library's BM25 index holds finished scores, which every new row changes; counts stay true, so a few new rows cost
    what they are worth.
    """

    words: np.ndarray
    """(V,) uint64 hashes, ascending."""
    starts: np.ndarray
    """(V + 1,) int64: where each word's rows begin."""
    rows: np.ndarray
    """(P,) int32"""
    counts: np.ndarray
    """(P,) uint16"""
    lengths: np.ndarray
    """(N,) int32 words of each row."""

    @classmethod
    def of(cls, texts: Sequence[str]) -> Postings:
        """The words of texts, one a row."""
        numbers: dict[str, int] = {}
        word_numbers: list[int] = []
        row_sizes: list[int] = []
        counts: list[int] = []
        lengths = np.empty(len(texts), dtype=np.int32)
        for row, text in enumerate(texts):
            found = Counter(tokenize(text))
            lengths[row] = found.total()
            row_sizes.append(len(found))
            word_numbers.extend(numbers.setdefault(word, len(numbers)) for word in found)
            counts.extend(found.values())
        words = hash64(numbers)[np.array(word_numbers, dtype=np.int64)] if numbers else np.empty(0, np.uint64)
        rows = np.repeat(np.arange(len(texts), dtype=np.int32), row_sizes)
        return cls._sorted(words, rows, np.minimum(counts, 65535).astype(np.uint16), lengths)

    @classmethod
    def joined(cls, parts: Sequence[Postings], kept: Sequence[np.ndarray]) -> Postings:
        """Of several segments' rows, one segment after the other.

        Args:
            kept: of each part, ascending, the rows that stay.
        """
        words, rows, counts, first = [], [], [], 0
        for part, chosen in zip(parts, kept, strict=True):
            place = np.full(len(part.lengths), -1, dtype=np.int32)
            place[chosen] = np.arange(first, first + len(chosen), dtype=np.int32)
            new_rows = place[part.rows]
            stays = new_rows >= 0
            words.append(np.repeat(part.words, np.diff(part.starts))[stays])
            rows.append(new_rows[stays])
            counts.append(part.counts[stays])
            first += len(chosen)
        lengths = [part.lengths[chosen] for part, chosen in zip(parts, kept, strict=True)]
        return cls._sorted(*(np.concatenate(column) for column in (words, rows, counts, lengths)))

    @classmethod
    def _sorted(cls, words: np.ndarray, rows: np.ndarray, counts: np.ndarray, lengths: np.ndarray) -> Postings:
        order = np.argsort(words, kind="stable")  # the rows of a word stay ascending
        unique, first = np.unique(words[order], return_index=True)
        starts = np.append(first, len(words)).astype(np.int64)
        return cls(unique, starts, rows[order], counts[order], lengths)

    def of_word(self, word: np.uint64) -> tuple[np.ndarray, np.ndarray]:
        """Rows and counts of a word's hash."""
        place = int(np.searchsorted(self.words, word))
        if place == len(self.words) or self.words[place] != word:
            return self.rows[:0], self.counts[:0]
        part = slice(int(self.starts[place]), int(self.starts[place + 1]))
        return self.rows[part], self.counts[part]
