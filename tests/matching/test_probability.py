"""Thresholds, calibration and intervals."""

from __future__ import annotations

import numpy as np
import pytest

from afmrl.matching.pair_model import PairModel
from afmrl.matching.probability import calibrated, precision_and_recall, reliability, threshold_for_precision, wilson


def test_threshold_reaches_the_precision_that_was_asked_for_and_no_higher() -> None:
    draw = np.random.default_rng(1)
    logits = draw.normal(size=4000) * 2
    same = draw.random(4000) < 1 / (1 + np.exp(-2 * logits))
    none = np.zeros(4000, bool)
    for target in (0.8, 0.95, 0.99):
        threshold, reached = threshold_for_precision(logits, same, none, target)
        assert reached and same[logits >= threshold].mean() >= target
        lower = np.sort(logits[logits < threshold])
        assert all(same[logits >= value].mean() < target for value in lower[::-1][:50])
    # vetoed pairs are not called the same: those that are wrong do no harm
    wrong = np.append(logits, [99.0] * 500), np.append(same, [False] * 500)
    vetoed = np.append(none, [True] * 500)
    assert threshold_for_precision(*wrong, vetoed, 0.95)[0] == threshold_for_precision(logits, same, none, 0.95)[0]
    assert threshold_for_precision(np.array([2.0, 1.0]), np.array([0, 0]), none[:2], 0.9)[1] is False


def test_calibration_and_intervals() -> None:
    draw = np.random.default_rng(2)
    logits = draw.normal(size=6000) * 3
    same = draw.random(6000) < 1 / (1 + np.exp(-(0.5 * logits - 1)))
    model = calibrated(PairModel(("a",), np.ones(1), 0.0), logits, same)
    assert abs(model.slope - 0.5) < 0.05 and abs(model.offset + 1) < 0.1
    rows = reliability(model.probabilities(logits), same)
    assert sum(row.num_pairs for row in rows) == 6000
    assert all(row.share_same.low - 0.02 <= row.mean_probability <= row.share_same.high + 0.02 for row in rows)
    # Wilson 1927 by another formula
    from scipy.stats import binomtest

    expected = binomtest(37, 40).proportion_ci(method="wilson")
    assert (wilson(37, 40).low, wilson(37, 40).high) == pytest.approx((expected.low, expected.high), abs=1e-6)
    precision, recall = precision_and_recall(np.array([True, True, False]), np.array([1, 0, 1]))
    assert precision.mean == 0.5 and recall.mean == 0.5
