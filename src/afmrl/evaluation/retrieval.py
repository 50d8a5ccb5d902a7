"""The result of one system on one set of queries; and the short form that a run's ladder is made of.

`afmrl.evaluation.protocols` scores a whole protocol; the two functions here only the four metrics of a ladder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from afmrl.evaluation.metrics import recall_at_k, reciprocal_rank
from afmrl.evaluation.significance import bootstrap_interval
from afmrl.retrieval.exact import ranks_of, ranks_of_scores, top_k, top_k_of_scores
from afmrl.retrieval.interval import Interval

KS = (1, 5, 10)


@dataclass(frozen=True)
class RetrievalResult:
    """One system on one set of queries."""

    metrics: dict[str, Interval]
    """Metric -> mean and 95 % interval over the queries that count; recall@1, recall@5, recall@10, mrr of a ladder."""
    per_query: dict[str, np.ndarray]
    """The same of all queries, (Q,) each."""
    ranks: np.ndarray
    """(Q,) rank of the best relevant offer, from 1; N + 1 where the gallery holds none."""
    hit_rows: np.ndarray
    """(Q, K) gallery rows, best first."""
    hit_scores: np.ndarray
    """(Q, K) their scores; −inf: no hit."""
    num_relevant: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    """(Q,) matches in the gallery, the query itself not counted; empty where they were not counted."""
    counted: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    """Rows of the queries that the means are over; empty where all are."""
    ties: Mapping[str, int] = field(default_factory=dict)
    """"queries": how many have equal scores whose order changes a metric; the same for each metric."""


def score_retrieval(
    queries: np.ndarray,
    gallery: np.ndarray,
    relevant: Sequence[np.ndarray],
    clusters: Sequence[str] | None = None,
    *,
    num_hits: int = 10,
    num_resamples: int = 2000,
) -> RetrievalResult:
    """Rank the gallery by dot product for every query.

    Shape:
        queries (Q, D), gallery (N, D), relevant: Q arrays of gallery rows, clusters: Q names.
    """
    scores, rows = top_k(queries, gallery, num_hits)
    return _result(ranks_of(queries, gallery, relevant), scores, rows, clusters, num_resamples)


def score_matrix(
    scores: np.ndarray,
    relevant: Sequence[np.ndarray],
    clusters: Sequence[str] | None = None,
    *,
    num_hits: int = 10,
    num_resamples: int = 2000,
) -> RetrievalResult:
    """As `score_retrieval`, of a whole score matrix (Q, N)."""
    scores = np.asarray(scores, dtype=np.float32)
    hit_scores, rows = top_k_of_scores(scores, num_hits)
    return _result(ranks_of_scores(scores, relevant), hit_scores, rows, clusters, num_resamples)


def _result(
    ranks: np.ndarray, scores: np.ndarray, rows: np.ndarray, clusters: Sequence[str] | None, num_resamples: int
) -> RetrievalResult:
    per_query = {f"recall@{k}": recall_at_k(ranks, k) for k in KS} | {"mrr": reciprocal_rank(ranks)}
    metrics = {
        name: bootstrap_interval(values, clusters, num_resamples=num_resamples) for name, values in per_query.items()
    }
    return RetrievalResult(metrics, per_query, ranks, rows, scores)
