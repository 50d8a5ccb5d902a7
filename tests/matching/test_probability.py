"""Calibration and intervals."""

from __future__ import annotations

import numpy as np
import pytest

from afmrl.matching.pair_model import PairModel
from afmrl.matching.probability import calibrated, precision_and_recall, reliability, wilson


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
