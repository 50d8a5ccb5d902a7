"""Retrieval metrics, one number a query: means and intervals are made of these."""

from __future__ import annotations

import numpy as np


def recall_at_k(ranks: np.ndarray, k: int) -> np.ndarray:
    """1 where a relevant offer stands in the top k, else 0: the hit rate that papers on this task call Recall@k.

    Shape:
        ranks (Q,) of the best relevant offer, from 1; returns (Q,) float64.

    >>> recall_at_k(np.array([1, 3, 7]), 5).tolist()
    [1.0, 1.0, 0.0]
    """
    return (np.asarray(ranks) <= k).astype(np.float64)


def reciprocal_rank(ranks: np.ndarray, k: int | None = None) -> np.ndarray:
    """1 / rank of the best relevant offer, 0 beyond k.

    >>> reciprocal_rank(np.array([1, 4])).tolist()
    [1.0, 0.25]
    """
    values = 1.0 / np.asarray(ranks, dtype=np.float64)
    return values if k is None else np.where(np.asarray(ranks) <= k, values, 0.0)


def recall_fraction_at_k(grades: np.ndarray, num_relevant: np.ndarray, k: int) -> np.ndarray:
    """|relevant in the top k| / |relevant|, trec's recall.

    Shape:
        grades (Q, K) of the hits in order, 0 not relevant; num_relevant (Q,); returns (Q,).
    """
    return (grades[:, :k] > 0).sum(axis=1) / np.maximum(num_relevant, 1)


def average_precision(grades: np.ndarray, num_relevant: np.ndarray) -> np.ndarray:
    """Mean over all relevant offers of the precision at their ranks; those that are no hit count 0.

    Shape:
        grades (Q, K) of the hits in order; num_relevant (Q,); returns (Q,).
    """
    found = grades > 0
    precision = np.cumsum(found, axis=1) / np.arange(1, grades.shape[1] + 1)
    return (precision * found).sum(axis=1) / np.maximum(num_relevant, 1)


def ndcg_at_k(grades: np.ndarray, ideal_grades: np.ndarray, k: int) -> np.ndarray:
    """Normalised discounted cumulative gain with the grade as gain and log2(rank + 1) as discount.

    Shape:
        grades (Q, K) of the hits in order; ideal_grades (Q, R) all grades of the query's offers, falling, padded
        with 0.
    """

    def gain(values: np.ndarray) -> np.ndarray:
        values = values[:, :k]
        return (values / np.log2(np.arange(2, values.shape[1] + 2))).sum(axis=1)

    ideal = gain(ideal_grades)
    return np.where(ideal > 0, gain(grades) / np.maximum(ideal, 1e-12), 0.0)
