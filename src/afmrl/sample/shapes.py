"""Silhouettes of the sample's products: every category's cuts as SVG paths in a unit square, y downwards."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

import numpy as np


@dataclass(frozen=True)
class Part:
    """One painted part of a product; parts are painted in order."""

    role: str
    """`body` (color and pattern), `inside` (the color in shade), `trim` (light: soles, laces), `metal` (stands, caps),
    `seam` (a darker line on what lies below)."""
    path: str
    """SVG path of absolute M, L, Q, C and Z commands."""
    width: float = 0.0
    """Width of the stroke in unit squares; 0 fills the path."""


def _body(path: str, width: float = 0.0) -> Part:
    return Part("body", path, width)


def _inside(path: str) -> Part:
    return Part("inside", path)


def _trim(path: str, width: float = 0.0) -> Part:
    return Part("trim", path, width)


def _metal(path: str, width: float = 0.0) -> Part:
    return Part("metal", path, width)


def _seam(path: str, width: float = 0.022) -> Part:
    return Part("seam", path, width)


def _oval(x: float, y: float, rx: float, ry: float) -> str:
    """Path of an ellipse around (x, y)."""
    kx, ky = 0.5523 * rx, 0.5523 * ry  # the usual cubic approximation of a quarter circle
    return (
        f"M {x - rx} {y} C {x - rx} {y - ky} {x - kx} {y - ry} {x} {y - ry} "
        f"C {x + kx} {y - ry} {x + rx} {y - ky} {x + rx} {y} C {x + rx} {y + ky} {x + kx} {y + ry} {x} {y + ry} "
        f"C {x - kx} {y + ry} {x - rx} {y + ky} {x - rx} {y} Z"
    )


_TEE = ("M .34 .13 L .66 .13 L .8 .18 L .98 .39 L .84 .5 L .75 .4 L .76 .88 Q .5 .92 .24 .88 L .25 .4 L .16 .5 "
        "L .02 .39 L .2 .18 Z")  # fmt: skip
_LONG = ("M .34 .13 L .66 .13 L .78 .17 Q .86 .24 .97 .84 L .85 .87 L .73 .44 L .74 .88 Q .5 .92 .26 .88 L .27 .44 "
         "L .15 .87 L .03 .84 Q .14 .24 .22 .17 Z")  # fmt: skip
_FOOT = _metal("M .47 .48 L .53 .48 L .53 .87 L .47 .87 Z")
_BASE = _metal("M .3 .94 Q .32 .86 .5 .86 Q .68 .86 .7 .94 Z")
_SOLE = _trim("M .05 .71 L .95 .71 Q .99 .8 .92 .82 L .08 .82 Q .03 .8 .05 .71 Z")
_STRAPS = (_body("M .4 .2 L .4 .05", 0.04), _body("M .6 .2 L .6 .05", 0.04))

CUTS: dict[str, dict[str, tuple[Part, ...]]] = {
    "t-shirt": {
        "crew neck": (_body(_TEE), _inside("M .38 .13 Q .5 .27 .62 .13 Z"), _seam("M .36 .13 Q .5 .32 .64 .13")),
        "v-neck": (_body(_TEE), _inside("M .36 .13 L .5 .45 L .64 .13 Z"), _seam("M .34 .13 L .5 .49 L .66 .13")),
        "long sleeve": (_body(_LONG), _inside("M .38 .13 Q .5 .27 .62 .13 Z"), _seam("M .27 .44 L .24 .28"),
                        _seam("M .73 .44 L .76 .28")),
        "tank top": (_body("M .31 .08 L .4 .08 Q .4 .36 .5 .36 Q .6 .36 .6 .08 L .69 .08 Q .67 .36 .77 .42 L .77 .9 "
                           "Q .5 .94 .23 .9 L .23 .42 Q .33 .36 .31 .08 Z"),
                     _seam("M .4 .1 Q .4 .39 .5 .39 Q .6 .39 .6 .1")),
    },
    "mug": {
        "straight": (_body("M .66 .38 C .96 .32 .96 .74 .66 .7", 0.075),
                     _body("M .14 .24 L .68 .24 L .68 .78 Q .68 .86 .6 .86 L .22 .86 Q .14 .86 .14 .78 Z"),
                     _inside(_oval(0.41, 0.24, 0.27, 0.055))),
        "tapered": (_body("M .66 .34 C .98 .28 .9 .68 .6 .64", 0.075), _body("M .06 .2 L .74 .2 L .56 .88 L .24 .88 Z"),
                    _inside(_oval(0.4, 0.2, 0.34, 0.055))),
        "tall": (_body("M .6 .3 C .88 .28 .88 .72 .6 .7", 0.07),
                 _body("M .24 .08 L .62 .08 L .62 .9 Q .62 .94 .58 .94 L .28 .94 Q .24 .94 .24 .9 Z"),
                 _inside(_oval(0.43, 0.08, 0.19, 0.04))),
        "round": (_body("M .68 .42 C .98 .34 .98 .8 .66 .74", 0.075),
                  _body("M .24 .2 C -.08 .42 .04 .88 .28 .88 L .56 .88 C .8 .88 .92 .42 .6 .2 Z"),
                  _inside(_oval(0.42, 0.2, 0.18, 0.045))),
    },
    "bag": {
        "backpack": (_body("M .4 .16 C .4 -.02 .6 -.02 .6 .16", 0.045),
                     _body("M .22 .42 C .22 .02 .78 .02 .78 .42 L .82 .86 Q .82 .93 .75 .93 L .25 .93 Q .18 .93 .18 .86 Z"),
                     _seam("M .3 .87 L .3 .6 Q .5 .54 .7 .6 L .7 .87 Z", 0.028), _seam("M .25 .42 L .75 .42"),
                     _metal("M .44 .42 L .56 .42 L .56 .47 L .44 .47 Z")),
        "duffel": (_body("M .3 .42 C .34 .06 .66 .06 .7 .42", 0.05),
                   _body("M .1 .44 Q .13 .36 .22 .36 L .78 .36 Q .87 .36 .9 .44 Q .97 .6 .9 .76 Q .87 .83 .78 .83 L .22 .83 "
                         "Q .13 .83 .1 .76 Q .03 .6 .1 .44 Z"),
                   _seam("M .3 .37 L .3 .82", 0.03), _seam("M .7 .37 L .7 .82", 0.03)),
        "messenger": (_metal("M .12 .5 C .3 -.1 .7 -.1 .88 .5", 0.035),
                      _body("M .1 .36 L .9 .36 L .94 .92 L .06 .92 Z"),
                      _seam("M .1 .37 L .06 .68 Q .06 .76 .14 .76 L .86 .76 Q .94 .76 .94 .68 L .9 .37", 0.035),
                      _metal("M .28 .7 L .36 .7 L .36 .84 L .28 .84 Z"), _metal("M .64 .7 L .72 .7 L .72 .84 L .64 .84 Z")),
        "tote": (_body("M .34 .36 L .36 .1 Q .37 .05 .43 .05 L .57 .05 Q .63 .05 .64 .1 L .66 .36", 0.045),
                 _body("M .1 .34 L .9 .34 L .74 .95 L .26 .95 Z"), _seam("M .12 .4 L .88 .4")),
    },
    "lamp": {
        "cone": (_FOOT, _BASE, _body("M .41 .06 L .59 .06 L .86 .52 Q .5 .57 .14 .52 Z"), _seam("M .15 .5 Q .5 .55 .85 .5")),
        "globe": (_FOOT, _BASE, _body(_oval(0.5, 0.33, 0.28, 0.28))),
        "drum": (_FOOT, _BASE, _body("M .18 .1 Q .5 .06 .82 .1 L .82 .5 Q .5 .54 .18 .5 Z"),
                 _seam("M .19 .13 Q .5 .09 .81 .13"), _seam("M .19 .47 Q .5 .51 .81 .47")),
        "arc": (_metal("M .16 .92 L .16 .44 C .16 .02 .72 -.02 .72 .28", 0.04), _metal(_oval(0.18, 0.92, 0.15, 0.035)),
                _body("M .46 .56 C .46 .18 .98 .18 .98 .56 Z"), _seam("M .47 .54 L .97 .54", 0.03)),
    },
    "sneaker": {
        "low": (_body("M .06 .72 L .07 .44 Q .1 .38 .16 .4 Q .26 .47 .36 .38 L .44 .3 Q .56 .47 .7 .53 Q .94 .57 .95 .72 Z"),
                _SOLE, _trim("M .42 .46 L .51 .38", 0.032), _trim("M .49 .52 L .58 .44", 0.032),
                _trim("M .57 .56 L .65 .49", 0.032)),
        "high": (_body("M .06 .72 L .1 .14 Q .26 .18 .42 .12 L .46 .36 Q .56 .5 .7 .54 Q .94 .58 .95 .72 Z"), _SOLE,
                 _trim("M .37 .26 L .46 .23", 0.032), _trim("M .38 .36 L .48 .32", 0.032),
                 _trim("M .42 .47 L .52 .4", 0.032), _trim("M .52 .54 L .6 .46", 0.032)),
        "slip-on": (_body("M .05 .74 L .07 .44 Q .1 .37 .16 .41 Q .3 .62 .46 .43 Q .53 .35 .65 .38 Q .95 .46 .96 .74 Z"),
                    _trim("M .04 .74 L .97 .74 L .96 .79 L .05 .79 Z"), _seam("M .32 .53 L .36 .73", 0.05)),
        "platform": (_body("M .07 .56 L .08 .28 Q .1 .22 .16 .24 Q .26 .31 .36 .22 L .44 .14 Q .56 .31 .7 .37 Q .93 .41 .94 .56 Z"),
                     _trim("M .06 .54 L .95 .54 L .97 .84 Q .97 .87 .93 .87 L .07 .87 Q .03 .87 .03 .84 Z"),
                     _trim("M .44 .3 L .52 .22", 0.032), _trim("M .53 .36 L .61 .28", 0.032),
                     _seam("M .05 .7 L .96 .7")),
    },
    "bottle": {
        "slim": (_metal("M .43 .02 L .57 .02 L .57 .12 L .43 .12 Z"),
                 _body("M .45 .11 L .55 .11 L .55 .18 Q .63 .22 .63 .3 L .63 .92 Q .63 .96 .59 .96 L .41 .96 Q .37 .96 .37 .92 "
                       "L .37 .3 Q .37 .22 .45 .18 Z")),
        "wide mouth": (_metal("M .28 .06 L .72 .06 L .72 .18 L .28 .18 Z"),
                       _body("M .31 .17 L .69 .17 Q .8 .22 .8 .32 L .8 .88 Q .8 .95 .73 .95 L .27 .95 Q .2 .95 .2 .88 "
                             "L .2 .32 Q .2 .22 .31 .17 Z")),
        "conical": (_metal("M .42 .03 L .58 .03 L .58 .14 L .42 .14 Z"),
                    _body("M .44 .13 L .56 .13 L .57 .3 L .88 .88 Q .9 .95 .82 .95 L .18 .95 Q .1 .95 .12 .88 L .43 .3 Z")),
        "hourglass": (_metal("M .4 .02 L .6 .02 L .6 .11 L .4 .11 Z"),
                      _body("M .42 .1 L .58 .1 Q .8 .2 .76 .36 Q .62 .5 .62 .54 Q .62 .58 .78 .74 Q .82 .9 .72 .96 L .28 .96 "
                            "Q .18 .9 .22 .74 Q .38 .58 .38 .54 Q .38 .5 .24 .36 Q .2 .2 .42 .1 Z")),
    },
    "dress": {
        "a-line": (*_STRAPS, _body("M .36 .18 Q .5 .26 .64 .18 L .63 .4 Q .76 .62 .92 .92 Q .5 .99 .08 .92 Q .24 .62 .37 .4 Z"),
                   _seam("M .37 .41 L .63 .41", 0.03)),
        "sheath": (*_STRAPS, _body("M .34 .18 Q .5 .26 .66 .18 L .64 .42 Q .68 .6 .66 .95 L .34 .95 Q .32 .6 .36 .42 Z")),
        "mermaid": (*_STRAPS, _body("M .36 .18 Q .5 .26 .64 .18 L .62 .36 Q .72 .5 .59 .7 Q .66 .86 .9 .95 Q .5 1 .1 .95 "
                                    "Q .34 .86 .41 .7 Q .28 .5 .38 .36 Z")),
        "tiered": (*_STRAPS, _body("M .38 .18 L .62 .18 L .62 .36 L .74 .37 L .7 .6 L .86 .61 L .82 .92 Q .5 .96 .18 .92 "
                                   "L .14 .61 L .3 .6 L .26 .37 L .38 .36 Z"),
                   _seam("M .3 .37 L .7 .37", 0.035), _seam("M .22 .61 L .78 .61", 0.035)),
    },
    "cushion": {
        "square": (_body("M .08 .1 Q .5 .2 .92 .1 Q .82 .5 .92 .9 Q .5 .8 .08 .9 Q .18 .5 .08 .1 Z"),),
        "round": (_body(_oval(0.5, 0.5, 0.43, 0.43)), _seam(_oval(0.5, 0.5, 0.38, 0.38)), _seam(_oval(0.5, 0.5, 0.03, 0.03), 0.04)),
        "bolster": (_body("M .1 .3 L .9 .3 Q .99 .34 .99 .5 Q .99 .66 .9 .7 L .1 .7 Q .01 .66 .01 .5 Q .01 .34 .1 .3 Z"),
                    _seam("M .14 .31 Q .2 .5 .14 .69", 0.03), _seam("M .86 .31 Q .8 .5 .86 .69", 0.03)),
        "heart": (_body("M .5 .93 C .3 .76 .04 .6 .05 .34 C .06 .06 .42 .04 .5 .28 C .58 .04 .94 .06 .95 .34 "
                        "C .96 .6 .7 .76 .5 .93 Z"),),
    },
}  # fmt: skip


@cache
def outline(path: str) -> np.ndarray:
    """(P, 2) float64 corner points of an SVG path, curves cut into short lines.

    >>> outline("M 0 0 L 1 0 L 1 1 Z").tolist()
    [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 0.0]]
    """
    points: list[np.ndarray] = []
    for command, numbers in re.findall(r"([MLQCZ])([^MLQCZ]*)", path):
        given = np.array([float(n) for n in numbers.split()]).reshape(-1, 2)
        if command == "Z":
            points.append(points[0])
        elif command in "ML":
            points.extend(given)
        else:
            corners = np.vstack([points[-1], given])  # the Bézier curve's control points
            steps = np.linspace(0, 1, 9)[1:, None]
            while len(corners) > 1:  # de Casteljau, all steps at once
                corners = [a + steps * (b - a) for a, b in zip(corners[:-1], corners[1:], strict=True)]  # type: ignore[assignment]
            points.extend(corners[0])
    return np.array(points)


@cache
def body_span(category: str, cut: str) -> tuple[float, float]:
    """Top and bottom of a cut's body in the unit square: where two-tone fabric changes color follows from it."""
    heights = [outline(part.path)[:, 1] for part in CUTS[category][cut] if part.role == "body" and not part.width]
    return float(min(h.min() for h in heights)), float(max(h.max() for h in heights))
