"""The report's charts as inline SVG: interval whiskers beside numbers, and curves over training steps.

Colours are CSS classes (light, dark and print differ); lines differ in their dashes as well as in colour.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from afmrl.evaluation.report import Curve, LadderRow

Points = Sequence[tuple[float, float]]
MAX_POINTS = 300  # of a line; more are averaged
SMOOTH_FROM = 24  # points, from which a running mean is drawn over the raw line
NUM_STYLES = 4  # line styles in report.css
WIDTH, HEIGHT = 380, 210  # of a chart, in its own units
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 10, 38


def domain(rows: Sequence[LadderRow], metric: str) -> tuple[float, float]:
    """Ends of a metric's axis that hold every interval, on round tenths where there is room.

    >>> domain([LadderRow("a", {"mrr": (0.52, 0.48, 0.57)})], "mrr")
    (0.4, 0.6)
    """
    values = [v for row in rows for v in row.metrics.get(metric, ()) if math.isfinite(v)]
    if not values:
        return 0.0, 1.0
    low, high = min(values), max(values)
    step = 0.1 if high <= 1 else 10 ** math.floor(math.log10(high))
    low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
    return round(low, 6), round(high if high > low else low + step, 6)


def whisker(interval: Sequence[float], ends: tuple[float, float], kind: str = "rung") -> str:
    """A dot at the mean on a line from low to high; hollow for a ceiling, a square for a floor. Hidden from readers
    of the text: the numbers stand beside it.
    """
    mean, low, high = (min(max((value - ends[0]) / (ends[1] - ends[0]), 0), 1) * 100 + 4 for value in interval)
    if not all(map(math.isfinite, (mean, low, high))):
        return ""
    mark = (
        f'<rect class="dot" x="{mean - 3:.1f}" y="5" width="6" height="6"/>'
        if kind == "floor"
        else f'<circle class="dot" cx="{mean:.1f}" cy="8" r="3.5"/>'
    )
    return (
        f'<svg class="whisker {kind}" viewBox="0 0 108 16" aria-hidden="true"><path class="track" d="M4 8H104"/>'
        f'<path class="range" d="M{low:.1f} 8H{high:.1f}M{low:.1f} 4V12M{high:.1f} 4V12"/>{mark}</svg>'
    )


def finite(points: Points) -> list[tuple[float, float]]:
    """The points that can be drawn."""
    return [(float(x), float(y)) for x, y in points if y is not None and math.isfinite(x) and math.isfinite(y)]


def thin_out(points: Points, num: int = MAX_POINTS) -> list[tuple[float, float]]:
    """At most `num` points, each the mean of neighbours.

    >>> thin_out([(0, 0.0), (1, 2.0), (2, 4.0), (3, 6.0)], 2)
    [(0.5, 1.0), (2.5, 5.0)]
    """
    if len(points) <= num:
        return list(points)
    size = math.ceil(len(points) / num)
    parts = [points[start : start + size] for start in range(0, len(points), size)]
    return [(sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part)) for part in parts]


def running_mean(points: Points, width: int) -> list[tuple[float, float]]:
    """The mean over `width` points around each; at the ends over those that are there.

    >>> running_mean([(0, 0.0), (1, 3.0), (2, 6.0), (3, 0.0)], 3)
    [(0, 1.5), (1, 3.0), (2, 3.0), (3, 3.0)]
    """
    result = []
    for row, (x, _) in enumerate(points):
        part = [y for _, y in points[max(row - width // 2, 0) : row + width // 2 + 1]]
        result.append((x, sum(part) / len(part)))
    return result


def ticks(low: float, high: float, num: int = 4) -> list[float]:
    """Round numbers from `low` to `high`, about `num` of them.

    >>> ticks(0, 1200)
    [0.0, 500.0, 1000.0]
    >>> ticks(0.55, 0.8)
    [0.6, 0.7, 0.8]
    """
    step = _round_step(low, high, num)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 12) + 0.0 for number in range(first, last + 1)]


def _round_step(low: float, high: float, num: int = 4) -> float:
    rough = (high - low) / max(num, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)


def _number(value: float) -> str:
    # axis labels: 1,200 and 0.25 and 5e-05, never 0.30000000000000004
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _path(points: Points, x_ends: tuple[float, float], y_ends: tuple[float, float]) -> str:
    x_scale = (WIDTH - LEFT - RIGHT) / (x_ends[1] - x_ends[0])
    y_scale = (HEIGHT - TOP - BOTTOM) / (y_ends[1] - y_ends[0])
    return "M" + "L".join(
        f"{LEFT + (x - x_ends[0]) * x_scale:.1f} {HEIGHT - BOTTOM - (y - y_ends[0]) * y_scale:.1f}" for x, y in points
    )


def _ends(values: Sequence[float], *, rounded: bool) -> tuple[float, float]:
    low, high = min(values), max(values)
    if 0 < low < 0.4 * high:
        low = 0.0
    if high == low:
        pad = abs(high) * 0.1 or 1.0
        low, high = low - pad, high + pad
    if not rounded:
        return low, high
    step = _round_step(low, high)
    return math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step


def line_chart(curve: Curve, number: int) -> str:
    """A <figure>: title, legend with first and last values, lines; nothing where no point can be drawn.

    Args:
        number: of the chart on the page, for its ids.
    """
    series = {name: thin_out(finite(points)) for name, points in curve.series.items()}
    series = {name: points for name, points in series.items() if points}
    if not series:
        return ""
    x_ends = _ends([x for points in series.values() for x, _ in points], rounded=False)
    y_ends = _ends([y for points in series.values() for _, y in points], rounded=True)
    parts, legend, summary = [], [], []
    for tick in ticks(*y_ends):
        y = float(_path([(x_ends[0], tick)], x_ends, y_ends).split()[1])
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">{_number(tick)}</text>')
    for tick in ticks(*x_ends):
        x = float(_path([(tick, y_ends[0])], x_ends, y_ends)[1:].split()[0])
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 15}" text-anchor="middle">{_number(tick)}</text>')
    parts.append(f'<path class="axis" d="M{LEFT} {HEIGHT - BOTTOM}H{WIDTH - RIGHT}"/>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 5}" text-anchor="middle">{escape(curve.x_label)}</text>')
    for row, (name, points) in enumerate(series.items()):
        style = f"s{row % NUM_STYLES}"
        line = points
        if len(points) >= SMOOTH_FROM:
            line = running_mean(points, max(5, len(points) // 12))
            parts.append(f'<path class="line raw {style}" d="{_path(points, x_ends, y_ends)}"/>')
        if len(points) == 1:
            x, y = (float(part) for part in _path(points, x_ends, y_ends)[1:].split())
            parts.append(f'<circle class="point {style}" cx="{x}" cy="{y}" r="3.5"/>')
        parts.append(f'<path class="line {style}" d="{_path(line, x_ends, y_ends)}"/>')
        ends = [f"{y:,.0f}" if abs(y) >= 1000 else f"{y:.3g}" for _, y in (line[0], line[-1])]
        change = " → ".join(ends if len(line) > 1 else ends[:1])
        swatch = f'<svg viewBox="0 0 24 8" aria-hidden="true"><path class="line {style}" d="M1 4H23"/></svg>'
        legend.append(f"<li>{swatch}{escape(name)} <b>{change}</b></li>")
        summary.append(f"{name}: {change.replace('→', 'to')}")
    description = f"{curve.y_label} over {curve.x_label}. " + "; ".join(summary)
    return (
        f'<figure class="chart"><figcaption><h3>{escape(curve.title)}</h3><p class="ylabel">'
        f'{escape(curve.y_label)}</p><ul class="legend">{"".join(legend)}</ul></figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="c{number}t c{number}d">'
        f'<title id="c{number}t">{escape(curve.title)}</title><desc id="c{number}d">{escape(description)}</desc>'
        f"{''.join(parts)}</svg></figure>"
    )


def share_bar(share: float) -> str:
    """A thin bar for a share of 1; hidden from readers of the text, as its number stands beside it."""
    width = 100 * min(max(share, 0.0), 1.0) if math.isfinite(share) else 0.0
    return (
        f'<svg class="share" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="track" width="100" height="8"/><rect class="dot" width="{width:.1f}" height="8"/></svg>'
    )
