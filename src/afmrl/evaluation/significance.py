"""How sure a number is: bootstrap over queries and families, and intervals over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from afmrl.retrieval.interval import Interval

DRAWS_AT_ONCE = 20_000_000  # numbers of a resampling matrix held at a time
SEEDS_FOR_P = 6  # of fewer seeds no p-value is told
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


@dataclass(frozen=True, slots=True)
class PairedTest:
    """Difference of two systems on the same queries."""

    difference: Interval
    p_value: float
    """Two-sided. Of a bootstrap how often the resampled difference lies on the other side of 0, doubled."""


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


def over_seeds(values: np.ndarray, clusters: Sequence[str] | None = None, *, level: float = 0.95) -> PairedTest:
    """The mean over seeds and queries, for other seeds and other families than these.

    Seeds and families are crossed random effects: every seed is measured on the same families. The variance of the mean
    is (MS_seeds + MS_families − MS_rest) / (S · F), a t distribution has Satterthwaite's degrees of freedom. The plain
    t interval over seed means, which knows nothing of families, is taken where it is wider. A bootstrap of two to six
    seeds would be far too narrow: the few that there are cannot show how much others differ.

    Of one seed the interval is over families alone. Below SEEDS_FOR_P seeds there is no p-value (NaN).

    Shape:
        values (S, Q): the same queries under S trainings; of two systems the difference, paired by seed.
        clusters: Q names, or None where queries are independent.

    >>> over_seeds(np.array([[0.0, 1.0], [1.0, 0.0]])).p_value
    nan
    """
    values = np.asarray(values, dtype=np.float64)
    sums, counts = _by_cluster(values, clusters)
    num_seeds, num_clusters = sums.shape
    mean = float(values.mean())
    # a cluster's pull on the mean: a ratio, since clusters differ in size
    pulls = (sums - mean * counts) * num_clusters / counts.sum()
    errors = [_crossed_error(pulls)]
    if num_seeds > 1:
        errors.append((float(values.mean(axis=1).std(ddof=1) / np.sqrt(num_seeds)), num_seeds - 1.0))
    halves = [error * float(student.ppf((1 + level) / 2, freedom)) if error else 0.0 for error, freedom in errors]
    half = max(halves) if sums.size > 1 else float("nan")  # one number says nothing of others
    p_value = float("nan")
    if num_seeds >= SEEDS_FOR_P:
        p_value = max(2 * float(student.sf(abs(mean) / error, freedom)) if error else float(mean == 0)
                      for error, freedom in errors)  # fmt: skip
    return PairedTest(Interval(mean, mean - half, mean + half), p_value)


def _crossed_error(pulls: np.ndarray) -> tuple[float, float]:
    """Standard error of the mean of (S, F) crossed random effects, and its degrees of freedom."""
    num_seeds, num_clusters = pulls.shape
    mean = pulls.mean()
    of_seed, of_cluster = pulls.mean(axis=1, keepdims=True) - mean, pulls.mean(axis=0, keepdims=True) - mean
    clusters = (num_seeds * float((of_cluster**2).sum()) / max(num_clusters - 1, 1), num_clusters - 1.0)
    if num_seeds == 1 or num_clusters == 1:
        one = (
            clusters
            if num_clusters > 1
            else (num_clusters * float((of_seed**2).sum()) / max(num_seeds - 1, 1), num_seeds - 1.0)
        )
        return float(np.sqrt(one[0] / pulls.size)), max(one[1], 1.0)
    seeds = (num_clusters * float((of_seed**2).sum()) / (num_seeds - 1), num_seeds - 1.0)
    rest_freedom = (num_seeds - 1.0) * (num_clusters - 1)
    rest = float(((pulls - mean - of_seed - of_cluster) ** 2).sum()) / rest_freedom
    total = seeds[0] + clusters[0] - rest
    larger = max(seeds, clusters)
    if total <= larger[0]:  # the smaller effect is not seen: no variance is below 0
        return float(np.sqrt(larger[0] / pulls.size)), larger[1]
    parts = (*(square**2 / freedom for square, freedom in (seeds, clusters)), rest**2 / rest_freedom)
    return float(np.sqrt(total / pulls.size)), total**2 / sum(parts)


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
    """p-values adjusted for their number (Holm 1979), in the order given; what was not tested (NaN) counts as none.

    >>> [round(p, 6) for p in holm([0.01, 0.04, float("nan"), 0.03])]
    [0.03, 0.06, nan, 0.06]
    """
    order = sorted((place for place, p in enumerate(p_values) if p == p), key=lambda place: p_values[place])
    adjusted, highest = [float("nan")] * len(p_values), 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p_values[place]))
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
