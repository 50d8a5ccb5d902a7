"""A vision tower that is not trained runs once an image, where GradCache embeds everything twice."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

import torch

STATES = "vision_states"
"""Entry of a mini-batch's features: what the tower gave for its images, in the place of their pixels."""
PIXELS = "pixel_values"


class TowerStates:
    """What a Qwen-VL's vision tower gives the language model, in host memory.

    Args:
        output: of the tower.
    """

    def __init__(self, output: Any) -> None:
        self._output = _on(output, torch.device("cpu"))

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        deep = getattr(self._output, "deepstack_features", None) or []
        return sum(int(each.nbytes) for each in (self._output.pooler_output, *deep))

    def on(self, device: torch.device) -> Any:
        """The tower's output on a device; a copy, for the model puts other things into it."""
        return _on(self._output, device)


@contextlib.contextmanager
def frozen_tower(model: Any, features: dict[str, Any]) -> Iterator[dict[str, TowerStates]]:
    """Within it a vision tower that is not trained runs without gradient, and not at all where `features` has states.

    Args:
        model: a SentenceTransformer. Other models than Qwen-VLs with a frozen tower run as ever.
        features: of a mini-batch; states are taken out of it.

    Yields:
        A dict that holds the states at `STATES`, once the tower ran.
    """
    tower = getattr(model.transformers_model, "visual", None) if hasattr(model, "transformers_model") else None
    known, found = features.pop(STATES, None), dict[str, TowerStates]()
    if tower is None or any(parameter.requires_grad for parameter in tower.parameters()):
        yield found
        return
    run = tower.forward

    def forward(*inputs: Any, **options: Any) -> Any:
        if known is not None:
            return known.on(options["grid_thw"].device)
        with torch.no_grad():  # checkpointing has the first layer ask for gradients, which nothing here needs
            output = run(*inputs, **options)
        found[STATES] = TowerStates(output)
        return output

    if known is not None:
        features[PIXELS] = torch.empty(0)  # says that there are images
    tower.forward = forward
    try:
        yield found
    finally:
        del tower.forward  # the class has its own


def _on(output: Any, device: torch.device) -> Any:
    """A copy of a tower's output on a device, without the states of its patches, which nothing reads."""
    moved = copy.copy(output)
    moved.last_hidden_state = None
    moved.pooler_output = output.pooler_output.to(device)
    if getattr(output, "deepstack_features", None):  # Qwen3-VL
        moved.deepstack_features = [each.to(device) for each in output.deepstack_features]
    return moved
