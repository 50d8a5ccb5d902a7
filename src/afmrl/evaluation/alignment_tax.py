"""What same-product retrieval may cost elsewhere: coarse retrieval, classification and clustering by category."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from afmrl.evaluation.probing import cluster_embeddings, linear_probe
from afmrl.evaluation.significance import bootstrap_interval
from afmrl.retrieval.exact import top_k
from afmrl.retrieval.interval import Interval

COARSE_K = 10


def general_quality(
    queries: np.ndarray,
    gallery: np.ndarray,
    query_labels: Sequence[str],
    gallery_labels: Sequence[str],
    families: Sequence[str],
    *,
    seed: int = 0,
    num_resamples: int = 500,
) -> dict[str, Interval]:
    """Of embeddings that were trained for something finer (AFMRL calls the loss the alignment tax).

    "coarse precision@10": share of a query's ten best gallery offers that are of its category. "classification
    accuracy": a linear probe of the category on the queries, two folds of families, each predicted from the other.
    "nmi", "ari", "purity": k-means of the queries.

    Args:
        families: of the queries, the unit of folds and bootstrap.

    Shape:
        queries (Q, D), gallery (N, D), Q and N labels of at least two values, Q families.
    """
    wanted, offered = np.asarray(query_labels), np.asarray(gallery_labels)
    _, rows = top_k(queries, gallery, COARSE_K)
    coarse = (offered[rows] == wanted[:, None]).mean(axis=1)
    found = {"coarse precision@10": bootstrap_interval(coarse, families, num_resamples=num_resamples)}
    fold = np.unique(np.asarray(families), return_inverse=True)[1] % 2
    correct = np.zeros(len(queries))
    for held in (0, 1):
        train, test = np.flatnonzero(fold != held), np.flatnonzero(fold == held)
        if len(set(wanted[train])) > 1 and len(test):
            probe = linear_probe(
                queries[train], list(wanted[train]), queries[test], list(wanted[test]), num_resamples=1
            )
            correct[test] = probe.correct
    found["classification accuracy"] = bootstrap_interval(correct, families, num_resamples=num_resamples)
    clusters = cluster_embeddings(queries, list(wanted), families, seed=seed, num_resamples=num_resamples)
    return found | clusters.metrics
