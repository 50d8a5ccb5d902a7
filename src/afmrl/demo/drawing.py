"""Pictures of the sample's products: silhouettes by category and cut, filled with colour and pattern."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

Point = tuple[float, float]

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (200, 35, 40),
    "orange": (240, 130, 30),
    "yellow": (245, 210, 50),
    "green": (45, 140, 65),
    "teal": (30, 150, 155),
    "blue": (40, 80, 190),
    "purple": (120, 55, 160),
    "pink": (240, 130, 175),
    "brown": (115, 70, 40),
    "black": (35, 35, 40),
    "gray": (135, 138, 142),
    "white": (240, 240, 236),
}
PATTERNS = ("plain", "striped", "dotted", "checked", "zigzag", "two-tone")

# Silhouettes in a unit square, y downwards. A cut is a list of polygons (drawn together) or ellipses (x0, y0, x1, y1).
Shape = list[Point] | tuple[float, float, float, float]
CUTS: dict[str, dict[str, list[Shape]]] = {
    "t-shirt": {
        "crew neck": [[(.28, .15), (.42, .15), (.5, .19), (.58, .15), (.72, .15), (.95, .35), (.82, .47), (.74, .4),
                       (.74, .9), (.26, .9), (.26, .4), (.18, .47), (.05, .35)]],
        "v-neck": [[(.28, .15), (.38, .15), (.5, .42), (.62, .15), (.72, .15), (.95, .35), (.82, .47), (.74, .4),
                    (.74, .9), (.26, .9), (.26, .4), (.18, .47), (.05, .35)]],
        "long sleeve": [[(.3, .15), (.42, .15), (.5, .19), (.58, .15), (.7, .15), (.84, .3), (.98, .85), (.86, .88),
                         (.72, .42), (.72, .9), (.28, .9), (.28, .42), (.14, .88), (.02, .85), (.16, .3)]],
        "tank": [[(.34, .12), (.4, .12), (.42, .3), (.5, .36), (.58, .3), (.6, .12), (.66, .12), (.68, .36), (.74, .42),
                  (.74, .9), (.26, .9), (.26, .42), (.32, .36)]],
    },
    "mug": {
        "straight": [[(.2, .2), (.7, .2), (.7, .85), (.2, .85)], [(.7, .32), (.88, .32), (.88, .7), (.7, .7), (.7, .62),
                     (.8, .62), (.8, .4), (.7, .4)]],
        "tapered": [[(.12, .2), (.76, .2), (.62, .85), (.28, .85)], [(.72, .3), (.92, .3), (.86, .62), (.66, .62),
                    (.68, .54), (.79, .54), (.82, .38), (.7, .38)]],
        "tall": [[(.32, .06), (.66, .06), (.66, .94), (.32, .94)], [(.66, .25), (.82, .25), (.82, .7), (.66, .7),
                 (.66, .62), (.74, .62), (.74, .33), (.66, .33)]],
        "round": [(.12, .2, .76, .88), [(.7, .38), (.93, .38), (.93, .7), (.7, .7), (.7, .62), (.84, .62), (.84, .46),
                  (.7, .46)]],
    },
    "backpack": {
        "roll top": [[(.3, .05), (.7, .05), (.7, .2), (.8, .28), (.8, .92), (.2, .92), (.2, .28), (.3, .2)]],
        "round top": [[(.2, .45), (.24, .25), (.36, .12), (.5, .08), (.64, .12), (.76, .25), (.8, .45), (.8, .92),
                       (.2, .92)]],
        "duffel": [[(.06, .45), (.2, .34), (.34, .34), (.38, .16), (.62, .16), (.66, .34), (.8, .34), (.94, .45),
                    (.94, .8), (.06, .8)]],
        "messenger": [[(.1, .4), (.2, .08), (.26, .08), (.2, .4), (.8, .4), (.74, .08), (.8, .08), (.9, .4), (.9, .85),
                       (.1, .85)]],
    },
    "lamp": {
        "cone": [[(.4, .08), (.6, .08), (.84, .5), (.16, .5)], [(.46, .5), (.54, .5), (.54, .86), (.7, .94), (.3, .94),
                 (.46, .86)]],
        "globe": [(.22, .06, .78, .56), [(.46, .54), (.54, .54), (.54, .86), (.7, .94), (.3, .94), (.46, .86)]],
        "drum": [[(.2, .12), (.8, .12), (.8, .5), (.2, .5)], [(.46, .5), (.54, .5), (.54, .86), (.7, .94), (.3, .94),
                 (.46, .86)]],
        "arc": [[(.1, .94), (.1, .88), (.2, .88), (.2, .3), (.36, .1), (.66, .1), (.74, .22), (.9, .44), (.56, .44),
                 (.66, .22), (.6, .17), (.4, .17), (.28, .32), (.28, .88), (.38, .88), (.38, .94)]],
    },
    "sneaker": {
        "low": [[(.05, .5), (.25, .45), (.4, .52), (.55, .42), (.62, .5), (.92, .62), (.96, .78), (.05, .78)]],
        "high": [[(.08, .15), (.42, .15), (.46, .42), (.62, .5), (.92, .62), (.96, .78), (.05, .78)]],
        "slip-on": [[(.05, .55), (.18, .48), (.34, .48), (.5, .58), (.66, .46), (.9, .58), (.97, .78), (.05, .78)]],
        "platform": [[(.06, .36), (.26, .3), (.4, .38), (.54, .3), (.62, .38), (.9, .5), (.97, .62), (.97, .88),
                      (.05, .88)]],
    },
    "bottle": {
        "slim": [[(.44, .04), (.56, .04), (.56, .14), (.62, .24), (.62, .95), (.38, .95), (.38, .24), (.44, .14)]],
        "wide mouth": [[(.32, .06), (.68, .06), (.68, .2), (.76, .26), (.76, .95), (.24, .95), (.24, .26), (.32, .2)]],
        "flask": [[(.43, .05), (.57, .05), (.57, .36), (.86, .9), (.82, .95), (.18, .95), (.14, .9), (.43, .36)]],
        "waisted": [[(.42, .04), (.58, .04), (.6, .16), (.74, .28), (.6, .52), (.76, .76), (.72, .95), (.28, .95),
                     (.24, .76), (.4, .52), (.26, .28), (.4, .16)]],
    },
    "dress": {
        "a-line": [[(.38, .06), (.44, .06), (.5, .14), (.56, .06), (.62, .06), (.62, .36), (.9, .94), (.1, .94),
                    (.38, .36)]],
        "straight": [[(.36, .06), (.44, .06), (.5, .14), (.56, .06), (.64, .06), (.64, .94), (.36, .94)]],
        "mermaid": [[(.38, .06), (.44, .06), (.5, .14), (.56, .06), (.62, .06), (.6, .34), (.66, .52), (.6, .72),
                     (.88, .94), (.12, .94), (.4, .72), (.34, .52), (.4, .34)]],
        "tiered": [[(.38, .06), (.62, .06), (.62, .32), (.76, .32), (.7, .34), (.7, .58), (.9, .58), (.8, .6),
                    (.8, .94), (.2, .94), (.2, .6), (.1, .58), (.3, .58), (.3, .34), (.24, .32), (.38, .32)]],
    },
    "cushion": {
        "square": [[(.12, .12), (.5, .17), (.88, .12), (.83, .5), (.88, .88), (.5, .83), (.12, .88), (.17, .5)]],
        "round": [(.1, .1, .9, .9)],
        "bolster": [[(.04, .36), (.12, .3), (.88, .3), (.96, .36), (.96, .66), (.88, .72), (.12, .72), (.04, .66)]],
        "heart": [[(.5, .92), (.08, .48), (.08, .28), (.2, .14), (.36, .14), (.5, .3), (.64, .14), (.8, .14),
                   (.92, .28), (.92, .48)]],
    },
}  # fmt: skip


@dataclass(frozen=True)
class View:
    """How one picture is taken."""

    angle: float
    """Degrees, anticlockwise."""
    size: float
    """Side of the product's unit square, as a share of the picture."""
    shift: Point
    """Offset of the centre, as a share of the picture."""
    light: float
    """Factor on every colour."""
    background: tuple[int, int, int]
    closeup: bool
    """Enlarged beyond the edges, so that the cut cannot be seen."""
    mirrored: bool = False


def draw_product(
    category: str, cut: str, color: str, pattern: str, view: View, rng: np.random.Generator, side: int
) -> Image.Image:
    """One picture, `side` pixels squared, drawn at twice the size and brought down."""
    canvas = 2 * side
    base = np.clip(np.array(COLORS[color]) + rng.normal(0, 8, 3), 0, 255)
    second = _second_color(base)
    picture = _background(canvas, view.background, rng)
    mask = Image.new("L", (canvas, canvas), 0)
    pen = ImageDraw.Draw(mask)
    size = view.size * (2.1 if view.closeup else 1.0)
    for shape in CUTS[category][cut]:
        points = _ellipse(*shape) if isinstance(shape, tuple) else shape
        pen.polygon([_place(point, view, size, canvas) for point in points], fill=255)
    shadow = mask.filter(ImageFilter.GaussianBlur(canvas / 28))
    offset = (round(canvas * 0.03), round(canvas * 0.04))
    picture.paste(tuple(int(c * 0.55) for c in view.background), offset, shadow.point([v // 2 for v in range(256)]))
    edge = tuple(int(c) for c in np.array(second) * 0.5 + np.array(base) * 0.25)
    picture.paste(edge, (0, 0), mask.filter(ImageFilter.MaxFilter(3)))
    fill = Image.fromarray(_fill(canvas, base, second, pattern, size, view.angle))
    picture.paste(fill, (0, 0), mask)
    picture = picture.resize((side, side), Image.Resampling.BOX)
    noisy = np.asarray(picture, dtype=np.float32) * view.light + rng.normal(0, 4, (side, side, 3))
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))


def _second_color(base: np.ndarray) -> np.ndarray:
    """White on dark and coloured fabrics, dark on white and yellow ones."""
    luminance = float(base @ np.array([0.3, 0.59, 0.11]))
    return np.array([245.0, 245.0, 240.0]) if luminance < 170 else np.array([60.0, 62.0, 70.0])


def _background(canvas: int, color: tuple[int, int, int], rng: np.random.Generator) -> Image.Image:
    slope = np.linspace(rng.uniform(-22, 0), rng.uniform(0, 22), canvas)[:, None, None]
    rows = np.clip(np.array(color)[None, None, :] + slope, 0, 255)
    return Image.fromarray(np.broadcast_to(rows, (canvas, canvas, 3)).astype(np.uint8))


def _ellipse(x0: float, y0: float, x1: float, y1: float) -> list[Point]:
    angles = np.linspace(0, 2 * math.pi, 28, endpoint=False)
    return [
        ((x0 + x1) / 2 + math.cos(a) * (x1 - x0) / 2, (y0 + y1) / 2 + math.sin(a) * (y1 - y0) / 2) for a in angles
    ]


def _place(point: Point, view: View, size: float, canvas: int) -> Point:
    x, y = point[0] - 0.5, point[1] - 0.5
    if view.mirrored:
        x = -x
    turn = math.radians(view.angle)
    x, y = x * math.cos(turn) + y * math.sin(turn), -x * math.sin(turn) + y * math.cos(turn)
    return ((0.5 + view.shift[0] + x * size) * canvas, (0.5 + view.shift[1] + y * size) * canvas)


def _fill(
    canvas: int, base: np.ndarray, second: np.ndarray, pattern: str, size: float, angle: float
) -> np.ndarray:
    """(canvas, canvas, 3) uint8: the fabric. Its period follows the product's size, so it scales with the picture."""
    rows, columns = np.mgrid[0:canvas, 0:canvas].astype(np.float32)
    turn = math.radians(angle)
    across = columns * math.cos(turn) - rows * math.sin(turn)
    down = columns * math.sin(turn) + rows * math.cos(turn)
    period = canvas * size / 5
    if pattern == "striped":
        marked = (down / period) % 1 < 0.45
    elif pattern == "dotted":
        marked = ((across / period) % 1 - 0.5) ** 2 + ((down / period) % 1 - 0.5) ** 2 < 0.075
    elif pattern == "checked":
        marked = ((across / period * 0.9) % 1 < 0.5) ^ ((down / period * 0.9) % 1 < 0.5)
    elif pattern == "zigzag":
        marked = ((down + np.abs((across / period) % 1 - 0.5) * period * 1.6) / period) % 1 < 0.4
    elif pattern == "two-tone":
        marked = down > canvas * (0.56 + 0.04 * math.sin(turn))
    else:
        marked = np.zeros((canvas, canvas), dtype=bool)
    return np.where(marked[..., None], second, base).astype(np.uint8)
