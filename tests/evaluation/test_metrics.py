"""Against ir_measures (pytrec_eval underneath): another implementation of every metric."""

import ir_measures
import numpy as np
import pytest
from ir_measures import RR, Success

from afmrl.evaluation.metrics import recall_at_k, reciprocal_rank
from afmrl.evaluation.retrieval import score_matrix, score_retrieval
from afmrl.retrieval.exact import ranks_of_scores

Q, N = 40, 60


@pytest.fixture(params=range(4))
def truth(request):
    """Scores (Q, N), graded qrels (Q, N) and, by ir_measures, every metric a query."""
    rng = np.random.default_rng(request.param)
    # distinct scores: how equal ones are ordered is each library's own affair, see test_exact.py
    scores = np.stack([rng.permutation(N) for _ in range(Q)]).astype(np.float32)
    grades = rng.integers(0, 4, (Q, N)) * (rng.random((Q, N)) < 0.08)
    grades[np.arange(Q), rng.integers(0, N, Q)] = 1
    run = [ir_measures.ScoredDoc(f"q{q}", f"d{d}", float(scores[q, d])) for q in range(Q) for d in range(N)]
    qrels = [ir_measures.Qrel(f"q{q}", f"d{d}", int(grades[q, d])) for q in range(Q) for d in range(N) if grades[q, d]]
    measures = [Success @ 1, Success @ 5, Success @ 10, RR, RR @ 5]
    found: dict[str, np.ndarray] = {str(measure): np.zeros(Q) for measure in measures}
    for metric in ir_measures.iter_calc(measures, qrels, run):
        found[str(metric.measure)][int(metric.query_id[1:])] = metric.value
    return scores, grades, found


def relevant_of(grades):
    return [np.flatnonzero(row) for row in grades]


def test_hit_rate_and_reciprocal_rank(truth):
    scores, grades, expected = truth
    ranks = ranks_of_scores(scores, relevant_of(grades))
    for k in (1, 5, 10):
        np.testing.assert_array_equal(recall_at_k(ranks, k), expected[f"Success@{k}"])
    np.testing.assert_allclose(reciprocal_rank(ranks), expected["RR"], rtol=1e-12)
    np.testing.assert_allclose(reciprocal_rank(ranks, 5), expected["RR@5"], rtol=1e-12)
    assert 0 < expected["Success@1"].mean() < expected["Success@10"].mean() < 1


def test_the_means_of_a_whole_ranking(truth):
    scores, grades, expected = truth
    result = score_matrix(scores, relevant_of(grades), num_resamples=50)
    for name, theirs in (
        ("recall@1", "Success@1"),
        ("recall@5", "Success@5"),
        ("recall@10", "Success@10"),
        ("mrr", "RR"),
    ):
        assert result.metrics[name].mean == pytest.approx(expected[theirs].mean(), rel=1e-12)
        assert result.metrics[name].low <= result.metrics[name].mean <= result.metrics[name].high
        np.testing.assert_allclose(result.per_query[name], expected[theirs], rtol=1e-12)
    assert result.hit_rows.shape == (Q, 10)


def test_embeddings_and_their_score_matrix_give_the_same_result():
    rng = np.random.default_rng(0)
    queries, gallery = (rng.normal(size=(n, 8)).astype(np.float32) for n in (30, 50))
    relevant = [rng.choice(50, 2, replace=False) for _ in range(30)]
    ours, theirs = score_retrieval(queries, gallery, relevant), score_matrix(queries @ gallery.T, relevant)
    assert ours.metrics == theirs.metrics
    np.testing.assert_array_equal(ours.hit_rows, theirs.hit_rows)


def test_a_query_without_a_match_counts_as_missed():
    result = score_matrix(np.array([[0.9, 0.1], [0.9, 0.1]]), [np.array([0]), np.array([], dtype=int)])
    assert result.ranks.tolist() == [1, 3]
    assert result.metrics["recall@1"].mean == 0.5
