"""The tables of an index in PostgreSQL: their names, their columns, how they are made."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit, urlunsplit

from afmrl.errors import InputError, shown_address
from afmrl.index.records import sealed, stored_dtype, without_secrets, word_counts
from afmrl.retrieval.bm25 import K1, B

if TYPE_CHECKING:
    import psycopg
    from psycopg import sql

TABLE = "offers"
MAX_NAME_BYTES = 48  # of 63, for the suffixes of the other tables and indexes
MAX_KEY_BYTES = 2000  # of about 2,700 that a B-tree's entry may have
MAX_DIMENSION = {"f32": 16_000, "f16": 16_000}
TYPES = {"f32": "vector", "f16": "halfvec"}
KEYS = ("id", "category", "seller", "product_id")
JSON = ("attributes", "key_attributes")
TEXTS = ("id", "title", "description", "image", "category", "seller", "product_id", *JSON, "extra")
COLUMNS = (*TEXTS, "fingerprint", "length", "embedding")
# OFFSET 0: each word's entries by the index, and never a join that reads those of all words
SCORED_WORDS = """
WITH corpus AS (
    SELECT rows, greatest(length::float8 / greatest(rows, 1), 1e-9) AS mean FROM {settings} LIMIT 1
),
asked AS MATERIALIZED (
    SELECT word, times * ln(1 + (rows - found + 0.5) / (found + 0.5)) AS weight
    FROM unnest(%s::text[], %s::float8[]) AS given (word, times), corpus,
    LATERAL (SELECT count(*) AS found FROM {words} AS held WHERE held.word = given.word) AS frequency
),
scored AS (
    SELECT number, sum(weight * times / (times + %s * (1 - %s + %s * length / mean))) AS score
    FROM asked CROSS JOIN corpus CROSS JOIN LATERAL (
        SELECT number, times, length FROM {words} AS held WHERE held.word = asked.word OFFSET 0
    ) AS entry
    GROUP BY number
)
"""
"""The rows that hold words of a text, with their BM25; see `scored_words_values` for its parameters."""


class Tables:
    """Names of one index's tables, and SQL with them in it.

    `NAME` holds the rows, `NAME_words` the words of each, `NAME_index` settings and totals. Names are quoted by
    psycopg; values never are part of the SQL.

    Args:
        name: of the table of rows, with its schema before a dot where it is not in the search path.
    """

    def __init__(self, name: str) -> None:
        schema, _, table = name.rpartition(".")
        self._schema, self._table = [schema] if schema else [], table

    def __call__(self, text: str, **parts: sql.Composable) -> sql.Composed:
        """SQL with the names, and other parts, in the places of `{…}`."""
        from psycopg import sql

        names = {
            "rows": self._identifier(""),
            "words": self._identifier("_words"),
            "settings": self._identifier("_index"),
            "graph": sql.Identifier(self._table + "_embedding"),  # an index is in its table's schema
            "incoming": sql.Identifier(self._table + "_incoming"),
            "columns": sql.SQL(", ").join(map(sql.Identifier, COLUMNS)),
            "incoming_columns": sql.SQL(", ").join(sql.Identifier("excluded", column) for column in COLUMNS),
            "read": sql.SQL(", ").join([sql.Identifier("number"), *map(_read, COLUMNS)]),
        }
        # the text is written in this project; what users give comes in as parts or values
        return sql.SQL(text).format(**names, **parts)

    def exists(self, connection: psycopg.Connection[Any], suffix: str) -> bool:
        """Whether there is a table or index of this name with a suffix."""
        text = self._identifier(suffix).as_string(connection)
        return connection.execute("SELECT to_regclass(%s) IS NOT NULL", [text]).fetchone() == (True,)

    def create(
        self, connection: psycopg.Connection[Any], address: str, dimension: int, settings: Mapping[str, Any]
    ) -> None:
        """Make the tables if they are missing, in one transaction.

        Raises:
            InputError: the name is another table's, the extension is missing, the database cannot hold such rows.
        """
        import psycopg
        from psycopg import sql

        dtype = stored_dtype(address, settings)
        if not 1 <= dimension <= MAX_DIMENSION[dtype]:
            raise InputError(f"index {address}: {dimension} dimensions; pgvector holds 1 to {MAX_DIMENSION[dtype]}")
        with connection.transaction():
            # two that create at once: the second finds what the first made
            connection.execute("SELECT pg_advisory_xact_lock(hashtext('afmrl'), hashtext(%s))", [self._table])
            if self.exists(connection, "_index"):
                return
            if self.exists(connection, ""):
                raise InputError(
                    f"index {address}: the table {self._table!r} is there and was not made by `afmrl index`; "
                    "choose another name with ?table=NAME"
                )
            try:
                with connection.transaction():
                    connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
            except (
                psycopg.errors.InsufficientPrivilege,
                psycopg.errors.FeatureNotSupported,
                psycopg.errors.UndefinedFile,
            ) as error:
                raise InputError(
                    f"index {address}: the extension pgvector is not in this database "
                    f"({without_secrets(str(error), address)}); install it on the server, then let an administrator "
                    "run: CREATE EXTENSION vector"
                ) from error
            type_of = {name: "json" if name in JSON else "text" for name in TEXTS}
            connection.execute(
                self(
                    "CREATE TABLE {rows} (number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, {texts}, "
                    "fingerprint text NOT NULL, length int NOT NULL, embedding {type}({dimension}) NOT NULL, "
                    "UNIQUE (id))",
                    texts=sql.SQL(", ").join(
                        sql.SQL("{} {} NOT NULL").format(
                            sql.Identifier(name), sql.SQL('text COLLATE "C"' if name in KEYS else type_of[name])
                        )
                        for name in TEXTS
                    ),
                    type=sql.SQL(TYPES[dtype]),
                    dimension=sql.Literal(dimension),
                )
            )
            for column in KEYS[1:]:
                connection.execute(self("CREATE INDEX ON {rows} ({column})", column=sql.Identifier(column)))
            connection.execute(
                self(
                    'CREATE TABLE {words} (word text COLLATE "C", number bigint, times int NOT NULL, '
                    "length int NOT NULL, PRIMARY KEY (word, number) INCLUDE (times, length))"
                )
            )
            connection.execute(self("CREATE INDEX ON {words} (number)"))
            connection.execute(
                self("CREATE TABLE {settings} (settings text NOT NULL, rows bigint NOT NULL, length bigint NOT NULL)")
            )
            connection.execute(self("INSERT INTO {settings} VALUES (%s, 0, 0)"), [sealed(dimension, settings)])

    def _identifier(self, suffix: str) -> sql.Identifier:
        from psycopg import sql

        return sql.Identifier(*self._schema, self._table + suffix)


def server_and_table(address: str) -> tuple[str, str]:
    """What libpq is given, and the table's name.

    >>> server_and_table("postgresql://user@host/db?table=shop&sslmode=require&password=a+b")
    ('postgresql://user@host/db?sslmode=require&password=a+b', 'shop')

    Raises:
        InputError: no address, or a name that PostgreSQL would cut.
    """
    shown = shown_address(address)
    try:
        parts = urlsplit(address)
    except ValueError as error:
        raise InputError(f"index {shown}: is no address ({without_secrets(str(error), address)})") from error
    # the other options go on as they are written: libpq reads them by rules of its own
    options = parts.query.split("&") if parts.query else []
    names = [unquote(option.partition("=")[2]) for option in options if option.startswith("table=")]
    rest = "&".join(option for option in options if not option.startswith("table="))
    table = names[-1] if names else TABLE
    if len(names) > 1 or not all(table.split(".")) or "\0" in table or "%" in table:
        raise InputError(f"index {shown}: one table is needed, ?table=NAME, without % in its name")
    if len(table.rpartition(".")[2].encode()) > MAX_NAME_BYTES:
        raise InputError(f"index {shown}: the table's name has over {MAX_NAME_BYTES} bytes; choose a shorter one")
    return urlunsplit(parts._replace(query=rest)), table


@contextmanager
def answered(address: str) -> Iterator[None]:
    """Turn what a server or its administrator must repair into an InputError, without the password."""
    import psycopg

    repairable = (
        psycopg.OperationalError,  # no server, no such database, wrong password, connection lost, disk full
        psycopg.errors.InsufficientPrivilege,
        psycopg.errors.ReadOnlySqlTransaction,
        psycopg.errors.UndefinedTable,
        psycopg.errors.UndefinedColumn,
        psycopg.errors.InvalidSchemaName,
        psycopg.errors.ProgramLimitExceeded,
    )
    try:
        yield
    except repairable as error:
        shown = shown_address(address)
        raise InputError(
            f"index {shown}: PostgreSQL says: {without_secrets(str(error), address)}; look whether the server runs, "
            "and at user, password, database and rights"
        ) from None  # the cause may name the password


def check_extension(connection: psycopg.Connection[Any], address: str) -> None:
    """Refuse a database whose pgvector cannot filter while it searches.

    Raises:
        InputError: it is older than 0.8.
    """
    row = connection.execute("SELECT extversion FROM pg_extension WHERE extname = 'vector'").fetchone()
    version = row[0] if row else "missing"
    if not row or tuple(int(part) for part in version.split(".")[:2]) < (0, 8):
        raise InputError(
            f"index {address}: the database's extension pgvector is {version}, 0.8 or later is needed; let an "
            "administrator install it and run: ALTER EXTENSION vector UPDATE"
        )


def check_record(address: str, record: Mapping[str, str]) -> None:
    """Refuse texts that PostgreSQL cannot hold.

    Raises:
        InputError: a NUL character, or a key that is too long for a database's index.
    """
    for name in TEXTS:
        if "\0" in record[name]:
            raise InputError(
                f"index {address}: offer {record['id']!r}: {name}: holds the character NUL, which PostgreSQL cannot "
                "hold; remove it"
            )
    for name in KEYS:
        if len(record[name].encode()) > MAX_KEY_BYTES:
            raise InputError(
                f"index {address}: offer {record['id'][:80]!r}: {name}: has over {MAX_KEY_BYTES} bytes; shorten it"
            )


def storable(texts: Collection[str]) -> list[str]:
    """Those that PostgreSQL can hold, and so may have: what is asked for with a NUL in it is not there."""
    return [text for text in texts if "\0" not in text]


def _read(column: str) -> sql.Composable:
    from psycopg import sql

    name = sql.Identifier(column)
    # as text: a parsed object would lose how it was written
    return sql.SQL("{}::text AS {}").format(name, name) if column in JSON else name


def scored_words_values(text: str) -> list[Any]:
    """The parameters of `SCORED_WORDS`."""
    counts = word_counts(text)
    return [list(counts), [float(times) for times in counts.values()], K1, B, B]
