"""The two named protocols: which queries count, what is relevant, and the formulas of the metrics.

Both read a `Ranking`: for every query the rank of every relevant offer, its own offer taken out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, get_args

import numpy as np

from afmrl.errors import InputError
from afmrl.evaluation.ranking import Ranking, TieOrder, rank_gallery
from afmrl.evaluation.retrieval import KS, RetrievalResult
from afmrl.evaluation.significance import bootstrap_intervals
from afmrl.retrieval.score_matrix import ScoreMatrix

ProtocolName = Literal["standard", "m5product"]
NDCG_K = 10
M5_DEPTH = 10
"""Hits that the m5product protocol takes before it removes the query's own offer."""
SAME = 1e-12  # two orders of equal scores whose metric differs by less agree


def standard_metrics(ranking: Ranking, *, min_grade: float = 1, order: TieOrder = "id") -> dict[str, np.ndarray]:
    """The metrics of information retrieval, as trec_eval defines them; one number a query.

    The query's own offer is removed first; equal scores are in the order of their ids (smaller id first; trec_eval
    puts the greater id first). With R the relevant offers of a query (grade ≥ `min_grade`), r₁ < r₂ < … their ranks:

    - `recall@k` = `hit_rate@k` = 1 if r₁ ≤ k else 0 (trec_eval: success_k). Papers on this task call it Recall@k.
    - `recall_fraction@k` = |{j: r_j ≤ k}| / |R| (trec_eval: recall_k).
    - `mrr` = 1 / r₁, `map` = Σ_j (j / r_j) / |R|: average precision over all relevant offers, however deep.
    - `ndcg@10` = DCG / ideal DCG with DCG = Σ_{rank ≤ 10} grade / log₂(rank + 1); every grade above 0 gains, also one
      below `min_grade` (Järvelin and Kekäläinen 2002, in trec_eval's form: the gain is the grade itself).

    Shape:
        returns metric -> (Q,) float64; a query without a relevant offer has 0 everywhere.
    """
    queries = ranking.num_queries
    rank, grade, of_query = ranking.ranks(order), ranking.grade, ranking.query
    matches = grade >= min_grade
    query, ranks, num_relevant = _rising(of_query[matches], rank[matches], queries)
    place = 1 + np.arange(len(query)) - (np.cumsum(num_relevant) - num_relevant)[query]
    first = _first_ranks(query, ranks, queries)
    metrics: dict[str, np.ndarray] = {}
    for k in KS:
        metrics[f"recall@{k}"] = (first <= k).astype(np.float64)
    for k in KS:
        metrics[f"hit_rate@{k}"] = metrics[f"recall@{k}"]
    for k in KS:
        metrics[f"recall_fraction@{k}"] = _sums(query, ranks <= k, queries) / np.maximum(num_relevant, 1)
    metrics["mrr"] = 1 / first
    metrics["map"] = _sums(query, place / ranks, queries) / np.maximum(num_relevant, 1)
    gain = _sums(of_query, np.where(rank <= NDCG_K, grade / np.log2(rank + 1), 0.0), queries)
    falling = np.lexsort((-grade, of_query))
    counts = np.bincount(of_query, minlength=queries)
    ideal_place = 1 + np.arange(len(falling)) - (np.cumsum(counts) - counts)[of_query[falling]]
    ideal_gain = np.where(ideal_place <= NDCG_K, grade[falling] / np.log2(ideal_place + 1), 0.0)
    ideal = _sums(of_query[falling], ideal_gain, queries)
    metrics[f"ndcg@{NDCG_K}"] = np.where(ideal > 0, gain / np.where(ideal > 0, ideal, 1.0), 0.0)
    return metrics


def m5product_metrics(ranking: Ranking, *, min_grade: float = 1, order: TieOrder = "id") -> dict[str, np.ndarray]:
    """The metrics of M5Product, as the SCALE release computes them, its oddities included; one number a query.

    The gallery is ranked by score and cut after the 10 first; only then the query's own offer is removed, so a list L
    may hold 9. Relevant are the offers of the query's label, *the query itself counted*: |R| = 1 + the others in the
    gallery. With N ∈ {1, 5, 10} and N' = min(N, |R|, |L|):

    - `prec@N` = hits in the first N' of L / N'.
    - `map@N`: AP@N = Σ over the hits in the first N' (hits so far / rank) / (hits in the first N'), 0 without a hit. It
      is divided by what was found, not by what there was to find: map@5 may exceed map@1, and map@1 = prec@1.
    - `hit_rate@N` = 1 if a hit is among the first N of L, else 0; `recall_fraction@N` = |R ∩ first N of L| / |R|.
      Neither is part of the release, which defines no Recall@N; since R counts the query, the fraction stays below 1.

    Every query counts, one that has no match as 0. Where L is empty (a gallery of the query alone), all are 0.

    Sources: Dong et al., M5Product (CVPR 2022), and the evaluation scripts of its release, SCALE.

    Shape:
        returns metric -> (Q,) float64.
    """
    queries = ranking.num_queries
    matches = ranking.grade >= min_grade
    query, ranks, others = _rising(ranking.query[matches], ranking.ranks(order)[matches], queries)
    length = m5product_list_lengths(ranking)
    num_relevant = others + 1
    listed = ranks <= length[query]
    place = 1 + np.arange(len(query)) - (np.cumsum(others) - others)[query]
    first = np.where(_first_ranks(query, ranks, queries) <= length, _first_ranks(query, ranks, queries), np.inf)
    metrics: dict[str, np.ndarray] = {}
    for n in KS:
        depth = np.minimum(np.minimum(n, num_relevant), length)
        within = listed & (ranks <= depth[query])
        found = _sums(query, within, queries)
        metrics[f"prec@{n}"] = found / np.maximum(depth, 1)
        metrics[f"map@{n}"] = _sums(query, np.where(within, place / ranks, 0.0), queries) / np.maximum(found, 1)
    for n in KS:
        metrics[f"hit_rate@{n}"] = (first <= n).astype(np.float64)
    for n in KS:
        metrics[f"recall_fraction@{n}"] = _sums(query, listed & (ranks <= n), queries) / num_relevant
    return metrics


def m5product_list_lengths(ranking: Ranking) -> np.ndarray:
    """(Q,) |L|: the 10 first of the gallery (all of a smaller one) less the query's own offer where it is of them."""
    return np.minimum(M5_DEPTH, ranking.num_gallery) - (ranking.own_rank <= M5_DEPTH)


PROTOCOLS: Mapping[str, Callable[..., dict[str, np.ndarray]]] = {
    "standard": standard_metrics,
    "m5product": m5product_metrics,
}
"""Protocol name -> its metrics of a `Ranking`."""
SHOWN_METRICS: Mapping[str, tuple[str, ...]] = {
    "standard": ("recall@1", "recall@5", "recall@10", "mrr", "map", "ndcg@10"),
    "m5product": ("map@1", "map@5", "map@10", "prec@5", "prec@10", "hit_rate@1", "hit_rate@10"),
}
"""What a table shows of each protocol; metrics.json holds all."""


def score_protocol(
    scores: ScoreMatrix,
    relevant: Sequence[np.ndarray],
    *,
    protocol: ProtocolName | str = "standard",
    grades: Sequence[np.ndarray] | None = None,
    min_grade: float = 1,
    own_rows: np.ndarray | None = None,
    clusters: Sequence[str] | None = None,
    num_hits: int = 100,
    num_resamples: int = 2000,
) -> RetrievalResult:
    """Rank the gallery and score it under a protocol, with 95 % bootstrap intervals.

    The means of "standard" are over the queries that have a match in the gallery, those of "m5product" over all.

    Args:
        scores: (Q, N).
        relevant, grades, own_rows: as in `rank_gallery`.
        min_grade: grade from which a pair is a match.
        clusters: Q names; queries of one cluster (product, family) are drawn together. None: each by itself.

    Raises:
        InputError: an unknown protocol.
    """
    if protocol not in PROTOCOLS:
        raise InputError(f"protocol {protocol!r}: one of {', '.join(get_args(ProtocolName))}")
    ranking = rank_gallery(scores, relevant, grades, own_rows, num_hits=num_hits)
    matches = ranking.grade >= min_grade
    num_relevant = np.bincount(ranking.query[matches], minlength=ranking.num_queries)
    per_query = PROTOCOLS[protocol](ranking, min_grade=min_grade)
    counted = np.flatnonzero(num_relevant) if protocol == "standard" else np.arange(ranking.num_queries)
    first = _first_ranks(ranking.query[matches], ranking.rank[matches], ranking.num_queries)
    hit_scores = ranking.hit_scores.copy()
    if protocol == "m5product":  # the list that is measured, and no hit beyond it
        beyond = np.arange(hit_scores.shape[1]) >= m5product_list_lengths(ranking)[:, None]
        hit_scores[beyond] = -np.inf
    return RetrievalResult(
        metrics=bootstrap_intervals(
            {name: values[counted] for name, values in per_query.items()},
            [clusters[row] for row in counted.tolist()] if clusters is not None else None,
            num_resamples=num_resamples,
        ),
        per_query=per_query,
        ranks=np.where(np.isfinite(first), first, ranking.num_gallery + 1).astype(np.int64),
        hit_rows=ranking.hit_rows,
        hit_scores=hit_scores,
        num_relevant=num_relevant,
        counted=counted,
        ties=_ties(ranking, protocol, min_grade, counted),
    )


def _ties(ranking: Ranking, protocol: str, min_grade: float, counted: np.ndarray) -> dict[str, int]:
    """ "queries": how many of them have equal scores whose order changes a metric; and the same for each metric."""
    best, worst = (PROTOCOLS[protocol](ranking, min_grade=min_grade, order=order) for order in ("best", "worst"))
    touched = {name: np.abs(best[name] - worst[name])[counted] > SAME for name in best}
    anywhere = np.any(list(touched.values()), axis=0)
    return {"queries": int(anywhere.sum())} | {name: int(of_metric.sum()) for name, of_metric in touched.items()}


def _rising(query: np.ndarray, ranks: np.ndarray, num_queries: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Queries and ranks sorted by both, and how many there are of each query (Q,)."""
    order = np.lexsort((ranks, query))
    return query[order], ranks[order], np.bincount(query, minlength=num_queries)


def _first_ranks(query: np.ndarray, ranks: np.ndarray, num_queries: int) -> np.ndarray:
    """(Q,) the lowest rank of each query, inf where it has none."""
    first = np.full(num_queries, np.inf)
    np.minimum.at(first, query, ranks)
    return first


def _sums(query: np.ndarray, values: np.ndarray, num_queries: int) -> np.ndarray:
    """(Q,) the sum of the values of each query."""
    return np.bincount(query, weights=np.asarray(values, dtype=np.float64), minlength=num_queries)
