"""Offers as inputs of a first module that reads their text and their image apart, either of which may be missing."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from sentence_transformers.base.modality import is_image_url_or_path
from sentence_transformers.base.modules import InputModule
from torch import Tensor, nn

from afmrl.data.images import open_image
from afmrl.errors import InputError

Tower = Literal["text", "image"]
HUB_OPTIONS = ("token", "cache_folder", "revision", "local_files_only")
"""Of `load`, those that say where a model's files are."""
FEATURES = "image_features"
"""Of a batch: what stands for images that a frozen tower has seen before."""


class TextAndImage(InputModule):
    """A first module of a SentenceTransformer with a tower for texts and one for images.

    An input is a text, a PIL image, or `{"text": …, "image": …}` with either or both; the image may be the features
    that `image_features` made of one. What an input lacks is marked as missing, and not read as an empty text or a
    black image.

    Shape:
        `preprocess` gives `has_text`, `has_image` (B,), and what `read_texts` and `read_images` say, one row an input.
        `forward` adds `text_state` (B, T) and `image_state` (B, F), zeros where the part is missing.
    """

    def __init__(self) -> None:
        super().__init__()
        self.frozen: frozenset[Tower] = frozenset()

    @property
    @abstractmethod
    def towers(self) -> dict[Tower, nn.Module]:
        """The two."""

    @property
    @abstractmethod
    def text_dimension(self) -> int:
        """T, the length of a text's state."""

    @property
    @abstractmethod
    def image_dimension(self) -> int:
        """F, the length of an image's state, or features."""

    @abstractmethod
    def read_texts(self, texts: list[str]) -> dict[str, Tensor]:
        """Tensors of one row a text."""

    @abstractmethod
    def read_images(self, images: list[Any]) -> dict[str, Tensor]:
        """Tensors of one row an image, under names that no text's have."""

    @abstractmethod
    def text_states(self, features: Mapping[str, Any], rows: Tensor) -> Tensor:
        """(n, T) states of the texts at these rows."""

    @abstractmethod
    def image_states(self, features: Mapping[str, Any], rows: Tensor) -> Tensor:
        """(n, F) states of the images at these rows."""

    @property
    def modalities(self) -> list[Any]:
        """Text, image, both, and batches of mixed inputs ("message")."""
        return ["text", "image", ("image", "text"), "message"]

    def freeze(self, towers: Sequence[Tower]) -> None:
        """Leave these towers as they are in training; the others train."""
        self.frozen = frozenset(towers)
        for name, tower in self.towers.items():
            tower.requires_grad_(name not in self.frozen)

    def train(self, mode: bool = True) -> Self:
        """As in torch; batch norm and frozen towers stay as at inference: a mini-batch is no statistics."""
        super().train(mode)
        for name, tower in self.towers.items():
            if name in self.frozen:
                tower.eval()
        for module in self.towers["image"].modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self

    def preprocess(self, inputs: Sequence[Any], prompt: str | None = None, **_: Any) -> dict[str, Any]:
        """Tensors of a batch of inputs, of one kind or mixed."""
        parts = [_parts(one) for one in inputs]
        found: dict[str, Any] = {
            **self.read_texts([(prompt or "") + text if text is not None else "" for text, _ in parts]),
            "has_text": torch.tensor([text is not None for text, _ in parts]),
            "has_image": torch.tensor([image is not None for _, image in parts]),
        }
        images = {row: image for row, (_, image) in enumerate(parts) if image is not None}
        made = {
            row: image for row, image in images.items() if isinstance(image, np.ndarray | Tensor) and image.ndim == 1
        }
        if made and len(made) < len(images):
            raise InputError("embedder: a batch holds images and features of images; give one kind")
        if made:
            rows = torch.stack([torch.as_tensor(np.asarray(image), dtype=torch.float32) for image in made.values()])
            found[FEATURES] = _at_rows(rows, list(made), len(parts))
        elif images:
            read = self.read_images(list(images.values()))
            found |= {name: _at_rows(value, list(images), len(parts)) for name, value in read.items()}
        return found

    @classmethod
    def folder_of(cls, model: str, subfolder: str, hub: Mapping[str, Any]) -> Path:
        """Where a saved module lies, for `load`.

        Raises:
            InputError: it is not there.
        """
        where = {name: hub[name] for name in HUB_OPTIONS if name in hub}
        root = cls.load_dir_path(model, subfolder, **where)
        if root is None:
            raise InputError(f"embedder {model}: the module {subfolder or 'at its root'} is not there")
        return Path(root)

    def forward(self, features: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Add `text_state` and `image_state`."""
        has_text, has_image = features["has_text"], features["has_image"]
        like = {"device": has_text.device, "dtype": next(self.towers["text"].parameters()).dtype}
        text = torch.zeros(len(has_text), self.text_dimension, **like)
        image = torch.zeros(len(has_text), self.image_dimension, **like)
        if (rows := has_text.nonzero().flatten()).numel():
            with torch.set_grad_enabled(torch.is_grad_enabled() and "text" not in self.frozen):
                text = text.index_copy(0, rows, self.text_states(features, rows).to(text.dtype))
        rows = has_image.nonzero().flatten()
        if rows.numel() and FEATURES in features:
            image = image.index_copy(0, rows, features[FEATURES][rows].to(image.dtype))
        elif rows.numel():
            with torch.set_grad_enabled(torch.is_grad_enabled() and "image" not in self.frozen):
                image = image.index_copy(0, rows, self.image_states(features, rows).to(image.dtype))
        return {**features, "text_state": text, "image_state": image}


def _at_rows(values: Tensor, rows: Sequence[int], count: int) -> Tensor:
    """`values` at their rows of a batch of `count`, zeros elsewhere."""
    if len(rows) == count:
        return values
    return torch.zeros(count, *values.shape[1:], dtype=values.dtype).index_copy(0, torch.tensor(rows), values)


def _parts(one: Any) -> tuple[str | None, Any]:
    """Text and image of an input, None where it has none."""
    if isinstance(one, str):
        return (None, open_image(one)) if is_image_url_or_path(one) and Path(one).is_file() else (one, None)
    if isinstance(one, Mapping) and "content" in one:
        return _parts_of_message([one])
    if isinstance(one, list):
        return _parts_of_message(one)
    if isinstance(one, Mapping):
        if unknown := set(one) - {"text", "image"}:
            raise InputError(f"embedder: an input has the parts {sorted(map(str, unknown))}; it reads text and image")
        image = one.get("image")
        return one.get("text") or None, open_image(image) if isinstance(image, str | Path) else image
    return None, one


def _parts_of_message(messages: Sequence[Any]) -> tuple[str | None, Any]:
    texts: list[str] = []
    images: list[Any] = []
    for message in messages:
        content = message["content"]
        for part in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            (texts if part["type"] == "text" else images).append(part[part["type"]])
    if len(images) > 1:
        raise InputError("embedder: a message has several images; this model reads one of an offer")
    return " ".join(texts) or None, images[0] if images else None
