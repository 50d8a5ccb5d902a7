"""Text and image joined to one embedding."""

from __future__ import annotations

from typing import Any, Self

import torch
from sentence_transformers.base.modules import Module
from torch import Tensor, nn

SMALLEST = 1e-12


class JoinParts(Module):
    """Projects what the towers say, and joins both to one embedding, of which either part may be missing.

    With both parts present, the dot product of two embeddings is `text_weight` times the cosine of the texts plus
    `1 - text_weight` times that of the images. Features of an image are centered, so unrelated images have a cosine
    near 0: a missing image, which is 0, is neither like nor unlike any other. The next module normalizes: between two
    offers of text alone the dot product is the cosine of the texts.

    The numbers of both parts alternate, so that an embedding cut to its first numbers still holds both.

    Args:
        text_dimension: T, length of a text's state.
        image_dimension: F, length of an image's features.
        part_dimension: P, numbers of each part; the embedding has 2 P.
        text_weight: share of the text in the dot product at the start; it is learned in training.
        feature_dropout: share of an image's features that training hides at random.
        part_dropout: share of the offers with both parts that lose one of them in training.

    Shape:
        reads `text_state` (B, T), `image_state` (B, F), `has_text` and `has_image` (B,); adds `sentence_embedding`
        (B, 2 P).
    """

    config_keys = ["text_dimension", "image_dimension", "part_dimension", "feature_dropout", "part_dropout"]

    def __init__(
        self,
        text_dimension: int,
        image_dimension: int,
        part_dimension: int = 384,
        *,
        text_weight: float = 0.5,
        feature_dropout: float = 0.3,
        part_dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.text_dimension, self.image_dimension, self.part_dimension = text_dimension, image_dimension, part_dimension
        self.feature_dropout, self.part_dropout = feature_dropout, part_dropout
        self.text_projection = nn.Linear(text_dimension, part_dimension, bias=False)
        self.image_projection = nn.Linear(image_dimension, part_dimension, bias=False)
        nn.init.eye_(self.text_projection.weight)
        nn.init.orthogonal_(self.image_projection.weight)
        self.text_logit = nn.Parameter(torch.logit(torch.tensor(float(text_weight))))

    def forward(self, features: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Add `sentence_embedding`."""
        has_text, has_image = features["has_text"], features["has_image"]
        if self.training and self.part_dropout:
            has_text, has_image = self._with_some_hidden(has_text, has_image)
        image_state = nn.functional.dropout(features["image_state"], self.feature_dropout, self.training)
        text = _unit(self.text_projection(features["text_state"])) * has_text[:, None]
        image = _unit(self.image_projection(image_state)) * has_image[:, None]
        weight = torch.sigmoid(self.text_logit)
        parts = torch.stack([weight.sqrt() * text, (1 - weight).sqrt() * image], dim=2)
        return {**features, "sentence_embedding": parts.flatten(1)}

    def _with_some_hidden(self, has_text: Tensor, has_image: Tensor) -> tuple[Tensor, Tensor]:
        draws = torch.rand(len(has_text), device=has_text.device)
        both = has_text & has_image
        return (
            has_text & ~(both & (draws < self.part_dropout / 2)),
            has_image & ~(both & (draws > 1 - self.part_dropout / 2)),
        )

    def get_embedding_dimension(self) -> int:
        """2 P."""
        return 2 * self.part_dimension

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Write settings and weights."""
        self.save_config(output_path)
        self.save_torch_weights(output_path, safe_serialization=safe_serialization)

    @classmethod
    def load(cls, model_name_or_path: str, subfolder: str = "", **kwargs: Any) -> Self:
        """Read what `save` wrote."""
        hub = {
            name: kwargs[name] for name in ("token", "cache_folder", "revision", "local_files_only") if name in kwargs
        }
        found = cls(**cls.load_config(model_name_or_path, subfolder=subfolder, **hub))
        return cls.load_torch_weights(model_name_or_path, subfolder=subfolder, model=found, **hub)


def _unit(rows: Tensor) -> Tensor:
    return nn.functional.normalize(rows, dim=1, eps=SMALLEST)
