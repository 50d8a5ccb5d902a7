"""Probes of frozen embeddings: a linear classifier and k-means, both of the category."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from afmrl.evaluation.significance import bootstrap_interval
from afmrl.retrieval.interval import Interval

PROBE_C = 1.0
MAX_ITERATIONS = 2000
NUM_STARTS = 10


@dataclass(frozen=True)
class ProbeResult:
    """What a linear probe got right."""

    accuracy: Interval
    correct: np.ndarray
    """(N,) 1.0 or 0.0 of each test offer."""
    predicted: Sequence[str]
    num_train: int
    num_classes: int
    """Classes of the training offers."""
    num_unseen: int
    """Test offers whose class the training offers do not have: they count as wrong."""


def linear_probe(
    train: np.ndarray,
    train_labels: Sequence[str],
    test: np.ndarray,
    test_labels: Sequence[str],
    clusters: Sequence[str] | None = None,
    *,
    num_resamples: int = 2000,
) -> ProbeResult:
    """Accuracy of multinomial logistic regression on frozen embeddings (scikit-learn's LogisticRegression, L2).

    The columns are first brought to mean 0 and variance 1 on the training offers, divided by √D so that a row keeps
    a length of about 1; C = 1. The interval is a percentile bootstrap over clusters of the test offers; the probe
    is not trained anew.

    Args:
        clusters: names of the test offers' products (or families), drawn together.

    Shape:
        train (M, D) with M labels, test (N, D) with N labels; at least two classes in training.

    >>> rows = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]])
    >>> linear_probe(rows, ["a", "a", "b", "b"], rows[[0, 3]], ["a", "b"]).accuracy.mean
    1.0
    """
    from sklearn.linear_model import LogisticRegression

    mean, deviation = train.mean(axis=0), train.std(axis=0)
    unit = np.where(deviation > 0, deviation, 1.0) * np.sqrt(train.shape[1])
    model = LogisticRegression(C=PROBE_C, max_iter=MAX_ITERATIONS)
    model.fit((train - mean) / unit, list(train_labels))
    predicted = [str(label) for label in model.predict((test - mean) / unit)]
    correct = np.array([ours == theirs for ours, theirs in zip(predicted, test_labels, strict=True)], dtype=np.float64)
    known = set(train_labels)
    return ProbeResult(
        bootstrap_interval(correct, clusters, num_resamples=num_resamples),
        correct,
        predicted,
        len(train_labels),
        len(known),
        sum(label not in known for label in test_labels),
    )


@dataclass(frozen=True)
class ClusteringResult:
    """How far k-means finds the classes."""

    metrics: dict[str, Interval]
    """nmi, ari, purity."""
    assignment: np.ndarray
    """(N,) int64 cluster of each offer."""
    num_classes: int


def cluster_embeddings(
    embeddings: np.ndarray,
    labels: Sequence[str],
    clusters: Sequence[str] | None = None,
    *,
    seed: int = 0,
    num_resamples: int = 2000,
) -> ClusteringResult:
    """k-means with k = number of classes (k-means++, the best of 10 starts, seeded), scored by NMI, ARI and purity.

    Intervals: bootstrap over products (or families) of the *fixed* assignment; neither the clustering nor its seed is
    drawn anew. An offer that is drawn twice agrees with itself, which lifts all three; the percentiles are therefore
    moved by the bootstrap's bias (mean of the resamples − estimate).

    Args:
        labels: the class of each offer, two or more different ones.
        clusters: names of the offers' products (or families), drawn together.

    Shape:
        embeddings (N, D), N labels.
    """
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    names, classes = np.unique(np.asarray(labels), return_inverse=True)
    kmeans = KMeans(n_clusters=len(names), n_init=NUM_STARTS, random_state=seed)
    with threadpool_limits(1, user_api="openmp"):  # several threads add up in an order of their own
        assignment = np.asarray(kmeans.fit_predict(np.asarray(embeddings, dtype=np.float64)), dtype=np.int64)
    return ClusteringResult(
        clustering_intervals(assignment, classes, clusters, num_resamples=num_resamples), assignment, len(names)
    )


def clustering_intervals(
    assignment: np.ndarray, classes: np.ndarray, clusters: Sequence[str] | None = None, *, num_resamples: int = 2000
) -> dict[str, Interval]:
    """nmi, ari and purity of an assignment, with the intervals of `cluster_embeddings`.

    Shape:
        assignment, classes (N,) int.
    """
    size = (int(assignment.max()) + 1, int(classes.max()) + 1)
    cells = assignment * size[1] + classes
    units = np.arange(len(cells)) if clusters is None else np.unique(np.asarray(clusters), return_inverse=True)[1]
    num_units = int(units.max()) + 1

    def table(weights: np.ndarray | None) -> np.ndarray:
        return np.bincount(cells, weights, minlength=size[0] * size[1]).astype(np.float64).reshape(size)

    point = {name: measure(table(None)) for name, measure in CLUSTER_METRICS.items()}
    draw = np.random.default_rng(0)
    found: dict[str, list[float]] = {name: [] for name in CLUSTER_METRICS}
    for _ in range(num_resamples):
        times = np.bincount(draw.integers(num_units, size=num_units), minlength=num_units)
        resampled = table(times[units])
        for name, measure in CLUSTER_METRICS.items():
            found[name].append(measure(resampled))
    intervals = {}
    for name, estimate in point.items():
        values = np.array(found[name])
        low, high = np.quantile(values, [0.025, 0.975]) - (values.mean() - estimate)
        lowest = -1.0 if name == "ari" else 0.0
        intervals[name] = Interval(estimate, float(np.clip(low, lowest, 1.0)), float(np.clip(high, lowest, 1.0)))
    return intervals


def purity(table: np.ndarray) -> float:
    """(1/N) Σ_clusters max_class |cluster ∩ class|, as M5Product defines it.

    Shape:
        table (clusters, classes): how many offers of each class a cluster holds.

    >>> purity(np.array([[3, 1], [0, 4]]))
    0.875
    """
    return float(table.max(axis=1).sum() / table.sum())


def nmi(table: np.ndarray) -> float:
    """Normalized mutual information, by the arithmetic mean of both entropies (scikit-learn's default).

    >>> round(nmi(np.array([[3, 1], [0, 4]])), 6)
    0.56159
    """
    joint = table / table.sum()
    rows, columns = joint.sum(axis=1), joint.sum(axis=0)
    entropies = [-float((p[p > 0] * np.log(p[p > 0])).sum()) for p in (rows, columns)]
    if not any(entropies):
        return 1.0  # one cluster and one class
    filled = joint > 0
    mutual = float((joint[filled] * np.log(joint[filled] / np.outer(rows, columns)[filled])).sum())
    return max(0.0, mutual / (sum(entropies) / 2))


def ari(table: np.ndarray) -> float:
    """Adjusted Rand index (Hubert and Arabie 1985).

    >>> round(ari(np.array([[3, 1], [0, 4]])), 6)
    0.494845
    """

    def pairs(counts: np.ndarray) -> float:
        return float((counts * (counts - 1)).sum() / 2)

    both, rows, columns = pairs(table), pairs(table.sum(axis=1)), pairs(table.sum(axis=0))
    total = pairs(table.sum(keepdims=True))
    expected = rows * columns / total if total else 0.0
    highest = (rows + columns) / 2
    return 1.0 if highest == expected else (both - expected) / (highest - expected)


CLUSTER_METRICS: dict[str, Callable[[np.ndarray], float]] = {"nmi": nmi, "ari": ari, "purity": purity}
