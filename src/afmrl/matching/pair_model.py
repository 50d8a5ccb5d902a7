"""The pair model: a logistic regression over what is compared, whose every coefficient can be read.

Without labels, the default model is used: it was learned on public sets and comes with the package as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np

from afmrl.retrieval.interval import Interval

FORMAT = "afmrl-pair-model"
DEFAULT_FILE = "default_pair_model.json"
SHRINKAGE = 2.0  # how strongly few labels are held to the coefficients that were there before


@dataclass(frozen=True)
class PairModel:
    """logit = intercept + coefficients · features; probability = 1 / (1 + exp(−(slope · logit + offset)))."""

    features: tuple[str, ...]
    coefficients: np.ndarray
    """(F,) of the features as they are."""
    intercept: float
    slope: float = 1.0
    offset: float = 0.0

    def logits(self, values: np.ndarray) -> np.ndarray:
        """(P,) float64 of (P, F) features."""
        return np.asarray(values, dtype=np.float64) @ self.coefficients + self.intercept

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """(P,) calibrated (Platt 1999)."""
        return np.asarray(1 / (1 + np.exp(-np.clip(self.slope * logits + self.offset, -60, 60))))

    def contributions(self, values: np.ndarray) -> np.ndarray:
        """(P, F) what each feature adds to the logit."""
        return np.asarray(values, dtype=np.float64) * self.coefficients

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "format": FORMAT,
            "intercept": round(self.intercept, 6),
            "coefficients": {n: round(float(c), 6) for n, c in zip(self.features, self.coefficients, strict=True)},
            "calibration": {"slope": round(self.slope, 6), "offset": round(self.offset, 6)},
        }

    @classmethod
    def of_dict(cls, stored: Mapping[str, Any], features: Sequence[str]) -> PairModel:
        """From what `as_dict` gave, for the features in the order given; a feature it does not know adds nothing."""
        known = stored["coefficients"]
        return cls(
            tuple(features),
            np.array([float(known.get(name, 0.0)) for name in features]),
            float(stored["intercept"]),
            float(stored["calibration"]["slope"]),
            float(stored["calibration"]["offset"]),
        )


@dataclass(frozen=True)
class Threshold:
    """From which logit two offers are called the same product."""

    logit: float
    origin: str
    """Where it comes from, in words."""
    precision: Interval | None = None
    """On labeled pairs, with its 95 % interval; None: unknown."""
    recall: Interval | None = None
    reached: bool = True
    """Whether the precision that was asked for is reached on the labels."""


@dataclass(frozen=True)
class DefaultModel:
    """Coefficients, calibration and threshold for catalogs without labels."""

    model: PairModel
    threshold: Threshold
    max_vetoed_probability: float
    """A vetoed pair's probability is at most this: the share of true pairs among those that only a veto keeps below
    the threshold."""


def default_model(features: Sequence[str], *, dense: bool) -> DefaultModel:
    """The default for offers with or without embeddings (`benchmarks/match.py defaults` learns it)."""
    stored = json.loads(files("afmrl.matching").joinpath(DEFAULT_FILE).read_text(encoding="utf-8"))
    ours = stored["dense" if dense else "words"]
    return DefaultModel(
        PairModel.of_dict(ours, features),
        Threshold(float(ours["threshold"]), "no labels: a default learned on public sets; precision unknown here"),
        float(ours["vetoed"]),
    )


def fit_pair_model(
    values: np.ndarray,
    same: np.ndarray,
    features: Sequence[str],
    prior: PairModel | None = None,
    *,
    falling: Collection[str] = (),
    weights: np.ndarray | None = None,
    shrinkage: float = SHRINKAGE,
) -> PairModel:
    """Maximum a posteriori logistic regression: Gaussian prior around the coefficients of `prior` (or 0).

    With few labels the prior's judgment stays, with many they decide. Coefficients are compared in units of the
    features' standard deviations. No coefficient has the wrong sign: what makes two offers more alike never lowers
    their score.

    Args:
        prior: where the coefficients start from.
        falling: features whose coefficient is at most 0; of all others it is at least 0.
        shrinkage: how strongly labels are held to the prior.

    Shape:
        values (P, F); same (P,) of 0 and 1, both kinds; weights (P,).
    """
    from scipy.optimize import minimize

    values, same = np.asarray(values, dtype=np.float64), np.asarray(same, dtype=np.float64)
    weights = np.ones(len(values)) if weights is None else np.asarray(weights, dtype=np.float64)
    mean, scale = values.mean(axis=0), values.std(axis=0)
    scale = np.where(scale > 1e-9, scale, np.inf)  # what never varies keeps the prior's coefficient
    inputs = (values - mean) / scale
    start = np.zeros(len(features)) if prior is None else prior.coefficients
    base = values @ start + (0.0 if prior is None else prior.intercept)
    signs = 2 * same - 1

    def loss(change: np.ndarray) -> tuple[float, np.ndarray]:
        margins = signs * (base + inputs @ change[:-1] + change[-1])
        wrong = weights * signs * -1 / (1 + np.exp(np.clip(margins, -500, 500)))
        value = (weights * np.logaddexp(0, -margins)).sum() + shrinkage / 2 * (change[:-1] ** 2).sum()
        return float(value), np.append(inputs.T @ wrong + shrinkage * change[:-1], wrong.sum())

    # bounds of the change, so that start + change / scale has the right sign
    edge = -start * np.where(np.isfinite(scale), scale, 0.0)
    bounds = [(None, at) if name in falling else (at, None) for name, at in zip(features, edge, strict=True)]
    found = minimize(
        loss, np.zeros(len(edge) + 1), jac=True, method="L-BFGS-B", bounds=[*bounds, (None, None)],
        options={"maxiter": 500},
    ).x  # fmt: skip
    change = found[:-1] / scale
    intercept = (0.0 if prior is None else prior.intercept) + found[-1] - float(change @ mean)
    return PairModel(tuple(features), start + change, float(intercept))
