"""The weights of RAR's best step so far: the trained parameters and what was measured of them, in one file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from afmrl.files import atomic_path

BEST = "best.safetensors"


def save_weights(model: Any, path: Path, entry: dict[str, Any]) -> None:
    """The trained parameters and what was measured of them as one file, whole or not at all."""
    from safetensors.torch import save_file

    trained = {name: p.detach().cpu().contiguous() for name, p in model.named_parameters() if p.requires_grad}
    with atomic_path(path) as temporary:
        save_file(trained, str(temporary), metadata={"measured": json.dumps(entry)})


def kept_entry(path: Path) -> dict[str, Any] | None:
    """What was measured of the weights in a file of `save_weights`; None if there is none."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), "pt") as file:
            entry: dict[str, Any] = json.loads(file.metadata()["measured"])
            return entry
    except (OSError, ValueError, KeyError, TypeError, SafetensorError):
        return None


def load_weights(model: Any, path: Path) -> None:
    """Put back what `save_weights` wrote."""
    import torch
    from safetensors.torch import load_file

    saved = load_file(str(path))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in saved:
                parameter.copy_(saved[name])
