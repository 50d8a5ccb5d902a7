"""A precision that holds for pairs to come: how often, on drawn catalogs whose truth is known."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from afmrl.errors import InputError
from afmrl.matching.guarantee import guaranteed_count
from afmrl.matching.threshold_aim import JudgedPairs, ThresholdAim

TARGET = 0.9


def labels(seed: int, products: int) -> tuple[JudgedPairs, np.ndarray]:
    """Products of one to eight pairs, right or wrong together; and of each pair the chance that it is right."""
    draw = np.random.default_rng(seed)
    sizes = draw.integers(1, 9, size=products)
    product = np.repeat(np.arange(products), sizes)
    logits = np.repeat(draw.normal(size=products) * 2, sizes) + draw.normal(size=len(product)) * 0.3
    chance = 1 / (1 + np.exp(-(2 * logits + 1)))
    shared = np.repeat(draw.random(products), sizes)
    same = np.where(draw.random(len(product)) < 0.8, shared, draw.random(len(product))) < chance
    left = np.arange(len(product)) + products
    return JudgedPairs(logits, same, np.zeros(len(product), bool), product, left), chance


@cache
def world() -> tuple[JudgedPairs, np.ndarray]:
    return labels(12345, 40_000)


def true_precision(logit: float) -> float:
    pairs, chance = world()
    return float(chance[pairs.logits >= logit].mean())


@pytest.mark.parametrize("products", [100, 600])
def test_a_promised_precision_holds_more_often_than_not_promised(products):
    held: dict[float | None, list[bool]] = {0.9: [], None: []}
    for seed in range(40):
        pairs, _ = labels(seed, products)
        for confidence, of in held.items():
            logit, reached = pairs.threshold(ThresholdAim(precision=TARGET, confidence=confidence))
            of.append(not reached or true_precision(logit) >= TARGET)
    assert np.mean(held[0.9]) >= 0.9
    assert np.mean(held[None]) < 0.75  # what is promised is worth its name


def test_more_labels_find_more():
    found = []
    for products in (100, 400, 3000):
        pairs, _ = labels(7, products)
        logit, reached = pairs.threshold(ThresholdAim(precision=TARGET, confidence=0.95))
        found.append(pairs.point(logit).recall.mean if reached else 0.0)
    assert found == sorted(found)
    assert found[-1] > 0.6


def test_pairs_of_one_score_go_together():
    pair = np.arange(300)
    same = pair < 290
    every = JudgedPairs(np.ones(300), same, np.zeros(300, bool), pair, pair + 300)
    logit, reached = every.threshold(ThresholdAim(precision=0.9, confidence=0.9))
    assert reached and every.point(logit).num_found == 290
    assert not every.threshold(ThresholdAim(precision=0.97, confidence=0.9))[1]
    assert guaranteed_count(pair, pair + 300, same, np.empty(0, np.int64), 0.9, 0.9) == 0


@pytest.mark.parametrize(
    ("aim", "text"),
    [({"confidence": 0.9}, "give --precision too"), ({"precision": 1.0, "confidence": 0.9}, "no labels can show"),
     ({"precision": 0.9, "confidence": 1.0}, "a probability above 0"),
     ({"precision": 0.9, "confidence": float("nan")}, "a probability above 0")],
)  # fmt: skip
def test_what_cannot_be_promised_is_said(aim, text):
    with pytest.raises(InputError, match=text):
        ThresholdAim(**aim)
