"""An index in PostgreSQL with the extension pgvector."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from afmrl.errors import InputError, shown_address
from afmrl.index.backend import (
    BATCH_ROWS,
    EXACT_BELOW,
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
from afmrl.index.pgvector.tables import (
    SCORED_WORDS,
    TEXTS,
    TYPES,
    Tables,
    answered,
    check_extension,
    check_record,
    scored_words_values,
    server_and_table,
    storable,
)
from afmrl.index.records import (
    color_histograms_of,
    offer_of,
    records_of,
    scores_by_id,
    stored_dtype,
    unsealed,
    without_secrets,
    word_counts,
)

if TYPE_CHECKING:
    import psycopg
    from psycopg import sql

HNSW_LINKS, HNSW_CONSTRUCTION = 16, 128
HNSW_DIMENSIONS = {"f32": 2000, "f16": 4000}  # pgvector's bounds
SEARCHED, MOST_SEARCHED = 128, 1000  # candidates that a search of the graph keeps: at least, and pgvector's bound
CONNECT_SECONDS = 10


class PgvectorIndex:
    """Rows of an index in three tables of a PostgreSQL database.

    `TABLE` holds the rows, with readable columns of their own for text and for what can be filtered by; `TABLE_words`
    the words of each, an inverted file of which BM25 is computed exactly, in SQL; `TABLE_index` one row of settings and
    totals. An upsert or a delete is one transaction; writers of one table wait for each other, readers never.

    Up to `exact_below` rows every search compares all of them. Above, `close` builds an HNSW index, and a filtered
    search continues in it until k rows pass (`hnsw.iterative_scan`, pgvector 0.8 or later); where it gives up before,
    all rows are compared.
    """

    def __init__(
        self,
        connection: psycopg.Connection[Any],
        address: str,
        tables: Tables,
        dimension: int,
        settings: dict[str, Any],
    ) -> None:
        self._connection, self._address, self._tables = connection, address, tables
        self.dimension, self.settings = dimension, settings
        self._words = offer_words(settings)
        self._dtype = stored_dtype(shown_address(address), settings)
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
            address: "postgresql://user:password@host:port/database?table=offers"; every option of libpq may be
                given beside `table`, which is "offers" where it is not given.
        """
        shown = shown_address(address)
        try:
            import pgvector.psycopg
            import psycopg
        except ImportError as error:
            raise InputError(
                f'index {shown}: the packages psycopg and pgvector are missing; pip install "afmrl[pgvector]"'
            ) from error
        server, table = server_and_table(address)
        tables = Tables(table)
        try:
            options: dict[str, Any] = dict(psycopg.conninfo.conninfo_to_dict(server))
        except psycopg.ProgrammingError as error:
            raise InputError(f"index {shown}: {without_secrets(str(error), address)}") from None
        options = {"connect_timeout": CONNECT_SECONDS, "application_name": "afmrl", **options}
        with answered(address):
            connection = psycopg.connect(**options, autocommit=True)
            try:
                if create:
                    tables.create(connection, shown, dimension or 0, settings or {})
                if not tables.exists(connection, "_index"):
                    raise InputError(
                        f"index {shown}: no index is here; make it with: afmrl index EMBEDDINGS --out {shown}"
                    )
                check_extension(connection, shown)
                pgvector.psycopg.register_vector(connection)
                row = connection.execute(tables("SELECT settings FROM {settings}")).fetchone()
                held, held_settings = unsealed(shown, row[0] if row else None)
                check_settings(shown, held_settings, held, wanted=settings, wanted_dimension=dimension)
                return cls(connection, address, tables, held, held_settings)
            except BaseException:
                connection.close()
                raise

    def __len__(self) -> int:
        with answered(self._address):
            row = self._connection.execute(self._tables("SELECT count(*) FROM {rows}")).fetchone()
        return int(row[0]) if row else 0

    def upsert(self, rows: Rows) -> Touched:
        """See `IndexBackend.upsert`; one transaction, and only rows that change are sent."""
        check_rows(rows, self.dimension)
        records = records_of(rows)
        for record in records:
            check_record(shown_address(self._address), record)
        with answered(self._address), self._writing() as cursor:
            known = {
                identifier: (fingerprint, length)
                for identifier, fingerprint, length in cursor.execute(
                    self._tables("SELECT id, fingerprint, length FROM {rows} WHERE id = ANY(%s)"), [rows.ids]
                )
            }
            places = {
                identifier: place
                for place, identifier in enumerate(rows.ids)
                if known.get(identifier, ("", 0))[0] != rows.fingerprints[place] or identifier not in known
            }
            words = {
                i: word_counts(self._words.of_gallery(rows.offers[place], rows.key_attributes[place]))
                for i, place in places.items()
            }
            self._copy_rows(cursor, rows, records, {place: words[i].total() for i, place in places.items()})
            # xmax is 0 in a row that was inserted
            touched = cursor.execute(
                self._tables(
                    "INSERT INTO {rows} ({columns}) SELECT {columns} FROM {incoming} ORDER BY place "
                    "ON CONFLICT (id) DO UPDATE SET ({columns}) = ROW({incoming_columns}) "
                    "RETURNING id, number, xmax = 0"
                )
            ).fetchall()
            updated = [number for _, number, is_new in touched if not is_new]
            self._delete_words(cursor, updated)
            with cursor.copy(
                self._tables("COPY {words} (word, number, times, length) FROM STDIN (FORMAT BINARY)")
            ) as copy:
                copy.set_types(["text", "int8", "int4", "int4"])
                for identifier, number, _ in touched:
                    length = words[identifier].total()
                    for word, times in words[identifier].items():
                        copy.write_row((word, number, times, length))
            before = sum(known[identifier][1] for identifier in places if identifier in known)
            after = sum(counts.total() for counts in words.values())
            self._count(cursor, len(touched) - len(updated), after - before)
        self._written |= bool(touched)
        return Touched(len(touched) - len(updated), len(updated), len(rows) - len(touched))

    def delete(self, ids: Collection[str]) -> int:
        """See `IndexBackend.delete`; one transaction."""
        with answered(self._address), self._writing() as cursor:
            gone = cursor.execute(
                self._tables("DELETE FROM {rows} WHERE id = ANY(%s) RETURNING number, length"), [storable(ids)]
            ).fetchall()
            self._delete_words(cursor, [number for number, _ in gone])
            self._count(cursor, -len(gone), -sum(length for _, length in gone))
        self._written |= bool(gone)
        return len(gone)

    def get(self, ids: Sequence[str]) -> Rows:
        """See `IndexBackend.get`."""
        with answered(self._address):
            found = {
                row["id"]: row for row in self._read("SELECT {read} FROM {rows} WHERE id = ANY(%s)", [storable(ids)])
            }
        return self._rows([found[identifier] for identifier in dict.fromkeys(ids) if identifier in found])

    def scan(self, batch_rows: int = BATCH_ROWS) -> Iterator[Rows]:
        """See `IndexBackend.scan`; in the order of insertion, so that rows written meanwhile shift no other."""
        last = 0
        while True:
            with answered(self._address):
                batch = self._read(
                    "SELECT {read} FROM {rows} WHERE number > %s ORDER BY number LIMIT %s", [last, batch_rows]
                )
            if not batch:
                return
            last = batch[-1]["number"]
            yield self._rows(batch)

    def search(self, queries: np.ndarray, k: int, *, where: Where | None = None) -> Hits:
        """See `IndexBackend.search`."""
        queries = check_queries(queries, self.dimension, k)
        condition, values = self._condition(where)
        hits = Hits([], [])
        with answered(self._address), self._connection.transaction(), self._connection.cursor() as cursor:
            graph = k <= MOST_SEARCHED and self._tables.exists(self._connection, "_embedding")
            exact = self._tables(
                "SELECT id, -(embedding <#> %s) AS score FROM {rows} WHERE {condition} "
                "ORDER BY score DESC, number LIMIT %s",
                condition=condition,
            )
            nearest = self._tables(
                "SELECT id, score FROM (SELECT id, number, -(embedding <#> %s) AS score FROM {rows} WHERE {condition} "
                "ORDER BY embedding <#> %s LIMIT %s) AS nearest ORDER BY score DESC, number",
                condition=condition,
            )
            if graph:
                cursor.execute("SELECT set_config('hnsw.iterative_scan', 'strict_order', true)")
                searched = min(max(SEARCHED, 2 * k), MOST_SEARCHED)
                cursor.execute("SELECT set_config('hnsw.ef_search', %s, true)", [str(searched)])
            for query in queries:
                value = self._stored(query)
                found: list[Any] = []
                if graph:
                    # not prepared: a plan for any LIMIT would not use the graph
                    found = cursor.execute(nearest, [value, *values, value, k], prepare=False).fetchall()
                if len(found) < k:
                    found = cursor.execute(exact, [value, *values, k]).fetchall()
                _append(hits, found)
        return hits

    def lexical(self, texts: Sequence[str], k: int, *, where: Where | None = None) -> Hits:
        """See `IndexBackend.lexical`; in float64."""
        if k < 1:
            raise InputError(f"search: k={k}: at least one hit")
        condition, values = self._condition(where)
        hits = Hits([], [])
        if where:
            best = "SELECT id, score FROM scored JOIN {rows} USING (number) WHERE {condition} "
        else:
            best = (
                "SELECT id, score FROM (SELECT * FROM scored ORDER BY score DESC, number LIMIT %s) AS best "
                "JOIN {rows} USING (number) WHERE {condition} "
            )
            values = [k]
        query = self._tables(SCORED_WORDS + best + "ORDER BY score DESC, number LIMIT %s", condition=condition)
        with answered(self._address), self._connection.transaction(), self._connection.cursor() as cursor:
            for text in texts:
                _append(hits, cursor.execute(query, [*scored_words_values(text), *values, k]).fetchall())
        return hits

    def lexical_scores(self, texts: Sequence[str], ids: Sequence[Sequence[str]]) -> list[np.ndarray]:
        """See `IndexBackend.lexical_scores`."""
        query = self._tables(
            SCORED_WORDS + "SELECT id, score FROM scored JOIN {rows} USING (number) WHERE id = ANY(%s)"
        )
        found = Hits([], [])
        with answered(self._address), self._connection.transaction(), self._connection.cursor() as cursor:
            for text, names in zip(texts, ids, strict=True):
                _append(found, cursor.execute(query, [*scored_words_values(text), storable(names)]).fetchall())
        return [scores_by_id(*one) for one in zip(ids, found.ids, found.scores, strict=True)]

    def values(self, column: str) -> list[str]:
        """See `IndexBackend`."""
        from psycopg import sql

        query = self._tables(
            "SELECT DISTINCT {column} FROM {rows} ORDER BY {column} LIMIT %s", column=sql.Identifier(column)
        )
        with answered(self._address), self._connection.cursor() as cursor:
            return [value for (value,) in cursor.execute(query, [MAX_VALUES]).fetchall()]

    def color_histograms(self, ids: Sequence[str]) -> np.ndarray:
        """See `IndexBackend.color_histograms`."""
        return color_histograms_of(self.get(ids), ids)

    def close(self) -> None:
        """Build what searches of a larger index need, after a change; let go of the connection."""
        if self._connection.closed:
            return
        try:
            if self._written:
                with answered(self._address):
                    self._optimize()
        finally:
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._connection.close()
        self.close()

    def _optimize(self) -> None:
        many = len(self) >= int(self.settings.get("exact_below", EXACT_BELOW))
        if many and self.dimension <= HNSW_DIMENSIONS[self._dtype]:
            from psycopg import sql

            self._connection.execute(
                self._tables(
                    "CREATE INDEX IF NOT EXISTS {graph} ON {rows} USING hnsw (embedding {operators}) "
                    "WITH (m = {links}, ef_construction = {construction})",
                    operators=sql.SQL("halfvec_ip_ops" if self._dtype == "f16" else "vector_ip_ops"),
                    links=sql.Literal(HNSW_LINKS),
                    construction=sql.Literal(HNSW_CONSTRUCTION),
                )
            )
        # counts words from the index alone, and lets the planner know what filters leave
        self._connection.execute(self._tables("VACUUM (ANALYZE) {rows}, {words}"))
        self._written = False

    @contextmanager
    def _writing(self) -> Iterator[psycopg.Cursor[Any]]:
        """A transaction that other writers of this index wait for, and readers do not."""
        with self._connection.transaction(), self._connection.cursor() as cursor:
            cursor.execute(self._tables("LOCK TABLE {settings} IN SHARE ROW EXCLUSIVE MODE"))
            yield cursor

    def _copy_rows(
        self, cursor: psycopg.Cursor[Any], rows: Rows, records: list[dict[str, str]], lengths: Mapping[int, int]
    ) -> None:
        """Send the rows at these places to a temporary table."""
        cursor.execute(self._tables("CREATE TEMPORARY TABLE {incoming} (LIKE {rows}) ON COMMIT DROP"))
        cursor.execute(self._tables("ALTER TABLE {incoming} DROP number, ADD place int"))
        with cursor.copy(self._tables("COPY {incoming} (place, {columns}) FROM STDIN (FORMAT BINARY)")) as copy:
            copy.set_types(["int4", *["text"] * len(TEXTS), "text", "int4", TYPES[self._dtype]])
            for place, length in lengths.items():
                texts = [records[place][name] for name in TEXTS]
                embedding = self._stored(rows.embeddings[place])
                copy.write_row((place, *texts, rows.fingerprints[place], length, embedding))

    def _delete_words(self, cursor: psycopg.Cursor[Any], numbers: list[int]) -> None:
        if numbers:
            cursor.execute(self._tables("DELETE FROM {words} WHERE number = ANY(%s)"), [numbers])

    def _count(self, cursor: psycopg.Cursor[Any], rows: int, length: int) -> None:
        cursor.execute(self._tables("UPDATE {settings} SET rows = rows + %s, length = length + %s"), [rows, length])

    def _stored(self, embedding: np.ndarray) -> Any:
        from pgvector import HalfVector, Vector

        return HalfVector(embedding) if self._dtype == "f16" else Vector(embedding)

    def _condition(self, where: Where | None) -> tuple[sql.Composable, list[Any]]:
        from psycopg import sql

        checked = check_where(where)
        tests = [sql.SQL("{} = ANY(%s::text[])").format(sql.Identifier(column)) for column in checked]
        condition = sql.SQL(" AND ").join(tests) if tests else sql.SQL("true")
        return condition, [storable(values) for values in checked.values()]

    def _read(self, text: str, values: list[Any]) -> list[dict[str, Any]]:
        from psycopg.rows import dict_row

        with self._connection.cursor(row_factory=dict_row, binary=True) as cursor:
            return cursor.execute(self._tables(text), values).fetchall()

    def _rows(self, records: list[dict[str, Any]]) -> Rows:
        pairs = [offer_of(record) for record in records]
        embeddings = np.zeros((len(records), self.dimension), dtype=np.float32)
        for place, record in enumerate(records):
            embeddings[place] = record["embedding"].to_numpy()
        return Rows(
            [record["id"] for record in records],
            embeddings,
            [offer for offer, _ in pairs],
            [attributes for _, attributes in pairs],
            [record["fingerprint"] for record in records],
        )


def _append(hits: Hits, found: Sequence[tuple[str, float]]) -> None:
    hits.ids.append([identifier for identifier, _ in found])
    hits.scores.append(np.array([score for _, score in found], dtype=np.float32))
