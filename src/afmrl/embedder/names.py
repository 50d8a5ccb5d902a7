"""A model's name to the folder that it lies in: one place for all that take a model."""

from __future__ import annotations

import json
from pathlib import Path

from afmrl.data.packaged_weights import SMALL
from afmrl.embedder.packaged import is_packaged, packaged_folder
from afmrl.embedder.small.build import small_model_folder

OWN_MODULES = (
    "afmrl.embedder.small.towers.TwoTowers",
    "afmrl.embedder.small.join.JoinParts",
    "afmrl.embedder.joined.JoinedModels",
    "afmrl.embedder.joined.AddParts",
)
"""Modules of ours that a model's folder may name. sentence-transformers imports them as it would import foreign code,
where it is told to trust the folder; of a folder with any other module it is not told."""
JOINED = " + "
"""Between a text model and an image model in one name: "minilm + facebook/dinov2-small"."""
_HARMLESS = ("sentence_transformers.", "Normalize")


def model_folder(model: str | Path) -> str | Path:
    """The folder of a model that has a name here; any other model as it was given.

    "small" is made at its first use; "minilm" lies in its package.

    A folder of that name in the current one comes first.

    Raises:
        InputError: the packages of its weights are not installed.
    """
    if str(model) == SMALL and not Path(model).is_dir():
        return small_model_folder()
    return packaged_folder(str(model)) if is_packaged(model) else model


def is_joined(model: str | Path) -> bool:
    """Whether a name stands for a text model and an image model; a folder of that name is meant where there is one.

    >>> is_joined("minilm + facebook/dinov2-small"), is_joined("minilm")
    (True, False)
    """
    return JOINED in str(model) and not Path(model).is_dir()


def only_embeds(model: str | Path) -> bool:
    """Whether a model's name stands for one that cannot write attributes.

    >>> only_embeds("minilm + facebook/dinov2-small"), only_embeds("Qwen/Qwen2-VL-2B-Instruct")
    (True, False)
    """
    return (str(model) == SMALL and not Path(model).is_dir()) or is_packaged(model) or is_joined(model)


def has_own_modules(folder: str | Path) -> bool:
    """Whether a model's folder is made of our modules and a final norm alone, and so runs no code of its own."""
    path = Path(folder) / "modules.json"
    if not path.is_file():
        return False
    types = [str(module.get("type")) for module in json.loads(path.read_text(encoding="utf-8"))]
    others = [name for name in types if name not in OWN_MODULES]
    start, end = _HARMLESS
    return len(others) < len(types) and all(name.startswith(start) and name.endswith(end) for name in others)
