"""A text model and an image model side by side, as one embedder of offers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Module, Normalize
from torch import Tensor, nn

from afmrl.embedder.loading import has_two_encoders, load_model
from afmrl.embedder.names import JOINED, is_joined
from afmrl.embedder.small.join import KINDS, JoinParts
from afmrl.embedder.small.text_and_image import FEATURES, HUB_OPTIONS, TextAndImage, Tower
from afmrl.errors import InputError

CONFIG_FILE = "joined.json"
STATISTICS_FILE = "image_mean.safetensors"
IMAGE = "image:"
"""Prefix of what goes to the image model; what goes to the text model keeps its name."""
BATCH_SIZE = 32


class JoinedModels(TextAndImage):
    """Reads offers with a text model and an image model of sentence-transformers.

    Both may be one model with two encoders, as CLIP and SigLIP are. Inputs are those of `TextAndImage`.

    Args:
        text_model: embeds texts.
        image_model: embeds images.

    Shape:
        image states are of unit length before `image_mean` (F,) is taken off.
    """

    config_file_name = CONFIG_FILE
    image_mean: Tensor

    def __init__(self, text_model: SentenceTransformer, image_model: SentenceTransformer) -> None:
        super().__init__()
        self.text_model, self.image_model = text_model, image_model
        self.register_buffer("image_mean", torch.zeros(self.image_dimension))

    @property
    def towers(self) -> dict[Tower, nn.Module]:
        """Of text and of image."""
        return {"text": self.text_model, "image": self.image_model}

    @property
    def tokenizer(self) -> Any:
        """The text model's."""
        return self.text_model.tokenizer

    @property
    def processor(self) -> Any:
        """The image model's."""
        return self.image_model.processor

    @property
    def max_seq_length(self) -> int | None:
        """Tokens of a text; what is longer is cut."""
        return self.text_model.max_seq_length

    @max_seq_length.setter
    def max_seq_length(self, value: int | None) -> None:
        self.text_model.max_seq_length = value

    @property
    def text_dimension(self) -> int:
        """T, the length of a text's state."""
        return int(self.text_model.get_embedding_dimension() or 0)

    @property
    def image_dimension(self) -> int:
        """F, the length of an image's state."""
        return int(self.image_model.get_embedding_dimension() or 0)

    def read_texts(self, texts: list[str]) -> dict[str, Tensor]:
        """What the text model reads."""
        return _tensors(self.text_model.preprocess(texts))

    def read_images(self, images: list[Any]) -> dict[str, Tensor]:
        """What the image model reads, with IMAGE before each name."""
        return {IMAGE + name: value for name, value in _tensors(self.image_model.preprocess(images)).items()}

    def text_states(self, features: Mapping[str, Any], rows: Tensor) -> Tensor:
        """The text model's embeddings."""
        own = {name: value[rows] for name, value in features.items() if isinstance(value, Tensor) and not _other(name)}
        return self.text_model({**own, "modality": "text"})["sentence_embedding"]

    def image_states(self, features: Mapping[str, Any], rows: Tensor) -> Tensor:
        """The image model's embeddings, without what all images share."""
        own = {name.removeprefix(IMAGE): value[rows] for name, value in features.items() if name.startswith(IMAGE)}
        return self._centered(self.image_model({**own, "modality": "image"})["sentence_embedding"])

    @torch.inference_mode()
    def image_features(self, images: Sequence[Any]) -> np.ndarray:
        """States of opened images, which stand for them while the image model does not change; (n, F) float32."""
        states = self.image_model.encode(list(images), convert_to_tensor=True, show_progress_bar=False)
        return np.asarray(self._centered(states.float()).cpu().numpy())

    @torch.inference_mode()
    def learn_statistics(self, images: Sequence[Any]) -> None:
        """Take the usual image from many: a state is then what an image has beside it."""
        states = self.image_model.encode(
            list(images), batch_size=BATCH_SIZE, convert_to_tensor=True, show_progress_bar=False
        )
        self.image_mean.copy_(nn.functional.normalize(states.float(), dim=1).mean(dim=0).cpu())

    def _centered(self, states: Tensor) -> Tensor:
        return nn.functional.normalize(states, dim=1) - self.image_mean

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Both models as ordinary folders of sentence-transformers; one where they are one."""
        folder = Path(output_path)
        self.text_model.save_pretrained(str(folder / "text"), create_model_card=False)
        if self.image_model is not self.text_model:
            self.image_model.save_pretrained(str(folder / "image"), create_model_card=False)
        save_file({"mean": self.image_mean.contiguous()}, folder / STATISTICS_FILE)
        config = {"one_model": self.image_model is self.text_model}
        (folder / CONFIG_FILE).write_text(json.dumps(config) + "\n", encoding="utf-8")

    @classmethod
    def load(
        cls, model_name_or_path: str, subfolder: str = "", model_kwargs: Mapping[str, Any] | None = None, **hub: Any
    ) -> Self:
        """Read what `save` wrote; of weights only safetensors, and no code."""
        folder = cls.folder_of(model_name_or_path, subfolder, hub)
        options = {"model_kwargs": {**(model_kwargs or {}), "use_safetensors": True}, "device": "cpu"}
        text = SentenceTransformer(str(folder / "text"), **options)
        one = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))["one_model"]
        found = cls(text, text if one else SentenceTransformer(str(folder / "image"), **options))
        found.image_mean.copy_(load_file(folder / STATISTICS_FILE)["mean"])
        return found


class AddParts(Module):
    """Adds the unit vectors of text and image, for models whose texts and images share one space.

    A text then finds an image, and an offer with both lies between them.

    Args:
        dimension: D, of both states.

    Shape:
        reads `text_state` and `image_state` (B, D); adds `sentence_embedding` (B, D), which the next module normalizes.
    """

    config_keys = ["dimension"]

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.dimension = dimension

    def forward(self, features: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Add `sentence_embedding`."""
        parts = (nn.functional.normalize(features[name], dim=1) for name in ("text_state", "image_state"))
        return {**features, "sentence_embedding": sum(parts)}

    def get_embedding_dimension(self) -> int:
        """D."""
        return self.dimension

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Write the settings."""
        self.save_config(output_path)

    @classmethod
    def load(cls, model_name_or_path: str, subfolder: str = "", **kwargs: Any) -> Self:
        """Read what `save` wrote."""
        hub = {name: kwargs[name] for name in HUB_OPTIONS if name in kwargs}
        return cls(**cls.load_config(model_name_or_path, subfolder=subfolder, **hub))


def as_embedder(model: SentenceTransformer, path: str | Path) -> SentenceTransformer:
    """The model; one that reads texts and images in one space, and no input of both, as CLIP and SigLIP, made to.

    Raises:
        InputError: it reads no text.
    """
    if "text" not in model.modalities:
        raise InputError(
            f"embedder {path} reads no text: train it joined to a text model, in a recipe 'base: minilm + {path}'"
        )
    if not has_two_encoders(model):
        return model
    joined = JoinedModels(model, model)
    return SentenceTransformer(modules=[joined, AddParts(joined.text_dimension), Normalize()], device=str(model.device))


def joined_model(name: str, images: Sequence[Any]) -> SentenceTransformer:
    """A text model and an image model that know nothing of each other as one embedder.

    The embedding's numbers alternate between text and image, as the small model's. An image model is any of
    transformers that sentence-transformers loads, as DINOv2, or the image encoder of CLIP and SigLIP.

    Args:
        name: both names, as in "minilm + facebook/dinov2-small".
        images: a catalog's, from which the usual image is learned; some hundred are enough.

    Raises:
        InputError: a model that does not load or does not read what it is to read, or no images.
    """
    text_name, image_name = (part.strip() for part in name.split(JOINED, 1))
    if not text_name or not image_name or is_joined(image_name):
        raise InputError(f"{name}: give two models, one of text and one of images: 'minilm + facebook/dinov2-small'")
    if not images:
        raise InputError(f"{name}: the catalog has no images to read; name the text model alone")
    text_model, image_model = (load_model(part) for part in (text_name, image_name))
    for part, model, kind in ((text_name, text_model, "text"), (image_name, image_model, "image")):
        if kind not in model.modalities:
            raise InputError(f"{name}: {part} reads no {kind}; give a text model and an image model, in this order")
    joined = JoinedModels(text_model, image_model)
    joined.learn_statistics(images)
    size = max(joined.text_dimension, joined.image_dimension + KINDS)  # then no dot product within a part changes
    parts = JoinParts(joined.text_dimension, joined.image_dimension, size)
    return SentenceTransformer(modules=[joined, parts, Normalize()], device=str(text_model.device))


def _other(name: str) -> bool:
    """Whether a feature is none of the text model's."""
    return name.startswith((IMAGE, "has_")) or name == FEATURES


def _tensors(features: Mapping[str, Any]) -> dict[str, Tensor]:
    return {name: value for name, value in features.items() if isinstance(value, Tensor)}
