"""How long a run from the small models takes on two cores, said before it begins."""

from __future__ import annotations

from afmrl.data.packaged_weights import SMALL
from afmrl.terminal import counted
from afmrl.training.recipe import Recipe
from afmrl.training.run_state import Run

TRAINED_OFFER = {"sft": 0.30, "agcl": 0.02}
"""Seconds that one offer of a batch takes in a training step, on two cores of 2024."""
WRITTEN = 0.25
"""Seconds of one completion of the small generator."""
SEEN = 0.03
"""Seconds of an image's features."""
IMAGE_VERSIONS = 4


def expected_seconds(recipe: Recipe, num_offers: dict[str, int], num_images: int) -> dict[str, float]:
    """Seconds that each stage is expected to take; empty where the base is not the small model.

    Args:
        num_offers: of each split.
        num_images: of the training split.

    >>> from afmrl.training.recipe import load_recipe
    >>> recipe = load_recipe("own_catalog", {"catalog.path": "offers.jsonl", "rar.max_steps": 0})
    >>> {name: round(of) for name, of in expected_seconds(recipe, {"train": 700, "val": 100, "test": 200}, 0).items()}
    {'SFT': 480, 'AGCL': 307, 'evaluation': 75}
    """
    if recipe.base != SMALL:
        return {}
    sft, agcl, rar = recipe.sft, recipe.agcl, recipe.rar
    writes = bool(sft.max_steps) and recipe.generator_base == SMALL
    found = {"AGCL": agcl.max_steps * agcl.batch_size * 2 * TRAINED_OFFER["agcl"] + num_images * IMAGE_VERSIONS * SEEN}
    if writes:
        found = {"SFT": sft.max_steps * sft.batch_size * TRAINED_OFFER["sft"], **found}
    measured = num_offers.get("val", 0) + num_offers.get("test", 0)
    if writes and rar.max_steps:
        completions = rar.max_steps * rar.prompts_per_step + num_offers.get("reward", 0)
        found["RAR"] = completions * rar.num_generations * WRITTEN
    found["evaluation"] = measured * (WRITTEN if writes else SEEN)
    return found


def say_expected(run: Run) -> None:
    """One line about the time that the run will take; none where nobody knows, or where it goes on."""
    if any((run.folder / "stages").glob("*")):
        return
    offers = {name: len(split.offers) for name, split in run.splits.items()}
    images = sum(bool(offer.image) for offer in run.splits["train"].offers)
    if found := expected_seconds(run.recipe, offers, images):
        parts = ", ".join(f"{name} {max(seconds / 60, 1):.0f}" for name, seconds in found.items())
        minutes = counted(max(round(sum(found.values()) / 60), 1), "minute")
        run.say(f"on two free cores this takes about {minutes} ({parts})")
