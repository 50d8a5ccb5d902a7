"""Images of the sample's products: a silhouette by category and cut, its fabric by color and pattern."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from afmrl.sample.shapes import CUTS, Part, body_span, outline

FABRIC_COLORS: dict[str, tuple[int, int, int]] = {
    "red": (205, 35, 42),
    "orange": (240, 128, 25),
    "yellow": (247, 212, 45),
    "green": (45, 140, 62),
    "teal": (25, 155, 158),
    "blue": (38, 75, 195),
    "purple": (118, 52, 165),
    "pink": (243, 130, 178),
    "brown": (112, 68, 38),
    "black": (34, 34, 40),
    "gray": (136, 139, 144),
    "white": (242, 242, 238),
}
PATTERNS = ("plain", "striped", "dotted", "checked", "zigzag", "two-tone")
WHITE, PALE_BLUE = (246.0, 246.0, 242.0), (135.0, 188.0, 234.0)
TRIM, METAL = (236.0, 233.0, 226.0), (92.0, 88.0, 86.0)
OVERSAMPLING = 2
CLOSEUP_ZOOM = 2.3
PERIOD = 0.17  # of a pattern, in unit squares


@dataclass(frozen=True)
class View:
    """How one image is taken."""

    angle: float = 0.0
    """Degrees, anticlockwise."""
    size: float = 0.85
    """Side of the product's unit square, as a share of the image."""
    shift: tuple[float, float] = (0.0, 0.0)
    """Offset of the center, as a share of the image."""
    stretch: tuple[float, float] = (1.0, 1.0)
    """Width and height seen from aside, as shares of the true ones."""
    light: float = 1.0
    """Factor on every color."""
    background: tuple[int, int, int] = (228, 228, 224)
    closeup: bool = False
    """Only fabric, from edge to edge: category and cut cannot be seen."""
    mirrored: bool = False

    def matrix(self) -> np.ndarray:
        """(2, 2): from the unit square around its center to shares of the image around its own."""
        turn = math.radians(self.angle)
        rotation = np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
        stretch = np.diag([-self.stretch[0] if self.mirrored else self.stretch[0], self.stretch[1]])
        return self.size * (CLOSEUP_ZOOM if self.closeup else 1.0) * rotation @ stretch


def draw_product(
    category: str, cut: str, color: str, pattern: str, view: View, rng: np.random.Generator, side: int
) -> Image.Image:
    """One image of `side` × `side` pixels; masks are drawn at twice the size and brought down.

    >>> draw_product("mug", "round", "red", "dotted", View(), np.random.default_rng(0), 56).size
    (56, 56)
    """
    base = np.clip(np.array(FABRIC_COLORS[color], dtype=np.float32) + rng.normal(0, 6, 3), 0, 255)
    # white on everything, and on white a pale blue that is no other color's: no two colors share a pair of tones
    second = np.array(PALE_BLUE if color == "white" else WHITE, dtype=np.float32)
    cast = 1 + rng.normal(0, 0.02, 3)
    phase = rng.uniform(0, 1, 2)
    slope, direction = rng.uniform(0.04, 0.14), rng.uniform(0, 2 * math.pi)
    noise = rng.normal(0, 3.5, (side, side, 3))

    span = body_span(category, cut)
    marked = _marked(pattern, view, span, phase, side)[..., None]
    fabric = base + (second - base) * marked
    across, down = np.meshgrid(*[np.linspace(-1, 1, side)] * 2)
    fall = (1 + slope * (across * math.cos(direction) + down * math.sin(direction)))[..., None]
    if view.closeup:
        folds = 1 + 0.1 * np.sin(3 * across * math.cos(direction) + 3 * down * math.sin(direction) + 6 * phase[0])
        image = fabric * folds[..., None] * fall
    else:
        image = np.array(view.background) * (1 + 0.9 * (fall - 1))
        image = _compose(image, fabric, base, CUTS[category][cut], view, side) * np.sqrt(fall)
    return Image.fromarray(np.clip(image * view.light * cast + noise, 0, 255).astype(np.uint8))


def _compose(
    image: np.ndarray, fabric: np.ndarray, base: np.ndarray, parts: tuple[Part, ...], view: View, side: int
) -> np.ndarray:
    """(side, side, 3): the product and its shadow on the background."""
    masks = [_mask(part, view, side) for part in parts]
    whole = masks[0]
    for part, mask in zip(parts[1:], masks[1:], strict=True):
        if part.role != "seam":
            whole = np.maximum(whole, mask)
    soft = _blurred(whole, side / 22)
    shadow = np.roll(soft, (max(1, side // 20), max(1, side // 26)), axis=(0, 1))
    image = image * (1 - 0.42 * shadow[..., None])
    volume = (0.72 + 0.3 * soft)[..., None]  # edges turn away from the light
    for part, mask in zip(parts, masks, strict=True):
        if part.role == "body":
            painted = fabric * volume
        elif part.role == "inside":
            painted = np.broadcast_to(base * 0.45 + 8, fabric.shape)
        elif part.role == "seam":
            painted = image * 0.62
        else:
            painted = np.array(TRIM if part.role == "trim" else METAL) * volume
        image = image + (painted - image) * mask[..., None]
    return image


def _mask(part: Part, view: View, side: int) -> np.ndarray:
    """(side, side) float32 in 0..1: the share of every pixel that the part covers."""
    canvas = side * OVERSAMPLING
    places = ((outline(part.path) - 0.5) @ view.matrix().T + 0.5 + np.array(view.shift)) * canvas
    image = Image.new("L", (canvas, canvas), 0)
    points = [(float(x), float(y)) for x, y in places]
    if part.width:
        ImageDraw.Draw(image).line(
            points, fill=255, width=max(1, round(part.width * view.size * canvas)), joint="curve"
        )
    else:
        ImageDraw.Draw(image).polygon(points, fill=255)
    return np.asarray(image.reduce(OVERSAMPLING), dtype=np.float32) / 255


def _blurred(mask: np.ndarray, radius: float) -> np.ndarray:
    image = Image.fromarray((mask * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(radius))
    return np.asarray(image, dtype=np.float32) / 255


def _marked(pattern: str, view: View, span: tuple[float, float], phase: np.ndarray, side: int) -> np.ndarray:
    """(side, side) float32 in 0..1: the share of every pixel in the pattern's second color."""
    if pattern == "plain":
        return np.zeros((side, side), dtype=np.float32)
    canvas = side * OVERSAMPLING
    line = (np.arange(canvas, dtype=np.float32) + 0.5) / canvas - 0.5
    inverse = np.linalg.inv(view.matrix()).astype(np.float32)
    x, y = line[None, :] - np.float32(view.shift[0]), line[:, None] - np.float32(view.shift[1])
    across, down = inverse[0, 0] * x + inverse[0, 1] * y, inverse[1, 0] * x + inverse[1, 1] * y  # unit square, centered
    if pattern == "two-tone":
        marked = down > (0.0 if view.closeup else span[0] + 0.56 * (span[1] - span[0]) - 0.5)
    else:
        u, v = (across / PERIOD + phase[0]) % 1, (down / PERIOD + phase[1]) % 1
        if pattern == "striped":
            marked = v < 0.45
        elif pattern == "dotted":
            marked = (u - 0.5) ** 2 + (v - 0.5) ** 2 < 0.085
        elif pattern == "checked":
            marked = (u < 0.5) ^ (v < 0.5)
        elif pattern == "zigzag":
            marked = (v + np.abs(u - 0.5) * 1.5) % 1 < 0.42
        else:
            raise ValueError(f"unknown pattern {pattern!r}; known are {', '.join(PATTERNS)}")
    return marked.reshape(side, OVERSAMPLING, side, OVERSAMPLING).mean(axis=(1, 3), dtype=np.float32)
