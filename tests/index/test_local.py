"""The local index: compaction, the graph, filters, ties, damage, and readers beside a writer that may be killed."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.data.offer import Offer
from afmrl.errors import InputError
from afmrl.index.address import open_index
from afmrl.index.backend import Rows, Touched
from afmrl.index.hybrid import HybridQueries, hybrid_search
from afmrl.index.local import dense as dense_module
from afmrl.index.local.codes import decode, encode
from afmrl.index.local.index import LocalIndex
from afmrl.index.local.version import Version
from afmrl.retrieval.exact import top_k
from afmrl.retrieval.fusion import FusionWeights, lexical_scores

D = 16
MODEL = {"path": "models/tiny", "fingerprint": "f00d"}
TESTS = Path(__file__).parent


def drawn(numbers, *, generation=0, dimension=D, spread=40):
    """Rows by number: the same number and generation give the same row; `spread` categories."""
    numbers = list(numbers)
    embeddings = np.stack([np.random.default_rng([n, generation]).standard_normal(dimension) for n in numbers])
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    offers = [
        Offer(
            str(n),
            title=f"dress number {n} generation {generation}",
            category=f"c{n % spread}",
            extra={"seller": "ab"[n % 2]},
        )
        for n in numbers
    ]
    attributes = [KeyAttributes.of({"size": "sml"[n % 3]}) for n in numbers]
    marks = [f"{generation}"] * len(numbers)
    return Rows([str(n) for n in numbers], embeddings.astype(np.float32), offers, attributes, marks)


def alike(numbers, *, generation=0):
    """Rows by number that all have the same embedding."""
    rows = drawn(numbers, generation=generation)
    return dataclasses.replace(rows, embeddings=np.repeat(drawn([0]).embeddings, len(rows), axis=0))


def made(folder, *, dimension=D, **settings):
    """A new local index."""
    settings = {"model": MODEL, "dtype": "f32", "exact_below": 100_000} | settings
    index = open_index(str(folder), create=True, dimension=dimension, settings=settings)
    assert isinstance(index, LocalIndex)
    return index


def overlap(hits, nearest):
    """Mean share of the nearest that were found."""
    return float(np.mean([len(set(ids) & set(best)) / len(best) for ids, best in zip(hits.ids, nearest, strict=True)]))


def nearest_ids(rows, queries, k, chosen=None):
    """By exact search, among the rows at `chosen` places."""
    places = np.arange(len(rows)) if chosen is None else np.asarray(chosen)
    return [[rows.ids[places[i]] for i in line] for line in top_k(queries, rows.embeddings[places], k)[1]]


def files_of(folder):
    paths = [path for path in Path(folder).rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.stat().st_ino for path in paths}


# storage


@pytest.mark.parametrize(("dtype", "error"), [("f32", 0.0), ("f16", 5e-4), ("i8", 6e-3)])
def test_embeddings_come_back_as_near_as_their_type_allows(dtype, error):
    embeddings = drawn(range(50), dimension=256).embeddings
    codes, scales = encode(embeddings, dtype)
    assert codes.itemsize == {"f32": 4, "f16": 2, "i8": 1}[dtype]
    assert np.abs(decode(codes, scales) - embeddings).max() <= error * np.abs(embeddings).max() + 1e-9
    scores = (decode(codes, scales) * embeddings).sum(axis=1)
    np.testing.assert_allclose(scores, 1.0, atol=max(error / 3, 1e-6))


@pytest.mark.parametrize("dtype", ["f32", "f16", "i8"])
@pytest.mark.parametrize("exact_below", [100_000, 500])
def test_every_type_finds_the_nearest(tmp_path, dtype, exact_below):
    rows = drawn(range(1500))
    queries = drawn(range(40), generation=9).embeddings
    with made(tmp_path / "i", dtype=dtype, exact_below=exact_below) as index:
        index.upsert(rows)
        assert (index.version.graph is None) == (exact_below > 1500)
        hits = index.search(queries, 10)
        assert overlap(hits, nearest_ids(rows, queries, 10)) >= {"f32": 0.97, "f16": 0.97, "i8": 0.9}[dtype]
        for ids, scores, query in zip(hits.ids, hits.scores, queries, strict=True):
            truth = index.get(ids).embeddings.astype(np.float64) @ query
            np.testing.assert_allclose(scores, truth, atol=1e-6)  # scored by what is stored, not by the graph's bytes
            assert (np.diff(scores) <= 0).all()


# what a change costs


def test_a_small_change_rewrites_no_large_file(tmp_path):
    folder = tmp_path / "i"
    index = made(folder, exact_below=500)
    index.upsert(drawn(range(2000)))
    before, size = files_of(folder), sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert index.upsert(drawn([5, 3000], generation=1)) == Touched(1, 1, 0)
    assert index.delete(["7"]) == 1
    after = files_of(folder)
    kept = {name for name, inode in before.items() if after.get(name) == inode and name not in ("index.json", "lock")}
    assert {name for name in before if name.startswith(("segments/", "graphs/"))} <= kept
    written = sum((folder / name).stat().st_size for name in after if after[name] != before.get(name))
    assert written < 0.2 * size
    assert index.search(drawn([5], generation=1).embeddings, 1).ids == [["5"]]
    assert index.search(drawn([3000], generation=1).embeddings, 1).ids == [["3000"]]
    assert "7" not in index.search(drawn([7]).embeddings, 20).ids[0]


def test_an_unchanged_upsert_writes_no_version(tmp_path):
    index = made(tmp_path / "i")
    index.upsert(drawn(range(10)))
    before = files_of(tmp_path / "i")
    assert index.upsert(drawn(range(10))) == Touched(0, 0, 10)
    assert index.delete(["99"]) == 0
    assert files_of(tmp_path / "i") == before


def test_many_small_changes_leave_few_segments_and_nothing_else(tmp_path):
    folder = tmp_path / "i"
    index = made(folder, exact_below=400)
    numbers = random.Random(0).sample(range(1000), 1000)
    for start in range(0, 1000, 25):
        index.upsert(drawn(numbers[start : start + 25]))
    assert len(index) == 1000 and len(index.version.segments) <= 8
    index.delete([str(n) for n in range(0, 1000, 2)])
    assert len(index) == 500
    named = set()
    for name in files_of(folder):
        parts = name.split("/")
        named.add("/".join(parts[:2]))
    assert named == index.version.files() | {"index.json", "lock"}
    assert sorted(int(i) for rows in index.scan(64) for i in rows.ids) == list(range(1, 1000, 2))
    index.check()


def test_the_graph_grows_is_built_anew_and_goes(tmp_path):
    index = made(tmp_path / "i", exact_below=300)
    index.upsert(drawn(range(299)))
    assert index.version.graph is None
    index.upsert(drawn(range(299, 600)))
    assert index.version.graph and index.version.segments[0]["rows"] == 600
    first = index.version.graph["file"]
    index.upsert(drawn(range(600, 700)))
    assert index.version.graph["file"] == first and len(index.version.segments) == 2  # a tail
    index.delete([str(n) for n in range(100)])
    assert index.version.graph["file"] == first
    index.upsert(drawn(range(700, 950)))
    assert index.version.graph["file"] != first and index.version.segments[0]["rows"] == 950  # extended, dead kept
    index.delete([str(n) for n in range(100, 300)])
    assert index.version.segments[0]["rows"] == 650 and "dead" not in index.version.segments[0]  # anew
    rows, queries = drawn(range(300, 950)), drawn(range(30), generation=3).embeddings
    assert overlap(index.search(queries, 10), nearest_ids(rows, queries, 10)) > 0.97
    index.delete([str(n) for n in range(300, 900)])
    assert index.version.graph is None and len(index) == 50
    assert index.delete([str(n) for n in range(900, 950)]) == 50
    assert len(index) == 0 and index.version.segments == []
    assert index.search(queries[:1], 3).ids == [[]]


# order and filters


def test_equal_scores_stand_in_the_order_of_insertion_whatever_was_compacted(tmp_path):
    index = made(tmp_path / "i", exact_below=50)
    numbers = random.Random(1).sample(range(300), 300)
    same = drawn([0]).embeddings
    for start in range(0, 300, 20):
        index.upsert(alike(numbers[start : start + 20]))
    index.upsert(alike(numbers[:5], generation=1))
    order = [str(n) for n in numbers]
    assert [i for batch in index.scan(7) for i in batch.ids] == order
    in_b = [i for i in order if int(i) % 2]
    assert index.search(same, 12, where={"seller": ["b"], "category": [f"c{n}" for n in range(3)]}).ids == [
        [i for i in in_b if int(i) % 40 < 3][:12]
    ]
    with made(tmp_path / "exact") as exact:
        for start in range(0, 300, 20):
            exact.upsert(alike(numbers[start : start + 20]))
        assert exact.search(same, 30).ids == [order[:30]]
        assert exact.search(np.repeat(same, 20, axis=0), 30).ids == [order[:30]] * 20  # many queries go another way


@pytest.mark.parametrize("count", [1, 40])
@pytest.mark.parametrize(
    "where",
    [{"seller": ["a"]}, {"category": ["c1", "c2", "c3", "c4"]}, {"category": ["c7"], "seller": ["b"]}],
)
def test_a_filtered_search_finds_k_rows_if_k_pass(filtered_index, where, count):
    index, rows = filtered_index
    queries = drawn(range(count), generation=5).embeddings
    chosen = [
        place
        for place, offer in enumerate(rows.offers)
        if offer.category in where.get("category", [offer.category])
        and offer.extra["seller"] in where.get("seller", [offer.extra["seller"]])
    ]
    allowed = {rows.ids[place] for place in chosen}
    for k in (10, 60):
        hits = index.search(queries, k, where=where)
        assert all(len(ids) == min(k, len(chosen)) and set(ids) <= allowed for ids in hits.ids)
        assert overlap(hits, nearest_ids(rows, queries, min(k, len(chosen)), chosen)) > 0.95
    assert index.search(queries[:1], len(rows), where=where).ids == nearest_ids(rows, queries[:1], len(chosen), chosen)


@pytest.fixture(scope="module")
def filtered_index(tmp_path_factory):
    """4,000 rows, most in the graph, some outside it, some dead."""
    index = made(tmp_path_factory.mktemp("filtered") / "i", exact_below=200)
    index.upsert(drawn(range(3500)))
    index.upsert(drawn(range(3400, 3600), generation=1))
    index.delete([str(n) for n in range(0, 3600, 9)])
    assert index.version.graph and len(index.version.segments) > 1
    kept = [n for n in range(3600) if n % 9]
    old, new = drawn([n for n in kept if n < 3400]), drawn([n for n in kept if n >= 3400], generation=1)
    rows = Rows(
        old.ids + new.ids, np.concatenate([old.embeddings, new.embeddings]), old.offers + new.offers,
        old.key_attributes + new.key_attributes, old.fingerprints + new.fingerprints,
    )  # fmt: skip
    return index, rows


def test_a_filter_that_only_far_rows_pass_finds_k_all_the_same(tmp_path):
    """The graph's search ends among near rows, none of which passes; what it did not find has to be looked for."""
    rows = drawn(range(6000))
    near = np.arange(6000) % 2 == 1  # seller b
    pole = np.zeros(D, dtype=np.float32)
    pole[0] = 1.0
    embeddings = 0.3 * rows.embeddings + np.where(near[:, None], pole, -pole)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    rows = dataclasses.replace(rows, embeddings=embeddings.astype(np.float32))
    index = made(tmp_path / "i", exact_below=100)
    index.upsert(rows)
    dense, where = index._now().dense, {"seller": frozenset("a")}
    plan = dense._plan(where)
    assert plan.width == 0  # measured: the graph does not find them
    queries, passing = rows.embeddings[1:40:2], np.flatnonzero(~near)
    for width in (0, 16):  # 16: as if the rows that were tried had been found
        dense._plans[frozenset(where.items())] = dataclasses.replace(
            plan, width=width, allowed=np.packbits(~near, bitorder="little")
        )
        hits = index.search(queries, 10, where={"seller": ["a"]})
        assert overlap(hits, nearest_ids(rows, queries, 10, passing)) > 0.95
        assert all(len(set(ids)) == 10 for ids in hits.ids)


def test_the_width_of_a_filtered_search_is_measured(tmp_path, monkeypatch):
    """A tenth of the rows pass, in a graph that none of them was chosen for: they need a wider search than all rows."""
    monkeypatch.setattr(dense_module, "EXACT_ROWS", (1, 1))
    rows = drawn(range(6000))
    few = np.arange(6000) % 10 == 0
    offers = [
        dataclasses.replace(offer, extra={"seller": "few" if chosen else "many"})
        for offer, chosen in zip(rows.offers, few, strict=True)
    ]
    rows = dataclasses.replace(rows, offers=offers)
    index = made(tmp_path / "i", exact_below=100)
    index.upsert(rows)
    dense, graph = index._now().dense, index._now().snapshot.graph
    assert dense._plan({"seller": frozenset(["few"])}).width > graph.width
    queries = drawn(range(200), generation=1).embeddings
    hits = index.search(queries, 10, where={"seller": ["few"]})
    assert overlap(hits, nearest_ids(rows, queries, 10, np.flatnonzero(few))) > 0.97


def test_scores_that_only_rounding_tells_apart_are_equal(tmp_path):
    rng = np.random.default_rng(0)
    values = rng.standard_normal(256).astype(np.float32)
    values /= np.linalg.norm(values)
    rows = drawn(range(500), dimension=256)
    rows = dataclasses.replace(rows, embeddings=np.stack([rng.permutation(values) for _ in range(500)]))
    index = made(tmp_path / "i", dimension=256)
    index.upsert(rows)
    query = np.full((1, 256), 1 / 16, dtype=np.float32)
    assert len(set((rows.embeddings @ query[0]).tolist())) > 1  # to BLAS they are not
    hits = index.search(query, 10)
    assert len(set(hits.scores[0].tolist())) == 1
    assert hits.ids == [[str(n) for n in range(10)]]


def test_filters_that_cannot_be(filtered_index):
    index, _ = filtered_index
    queries = drawn([1]).embeddings
    assert index.search(queries, 5, where={"category": []}).ids == [[]]
    with pytest.raises(InputError, match="cannot filter by 'colour'; one of category, seller, product_id"):
        index.search(queries, 5, where={"colour": ["red"]})
    with pytest.raises(InputError, match="give a collection"):
        index.search(queries, 5, where={"category": "c1"})
    with pytest.raises(InputError, match="k=0"):
        index.search(queries, 0)
    with pytest.raises(InputError, match="k=0"):
        index.lexical(["dress"], 0)


# hybrid


@pytest.mark.parametrize("count", [150, 1500])
def test_hybrid_hits_are_the_best_by_fused_score(tmp_path, count):
    """The cosine plus the scaled BM25 of every row, also of those that are far down by one of the two."""
    rows = drawn(range(count))
    index = made(tmp_path / "i")
    index.upsert(rows)
    queries = [Offer("q", title="dress 17 l"), Offer("r", title="number 120 generation"), Offer("s", title="nothing")]
    embeddings = drawn(range(3), generation=7).embeddings
    words, _ = lexical_scores(queries, rows.offers, None, rows.key_attributes)
    for weights in (FusionWeights(0.4), FusionWeights(0.02)):
        fused = weights.fuse(embeddings @ rows.embeddings.T, words, np.zeros_like(words))
        hits = hybrid_search(index, HybridQueries(embeddings, [query.title for query in queries]), 10, weights)
        for query, (ids, scores) in enumerate(zip(hits.ids, hits.scores, strict=True)):
            np.testing.assert_allclose(scores, np.sort(fused[query])[::-1][:10], atol=1e-5)
            np.testing.assert_allclose(scores, fused[query][[int(identifier) for identifier in ids]], atol=1e-5)
    alone = hybrid_search(index, HybridQueries(embeddings, ["", "", ""]), 10, FusionWeights(0.4))
    assert alone.ids == index.search(embeddings, 10).ids


# damage


def test_damage_is_named(tmp_path):
    folder = tmp_path / "i"
    made(folder).upsert(drawn(range(200)))
    segment = next((folder / "segments").iterdir())
    whole = (segment / "embeddings.npy").read_bytes()

    (segment / "embeddings.npy").write_bytes(whole[:-10])
    with pytest.raises(InputError, match=r"embeddings.npy: has 1\S+ bytes, 12,928 were written; .* make it again"):
        open_index(str(folder))
    (segment / "embeddings.npy").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(InputError, match=r"embeddings.npy: is not what was written"):
        open_index(str(folder))
    (segment / "embeddings.npy").unlink()
    with pytest.raises(InputError, match=r"embeddings.npy: is missing"):
        open_index(str(folder))
    (segment / "embeddings.npy").write_bytes(whole)
    (segment / "records.arrow").write_bytes(b"x" * (segment / "records.arrow").stat().st_size)
    with pytest.raises(InputError, match="the index is damaged"):
        open_index(str(folder))
    (folder / "index.json").write_text("{")
    with pytest.raises(InputError, match="index.json: is damaged"):
        open_index(str(folder))
    (folder / "index.json").write_text("{}")
    with pytest.raises(InputError, match="not written by `afmrl index`"):
        open_index(str(folder))


def test_a_damaged_graph_is_named(tmp_path):
    folder = tmp_path / "i"
    made(folder, exact_below=100).upsert(drawn(range(200)))
    graph = next((folder / "graphs").iterdir())
    whole = graph.read_bytes()
    graph.write_bytes(b"\0" * len(whole))
    with pytest.raises(InputError, match="the index is damaged"):
        open_index(str(folder))
    graph.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(InputError, match="is not what was written"):
        open_index(str(folder))


def test_what_is_no_index_is_refused(tmp_path):
    with pytest.raises(InputError, match="no index is here; `afmrl index EMBEDDINGS --out"):
        open_index(str(tmp_path / "nothing"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="holds other files"):
        made(tmp_path / "mine")
    made(tmp_path / "i")
    with pytest.raises(InputError, match="embeddings of the model models/tiny .*f00d.*cosines of two models"):
        open_index(str(tmp_path / "i"), settings={"model": {"path": "other", "fingerprint": "beef"}})
    with pytest.raises(InputError, match="of 16 numbers, these have 17"):
        open_index(str(tmp_path / "i"), dimension=17)
    with pytest.raises(InputError, match="no such kind of index"):
        open_index("mysql://host/db")
    with pytest.raises(InputError, match="no such kind of index"):
        open_index("qdrnt:http://host/offers", create=True, dimension=4, settings={})  # and no folder of that name
    with pytest.raises(InputError, match="dtype 'f64'"):
        made(tmp_path / "j", dtype="f64")


def test_no_large_index_without_faiss(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    index = made(tmp_path / "i", exact_below=50)
    index.upsert(drawn(range(40)))
    with pytest.raises(InputError, match=r'pip install "afmrl\[ann\]"'):
        index.upsert(drawn(range(40, 80)))
    assert len(index) == 40 and len(open_index(str(tmp_path / "i"))) == 40


# readers, writers, kills


def python(script, *arguments, **options):
    """A process that runs a script with this file's helpers."""
    text = (
        "import sys; sys.path[:0] = [sys.argv[1], sys.argv[1] + '/..']\nfrom test_local import *\n"
        + textwrap.dedent(script)
    )
    return subprocess.Popen(
        [sys.executable, "-c", text, str(TESTS), *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        **options,
    )


def test_an_open_reader_sees_the_last_version_and_a_scan_its_own(tmp_path):
    writer, reader = made(tmp_path / "i"), None
    writer.upsert(drawn(range(10)))
    reader = open_index(str(tmp_path / "i"))
    scan = reader.scan(4)
    first = next(scan)
    writer.upsert(drawn(range(10), generation=1))
    writer.delete(["9"])
    writer.upsert(drawn([20]))
    assert reader.get(["0"]).fingerprints == ["1"] and len(reader) == 10
    rest = [rows.fingerprints for rows in scan]
    assert [first.fingerprints, *rest] == [["0"] * 4, ["0"] * 4, ["0"] * 2]


def test_a_transaction_that_fails_changes_nothing(tmp_path):
    index = made(tmp_path / "i")
    index.upsert(drawn(range(10)))
    before = files_of(tmp_path / "i")["index.json"]
    with pytest.raises(InputError, match="not finite"), index.transaction():
        index.upsert(drawn(range(10, 20)))
        bad = drawn([30])
        bad.embeddings[0, 0] = np.nan
        index.upsert(bad)
    assert len(index) == 10 and files_of(tmp_path / "i")["index.json"] == before
    with index.transaction():
        assert index.upsert(drawn(range(10, 20))) == Touched(10, 0, 0)
        assert index.upsert(drawn(range(15, 25))) == Touched(5, 0, 5)  # sees what the transaction did
        assert len(index) == 10  # nobody else does
    assert len(index) == 25


def test_one_writer_at_a_time_and_a_killed_one_holds_nothing(tmp_path):
    index = made(tmp_path / "i")
    script = """
        index = open_index(sys.argv[2])
        with index.transaction():
            index.upsert(drawn(range(5)))
            print("writing", flush=True)
            time.sleep(60)
    """
    with python(script, tmp_path / "i", stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "writing\n"
        with pytest.raises(InputError, match=rf"another process \({process.pid}\) is writing"):
            index.upsert(drawn(range(5)))
        assert len(index) == 0
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert any((tmp_path / "i" / "segments").iterdir())  # what the killed one left
    assert index.upsert(drawn(range(5, 8))) == Touched(3, 0, 0)
    assert {f"segments/{path.name}" for path in (tmp_path / "i" / "segments").iterdir()} == index.version.files()


KILLED_AT = """
    where, count = sys.argv[3], int(sys.argv[4])
    import afmrl.index.local.segment as segment, afmrl.index.local.writer as writer, afmrl.index.local.graph as graph
    import afmrl.index.local.version as version
    seen = 0

    def killing(owner, name):
        original = getattr(owner, name)

        def call(*arguments, **options):
            global seen
            seen += 1
            if seen == count:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*arguments, **options)

        setattr(owner, name, call)

    owner, name = {
        "saving an array": (segment, "_save"), "joining": (writer, "join_segments"), "flushing": (writer, "sync_path"),
        "marking dead": (writer.Writer, "_write_dead"), "writing the graph": (graph.Graph, "write"),
        "replacing": (version.os, "replace"), "removing": (version, "remove"), "nowhere": (version, "remove"),
    }[where]
    index = open_index(sys.argv[2])
    killing(owner, name)
    with index.transaction():
        index.upsert(drawn(range(280, 400), generation=1))
        index.delete([str(n) for n in range(20)])
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(
    ("where", "count", "done"),
    [
        ("saving an array", 1, False), ("saving an array", 4, False), ("joining", 1, False), ("flushing", 1, False),
        ("flushing", 5, False), ("marking dead", 1, False), ("writing the graph", 1, False), ("replacing", 1, False),
        ("removing", 1, True), ("removing", 2, True), ("nowhere", 0, True),
    ],
)  # fmt: skip
def test_a_killed_writer_leaves_the_old_version_or_the_new_one(tmp_path, where, count, done):
    folder = tmp_path / "i"
    index = made(folder, exact_below=100)
    index.upsert(drawn(range(300)))
    with python(KILLED_AT, folder, where, count) as process:
        assert process.wait(60) == -signal.SIGKILL
    for opened in (index, open_index(str(folder))):
        found = {i: mark for rows in opened.scan() for i, mark in zip(rows.ids, rows.fingerprints, strict=True)}
        if done:
            assert found == {str(n): "1" if n >= 280 else "0" for n in range(20, 400)}
        else:
            assert found == {str(n): "0" for n in range(300)}
        opened.check()
        best = opened.search(drawn([120]).embeddings, 3)
        assert best.ids[0][0] == "120" and len(best.ids[0]) == 3
    assert index.upsert(drawn(range(280, 400), generation=1)).unchanged == (120 if done else 0)
    index.upsert(drawn([999]))  # whatever the killed one left is gone after the next change
    named = {"/".join(name.split("/")[:2]) for name in files_of(folder)}
    assert named == index.version.files() | {"index.json", "lock"}


def test_readers_beside_a_writer_see_whole_versions(tmp_path):
    """Every upsert changes all rows: a reader that sees two generations at once saw half a version."""
    folder = tmp_path / "i"
    made(folder, exact_below=100).upsert(drawn(range(150)))
    script = """
        index = open_index(sys.argv[2])
        for generation in range(1, 1000):
            index.upsert(drawn(range(150), generation=generation))
    """
    seen, query = set(), drawn([3]).embeddings
    with python(script, folder) as process:
        until = time.monotonic() + 6
        while time.monotonic() < until or len(seen) < 4:
            assert process.poll() is None
            with open_index(str(folder)) as fresh:
                generations = {mark for rows in fresh.scan() for mark in rows.fingerprints}
                assert len(generations) == 1 and len(fresh.search(query, 5).ids[0]) == 5
                seen |= generations
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert len(seen) >= 4
    with open_index(str(folder)) as index:
        index.check()
        assert len(index) == 150


def test_the_pointer_says_what_it_is(tmp_path):
    made(tmp_path / "i").upsert(drawn(range(3)))
    content = json.loads((tmp_path / "i" / "index.json").read_text())
    assert content["format"] == "afmrl-index" and content["rows"] == 3 and content["settings"]["model"] == MODEL
    content["version"] = 99
    (tmp_path / "i" / "index.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="is of format 99, this release reads 1"):
        Version.read(tmp_path / "i")
