"""Arguments of the three stages' trainers: what is common once, then what differs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from afmrl.errors import InputError
from afmrl.training.processes import share, world_size

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformerTrainingArguments
    from trl import GRPOConfig, SFTConfig

    from afmrl.training.config import AGCLStage, Hardware, RARStage, SFTStage

SFT_WEIGHT_DECAY = 0.01
MAX_GRAD_NORM = 1.0
TOWERS = r"(text|image)_tower\."
TOWER_RATE = 0.1
"""Learning rate of the small model's pretrained towers beside that of what joins them, which knows nothing yet."""
SAMPLING_TEMPERATURE = 1.0
"""Of RAR's completions: GRPO learns from the policy's own samples."""
CURVE_POINTS = 20
"""Entries of a training curve, at least."""


def _log_steps(max_steps: int) -> int:
    return max(max_steps // CURVE_POINTS, 1)


def _common(config: AGCLStage | SFTStage | RARStage, hardware: Hardware, seed: int, out_dir: Path) -> dict[str, Any]:
    import torch

    return {
        "output_dir": str(out_dir),
        "max_steps": config.max_steps,
        "learning_rate": config.learning_rate,
        "warmup_steps": config.warmup_steps,
        "bf16": hardware.precision == "bfloat16",
        "gradient_checkpointing": hardware.gradient_checkpointing,
        "use_cpu": not torch.cuda.is_available(),
        "ddp_find_unused_parameters": True,  # a batch without images does not use the vision tower
        "seed": seed,
        "save_steps": hardware.save_steps,
        "save_total_limit": 2,
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }


def sft_arguments(config: SFTStage, hardware: Hardware, seed: int, out_dir: Path, num_offers: int) -> SFTConfig:
    """Of trl's SFTTrainer.

    Raises:
        InputError: the batch does not divide among the processes, or a process' batch into micro-batches.
    """
    from trl import SFTConfig

    per_process = share(config.batch_size, "sft.batch_size") if world_size() > 1 else min(config.batch_size, num_offers)
    micro = min(config.micro_batch_size or per_process, per_process)
    if per_process % micro:
        raise InputError(f"sft.micro_batch_size={micro} must divide the {per_process} offers of a process' batch")
    return SFTConfig(
        **_common(config, hardware, seed, out_dir),
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=per_process // micro,
        lr_scheduler_type="cosine",
        weight_decay=SFT_WEIGHT_DECAY,
        max_grad_norm=MAX_GRAD_NORM,
        logging_steps=_log_steps(config.max_steps),
        remove_unused_columns=False,
        max_length=None,
    )


def agcl_arguments(
    config: AGCLStage, hardware: Hardware, seed: int, out_dir: Path, batch_size: int, model: Any
) -> SentenceTransformerTrainingArguments:
    """Of sentence-transformers' trainer, whose rows are already in the order of their batches.

    Args:
        model: what is trained; pretrained towers learn at a part of the rate, where it has them.
    """
    from sentence_transformers import SentenceTransformerTrainingArguments

    from afmrl.training.batch_plan import plan_batches

    return SentenceTransformerTrainingArguments(
        **_common(config, hardware, seed, out_dir),
        # accelerate deals consecutive batches to the processes: a step sees the same rows whatever their number
        per_device_train_batch_size=share(batch_size, "agcl.batch_size"),
        batch_sampler=plan_batches,
        lr_scheduler_type="linear",
        weight_decay=config.weight_decay,
        max_grad_norm=MAX_GRAD_NORM,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        learning_rate_mapping={TOWERS: TOWER_RATE * config.learning_rate} if _has_towers(model) else {},
        logging_steps=_log_steps(config.max_steps),
    )


def _has_towers(model: Any) -> bool:
    return any(weight.requires_grad and re.search(TOWERS, name) for name, weight in model.named_parameters())


def rar_arguments(config: RARStage, hardware: Hardware, seed: int, out_dir: Path) -> GRPOConfig:
    """Of trl's GRPOTrainer.

    Raises:
        InputError: the micro-batches do not divide among the processes.
    """
    from trl import GRPOConfig

    completions = config.prompts_per_step * config.num_generations
    micro = config.micro_batch_size or completions
    return GRPOConfig(
        **_common(config, hardware, seed, out_dir),
        per_device_train_batch_size=share(micro, "rar.micro_batch_size"),
        gradient_accumulation_steps=completions // micro,
        num_generations=config.num_generations,
        num_iterations=1,  # completions are used once, so that the clip of the ratio never acts
        max_completion_length=config.max_new_tokens,
        temperature=SAMPLING_TEMPERATURE,
        model_init_kwargs={"dtype": hardware.weights_dtype("rar")},
        lr_scheduler_type="linear",
        beta=config.beta,
        loss_type=config.loss_type,
        scale_rewards=config.scale_rewards,
        logging_steps=1,
        remove_unused_columns=False,
    )
