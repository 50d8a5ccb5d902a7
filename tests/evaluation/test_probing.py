"""Probes against scikit-learn's own metrics, and on embeddings whose answer is known."""

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from afmrl.evaluation.probing import CLUSTER_METRICS, cluster_embeddings, clustering_intervals, linear_probe


def blobs(rng, num, classes=5, spread=0.3, dimension=16):
    labels = rng.integers(classes, size=num)
    centers = np.random.default_rng(9).normal(size=(classes, dimension))
    rows = centers[labels] + spread * rng.normal(size=(num, dimension))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), [f"c{n}" for n in labels]


def test_a_probe_finds_what_is_linear_and_nothing_in_noise():
    rng = np.random.default_rng(0)
    train, test = blobs(rng, 200), blobs(rng, 100)
    result = linear_probe(*train, *test)
    assert result.accuracy.mean > 0.95
    assert result.accuracy.mean == result.correct.mean()
    assert (result.num_train, result.num_classes, result.num_unseen) == (200, 5, 0)
    noise = rng.normal(size=(100, 16))
    assert linear_probe(*train, noise, test[1]).accuracy.high < 0.4


def test_a_probe_reads_embeddings_that_all_lie_close_together():
    rng = np.random.default_rng(0)
    train, test = blobs(rng, 200), blobs(rng, 100)
    far = np.full(16, 30.0)  # cosines above 0.99, as an untrained model has them
    assert linear_probe(train[0] + far, train[1], test[0] + far, test[1]).accuracy.mean > 0.95


def test_classes_that_training_does_not_have_count_as_wrong():
    rng = np.random.default_rng(0)
    train, test = blobs(rng, 200), blobs(rng, 100)
    labels = ["new", *test[1][1:]]
    result = linear_probe(*train, test[0], labels)
    assert result.num_unseen == 1 and result.correct[0] == 0
    assert result.accuracy.mean == pytest.approx(
        np.mean([p == t for p, t in zip(result.predicted, labels, strict=True)])
    )


def test_intervals_are_over_products():
    rng = np.random.default_rng(0)
    train, test = blobs(rng, 200, spread=2.5), blobs(rng, 20, spread=2.5)
    rows, labels = np.repeat(test[0], 10, axis=0), np.repeat(test[1], 10)  # ten offers of each product, all alike
    apart = linear_probe(*train, rows, labels).accuracy
    together = linear_probe(*train, rows, labels, [str(n) for n in np.repeat(np.arange(20), 10)]).accuracy
    assert together.mean == apart.mean
    assert together.high - together.low > 2 * (apart.high - apart.low)


@pytest.mark.parametrize("seed", range(5))
def test_clustering_metrics_equal_scikit_learns(seed):
    rng = np.random.default_rng(seed)
    classes, assignment = rng.integers(6, size=80), rng.integers(4, size=80)
    assignment[:40] = classes[:40] % 4
    intervals = clustering_intervals(assignment, classes, num_resamples=50)
    assert intervals["nmi"].mean == pytest.approx(normalized_mutual_info_score(classes, assignment), abs=1e-12)
    assert intervals["ari"].mean == pytest.approx(adjusted_rand_score(classes, assignment), abs=1e-12)
    of_clusters = [np.bincount(classes[assignment == c]).max() for c in np.unique(assignment)]
    assert intervals["purity"].mean == pytest.approx(sum(of_clusters) / 80)
    for interval in intervals.values():
        assert interval.low < interval.mean < interval.high


def test_perfect_one_cluster_and_random():
    classes = np.repeat(np.arange(4), 10)
    assert all(i.mean == pytest.approx(1) for i in clustering_intervals(classes, classes, num_resamples=10).values())
    one = np.bincount(classes).astype(float)[None, :]
    assert (
        CLUSTER_METRICS["nmi"](one) == 0 and CLUSTER_METRICS["ari"](one) == 0 and CLUSTER_METRICS["purity"](one) == 0.25
    )


def test_intervals_of_clustering_cover_what_larger_samples_tell():
    """Small classes: without the bias taken off, every resample of the ARI lies above the estimate's center."""
    covered = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        classes = rng.integers(40, size=20_000)
        assignment = np.where(rng.random(20_000) < 0.6, classes, rng.integers(40, size=20_000))
        truth = adjusted_rand_score(classes, assignment)
        sample = rng.choice(20_000, 200, replace=False)
        interval = clustering_intervals(assignment[sample], classes[sample], num_resamples=200)["ari"]
        covered += interval.low <= truth <= interval.high
    assert covered >= 16


def test_k_means_finds_blobs_and_two_runs_agree():
    rows, labels = blobs(np.random.default_rng(0), 300)
    ours, again = (cluster_embeddings(rows, labels, num_resamples=20) for _ in range(2))
    assert ours.num_classes == 5 and ours.metrics["nmi"].mean > 0.95 and ours.metrics["purity"].mean > 0.95
    assert ours.metrics == again.metrics
    np.testing.assert_array_equal(ours.assignment, again.assignment)
