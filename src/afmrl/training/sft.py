"""SFT: a generator learns to write the key attributes that can be seen and read of an offer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.data.images import bound_pixels, bound_saved_pixels, open_image
from afmrl.data.offer import Offer
from afmrl.errors import InputError
from afmrl.files import write_json
from afmrl.generator.prompt import PROMPT_FILE, GeneratorPrompt, generator_messages
from afmrl.training.augmentation import augment, is_active, with_invented_values
from afmrl.training.checkpoints import last_checkpoint, remove_checkpoints, resume_by_own_names
from afmrl.training.config import SFTStage
from afmrl.training.lazy_rows import lazy_rows
from afmrl.training.processes import on_first, rank, share, world_size


def run_sft(
    config: SFTStage,
    base: str | Path,
    offers: Sequence[Offer],
    labels: Sequence[KeyAttributes],
    out_dir: str | Path,
    *,
    prompt: GeneratorPrompt | None = None,
    callbacks: Sequence[Any] = (),
) -> dict[str, Any]:
    """Train the model in `base` to write `str(labels[i])` for offer i; write an ordinary folder to `out_dir`.

    The loss counts the completion's tokens alone. A checkpoint found in `out_dir` is gone on from.

    Args:
        prompt: what the model is shown and asked; it is saved with the model, and whoever loads that asks the same.
            None: what `base` was trained with.

    Returns:
        {"history": [{"step", "loss", …}], "num_offers"}
    """
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor, PrinterCallback
    from trl import SFTConfig, SFTTrainer
    from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

    if len(offers) != len(labels) or not offers:
        raise InputError(f"SFT: {len(offers)} offers and {len(labels)} labels: one label an offer is needed")
    prompt = prompt or GeneratorPrompt.load(base)
    if prompt.answer != "pairs":
        raise InputError(f"SFT: a generator learns to answer in pairs, not in {prompt.answer!r}")
    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    processor = AutoProcessor.from_pretrained(str(base))
    if config.max_pixels:
        bound_pixels(processor, config.max_pixels)
    model = AutoModelForImageTextToText.from_pretrained(str(base), dtype=config.dtype or "auto")
    end = processor.tokenizer.eos_token

    changes = config.augment
    varied = is_active(changes)

    def rendered(row: int, draw: int) -> tuple[Offer, KeyAttributes, list[Any]]:
        offer, label, seeds = offers[row], labels[row], (config.seed, draw)
        if varied:
            offer, label = with_invented_values(offer, label, changes.invent_values, seeds)
            offer, image = augment(offer, label, changes, seeds, batch_seeds=seeds)
            return offer, label, [image] if image is not None else []
        return offer, label, [open_image(offer.image)] if offer.image else []

    def render(rows: dict[str, list[int]]) -> dict[str, list[Any]]:
        chosen = [rendered(row, draw) for row, draw in zip(rows["row"], rows["draw"], strict=True)]
        return {
            "prompt": [
                processor.apply_chat_template(
                    generator_messages(offer, prompt), add_generation_prompt=True, tokenize=False
                )
                for offer, _, _ in chosen
            ],
            "completion": [str(label) + end for _, label, _ in chosen],
            "images": [images for _, _, images in chosen],
        }

    # each time that an offer comes it is varied anew
    num_rows = len(offers) * (math.ceil(config.max_steps * config.batch_size / len(offers)) if varied else 1)
    rows = lazy_rows({"row": np.arange(num_rows) % len(offers), "draw": np.arange(num_rows)}, render)
    peft_config = None
    if config.lora_r:
        from peft import LoraConfig

        peft_config = LoraConfig(r=config.lora_r, lora_alpha=2 * config.lora_r, target_modules="all-linear")
    of_process = share(config.batch_size, "sft.batch_size") if world_size() > 1 else min(config.batch_size, len(offers))
    micro = min(config.micro_batch_size or of_process, of_process)
    if of_process % micro:
        raise InputError(f"sft.micro_batch_size={micro} must divide the {of_process} offers of a process' batch")
    arguments = SFTConfig(
        output_dir=str(out_dir),
        max_steps=config.max_steps,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=config.gradient_accumulation_steps * (of_process // micro),
        learning_rate=config.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=config.warmup_steps,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        bf16=config.bf16,
        use_cpu=not torch.cuda.is_available(),
        gradient_checkpointing=config.gradient_checkpointing,
        ddp_find_unused_parameters=True,  # a batch without images does not use the vision tower
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
    resume_by_own_names(trainer)
    trainer.train(resume_from_checkpoint=on_first(lambda: last_checkpoint(out_dir, config.max_steps)))
    history = [entry for entry in trainer.state.log_history if "loss" in entry]
    trained: Any = trainer.model
    if config.lora_r:
        trained = trained.merge_and_unload()
    if rank() == 0:
        save_generator(trained, base, out_dir)
        prompt.save(out_dir)
        if config.max_pixels:
            bound_saved_pixels(out_dir, config.max_pixels)
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
                     "merges", "added_tokens", PROMPT_FILE):  # fmt: skip
            for path in base.glob(f"{name}*"):
                shutil.copy2(path, out_dir / path.name)
        return
    from transformers import AutoProcessor

    AutoProcessor.from_pretrained(str(base)).save_pretrained(str(out_dir))
