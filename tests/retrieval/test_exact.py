"""Against the slow way: sort everything, equal scores in gallery order."""

import importlib.util
import itertools
import json
import subprocess
import sys
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afmrl.errors import InputError
from afmrl.retrieval import exact, scores, sweep
from afmrl.retrieval.exact import ranks_of, ranks_of_scores, search, top_k, top_k_of_scores
from conftest import ROOT


def brute_order(scores):
    """Columns of one row of scores, best first, equal ones by column."""
    return sorted(range(len(scores)), key=lambda column: (-scores[column], column))


def brute(queries, gallery, k, relevant):
    """Scores, rows, ranks, and ranks and ties of every relevant row, from a float64 matrix and a sort."""
    matrix = (queries.astype(np.float64) @ gallery.astype(np.float64).T).astype(np.float32)
    orders = [brute_order(row) for row in matrix]
    rows = np.array([order[:k] for order in orders], dtype=np.int64).reshape(len(queries), min(k, len(gallery)))
    every = [[order.index(row) + 1 for row in rows] for order, rows in zip(orders, relevant, strict=True)]
    ties = [
        [int((values == values[row]).sum()) - 1 for row in rows] for values, rows in zip(matrix, relevant, strict=True)
    ]
    ranks = [min(one, default=len(gallery) + 1) for one in every]
    return np.take_along_axis(matrix, rows, axis=1), rows, ranks, sum(every, []), sum(ties, [])


def equal_to_brute(found, expected):
    best, rows, ranks, relevant_ranks, ties = expected
    np.testing.assert_array_equal(found.rows, rows)
    np.testing.assert_array_equal(found.scores, best)
    assert found.scores.dtype == np.float32 and found.rows.dtype == found.ranks.dtype == np.int64
    assert found.ranks.tolist() == ranks
    assert found.relevant_ranks.tolist() == relevant_ranks
    assert found.relevant_ties.tolist() == ties


def tied_embeddings(seed, num_queries, num_gallery):
    """Small whole numbers: dot products are exact, and many are equal."""
    rng = np.random.default_rng(seed)
    return (rng.integers(-2, 3, (n, 3)).astype(np.float32) for n in (num_queries, num_gallery))


def embeddings_of(kind, rng, num_queries, num_gallery, dim):
    """Pairs of embeddings in which float32 products come out in another order than the scores."""

    def unit(rows):
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    queries = unit(rng.standard_normal((num_queries, dim)) + 1e-3)
    gallery = unit(rng.standard_normal((num_gallery, dim)) + 1e-3)
    if kind == "tied":
        queries, gallery = (rng.integers(-1, 2, rows.shape).astype(np.float32) for rows in (queries, gallery))
    elif kind == "duplicates" and num_gallery:
        gallery = gallery[rng.integers(0, max(1, num_gallery // 5), num_gallery)]
    elif kind == "nearly equal" and num_gallery:
        # neighbors in float32: the scores differ by less than what a float32 product may err
        gallery = np.nextafter(gallery[:1], rng.integers(-1, 2, gallery.shape).astype(np.float32))
    elif kind == "missing" and num_gallery:
        queries[:: 1 + num_queries // 3] = 0
        gallery[:: 1 + num_gallery // 3] = 0
    elif kind == "lengths":
        queries *= np.float32(10.0) ** rng.integers(-3, 4, (num_queries, 1))
        gallery *= np.float32(10.0) ** rng.integers(-3, 4, (num_gallery, 1))
    return queries, gallery


KINDS = ["random", "tied", "duplicates", "nearly equal", "missing", "lengths"]


@contextmanager
def blocks(num_bytes, workers=1, exact_share=sweep.EXACT_SHARE):
    """Searches of blocks of so many bytes, on so many threads, that turn to float64 from such a share on."""

    @contextmanager
    def pool(_):
        with ThreadPoolExecutor(workers) as executor:
            yield workers, executor.map

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact, "BLOCK_BYTES", num_bytes)
        patch.setattr(sweep, "workers", pool)
        patch.setattr(sweep, "EXACT_SHARE", exact_share)
        patch.setattr(sweep, "MIN_FIRST_COLUMNS", 8)
        yield


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 10_000),
    num_queries=st.integers(0, 12),
    num_gallery=st.integers(0, 90),
    dim=st.sampled_from([1, 3, 16, 33]),
    k=st.integers(0, 100),
    num_bytes=st.sampled_from([1, 600, 4_000, 64_000_000]),
    workers=st.sampled_from([1, 3]),
    exact_share=st.sampled_from([0.0, 1 / 32, 1e9]),
)
def test_search_equals_sorting(kind, seed, num_queries, num_gallery, dim, k, num_bytes, workers, exact_share):
    rng = np.random.default_rng(seed)
    queries, gallery = embeddings_of(kind, rng, num_queries, num_gallery, dim)
    relevant = [rng.choice(num_gallery, rng.integers(0, min(4, num_gallery) + 1), replace=False) for _ in queries]
    expected = brute(queries, gallery, k, relevant)
    with blocks(num_bytes, workers, exact_share):
        equal_to_brute(search(queries, gallery, k, relevant), expected)
        np.testing.assert_array_equal(top_k(queries, gallery, k)[1], expected[1])
        assert ranks_of(queries, gallery, relevant).tolist() == expected[2]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("exact_share", [0.0, sweep.EXACT_SHARE, 1e9])
def test_blocks_threads_and_float64_change_no_bit(kind, exact_share):
    rng = np.random.default_rng(7)
    queries, gallery = embeddings_of(kind, rng, 60, 3000, 48)
    relevant = [rng.choice(3000, 2, replace=False) for _ in queries]
    whole = search(queries, gallery, 10, relevant)
    for num_bytes, workers in ((20_000, 1), (30_000, 4), (64_000_000, 2)):
        with blocks(num_bytes, workers, exact_share):
            found = search(queries, gallery, 10, relevant)
        for name, ours in vars(found).items():
            np.testing.assert_array_equal(ours, getattr(whole, name), err_msg=f"{name} {num_bytes} {workers}")
    # and each query alone
    alone = [search(queries[i : i + 1], gallery, 10, relevant[i : i + 1]) for i in range(60)]
    for name, ours in vars(whole).items():
        np.testing.assert_array_equal(np.concatenate([getattr(one, name) for one in alone]), ours)


def test_offers_of_one_embedding_have_one_score():
    """BLAS alone gives them different last bits: which columns of a block share a kernel depends on their place."""
    rng = np.random.default_rng(0)
    queries = rng.standard_normal((7, 100)).astype(np.float32)
    gallery = np.repeat(rng.standard_normal((1, 100)).astype(np.float32), 133, axis=0)
    found = search(queries, gallery, 133, [[132]] * 7)
    assert (found.rows == np.arange(133)).all()
    assert (found.scores == found.scores[:, :1]).all()
    assert found.ranks.tolist() == [133] * 7 and found.relevant_ties.tolist() == [132] * 7


def test_a_pair_has_one_score_however_many_are_asked_for():
    rng = np.random.default_rng(1)
    for dim in (1, 2, 7, 64, 100, 5000):
        queries, gallery = (rng.standard_normal((40, dim)).astype(np.float32) for _ in range(2))
        ours, theirs = np.divmod(np.arange(1600), 40)
        whole = scores.pair_scores(queries, gallery, ours, theirs)
        for places in (rng.permutation(1600), np.array([17]), np.arange(5, 900, 3)):
            np.testing.assert_array_equal(
                scores.pair_scores(queries, gallery, ours[places], theirs[places]), whole[places]
            )
        block = np.empty((40, 40), np.float32)
        scores.Embeddings.checked(queries, gallery).fill_exactly(block, 0, 0)
        np.testing.assert_array_equal(block.reshape(-1), whole)


def test_float64_blocks_agree_where_the_order_of_summing_decides():
    """Scores in the middle of two float32 numbers, but for what float64 loses of the rest."""
    rng = np.random.default_rng(8)
    rest = (rng.standard_normal((600, 100)) * 1e-10).astype(np.float32)
    rest = np.concatenate([rest, -rest], axis=1)
    gallery = np.concatenate([np.full((600, 1), 1.0), np.full((600, 1), 2.0**-24), rest], axis=1).astype(np.float32)
    gallery = rng.permuted(gallery, axis=1)
    queries = np.ones((3, 202), dtype=np.float32)
    ours, theirs = np.divmod(np.arange(1800), 600)
    expected = scores.pair_scores(queries, gallery, ours, theirs).reshape(3, 600)
    assert ((queries.astype(np.float64) @ gallery.astype(np.float64).T).astype(np.float32) != expected).any()
    block = np.empty((3, 600), np.float32)
    scores.Embeddings.checked(queries, gallery).fill_exactly(block, 0, 0)
    np.testing.assert_array_equal(block, expected)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int64])
def test_other_types_and_layouts(dtype):
    rng = np.random.default_rng(2)
    queries, gallery = ((rng.standard_normal((n, 24)) * 9).astype(dtype) for n in (20, 700))
    relevant = [rng.choice(700, 2, replace=False) for _ in queries]
    expected = brute(queries, gallery, 9, relevant)
    equal_to_brute(search(queries, gallery, 9, relevant), expected)
    equal_to_brute(search(np.asfortranarray(queries), gallery[::-1][::-1], 9, relevant), expected)
    with blocks(30_000):
        equal_to_brute(search(queries, gallery, 9, relevant), expected)


def test_a_gallery_that_gets_better_and_better():
    """Every block beats the ones before it: candidates have to make room again and again."""
    rng = np.random.default_rng(3)
    queries = np.abs(rng.standard_normal((9, 8))).astype(np.float32)
    gallery = np.linspace(0.1, 1, 4000, dtype=np.float32)[:, None] * np.ones(8, np.float32)
    relevant = [rng.choice(4000, 3, replace=False) for _ in queries]
    expected = brute(queries, gallery, 20, relevant)
    for num_bytes in (20_000, 64_000_000):
        for share in (sweep.EXACT_SHARE, 1e9):
            with blocks(num_bytes, exact_share=share):
                equal_to_brute(search(queries, gallery, 20, relevant), expected)


@pytest.mark.parametrize("kind", ["random", "duplicates", "nearly equal", "missing"])
def test_memory_is_bounded(kind):
    rng = np.random.default_rng(4)
    queries, gallery = embeddings_of(kind, rng, 300, 40_000, 16)
    relevant = [rng.choice(40_000, 2, replace=False) for _ in queries]
    result = 300 * 50 * 12
    for num_bytes in (4_000_000, 16_000_000):
        with blocks(num_bytes):
            search(queries[:5], gallery[:500], 50, relevant=[[0]] * 5)  # what is imported and kept counts for nobody
            tracemalloc.start()
            search(queries, gallery, 50, relevant)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        # the matrix has 48 MB; beside the blocks stand norms, and float64 rows of the few that are looked at again
        assert peak < 1.5 * num_bytes + result + 5_000_000


def test_threads_are_those_of_blas_and_are_given_back(monkeypatch):
    from threadpoolctl import ThreadpoolController

    monkeypatch.setattr(sweep, "SERIAL_FLOPS", 0)
    blas = ThreadpoolController().select(user_api="blas")
    queries, gallery = embeddings_of("random", np.random.default_rng(5), 40, 900, 8)
    seen = set()
    fill = scores.Embeddings.fill

    def watched(self, block, start, first):
        seen.add((threading.get_ident(), *{library["num_threads"] for library in blas.info()}))
        fill(self, block, start, first)

    monkeypatch.setattr(scores.Embeddings, "fill", watched)
    with blas.limit(limits=2):
        before = blas.info()
        found = search(queries, gallery, 3, [[0]] * 40)
        assert blas.info() == before
    assert all(threads == 1 and ident != threading.get_ident() for ident, threads in seen) and seen
    equal_to_brute(found, brute(queries, gallery, 3, [[0]] * 40))


def test_searches_in_several_threads_wait_for_each_other(monkeypatch):
    """Or one would take the other's single BLAS thread for what the process had, and leave it so."""
    from threadpoolctl import ThreadpoolController

    monkeypatch.setattr(sweep, "SERIAL_FLOPS", 0)
    blas = ThreadpoolController().select(user_api="blas")
    queries, gallery = embeddings_of("random", np.random.default_rng(6), 40, 9000, 32)
    order = []
    fill = scores.Embeddings.fill

    def watched(self, block, start, first):
        order.append(id(self))
        time.sleep(0.001)  # the others' turn
        fill(self, block, start, first)

    monkeypatch.setattr(scores.Embeddings, "fill", watched)
    with blas.limit(limits=2), ThreadPoolExecutor(4) as executor, pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact, "BLOCK_BYTES", 200_000)
        before = blas.info()
        found = list(executor.map(lambda _: top_k(queries, gallery, 5)[1], range(4)))
        assert blas.info() == before
    changes = sum(left != right for left, right in itertools.pairwise(order))
    assert len(order) > 40 and changes == 3
    for rows in found:
        np.testing.assert_array_equal(rows, brute(queries, gallery, 5, [[]] * 40)[1])


@pytest.mark.parametrize(
    ("queries", "gallery", "k", "relevant", "says"),
    [
        (np.ones((2, 3)), np.ones((4, 5)), 1, None, r"\(2, 3\) and gallery \(4, 5\)"),
        (np.ones(3), np.ones((4, 3)), 1, None, r"queries \(3,\)"),
        (np.ones((2, 3)), np.ones((4, 3)), -1, None, "k=-1"),
        (np.ones((2, 3)), np.ones((4, 3)), 1, [[0]], "1 lists of relevant offers for 2 queries"),
        (np.ones((2, 3)), np.ones((4, 3)), 1, [[0], [4]], "the gallery has 4 rows"),
        (np.ones((2, 3)), np.ones((4, 3)), 1, [[0], [-1]], "relevant rows -1 to 0"),
        (np.array([[1, 2], [np.nan, 1]]), np.ones((4, 2)), 1, None, "query embedding of row 1 is not finite"),
        (np.ones((1, 2)), np.array([[1, np.inf]]), 1, None, "gallery embedding of row 0 is not finite"),
        (np.full((1, 2), 1e30), np.ones((1, 2)), 1, None, "too long for float32"),
        (np.full((1, 2), 1e19), np.full((1, 2), 1e19), 1, None, "normalize"),
    ],
)
def test_what_cannot_be_searched_is_said(queries, gallery, k, relevant, says):
    with pytest.raises(InputError, match=says):
        search(queries, gallery, k, relevant)


def test_progress_is_shown_where_asked_for(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes the captured output for a terminal
    queries, gallery = tied_embeddings(0, 5, 30)
    search(queries, gallery, 3)
    assert capsys.readouterr() == ("", "")
    search(queries, gallery, 3, progress=True)
    out, err = capsys.readouterr()
    assert "Search" in err and out == ""


def test_import_is_light():
    code = "import sys, afmrl.retrieval.exact; print([m for m in ('torch', 'scipy', 'faiss') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("k", [1, 2, 7, 29, 30, 100])
def test_top_k_equals_sorting_with_ties(seed, k):
    queries, gallery = tied_embeddings(seed, 17, 30)
    scores, rows = top_k(queries, gallery, k)
    expected = np.array([brute_order(row)[:k] for row in queries @ gallery.T])
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_array_equal(scores, np.take_along_axis(queries @ gallery.T, expected, axis=1))
    assert scores.dtype == np.float32 and rows.dtype == np.int64
    assert any(len(set(row)) < len(row) for row in scores.tolist()) or k == 1


@pytest.mark.parametrize("seed", range(5))
def test_ranks_equal_sorting_with_ties(seed):
    queries, gallery = tied_embeddings(seed, 40, 30)
    rng = np.random.default_rng(seed)
    relevant = [rng.choice(30, rng.integers(0, 5), replace=False) for _ in range(40)]
    expected = []
    for row, columns in zip(queries @ gallery.T, relevant, strict=True):
        order = brute_order(row)
        expected.append(min((order.index(column) + 1 for column in columns), default=31))
    assert ranks_of(queries, gallery, relevant).tolist() == expected
    assert ranks_of_scores(queries @ gallery.T, relevant).tolist() == expected
    assert 31 in expected


def test_ranks_and_top_k_tell_the_same_story():
    queries, gallery = tied_embeddings(9, 50, 40)
    relevant = [np.array([number % 40]) for number in range(50)]
    rows = top_k(queries, gallery, 40)[1]
    ranks = ranks_of(queries, gallery, relevant)
    for row, rank, columns in zip(rows, ranks, relevant, strict=True):
        assert row[rank - 1] == columns[0]


def test_offers_that_are_masked_come_last():
    scores = np.array([[0.5, -np.inf, 0.7]])
    values, rows = top_k_of_scores(scores, 3)
    assert rows.tolist() == [[2, 0, 1]]
    assert values[0, -1] == -np.inf
    assert top_k_of_scores(scores, 2)[1].tolist() == [[2, 0]]


def test_no_queries():
    scores, rows = top_k(np.empty((0, 4), np.float32), np.ones((3, 4), np.float32), 2)
    assert scores.shape == rows.shape == (0, 2)
    assert ranks_of(np.empty((0, 4), np.float32), np.ones((3, 4), np.float32), []).shape == (0,)


@pytest.mark.slow
def test_the_benchmark_runs(tmp_path):
    out = tmp_path / "cost.json"
    command = [sys.executable, ROOT / "benchmarks" / "eval_cost.py", "--out", out]
    sizes = ["--queries", "60", "--gallery", "3000", "--dim", "64", "--rounds", "2"]
    subprocess.run([*command, *sizes], check=True, capture_output=True)
    found = json.loads(out.read_text(encoding="utf-8"))
    assert len(found["rounds"]) == 2 and {"afmrl", "semantic_search", "product"} <= set(found["of"])
    assert found["of"]["afmrl"]["peak_mb"]["median"] > 20
    ratio = found["ratios"]["product / afmrl"]["seconds"]
    assert 0 < ratio["lowest"] <= ratio["median"] <= ratio["highest"]
    queries, gallery, relevant = drawn(60, 3000, 64, tmp_path)
    expected = brute(queries, gallery, 100, relevant)
    firsts = np.array(expected[2])
    metrics = found["rounds"][0]["afmrl"]["metrics"]
    assert metrics["recall@5"] == round(float((firsts <= 5).mean()), 6)
    assert metrics["mrr"] == round(float((1 / firsts).mean()), 6)
    assert 0 < metrics["recall@1"] < 1


def drawn(num_queries, num_gallery, dim, folder):
    """The benchmark's embeddings and relevant rows."""
    spec = importlib.util.spec_from_file_location("eval_cost", ROOT / "benchmarks" / "eval_cost.py")
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    benchmark.draw(folder, num_queries, num_gallery, dim)
    table = np.load(folder / "relevant.npy")
    return np.load(folder / "queries.npy"), np.load(folder / "gallery.npy"), [row[row >= 0] for row in table]
