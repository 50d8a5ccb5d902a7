"""What every index can do, wherever its rows are: the records that go in and come out, and the methods."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.data.offer import Offer
from afmrl.errors import InputError
from afmrl.retrieval.words import OfferWords

Where = Mapping[str, Collection[str]]
"""A filter: column -> values. A row passes when each column's value is one of the column's: equality, "or" between the
values, "and" between the columns. No column: every row passes; a column without values: none does."""
FILTER_COLUMNS = ("category", "seller", "product_id")
MAX_VALUES = 100_000
DTYPES = ("f32", "f16", "i8")
EXACT_BELOW = 20_000
BATCH_ROWS = 8192


@dataclass(frozen=True)
class Rows:
    """Rows of an index: all columns have N entries, and no id appears twice."""

    ids: list[str]
    embeddings: np.ndarray
    """(N, D) float32, rows of unit length."""
    offers: list[Offer]
    key_attributes: list[KeyAttributes]
    fingerprints: list[str]
    """Of each row's content and what made its embedding; a row is updated when it changes."""

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, places: Sequence[int] | np.ndarray) -> Rows:
        """The rows at these places, in this order."""
        chosen = [int(place) for place in places]
        return Rows(
            [self.ids[i] for i in chosen],
            self.embeddings[np.asarray(chosen, dtype=np.int64)],
            [self.offers[i] for i in chosen],
            [self.key_attributes[i] for i in chosen],
            [self.fingerprints[i] for i in chosen],
        )


@dataclass(frozen=True)
class Touched:
    """What an upsert did, by number of rows; the three add up to the rows given."""

    inserted: int = 0
    updated: int = 0
    unchanged: int = 0

    def __add__(self, other: Touched) -> Touched:
        return Touched(self.inserted + other.inserted, self.updated + other.updated, self.unchanged + other.unchanged)


@dataclass(frozen=True)
class Hits:
    """What Q queries found: for each its hits, best first; fewer than k only where fewer rows pass the filter."""

    ids: list[list[str]]
    scores: list[np.ndarray]
    """Float32, one array a query, of the length of its ids."""


class IndexBackend(Protocol):
    """Rows by id, searched by embedding and by words. `afmrl.index.address.open_index` opens one.

    A reader sees the last complete version; `upsert` and `delete` are each done wholly or not at all, as far as the
    database below allows.
    """

    dimension: int
    """D."""
    settings: dict[str, Any]
    """As given to `open_index` when the index was created; see there."""

    def __len__(self) -> int:
        """Number of rows."""
        ...

    def upsert(self, rows: Rows) -> Touched:
        """Insert new ids, replace rows whose fingerprint is another, leave the others.

        Raises:
            InputError: what `check_rows` refuses: another dimension, a number that is not finite, an id twice.
        """
        ...

    def delete(self, ids: Collection[str]) -> int:
        """Delete rows; ids that are not there are skipped.

        Returns:
            how many rows really went.
        """
        ...

    def get(self, ids: Sequence[str]) -> Rows:
        """The rows of these ids, in this order, each once; ids that are not there are left out."""
        ...

    def scan(self, batch_rows: int = BATCH_ROWS) -> Iterator[Rows]:
        """Every row once, a batch at a time; the local index in the order of insertion."""
        ...

    def search(self, queries: np.ndarray, k: int, *, where: Where | None = None) -> Hits:
        """The k rows of highest dot product among those that pass the filter.

        The filter is exact in its effect: k hits, if k rows pass. Of equal scores the local index names the row that
        was inserted first.

        Shape:
            queries (Q, D).

        Raises:
            InputError: what `check_queries` and `check_where` refuse.
        """
        ...

    def lexical(self, texts: Sequence[str], k: int, *, where: Where | None = None) -> Hits:
        """The k rows of highest BM25 (above 0) over the words that `offer_words` names.

        Document frequencies and lengths are those of the whole index, whatever the filter. A text without a word that
        the index knows finds nothing.
        """
        ...

    def lexical_scores(self, texts: Sequence[str], ids: Sequence[Sequence[str]]) -> list[np.ndarray]:
        """BM25 of chosen rows: for each text that of its ids, float32, 0 where no word is common."""
        ...

    def values(self, column: str) -> list[str]:
        """The different values of the rows in one of FILTER_COLUMNS, sorted; of more than MAX_VALUES some."""
        ...

    def color_histograms(self, ids: Sequence[str]) -> np.ndarray:
        """(n, 216) float32 color histograms of the rows' images, zeros where a row has no image that can be read."""
        ...

    def close(self) -> None:
        """Let go of files and connections."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def offer_words(settings: Mapping[str, Any]) -> OfferWords:
    """Which words BM25 reads of the rows of an index with these settings.

    Key attributes are words of the rows only where the index's model reads them of a gallery.
    """
    return OfferWords(
        key_attributes=settings.get("attributes_on") not in ("query", "none"),
        extracted=bool(settings.get("extracted_words")),
        seller_attributes=settings.get("seller_attributes"),
    )


def filter_value(offer: Offer, column: str) -> str:
    """What an offer has in one of FILTER_COLUMNS."""
    if column == "seller":
        return str(offer.extra.get("seller", "") or "")
    return offer.category if column == "category" else offer.product_id


def check_settings(
    address: str,
    found: Mapping[str, Any],
    dimension: int,
    *,
    wanted: Mapping[str, Any] | None,
    wanted_dimension: int | None,
) -> None:
    """Refuse an index that was made for other embeddings.

    Args:
        found, dimension: what the index holds.
        wanted, wanted_dimension: what the caller needs; None: anything will do.

    Raises:
        InputError: another model's fingerprint, another dimension.
    """
    ours, theirs = found.get("model") or {}, (wanted or {}).get("model") or {}
    if ours.get("fingerprint") and theirs.get("fingerprint") and ours["fingerprint"] != theirs["fingerprint"]:
        raise InputError(
            f"index {address}: holds embeddings of the model {ours.get('path')} (fingerprint {ours['fingerprint']}), "
            f"these are of {theirs.get('path')} ({theirs['fingerprint']}), and cosines of two models do not compare; "
            "embed with the index's model, or make another index"
        )
    if wanted_dimension is not None and wanted_dimension != dimension:
        raise InputError(f"index {address}: holds embeddings of {dimension} numbers, these have {wanted_dimension}")


def check_rows(rows: Rows, dimension: int) -> None:
    """Refuse rows that an index cannot hold.

    Raises:
        InputError: columns of unequal length, another dimension, a number that is not finite, an id twice or empty.
    """
    lengths = {len(rows.embeddings), len(rows.offers), len(rows.key_attributes), len(rows.fingerprints), len(rows.ids)}
    if len(lengths) > 1:
        raise InputError(f"index: rows whose columns have {sorted(lengths)} entries; one a row is needed")
    if rows.embeddings.ndim != 2 or rows.embeddings.shape[1] != dimension:
        raise InputError(f"index: embeddings of shape {rows.embeddings.shape}, the index's have {dimension} numbers")
    finite = np.isfinite(rows.embeddings).all(axis=1)
    if not finite.all():
        bad = rows.ids[int(np.flatnonzero(~finite)[0])]
        raise InputError(f"index: the embedding of offer {bad!r} is not finite; embed it again or leave it out")
    seen: set[str] = set()
    for identifier in rows.ids:
        if not identifier or identifier in seen:
            raise InputError(f"index: the id {identifier!r} is empty or appears twice; one row an offer is needed")
        seen.add(identifier)


def check_queries(queries: np.ndarray, dimension: int, k: int) -> np.ndarray:
    """The queries as (Q, D) float32.

    Raises:
        InputError: another dimension, a number that is not finite, k below 1.
    """
    if k < 1:
        raise InputError(f"search: k={k}: at least one hit")
    queries = np.ascontiguousarray(queries, dtype=np.float32)
    if queries.ndim != 2 or queries.shape[1] != dimension:
        raise InputError(f"search: queries of shape {queries.shape}, the index's embeddings have {dimension} numbers")
    if not np.isfinite(queries).all():
        raise InputError("search: a query's embedding is not finite; the model is damaged")
    return queries


def check_where(where: Where | None) -> dict[str, frozenset[str]]:
    """The filter, each column's values as a set.

    Raises:
        InputError: a column that cannot be filtered by, a text in the place of a collection of texts.
    """
    checked: dict[str, frozenset[str]] = {}
    for column, values in (where or {}).items():
        if column not in FILTER_COLUMNS:
            raise InputError(f"search: cannot filter by {column!r}; one of {', '.join(FILTER_COLUMNS)}")
        if isinstance(values, str):
            raise InputError(f"search: filter {column}={values!r}: give a collection of values, such as [{values!r}]")
        checked[column] = frozenset(values)
    return checked
