"""BM25 between key attributes: one catalogue's statistics, any block of offer pairs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import numpy as np

from afmrl.attributes import KeyAttributes, normalise

WORDS = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+|[^\W_\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+")


def tokenize(text: str) -> list[str]:
    """Words of a normalised text; a run of Chinese or Japanese characters gives its bigrams.

    >>> tokenize("Deep-red 500ml 深红色")
    ['deep', 'red', '500ml', '深红', '红色']
    """
    tokens: list[str] = []
    for word in WORDS.findall(normalise(text)):
        if "\u3040" <= word[0] <= "\uffff" and not word.isascii() and len(word) > 1 and WORDS.match(word[0]):
            if re.match(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]", word):
                tokens.extend(word[i : i + 2] for i in range(len(word) - 1))
                continue
        tokens.append(word)
    return tokens


class AttributeBM25:
    """BM25 of every offer's key attributes against every other's, with the catalogue's document frequencies.

    An offer is a document; its tokens are the words of its attribute values (`fields="values"`), or whole
    `key: value` pairs (`fields="pairs"`). Weights are bm25s' Lucene variant,
    `idf(t) · tf / (tf + k1 · (1 − b + b · |d| / avg|d|))` with `idf(t) = ln(1 + (N − df + 0.5) / (df + 0.5))`.

    Args:
        corpus: key attributes of every offer of the catalogue, by row number.

    >>> lexical = AttributeBM25([KeyAttributes.of({"color": c}) for c in ("red", "blue", "red", "green")])
    >>> lexical.scores([0], [0, 1, 2]).tolist() == [[lexical.maximum, 0.0, lexical.maximum]]
    False
    """

    def __init__(
        self,
        corpus: Sequence[KeyAttributes],
        *,
        fields: Literal["values", "pairs"] = "values",
        k1: float = 1.5,
        b: float = 0.75,
    ) -> None:
        import bm25s
        from scipy import sparse

        documents = [_document(attributes, fields) for attributes in corpus]
        vocabulary: dict[str, int] = {}
        for document in documents:
            for token in document:
                vocabulary.setdefault(token, len(vocabulary))
        self.num_offers = len(documents)
        size = max(len(vocabulary), 1)
        if vocabulary:
            index = bm25s.BM25(method="lucene", k1=k1, b=b)
            ids = [[vocabulary[token] for token in document] for document in documents]
            index.index((ids, vocabulary), show_progress=False)
            scores = index.scores
            self._weights = sparse.csc_matrix(
                (scores["data"], scores["indices"], scores["indptr"]), shape=(len(documents), len(scores["indptr"]) - 1)
            )[:, :size].tocsr()
        else:
            self._weights = sparse.csr_matrix((len(documents), size), dtype=np.float32)
        places = [(row, vocabulary[token]) for row, document in enumerate(documents) for token in document]
        rows, columns = np.array(places, dtype=np.int64).reshape(-1, 2).T
        self._counts = sparse.csr_matrix(
            (np.ones(len(places), dtype=np.float32), (rows, columns)), shape=(len(documents), size)
        )
        own = np.asarray(self._counts.multiply(self._weights).sum(axis=1)).ravel()
        self.maximum = float(own.max()) if len(own) else 0.0
        """The highest BM25 of an offer with itself, the corpus' maximum."""

    def scores(self, query_rows: Sequence[int] | np.ndarray, candidate_rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """BM25(attributes of query i, attributes of candidate j); 0 where one has none.

        Shape:
            query_rows (B,), candidate_rows (C,), row numbers of the corpus; returns (B, C) float32.
        """
        product = self._counts[np.asarray(query_rows)] @ self._weights[np.asarray(candidate_rows)].T
        return np.asarray(product.toarray(), dtype=np.float32)


def _document(attributes: KeyAttributes, fields: str) -> list[str]:
    if fields == "pairs":
        return [f"{key}={value}" for key, value in attributes]
    return [token for _, value in attributes for token in tokenize(value)]
