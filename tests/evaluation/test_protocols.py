"""The protocols against ir_measures (pytrec_eval underneath) and against slow references written from the formulas."""

import itertools

import ir_measures
import numpy as np
import pytest
from ir_measures import AP, RR, R, Success, nDCG

from afmrl.errors import InputError
from afmrl.evaluation import ranking as ranking_module
from afmrl.evaluation.protocols import m5product_metrics, score_protocol, standard_metrics
from afmrl.evaluation.ranking import rank_gallery
from afmrl.retrieval.score_matrix import DenseScores, MatrixScores

Q, N = 40, 60


def graded(seed):
    """Scores with many ties, offers and whole queries that were not retrieved, graded relevance, queries without."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 12, (Q, N)).astype(np.float32)
    scores[rng.random((Q, N)) < 0.1] = -np.inf
    scores[3] = -np.inf  # a query that the run does not have
    grades = rng.integers(1, 4, (Q, N)) * (rng.random((Q, N)) < 0.08)
    grades[4] = 0  # a query that the qrels do not have
    grades[3, 5] = 2
    grades[6, :30] = 1  # more relevant offers than are counted one by one
    return scores, grades


def relevant_and_grades(grades):
    return [np.flatnonzero(row) for row in grades], [row[row > 0] for row in grades]


def by_ir_measures(scores, grades, rel):
    """Every metric a query; trec_eval puts the greater of two ids first, so the rows are named downwards."""
    names = [f"d{N - row:03d}" for row in range(N)]
    run = [
        ir_measures.ScoredDoc(f"q{q}", names[d], float(scores[q, d]))
        for q in range(Q) for d in range(N) if np.isfinite(scores[q, d])
    ]  # fmt: skip
    qrels = [ir_measures.Qrel(f"q{q}", names[d], int(grades[q, d])) for q in range(Q) for d in range(N) if grades[q, d]]
    measures = {f"recall@{k}": Success(rel=rel) @ k for k in (1, 5, 10)}
    measures |= {f"recall_fraction@{k}": R(rel=rel) @ k for k in (1, 5, 10)}
    measures |= {"mrr": RR(rel=rel), "map": AP(rel=rel), "ndcg@10": nDCG @ 10}
    found = {name: np.zeros(Q) for name in measures}
    of_measure = {str(measure): name for name, measure in measures.items()}
    for metric in ir_measures.iter_calc(measures.values(), qrels, run):
        found[of_measure[str(metric.measure)]][int(metric.query_id[1:])] = metric.value
    return found


@pytest.mark.parametrize("rel", [1, 2])
@pytest.mark.parametrize("seed", range(3))
def test_standard_equals_ir_measures_with_ties_missing_queries_and_grades(seed, rel):
    scores, grades = graded(seed)
    ranking = rank_gallery(MatrixScores(scores), *relevant_and_grades(grades))
    ours, theirs = standard_metrics(ranking, min_grade=rel), by_ir_measures(scores, grades, rel)
    for name, expected in theirs.items():
        np.testing.assert_allclose(ours[name], expected, rtol=1e-9, atol=1e-12, err_msg=name)
    for k in (1, 5, 10):
        np.testing.assert_array_equal(ours[f"hit_rate@{k}"], ours[f"recall@{k}"])
    assert 0 < theirs["recall@1"].mean() < theirs["recall@10"].mean() < 1  # nothing is trivially right
    assert not any(values[3] or values[4] for values in ours.values())


def test_the_means_are_those_of_the_queries_that_have_a_match():
    scores, grades = graded(0)
    relevant, values = relevant_and_grades(grades)
    result = score_protocol(MatrixScores(scores), relevant, grades=values, min_grade=2, num_resamples=50)
    matched = (grades >= 2).any(axis=1)
    assert not matched.all()
    np.testing.assert_array_equal(result.counted, np.flatnonzero(matched))
    np.testing.assert_array_equal(result.num_relevant, (grades >= 2).sum(axis=1))
    for name, expected in by_ir_measures(scores, grades, 2).items():
        assert result.metrics[name].mean == pytest.approx(expected[matched].mean(), abs=1e-12)
        assert result.metrics[name].low <= result.metrics[name].mean <= result.metrics[name].high
    assert result.ranks[3] == N + 1  # relevant, and not retrieved


def reference_m5product(scores, names, query_names, labels, query_labels):
    """METHOD's words, one query at a time, in float64: no code in common with the package."""
    found = []
    for row, name in enumerate(query_names):
        order = sorted(range(len(names)), key=lambda d: (-scores[row, d], names[d]))
        ten = [names[d] for d in order[:10]]
        ranked = [other for other in ten if other != name]
        relevant = {d for d, label in zip(names, labels, strict=True) if label == query_labels[row]} | {name}
        of_query = {}
        for n in (1, 5, 10):
            depth = min(n, len(relevant), len(ranked))
            hits = [other in relevant for other in ranked[:depth]]
            of_query[f"prec@{n}"] = sum(hits) / depth if depth else 0.0
            total = sum(sum(hits[: place + 1]) / (place + 1) for place in range(depth) if hits[place])
            of_query[f"map@{n}"] = total / sum(hits) if any(hits) else 0.0
            of_query[f"hit_rate@{n}"] = float(any(other in relevant for other in ranked[:n]))
            of_query[f"recall_fraction@{n}"] = sum(other in relevant for other in ranked[:n]) / len(relevant)
        found.append((of_query, len(ranked)))
    return {key: np.array([of_query[key] for of_query, _ in found]) for key in found[0][0]}, [n for _, n in found]


@pytest.mark.parametrize(("seed", "size", "num_labels"), [(0, 60, 12), (1, 60, 4), (2, 9, 3), (3, 60, 40), (4, 1, 1)])
def test_m5product_equals_a_reference_written_from_its_formulas(seed, size, num_labels):
    rng = np.random.default_rng(seed)
    names = [f"o{n:03d}" for n in range(size)]
    labels = rng.integers(num_labels, size=size)
    inside = rng.permutation(size)[: max(size // 2, 1)]  # queries that stand in the gallery, and ten that do not
    query_names = [names[n] for n in inside] + [f"x{n}" for n in range(10)]
    query_labels = np.concatenate([labels[inside], rng.integers(num_labels, size=10)])
    scores = rng.integers(0, 30, (len(query_names), size)).astype(np.float32)
    for row, own in enumerate(inside[::2]):
        scores[2 * row, own] = 30  # half of the queries find themselves first
    own_rows = np.array([*inside, *[-1] * 10])
    relevant = [np.flatnonzero(labels == label) for label in query_labels]
    ranking = rank_gallery(MatrixScores(scores), relevant, own_rows=own_rows)
    expected, lengths = reference_m5product(scores.astype(np.float64), names, query_names, labels, query_labels)
    ours = m5product_metrics(ranking)
    assert set(ours) == set(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(ours[name], values, rtol=1e-12, atol=1e-15, err_msg=name)
    result = score_protocol(MatrixScores(scores), relevant, protocol="m5product", own_rows=own_rows, num_resamples=20)
    assert np.isfinite(result.hit_scores).sum(axis=1).tolist() == lengths
    if size > 10:
        assert {9, 10} == set(lengths)  # the own offer went out after the ten were taken, here and not there
    for name, values in expected.items():
        assert result.metrics[name].mean == pytest.approx(values.mean(), abs=1e-12)  # all queries count


def test_the_oddities_of_m5product_by_hand():
    # own offer first, then wrong, right, right; the label has 3 others in the gallery, the last beyond the list
    scores = MatrixScores(np.array([[9, 8, 7, 6, *range(-10, 0), -20]], dtype=np.float32))
    result = m5product_metrics(rank_gallery(scores, [np.array([0, 2, 3, 14])], own_rows=np.array([0])))
    assert result["prec@1"] == result["map@1"] == 0
    assert result["map@5"] == pytest.approx((1 / 2 + 2 / 3) / 2)  # exceeds map@1
    assert result["prec@5"] == 2 / 4  # N' = 4 relevant, the query among them
    assert result["recall_fraction@10"] == 2 / 4
    assert result["hit_rate@1"] == 0 and result["hit_rate@5"] == 1


def test_standard_by_hand():
    scores = MatrixScores(np.array([[9, 8, 7, 6, 5]], dtype=np.float32))
    ranking = rank_gallery(scores, [np.array([0, 2, 3])], [np.array([1, 2, 1])], own_rows=np.array([0]))
    metrics = standard_metrics(ranking)
    assert metrics["mrr"] == 1 / 2  # the own offer is taken out first, and is not relevant
    assert metrics["map"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert metrics["recall_fraction@5"] == 1
    gain, ideal = 2 / np.log2(3) + 1 / np.log2(4), 2 + 1 / np.log2(3)
    assert metrics["ndcg@10"] == pytest.approx(gain / ideal)
    assert standard_metrics(ranking, min_grade=2)["map"] == 1 / 2


def same(ours, theirs):
    for name in ("query", "grade", "rank", "best", "worst", "own_rank", "hit_rows", "hit_scores"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name), err_msg=name)


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("hits", [1, 7, 100])
def test_embeddings_and_their_scores_are_ranked_alike(own, hits, monkeypatch):
    rng = np.random.default_rng(0)
    # whole numbers: every product is exact, and many are equal
    queries, gallery = rng.integers(-2, 3, (Q, 4)).astype(np.float32), rng.integers(-2, 3, (N, 4)).astype(np.float32)
    relevant = [rng.choice(N, int(rng.integers(0, 25)), replace=False) for _ in range(Q)]
    grades = [rng.integers(1, 4, len(rows)) for rows in relevant]
    own_rows = np.where(rng.random(Q) < 0.5, rng.integers(0, N, Q), -1) if own else None
    dense = rank_gallery(DenseScores(queries, gallery), relevant, grades, own_rows, num_hits=hits)
    whole = rank_gallery(MatrixScores(queries @ gallery.T), relevant, grades, own_rows, num_hits=hits)
    same(dense, whole)
    assert (whole.best < whole.worst).any()
    monkeypatch.setattr(ranking_module, "BLOCK_BYTES", 4 * N * 3)  # three queries at a time
    monkeypatch.setattr("afmrl.retrieval.score_matrix.COLUMNS", 7)
    same(rank_gallery(MatrixScores(queries @ gallery.T), relevant, grades, own_rows, num_hits=hits), whole)
    for few in (0, 100):  # one by one, and rows sorted
        monkeypatch.setattr(ranking_module, "FEW", few)
        same(rank_gallery(DenseScores(queries, gallery), relevant, grades, own_rows, num_hits=hits), whole)


def test_offers_with_the_same_embedding_tie_whatever_the_blocks(monkeypatch):
    rng = np.random.default_rng(0)
    half = rng.normal(size=(30, 33)).astype(np.float32)
    gallery = np.concatenate([half, half, rng.normal(size=(7, 33)).astype(np.float32)])
    queries = rng.normal(size=(Q, 33)).astype(np.float32)
    relevant = [np.arange(5)] * Q
    monkeypatch.setattr("afmrl.retrieval.score_matrix.COLUMNS", 11)
    for few in (0, 16):
        monkeypatch.setattr(ranking_module, "FEW", few)
        ranking = rank_gallery(DenseScores(queries, gallery), relevant)
        np.testing.assert_array_equal(ranking.worst - ranking.best, 1)
        np.testing.assert_array_equal(ranking.rank, ranking.best)  # its double has a higher row


@pytest.mark.parametrize("min_grade", [1, 2])
def test_ties_are_counted_where_another_order_of_equal_scores_changes_a_metric(min_grade):
    rng = np.random.default_rng(1)
    size = 6
    scores = rng.integers(0, 5, (30, size)).astype(np.float32)
    grades = rng.integers(0, 3, (30, size)) * (rng.random((30, size)) < 0.6)
    grades[:, 0] = 2
    result = score_protocol(MatrixScores(scores), *[relevant_and_grades(grades)[0]],
                            grades=relevant_and_grades(grades)[1], min_grade=min_grade, num_resamples=10)  # fmt: skip
    seen: dict[str, list[set]] = {name: [set() for _ in range(30)] for name in result.per_query}
    for order in map(list, itertools.permutations(range(size))):
        moved = relevant_and_grades(grades[:, order])
        metrics = standard_metrics(rank_gallery(MatrixScores(scores[:, order]), *moved), min_grade=min_grade)
        for name, values in metrics.items():
            for query, value in enumerate(values):
                seen[name][query].add(round(float(value), 10))
    expected = {name: sum(len(values) > 1 for values in of_metric) for name, of_metric in seen.items()}
    anywhere = sum(any(len(of_metric[query]) > 1 for of_metric in seen.values()) for query in range(30))
    assert dict(result.ties) == {"queries": anywhere, **expected}
    assert 0 < result.ties["recall@1"] < anywhere < 30


def test_equal_scores_stand_in_gallery_order():
    scores = MatrixScores(np.ones((1, 5)))
    ranking = rank_gallery(scores, [np.array([3])])
    assert (ranking.rank, ranking.best, ranking.worst) == (4, 1, 5)
    assert ranking.hit_rows.tolist() == [[0, 1, 2, 3, 4]]


def test_an_unknown_protocol_is_refused():
    with pytest.raises(InputError, match="protocol 'trec': one of standard, m5product"):
        score_protocol(MatrixScores(np.ones((1, 1))), [np.array([0])], protocol="trec")
