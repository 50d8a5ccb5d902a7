"""The method's rungs on one run: trained and scored on its test split, one cell each.

What `ablation.py` (the drawn sample) and `magento_ladder.py` (a shop's photographs) share. A rung is named by its stage
and the sides that read attributes: `rar:both`, `rar:query`. A cell holds the rank of every query, so that cells of many
days and machines add up; `ladder_table.py` adds them.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from afmrl.attributes.accuracy import attribute_accuracy
from afmrl.embedder.embedder import Embedder
from afmrl.evaluation.retrieval import RetrievalResult
from afmrl.files import file_hash, fingerprint
from afmrl.training.base import prepare_base
from afmrl.training.config import AGCLStage, CITStage, RARStage
from afmrl.training.ladder import (
    Encoded,
    encode_attributed,
    encode_split,
    general_quality_of,
    generated_attributes,
    score_encoded,
)
from afmrl.training.ledger import Ledger
from afmrl.training.recipe import Recipe
from afmrl.training.run import reinforce_generator, train_embedder, train_generator, train_in_cycles
from afmrl.training.run_state import Run
from cells import Cells
from common import versions
from ladder_table import METRICS
from sample_run import new_run

PARTS = ("ladder", "safe", "paper", "cit", "cit_text", "cit_apart", "loss")
Scored = tuple[RetrievalResult, dict[str, float]]
"""Retrieval, and the means of `general_quality`."""


def plain_infonce(agcl: AGCLStage) -> AGCLStage:
    """The baseline at the same budget: no weights, no mask, random batches, no attributes in the text."""
    return agcl.model_copy(update={"weighting": "none", "rules": (), "attributes_on": "none", "similar_group": 1})


def loss_alone(agcl: AGCLStage) -> AGCLStage:
    """AGCL's weights, mask and batches on InfoNCE's inputs: every pair is shown without attributes."""
    return agcl.model_copy(update={"attributes_on": "none"})


def published_weights(agcl: AGCLStage) -> AGCLStage:
    """The same with the weights and the mask of the paper: raw BM25, gain 1, the positive weighted too, a margin."""
    published = {"scaling": "raw", "gain": 1.0, "weight_positive": True, "rules": ("margin",)}
    return loss_alone(agcl).model_copy(update=published)


LOSSES: dict[str, Callable[[AGCLStage], AGCLStage]] = {
    "loss": loss_alone,
    "weights": lambda agcl: loss_alone(agcl).model_copy(update={"rules": ()}),
    "mask": lambda agcl: loss_alone(agcl).model_copy(update={"weighting": "none"}),
    "batches": lambda agcl: loss_alone(agcl).model_copy(update={"weighting": "none", "rules": ()}),
    "published": published_weights,
}


PAPERS_REWARD = {
    "reward": "recall@k",
    "k": None,
    "rewarded_pairs": "all",
    "sft_weight": 0.0,
    "faithfulness_weight": 0.0,
    "scale_rewards": "group",
}
"""RAR as published; k as `RARStage` finds it."""
CIT = {
    "cit": {
        "cit": CITStage(rounds=1, share=0.3, init="scratch", guidance="written"),
        "cit_control": CITStage(rounds=1, share=0.0, init="scratch", guidance="written"),
    },
    "cit_text": {
        "cit_text": CITStage(rounds=1, share=1.0, init="continue", guidance="before"),
        "cit_text_control": CITStage(rounds=1, share=0.0, init="continue", guidance="before"),
    },
    "cit_apart": {
        "cit_share": CITStage(rounds=1, share=0.3, init="continue", guidance="before"),
        "cit_scratch": CITStage(rounds=1, share=1.0, init="scratch", guidance="before"),
        "cit_written": CITStage(rounds=1, share=1.0, init="continue", guidance="written"),
    },
}
"""One round, by part: from the base, 30 % of the labels written anew (the paper's share); and AGCL going on from the
embedder it has, its text written anew, labels guiding. A control each, in which nothing is written anew. Apart: the
second with one of its three differences taken back."""


@dataclasses.dataclass(frozen=True)
class Ladder:
    """One run's rungs, and where their cells are written."""

    run: Run
    cells: Cells
    """Their keys are the rung and the values of `label`."""
    label: dict[str, int]
    """What tells its cells from those of other runs: {"seed": 3}, {"seed": 0, "fold": 2}."""
    plain: dict[Path, Encoded] = dataclasses.field(default_factory=dict)
    """The test split without attributes, by the folder of the embedder: several rungs read it."""

    @classmethod
    def of(cls, recipe: Recipe, folder: Path, cells: Cells, label: dict[str, int]) -> Ladder:
        """Of a run in `folder`, whose data is read."""
        return cls(new_run(recipe, folder), cells, label)

    def climb(self, parts: Sequence[str], safe: RARStage | None = None) -> None:
        """Train what is missing and write its cells.

        Args:
            safe: the reward of the part "safe".
        """
        run, recipe = self.run, self.run.recipe
        prepare_base(run)
        if {"ladder", "loss"} & set(parts):
            self._other_embedder("infonce", plain_infonce(recipe.agcl))
        if "loss" in parts:
            for rung, variant in LOSSES.items():
                self._other_embedder(rung, variant(recipe.agcl))
        if set(parts) == {"loss"}:
            return  # no attributes are read: no generator
        train_generator(run)
        train_embedder(run)
        if "ladder" in parts and not self._complete("agcl", run):
            self._write(self._scored(run, "agcl", {"": "agcl"}), run, {})
        if {"ladder", *CIT} & set(parts):
            reinforce_generator(run)
        if "ladder" in parts and not all(self._complete(f"{rung}:both", run) for rung in ("sft", "rar")):
            found = self._scored(run, "agcl", {which: which for which in ("sft", "rar", "perfect")})
            self._write(found, run, {which: _accuracy(run, which) for which in ("sft", "rar")})
        for part, arms in CIT.items():
            for rung, cit in arms.items() if part in parts else ():
                self._again(rung, cit)
        if "safe" in parts and safe is not None:
            self._other_reward("safe", safe)
        if "paper" in parts:
            self._other_reward("paper", recipe.rar.model_copy(update=PAPERS_REWARD))

    def _other_embedder(self, rung: str, agcl: AGCLStage) -> None:
        """One more embedder from the same base, scored without attributes."""
        other = dataclasses.replace(
            self.run,
            recipe=self.run.recipe.model_copy(update={"agcl": agcl}),
            ledger=Ledger(self.run.folder / rung),
            paths={},
            made_of=dict(self.run.made_of),
        )
        train_embedder(other)
        if not self._complete(rung, other):
            self._write(self._scored(other, "agcl", {"": rung}), other, {})

    def _other_reward(self, rung: str, rar: RARStage) -> None:
        """RAR once more from the same generator, in the same embedder."""
        other = dataclasses.replace(
            self.run,
            recipe=self.run.recipe.model_copy(update={"rar": rar}),
            ledger=Ledger(self.run.folder / rung),
            paths=dict(self.run.paths),
            made_of=dict(self.run.made_of),
        )
        reinforce_generator(other)
        other.made_of[rung] = other.made_of["rar"]
        if not self._complete(f"{rung}:both", other):
            self._write(self._scored(other, "agcl", {"rar": rung}), other, {rung: _accuracy(other, "rar")})

    def _again(self, rung: str, cit: CITStage) -> None:
        """One round of CIT, scored as it is whether or not it is better on val: the control must not be chosen."""
        other = dataclasses.replace(
            self.run,
            recipe=self.run.recipe.model_copy(update={"cit": cit}),
            paths=dict(self.run.paths),
            made_of=dict(self.run.made_of),
        )
        train_in_cycles(other, name=rung)
        other.made_of[rung] = other.made_of[f"{rung}-1"]
        if not self._complete(f"{rung}:both", other):
            self._write(self._scored(other, f"{rung}-1", {"rar": rung}), other, {})

    def _scored(self, run: Run, embedder: str, rungs: dict[str, str]) -> dict[str, Scored]:
        """Of one stage's embedder, by rung: retrieval of the test split, and what the embeddings do elsewhere.

        Args:
            rungs: whose attributes ("" for none, "perfect" for the labels) → the rung's name.
        """
        split, folder = run.splits["test"], run.paths[embedder]
        model = Embedder.from_pretrained(folder)
        if folder not in self.plain:
            self.plain[folder] = encode_split(model, split, batch_size=run.recipe.evaluation.batch_size)
        plain = self.plain[folder]
        found: dict[str, Scored] = {}
        for which, rung in rungs.items():
            encoded = encode_attributed(run, "test", model, which) if which else plain
            general = {name: round(i.mean, 6) for name, i in general_quality_of(run, split, encoded).items()}
            found[f"{rung}:both" if which else rung] = (score_encoded(run, split, encoded), general)
            if which:
                sides = {"query": (encoded.queries, plain.gallery), "gallery": (plain.queries, encoded.gallery)}
                for side, (queries, gallery) in sides.items():
                    found[f"{rung}:{side}"] = (score_encoded(run, split, Encoded(queries, gallery)), {})
        return found

    def _complete(self, rung: str, run: Run) -> bool:
        """Whether the cell is there and made of what the run has now."""
        cell = self.cells.get((rung, *self.label.values()))
        return cell is not None and cell["settings"] == _made_of(rung, run)

    def _write(self, found: dict[str, Scored], run: Run, accuracy: dict[str, Any]) -> None:
        path = run.recipe.catalog.path
        assert path is not None
        families = run.splits["test"].families
        even = len({len(list(group)) for _, group in itertools.groupby(families)}) == 1
        for rung, (result, general) in found.items():
            cell = {
                "metrics": {metric: round(float(of(result.ranks).mean()), 6) for metric, of in METRICS.items()},
                "num_queries": len(result.ranks),
                "num_families": len(set(families)),
                "catalog_sha256": file_hash(path),
                "settings": _made_of(rung, run),
                "general": general,
                "attribute_accuracy": accuracy.get(rung.partition(":")[0], {}),
                "seconds": run.ledger.seconds,
                "versions": versions("torch", "transformers", "trl"),
                "ranks": result.ranks,
                # of equal families in their order the number is enough
                **({} if even else {"families": families}),
            }
            self.cells.put((rung, *self.label.values()), cell)


def _made_of(rung: str, run: Run) -> str:
    return fingerprint(run.made_of.get(rung.partition(":")[0], run.made_of["agcl"]))


def _accuracy(run: Run, which: str) -> dict[str, Any]:
    return attribute_accuracy(generated_attributes(run, which, "test"), run.splits["test"].targets)
