"""Checkpoints of a stage that was killed, and the curve of one that runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any


def last_checkpoint(folder: str | Path, max_steps: int) -> str | None:
    """The newest complete `checkpoint-N` in `folder` with N below `max_steps`; torn and later ones are removed.

    transformers writes `trainer_state.json` last, so a folder without a readable one was killed half-way. From a
    checkpoint of the last step it would train one step too many.
    """
    found = sorted(Path(folder).glob("checkpoint-*"), key=lambda path: int(path.name.rsplit("-", 1)[-1]))
    for path in reversed(found):
        if int(path.name.rsplit("-", 1)[-1]) >= max_steps:
            shutil.rmtree(path, ignore_errors=True)
            continue
        try:
            json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
            return str(path)
        except (OSError, ValueError):
            shutil.rmtree(path, ignore_errors=True)
    return None


def train_from_checkpoint(trainer: Any, folder: str | Path) -> list[dict[str, Any]]:
    """Train to the end, from the last checkpoint in `folder` if there is one; the curve: log entries with a loss."""
    from transformers import PrinterCallback

    from afmrl.training.processes import on_first

    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=on_first(lambda: last_checkpoint(folder, trainer.args.max_steps)))
    return [entry for entry in trainer.state.log_history if "loss" in entry]


def resume_by_own_names(trainer: Any) -> None:
    """Make a trainer of transformers resume with the weights of its checkpoint.

    A checkpoint of Qwen2-VL is written under the names of the hub's files, and the trainer reads it by those that the
    modules have now. Nothing matches, it warns, and training resumes from the weights that it began with, beside the
    optimizer's state of the checkpoint. `from_pretrained` knows both names. LoRA's adapters are read as before.
    """
    load = trainer._load_from_checkpoint

    def load_whole(checkpoint: str, model: Any = None) -> None:
        model = trainer.model if model is None else model
        if not (Path(checkpoint) / "config.json").is_file():  # adapters alone
            load(checkpoint, model)
            return
        read = type(model).from_pretrained(checkpoint, dtype=model.dtype)
        model.load_state_dict(read.state_dict())

    trainer._load_from_checkpoint = load_whole


def remove_checkpoints(folder: str | Path) -> None:
    """Delete the checkpoints of a finished stage."""
    for path in Path(folder).glob("checkpoint-*"):
        shutil.rmtree(path, ignore_errors=True)
