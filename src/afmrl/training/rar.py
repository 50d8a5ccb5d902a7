"""RAR: retrieval-aware attribute reinforcement, GRPO of the generator rewarded by the frozen embedder.

One step of RAR:

1. `prompts_per_step` offers of the reward split are drawn: queries, or offers of the gallery that queries look for.
2. The generator writes `num_generations` completions for each, a group.
3. The reward reads each completion as key attributes and puts them into the offer's text. With
   `rewarded_pairs: true` it puts in only what the offer's targets confirm.
4. The frozen embedder embeds that text and image, and ranks the frozen gallery. The rank of the offer's own product is
   the reward, and the F score against the targets is added. A completion that cannot be read earns less than any other.
5. GRPO compares each completion with its group: better ones become likelier, worse ones less likely, and a KL term
   keeps the generator near the SFT policy.
6. The SFT loss of a batch of labeled offers is added (`anchor`), so that attributes stay true.
7. Every `eval_steps` the generator writes for the validation split; the step that retrieves best there is kept
   (`watch`).

Before the first step a survey finds out which offers can teach at all, k, and the least reward (`survey`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.data.images import open_image
from afmrl.data.offer import Offer
from afmrl.files import write_json
from afmrl.generator.prompt import GeneratorPrompt, generator_messages
from afmrl.generator.small.build import generator_folder
from afmrl.rewards.retrieval_reward import RetrievalReward
from afmrl.training.anchor import Anchor, anchored
from afmrl.training.best_weights import BEST, load_weights
from afmrl.training.checkpoints import remove_checkpoints, resume_by_own_names, train_from_checkpoint
from afmrl.training.config import Hardware, RARStage
from afmrl.training.lazy_rows import lazy_rows
from afmrl.training.lora import cast_weights, lora_config
from afmrl.training.processes import gathered, rank
from afmrl.training.sft import save_generator
from afmrl.training.survey import SURVEY, kept_survey, zero_variance_share
from afmrl.training.trainer_arguments import rar_arguments
from afmrl.training.watch import Validation, Watch, remove_watch, watch_callback

CURVE_NAMES = {
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
"""What of trl's log goes into the training curve, and under which name."""


def run_rar(
    config: RARStage,
    generator_path: str | Path,
    reward: RetrievalReward,
    out_dir: str | Path,
    *,
    validation: Validation | None = None,
    anchor: tuple[Sequence[Offer], Sequence[KeyAttributes]] | None = None,
    hardware: Hardware | None = None,
    seed: int = 0,
    callbacks: Sequence[Any] = (),
) -> dict[str, Any]:
    """Train the generator in `generator_path`; write an ordinary folder to `out_dir`.

    A call that was killed resumes from the survey and the checkpoints that it left in `out_dir`. The generator is
    loaded by its path, so that trl's KL reference is this very policy.

    Args:
        reward: as `split_reward` makes it for the recipe; its k and floors are found by the survey.
        validation: what the generator is measured on beside its reward; the best step on it is kept.
        anchor: offers and targets for `sft_weight`, those of SFT; None: the reward alone.
        hardware: as in a recipe; None: its defaults.
        seed: of sampling and order.

    Returns:
        {"history", "k", what `Survey.summary` says} and, with `validation`, "validation": {"before", "after" (measures
        of `Validation`), "step", "stopped_at"}

    Raises:
        InputError: too few offers can teach, or batches that do not divide.
    """
    from trl import GRPOTrainer

    from afmrl.generator.local_model import load_processor, reads_images, visible_offers

    hardware = hardware or Hardware()
    lora = hardware.lora_of("rar")
    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    generator_path = generator_folder(generator_path)
    prompt = GeneratorPrompt.load(generator_path)
    processor = load_processor(generator_path)
    arguments = rar_arguments(config, hardware, seed, out_dir)
    survey = kept_survey(config, reward, generator_path, out_dir, dtype=hardware.precision, seed=seed)
    reward = reward.with_(k=survey.k, floors=survey.floors)
    watch = Watch(out_dir, config.patience, hold_truth=reward.holds_to_targets)
    every = config.eval_steps if config.eval_steps is not None else max(config.max_steps // 8, 1)
    watching = (
        []
        if validation is None or not every
        else [watch_callback(watch, validation, processor, every, prompt, start=generator_path)]
    )
    trainer_class: type = GRPOTrainer
    if anchor is not None and config.sft_weight:
        held = Anchor(
            visible_offers(anchor[0], processor), anchor[1], config.sft_weight, config.sft_batch_size, seed, prompt
        )
        trainer_class = anchored(GRPOTrainer, held, processor)
    trainer = trainer_class(
        model=str(generator_path),
        reward_funcs=_GroupedReward(reward, config.num_generations),
        args=arguments,
        train_dataset=_training_rows(reward, survey.rows, prompt, processor),
        processing_class=processor if reads_images(processor) else processor.tokenizer,
        callbacks=[*callbacks, *watching],
        peft_config=lora_config(lora) if lora else None,
    )
    if trainer.ref_model is not None:
        cast_weights(trainer.ref_model, hardware.precision)
    resume_by_own_names(trainer)
    train_from_checkpoint(trainer, out_dir)
    history = [_curve_entry(entry) for entry in trainer.state.log_history if "reward" in entry]
    trained: Any = trainer.model
    result: dict[str, Any] = {"history": history, "k": survey.k, **survey.summary}
    if watching:
        if rank() == 0:
            load_weights(trained, out_dir / BEST)
        result["validation"] = watch.summary()
        result["history"] = history = with_validation(history, watch.measured)
    if lora:
        trained = trained.merge_and_unload()
    if rank() == 0:
        save_generator(trained, generator_path, out_dir, dtype=hardware.precision)
        write_json(out_dir / "history.json", history)
        remove_checkpoints(out_dir)
        remove_watch(out_dir)
        (out_dir / SURVEY).unlink()
    return result


def _training_rows(reward: RetrievalReward, rows: Sequence[int], prompt: GeneratorPrompt, processor: Any) -> Any:
    """A Dataset of the offers that are trained on: columns prompt, query_row and, with images, images."""
    from afmrl.generator.local_model import reads_images, text_messages, visible_offers

    def render(batch: dict[str, list[int]]) -> dict[str, list[Any]]:
        chosen = visible_offers([reward.offers[row] for row in batch["query_row"]], processor)
        messages = [generator_messages(offer, prompt) for offer in chosen]
        columns: dict[str, list[Any]] = {
            "prompt": messages if reads_images(processor) else [text_messages(each) for each in messages],
            "query_row": batch["query_row"],
        }
        if chosen[0].image:
            columns["images"] = [[open_image(offer.image)] for offer in chosen]
        return columns

    return lazy_rows({"query_row": list(rows)}, render)


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


def _curve_entry(entry: dict[str, Any]) -> dict[str, float]:
    return {ours: float(entry[theirs]) for theirs, ours in CURVE_NAMES.items() if theirs in entry}


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
