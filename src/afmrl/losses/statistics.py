"""What the AGCL loss does to a batch, in numbers: what its rules leave out, and how far its weights move logits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor
from transformers import TrainerCallback

from afmrl.losses.table import Contrast

SAMPLE_ANCHORS = 64  # of a batch, whose pairs are sorted into deciles when they are asked for
DECILES = 10


class LossStatistics:
    """Sums over the blocks of one batch; they stay on the device, so nothing waits for them until `read`."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._sample: tuple[Contrast, np.ndarray, Tensor, Tensor] | None = None
        self.kept_share: float | None = None
        """Share of the batch's inputs that waited for GradCache's second pass; None where none had to."""

    def clear(self) -> None:
        """Begin another batch."""
        self._sums, self._sample, self.kept_share = {}, None, None

    def add(
        self,
        contrast: Contrast,
        block: slice,
        *,
        negatives: Tensor,
        calls: Mapping[str, Tensor],
        false: Tensor,
        kept: Tensor,
        offsets: Tensor | None,
        same: Tensor | None,
        known: Tensor | None,
    ) -> None:
        """Count one block of anchors against one positive each.

        Shape:
            negatives (b, C) what the rules judge; calls: (b, C) of each rule, false: of all together; kept (b, C)
            negatives left in the denominator; offsets (b, C) log w_ij − log w_ii; same, known (b, C): whether two
            offers are of one product, and whether that is known.
        """
        self._count("negatives", negatives)
        self._count("false", false)
        self._count("kept", kept)
        for rule, called in calls.items():
            self._count(f"called {rule}", called & negatives)
        if same is not None and known is not None:
            judged = negatives & known
            same = same & negatives
            self._count("judged", judged)
            self._count("same", same)
            for name, called in [("all", false), *calls.items()]:
                self._count(f"known calls {name}", called & judged)
                self._count(f"right calls {name}", called & same)
        if offsets is None:
            return
        self._plus("moved", (offsets * kept).sum())
        if self._sample is None and contrast.bm25 is not None:
            few = slice(block.start, min(block.stop, block.start + SAMPLE_ANCHORS))
            size = few.stop - few.start
            self._sample = contrast, contrast.anchor_rows[few], offsets[:size].clone(), kept[:size].clone()

    def _count(self, name: str, mask: Tensor) -> None:
        self._plus(name, mask.count_nonzero())

    def _plus(self, name: str, value: Tensor) -> None:
        self._sums[name] = self._sums[name] + value if name in self._sums else value

    def read(self) -> dict[str, Any]:
        """The numbers of the last batch, JSON-able, as the loss documents them; empty before the first."""
        if not self._sums:
            return {}
        sums = {name: float(value.item()) for name, value in self._sums.items()}
        found: dict[str, Any] = {
            "num_negatives": sums["negatives"],
            "masked_share": sums["false"] / max(sums["negatives"], 1),
            "mean_offset": sums.get("moved", 0.0) / max(sums["kept"], 1),
        }
        if self.kept_share is not None:
            found["kept_share"] = self.kept_share
        rules = [name.removeprefix("called ") for name in sums if name.startswith("called ")]
        for rule in rules:
            found[f"masked_share_{rule}"] = sums[f"called {rule}"] / max(sums["negatives"], 1)
        if "same" in sums:
            found["same_product_share"] = sums["same"] / max(sums["judged"], 1)
            for name, suffix in [("all", ""), *((rule, f"_{rule}") for rule in rules if len(rules) > 1)]:
                calls, right = sums[f"known calls {name}"], sums[f"right calls {name}"]
                found[f"precision{suffix}"] = right / calls if calls else None
                found[f"recall{suffix}"] = right / sums["same"] if sums["same"] else None
        return found | self._deciles()

    def _deciles(self) -> dict[str, Any]:
        if self._sample is None:
            return {}
        contrast, anchor_rows, offsets, kept = self._sample
        assert contrast.bm25 is not None
        mask = kept.cpu().numpy()
        similarity, moved = contrast.bm25(anchor_rows)[mask], offsets.double().cpu().numpy()[mask]
        if not len(moved):
            return {}
        bounds = np.quantile(similarity, np.arange(1, DECILES) / DECILES)
        place = np.searchsorted(bounds, similarity)  # equal ones together, in the lowest of their deciles
        sizes = np.bincount(place, minlength=DECILES)

        def means(of: np.ndarray) -> list[float | None]:
            totals = np.bincount(place, weights=of, minlength=DECILES)
            return [float(total / size) if size else None for total, size in zip(totals, sizes, strict=True)]

        return {"bm25_by_decile": means(similarity), "offset_by_decile": means(moved)}


class LogLossStatistics(TrainerCallback):
    """Adds the loss's `last_statistics` to each entry of the training log (`trainer.state.log_history`).

    Args:
        loss: an AttributeGuidedContrastiveLoss, or a loss around it (MatryoshkaLoss); or, where every data set has its
            own, a dict of them by the data sets' names. Its statistics are then those of its last batch, as
            `NAME_masked_share` and so on.

    Example:
        ::

            trainer = SentenceTransformerTrainer(..., loss=loss, callbacks=[LogLossStatistics(loss)])

        With `report_to` (W&B, TensorBoard, …) it has to come before the callback that reports, which the trainer puts
        first::

            trainer = SentenceTransformerTrainer(..., loss=loss)
            LogLossStatistics(loss).put_first(trainer)
    """

    def __init__(self, loss: Any) -> None:
        self.losses: dict[str, Any] = (
            {f"{name}_": one for name, one in loss.items()} if isinstance(loss, Mapping) else {"": loss}
        )

    def put_first(self, trainer: Any) -> None:
        """Move before the trainer's other callbacks, so that they report the statistics too."""
        callbacks = trainer.callback_handler.callbacks
        callbacks[:] = [self, *(callback for callback in callbacks if callback is not self)]

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """A run that resumes continues to count batches, for `margin_warmup_steps`."""
        for loss in self.losses.values():
            if state.global_step and hasattr(guided := _innermost(loss), "num_batches"):
                guided.num_batches = state.global_step * args.gradient_accumulation_steps

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        """The entry of a training step holds "loss"; others (evaluation, the run's end) are left alone."""
        if logs is not None and "loss" in logs and state.log_history:
            for prefix, loss in self.losses.items():
                found = getattr(_innermost(loss), "last_statistics", {})  # another loss may be there, too
                named = {f"{prefix}{name}": value for name, value in found.items()}
                state.log_history[-1].update(named)
                logs.update({name: value for name, value in named.items() if isinstance(value, int | float)})


def _innermost(loss: Any) -> Any:
    """The loss that another one (MatryoshkaLoss, say) is around."""
    while not hasattr(loss, "last_statistics") and hasattr(loss, "loss"):
        loss = loss.loss
    return loss
