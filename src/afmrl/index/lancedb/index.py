"""An index in LanceDB: a folder, or an object store."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from afmrl.errors import InputError, shown_address
from afmrl.index.backend import (
    BATCH_ROWS,
    EXACT_BELOW,
    FILTER_COLUMNS,
    MAX_VALUES,
    Hits,
    Rows,
    Touched,
    Where,
    check_queries,
    check_rows,
    check_settings,
    check_where,
    offer_words,
)
from afmrl.index.records import (
    chunks,
    color_histograms_of,
    offer_of,
    records_of,
    scores_by_id,
    sealed,
    stored_dtype,
    unsealed,
    word_counts,
)

if TYPE_CHECKING:
    import pyarrow
    from lancedb.expr import Expr

TABLE = "offers"
TEXTS = (
    "id",
    "title",
    "description",
    "image",
    "category",
    "seller",
    "product_id",
    "attributes",
    "key_attributes",
    "extra",
    "fingerprint",
)
IDS_AT_ONCE = 2048  # of one condition
PROBES = 64  # lists of the IVF index that a search reads
K1_OF_LANCE = 1.2
KEPT = timedelta(hours=1)
"""How long replaced versions of the table stay, for readers that are in one."""


class LanceIndex:
    """Rows of an index in one table of a LanceDB folder.

    An upsert or a delete makes one new version of the table, whole or not at all, and what LanceDB says it touched is
    compared with what was sent. A reader sees the last version. `close` brings the table's indexes up to date after a
    change and removes versions older than an hour.

    Up to `exact_below` rows every search compares all of them; above, an IVF index (without compression) answers, and
    where it finds fewer than k rows, all are compared. Rows that came after an index was made are compared besides.
    BM25 is LanceDB's own, with k1 = 1.2 instead of 1.5; rows written since the last `close` are weighed by their own
    frequencies and lengths, so that until then their scores may be off by a tenth.
    """

    def __init__(self, table: Any, address: str, dimension: int, settings: dict[str, Any]) -> None:
        self._table, self._address = table, address
        self.dimension, self.settings = dimension, settings
        self._written = False

    @classmethod
    def open(
        cls,
        address: str,
        *,
        create: bool = False,
        dimension: int | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> Self:
        """Open or create; see `open_index`.

        Args:
            address: a folder, or an object store's URI with its credentials in the environment, as LanceDB reads them.
        """
        shown = f"lancedb:{shown_address(address)}"
        try:
            import lancedb
        except ImportError as error:
            raise InputError(f'index {shown}: the package lancedb is missing; pip install "afmrl[lancedb]"') from error
        if not address:
            raise InputError("index lancedb: give a folder, lancedb:PATH")
        missing = InputError(f"index {shown}: no index is here; make it with: afmrl index EMBEDDINGS --out {shown}")
        if not create and "://" not in address and not Path(address).is_dir():
            raise missing
        with _answered(address):
            database = lancedb.connect(address, read_consistency_interval=timedelta(0))
            try:
                table = database.open_table(TABLE)
            except ValueError as error:
                if "not found" not in str(error):
                    raise
                if not create:
                    raise missing from error
                table = _create(database, shown, dimension or 0, settings or {})
            if create:
                _index_words(table)
            metadata = table.schema.metadata or {}
            held, held_settings = unsealed(shown, metadata.get(b"afmrl", b"").decode())
            check_settings(shown, held_settings, held, wanted=settings, wanted_dimension=dimension)
            return cls(table, address, held, held_settings)

    def __len__(self) -> int:
        with _answered(self._address):
            return self._table.count_rows()

    def upsert(self, rows: Rows) -> Touched:
        """See `IndexBackend.upsert`; one new version of the table, of the rows that change."""
        check_rows(rows, self.dimension)
        with _answered(self._address):
            known = self._fingerprints(rows.ids)
            changed = [i for i, name in enumerate(rows.ids) if known.get(name) != rows.fingerprints[i]]
            if not changed:
                return Touched(unchanged=len(rows))
            done = (
                self._table.merge_insert("id")
                .when_matched_update_all()
                .when_not_matched_insert_all()
                .execute(self._arrow(rows.take(changed)))
            )
        self._written = True
        if done.num_inserted_rows + done.num_updated_rows != len(changed):
            raise InputError(
                f"index lancedb:{self._address}: LanceDB was given {len(changed)} rows and wrote "
                f"{done.num_inserted_rows + done.num_updated_rows}; make the index again"
            )
        return Touched(done.num_inserted_rows, done.num_updated_rows, len(rows) - len(changed))

    def delete(self, ids: Collection[str]) -> int:
        """See `IndexBackend.delete`; one new version of the table."""
        with _answered(self._address):
            known = list(self._fingerprints(list(dict.fromkeys(ids))))
            gone = self._table.delete(_one_of("id", known)).num_deleted_rows if known else 0
        self._written |= gone > 0
        return gone

    def get(self, ids: Sequence[str]) -> Rows:
        """See `IndexBackend.get`."""
        asked = list(dict.fromkeys(ids))
        with _answered(self._address):
            rows = self._rows(self._matching(asked, [*TEXTS, "embedding"]))
        found = {name: place for place, name in enumerate(rows.ids)}
        return rows.take([found[name] for name in asked if name in found])

    def scan(self, batch_rows: int = BATCH_ROWS) -> Iterator[Rows]:
        """See `IndexBackend.scan`; of the version that is the last when it begins."""
        import pyarrow

        with _answered(self._address):
            batches = self._table.search().limit(None).select([*TEXTS, "embedding"]).to_batches(batch_rows)
            for batch in batches:
                for start in range(0, batch.num_rows, batch_rows):
                    yield self._rows(pyarrow.Table.from_batches([batch.slice(start, batch_rows)]))

    def search(self, queries: np.ndarray, k: int, *, where: Where | None = None) -> Hits:
        """See `IndexBackend.search`."""
        queries = check_queries(queries, self.dimension, k)
        condition = _condition(where)
        hits = Hits([], [])
        with _answered(self._address):
            indexed = any("embedding" in index.columns for index in self._table.list_indices())
            for query in queries:
                found = self._nearest(query, k, condition, exact=not indexed)
                if indexed and found.num_rows < k:
                    found = self._nearest(query, k, condition, exact=True)
                hits.ids.append(found["id"].to_pylist())
                # LanceDB's distance is 1 − dot product
                hits.scores.append(1.0 - found["_distance"].to_numpy().astype(np.float32))
        return hits

    def lexical(self, texts: Sequence[str], k: int, *, where: Where | None = None) -> Hits:
        """See `IndexBackend.lexical`; LanceDB's BM25, see the class."""
        if k < 1:
            raise InputError(f"search: k={k}: at least one hit")
        condition = _condition(where)
        hits = Hits([], [])
        with _answered(self._address):
            for text in texts:
                ids, scores = self._by_words(text, k, condition)
                hits.ids.append(ids)
                hits.scores.append(scores)
        return hits

    def lexical_scores(self, texts: Sequence[str], ids: Sequence[Sequence[str]]) -> list[np.ndarray]:
        """See `IndexBackend.lexical_scores`; LanceDB's BM25, see the class."""
        with _answered(self._address):
            return [
                scores_by_id(names, *self._by_words(text, len(names), _one_of("id", names)))
                if names
                else np.empty(0, dtype=np.float32)
                for text, names in zip(texts, ids, strict=True)
            ]

    def values(self, column: str) -> list[str]:
        """See `IndexBackend`."""
        found: set[str] = set()
        with _answered(self._address):
            for batch in self._table.search().limit(None).select([column]).to_batches(BATCH_ROWS):
                found.update(batch.column(column).unique().to_pylist())
        return sorted(found)[:MAX_VALUES]

    def color_histograms(self, ids: Sequence[str]) -> np.ndarray:
        """See `IndexBackend.color_histograms`."""
        return color_histograms_of(self.get(ids), ids)

    def close(self) -> None:
        """Bring the table's indexes up to date after a change, and remove old versions."""
        if not self._written:
            return
        self._written = False
        with _answered(self._address):
            self._optimize()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._written = False
        self.close()

    def _optimize(self) -> None:
        from lancedb.index import Bitmap, BTree, IvfFlat

        rows = len(self)
        if rows >= int(self.settings.get("exact_below", EXACT_BELOW)) and rows:
            indexed = {column for index in self._table.list_indices() for column in index.columns}
            if "embedding" not in indexed:
                lists = IvfFlat(distance_type="dot", num_partitions=max(1, round(rows**0.5)))
                self._table.create_index("embedding", config=lists)
            for column in ("id", *FILTER_COLUMNS):
                if column not in indexed:
                    self._table.create_index(column, config=Bitmap() if column == "category" else BTree())
        self._table.optimize(cleanup_older_than=KEPT)

    def _nearest(self, query: np.ndarray, k: int, condition: Expr | None, *, exact: bool) -> pyarrow.Table:
        nearest = self._table.search(query, vector_column_name="embedding", query_type="vector")
        nearest = nearest.distance_type("dot").limit(k).select(["id", "_distance"])
        nearest = nearest.bypass_vector_index() if exact else nearest.nprobes(PROBES)
        return (nearest.where(condition, prefilter=True) if condition is not None else nearest).to_arrow()

    def _by_words(self, text: str, k: int, condition: Expr | None) -> tuple[list[str], np.ndarray]:
        words = " ".join(word_counts(text).elements())
        if not words:
            return [], np.empty(0, dtype=np.float32)
        query = self._table.search(words, query_type="fts", fts_columns="words").limit(k).select(["id", "_score"])
        found = (query.where(condition, prefilter=True) if condition is not None else query).to_arrow()
        # LanceDB multiplies by k1 + 1, the other backends do not; the order is the same
        scores = np.array(found["_score"].to_pylist(), dtype=np.float64) / (K1_OF_LANCE + 1)
        return found["id"].to_pylist(), scores.astype(np.float32)

    def _fingerprints(self, ids: Sequence[str]) -> dict[str, str]:
        found = self._matching(ids, ["id", "fingerprint"])
        return dict(zip(found["id"].to_pylist(), found["fingerprint"].to_pylist(), strict=True))

    def _matching(self, ids: Sequence[str], columns: list[str]) -> pyarrow.Table:
        import pyarrow

        schema = pyarrow.schema([self._table.schema.field(name) for name in columns])
        found = [
            self._table.search().where(_one_of("id", names)).limit(None).select(columns).to_arrow()
            for names in chunks(ids, IDS_AT_ONCE)
        ]
        return pyarrow.concat_tables([schema.empty_table(), *(part.select(columns) for part in found)])

    def _arrow(self, rows: Rows) -> pyarrow.Table:
        import pyarrow

        schema = self._table.schema
        records = records_of(rows)
        number = schema.field("embedding").type.value_type.to_pandas_dtype()
        columns: dict[str, Any] = {name: [record[name] for record in records] for name in TEXTS}
        texts = map(offer_words(self.settings).of_gallery, rows.offers, rows.key_attributes)
        columns["words"] = [" ".join(word_counts(text).elements()) for text in texts]
        columns["embedding"] = pyarrow.FixedSizeListArray.from_arrays(
            pyarrow.array(rows.embeddings.astype(number).ravel()), self.dimension
        )
        return pyarrow.table(columns, schema=schema)

    def _rows(self, table: pyarrow.Table) -> Rows:
        table = table.combine_chunks()
        records = table.select(TEXTS).to_pylist()
        pairs = [offer_of(record) for record in records]
        numbers = [chunk.flatten() for chunk in table["embedding"].chunks]
        embeddings = np.concatenate(
            [np.zeros(0, np.float32), *(part.to_numpy(zero_copy_only=False) for part in numbers)]
        )
        return Rows(
            [record["id"] for record in records],
            embeddings.astype(np.float32).reshape(len(records), self.dimension),
            [offer for offer, _ in pairs],
            [attributes for _, attributes in pairs],
            [record["fingerprint"] for record in records],
        )


def _create(database: Any, address: str, dimension: int, settings: Mapping[str, Any]) -> Any:
    import pyarrow

    number = pyarrow.float16() if stored_dtype(address, settings) == "f16" else pyarrow.float32()
    if dimension < 1:
        raise InputError(f"index {address}: {dimension} dimensions; at least one")
    fields = [pyarrow.field(name, pyarrow.string(), nullable=False) for name in (*TEXTS, "words")]
    fields.append(pyarrow.field("embedding", pyarrow.list_(number, dimension), nullable=False))
    schema = pyarrow.schema(fields, metadata={"afmrl": sealed(dimension, settings)})
    return database.create_table(TABLE, schema=schema, exist_ok=True)


def _index_words(table: Any) -> None:
    """Index the words of `afmrl.attributes.words.tokenize`, to be taken as they are."""
    from lancedb.index import FTS

    if any("words" in index.columns for index in table.list_indices()):
        return
    plain = FTS(
        base_tokenizer="whitespace",
        lower_case=False,
        stem=False,
        remove_stop_words=False,
        ascii_folding=False,
        max_token_length=None,
    )
    table.create_index("words", config=plain)


@contextmanager
def _answered(address: str) -> Iterator[None]:
    """Turn what a folder or an object store refuses into an InputError."""
    try:
        yield
    except InputError:
        raise
    except (RuntimeError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"index lancedb:{shown_address(address)}: LanceDB says: {reason}; look at the folder, its rights and "
            "the space left, or make the index again"
        ) from error


def _one_of(column: str, values: Collection[str]) -> Expr:
    from lancedb.expr import col

    return col(column).isin(list(values))


def _condition(where: Where | None) -> Expr | None:
    condition = None
    for column, values in check_where(where).items():
        test = _one_of(column, values)
        condition = test if condition is None else condition & test
    return condition
