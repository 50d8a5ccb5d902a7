"""Arguments of the three stages' trainers: what is common once, then what differs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from afmrl.errors import InputError
from afmrl.training.processes import share, world_size

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformerTrainingArguments
    from trl import GRPOConfig, SFTConfig

    from afmrl.training.config import AGCLStage, RARStage, SFTStage


def _common(config: AGCLStage | SFTStage | RARStage, out_dir: Path) -> dict[str, Any]:
    import torch

    return {
        "output_dir": str(out_dir),
        "max_steps": config.max_steps,
        "learning_rate": config.learning_rate,
        "warmup_steps": config.warmup_steps,
        "bf16": config.bf16,
        "gradient_checkpointing": config.gradient_checkpointing,
        "use_cpu": not torch.cuda.is_available(),
        "ddp_find_unused_parameters": True,  # a batch without images does not use the vision tower
        "seed": config.seed,
        "save_steps": config.save_steps,
        "save_total_limit": 2,
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }


def sft_arguments(config: SFTStage, out_dir: Path, num_offers: int) -> SFTConfig:
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
        **_common(config, out_dir),
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=config.gradient_accumulation_steps * (per_process // micro),
        lr_scheduler_type="cosine",
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        logging_steps=config.log_steps,
        remove_unused_columns=False,
        max_length=None,
    )


def agcl_arguments(config: AGCLStage, out_dir: Path, batch_size: int) -> SentenceTransformerTrainingArguments:
    """Of sentence-transformers' trainer, whose rows are already in the order of their batches."""
    from sentence_transformers import SentenceTransformerTrainingArguments

    from afmrl.training.batch_plan import plan_batches

    return SentenceTransformerTrainingArguments(
        **_common(config, out_dir),
        # accelerate deals consecutive batches to the processes: a step sees the same rows whatever their number
        per_device_train_batch_size=share(batch_size, "agcl.batch_size"),
        batch_sampler=plan_batches,
        lr_scheduler_type="linear",
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        logging_steps=config.log_steps,
    )


def rar_arguments(config: RARStage, out_dir: Path) -> GRPOConfig:
    """Of trl's GRPOTrainer.

    Raises:
        InputError: a step's completions do not divide into micro-batches, or these among the processes.
    """
    from trl import GRPOConfig

    completions = config.prompts_per_step * config.num_generations
    micro = config.micro_batch_size or completions
    if completions % micro:
        raise InputError(f"rar.micro_batch_size={micro} must divide prompts_per_step × num_generations = {completions}")
    return GRPOConfig(
        **_common(config, out_dir),
        per_device_train_batch_size=share(micro, "rar.micro_batch_size"),
        gradient_accumulation_steps=completions // micro,
        num_generations=config.num_generations,
        num_iterations=config.num_iterations,
        max_completion_length=config.max_completion_length,
        temperature=config.temperature,
        lr_scheduler_type="linear",
        beta=config.beta,
        epsilon=config.epsilon,
        loss_type=config.loss_type,
        scale_rewards=config.scale_rewards,
        logging_steps=1,
        remove_unused_columns=False,
    )
