"""The quickstart's stages on a larger drawn catalog: what `ablation`, `agcl_settings` and `rar_truth` train."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from afmrl.sample.catalog import write_sample_catalog
from afmrl.terminal import StageProgress
from afmrl.training.data import prepare_data
from afmrl.training.ledger import Ledger
from afmrl.training.recipe import Recipe, load_recipe
from afmrl.training.run_state import Run

CATALOG_SEED = 20260420
TRAINING = {"train": 600, "reward": 80, "val": 30}
"""Families of the splits that are not measured."""


def quickstart_recipe(settings: Mapping[str, Any]) -> Recipe:
    """The recipe of `afmrl quickstart`, with some fields set by their dotted names."""
    return load_recipe("quickstart", settings)


def sample_recipe(
    seed: int, work: Path, test_families: int, settings: Mapping[str, Any], catalog_seed: int = CATALOG_SEED
) -> Recipe:
    """The quickstart on a drawn catalog of so many test families, which is the same for every seed of the run."""
    folder = work / f"catalog-{test_families}"
    path = folder / "catalog.jsonl"
    if not path.is_file():  # written last
        write_sample_catalog(folder, families={**TRAINING, "test": test_families}, seed=catalog_seed)
    catalog = {
        "catalog.sample": None,
        "catalog.path": str(path),
        "catalog.targets.column": "visible_attributes",
    }
    return quickstart_recipe({"seed": seed, **catalog, **settings})


def new_run(recipe: Recipe, folder: Path) -> Run:
    """A run in `folder` whose data is read."""
    folder.mkdir(parents=True, exist_ok=True)
    run = Run(folder=folder, recipe=recipe, ledger=Ledger(folder), say=print, callbacks=StageProgress())
    prepare_data(run)
    return run


def file_name(setting: str) -> str:
    """A setting's name, for a folder."""
    return setting.replace(",", "").replace(" ", "_")
