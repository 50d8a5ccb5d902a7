"""SFT's loss beside GRPO's: what the generator learned to read stays, whatever the reward makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.data.images import open_image
from afmrl.data.offer import Offer
from afmrl.generator.prompt import GeneratorPrompt
from afmrl.training.processes import rank, share, world_size
from afmrl.training.sft import sft_example


@dataclass(frozen=True)
class Anchor:
    """Labeled offers; each step also learns a batch of them, as in SFT.

    Args:
        offers, targets: those that SFT learned from.
        weight: of their loss beside GRPO's.
        batch_size: offers a step, of all processes together.
        prompt: that the generator was trained with; None: the default.
    """

    offers: Sequence[Offer]
    targets: Sequence[KeyAttributes]
    weight: float
    batch_size: int
    seed: int
    prompt: GeneratorPrompt | None = None

    def rows(self, step: int, part: int, parts: int) -> list[int]:
        """This process' offers of one of a step's `parts` backward passes; the same again when a run resumes."""
        few = len(self.offers) < self.batch_size
        drawn = np.random.default_rng((self.seed, step)).choice(len(self.offers), self.batch_size, replace=few)
        own = drawn[rank() :: world_size()] if world_size() > 1 else drawn
        return [int(row) for row in own[part::parts]]


def anchored(trainer: type, anchor: Anchor, processor: Any) -> type:
    """The trainer class, with the anchor's gradient added to each step's.

    The loss is that of `run_sft`: cross-entropy of the targets' tokens. It has a backward pass of its own, because a
    model that is spread over processes cannot take part twice in one.
    """
    share(anchor.batch_size, "rar.sft_batch_size")
    from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

    collate = DataCollatorForVisionLanguageModeling(processor, completion_only_loss=True)
    prompt = anchor.prompt or GeneratorPrompt()

    def example(row: int) -> dict[str, Any]:
        offer = anchor.offers[row]
        images = [open_image(offer.image)] if offer.image else []
        return sft_example(offer, anchor.targets[row], images, prompt, processor)

    class AnchoredTrainer(trainer):
        """trl's, and SFT's loss beside it."""

        def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
            loss = super().training_step(model, inputs, num_items_in_batch)
            parts = self.args.gradient_accumulation_steps
            self.anchor_part = (getattr(self, "anchor_part", -1) + 1) % parts
            rows = anchor.rows(self.state.global_step, self.anchor_part, parts)
            if rows:
                batch = collate([example(row) for row in rows])
                batch = {name: value.to(self.accelerator.device) for name, value in batch.items()}
                with self.compute_loss_context_manager():
                    learned = completion_loss(model, batch)
                # every offer counts once, however many backward passes there are and however they share them out
                whole = anchor.batch_size // world_size()
                self.accelerator.backward(anchor.weight * learned * len(rows) / whole)
                self._metrics["train"]["sft_loss"].append(float(learned.detach()))
            return loss

    return AnchoredTrainer


def completion_loss(model: Any, batch: dict[str, Any]) -> Any:
    """Mean cross-entropy of a batch's labeled tokens, their logits alone: a vocabulary is 150 times a state's width.

    Args:
        batch: of trl's collator; labels of -100 do not count.
    """
    from torch.nn.functional import cross_entropy

    following = batch["labels"][:, 1:]  # what is read at each place
    places = (following != -100).any(dim=0).nonzero().flatten()
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    logits = model(**inputs, logits_to_keep=places).logits  # (B, places, V)
    return cross_entropy(logits.flatten(0, 1).float(), following[:, places].flatten(), ignore_index=-100)
