"""RAR watched from outside its reward: retrieval and true attributes on the validation split, every few steps.

A reward can rise without what it is for. What the generator writes for families that neither embedder nor reward has
seen is what a shop will get. So that chooses the step that is kept, and ends a run that only its reward still likes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from afmrl.attributes.accuracy import attribute_accuracy
from afmrl.attributes.attributes_on import AttributesOn, on_gallery, on_query
from afmrl.attributes.key_attributes import InvalidCompletion, KeyAttributes
from afmrl.files import parse_json, write_json
from afmrl.generator.generator import AttributeGenerator
from afmrl.generator.prompt import GeneratorPrompt
from afmrl.retrieval.exact import ranks_of
from afmrl.rewards.truth import pair_f_score
from afmrl.training.best_weights import BEST, kept_entry, save_weights
from afmrl.training.processes import on_first, rank

if TYPE_CHECKING:
    from afmrl.embedder.embedder import Embedder
    from afmrl.training.splits import Split

RECORD = "validation.json"


@dataclass(frozen=True)
class Validation:
    """Offers that nothing was trained on, and the frozen embedder that finds them.

    Args:
        attributes_on: whose text carries what the generator writes.
    """

    split: Split
    embedder: Embedder
    attributes_on: AttributesOn = "query"
    max_new_tokens: int = 64
    batch_size: int = 64

    def measure(self, generator: AttributeGenerator) -> dict[str, Any]:
        """Greedy attributes of the split's offers, how well they retrieve, and how true they are.

        Returns:
            {"mrr", "recall@1", "valid", "length" (tokens), "faithfulness" (mean F1 of pairs, over the offers that have
            targets), "accuracy" (by key)}
        """
        split = self.split
        queries, gallery = on_query(self.attributes_on), on_gallery(self.attributes_on)
        rows = [*(split.queries if queries else ()), *(split.gallery if gallery else ())]
        rows = sorted(set(rows))
        written: dict[int, KeyAttributes] = {}
        tokens, num_valid = 0, 0
        offers = [split.offers[row] for row in rows]
        completions = generator.generate(offers, max_new_tokens=self.max_new_tokens, batch_size=self.batch_size)
        for row, (completion,) in zip(rows, completions, strict=True):
            tokens += completion.num_tokens
            try:
                written[row] = generator.read(completion, split.offers[row])
                num_valid += 1
            except InvalidCompletion:
                written[row] = KeyAttributes()
        query_attributes = [written[row] for row in split.queries] if queries else None
        gallery_attributes = [written[row] for row in split.gallery] if gallery else None
        ranks = ranks_of(
            self.embedder.encode(split.query_offers(), query_attributes),
            self.embedder.encode(split.gallery_offers(), gallery_attributes),
            split.relevant,
        )
        ours, targets = [written[row] for row in rows], [split.targets[row] for row in rows]
        scores = [pair_f_score(a, target) for a, target in zip(ours, targets, strict=True) if len(target)]
        return {
            "mrr": float((1.0 / ranks).mean()),
            "recall@1": float((ranks == 1).mean()),
            "valid": num_valid / len(rows),
            "length": tokens / len(rows),
            "faithfulness": float(np.mean(scores)) if scores else 0.0,
            "accuracy": attribute_accuracy(ours, targets),
        }


@dataclass
class Watch:
    """What was measured so far, the best step of it, and whether to stop. It survives a kill: see `restore`."""

    folder: Path
    patience: int
    hold_truth: bool = False
    """Keep no step whose attributes are less true (F1 on validation) than the SFT policy's."""
    measured: list[dict[str, Any]] = field(default_factory=list, init=False)
    """Entries of `Validation.measure` with their "step"."""
    stopped_at: int | None = field(default=None, init=False)
    kept_step: int | None = field(default=None, init=False)
    """Step of the best weights of an earlier process: a step that is done again may not take its place by name."""

    def restore(self, step: int) -> None:
        """Take over what an earlier process measured up to the checkpoint's step; later measures are made again.

        The best weights of all stay the best, even if they were reached after that step: the policy is one that this
        training came by. What was measured of them is in their own file, so that the two cannot disagree.
        """
        try:
            record = parse_json((self.folder / RECORD).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return
        kept = kept_entry(self.folder / BEST)
        self.measured = [e for e in record if e["step"] <= step and (kept is None or e["step"] != kept["step"])]
        if kept is not None:
            self.kept_step = kept["step"]
            self.measured.append(kept)

    @staticmethod
    def best_of(measured: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """The entry of the highest MRR; of equal ones the earliest, which is nearer to the SFT policy."""
        return max(measured, key=lambda entry: (entry["mrr"], -entry["step"]))

    def best(self) -> dict[str, Any]:
        """The entry whose weights are kept: the best of those that may be."""
        first = next((entry for entry in self.measured if entry["step"] == 0), None)
        if not self.hold_truth or first is None:
            return self.best_of(self.measured)
        least = first["faithfulness"]
        return self.best_of([entry for entry in self.measured if entry["faithfulness"] >= least])

    def summary(self) -> dict[str, Any]:
        """{"before", "after" (entries of the first step and of the kept one), "step" (which), "stopped_at"}."""
        best = self.best()
        before = next(entry for entry in self.measured if entry["step"] == 0)
        return {"before": before, "after": best, "step": best["step"], "stopped_at": self.stopped_at}

    def add(self, entry: dict[str, Any]) -> bool:
        """Keep one more measure; whether it is the best so far, and its weights are to be saved."""
        if entry["step"] == self.kept_step and entry["mrr"] <= self.best()["mrr"]:
            return False
        others = [known for known in self.measured if known["step"] != entry["step"]]
        self.measured = sorted([*others, entry], key=lambda known: known["step"])
        return self.best() is entry

    def keep(self) -> None:
        """Write what was measured; after the weights it speaks of, so that a kill between them loses nothing."""
        write_json(self.folder / RECORD, self.measured)

    def should_stop(self, rewards: Sequence[tuple[int, float]]) -> bool:
        """Whether validation fell `patience` times in a row below its best while the reward rose.

        Args:
            rewards: (step, mean reward), in order.
        """
        if not self.patience or not self.measured:
            return False
        best = self.best_of(self.measured)
        since = [entry for entry in self.measured if entry["step"] > best["step"]]
        before = [reward for step, reward in rewards if step <= max(best["step"], 1)]
        after = [reward for step, reward in rewards if step > max(best["step"], 1)]
        if len(since) < self.patience or not before or not after:
            return False
        fell = all(entry["mrr"] < best["mrr"] for entry in since[-self.patience :])
        window = max(1, len(after) // 2)  # the latest of them, against as many before the best
        return fell and float(np.mean(after[-window:])) > float(np.mean(before[-window:]))


def watch_callback(
    watch: Watch,
    validation: Validation,
    processor: Any,
    every: int,
    prompt: GeneratorPrompt | None = None,
    *,
    start: str | Path,
) -> Any:
    """A trainer callback that measures before the first step, every few steps, and after the last.

    Args:
        start: folder of the policy that training began on; it is measured again where a resumed run finds no record of
            it, for no later step may pass for the first.
    """
    from transformers import TrainerCallback

    from afmrl.generator.engines.local import LocalEngine

    class WatchCallback(TrainerCallback):
        """Measures in the first process; the others wait and stop with it."""

        def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
            watch.restore(state.global_step)
            if any(entry["step"] == 0 for entry in watch.measured):
                return
            if state.global_step:
                model = AttributeGenerator.from_pretrained(start).model
            self._measure(model, state, control, step=0)

        def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
            if state.global_step % every == 0 or state.global_step == state.max_steps:
                self._measure(model, state, control)

        def _measure(self, model: Any, state: Any, control: Any, step: int | None = None) -> None:
            def work() -> tuple[list[dict[str, Any]], bool]:
                plain = getattr(model, "module", model)  # without the wrapper of several processes
                was_training = plain.training
                plain.eval()
                try:
                    writer = AttributeGenerator(LocalEngine(plain, processor), prompt)
                    entry = {"step": state.global_step if step is None else step, **validation.measure(writer)}
                finally:
                    plain.train(was_training)
                if watch.add(entry):
                    save_weights(plain, watch.folder / BEST, entry)
                watch.keep()
                rewards = [(e["step"], e["reward"]) for e in state.log_history if "reward" in e]
                return watch.measured, watch.should_stop(rewards)

            watch.measured, stop = on_first(work)
            if stop and state.global_step < state.max_steps:
                watch.stopped_at = state.global_step
                control.should_training_stop = True

    return WatchCallback()


def kept_in_words(validation: dict[str, Any]) -> str:
    """Which step a run continues with, and what it is worth on the validation split.

    Args:
        validation: of `run_rar`'s result.

    >>> before, after = {"mrr": 0.7, "faithfulness": 0.8}, {"mrr": 0.712, "faithfulness": 0.81}
    >>> kept_in_words({"step": 20, "before": before, "after": after, "stopped_at": None})
    'step 20 is kept, the best on the validation split: MRR 70.0 → 71.2, F1 of attributes 80.0 → 81.0'
    >>> kept_in_words({"step": 0, "before": before, "after": before, "stopped_at": 30})
    'no step found more on the validation split with attributes as true; it stays as it began; stopped early at step 30'
    """
    before, after = validation["before"], validation["after"]
    found = "no step found more on the validation split with attributes as true; it stays as it began"
    if validation["step"]:
        found = (
            f"step {validation['step']} is kept, the best on the validation split: MRR {100 * before['mrr']:.1f} → "
            f"{100 * after['mrr']:.1f}, F1 of attributes {100 * before['faithfulness']:.1f} → "
            f"{100 * after['faithfulness']:.1f}"
        )
    return found + (f"; stopped early at step {validation['stopped_at']}" if validation["stopped_at"] else "")


def remove_watch(folder: Path) -> None:
    """Delete what only a run that was killed would need."""
    if rank() == 0:
        for name in (BEST, RECORD):
            (folder / name).unlink(missing_ok=True)
            (folder / f"{name}.tmp").unlink(missing_ok=True)  # of a process that was killed while it wrote
