"""The pair model: its fit, its signs, the default."""

from __future__ import annotations

import json

import numpy as np

from afmrl.matching.features import FALLING, TEXT_FEATURES
from afmrl.matching.pair_model import PairModel, default_model, fit_pair_model


def test_fit_agrees_with_scikit_learn_where_no_sign_binds() -> None:
    from sklearn.linear_model import LogisticRegression

    draw = np.random.default_rng(0)
    values = np.abs(draw.normal(size=(600, 4)))
    truth = np.array([2.0, 1.0, -1.5, 0.5])
    same = draw.random(600) < 1 / (1 + np.exp(-(values @ truth - 1)))
    names = ("a", "b", "c", "d")
    ours = fit_pair_model(values, same, names, falling=("c",), shrinkage=2.0)
    scale = values.std(axis=0)
    theirs = LogisticRegression(C=0.5, tol=1e-8, max_iter=5000).fit((values - values.mean(axis=0)) / scale, same)
    np.testing.assert_allclose(ours.coefficients, theirs.coef_[0] / scale, atol=2e-3)
    wrong = fit_pair_model(values, same, names, falling=("a",))
    assert wrong.coefficients[0] <= 1e-9
    held = fit_pair_model(values, same, names, ours, falling=("c",), shrinkage=1e9)
    np.testing.assert_allclose(held.coefficients, ours.coefficients, atol=1e-3)


def test_shipped_model_has_the_right_signs() -> None:
    for dense in (False, True):
        model = default_model(TEXT_FEATURES, dense=dense).model
        for name, weight in zip(model.features, model.coefficients, strict=True):
            assert weight <= 0 if name in FALLING else weight >= 0
        stored = PairModel.of_dict(json.loads(json.dumps(model.as_dict())), TEXT_FEATURES)
        np.testing.assert_allclose(stored.coefficients, model.coefficients)
