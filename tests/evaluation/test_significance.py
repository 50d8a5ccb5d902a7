import numpy as np
import pytest

from afmrl.evaluation.significance import (
    bootstrap_interval,
    bootstrap_intervals,
    holm,
    over_seeds,
    paired_bootstrap,
    paired_bootstraps,
)


def families(number, size):
    return [f"f{family}" for family in range(number) for _ in range(size)]


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(300):
        interval = bootstrap_interval((rng.random(120) < 0.6).astype(float), num_resamples=400, seed=trial)
        hits += interval.low <= 0.6 <= interval.high
    assert 0.90 < hits / 300 < 0.99


def test_siblings_that_agree_count_as_one_and_not_as_many():
    # 60 families, whose five queries all agree: without clusters the interval would be far too narrow
    rng = np.random.default_rng(1)
    with_clusters = without = 0
    for trial in range(200):
        values = np.repeat((rng.random(60) < 0.5).astype(float), 5)
        interval = bootstrap_interval(values, families(60, 5), num_resamples=300, seed=trial)
        with_clusters += interval.low <= 0.5 <= interval.high
        interval = bootstrap_interval(values, num_resamples=300, seed=trial)
        without += interval.low <= 0.5 <= interval.high
    assert with_clusters / 200 > 0.90
    assert without / 200 < 0.75


def test_clusters_of_unequal_size_weigh_what_their_queries_do():
    values = np.array([1.0, 1.0, 1.0, 0.0])
    assert bootstrap_interval(values, ["a", "a", "a", "b"]).mean == 0.75
    interval = bootstrap_interval(values, ["a", "a", "a", "b"], num_resamples=500)
    assert (interval.low, interval.high) == (0.0, 1.0)  # either family alone can be drawn


def test_the_same_seed_gives_the_same_interval_and_the_level_its_width():
    values = np.random.default_rng(2).random(50)
    assert bootstrap_interval(values) == bootstrap_interval(values)
    assert bootstrap_interval(values, seed=1) != bootstrap_interval(values)
    narrow, wide = bootstrap_interval(values, level=0.5), bootstrap_interval(values, level=0.99)
    assert wide.low < narrow.low < narrow.mean < narrow.high < wide.high
    assert narrow.mean == pytest.approx(values.mean())


def test_the_interval_is_as_wide_as_the_normal_one_of_many_numbers():
    values = np.random.default_rng(3).normal(size=4000)
    interval = bootstrap_interval(values, num_resamples=4000)
    half = 1.96 * values.std() / np.sqrt(4000)
    assert interval.high - interval.low == pytest.approx(2 * half, rel=0.08)


def test_nothing_measured_is_not_zero():
    assert np.isnan(bootstrap_interval(np.array([])).mean)


def test_a_difference_is_found_where_there_is_one_and_only_there():
    rng = np.random.default_rng(4)
    theirs = rng.random(200)
    found = paired_bootstrap(theirs + 0.05 + 0.1 * rng.normal(size=200), theirs)
    assert found.p_value < 0.01 and found.difference.low > 0
    assert paired_bootstrap(theirs, theirs + 0.05).difference.high < 0
    none = [paired_bootstrap(rng.random(60), rng.random(60), num_resamples=300).p_value for _ in range(200)]
    assert 0.01 < np.mean(np.array(none) < 0.05) < 0.10
    assert paired_bootstrap(theirs, theirs).p_value == 1.0


def test_a_paired_difference_is_sharper_than_two_means():
    rng = np.random.default_rng(5)
    hard = rng.random(300)
    ours = hard + 0.02
    single = bootstrap_interval(ours)
    paired = paired_bootstrap(ours, hard).difference
    assert paired.high - paired.low < 0.01 * (single.high - single.low)


def test_seeds_that_disagree_widen_the_interval():
    rng = np.random.default_rng(6)
    same = np.tile(rng.random(100), (3, 1))
    disagreeing = same + np.array([[-0.2], [0.0], [0.2]])
    narrow, wide = over_seeds(same).difference, over_seeds(disagreeing).difference
    assert narrow.mean == pytest.approx(wide.mean)
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)
    one = over_seeds(same[:1], families(20, 5)).difference
    alone = bootstrap_interval(same[0], families(20, 5))
    assert (one.high - one.low) == pytest.approx(alone.high - alone.low, rel=0.15)


@pytest.mark.parametrize("num_seeds", [2, 3, 4, 6, 10])
@pytest.mark.parametrize(("of_seed", "of_family", "rest"), [(2, 0, 30), (2, 5, 10), (2, 20, 30), (0, 20, 30)])
def test_an_interval_over_seeds_misses_the_truth_as_seldom_as_it_says(num_seeds, of_seed, of_family, rest):
    generator = np.random.default_rng(0)
    clusters = families(40, 2)
    missed, trials = 0, 400
    for _ in range(trials):
        family = generator.normal(0, of_family, 40).repeat(2)
        values = 1 + generator.normal(0, of_seed, (num_seeds, 1)) + family
        values = values + generator.normal(0, rest, (num_seeds, 40)).repeat(2, axis=1)
        found = over_seeds(values, clusters).difference
        missed += not found.low <= 1 <= found.high
    assert missed / trials <= 0.05 + 2.6 * (0.05 * 0.95 / trials) ** 0.5


def test_fewer_than_six_seeds_have_no_p_value_and_six_have_one():
    generator = np.random.default_rng(1)
    values = 1 + generator.normal(0, 0.5, (6, 30))
    assert np.isnan(over_seeds(values[:5]).p_value)
    assert over_seeds(values).p_value < 0.001
    assert over_seeds(values - values.mean()).p_value == pytest.approx(1)
    assert (over_seeds(np.zeros((6, 3))).p_value, over_seeds(np.ones((6, 3))).p_value) == (1, 0)
    assert np.isnan(holm([float("nan"), 0.02])[0]) and holm([float("nan"), 0.02])[1] == 0.02


def test_a_p_value_is_below_a_twentieth_exactly_where_the_interval_leaves_out_zero():
    generator = np.random.default_rng(2)
    agree, significant = [], 0
    for _ in range(300):
        families = generator.normal(0.3, 0.5, 12)
        found = over_seeds(families + generator.normal(0, 0.2, (6, 1)) + generator.normal(0, 0.6, (6, 12)))
        leaves_out = found.difference.low > 0 or found.difference.high < 0
        agree.append(leaves_out == (found.p_value < 0.05))
        significant += leaves_out
    assert all(agree) and 50 < significant < 250


def test_families_of_unequal_size_count_by_their_queries():
    values = np.array([[1.0, 1, 1, 0], [1, 1, 1, 0], [1, 1, 1, 0]])
    found = over_seeds(values, ["a", "a", "a", "b"])
    assert found.difference.mean == 0.75


def test_a_large_family_that_differs_moves_the_mean_as_far_as_a_small_one():
    # by hand: 3 queries lie 0.25 above the mean 0.75, one 0.75 below; each pulls by 0.375, with one degree of freedom
    found = over_seeds(np.array([[1.0, 1, 1, 0]]), ["a", "a", "a", "b"]).difference
    assert found.high - found.mean == found.mean - found.low == pytest.approx(0.375 * 12.7062, rel=1e-4)


def test_one_number_has_no_interval_also_where_it_is_of_several_queries():
    for values, clusters in (([[0.5]], None), ([[0.25, 0.75]], ["a", "a"])):
        found = over_seeds(np.array(values), clusters).difference
        assert found.mean == 0.5 and np.isnan(found.low) and np.isnan(found.high)


def test_several_metrics_at_once_have_the_intervals_they_have_alone():
    rng = np.random.default_rng(7)
    values = {"a": rng.random(90), "b": (rng.random(90) < 0.3).astype(float)}
    for clusters in (None, families(30, 3)):
        together = bootstrap_intervals(values, clusters, num_resamples=500, seed=3)
        for name, of_metric in values.items():
            alone = bootstrap_interval(of_metric, clusters, num_resamples=500, seed=3)
            assert (together[name].mean, together[name].low, together[name].high) == pytest.approx(
                (alone.mean, alone.low, alone.high), abs=1e-12
            )
    assert bootstrap_intervals({}) == {} and np.isnan(bootstrap_intervals({"a": np.array([])})["a"].mean)


def test_several_differences_at_once_are_tested_as_they_are_alone():
    rng = np.random.default_rng(8)
    ours = {"a": rng.random(80), "b": rng.random(80)}
    theirs = {"b": ours["b"].copy(), "a": ours["a"] - 0.03 + 0.1 * rng.normal(size=80)}
    together = paired_bootstraps(ours, theirs, families(20, 4), num_resamples=400, seed=2)
    for name in ours:
        alone = paired_bootstrap(ours[name], theirs[name], families(20, 4), num_resamples=400, seed=2)
        assert together[name].p_value == pytest.approx(alone.p_value)
        assert together[name].difference.low == pytest.approx(alone.difference.low, abs=1e-12)
        assert together[name].difference.mean == pytest.approx(alone.difference.mean, abs=1e-12)
    assert together["b"].p_value == 1.0
