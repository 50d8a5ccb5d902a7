"""How sure a number is: bootstrap over queries, families, seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from afmrl.retrieval.interval import Interval

DRAWS_AT_ONCE = 20_000_000  # numbers of a resampling matrix held at a time
EXACT_FLIPS = 12  # clusters whose signs are flipped in every way; of more, some flips are drawn


def bootstrap_interval(
    values: np.ndarray,
    clusters: Sequence[str] | None = None,
    *,
    num_resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Percentile bootstrap of a mean; whole clusters (families of siblings) are drawn, because their queries agree.

    Shape:
        values (Q,); clusters: Q names, or None where queries are independent.
    """
    values = np.asarray(values, dtype=np.float64)
    if not len(values):
        return Interval(float("nan"), float("nan"), float("nan"))
    sums, counts = _by_cluster(values[None, :], clusters)
    means = _resampled_means(sums, counts, num_resamples, np.random.default_rng(seed))
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(values.mean()), float(low), float(high))


def bootstrap_intervals(
    per_query: Mapping[str, np.ndarray],
    clusters: Sequence[str] | None = None,
    *,
    num_resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Interval]:
    """`bootstrap_interval` of several metrics of the same queries; each resample is drawn once for all of them.

    Shape:
        per_query: metric -> (Q,); clusters: Q names, or None where queries are independent.
    """
    if not per_query:
        return {}
    values = np.stack([np.asarray(of_metric, dtype=np.float64) for of_metric in per_query.values()])  # (M, Q)
    if not values.shape[1]:
        return {name: Interval(float("nan"), float("nan"), float("nan")) for name in per_query}
    means = _resampled_together(values, clusters, num_resamples, np.random.default_rng(seed))
    ends = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return {
        name: Interval(float(of_metric.mean()), float(low), float(high))
        for name, of_metric, low, high in zip(per_query, values, *ends, strict=True)
    }


def bootstrap_seeds(
    values: np.ndarray,
    clusters: Sequence[str] | None = None,
    *,
    num_resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """The mean over seeds and queries; both the seeds and the clusters are drawn anew in each resample.

    Shape:
        values (S, Q): the same queries under S trainings (a difference of two rungs, say).
    """
    values = np.asarray(values, dtype=np.float64)
    means = _resampled_over_seeds(values, clusters, num_resamples, seed)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(values.mean()), float(low), float(high))


@dataclass(frozen=True, slots=True)
class PairedTest:
    """Difference of two systems on the same queries."""

    difference: Interval
    p_value: float
    """Two-sided: how often the resampled difference lies on the other side of 0, doubled."""


def paired_bootstrap(
    ours: np.ndarray,
    theirs: np.ndarray,
    clusters: Sequence[str] | None = None,
    *,
    num_resamples: int = 2000,
    seed: int = 0,
) -> PairedTest:
    """Bootstrap of mean(ours − theirs).

    Shape:
        ours, theirs (Q,): one number a query of each system.
    """
    difference = np.asarray(ours, dtype=np.float64) - np.asarray(theirs, dtype=np.float64)
    sums, counts = _by_cluster(difference[None, :], clusters)
    means = _resampled_means(sums, counts, num_resamples, np.random.default_rng(seed))
    return _tested(difference, means)


def paired_bootstraps(
    ours: Mapping[str, np.ndarray],
    theirs: Mapping[str, np.ndarray],
    clusters: Sequence[str] | None = None,
    *,
    num_resamples: int = 2000,
    seed: int = 0,
) -> dict[str, PairedTest]:
    """`paired_bootstrap` of every metric of `ours`; each resample is drawn once for all of them.

    Shape:
        ours, theirs: metric -> (Q,), Q at least 1.
    """
    if not ours:
        return {}
    values = np.stack([np.asarray(ours[m], dtype=np.float64) - np.asarray(theirs[m], dtype=np.float64) for m in ours])
    means = _resampled_together(values, clusters, num_resamples, np.random.default_rng(seed))
    return {metric: _tested(values[place], means[:, place]) for place, metric in enumerate(ours)}


def paired_bootstrap_seeds(
    ours: np.ndarray,
    theirs: np.ndarray,
    clusters: Sequence[str] | None = None,
    *,
    num_resamples: int = 2000,
    seed: int = 0,
) -> PairedTest:
    """Bootstrap of mean(ours − theirs) over seeds and clusters; row s of both was trained with the same seed.

    Shape:
        ours, theirs (S, Q).
    """
    difference = np.asarray(ours, dtype=np.float64) - np.asarray(theirs, dtype=np.float64)
    return _tested(difference, _resampled_over_seeds(difference, clusters, num_resamples, seed))


def sign_flip_p_value(
    ours: np.ndarray,
    theirs: np.ndarray,
    clusters: Sequence[str] | None = None,
    *,
    num_flips: int = 9_999,
    seed: int = 0,
) -> float:
    """Two-sided p of mean(ours − theirs) where either sign of each cluster's difference was as likely (Fisher 1935).

    Exact but for the number of flips that are drawn, also where clusters are few: five cannot reach 0.05.

    Shape:
        ours, theirs (Q,): one number a query of each system.

    >>> ones = np.ones(6)
    >>> sign_flip_p_value(ones[:4], 0 * ones[:4]) > 0.1, sign_flip_p_value(ones, 0 * ones) < 0.05
    (True, True)
    """
    difference = np.asarray(ours, dtype=np.float64) - np.asarray(theirs, dtype=np.float64)
    sums = _by_cluster(difference[None, :], clusters)[0][0]
    sums = sums[sums != 0]  # a sign changes nothing of them
    if not len(sums):
        return 1.0
    observed = abs(sums.sum()) - 1e-9
    if len(sums) <= EXACT_FLIPS:
        signs = 1 - 2 * (np.arange(2 ** len(sums))[:, None] >> np.arange(len(sums)) & 1)
        return float((np.abs(signs @ sums) >= observed).mean())
    generator = np.random.default_rng(seed)
    beyond, step = 0, max(1, DRAWS_AT_ONCE // len(sums))
    for start in range(0, num_flips, step):
        signs = 1 - 2 * generator.integers(2, size=(min(step, num_flips - start), len(sums)), dtype=np.int8)
        beyond += int((np.abs(signs @ sums) >= observed).sum())
    return (beyond + 1) / (num_flips + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for their number (Holm 1979), in the order given.

    >>> [round(p, 6) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = highest
    return adjusted


def _tested(difference: np.ndarray, means: np.ndarray) -> PairedTest:
    low, high = np.quantile(means, [0.025, 0.975])
    beyond = min((means <= 0).mean(), (means >= 0).mean())
    p_value = min(1.0, 2 * (beyond * len(means) + 1) / (len(means) + 1))
    return PairedTest(Interval(float(difference.mean()), float(low), float(high)), float(p_value))


def _by_cluster(values: np.ndarray, clusters: Sequence[str] | None) -> tuple[np.ndarray, np.ndarray]:
    """(S, C) sums and (C,) sizes of the clusters."""
    if clusters is None:
        return values, np.ones(values.shape[1])
    numbers = np.unique(np.asarray(clusters), return_inverse=True)[1]
    size = int(numbers.max()) + 1
    sums = np.stack([np.bincount(numbers, weights=row, minlength=size) for row in values])
    return sums, np.bincount(numbers, minlength=size).astype(np.float64)


def _resampled_over_seeds(
    values: np.ndarray, clusters: Sequence[str] | None, num_resamples: int, seed: int
) -> np.ndarray:
    """(num_resamples,) means of resampled seeds × clusters of values (S, Q)."""
    sums, counts = _by_cluster(values, clusters)
    generator = np.random.default_rng(seed)
    num_seeds, num_clusters = sums.shape
    means = np.empty(num_resamples)
    for draw in range(num_resamples):
        seeds = generator.integers(num_seeds, size=num_seeds)
        chosen = generator.integers(num_clusters, size=num_clusters)
        means[draw] = sums[seeds][:, chosen].sum() / (counts[chosen].sum() * num_seeds)
    return means


def _resampled_together(
    values: np.ndarray, clusters: Sequence[str] | None, num_resamples: int, generator: np.random.Generator
) -> np.ndarray:
    """(num_resamples, M) means of values (M, Q): the same resamples of clusters as `_resampled_means` draws."""
    sums, counts = _by_cluster(values, clusters)
    size = len(counts)
    means = np.empty((num_resamples, len(values)))
    step = max(1, DRAWS_AT_ONCE // size)
    for start in range(0, num_resamples, step):
        drawn = generator.integers(size, size=(min(step, num_resamples - start), size))
        for place, row in enumerate(drawn, start):
            times = np.bincount(row, minlength=size).astype(np.float64)  # how often each cluster was drawn
            means[place] = sums @ times / (counts @ times)
    return means


def _resampled_means(
    sums: np.ndarray, counts: np.ndarray, num_resamples: int, generator: np.random.Generator
) -> np.ndarray:
    total, size = sums[0], len(counts)
    means = []
    step = max(1, DRAWS_AT_ONCE // size)
    for start in range(0, num_resamples, step):
        drawn = generator.integers(size, size=(min(step, num_resamples - start), size))
        means.append(total[drawn].sum(axis=1) / counts[drawn].sum(axis=1))
    return np.concatenate(means)
