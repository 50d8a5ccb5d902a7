"""What is each database's own: approximate indexes, transactions, addresses, servers that are not there."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from index_conformance import SETTINGS, D, bm25_truth, check_hits, dense_truth, drawn_rows, joined, same_rows, unit

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.data.offer import Offer
from afmrl.errors import InputError
from afmrl.index.address import open_index
from afmrl.index.backend import IndexBackend, Rows, Touched
from qdrant_bridge import API_KEY, running_bridge

MANY, WIDE = 3000, 16
pytest_plugins = ["index_servers"]
numbers = itertools.count(10_000)


@pytest.fixture
def table(server: str) -> str:
    """An address of a table that is not there yet."""
    return f"{server}{'&' if '?' in server else '?'}table=offers_{next(numbers)}"


def make(address: str, dimension: int = D, **settings: object) -> IndexBackend:
    return open_index(address, create=True, dimension=dimension, settings=SETTINGS | settings)


def clustered_rows(seed: int = 0) -> Rows:
    """MANY rows around 60 centers; category "rare" has five of them."""
    rng = np.random.default_rng(seed)
    centers = rng.standard_normal((60, WIDE))
    embeddings = unit(centers[rng.integers(60, size=MANY)] + 0.6 * rng.standard_normal((MANY, WIDE)))
    offers = [
        Offer(id=f"o{i}", title=f"offer {i}", category="rare" if i % 600 == 7 else f"c{i % 3}") for i in range(MANY)
    ]
    return Rows([o.id for o in offers], embeddings, offers, [KeyAttributes()] * MANY, ["1"] * MANY)


def search_is_near_exact(index: IndexBackend, rows: Rows, tolerance: float) -> None:
    """Fail unless recall@10 is high, with a filter too, and a filter that leaves few leaves exactly those."""
    queries = unit(rows.embeddings[:50] + 0.1 * np.random.default_rng(1).standard_normal((50, WIDE)))
    for where in (None, {"category": {"c1"}}):
        found = 0
        for query, ids, scores in zip(queries, *vars(index.search(queries, 10, where=where)).values(), strict=True):
            truth = dense_truth(rows, query, where)
            assert len(ids) == 10 and set(ids) <= set(truth)
            np.testing.assert_allclose(scores, [truth[name] for name in ids], atol=tolerance)
            found += len(set(ids) & set(sorted(truth, key=truth.__getitem__, reverse=True)[:10]))
        assert found >= 0.98 * 500
    rare = {"category": {"rare"}}
    for k in (3, 10, 2000):
        hits = index.search(queries[:5], k, where=rare)
        for query, ids, scores in zip(queries, hits.ids, hits.scores, strict=False):
            check_hits(ids, scores, dense_truth(rows, query, rare), k, tolerance=tolerance)
    assert [len(ids) for ids in index.search(queries[:2], MANY + 5).ids] == [len(index)] * 2


def index_grows_and_stays_right(address: str, rows: Rows, tolerance: float = 1e-5) -> None:
    """Search with an approximate index, and with rows that came after it was made."""
    with open_index(address) as index:
        search_is_near_exact(index, rows, tolerance)
        late = drawn_rows(["late"], 3, dimension=WIDE)
        assert index.upsert(late) == Touched(inserted=1)
        assert index.search(late.embeddings, 1).ids == [["late"]]
        assert index.delete(["late", *rows.ids[:100]]) == 101
        hits = index.search(rows.embeddings[:100], 10)
        assert not {name for ids in hits.ids for name in ids} & {"late", *rows.ids[:100]}


@pytest.mark.parametrize("dtype", ["f32", "f16"])
def test_postgresql_builds_a_graph_above_a_size(table: str, dtype: str) -> None:
    import psycopg

    rows = clustered_rows()
    address, _, name = table.partition("table=")
    table += "&options=-c%20enable_seqscan%3Doff"  # so few rows, PostgreSQL would rather compare all
    graph = "SELECT indexdef FROM pg_indexes WHERE tablename = %s AND indexdef LIKE '%%hnsw%%'"
    with psycopg.connect(address) as connection:
        with make(table, WIDE, exact_below=MANY, dtype=dtype) as index:
            index.upsert(rows.take(range(MANY - 1)))
        assert connection.execute(graph, [name]).fetchall() == []
        with open_index(table) as index:
            index.upsert(rows)
        ((definition,),) = connection.execute(graph, [name]).fetchall()
        assert ("halfvec" if dtype == "f16" else "vector") + "_ip_ops" in definition
        used = "SELECT coalesce(sum(idx_scan), 0) FROM pg_stat_user_indexes WHERE indexrelname = %s"
        index_grows_and_stays_right(table, rows, 1e-5 if dtype == "f32" else 1e-3)
        # a search of the graph that gives up at once, and finds the other rows that pass nevertheless
        gives_up = "%20-c%20enable_sort%3Doff%20-c%20hnsw.max_scan_tuples%3D1%20-c%20hnsw.scan_mem_multiplier%3D1"
        with open_index(table + gives_up) as index:
            rare = {"category": {"rare"}}
            left = rows.take(range(100, MANY))
            for query in rows.embeddings[::300]:
                hits = index.search(query[None], 4, where=rare)
                check_hits(hits.ids[0], hits.scores[0], dense_truth(left, query, rare), 4, tolerance=1e-3)
        connection.commit()
        connection.execute("SELECT pg_stat_clear_snapshot()")
        assert connection.execute(used, [f"{name}_embedding"]).fetchone()[0] > 0  # type: ignore[index]


def test_lancedb_builds_an_index_above_a_size(tmp_path: Path) -> None:
    lancedb = pytest.importorskip("lancedb")
    rows = clustered_rows()
    with make(f"lancedb:{tmp_path}", WIDE, exact_below=MANY) as index:
        index.upsert(rows)
    indices = lancedb.connect(tmp_path).open_table("offers").list_indices()
    assert {"embedding", "id", "category", "words"} <= {column for index in indices for column in index.columns}
    index_grows_and_stays_right(f"lancedb:{tmp_path}", rows)


def test_lancedb_removes_old_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lancedb = pytest.importorskip("lancedb")
    with make(f"lancedb:{tmp_path}") as index:
        for i in range(5):
            index.upsert(drawn_rows([f"o{i}"], i))
    assert len(lancedb.connect(tmp_path).open_table("offers").list_versions()) > 5  # a reader may be in one
    monkeypatch.setattr("afmrl.index.lancedb.index.KEPT", timedelta(0))
    with open_index(f"lancedb:{tmp_path}") as index:
        index.delete(["o3"])
    assert len(lancedb.connect(tmp_path).open_table("offers").list_versions()) <= 2
    with open_index(f"lancedb:{tmp_path}") as index:
        assert len(index) == 4


def test_lancedb_notices_an_upsert_that_matches_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lancedb")
    from lancedb.table import LanceTable

    original = LanceTable.merge_insert
    with make(f"lancedb:{tmp_path}") as index:
        monkeypatch.setattr(LanceTable, "merge_insert", lambda self, on: original(self, on).when_matched_update_all())
        monkeypatch.setattr("lancedb.merge.LanceMergeInsertBuilder.when_not_matched_insert_all", lambda self: self)
        with pytest.raises(InputError, match="was given 2 rows and wrote 0"):
            index.upsert(drawn_rows(["a", "b"], 1))


@pytest.mark.parametrize(
    ("address", "hidden"),
    [
        ("postgresql://shop:s3cret@127.0.0.1:1/db?table=offers", "s3cret"),
        ("postgresql://shop:s3%20cret@127.0.0.1:1/db", "s3"),
        ("postgresql://127.0.0.1:1/db?password=s3cret", "s3cret"),
        ("postgresql://shop:s3cret@127.0.0.1:1/db?no_such_option=1", "s3cret"),
        ("postgresql://shop:s3cret@127.0.0.1:port/db", "s3cret"),
        ("qdrant:http://127.0.0.1:1/offers", "k3y"),
        ("qdrant:http://user:s3cret@127.0.0.1:1/offers", "s3cret"),
        ("qdrant:ftp://127.0.0.1/offers", "k3y"),
        ("mysql://shop:s3cret@host/db", "s3cret"),
    ],
)
@pytest.mark.parametrize("create", [True, False])
def test_no_server_there(address: str, hidden: str, create: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("psycopg", "pgvector", "qdrant_client"):
        pytest.importorskip(package)
    monkeypatch.setenv("QDRANT_API_KEY", "k3y")
    with pytest.raises(InputError) as caught:
        open_index(address, create=create, dimension=D, settings=SETTINGS)
    error: BaseException | None = caught.value
    assert str(error).startswith("index ")
    while error is not None:  # tracebacks of causes show their messages
        assert hidden not in str(error)
        error = error.__cause__


def test_wrong_key_of_a_qdrant_server(bridge: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QDRANT_API_KEY", "wrong")
    with pytest.raises(InputError, match="401.*QDRANT_API_KEY"):
        make(f"qdrant:{bridge}/offers")


@pytest.mark.parametrize("package", ["psycopg", "qdrant_client", "lancedb"])
def test_package_missing(package: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    kind = {"psycopg": "postgresql://host/db", "qdrant_client": f"qdrant:{tmp_path}", "lancedb": f"lancedb:{tmp_path}"}
    with pytest.raises(InputError, match=r'pip install "afmrl\[(pgvector|qdrant|lancedb)\]"'):
        open_index(kind[package])


@pytest.mark.parametrize("kind", ["postgresql", "qdrant", "lancedb"])
def test_dtypes_that_a_database_does_not_hold(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    address = request.getfixturevalue("table") if kind == "postgresql" else f"{kind}:{tmp_path / 'index'}"
    with pytest.raises(InputError, match="'i8'.*f32 or f16"):
        make(address, dtype="i8")


def test_tables_of_others_are_left_alone(table: str) -> None:
    import psycopg

    address, _, name = table.partition("table=")
    with psycopg.connect(address) as connection:
        connection.execute(psycopg.sql.SQL("CREATE TABLE {} (id int)").format(psycopg.sql.Identifier(name)))
    with pytest.raises(InputError, match="not made by `afmrl index`"):
        make(table)
    with pytest.raises(InputError, match="no index is here"):
        open_index(table)


@pytest.mark.parametrize("name", ["Odd%20%22Name%22;%20--", "own.offers", "{brace}", "läden"])
def test_names_of_tables(server: str, name: str) -> None:
    import psycopg

    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA IF NOT EXISTS own")
    address = f"{server}{'&' if '?' in server else '?'}table={name}"
    rows = drawn_rows(["a", "b", "c"], 1)
    with make(address) as index:
        assert index.upsert(rows) == Touched(inserted=3)
    with open_index(address) as index:
        same_rows(index.get(rows.ids), rows)
        assert index.delete(["a"]) == 1
    for added, reason in (("x" * 49, "over 48 bytes"), ("%25", "one table"), ("%00", "one table"), (".", "one table")):
        with pytest.raises(InputError, match=reason):
            open_index(address + added)


@pytest.mark.parametrize(("name", "field"), [("title", "NUL"), ("category", "2000 bytes")])
def test_texts_that_postgresql_does_not_hold(table: str, name: str, field: str) -> None:
    value = "a\0b" if field == "NUL" else "long " * 500
    rows = drawn_rows(["good", "bad"], 1)
    offers = [rows.offers[0], Offer(**{"id": "bad", "title": "t", name: value})]
    with make(table) as index:
        with pytest.raises(InputError, match=f"'bad': {name}: .*{field}"):
            index.upsert(Rows(rows.ids, rows.embeddings, offers, rows.key_attributes, rows.fingerprints))
        assert len(index) == 0
        assert index.get(["a\0b"]).ids == [] and index.delete(["a\0b"]) == 0
        assert index.search(rows.embeddings[:1], 3, where={"category": {"a\0b"}}).ids == [[]]


def test_postgresql_writers_wait_for_each_other(table: str) -> None:
    names = [f"o{i}" for i in range(300)]
    make(table).close()
    touched: list[Touched] = []

    def write(seed: int) -> None:
        with open_index(table) as index:
            for part in range(3):
                chosen = np.random.default_rng(seed + part).permutation(300)[:200]
                touched.append(index.upsert(drawn_rows([names[i] for i in chosen], seed)))

    writers = [threading.Thread(target=write, args=(seed,)) for seed in (1, 2, 3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(touched) == 9 and all(t.inserted + t.updated + t.unchanged == 200 for t in touched)
    with open_index(table) as index:
        assert sum(t.inserted for t in touched) == len(index)
        rows = joined(*index.scan())
        for text, ids, scores in zip(["red dress"], *vars(index.lexical(["red dress"], 500)).values(), strict=True):
            check_hits(ids, scores, bm25_truth(rows, text), 500, tolerance=1e-4)


def test_postgresql_readers_do_not_wait(table: str) -> None:
    rows = drawn_rows(["a", "b"], 1)
    with make(table) as writer, open_index(table) as reader:
        writer.upsert(rows.take([0]))
        with writer._writing():  # type: ignore[attr-defined]
            assert len(reader) == 1 and reader.search(rows.embeddings[:1], 5).ids == [["a"]]
            assert reader.lexical([rows.offers[0].title], 5).ids == [["a"]]


STOPPED = """
    import os, signal, sys
    sys.path[:0] = [sys.argv[2], sys.argv[2] + '/..']
    import afmrl.index.pgvector.index as adapter
    from afmrl.index.address import open_index
    from index_conformance import drawn_rows
    setattr(adapter.PgvectorIndex, sys.argv[3], lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    with open_index(sys.argv[1]) as index:
        index.delete(["o1", "o2"]) if sys.argv[4] == "delete" else index.upsert(drawn_rows(["o1", "o2", "n1"], 2))
"""


@pytest.mark.parametrize(("method", "job"), [("_delete_words", "upsert"), ("_count", "upsert"), ("_count", "delete")])
def test_postgresql_writer_killed_in_a_transaction(table: str, method: str, job: str) -> None:
    rows = drawn_rows(["o1", "o2", "o3"], 1)
    with make(table) as index:
        index.upsert(rows)
    arguments = [table, str(Path(__file__).parent), method, job]
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(STOPPED), *arguments], timeout=120)
    assert done.returncode == -signal.SIGKILL
    with open_index(table) as index:
        same_rows(joined(*index.scan()), rows)
        hits = index.lexical(["red dress new"], 10)
        check_hits(hits.ids[0], hits.scores[0], bm25_truth(rows, "red dress new"), 10, tolerance=1e-4)
        assert index.upsert(drawn_rows(["o1", "n1"], 2)) == Touched(inserted=1, updated=1)


WRITING = """
    import sys
    sys.path[:0] = [sys.argv[2], sys.argv[2] + '/..']
    from afmrl.index.address import open_index
    from index_conformance import drawn_rows
    with open_index(sys.argv[1]) as index:
        for part in range(1000):
            index.upsert(drawn_rows([f"{part}-{i}" for i in range(20)], part))
            print(part, flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["postgresql", "qdrant", "lancedb"])
def test_writer_killed_anywhere(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    address = request.getfixturevalue("table") if kind == "postgresql" else f"{kind}:{tmp_path / 'index'}"
    pytest.importorskip({"postgresql": "psycopg", "qdrant": "qdrant_client", "lancedb": "lancedb"}[kind])
    make(address).close()
    arguments = [address, str(Path(__file__).parent)]
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WRITING), *arguments], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        told = [next(writer.stdout) for _ in range(6)]
        os.kill(writer.pid, signal.SIGKILL)
        told += list(writer.stdout)
    written = 20 * len(told)
    with open_index(address) as index:
        found = joined(*index.scan())
        assert len(found) == len(set(found.ids)) == len(index)
        # what was told is there; of the upsert that was stopped all or nothing, in Qdrant any part
        assert len(index) in ((written, written + 20) if kind != "qdrant" else range(written, written + 21))
        rows = joined(*(drawn_rows([f"{part}-{i}" for i in range(20)], part) for part in range(len(told) + 1)))
        assert index.upsert(rows) == Touched(inserted=len(rows) - len(found), unchanged=len(found))
        assert len(index) == len(rows)


WRITING_SOME = """
    import sys
    sys.path[:0] = [sys.argv[2], sys.argv[2] + '/..']
    from afmrl.index.address import open_index
    from index_conformance import drawn_rows
    with open_index(sys.argv[1]) as index:
        for part in range(5):
            ids = [f"{sys.argv[3]}-{part}-{i}" for i in range(10)] + [f"both-{i}" for i in range(5)]
            index.upsert(drawn_rows(ids, part))
"""


@pytest.mark.slow
def test_lancedb_writers_lose_nothing_to_each_other(tmp_path: Path) -> None:
    pytest.importorskip("lancedb")
    address = f"lancedb:{tmp_path / 'index'}"
    make(address).close()
    script = [sys.executable, "-c", textwrap.dedent(WRITING_SOME), address, str(Path(__file__).parent)]
    writers = [subprocess.Popen([*script, name]) for name in ("a", "b")]
    counts = set()
    while any(writer.poll() is None for writer in writers):
        with open_index(address) as index:
            found = [identifier for rows in index.scan() for identifier in rows.ids]
        assert len(found) == len(set(found))  # no reader sees a row twice, or half of an upsert
        counts.add(len(found))
    assert [writer.returncode for writer in writers] == [0, 0]
    assert all(count == 0 or (count - 5) % 10 == 0 for count in counts), counts
    with open_index(address) as index:
        assert len(index) == 2 * 5 * 10 + 5


def test_qdrant_folder_is_one_process_s(tmp_path: Path) -> None:
    pytest.importorskip("qdrant_client")
    with make(f"qdrant:{tmp_path}"), pytest.raises(InputError, match="another process has it open"):
        open_index(f"qdrant:{tmp_path}")
    open_index(f"qdrant:{tmp_path}").close()


def test_qdrant_weighs_words_anew_when_lengths_drift(tmp_path: Path) -> None:
    pytest.importorskip("qdrant_client")
    short = drawn_rows([f"o{i}" for i in range(30)], 1)
    long = drawn_rows([f"l{i}" for i in range(30)], 2)
    long = Rows(
        long.ids,
        long.embeddings,
        [Offer(id=o.id, title=o.title * 4) for o in long.offers],
        long.key_attributes,
        long.fingerprints,
    )
    both = joined(short, long)
    truth = bm25_truth(both, "red dress")
    with make(f"qdrant:{tmp_path}") as index:
        index.upsert(short)
        index.upsert(long)
        before = index.lexical(["red dress"], 100)
        with pytest.raises(AssertionError):
            check_hits(before.ids[0], before.scores[0], truth, 100, tolerance=1e-2)
    with open_index(f"qdrant:{tmp_path}") as index:
        after = index.lexical(["red dress"], 100)
        check_hits(after.ids[0], after.scores[0], truth, 100, tolerance=1e-4)
        same_rows(index.get(both.ids), both)


def test_qdrant_server_compares_all_rows_where_it_must(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("qdrant_client")
    monkeypatch.setenv("QDRANT_API_KEY", API_KEY)
    rows = drawn_rows([f"o{i}" for i in range(10)], 1)
    one = {"category": {rows.offers[0].category}}
    with running_bridge() as (url, requests):

        def asked(index: IndexBackend, k: int, **arguments: Any) -> list[list[Any]]:
            requests.clear()
            index.search(rows.embeddings[:2], k, **arguments)
            return [[search["params"] for search in body["searches"]] for _, path, body in requests if "query" in path]

        with make(f"qdrant:{url}/few", exact_below=10) as index:
            index.upsert(rows)
            assert [[search["exact"] for search in call] for call in asked(index, 3)] == [[True, True]]
        with make(f"qdrant:{url}/many", exact_below=9) as index:
            index.upsert(rows)
            (near,) = asked(index, 3)
            assert [search["hnsw_ef"] for search in near] == [128, 128]
            near, exact = asked(index, 11)
            assert [search["exact"] for search in exact] == [True, True]
            assert len(asked(index, 10, where=one)) == 2
        created = [(path, body) for _, path, body in requests if path.endswith("/index")]
        assert created == []  # cleared: made when the collection was
        open_index(f"qdrant:{url}/few").close()


def test_qdrant_server_is_told_what_to_index(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("qdrant_client")
    monkeypatch.setenv("QDRANT_API_KEY", API_KEY)
    with running_bridge() as (url, requests):
        make(f"qdrant:{url}/offers", dtype="f16").close()
        bodies = {path.partition("?")[0].rpartition("/")[2]: [] for _, path, _ in requests}
        for _, path, body in requests:
            bodies[path.partition("?")[0].rpartition("/")[2]].append(body)
        assert {body["field_name"] for body in bodies["index"]} == {"category", "seller", "product_id", "length"}
        (created,) = [body for body in bodies["offers"] if body]
        assert created["vectors"]["embedding"] == {"size": D, "distance": "Dot", "datatype": "float16"}
        assert created["sparse_vectors"] == {"words": {"modifier": "idf"}}


def test_qdrant_server_that_does_not_finish(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("qdrant_client")
    monkeypatch.setenv("QDRANT_API_KEY", API_KEY)
    with (
        running_bridge(status="wait_timeout") as (url, _),
        make(f"qdrant:{url}/offers") as index,
        pytest.raises(InputError, match="has not finished"),
    ):
        index.upsert(drawn_rows(["a"], 1))


def test_postgresql_is_gone(table: str) -> None:
    """A connection that the server ends in between is an InputError, and the next one works."""
    import psycopg

    rows = drawn_rows(["a"], 1)
    index = make(table)
    index.upsert(rows)
    with psycopg.connect(table.partition("table=")[0], autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'afmrl'")
    check: list[Callable[[], object]] = [lambda: len(index), lambda: index.upsert(rows), lambda: index.delete(["a"])]
    for call in check:
        with pytest.raises(InputError, match="PostgreSQL says"):
            call()
    index.close()
    with open_index(table) as again:
        assert len(again) == 1
