"""What the image tower's maps and the pixels say of an image, as one vector in which colors count too."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from afmrl.data.color_bins import BACKGROUND, BINS, COLORS

EPSILON = 1e-5
CENTER = 0.2
"""Share of the width and of the height that the second histogram leaves out on each side: what is held in the middle is
more often the product."""
EARLY, LATE, COLOR = 0.2, 1.0, 0.7
"""Weights of the blocks: of all levels but the last LATE_LEVELS, of those, of the histograms. The last levels know what
a thing is. Chosen on val splits, by what retrieves best without any training."""
LATE_LEVELS = 2
STRIDE = 2
"""Every second pixel of every second row is counted."""


class ImageFeatures(nn.Module):
    """Means and standard deviations of several levels of a tower, and color histograms, each brought to one scale.

    The last level of a tower that learned to name things is nearly blind to colors; the first ones see them. Every
    block (the means of a level, its deviations, a histogram) is standardized by stored statistics, so that 0 is the
    usual image, and then has a length that is its weight, whatever its size.

    Args:
        channels: of each level, in order.
        colors: whether the histograms belong to it.

    Shape:
        mean, std: (F,) buffers, F = 2 · Σ channels + 2 · 216.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, channels: Sequence[int], *, colors: bool = True) -> None:
        super().__init__()
        self.channels, self.colors = list(channels), colors
        self.blocks = [size for size in self.channels for _ in range(2)] + ([COLORS] * 2 if colors else [])
        levels = [EARLY] * (len(self.channels) - LATE_LEVELS) + [LATE] * min(LATE_LEVELS, len(self.channels))
        weights = [weight for weight in levels for _ in range(2)] + ([COLOR] * 2 if colors else [])
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
                pixels = pixels[:, :, ::STRIDE, ::STRIDE]
                found += [color_histogram(pixels), color_histogram(_center(pixels))]
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


def color_histogram(pixels: Tensor) -> Tensor:
    """Square roots of the shares of 216 colors, without a white background; unit length.

    The square root lets a small patch of a color count beside a large one.

    Args:
        pixels: (B, 3, H, W) red, green and blue from 0 to 255.

    Shape:
        returns (B, 216).

    >>> red = torch.tensor([220.0, 10.0, 10.0])[None, :, None, None].expand(1, 3, 4, 4)
    >>> int(color_histogram(red).argmax()) == 5 * 36
    True
    """
    flat = pixels.round().clamp(0, 255).flatten(2)
    product = flat.amin(dim=1) < BACKGROUND
    product |= ~product.any(dim=1, keepdim=True)  # an image of nothing but white is white
    red, green, blue = (flat * BINS / 256).long().clamp(0, BINS - 1).unbind(dim=1)
    counts = torch.zeros(len(pixels), COLORS, dtype=pixels.dtype, device=pixels.device)
    counts.scatter_add_(1, (red * BINS + green) * BINS + blue, product.to(pixels.dtype))
    return nn.functional.normalize(counts.sqrt(), dim=1)


def _center(pixels: Tensor) -> Tensor:
    height, width = pixels.shape[-2:]
    top, left = int(height * CENTER), int(width * CENTER)
    return pixels[..., top : height - top, left : width - left]


def _mean_and_deviation(level: Tensor) -> tuple[Tensor, Tensor]:
    flat = level.flatten(2) if level.dim() == 4 else level.transpose(1, 2)
    # a channel that is 0 everywhere has no gradient of a plain standard deviation
    return flat.mean(dim=2), (flat.var(dim=2, unbiased=False) + EPSILON).sqrt()
