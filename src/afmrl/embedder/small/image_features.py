"""What the image tower's maps and the pixels say of an image, as one vector in which colors count too."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from afmrl.data.color_bins import COLORS
from afmrl.embedder.small.color_histograms import GRAYS, HUES, color_histogram, hue_histogram

EPSILON = 1e-5
CENTER = 0.2
"""Share of the width and of the height that the second histogram of a kind leaves out on each side: what is held in the
middle is more often the product."""
EARLY, LATE, COLOR, HUE = 0.2, 1.0, 0.4, 0.7
"""Weights of the blocks: of all levels but the last LATE_LEVELS, of those, of the histograms of colors and of hues. The
last levels know what a thing is. Chosen on val splits, by what retrieves best without any training."""
LATE_LEVELS = 2
STRIDE, HUE_STRIDE = 2, 4
"""Of the pixels and rows that are counted, by kind of histogram."""


class ImageFeatures(nn.Module):
    """Means and standard deviations of several levels of a tower, and color histograms, each brought to one scale.

    The last level of a tower that learned to name things is nearly blind to colors; the first ones see them. Every
    block (the means of a level, its deviations, a histogram) is standardized by stored statistics, so that 0 is the
    usual image, and then has a length that is its weight, whatever its size.

    Args:
        channels: of each level, in order.
        colors: whether the histograms belong to it.

    Shape:
        mean, std: (F,) buffers, F = 2 · Σ channels + 2 · 216 + 2 · 15.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, channels: Sequence[int], *, colors: bool = True) -> None:
        super().__init__()
        self.channels, self.colors = list(channels), colors
        histograms = [(COLORS, COLOR), (HUES + GRAYS, HUE)] if colors else []
        early = max(0, len(self.channels) - LATE_LEVELS)
        levels = [(size, LATE if place >= early else EARLY) for place, size in enumerate(self.channels)]
        twice = [block for block in levels + histograms for _ in range(2)]
        self.blocks = [size for size, _ in twice]
        weights = [weight for _, weight in twice]
        norm = sum(weight**2 for weight in weights) ** 0.5
        self.weights = [weight / norm for weight in weights]
        self.register_buffer("mean", torch.zeros(self.dimension))
        self.register_buffer("std", torch.ones(self.dimension))

    @property
    def dimension(self) -> int:
        """F, the length of the vector."""
        return sum(self.blocks)

    def raw(self, levels: Sequence[Tensor], pixels: Tensor) -> Tensor:
        """The numbers before they are standardized.

        Args:
            levels: maps (B, C, H, W) of a convolutional tower, or tokens (B, T, C).
            pixels: (B, 3, H, W) red, green and blue from 0 to 255.

        Shape:
            returns (B, F).
        """
        found = [part for level in levels for part in _mean_and_deviation(level)]
        if self.colors:
            with torch.no_grad():
                for histogram, stride in ((color_histogram, STRIDE), (hue_histogram, HUE_STRIDE)):
                    some = pixels[:, :, ::stride, ::stride]
                    found += [histogram(some), histogram(_center(some))]
        return torch.cat(found, dim=1)

    def forward(self, raw: Tensor) -> Tensor:
        """(B, F) raw numbers to (B, F) features of unit length."""
        standard = (raw - self.mean) / self.std
        blocks = zip(self.weights, standard.split(self.blocks, dim=1), strict=True)
        return torch.cat([weight * nn.functional.normalize(block, dim=1) for weight, block in blocks], dim=1)

    def learn_statistics(self, raw: Tensor) -> None:
        """Take mean and standard deviation from the raw numbers of many images."""
        self.mean.copy_(raw.mean(dim=0))
        self.std.copy_(raw.std(dim=0).clamp_min(1e-3 * float(raw.std(dim=0).mean())))


def _center(pixels: Tensor) -> Tensor:
    height, width = pixels.shape[-2:]
    top, left = int(height * CENTER), int(width * CENTER)
    return pixels[..., top : height - top, left : width - left]


def _mean_and_deviation(level: Tensor) -> tuple[Tensor, Tensor]:
    # channels last, as the tower computes on a CPU: the order costs a copy of the map, and torch's var is slow
    rows = (level.permute(0, 2, 3, 1).flatten(1, 2) if level.dim() == 4 else level).float()
    mean = rows.mean(dim=1)
    # a channel that is 0 everywhere has no gradient of a plain standard deviation
    return mean, ((rows.square().mean(dim=1) - mean.square()).clamp_min(0) + EPSILON).sqrt()
