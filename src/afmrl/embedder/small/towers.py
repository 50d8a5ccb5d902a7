"""A text tower and an image tower side by side, as the first module of a SentenceTransformer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from afmrl.embedder.small.folded_tower import folded_tower, weights_version
from afmrl.embedder.small.image_features import ImageFeatures
from afmrl.embedder.small.image_pixels import ImagePixels
from afmrl.embedder.small.text_and_image import TextAndImage, Tower

CONFIG_FILE = "towers.json"
STATISTICS_FILE = "image_statistics.safetensors"
CACHED_IMAGES = 4
"""Images that a CPU reads at a time: the maps of more fall out of its cache."""


class TwoTowers(TextAndImage):
    """Reads offers with a text tower and an image tower of transformers (see `TextAndImage`).

    Args:
        text_tower: an encoder of transformers whose token states are averaged.
        tokenizer: its tokenizer.
        image_tower: a model of transformers that gives all its levels as hidden states.
        image_processor: its image processor.
        levels: the hidden states that are pooled, by number; -1: the last feature map.
        max_seq_length: tokens of a text; what is longer is cut.
        colors: whether color histograms belong to an image's features.
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
    def towers(self) -> dict[Tower, nn.Module]:
        """Of text and of image."""
        return {"text": self.text_tower, "image": self.image_tower}

    @property
    def text_dimension(self) -> int:
        """T, the length of a text's state."""
        return int(self.text_tower.config.hidden_size)

    @property
    def image_dimension(self) -> int:
        """F, the length of an image's features."""
        return self.features.dimension

    def read_texts(self, texts: list[str]) -> dict[str, Tensor]:
        """`input_ids` and `attention_mask` (B, L)."""
        tokens = self.tokenizer(
            texts, padding=True, truncation=True, max_length=self.max_seq_length, return_tensors="pt"
        )
        return {"input_ids": tokens["input_ids"], "attention_mask": tokens["attention_mask"]}

    def read_images(self, images: list[Any]) -> dict[str, Tensor]:
        """`pixel_values` (n, 3, H, W)."""
        return {"pixel_values": self.pixels(images)}

    def text_states(self, features: Mapping[str, Any], rows: Tensor) -> Tensor:
        """Means of the token states."""
        mask = features["attention_mask"][rows]
        states = self.text_tower(input_ids=features["input_ids"][rows], attention_mask=mask).last_hidden_state
        weights = mask[:, :, None].to(states.dtype)
        return (states * weights).sum(dim=1) / weights.sum(dim=1).clamp_min(1e-9)

    def image_states(self, features: Mapping[str, Any], rows: Tensor) -> Tensor:
        """Features of the images."""
        return self.features(self.raw_features(features["pixel_values"][rows]))

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

        folder = cls.folder_of(model_name_or_path, subfolder, hub)
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
