"""Tensors of images kept in memory at a byte a value, or half of one, and given back exactly as they were."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

CHANNELS = 3
LEVELS = 256  # of an 8-bit image, which is what processors scale and shift


@dataclass(frozen=True)
class PackedPixels:
    """Pixels as bytes, and the value that each byte stands for in each channel.

    Shape:
        levels (N, 3, M) uint8, values (3, 256).
    """

    levels: Tensor
    values: Tensor
    shape: torch.Size
    repeated: bool
    """Whether both halves of a row's channel are equal: Qwen-VL repeats a still image as two frames."""

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return self.levels.nbytes + self.values.nbytes

    def unpacked(self) -> Tensor:
        """The tensor that was packed, bit by bit."""
        rows, _, size = self.levels.shape
        found = self.values.new_empty(rows, CHANNELS, 2 if self.repeated else 1, size)
        for channel, values in enumerate(self.values):
            of_channel = values.index_select(0, self.levels[:, channel].int().reshape(-1))
            found[:, channel] = of_channel.reshape(rows, 1, size)
        return found.reshape(self.shape)


def packed(pixels: Tensor) -> PackedPixels | None:
    """A processor's pixels as bytes; None where they were no 8-bit image, so that bytes would not be exact.

    Args:
        pixels: (N, 3 × …) patches, or (N, 3, height, width).

    >>> pixels = (torch.arange(48).reshape(2, 3, 2, 4) / 255 - 0.5) / 0.25
    >>> found = packed(pixels)
    >>> found.nbytes < pixels.nbytes + 3 * 256 * 4, torch.equal(found.unpacked(), pixels)
    (True, True)
    """
    if not pixels.is_floating_point() or pixels.ndim < 2 or not pixels.numel() or pixels[0].numel() % CHANNELS:
        return None
    rows = pixels.reshape(len(pixels), CHANNELS, -1)
    half = rows.shape[2] // 2
    repeated = rows.shape[2] % 2 == 0 and torch.equal(rows[:, :, :half], rows[:, :, half:])
    rows = rows[:, :, :half] if repeated else rows
    least, most = rows.amin((0, 2), keepdim=True), rows.amax((0, 2), keepdim=True)
    # at most 255 steps lie between the least and the largest value: neighboring values never share a level
    scale = (LEVELS - 1) / (most - least).clamp_min(torch.finfo(pixels.dtype).tiny)
    levels = ((rows - least) * scale).round_().to(torch.uint8)
    values = pixels.new_zeros(CHANNELS, LEVELS)
    for channel in range(CHANNELS):
        values[channel].scatter_(0, levels[:, channel].reshape(-1).long(), rows[:, channel].reshape(-1))
    found = PackedPixels(levels, values, pixels.shape, repeated)
    return found if torch.equal(found.unpacked(), pixels) else None
