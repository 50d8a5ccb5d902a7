"""Against the slow way: sort everything, equal scores in gallery order."""

import numpy as np
import pytest

from afmrl.retrieval import exact
from afmrl.retrieval.exact import ranks_of, ranks_of_scores, top_k, top_k_of_scores


def brute_order(scores):
    """Columns of one row of scores, best first, equal ones by column."""
    return sorted(range(len(scores)), key=lambda column: (-scores[column], column))


def tied_embeddings(seed, num_queries, num_gallery):
    """Small whole numbers: dot products are exact, and many are equal."""
    rng = np.random.default_rng(seed)
    return (rng.integers(-2, 3, (n, 3)).astype(np.float32) for n in (num_queries, num_gallery))


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


def test_blocks_change_nothing(monkeypatch):
    queries, gallery = tied_embeddings(3, 23, 30)
    relevant = [np.array([number % 30, (number + 7) % 30]) for number in range(23)]
    whole = (*top_k(queries, gallery, 5), ranks_of(queries, gallery, relevant))
    monkeypatch.setattr(exact, "BLOCK_BYTES", 4 * 30 * 4)  # four queries at a time; the last block holds three
    for ours, theirs in zip((*top_k(queries, gallery, 5), ranks_of(queries, gallery, relevant)), whole, strict=True):
        np.testing.assert_array_equal(ours, theirs)


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
