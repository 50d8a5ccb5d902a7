"""A text tower and an image tower side by side, as the first module of a SentenceTransformer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers.base.modality import is_image_url_or_path
from sentence_transformers.base.modules import InputModule
from torch import Tensor, nn

from afmrl.data.images import open_image
from afmrl.embedder.small.folded_tower import folded_tower, weights_version
from afmrl.embedder.small.image_features import ImageFeatures
from afmrl.embedder.small.image_pixels import ImagePixels
from afmrl.errors import InputError

Tower = Literal["text", "image"]
CONFIG_FILE = "towers.json"
STATISTICS_FILE = "image_statistics.safetensors"
CACHED_IMAGES = 4
"""Images that a CPU reads at a time: the maps of more fall out of its cache."""


class TwoTowers(InputModule):
    """Reads offers with a text tower and an image tower of transformers.

    An input is a text, a PIL image, or `{"text": …, "image": …}` with either or both; the image may be the features
    that `image_features` made of one. What an input lacks is marked as missing, and not read as an empty text or a
    black image.

    Args:
        text_tower: an encoder of transformers whose token states are averaged.
        tokenizer: its tokenizer.
        image_tower: a model of transformers that gives all its levels as hidden states.
        image_processor: its image processor.
        levels: the hidden states that are pooled, by number; -1: the last feature map.
        max_seq_length: tokens of a text; what is longer is cut.
        colors: whether color histograms belong to an image's features.

    Shape:
        `preprocess` gives `has_text`, `has_image` (B,), `input_ids`, `attention_mask` (B, L), and where any input has
        an image `pixel_values` (B, 3, H, W) or `image_features` (B, F).
        `forward` adds `text_state` (B, T) and `image_state` (B, F), zeros where the part is missing.
    """

    config_file_name = CONFIG_FILE
    text_tower: Any  # modules of transformers
    image_tower: Any
    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self,
        text_tower: nn.Module,
        tokenizer: Any,
        image_tower: nn.Module,
        image_processor: Any,
        *,
        levels: Sequence[int],
        max_seq_length: int = 256,
        colors: bool = True,
    ) -> None:
        super().__init__()
        self.text_tower, self.image_tower = text_tower, image_tower
        self.tokenizer, self.processor = tokenizer, image_processor
        self.levels, self.max_seq_length, self.colors = list(levels), max_seq_length, colors
        self.frozen: frozenset[Tower] = frozenset()
        self.pixels = ImagePixels(image_processor)
        self._folded: tuple[Any, nn.Module] | None = None  # in a tuple, so that it is no module of this one
        mean, std = (
            torch.tensor(values, dtype=torch.float32)[None, :, None, None]
            for values in (image_processor.image_mean, image_processor.image_std)
        )
        self.register_buffer("pixel_mean", mean, persistent=False)
        self.register_buffer("pixel_std", std, persistent=False)
        self.features = ImageFeatures(self._channels(), colors=colors)

    @property
    def modalities(self) -> list[Any]:
        """Text, image, both, and batches of mixed inputs ("message")."""
        return ["text", "image", ("image", "text"), "message"]

    @property
    def text_dimension(self) -> int:
        """T, the length of a text's state."""
        return int(self.text_tower.config.hidden_size)

    @property
    def image_dimension(self) -> int:
        """F, the length of an image's features."""
        return self.features.dimension

    def freeze(self, towers: Sequence[Tower]) -> None:
        """Leave these towers as they are in training; the others train."""
        self.frozen = frozenset(towers)
        for name, tower in (("text", self.text_tower), ("image", self.image_tower)):
            tower.requires_grad_(name not in self.frozen)

    def train(self, mode: bool = True) -> Self:
        """As in torch; batch norm and frozen towers stay as at inference: a mini-batch is no statistics."""
        super().train(mode)
        for name, tower in (("text", self.text_tower), ("image", self.image_tower)):
            if name in self.frozen:
                tower.eval()
        for module in self.image_tower.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self

    def preprocess(self, inputs: Sequence[Any], prompt: str | None = None, **_: Any) -> dict[str, Any]:
        """Tensors of a batch of inputs, of one kind or mixed."""
        parts = [parts_of(one) for one in inputs]
        texts = [(prompt or "") + text if text is not None else "" for text, _ in parts]
        tokens = self.tokenizer(
            texts, padding=True, truncation=True, max_length=self.max_seq_length, return_tensors="pt"
        )
        found: dict[str, Any] = {
            "input_ids": tokens["input_ids"],
            "attention_mask": tokens["attention_mask"],
            "has_text": torch.tensor([text is not None for text, _ in parts]),
            "has_image": torch.tensor([image is not None for _, image in parts]),
        }
        images = {row: image for row, (_, image) in enumerate(parts) if image is not None}
        made = {
            row: image for row, image in images.items() if isinstance(image, np.ndarray | Tensor) and image.ndim == 1
        }
        opened = {row: image for row, image in images.items() if row not in made}
        if made and opened:
            raise InputError("embedder: a batch holds images and features of images; give one kind")
        if made:
            rows = torch.stack([torch.as_tensor(np.asarray(image), dtype=torch.float32) for image in made.values()])
            found["image_features"] = rows_among(rows, list(made), len(parts))
        elif opened:
            found["pixel_values"] = rows_among(self.pixels(list(opened.values())), list(opened), len(parts))
        return found

    def forward(self, features: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Add `text_state` and `image_state`."""
        has_text, has_image = features["has_text"], features["has_image"]
        dtype = next(self.text_tower.parameters()).dtype
        text = torch.zeros(len(has_text), self.text_dimension, device=has_text.device, dtype=dtype)
        image = torch.zeros(len(has_text), self.image_dimension, device=has_text.device, dtype=dtype)
        if (rows := has_text.nonzero().flatten()).numel():
            ids, mask = features["input_ids"][rows], features["attention_mask"][rows]
            with torch.set_grad_enabled(torch.is_grad_enabled() and "text" not in self.frozen):
                text = text.index_copy(0, rows, self._text_state(ids, mask).to(dtype))
        rows = has_image.nonzero().flatten()
        if rows.numel() and "image_features" in features:
            image = image.index_copy(0, rows, features["image_features"][rows].to(dtype))
        elif rows.numel():
            with torch.set_grad_enabled(torch.is_grad_enabled() and "image" not in self.frozen):
                image = image.index_copy(
                    0, rows, self.features(self.raw_features(features["pixel_values"][rows])).to(dtype)
                )
        return {**features, "text_state": text, "image_state": image}

    def raw_features(self, pixel_values: Tensor) -> Tensor:
        """Numbers of images before they are standardized; (n, F)."""
        tower = self._tower_to_run()
        whole = torch.is_grad_enabled() or pixel_values.device.type != "cpu"
        parts = [pixel_values] if whole else pixel_values.split(CACHED_IMAGES)
        return torch.cat([self._raw_features(tower, part) for part in parts])

    def _raw_features(self, tower: nn.Module, pixel_values: Tensor) -> Tensor:
        seen = tower(pixel_values=pixel_values.to(next(tower.parameters()).dtype), output_hidden_states=True)
        levels = [*seen.hidden_states, seen.last_hidden_state]
        pixels = 255 * (pixel_values * self.pixel_std + self.pixel_mean)
        return self.features.raw([levels[level] for level in self.levels], pixels)

    @torch.inference_mode()
    def image_features(self, images: Sequence[Any]) -> np.ndarray:
        """Features of opened images, which stand for them while the image tower does not change.

        Shape:
            returns (n, F) float32.
        """
        was_training = self.training
        self.eval()
        pixels = self.pixels(images).to(self.pixel_mean.device)
        found = self.features(self.raw_features(pixels)).float().cpu().numpy()
        self.train(was_training)
        return np.asarray(found)

    def _tower_to_run(self) -> nn.Module:
        """The image tower, or where nothing is learned its folded copy, made anew when its weights have changed."""
        if torch.is_grad_enabled():
            return self.image_tower
        version = weights_version(self.image_tower)
        if self._folded is None or self._folded[0] != version:
            self._folded = version, folded_tower(self.image_tower)
        return self._folded[1]

    def __getstate__(self) -> dict[str, Any]:
        """Without the folded copy, which any process makes for itself."""
        return {**self.__dict__, "_folded": None}

    def _text_state(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        states = self.text_tower(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask[:, :, None].to(states.dtype)
        return (states * mask).sum(dim=1) / mask.sum(dim=1).clamp_min(1e-9)

    def _channels(self) -> list[int]:
        side = self.processor.size["height"]
        with torch.no_grad():
            seen = self.image_tower.eval()(pixel_values=torch.zeros(1, 3, side, side), output_hidden_states=True)
        levels = [*seen.hidden_states, seen.last_hidden_state]
        return [int(levels[level].shape[1 if levels[level].dim() == 4 else 2]) for level in self.levels]

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Both towers as ordinary folders of transformers, and what is between them and the embedding."""
        folder = Path(output_path)
        self.text_tower.save_pretrained(folder / "text")
        self.tokenizer.save_pretrained(folder / "text")
        self.image_tower.save_pretrained(folder / "image")
        self.processor.save_pretrained(folder / "image")
        save_file({"mean": self.features.mean, "std": self.features.std}, folder / STATISTICS_FILE)
        config = {"levels": self.levels, "max_seq_length": self.max_seq_length, "colors": self.colors}
        (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(
        cls,
        model_name_or_path: str,
        subfolder: str = "",
        model_kwargs: Mapping[str, Any] | None = None,
        **hub: Any,
    ) -> Self:
        """Read what `save` wrote; of weights only safetensors, and no code."""
        from transformers import AutoModel, AutoTokenizer

        where = {name: hub[name] for name in ("token", "cache_folder", "revision", "local_files_only") if name in hub}
        root = cls.load_dir_path(model_name_or_path, subfolder, **where)
        if root is None:
            raise InputError(f"embedder {model_name_or_path}: the module {subfolder or 'at its root'} is not there")
        folder = Path(root)
        config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        options = {**(model_kwargs or {}), "use_safetensors": True}
        found = cls(
            AutoModel.from_pretrained(folder / "text", **options),
            AutoTokenizer.from_pretrained(folder / "text"),
            AutoModel.from_pretrained(folder / "image", **options),
            image_processor(folder / "image"),
            **config,
        )
        statistics = load_file(folder / STATISTICS_FILE)
        found.features.mean.copy_(statistics["mean"])
        found.features.std.copy_(statistics["std"])
        return found


def image_processor(folder: str | Path) -> Any:
    """A folder's image processor with Pillow's resize, which needs no torchvision."""
    from transformers import AutoImageProcessor

    return AutoImageProcessor.from_pretrained(folder, backend="pil")


def rows_among(values: Tensor, rows: Sequence[int], count: int) -> Tensor:
    """`values` at their rows of a batch of `count`, zeros elsewhere."""
    if len(rows) == count:
        return values
    return torch.zeros(count, *values.shape[1:], dtype=values.dtype).index_copy(0, torch.tensor(rows), values)


def parts_of(one: Any) -> tuple[str | None, Any]:
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
