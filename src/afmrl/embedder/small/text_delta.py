"""What training on offers added to the text tower's pretrained weights: a small delta, added when the model is made."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from afmrl.errors import InputError

DOWN, UP = ".down", ".up"
"""Ends of a delta's names: the factors (r, in) and (out, r) of what is added to one weight."""


def add_text_delta(tower: nn.Module, path: str | Path) -> None:
    """Add a delta to the weights of a text tower, in place.

    Raises:
        InputError: the delta is of another tower.
    """
    from safetensors.torch import load_file

    delta = load_file(path)
    weights = dict(tower.named_parameters())
    names = sorted({name.removesuffix(UP).removesuffix(DOWN) for name in delta})
    with torch.no_grad():
        for name in names:
            added = delta[name + UP].float() @ delta[name + DOWN].float()
            if name not in weights or weights[name].shape != added.shape:
                raise InputError(f"{path}: {name!r} is no weight of this text tower, or of another shape")
            weights[name].add_(added)


def joined_deltas(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """One delta that adds what two of the same weights add."""
    return {
        name: torch.cat([first[name], second[name]], dim=0 if name.endswith(DOWN) else 1).contiguous() for name in first
    }


def lora_layers(model: nn.Module) -> dict[str, Any]:
    """LoRA layers of peft in a model, by the name of the module that each is around."""
    from peft.tuners.lora import LoraLayer

    return {name: layer for name, layer in model.named_modules() if isinstance(layer, LoraLayer)}


def delta_of(tower: nn.Module) -> dict[str, Tensor]:
    """The delta that a text tower's LoRA layers have learned, in half precision."""
    delta = {}
    for name, layer in lora_layers(tower).items():
        down, up = (part["default"].weight.detach() for part in (layer.lora_A, layer.lora_B))
        if not up.any():  # it had no part in the embedding
            continue
        size = layer.scaling["default"] ** 0.5  # on both, so that neither leaves the range of half precision
        delta[f"{name}.weight{DOWN}"] = (size * down).half().contiguous()
        delta[f"{name}.weight{UP}"] = (size * up).half().contiguous()
    return delta
