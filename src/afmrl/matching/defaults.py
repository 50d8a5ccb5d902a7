"""The pair model that stands in where there are no labels: learned on public sets, shipped as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

from afmrl.matching.pair_model import PairModel
from afmrl.matching.probability import Threshold

FILE = "default_pair_model.json"


@dataclass(frozen=True)
class DefaultModel:
    """Coefficients, calibration and threshold for catalogs without labels."""

    model: PairModel
    threshold: Threshold
    vetoed: float
    """Share of true pairs among vetoed ones that are else above the threshold: their probability is no higher."""


def default_model(features: Sequence[str], *, dense: bool) -> DefaultModel:
    """The default for offers with or without embeddings (`benchmarks/match.py defaults` learns it)."""
    stored = json.loads(files("afmrl.matching").joinpath(FILE).read_text(encoding="utf-8"))
    ours = stored["dense" if dense else "words"]
    return DefaultModel(
        PairModel.of_dict(ours, features),
        Threshold(float(ours["threshold"]), "no labels: a default learned on public sets; precision unknown here"),
        float(ours["vetoed"]),
    )
