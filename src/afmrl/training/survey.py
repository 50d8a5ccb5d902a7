"""What the SFT generator's samples earn before RAR: which offers can teach, which k, and the least reward of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from afmrl.data.offer import Offer
from afmrl.errors import InputError
from afmrl.files import parse_json, write_json
from afmrl.generator.engines.base import Completion
from afmrl.generator.generator import AttributeGenerator
from afmrl.rewards.retrieval_reward import RetrievalReward, Scored
from afmrl.training.completions import forget_completions, shared_completions
from afmrl.training.config import Precision, RARStage
from afmrl.training.processes import on_first
from afmrl.training.trainer_arguments import SAMPLING_TEMPERATURE

SURVEY = "survey.json"
SAME = 1e-6  # rewards nearer than this are one: embeddings of equal texts differ by less from batch to batch
BATCH_SIZE = 96  # completions sampled at a time


@dataclass(frozen=True)
class Survey:
    """What was found out before the first step of RAR."""

    rows: list[int]
    """Rows, among the reward's offers, of those that are trained on."""
    k: int
    """Of the reward: the recipe's, or the smallest at which half of the samples find their product."""
    floors: np.ndarray
    """Of the reward: no sample earns less than its offer's."""
    summary: dict[str, Any]
    """"num_queries", "num_teachable", "num_trained_on", "num_left_out", "left_out" (which: with or without an image),
    "zero_variance_share" and "baseline": means over the samples."""


def kept_survey(
    config: RARStage,
    reward: RetrievalReward,
    generator_path: str | Path,
    folder: Path,
    *,
    dtype: Precision = "float32",
    seed: int = 0,
) -> Survey:
    """`take_survey` of the generator, or what `folder` holds of a run that was killed; asked for by every process.

    A run that resumes has to take that over: on a GPU other samples would come, and with them other offers, k and
    floors than the checkpoint was trained with.
    """
    path = folder / SURVEY
    if not on_first(path.is_file):
        generator = AttributeGenerator.from_pretrained(generator_path, dtype=dtype)
        survey = take_survey(config, reward, generator, folder, seed=seed)

        def keep() -> None:
            floors = survey.floors.tolist()
            write_json(path, {"rows": survey.rows, "k": survey.k, "floors": floors, "summary": survey.summary})
            forget_completions(folder)

        on_first(keep)
    kept = on_first(lambda: parse_json(path.read_text(encoding="utf-8")))
    return Survey(kept["rows"], kept["k"], np.asarray(kept["floors"], dtype=np.float64), kept["summary"])


def take_survey(
    config: RARStage, reward: RetrievalReward, generator: AttributeGenerator, folder: Path, *, seed: int = 0
) -> Survey:
    """Sample completions of every offer, all processes together, and see what they earn.

    Args:
        folder: keeps the samples until all are there.
        seed: of sampling.

    Raises:
        InputError: there are fewer offers than a step takes.
    """
    sampled = shared_completions(
        generator,
        reward.offers,
        folder,
        num_completions=config.num_generations,
        temperature=SAMPLING_TEMPERATURE,
        max_new_tokens=config.max_new_tokens,
        batch_size=BATCH_SIZE,
        seed=seed,
    )
    # embeddings differ by rounding from GPU to GPU: one process judges for all
    survey: Survey = on_first(lambda: _judged(config, reward, sampled))
    return survey


def _judged(config: RARStage, reward: RetrievalReward, sampled: Sequence[Sequence[Completion]]) -> Survey:
    """What the samples earn, and what follows from it."""
    rows = np.repeat(np.arange(len(reward.offers)), config.num_generations).tolist()
    texts = [completion.text for of_offer in sampled for completion in of_offer]
    ended = [completion.ended for of_offer in sampled for completion in of_offer]
    scored = reward.score(rows, texts, ended)
    if reward.kind in ("recall@k", "ndcg@k") and config.k is None:
        # invalid completions are nowhere; where all are, the queries alone have to say how far down an answer is
        reward = reward.with_(k=smallest_k(scored.ranks[scored.valid] if scored.valid.any() else reward.plain_ranks()))
        scored = reward.score(rows, texts, ended)
    reward = reward.with_(floors=reward.lowered_floors(rows, scored))
    scored = reward.score(rows, texts, ended)
    chosen, summary = _choose(config, reward, scored)
    return Survey(chosen, reward.k, reward.floors(), summary)


def _choose(config: RARStage, reward: RetrievalReward, scored: Scored) -> tuple[list[int], dict[str, Any]]:
    """The rows that are trained on, and the survey's summary."""
    by_offer = scored.reward.reshape(len(reward.offers), config.num_generations)
    can_teach = np.ptp(by_offer, axis=1) >= SAME
    zero_variance_share = 1 - int(can_teach.sum()) / max(len(reward.offers), 1)
    kept, left_out = rows_of_one_kind(config, reward.offers, reward.described)
    teachable, others = [row for row in kept if can_teach[row]], [row for row in kept if not can_teach[row]]
    # what earned the same in a few samples may differ in others: it fills up the batch where too few teach
    chosen = teachable + others[: max(config.prompts_per_step - len(teachable), 0)] if config.teachable_only else kept
    return chosen, {
        "num_queries": len(reward.offers),
        "num_teachable": len(teachable),
        "num_left_out": len(reward.offers) - len(kept),
        "left_out": left_out,
        "num_trained_on": len(chosen),
        "zero_variance_share": zero_variance_share,
        "baseline": {
            "reward": float(scored.reward.mean()),
            "retrieval": float(scored.retrieval[scored.valid].mean()) if scored.valid.any() else 0.0,
            "valid": float(scored.valid.mean()),
            "faithfulness": float(scored.faithfulness.mean()),
        },
    }


def rows_of_one_kind(config: RARStage, offers: Sequence[Offer], described: str) -> tuple[list[int], str]:
    """Rows of the offers that can be in one batch, and in words what is left out: those with or without an image.

    trl cannot mix prompts with and without an image in one batch. The larger kind teaches.

    Args:
        described: what the offers are, in words.

    Raises:
        InputError: there are fewer than a step takes.

    >>> rows_of_one_kind(RARStage(prompts_per_step=2), [Offer("1", "Lamp"), Offer("2", "Vase")], "queries")
    ([0, 1], 'with an image')
    """
    with_images = 2 * sum(bool(offer.image) for offer in offers) >= len(offers) > 0
    kept = [row for row, offer in enumerate(offers) if bool(offer.image) == with_images]
    left_out = ("without" if with_images else "with") + " an image"
    if len(kept) < config.prompts_per_step:
        num_left_out = len(offers) - len(kept)
        kinds = f"; the {num_left_out} {left_out} are left out, since both kinds do not go into one batch"
        raise InputError(
            f"RAR: {len(kept)} of {len(offers)} reward {described} can be trained on, fewer than "
            f"rar.prompts_per_step={config.prompts_per_step}{kinds if num_left_out else ''}; deal more families to the "
            f"split 'reward', lower prompts_per_step{f' to {len(kept)}' if kept else ''}, or leave RAR out "
            "(rar.max_steps=0)"
        )
    return kept, left_out


def smallest_k(ranks: np.ndarray, target: float = 0.5) -> int:
    """The smallest k at which Recall@k is at least `target`: smaller is too sparse, larger saturates.

    >>> smallest_k(np.array([1, 2, 8, 30]))
    2
    """
    return int(np.sort(ranks)[max(int(np.ceil(target * len(ranks))) - 1, 0)])


def zero_variance_share(rewards: Sequence[float], num_generations: int) -> float:
    """Share of the groups whose completions all earned the same: they give no gradient.

    >>> zero_variance_share([1.0, 1.0, 0.0, 1.0], 2)
    0.5
    """
    groups = np.asarray(rewards, dtype=np.float64).reshape(-1, num_generations)
    return float((np.ptp(groups, axis=1) < SAME).mean())
