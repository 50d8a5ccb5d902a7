"""What the SFT generator's samples earn before RAR: which queries can teach, which k, what the least reward is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from afmrl.errors import InputError
from afmrl.files import write_json
from afmrl.generator.generator import AttributeGenerator
from afmrl.rewards.query import RetrievalReward, smallest_k
from afmrl.training.completions import forget_completions, kept_completions

if TYPE_CHECKING:
    from afmrl.training.config import RARStage

SURVEY = "survey.json"
SAME = 1e-6  # rewards nearer than this are one: embeddings of equal texts differ by less from batch to batch


def kept_survey(
    config: RARStage, reward: RetrievalReward, generator_path: str | Path, folder: Path
) -> tuple[list[int], dict[str, Any], int, np.ndarray]:
    """`survey_of`, the reward's k and its floors; what `folder` holds of a run that was killed is taken over.

    A run that goes on has to: on a GPU other samples would come, and with them other queries, k and floors than the
    checkpoint was trained with.
    """
    path = folder / SURVEY
    if not path.is_file():
        generator = AttributeGenerator.from_pretrained(generator_path)
        rows, survey = survey_of(config, reward, generator, folder)
        write_json(path, {"rows": rows, "survey": survey, "k": reward.k, "floors": reward.floors().tolist()})
        forget_completions(folder)
    kept = json.loads(path.read_text(encoding="utf-8"))
    return kept["rows"], kept["survey"], kept["k"], np.asarray(kept["floors"], dtype=np.float64)


def survey_of(
    config: RARStage, reward: RetrievalReward, generator: AttributeGenerator, folder: Path
) -> tuple[list[int], dict[str, Any]]:
    """Rows of the queries whose sampled completions earn different rewards; sets the reward's k.

    Args:
        folder: keeps the samples until all are there.
    """
    sampled = kept_completions(
        generator,
        reward.queries,
        folder,
        num_completions=config.num_generations,
        temperature=config.temperature,
        max_new_tokens=config.max_completion_length,
        batch_size=96,
        seed=config.seed,
    )
    rows = np.repeat(np.arange(len(reward.queries)), config.num_generations)
    texts = [completion.text for of_query in sampled for completion in of_query]
    ended = [completion.ended for of_query in sampled for completion in of_query]
    scored = reward.score(rows.tolist(), texts, ended)
    if reward.kind in ("recall@k", "ndcg@k") and config.k is None:
        # invalid completions stand nowhere; where all are, the queries alone have to say how far down an answer is
        reward.k = smallest_k(scored.ranks[scored.valid] if scored.valid.any() else reward.plain_ranks())
        scored = reward.score(rows.tolist(), texts, ended)
    reward.lower_floors(rows.tolist(), scored)
    scored = reward.score(rows.tolist(), texts, ended)
    by_query = scored.reward.reshape(len(reward.queries), config.num_generations)
    varied = np.flatnonzero(np.ptp(by_query, axis=1) >= SAME).tolist()
    zero_variance_share = 1 - len(varied) / max(len(reward.queries), 1)
    everyone = list(range(len(reward.queries)))
    # trl cannot mix prompts with and without an image in one batch: the larger kind teaches
    with_image = [row for row in everyone if reward.queries[row].image]
    with_images = 2 * len(with_image) >= len(everyone)
    kept = {row for row in everyone if bool(reward.queries[row].image) == with_images}
    left_out = len(everyone) - len(kept)
    varied, everyone = [row for row in varied if row in kept], sorted(kept)
    survey = {
        "num_queries": len(reward.queries),
        "num_teachable": len(varied),
        "num_left_out": left_out,
        "left_out": ("without" if with_images else "with") + " an image",
        "num_trained_on": len(varied if config.teachable_only else everyone),
        "zero_variance_share": zero_variance_share,
        "baseline": {
            "reward": float(scored.reward.mean()),
            "retrieval": float(scored.retrieval[scored.valid].mean()) if scored.valid.any() else 0.0,
            "valid": float(scored.valid.mean()),
            "faithfulness": float(scored.faithfulness.mean()),
        },
    }
    chosen = varied if config.teachable_only else everyone
    if len(chosen) < config.prompts_per_step:
        kinds = f"; the {left_out} {survey['left_out']} are left out, since both kinds do not go into one batch"
        raise InputError(
            f"RAR: {len(chosen)} of {len(reward.queries)} reward {reward.described} "
            + ("earn different rewards for different completions" if config.teachable_only else "can be trained on")
            + f", fewer than rar.prompts_per_step={config.prompts_per_step}{kinds if left_out else ''}; deal more "
            "families to the split 'reward', or lower prompts_per_step"
        )
    return chosen, survey
