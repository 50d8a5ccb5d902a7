"""The report's charts as inline SVG: interval whiskers beside numbers, curves over steps, over k, over recall.

Colors are CSS classes (light, dark and print differ); lines differ in their dashes as well as in color.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from afmrl.report.report import Curve, LadderRow

Points = Sequence[tuple[float, float]]
MAX_POINTS = 300  # of a line; more are averaged
SMOOTH_FROM = 24  # points, from which a running mean is drawn over the raw line
NUM_STYLES = 8  # line styles in report.css
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


def whisker(
    interval: Sequence[float], ends: tuple[float, float], kind: str = "rung", reference: float | None = None
) -> str:
    """A dot at the mean on a line from low to high; hollow for a ceiling, a square for a floor; the dot alone where
    the interval is not known. Hidden from readers of the text: the numbers stand beside it.

    Args:
        reference: where a line is drawn across, to compare with.
    """

    def place(value: float) -> float:
        return min(max((value - ends[0]) / (ends[1] - ends[0]), 0), 1) * 100 + 4

    if not math.isfinite(interval[0]):
        return ""
    mean, low, high = (place(value) if math.isfinite(value) else math.nan for value in interval)
    line = f'<path class="range" d="M{low:.1f} 8H{high:.1f}M{low:.1f} 4V12M{high:.1f} 4V12"/>'
    if not (math.isfinite(low) and math.isfinite(high)):
        line = ""
    across = ""
    if reference is not None and math.isfinite(reference):
        across = f'<path class="reference" d="M{place(reference):.1f} 1V15"/>'
    mark = (
        f'<rect class="dot" x="{mean - 3:.1f}" y="5" width="6" height="6"/>'
        if kind == "floor"
        else f'<circle class="dot" cx="{mean:.1f}" cy="8" r="3.5"/>'
    )
    return (
        f'<svg class="whisker {kind}" viewBox="0 0 108 16" aria-hidden="true"><path class="track" d="M4 8H104"/>'
        f"{across}{line}{mark}</svg>"
    )


def finite(points: Points) -> list[tuple[float, float]]:
    """The points that can be drawn."""
    return [(float(x), float(y)) for x, y in points if y is not None and math.isfinite(x) and math.isfinite(y)]


def thin_out(points: Points, num: int = MAX_POINTS) -> list[tuple[float, float]]:
    """At most `num` points, each the mean of neighbors.

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


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis: its ends, whether it is logarithmic, whether it shows shares of 1 in percent."""

    low: float
    high: float
    log: bool = False
    percent: bool = False

    @classmethod
    def around(
        cls, values: Sequence[float], *, rounded: bool = False, log: bool = False, percent: bool = False
    ) -> Axis:
        """An axis that holds all `values`; `rounded`: from and to round numbers, from 0 where that costs little."""
        low, high = min(values), max(values)
        if log:
            return cls(low, high if high > low else 2 * low, True, percent)
        if 0 < low < 0.4 * high:
            low = 0.0
        if high == low:
            pad = abs(high) * 0.1 or 1.0
            low, high = low - pad, high + pad
        if rounded:
            step = _round_step(low, high)
            low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
        return cls(max(low, 0.0), min(high, 1.0), log, True) if percent else cls(low, high)

    def share(self, value: float) -> float:
        """How far along the axis a value lies, 0 to 1.

        >>> Axis(1, 100, log=True).share(10), Axis(0, 4).share(1)
        (0.5, 0.25)
        """
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """Round values along the axis.

        >>> Axis(1, 100, log=True).ticks()
        [1, 2, 5, 10, 20, 50, 100]
        """
        if not self.log:
            return ticks(self.low, self.high, 5 if self.percent else 4)
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        values = [factor * 10**power for power in powers for factor in (1, 2, 5)]
        return [value for value in values if self.low <= value <= self.high]

    def label(self, value: float) -> str:
        """1,200 and 0.25 and 5e-05, never 0.30000000000000004; percent where shares are shown."""
        if self.percent:
            return f"{100 * value:.4g}"
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def recall_curve(ranks: Mapping[str, np.ndarray], max_k: int = 100) -> Curve:
    """The share of queries whose best match stands at rank k or before, for k = 1 … `max_k`: one line a system.

    Shape:
        ranks: name -> (Q,) rank of the best relevant offer, from 1.

    >>> recall_curve({"AGCL": np.array([1, 3])}, 3).series
    {'AGCL': [(1, 0.5), (2, 0.5), (3, 1.0)]}
    """
    series = {}
    for name, of_system in ranks.items():
        found = np.bincount(np.minimum(np.asarray(of_system), max_k + 1), minlength=max_k + 2)[1 : max_k + 1]
        shares = np.cumsum(found) / max(len(of_system), 1)
        series[name] = [(k, float(share)) for k, share in enumerate(shares, 1)]
    return Curve(f"R@k, k = 1 to {max_k}", "k", "percent of the queries", series, "recall")


def _path(points: Points, x_axis: Axis, y_axis: Axis) -> str:
    width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    return "M" + "L".join(
        f"{LEFT + x_axis.share(x) * width:.1f} {HEIGHT - BOTTOM - y_axis.share(y) * height:.1f}" for x, y in points
    )


def _place(point: tuple[float, float], x_axis: Axis, y_axis: Axis) -> tuple[str, str]:
    x, y = _path([point], x_axis, y_axis)[1:].split()
    return x, y


def _axes(curve: Curve, series: Mapping[str, Points]) -> tuple[Axis, Axis]:
    if curve.kind == "precision-recall":
        return Axis(0.0, 1.0, percent=True), Axis(0.0, 1.0, percent=True)
    x_values = [x for points in series.values() for x, _ in points]
    y_values = [y for points in series.values() for _, y in points]
    shares = curve.kind == "recall"
    return Axis.around(x_values, log=shares), Axis.around(y_values, rounded=True, percent=shares)


def _frame(curve: Curve, x_axis: Axis, y_axis: Axis) -> list[str]:
    """Grid, ticks and the label below."""
    parts = []
    for tick in y_axis.ticks():
        y = float(_place((x_axis.low, tick), x_axis, y_axis)[1])
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">{y_axis.label(tick)}</text>')
    for tick in x_axis.ticks():
        x = _place((tick, y_axis.low), x_axis, y_axis)[0]
        parts.append(f'<text x="{x}" y="{HEIGHT - BOTTOM + 15}" text-anchor="middle">{x_axis.label(tick)}</text>')
    parts.append(f'<path class="axis" d="M{LEFT} {HEIGHT - BOTTOM}H{WIDTH - RIGHT}"/>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 5}" text-anchor="middle">{escape(curve.x_label)}</text>')
    return parts


def line_chart(curve: Curve, name: str) -> str:
    """A <figure>: title, legend with first and last values, lines; nothing where no point can be drawn.

    Args:
        name: of the chart on the page, for its ids.
    """
    series = {title: thin_out(finite(points)) for title, points in curve.series.items()}
    if curve.kind == "recall":
        series = {title: [(x, y) for x, y in points if x > 0] for title, points in series.items()}
    series = {title: points for title, points in series.items() if points}
    if not series:
        return ""
    x_axis, y_axis = _axes(curve, series)
    parts, legend, summary = _frame(curve, x_axis, y_axis), [], []
    for row, (title, points) in enumerate(series.items()):
        style = f"s{row % NUM_STYLES}"
        line = points
        if curve.kind == "training" and len(points) >= SMOOTH_FROM:
            line = running_mean(points, max(5, len(points) // 12))
            parts.append(f'<path class="line raw {style}" d="{_path(points, x_axis, y_axis)}"/>')
        if len(points) == 1:
            x, y = _place(points[0], x_axis, y_axis)
            parts.append(f'<circle class="point {style}" cx="{x}" cy="{y}" r="3.5"/>')
        parts.append(f'<path class="line {style}" d="{_path(line, x_axis, y_axis)}"/>')
        change = _change(curve, line)
        swatch = f'<svg viewBox="0 0 24 8" aria-hidden="true"><path class="line {style}" d="M1 4H23"/></svg>'
        legend.append(f"<li>{swatch}{escape(title)}{f' <b>{change}</b>' if change else ''}</li>")
        summary.append(f"{title}: {change.replace('→', 'to')}" if change else title)
    for title, point in curve.marks.items():
        if all(map(math.isfinite, point)):
            x, y = _place(point, x_axis, y_axis)
            shown = (
                f"{escape(curve.x_label)} {x_axis.label(point[0])}, {escape(curve.y_label)} {y_axis.label(point[1])}"
            )
            parts.append(f'<circle class="mark" cx="{x}" cy="{y}" r="4"/>')
            ring = '<svg viewBox="0 0 24 8" aria-hidden="true"><circle class="mark" cx="12" cy="4" r="3"/></svg>'
            legend.append(f"<li>{ring}{escape(title)} <b>{shown}</b></li>")
            summary.append(f"{title}: {shown}")
    description = f"{curve.y_label} over {curve.x_label}. " + "; ".join(summary)
    return (
        f'<figure class="chart"><figcaption><h3>{escape(curve.title)}</h3><p class="ylabel">'
        f'{escape(curve.y_label)}</p><ul class="legend">{"".join(legend)}</ul></figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labeledby="{name}t {name}d">'
        f'<title id="{name}t">{escape(curve.title)}</title><desc id="{name}d">{escape(description)}</desc>'
        f"{''.join(parts)}</svg></figure>"
    )


def _change(curve: Curve, line: Points) -> str:
    """First → last value of a line, as its legend says it."""
    if curve.kind == "precision-recall":
        return ""
    if curve.kind == "recall":
        ends = [f"{100 * y:.1f}" for _, y in (line[0], line[-1])]
    else:
        ends = [f"{y:,.0f}" if abs(y) >= 1000 else f"{y:.3g}" for _, y in (line[0], line[-1])]
    return " → ".join(ends if len(line) > 1 else ends[:1])


def share_bar(share: float) -> str:
    """A thin bar for a share of 1; hidden from readers of the text, as its number stands beside it."""
    width = 100 * min(max(share, 0.0), 1.0) if math.isfinite(share) else 0.0
    return (
        f'<svg class="share" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="track" width="100" height="8"/><rect class="dot" width="{width:.1f}" height="8"/></svg>'
    )
