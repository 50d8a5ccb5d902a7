"""BM25 of texts against texts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from afmrl.attributes.words import tokenize

K1, B = 1.5, 0.75
"""Saturation of counts and normalization of lengths, in every index but LanceDB's, whose k1 is 1.2."""


def bm25_scores(queries: Sequence[str], gallery: Sequence[str]) -> np.ndarray:
    """BM25 of every query against every text of a gallery (Lucene's variant, by bm25s).

    Words are those of `afmrl.attributes.words.tokenize`.

    Shape:
        returns (Q, N) float32, 0 where query and text have no word in common.
    """
    import bm25s

    tokens = [tokenize(text) for text in gallery]
    if not any(tokens):
        return np.zeros((len(queries), len(gallery)), dtype=np.float32)
    index = bm25s.BM25(method="lucene", k1=K1, b=B)
    index.index(tokens, show_progress=False)
    known = index.vocab_dict
    rows = [[token for token in tokenize(text) if token in known] for text in queries]
    empty = np.zeros(len(gallery), dtype=np.float32)
    return np.stack([index.get_scores(row) if row else empty for row in rows]).astype(np.float32)
