"""Color histograms of images as tensors: of shades, and of hues."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from afmrl.data.color_bins import BACKGROUND, BINS

HUES, GRAYS = 12, 3
"""Numbers of a hue histogram: hues around the circle, and lightnesses of what has none."""
PLAIN_CHROMA = 10.0
"""A color of this chroma (Lab) counts half as a hue and half as a gray."""
HUE_SHARPNESS = 6.0
"""Concentration of the von Mises weights by which a pixel counts for the hues around its own."""
GRAY_WIDTH = 12.0
"""The same for grays: standard deviation in lightness (Lab, 0 to 100)."""
_TO_XYZ = ((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505))
_WHITE = (0.9505, 1.0, 1.089)


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
    red, green, blue = (flat * BINS / 256).long().clamp(0, BINS - 1).unbind(dim=1)
    counts = torch.zeros(len(pixels), BINS**3, dtype=pixels.dtype, device=pixels.device)
    counts.scatter_add_(1, (red * BINS + green) * BINS + blue, _product(flat))
    return nn.functional.normalize(counts.sqrt(), dim=1)


def hue_histogram(pixels: Tensor) -> Tensor:
    """Square roots of the shares of 12 hues and 3 grays, without a white background; unit length.

    A color name holds light and dark shades of one hue, as do a thing's pictures in sun and shade: navy is nearer to
    sky blue here than to black, where both would share no bin of a histogram of shades.

    Args:
        pixels: (B, 3, H, W) red, green and blue from 0 to 255.

    Shape:
        returns (B, 15).

    >>> colors = torch.tensor([[20.0, 25.0, 90.0], [120.0, 170.0, 250.0], [20.0, 20.0, 20.0]])
    >>> navy, sky, black = hue_histogram(colors[:, :, None, None].expand(3, 3, 4, 4))
    >>> bool(navy @ sky > 2 * navy @ black)
    True
    """
    flat = pixels.round().clamp(0, 255).flatten(2)
    counts = _product(flat)
    lightness, red_green, blue_yellow = _lab(flat).unbind(dim=1)
    chroma = red_green**2 + blue_yellow**2
    share = chroma / (chroma + PLAIN_CHROMA**2)
    hue = torch.atan2(blue_yellow, red_green)[:, :, None]
    hues = torch.arange(HUES, dtype=pixels.dtype, device=pixels.device) * (2 * math.pi / HUES)
    grays = torch.linspace(5, 95, GRAYS, dtype=pixels.dtype, device=pixels.device)
    of_hues = torch.softmax(HUE_SHARPNESS * torch.cos(hue - hues), dim=2)
    of_grays = torch.softmax(-((lightness[:, :, None] - grays) ** 2) / (2 * GRAY_WIDTH**2), dim=2)
    weights = torch.stack([counts * share, counts * (1 - share)], dim=1)[:, :, None]
    found = torch.cat([weights[:, 0] @ of_hues, weights[:, 1] @ of_grays], dim=2)[:, 0]
    return nn.functional.normalize(found.sqrt(), dim=1)


def _product(flat: Tensor) -> Tensor:
    """(B, N) 1 for pixels that are no white background, of (B, 3, N); an image of nothing but white is white."""
    found = flat.amin(dim=1) < BACKGROUND
    return (found | ~found.any(dim=1, keepdim=True)).to(flat.dtype)


def _lab(flat: Tensor) -> Tensor:
    """CIE Lab (white of D65) of (B, 3, N) red, green and blue from 0 to 255."""
    share = flat / 255
    linear = torch.where(share > 0.04045, ((share + 0.055) / 1.055) ** 2.4, share / 12.92)
    to_xyz = torch.tensor(_TO_XYZ, dtype=flat.dtype, device=flat.device)
    white = torch.tensor(_WHITE, dtype=flat.dtype, device=flat.device)
    xyz = (to_xyz / white[:, None]) @ linear
    x, y, z = torch.where(xyz > 0.008856, xyz.clamp_min(1e-9) ** (1 / 3), 7.787 * xyz + 16 / 116).unbind(dim=1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)
