"""Learns the default pair model of `afmrl match` from the train splits of the public sets.

Nothing of a test split is learned: offers are those whose product is of the split train, and of the published labeled
pairs those of `test` (and gold standards) are left out even where both offers are of train. Calibration and threshold
come from scores out of set: each set is scored by a model of the other three, as a new catalog will be.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import afmrl.matching
from afmrl.embedder.embedder import Embedder
from afmrl.files import write_json
from afmrl.matching.candidates import candidate_pairs
from afmrl.matching.features import DENSE_FEATURES, FALLING, IMAGE_FEATURES, TEXT_FEATURES
from afmrl.matching.pair_model import PairModel, fit_pair_model
from afmrl.matching.probability import calibrated
from afmrl.matching.scorer import Scorer
from common import minilm
from match_sets import SETS, Encode, LabeledSet, load_set

PRIOR = {"gtin agrees": 8.0}
"""No set has GTINs: that one article number is one article is known without learning."""
TARGET = 0.88
"""Precision by the labels that the default threshold reaches out of set, among candidates that are siblings for the
most part; a twentieth of wdc_products' labels are wrong by themselves, so the true one is higher. amazon_google is left
out: its labels miss many true pairs (offers of identical titles are labeled apart), so precision cannot be read there,
and its candidates are not learned from either, only its labeled pairs."""
JUDGED = ("wdc_products", "abt_buy")
WEIGHT = 3_000.0  # of each set's labeled pairs, and of its candidates


class Examples:
    """Labeled pairs and candidates of one set."""

    def __init__(self, of: LabeledSet, model: PairModel) -> None:
        scorer = Scorer(of.table, model)
        rows = of.rows
        published = {(rows[p.left.id], rows[p.right.id]): p for p in of.pairs}
        hidden = {tuple(sorted(pair)) for pair, p in published.items() if not _learned(p.split)}
        left, right = candidate_pairs(of.table)
        free = np.array([(int(a), int(b)) not in hidden for a, b in zip(left, right, strict=True)])
        self.left, self.right = left[free], right[free]
        features = scorer.compare(self.left, self.right)
        self.values, self.same = features.values, of.products[self.left] == of.products[self.right]
        self.vetoed = scorer.of_features(features)[1]
        hidden_true = sum(of.products[a] == of.products[b] for a, b in hidden)
        self.complete = of.name != "amazon_google"
        """Whether the labels name every true pair."""
        self.num_true = of.num_true_pairs - int(hidden_true)
        chosen = [(pair, p.same) for pair, p in published.items() if _learned(p.split)]
        ours = np.array([pair for pair, _ in chosen], dtype=np.int64).reshape(-1, 2)
        self.pair_values = scorer.compare(ours[:, 0], ours[:, 1]).values
        self.pair_same = np.array([same for _, same in chosen], dtype=bool)


def _learned(split: str) -> bool:
    return split.lower().startswith(("train", "val"))


def run(data: Path, results: Path, image_model: str | None) -> None:
    """Learn both models, write them into the package and their measurement to `results`."""
    text = Embedder.from_pretrained(minilm())
    imaged = Embedder.from_pretrained(image_model) if image_model else None

    def encode(name: str) -> Encode:
        embedder = imaged if name == "magento_luma" and imaged is not None else text
        return lambda offers: embedder.encode(offers)

    stored: dict[str, Any] = {"format": "afmrl-default-pair-models", "learned_on": [f"{name}, train" for name in SETS]}
    measured: dict[str, Any] = {}
    for kind in ("words", "dense"):
        names = TEXT_FEATURES + IMAGE_FEATURES + (DENSE_FEATURES if kind == "dense" else ())
        prior = PairModel(names, np.array([PRIOR.get(name, 0.0) for name in names]), 0.0)
        sets = {name: load_set(data, name, ("train",), encode(name) if kind == "dense" else None) for name in SETS}
        if kind == "dense" and imaged is not None:
            magento = sets["magento_luma"]
            for side in ("text", "image"):
                magento.table.dense[side] = imaged.encode(magento.table.offers, modality=side)
        examples = {name: Examples(of, prior) for name, of in sets.items()}
        model = _fit(list(examples.values()), names, prior)
        unseen = {
            name: _fit([other for other_name, other in examples.items() if other_name != name], names, prior).logits(
                ours.values
            )
            for name, ours in examples.items()
        }
        weights = {name: WEIGHT / len(ours.same) for name, ours in examples.items()}
        model = _calibrate(model, unseen, examples, weights)
        threshold = max(_threshold(unseen[name], examples[name]) for name in JUDGED)
        vetoed = _vetoed_share(unseen, examples, threshold)
        stored[kind] = {**model.as_dict(), "threshold": round(threshold, 4), "vetoed": round(vetoed, 4)}
        measured[kind] = {
            "threshold": round(threshold, 4),
            "vetoed": round(vetoed, 4),
            "sets": {name: _measure(unseen[name], examples[name], threshold) for name in SETS},
        }
        for name, of in measured[kind]["sets"].items():
            print(kind, name, of)
        for name, weight in zip(names, model.coefficients, strict=True):
            print(f"  {name:24}{weight:8.3f}")
        print(
            f"  threshold {threshold:.3f}, probability {model.probabilities(np.array([threshold]))[0]:.3f}, "
            f"vetoed {vetoed:.3f}"
        )
    write_json(Path(afmrl.matching.__file__).parent / "default_pair_model.json", stored)
    write_json(results, measured)


def _fit(examples: list[Examples], names: tuple[str, ...], prior: PairModel) -> PairModel:
    values, same, weights = [], [], []
    for of in examples:
        for part, labels in ((of.values, of.same), (of.pair_values, of.pair_same)):
            if len(part) and (of.complete or labels is of.pair_same):
                values.append(part)
                same.append(labels)
                weights.append(np.full(len(part), WEIGHT / len(part)))
    return fit_pair_model(
        np.concatenate(values), np.concatenate(same), names, prior, falling=FALLING, weights=np.concatenate(weights)
    )


def _calibrate(
    model: PairModel, unseen: dict[str, np.ndarray], examples: dict[str, Examples], weights: dict[str, float]
) -> PairModel:
    # as many of each set, drawn with a seed
    draw = np.random.default_rng(0)
    logits, same = [], []
    for name, of in examples.items():
        if not of.complete:
            continue
        rows = draw.choice(len(of.same), size=round(len(of.same) * weights[name] * 3), replace=True)
        logits.append(unseen[name][rows])
        same.append(of.same[rows])
    return calibrated(model, np.concatenate(logits), np.concatenate(same))


def _threshold(logits: np.ndarray, of: Examples) -> float:
    kept = ~of.vetoed
    order = np.argsort(-logits[kept], kind="stable")
    precision = np.cumsum(of.same[kept][order]) / np.arange(1, len(order) + 1)
    return float(logits[kept][order][np.flatnonzero(precision >= TARGET)[-1]])


def _vetoed_share(unseen: dict[str, np.ndarray], examples: dict[str, Examples], threshold: float) -> float:
    """Share of true pairs among vetoed candidates whose logit is at the threshold or above."""
    rows = [(unseen[name] >= threshold) & examples[name].vetoed for name in JUDGED]
    true = sum(int(examples[name].same[row].sum()) for name, row in zip(JUDGED, rows, strict=True))
    return true / max(sum(int(row.sum()) for row in rows), 1)


def _measure(logits: np.ndarray, of: Examples, threshold: float) -> dict[str, float]:
    called = (logits >= threshold) & ~of.vetoed
    return {
        "candidate_recall": round(float(of.same.sum()) / of.num_true, 4),
        "precision": round(float(of.same[called].mean()) if called.any() else 1.0, 4),
        "recall": round(float(of.same[called].sum()) / of.num_true, 4),
        "vetoed_true": round(float(of.vetoed[of.same].mean()), 4),
    }
