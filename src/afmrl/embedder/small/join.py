"""Text and image joined to one embedding."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import torch
from sentence_transformers.base.modules import Module
from torch import Tensor, nn

from afmrl.embedder.small.text_and_image import HUB_OPTIONS

SMALLEST = 1e-12
KINDS = 3
"""Of offers: text alone, image alone, both."""
MARK = 0.1
"""Length of the mark that says an embedding's kind; of squares it takes a hundredth from the parts."""
LIKE_TEXT, LIKE_IMAGE = 0.9, 0.6
"""Cosines of the texts, and of the images, of two offers that are much alike: where rankings are decided. Measured on
magento_luma (benchmarks/small.py mixed)."""
MISSING_TEXT, MISSING_IMAGE = 0.9, 0.45
"""What a missing part counts as beside the other one's likeness: where images are much alike, texts usually are; where
texts are, images are somewhere between those of one product and those of its siblings."""


class JoinParts(Module):
    """Projects what the towers say, and joins both to one embedding, of which either part may be missing.

    With both parts present, the dot product of two embeddings is `text_weight` times the cosine of the texts plus
    `1 - text_weight` times that of the images, but for a hundredth. Between two offers of text alone it is the cosine
    of the texts, likewise of images.

    The numbers of both parts alternate, so that an embedding cut to its first numbers still holds both. The last three
    of the image's are no image: they mark the kind of the offer (text, image, both). By them a query can say what a
    missing part counts as, see `as_queries`.

    Args:
        text_dimension: T, length of a text's state.
        image_dimension: F, length of an image's features.
        part_dimension: P, numbers of each part, the image's with the marks; the embedding has 2 P.
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
        feature_dropout: float = 0.1,
        part_dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.text_dimension, self.image_dimension, self.part_dimension = text_dimension, image_dimension, part_dimension
        self.feature_dropout, self.part_dropout = feature_dropout, part_dropout
        self.text_projection = nn.Linear(text_dimension, part_dimension, bias=False)
        self.image_projection = nn.Linear(image_dimension, part_dimension - KINDS, bias=False)
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
        image = nn.functional.pad((1 - weight).sqrt() * image, (0, KINDS))
        parts = _unit(torch.stack([weight.sqrt() * text, image], dim=2).flatten(1))
        kinds = torch.stack([has_text & ~has_image, has_image & ~has_text, has_text & has_image], dim=1)
        marks = nn.functional.pad(kinds.to(parts.dtype), (self.part_dimension - KINDS, 0))
        marks = torch.stack([torch.zeros_like(marks), marks], dim=2).flatten(1)
        return {**features, "sentence_embedding": (1 - MARK**2) ** 0.5 * parts + MARK * marks}

    @torch.no_grad()
    def as_queries(self, rows: np.ndarray) -> np.ndarray:
        """Embeddings that ask a gallery in which some offers lack a part that others have.

        Left as it is, a query of text and image has 0.6 of its cosine with the text of an offer of both, and 0.77 of it
        with that of an offer of text alone; and what is missing counts as the cosine 0, which offers that are alike in
        the other part have long passed. By the marks a constant is added to the scores of each kind of offer, so that
        among much alike offers a missing part counts as it would usually be. Within a kind nothing changes.

        Args:
            rows: embeddings as the model gives them; cut ones, which have no marks, are returned as they are.

        Shape:
            rows (Q, 2 P); returns (Q, 2 P), longer than 1.
        """
        if rows.shape[1] != 2 * self.part_dimension:
            return rows
        text = float(torch.sigmoid(self.text_logit))
        image = 1 - text
        added = np.zeros((KINDS, KINDS), dtype=np.float32)  # of a query's kind, to the scores of an offer's kind
        only_text, only_image, both = range(KINDS)
        added[only_text, both] = (1 - text**0.5) * LIKE_TEXT
        added[only_image, both] = (1 - image**0.5) * LIKE_IMAGE
        added[both, only_text] = (text - text**0.5) * LIKE_TEXT + image * MISSING_IMAGE
        added[both, only_image] = (image - image**0.5) * LIKE_IMAGE + text * MISSING_TEXT
        marks = slice(2 * (self.part_dimension - KINDS) + 1, None, 2)
        found = rows.copy()
        found[:, marks] += (rows[:, marks] / MARK) @ added / MARK
        return found

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
        hub = {name: kwargs[name] for name in HUB_OPTIONS if name in kwargs}
        found = cls(**cls.load_config(model_name_or_path, subfolder=subfolder, **hub))
        return cls.load_torch_weights(model_name_or_path, subfolder=subfolder, model=found, **hub)


def _unit(rows: Tensor) -> Tensor:
    return nn.functional.normalize(rows, dim=1, eps=SMALLEST)
