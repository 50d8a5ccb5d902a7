"""Metrics of the first match's rank, one number a query; those of all matches are the protocols'."""

from __future__ import annotations

import numpy as np


def recall_at_k(ranks: np.ndarray, k: int) -> np.ndarray:
    """1 where a relevant offer is in the top k, else 0: the hit rate that papers on this task call Recall@k.

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
