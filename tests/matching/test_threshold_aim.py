"""Thresholds that reach what was asked for."""

from __future__ import annotations

import numpy as np

from afmrl.matching.threshold_aim import JudgedPairs, ThresholdAim


def asked(logits: np.ndarray, same: np.ndarray, vetoed: np.ndarray, precision: float) -> tuple[float, bool]:
    left = np.arange(len(logits))
    return JudgedPairs(logits, same, vetoed, left, left + len(logits)).threshold(ThresholdAim(precision=precision))


def test_threshold_reaches_the_precision_that_was_asked_for_and_no_higher() -> None:
    draw = np.random.default_rng(1)
    logits = draw.normal(size=4000) * 2
    same = draw.random(4000) < 1 / (1 + np.exp(-2 * logits))
    none = np.zeros(4000, bool)
    for target in (0.8, 0.95, 0.99):
        threshold, reached = asked(logits, same, none, target)
        assert reached and same[logits >= threshold].mean() >= target
        lower = np.sort(logits[logits < threshold])
        assert all(same[logits >= value].mean() < target for value in lower[::-1][:50])
    # vetoed pairs are not called the same: those that are wrong do no harm
    wrong = np.append(logits, [99.0] * 500), np.append(same, [False] * 500)
    vetoed = np.append(none, [True] * 500)
    assert asked(*wrong, vetoed, 0.95)[0] == asked(logits, same, none, 0.95)[0]
    assert asked(np.array([2.0, 1.0]), np.zeros(2, bool), none[:2], 0.9)[1] is False
