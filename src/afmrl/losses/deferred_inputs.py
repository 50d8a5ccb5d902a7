"""Inputs that are decoded and preprocessed when their mini-batch is embedded, not when their batch is collated."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
import torch.utils.data

from afmrl.errors import InputError
from afmrl.losses.frozen_tower import PIXELS, STATES, TowerStates
from afmrl.losses.packed_pixels import PackedPixels, packed

KEEP_BYTES = 2 * 2**30
MUCH = 2
"""Times as large as its pixels a tower's states may be to be kept: with less of a batch kept, more is decoded twice."""
MARK = "input_ids"  # a suffix by which the trainer knows a column; here it carries the inputs that wait
PLACES = "places"


class DeferredPreprocessing:
    """A collator's `preprocess_fn` that leaves the work to the loss, mini-batch by mini-batch.

    sentence-transformers preprocesses a whole batch before the loss sees it: at batch 4,096 the pixels alone are
    hundreds of megabytes, however small the mini-batches of GradCache. With this function a batch carries its inputs
    as they are (text, an image's path, or a callable that opens one), and `AttributeGuidedContrastiveLoss` asks for
    the tensors of one mini-batch at a time. Each mini-batch is also padded to its own longest input only.

    GradCache embeds every mini-batch twice. Up to `keep_bytes` of tensors wait in memory for the second time, images
    at a byte a value (`packed_pixels`): 2 GiB hold a batch of 1,024 pairs whose images have 313,600 pixels. What is
    beyond is decoded and preprocessed twice. The loss says the share that was kept (`last_statistics`). Of a Qwen-VL
    whose vision tower is not trained the tower's states wait instead, where they are not much larger.

    Args:
        preprocess: `model.preprocess`.
        keep_bytes: as said, of all columns of a batch together; larger is faster. 0 keeps nothing.
        num_workers: threads that preprocess the next mini-batches while the model computes: for GPUs. Without a GPU
            they would take the model's own cores: 0.

    Raises:
        InputError: an option below 0; or, when called, in a loader's process (`dataloader_num_workers` above 0).

    Example:
        ::

            collator = SentenceTransformerDataCollator(preprocess_fn=DeferredPreprocessing(model.preprocess))
            loss = AttributeGuidedContrastiveLoss(model, attributes, mini_batch_size=32)
            SentenceTransformerTrainer(model=model, train_dataset=rows, loss=loss, data_collator=collator).train()
    """

    def __init__(
        self, preprocess: Callable[..., dict[str, Any]], *, keep_bytes: int = KEEP_BYTES, num_workers: int = 0
    ) -> None:
        for name, value in (("keep_bytes", keep_bytes), ("num_workers", num_workers)):
            if value < 0:
                raise InputError(f"deferred preprocessing: {name}={value} must be at least 0")
        self.preprocess, self.keep_bytes, self.num_workers = preprocess, keep_bytes, num_workers
        self._threads: ThreadPoolExecutor | None = None
        self._columns: weakref.WeakSet[WaitingInputs] = weakref.WeakSet()

    @property
    def room(self) -> int:
        """Bytes that may still be kept."""
        return self.keep_bytes - sum(column.kept_bytes for column in self._columns)

    def __call__(self, inputs: Sequence[Any], **options: Any) -> dict[str, Any]:
        """A column's features: the inputs that wait, and `places`, by which the batch knows its size."""
        if torch.utils.data.get_worker_info() is not None:
            raise InputError(
                "deferred preprocessing: happens where the model computes, not in a loader's process; set "
                "dataloader_num_workers=0, and DeferredPreprocessing(num_workers=...) for threads"
            )
        if self.num_workers and self._threads is None:
            self._threads = ThreadPoolExecutor(self.num_workers, thread_name_prefix="preprocess")

        def preprocess(chosen: list[Any]) -> dict[str, Any]:
            return self.preprocess([one() if callable(one) else one for one in chosen], **options)

        waiting = WaitingInputs(list(inputs), preprocess, lambda: self.room, self._threads, self.num_workers)
        self._columns.add(waiting)
        return {MARK: waiting, PLACES: torch.arange(len(inputs))}


class WaitingInputs:
    """One column of a batch before it is preprocessed."""

    def __init__(
        self,
        inputs: list[Any],
        preprocess: Callable[[list[Any]], dict[str, Any]],
        room: Callable[[], int],
        threads: ThreadPoolExecutor | None = None,
        ahead: int = 0,
    ) -> None:
        self._inputs, self._preprocess = inputs, preprocess
        self._room, self._threads, self._ahead = room, threads, ahead
        self._kept: dict[tuple[int, int], dict[str, Any]] = {}
        self.kept_bytes = 0
        """Bytes that wait for the second time."""
        self.num_kept = 0
        """Inputs that were kept for it."""
        self._coming: dict[tuple[int, int], Future[dict[str, Any]]] = {}

    def __len__(self) -> int:
        return len(self._inputs)

    def features(self, begin: int = 0, end: int | None = None, *, again: bool = False) -> dict[str, Any]:
        """The tensors of inputs begin … end − 1.

        Args:
            again: whether they will be asked for once more, and are worth keeping.
        """
        span = begin, len(self) if end is None else min(end, len(self))
        kept = self._kept.pop(span, None)
        if kept is not None:
            self.kept_bytes -= _size(kept)
            features = {
                name: value.unpacked() if isinstance(value, PackedPixels) else value for name, value in kept.items()
            }
        else:
            coming = self._coming.pop(span, None)
            features = coming.result() if coming else self._made(span)
            if again:
                self._keep(span, features)
        self._look_ahead(span)
        return dict(features)  # modules may put their own entries in

    def _keep(self, span: tuple[int, int], features: dict[str, Any]) -> None:
        """Let features wait for the second time, where there is room."""
        room = self._room()
        if room <= 0:
            return
        kept = dict(features)
        if (pixels := features.get(PIXELS)) is not None and (smaller := packed(pixels)) is not None:
            kept[PIXELS] = smaller
        if (size := _size(kept)) <= room:
            self._kept[span] = kept
            self.kept_bytes += size
            self.num_kept += span[1] - span[0]

    def keep_states(self, span: tuple[int, int], states: TowerStates) -> None:
        """Let what a vision tower made of a mini-batch's pixels wait in their place, where there is room."""
        if (kept := self._kept.get(span)) is None:
            return
        smaller = {name: value for name, value in kept.items() if name != PIXELS} | {STATES: states}
        before, after = _size(kept), _size(smaller)
        if after <= MUCH * before and after - before <= self._room():
            self._kept[span] = smaller
            self.kept_bytes += after - before

    def _made(self, span: tuple[int, int]) -> dict[str, Any]:
        return self._preprocess(self._inputs[span[0] : span[1]])

    def _look_ahead(self, span: tuple[int, int]) -> None:
        begin, end = span
        for place in range(self._ahead):
            following = end + place * (end - begin), min(end + (place + 1) * (end - begin), len(self))
            if self._threads and following[0] < following[1] and following not in {*self._kept, *self._coming}:
                self._coming[following] = self._threads.submit(self._made, following)


def _size(features: dict[str, Any]) -> int:
    return sum(value.nbytes for value in features.values() if hasattr(value, "nbytes"))


def waiting_inputs(features: dict[str, Any]) -> WaitingInputs | None:
    """The inputs that wait in a column's features; None where they are tensors already."""
    waiting = features.get(MARK)
    return waiting if isinstance(waiting, WaitingInputs) else None
