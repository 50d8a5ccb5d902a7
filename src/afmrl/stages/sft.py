"""SFT: a generator learns to write the key attributes that can be seen and read of an offer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from afmrl.attributes import KeyAttributes
from afmrl.errors import InputError
from afmrl.images import open_image
from afmrl.offers import Offer
from afmrl.prompts import generator_messages
from afmrl.stages.checkpoints import last_checkpoint, remove_checkpoints, write_json


@dataclass
class SFTStage:
    """How the generator is trained on labels (the paper: all parameters of Qwen2.5-VL-3B)."""

    max_steps: int = 300
    """Optimiser steps."""
    batch_size: int = 64
    """Offers a step."""
    gradient_accumulation_steps: int = 1
    """Batches summed before a step."""
    learning_rate: float = 1e-3
    """Peak learning rate, then down to 0 by a cosine."""
    warmup_steps: int = 20
    """Steps of linear warm-up."""
    weight_decay: float = 0.01
    """AdamW's weight decay."""
    max_grad_norm: float = 1.0
    """Gradients are clipped to this norm."""
    lora_r: int | None = None
    """LoRA rank; None trains all parameters."""
    bf16: bool = False
    """Train in bfloat16 autocast."""
    gradient_checkpointing: bool = False
    """Recompute activations: slower, less memory."""
    seed: int = 0
    """Seed of order and dropout."""
    save_steps: int = 200
    """Steps between checkpoints, from which a killed run goes on."""
    log_steps: int = 20
    """Steps between entries of the training curve."""


def run_sft(
    config: SFTStage,
    base: str | Path,
    offers: Sequence[Offer],
    labels: Sequence[KeyAttributes],
    out_dir: str | Path,
    *,
    callbacks: Sequence[Any] = (),
) -> dict[str, Any]:
    """Train the model in `base` to write `str(labels[i])` for offer i; write an ordinary folder to `out_dir`.

    The loss counts the completion's tokens alone. A checkpoint found in `out_dir` is gone on from.

    Returns:
        {"history": [{"step", "loss", …}], "num_offers"}
    """
    import torch
    from datasets import Dataset
    from transformers import AutoModelForImageTextToText, AutoProcessor, PrinterCallback
    from trl import SFTConfig, SFTTrainer
    from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

    if len(offers) != len(labels) or not offers:
        raise InputError(f"SFT: {len(offers)} offers and {len(labels)} labels: one label an offer is needed")
    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    processor = AutoProcessor.from_pretrained(str(base))
    model = AutoModelForImageTextToText.from_pretrained(str(base))
    end = processor.tokenizer.eos_token

    def render(rows: dict[str, list[int]]) -> dict[str, list[Any]]:
        # pictures are opened when their batch comes, so the catalogue's never lie in memory
        chosen = [offers[row] for row in rows["row"]]
        return {
            "prompt": [
                processor.apply_chat_template(generator_messages(offer), add_generation_prompt=True, tokenize=False)
                for offer in chosen
            ],
            "completion": [str(labels[row]) + end for row in rows["row"]],
            "images": [[open_image(offer.image)] if offer.image else [] for offer in chosen],
        }

    rows = Dataset.from_dict({"row": list(range(len(offers)))})
    rows.set_transform(render)
    peft_config = None
    if config.lora_r:
        from peft import LoraConfig

        peft_config = LoraConfig(r=config.lora_r, lora_alpha=2 * config.lora_r, target_modules="all-linear")
    arguments = SFTConfig(
        output_dir=str(out_dir),
        max_steps=config.max_steps,
        per_device_train_batch_size=min(config.batch_size, len(offers)),
        gradient_accumulation_steps=config.gradient_accumulation_steps,
        learning_rate=config.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=config.warmup_steps,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        bf16=config.bf16,
        use_cpu=not torch.cuda.is_available(),
        gradient_checkpointing=config.gradient_checkpointing,
        seed=config.seed,
        save_steps=config.save_steps,
        save_total_limit=2,
        logging_steps=config.log_steps,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
        remove_unused_columns=False,
        max_length=None,
    )
    trainer = SFTTrainer(
        model=model,
        args=arguments,
        train_dataset=rows,
        processing_class=processor,
        data_collator=DataCollatorForVisionLanguageModeling(processor, completion_only_loss=True),
        callbacks=list(callbacks),
        peft_config=peft_config,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=last_checkpoint(out_dir))
    history = [entry for entry in trainer.state.log_history if "loss" in entry]
    trained: Any = trainer.model
    if config.lora_r:
        trained = trained.merge_and_unload()
    save_generator(trained, base, out_dir)
    write_json(out_dir / "history.json", history)
    remove_checkpoints(out_dir)
    return {"history": history, "num_offers": len(offers)}


def save_generator(model: Any, base: str | Path, out_dir: Path) -> None:
    """Weights and processor as one ordinary folder; the processor's files are the base's own, so every setting of
    them (and what it needs to load without torchvision) stays as it was."""
    import shutil

    model.save_pretrained(str(out_dir))
    base = Path(base)
    if base.is_dir():
        for name in ("tokenizer", "special_tokens", "chat_template", "preprocessor", "processor", "video_", "vocab",
                     "merges", "added_tokens"):  # fmt: skip
            for path in base.glob(f"{name}*"):
                shutil.copy2(path, out_dir / path.name)
        return
    from transformers import AutoProcessor

    AutoProcessor.from_pretrained(str(base)).save_pretrained(str(out_dir))
