"""How two offers' records compare, in blocks of rows: BM25 of key attributes, agreement, product ids."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from itertools import chain
from numbers import Real
from typing import Any, Literal, get_args

import numpy as np

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.attributes.words import tokenize
from afmrl.errors import InputError

UNKNOWN_ROW = -1
"""Row number of an offer without known key attributes: it scores 0 with everything and agrees with nothing."""
ROWS_AT_ONCE = 256  # query rows of one sparse product: bounds its temporaries, and is faster than one large product


Fields = Literal["values", "pairs"]
BlockScores = Callable[[Sequence[int] | np.ndarray], np.ndarray]


class AttributeBM25:
    """BM25 of every offer's key attributes against every other's, with the catalog's document frequencies.

    An offer is a document; its tokens are the words of its attribute values (`fields="values"`) or its whole
    `key: value` pairs (`fields="pairs"`). Frequencies and weights are bm25s' (`method="lucene"`, the variant of
    Kamphuis et al. 2020), over all N offers, those without attributes included:

        BM25(q, d) = Σ_t tf(t, q) · idf(t) · tf(t, d) / (tf(t, d) + k1 · (1 − b + b · |d| / avg|d|))
        idf(t) = ln(1 + (N − df(t) + 0.5) / (df(t) + 0.5))

    Args:
        corpus: key attributes of every offer of the catalog, by row number.
        fields: what is a token.
        k1, b: saturation of term frequency, and strength of length normalization.

    Raises:
        InputError: unknown `fields`, or k1 or b out of range.

    >>> lexical = AttributeBM25([KeyAttributes.of({"color": color}) for color in ("deep red", "blue", "red")])
    >>> scores = lexical.scores([0], [0, 1, 2, UNKNOWN_ROW])
    >>> scores.shape, [bool(score > 0) for score in scores[0]]
    ((1, 4), [True, False, True, False])
    """

    def __init__(
        self, corpus: Sequence[KeyAttributes], *, fields: Fields | str = "values", k1: float = 1.5, b: float = 0.75
    ) -> None:
        if fields not in get_args(Fields):
            raise InputError(f"AttributeBM25: fields={fields!r} is unknown; one of {', '.join(get_args(Fields))}")
        if k1 < 0 or not 0 <= b <= 1:
            raise InputError(f"AttributeBM25: k1={k1}, b={b}; k1 must be at least 0, and b between 0 and 1")
        self.fields, self.k1, self.b = fields, k1, b
        self.num_offers = len(corpus)
        vocabulary: dict[str, int] = {}
        tokens = cache(tokenize)  # values repeat
        documents = [
            _numbers(_document(attributes, fields, tokens), vocabulary) for attributes in checked_attributes(corpus)
        ]
        self._counts = _incidence(documents, len(vocabulary))  # (N + 1, V) tf(t, q)
        self._weights = self._bm25s_weights(documents, vocabulary)  # (N + 1, V) the rest of the sum
        own = np.asarray(self._counts.multiply(self._weights).sum(axis=1)).ravel()
        self.maximum = float(own.max())
        """The highest BM25 of an offer with itself (0 if no offer has attributes)."""

    def _bm25s_weights(self, documents: list[list[int]], vocabulary: dict[str, int]) -> Any:
        from scipy import sparse

        shape: Any = (self.num_offers + 1, max(len(vocabulary), 1))
        if not vocabulary:
            return sparse.csr_matrix(shape, dtype=np.float32)
        import bm25s

        index = bm25s.BM25(method="lucene", k1=self.k1, b=self.b)
        index.index((documents, vocabulary), create_empty_token=False, show_progress=False)
        scores = index.scores
        return sparse.csc_matrix((scores["data"], scores["indices"], scores["indptr"]), shape=shape).tocsr()

    def scores(self, query_rows: Sequence[int] | np.ndarray, candidate_rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """BM25(attributes of query i, attributes of candidate j); 0 where one has none.

        Shape:
            query_rows (B,), candidate_rows (C,), row numbers of the corpus or UNKNOWN_ROW; returns (B, C) float32.

        Raises:
            InputError: a row number that the corpus does not have.
        """
        return self.against(candidate_rows)(query_rows)

    def against(self, candidate_rows: Sequence[int] | np.ndarray) -> BlockScores:
        """`scores` with the candidates prepared once, for queries that come a few at a time."""
        candidates = self._weights[checked_rows(candidate_rows, self.num_offers, "AttributeBM25")]
        return partial(_product, self._counts, candidates.T.tocsr())

    def pair_scores(self, queries: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        """(P,) float32 BM25 of P pairs of rows, for pairs too few for a matrix."""
        left = self._counts[checked_rows(queries, self.num_offers, "AttributeBM25")]
        return _paired(left, self._weights[checked_rows(candidates, self.num_offers, "AttributeBM25")])

    @property
    def words(self) -> Any:
        """(N, V) sparse counts of each offer's tokens."""
        return self._counts[: self.num_offers]


class AttributeAgreement:
    """Whether two offers' key attributes could be one product's: enough keys in common, and none that differs.

    >>> agreement = AttributeAgreement([
    ...     KeyAttributes.of({"color": "red", "size": "m"}),
    ...     KeyAttributes.of({"color": "red", "size": "m", "brand": "acme"}),
    ...     KeyAttributes.of({"color": "red", "size": "l"}),
    ... ])
    >>> agreement.against([0, 1, 2], min_shared=2)([0]).tolist()
    [[True, True, False]]
    """

    def __init__(self, corpus: Sequence[KeyAttributes]) -> None:
        keys: dict[str, int] = {}
        pairs: dict[tuple[str, str], int] = {}
        self.num_offers = len(corpus)
        key_numbers = [_numbers((key for key, _ in attributes), keys) for attributes in checked_attributes(corpus)]
        pair_numbers = [_numbers(attributes, pairs) for attributes in corpus]
        self._keys = _incidence(key_numbers, len(keys))  # (N + 1, K)
        self._pairs = _incidence(pair_numbers, len(pairs))  # (N + 1, P)

    def against(self, candidate_rows: Sequence[int] | np.ndarray, *, min_shared: int) -> BlockScores:
        """A function from (B,) query rows to (B, C) bool.

        Args:
            candidate_rows: (C,) row numbers of the corpus or UNKNOWN_ROW.
            min_shared: keys that both must have, at least 1.
        """
        rows = checked_rows(candidate_rows, self.num_offers, "AttributeAgreement")
        keys, pairs = self._keys[rows].T.tocsr(), self._pairs[rows].T.tocsr()

        def agree(query_rows: Sequence[int] | np.ndarray) -> np.ndarray:
            equal = _product(self._pairs, pairs, query_rows)  # (B, C) keys of equal value
            return np.asarray((equal >= min_shared) & (equal == _product(self._keys, keys, query_rows)))

        return agree

    def pairs_agree(self, left: np.ndarray, right: np.ndarray, *, min_shared: int) -> np.ndarray:
        """(P,) bool, whether each of P pairs of rows agrees."""
        left = checked_rows(left, self.num_offers, "AttributeAgreement")
        right = checked_rows(right, self.num_offers, "AttributeAgreement")
        equal = _paired(self._pairs[left], self._pairs[right])
        agree = equal >= min_shared
        few = np.flatnonzero(agree)  # the keys of the others need not be looked at
        agree[few] = equal[few] == _paired(self._keys[left[few]], self._keys[right[few]])
        return agree


def product_codes(product_ids: Sequence[Any]) -> np.ndarray:
    """(N,) int64: equal for equal ids; -1 for what is unknown: "", None, or the NaN of an empty cell in a table.

    Raises:
        InputError: an id that is neither text nor a number.

    >>> product_codes(["p1", "", "p2", "p1", None, float("nan")]).tolist()
    [0, -1, 1, 0, -1, -1]
    """
    numbers: dict[Any, int] = {}
    codes = np.full(len(product_ids), -1, dtype=np.int64)
    for row, product in enumerate(product_ids):
        if isinstance(product, str):
            known = bool(product)
        elif isinstance(product, Real):
            known = math.isfinite(product)
        elif product is None or type(product).__name__ == "NAType":  # pandas.NA
            known = False
        else:
            raise InputError(f"product_ids: row {row} holds {product!r}; give text or a number, '' where it is unknown")
        if known:
            codes[row] = numbers.setdefault(product, len(numbers))
    return codes


class ProductIds:
    """Whether two offers are known to be one product: both ids known ("" is not) and equal.

    >>> ProductIds(["p1", "", "p1", ""]).against([0, 1, 2, 3])([0, 1]).tolist()
    [[True, False, True, False], [False, False, False, False]]
    """

    def __init__(self, product_ids: Sequence[str]) -> None:
        self.num_offers = len(product_ids)
        # the last, of an unknown product, is what UNKNOWN_ROW indexes
        self._codes = np.append(product_codes(product_ids), -1)

    def against(self, candidate_rows: Sequence[int] | np.ndarray) -> BlockScores:
        """A function from (B,) query rows to (B, C) bool."""
        theirs = self._codes[checked_rows(candidate_rows, self.num_offers, "ProductIds")]

        def same(query_rows: Sequence[int] | np.ndarray) -> np.ndarray:
            ours = self._codes[checked_rows(query_rows, self.num_offers, "ProductIds")][:, None]
            return np.asarray((ours == theirs) & (ours >= 0))

        return same

    def pairs_are_same(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """(P,) bool, whether each of P pairs of rows is known to be one product."""
        ours = self._codes[checked_rows(left, self.num_offers, "ProductIds")]
        return np.asarray((ours >= 0) & (ours == self._codes[checked_rows(right, self.num_offers, "ProductIds")]))

    def known_against(self, candidate_rows: Sequence[int] | np.ndarray) -> BlockScores:
        """A function from (B,) query rows to (B, C) bool: both products are known, so that `against` is the truth."""
        theirs = self._codes[checked_rows(candidate_rows, self.num_offers, "ProductIds")] >= 0

        def known(query_rows: Sequence[int] | np.ndarray) -> np.ndarray:
            ours = self._codes[checked_rows(query_rows, self.num_offers, "ProductIds")] >= 0
            return np.asarray(ours[:, None] & theirs)

        return known


def checked_rows(rows: Sequence[int] | np.ndarray, num_rows: int, what: str) -> np.ndarray:
    """(B,) int64 row numbers.

    Raises:
        InputError: one is neither a row of the table nor UNKNOWN_ROW.
    """
    numbers = np.asarray(rows, dtype=np.int64)
    wrong = (numbers >= num_rows) | (numbers < UNKNOWN_ROW)
    if wrong.any():
        raise InputError(
            f"{what}: row number {int(numbers[wrong][0])} is not in the attribute table, which has {num_rows} rows; "
            f"give a number from 0 to {num_rows - 1}, or {UNKNOWN_ROW} for an offer without key attributes"
        )
    return numbers


def checked_attributes(corpus: Sequence[KeyAttributes]) -> Sequence[KeyAttributes]:
    """The corpus, of KeyAttributes throughout.

    Raises:
        InputError: one is a plain dict or list.
    """
    for row, attributes in enumerate(corpus):
        if not isinstance(attributes, KeyAttributes):
            raise InputError(
                f"attributes: row {row} is of the type {type(attributes).__name__}; make it with "
                "KeyAttributes.of({'color': 'red'})"
            )
    return corpus


def _document(attributes: KeyAttributes, fields: str, tokens: Callable[[str], list[str]]) -> Iterable[str]:
    if fields == "pairs":
        return [f"{key}={value}" for key, value in attributes]
    return [token for _, value in attributes for token in tokens(value)]


def _numbers(things: Iterable[Any], vocabulary: dict[Any, int]) -> list[int]:
    return [vocabulary.setdefault(thing, len(vocabulary)) for thing in things]


def _incidence(documents: list[list[int]], size: int) -> Any:
    """(N + 1, size) sparse float32 counts; the last row is empty, so that UNKNOWN_ROW indexes it."""
    from scipy import sparse

    lengths = [len(document) for document in documents]
    starts = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64), [sum(lengths)]])
    columns = np.fromiter(chain.from_iterable(documents), dtype=np.int64, count=sum(lengths))
    counts = sparse.csr_matrix(
        (np.ones(len(columns), dtype=np.float32), columns, starts), shape=(len(documents) + 1, max(size, 1))
    )
    counts.sum_duplicates()
    return counts


def _paired(left: Any, right: Any) -> np.ndarray:
    """(P,) products of P rows each, (P, V) both."""
    return np.asarray(left.multiply(right).sum(axis=1), dtype=np.float32).ravel()


def _product(left: Any, right: Any, query_rows: Sequence[int] | np.ndarray) -> np.ndarray:
    """(B, C) float32: rows `query_rows` of `left` (N + 1, V), times `right` (V, C)."""
    rows = checked_rows(query_rows, left.shape[0] - 1, "query rows")
    product = np.empty((len(rows), right.shape[1]), dtype=np.float32)
    for start in range(0, len(rows), ROWS_AT_ONCE):
        block = slice(start, start + ROWS_AT_ONCE)
        (left[rows[block]] @ right).toarray(out=product[block])
    return product
