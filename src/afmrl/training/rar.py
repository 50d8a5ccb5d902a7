"""Stage 2: retrieval-aware attribute reinforcement, GRPO of the generator rewarded by the frozen embedder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.data.images import open_image
from afmrl.data.offer import Offer
from afmrl.errors import InputError
from afmrl.files import write_json
from afmrl.generator.prompt import GeneratorPrompt, generator_messages
from afmrl.rewards.gallery import GalleryRetrievalReward
from afmrl.rewards.query import RetrievalReward
from afmrl.training.anchor import Anchor, anchored
from afmrl.training.checkpoints import last_checkpoint, remove_checkpoints, resume_by_own_names
from afmrl.training.config import RARStage
from afmrl.training.lazy_rows import lazy_rows
from afmrl.training.processes import gathered, on_first, rank, share
from afmrl.training.sft import save_generator
from afmrl.training.survey import SAME, SURVEY, kept_survey
from afmrl.training.watch import BEST, Validation, Watch, load_weights, remove_watch, watch_callback

if TYPE_CHECKING:
    from afmrl.embedder.embedder import Embedder


def run_rar(
    config: RARStage,
    generator_path: str | Path,
    embedder: Embedder,
    queries: Sequence[Offer],
    gallery: Sequence[Offer],
    relevant: Sequence[np.ndarray],
    out_dir: str | Path,
    *,
    labels: Sequence[KeyAttributes] | None = None,
    gallery_attributes: Sequence[KeyAttributes] | None = None,
    described: Sequence[int] | None = None,
    val: Validation | None = None,
    anchor: tuple[Sequence[Offer], Sequence[KeyAttributes]] | None = None,
    callbacks: Sequence[Any] = (),
) -> dict[str, Any]:
    """Train the generator in `generator_path`; write an ordinary folder to `out_dir`.

    A call that was killed goes on from the survey and the checkpoints that it left in `out_dir`. The generator is
    loaded by its path, so that trl's KL reference is this very policy.

    Args:
        embedder: frozen; queries and gallery are of families that it was not trained on.
        relevant: for each query, positions in `gallery` of the same product.
        labels: what can be seen and read of each query (for the faithfulness term); with `config.attributes_on`
            "gallery" of each offer that is described.
        gallery_attributes: what the gallery's text carries; None: nothing.
        described: with "gallery", the gallery rows that completions describe; None: all that a query looks for.
        anchor: labeled offers for `sft_weight`, those of SFT; None: the reward alone.
        val: what the generator is measured on beside its reward; the best step on it is kept.

    Returns:
        {"history", "k", "num_queries", "num_teachable", "num_trained_on", "num_left_out", "left_out" (which: with or
        without an image), "zero_variance_share", "baseline"} (`baseline`: means of the SFT samples) and, with `val`,
        "validation": {"before", "after" (measures of `Validation`), "step", "stopped_at"}

    Raises:
        InputError: no query can teach, or an option trl refuses.
    """
    import torch
    from transformers import AutoProcessor, PrinterCallback
    from trl import GRPOConfig, GRPOTrainer

    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    frozen = embedder.encode(gallery, gallery_attributes)
    prompt = GeneratorPrompt.load(generator_path)
    options: dict[str, Any] = {
        "kind": config.reward,
        "k": config.k or 1,
        "invalid_reward": config.invalid_reward,
        "faithfulness_weight": config.faithfulness_weight if labels is not None else 0.0,
        "faithfulness_beta": config.faithfulness_beta,
        "length_weight": config.length_weight,
        "rewarded_pairs": config.rewarded_pairs if labels is not None else "all",
        "labels": labels,
        "read": lambda completion, offer: prompt.in_schema(KeyAttributes.parse(completion), offer),
        "score_block_bytes": config.score_block_bytes,
    }
    if config.attributes_on == "gallery":
        rows = described if described is not None else sorted({int(row) for found in relevant for row in found})
        offers = [gallery[row] for row in rows]
        asked = embedder.encode(queries)
        reward: RetrievalReward = GalleryRetrievalReward(
            embedder.encode, offers, frozen, rows, asked, relevant, **options
        )
    else:
        reward = RetrievalReward(embedder.encode, queries, frozen, relevant, **options)
    # sampling differs from GPU to GPU; what follows from it may not
    taught, survey, reward.k, floors = on_first(lambda: kept_survey(config, reward, generator_path, out_dir))
    reward.set_floors(floors)

    def render(batch: dict[str, list[int]]) -> dict[str, list[Any]]:
        chosen = [reward.queries[row] for row in batch["query_row"]]
        columns: dict[str, list[Any]] = {
            "prompt": [generator_messages(offer, prompt) for offer in chosen],
            "query_row": batch["query_row"],
        }
        if chosen[0].image:
            columns["images"] = [[open_image(offer.image)] for offer in chosen]
        return columns

    dataset = lazy_rows({"query_row": taught}, render)
    completions = config.prompts_per_step * config.num_generations
    micro = config.micro_batch_size or completions
    if completions % micro:
        raise InputError(f"rar.micro_batch_size={micro} must divide prompts_per_step × num_generations = {completions}")
    peft_config = None
    if config.lora_r:
        from peft import LoraConfig

        peft_config = LoraConfig(r=config.lora_r, lora_alpha=2 * config.lora_r, target_modules="all-linear")
    arguments = GRPOConfig(
        output_dir=str(out_dir),
        max_steps=config.max_steps,
        per_device_train_batch_size=share(micro, "rar.micro_batch_size"),
        gradient_accumulation_steps=completions // micro,
        num_generations=config.num_generations,
        num_iterations=config.num_iterations,
        max_completion_length=config.max_completion_length,
        temperature=config.temperature,
        learning_rate=config.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=config.warmup_steps,
        beta=config.beta,
        epsilon=config.epsilon,
        loss_type=config.loss_type,
        scale_rewards=config.scale_rewards,
        bf16=config.bf16,
        use_cpu=not torch.cuda.is_available(),
        gradient_checkpointing=config.gradient_checkpointing,
        ddp_find_unused_parameters=True,  # a batch without images does not use the vision tower
        seed=config.seed,
        save_steps=config.save_steps,
        save_total_limit=2,
        logging_steps=1,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
        remove_unused_columns=False,
    )
    held_true = labels is not None and (config.rewarded_pairs == "true" or config.faithfulness_weight > 0)
    watch = Watch(out_dir, config.patience, hold_truth=held_true)
    watching = []
    every = config.eval_steps if config.eval_steps is not None else max(config.max_steps // 8, 1)
    if val is not None and every:
        processor = AutoProcessor.from_pretrained(str(generator_path))
        watching = [watch_callback(watch, val, processor, every, prompt)]
    kind = GRPOTrainer
    if anchor is not None and config.sft_weight:
        held = Anchor(*anchor, config.sft_weight, config.sft_batch_size, config.seed, prompt)
        kind = anchored(GRPOTrainer, held, AutoProcessor.from_pretrained(str(generator_path)))
    trainer = kind(
        model=str(generator_path),
        reward_funcs=_GroupedReward(reward, config.num_generations),
        args=arguments,
        train_dataset=dataset,
        callbacks=[*callbacks, *watching],
        peft_config=peft_config,
    )
    ends = trainer.model.generation_config.eos_token_id
    reward.end_token_ids = frozenset(ends if isinstance(ends, list) else [ends])
    trainer.remove_callback(PrinterCallback)
    resume_by_own_names(trainer)
    trainer.train(resume_from_checkpoint=on_first(lambda: last_checkpoint(out_dir, config.max_steps)))
    history = [_entry(entry) for entry in trainer.state.log_history if "reward" in entry]
    trained: Any = trainer.model
    validation = {}
    if watching:
        best = watch.best()
        if rank() == 0:
            load_weights(trained, out_dir / BEST)
        validation = {"before": watch.measured[0], "after": best, "step": best["step"], "stopped_at": watch.stopped_at}
        history = with_validation(history, watch.measured)
    if config.lora_r:
        trained = trained.merge_and_unload()
    if rank() == 0:
        save_generator(trained, generator_path, out_dir)
        write_json(out_dir / "history.json", history)
        remove_checkpoints(out_dir)
        remove_watch(out_dir)
        (out_dir / SURVEY).unlink()
    return {"history": history, "k": reward.k, **survey, **({"validation": validation} if validation else {})}


class _GroupedReward:
    """The reward, with the share of groups without variance logged.

    trl's own share is of the batch's deviation where `scale_rewards` is "batch", and so always 0 there.
    """

    __name__ = RetrievalReward.__name__

    def __init__(self, reward: RetrievalReward, num_generations: int) -> None:
        self.reward, self.num_generations = reward, num_generations

    def __call__(self, *columns: Any, **named: Any) -> list[float]:
        rewards = self.reward(*columns, **named)
        if log := named.get("log_metric"):
            # a group may be dealt out to several processes: it is whole only when all are gathered, in their order
            log("zero_variance", zero_variance_share(gathered(rewards), self.num_generations))
        return rewards


def zero_variance_share(rewards: Sequence[float], num_generations: int) -> float:
    """Share of the groups whose completions all earned the same: they give no gradient.

    >>> zero_variance_share([1.0, 1.0, 0.0, 1.0], 2)
    0.5
    """
    groups = np.asarray(rewards, dtype=np.float64).reshape(-1, num_generations)
    return float((np.ptp(groups, axis=1) < SAME).mean())


def _entry(entry: dict[str, Any]) -> dict[str, float]:
    names = {
        "step": "step",
        "reward": "reward",
        "reward_std": "reward_std",
        "zero_variance": "zero_variance_share",
        "kl": "kl",
        "entropy": "entropy",
        "completions/mean_length": "length",
        "completions/clipped_ratio": "cut_off",
        "valid": "valid",
        "retrieval": "retrieval",
        "faithfulness": "faithfulness",
        "sft_loss": "sft_loss",
        "loss": "loss",
    }
    return {ours: float(entry[theirs]) for theirs, ours in names.items() if theirs in entry}


def with_validation(history: Sequence[dict[str, float]], measured: Sequence[dict[str, Any]]) -> list[dict[str, float]]:
    """The curve of training with what was measured at some of its steps, step 0 (the SFT policy) first.

    >>> with_validation([{"step": 1, "reward": 0.5}], [{"step": 0, "mrr": 0.1}, {"step": 1, "mrr": 0.2}])
    [{'step': 0, 'val_mrr': 0.1}, {'step': 1, 'reward': 0.5, 'val_mrr': 0.2}]
    """
    entries: dict[int, dict[str, float]] = {int(entry["step"]): dict(entry) for entry in history}
    for entry in measured:
        numbers = {f"val_{name}": value for name, value in entry.items() if name not in ("step", "accuracy")}
        entries.setdefault(entry["step"], {"step": entry["step"]}).update(numbers)
    return [entries[step] for step in sorted(entries)]
