"""A run on its way, as its stages share it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from afmrl.data.catalog import Catalog
from afmrl.training.ledger import Ledger
from afmrl.training.recipe import Recipe
from afmrl.training.splits import Split
from afmrl.training.teaching import TeachingSet

Callbacks = Callable[[str, str, int], list[Any]]
"""Makes trainer callbacks (a progress bar) for a stage, its title and its number of steps."""


@dataclass
class Run:
    """A run on its way: its folder, recipe, data, and where each stage left its model."""

    folder: Path
    recipe: Recipe
    ledger: Ledger
    say: Callable[[str], None]
    callbacks: Callbacks
    fetch: bool = False
    """Whether images that are addresses are fetched."""
    catalog: Catalog | None = None
    splits: dict[str, Split] = field(default_factory=dict)
    teaching_set: TeachingSet = field(default_factory=TeachingSet)
    """What the generator's SFT learns from."""
    made_of: dict[str, str] = field(default_factory=dict)
    """Fingerprint of each stage's inputs and weights, by its name: what was made of others is made again."""
    base: Path | str = ""
    """The model that the embedder starts from."""
    generator_base: Path | str = ""
    """The model that the generator starts from."""
    paths: dict[str, Path] = field(default_factory=dict)
    """Folder of each stage's model, by its name."""
    cit: dict[str, Any] = field(default_factory=dict)
    """Which of CIT's rounds was kept; empty without rounds."""
    cit_generator: str = "rar"
    """Stage of the generator that belongs to the kept round."""
