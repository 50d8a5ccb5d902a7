"""Charts: interval whiskers beside numbers, curves over steps, over k, over recall.

What is computed here is where things lie; templates/charts.html.j2 draws it as inline SVG. Colors are CSS classes
(light, dark and print differ); lines differ in their dashes as well as in color.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from afmrl.report.views import Curve, LadderRow

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
    >>> domain([LadderRow("a", {"mrr": (1.0, 1.0, 1.0)})], "mrr")
    (0.9, 1.0)
    """
    values = [v for row in rows for v in row.metrics.get(metric, ()) if math.isfinite(v)]
    if not values:
        return 0.0, 1.0
    low, high = min(values), max(values)
    step = 0.1 if high <= 1 else 10 ** math.floor(math.log10(high))
    low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
    if high <= low:  # all the same: of shares of 1, none is above 1
        low, high = (low - step, high) if high == 1 else (low, low + step)
    return round(low, 6), round(high, 6)


@dataclass(frozen=True, slots=True)
class Whisker:
    """A dot at the mean on a line from low to high, in units of 108 by 16; None: not known, and not drawn.

    Hollow for a ceiling, a square for a floor. Hidden from readers of the text: the numbers are beside it.
    """

    kind: str
    mean: float
    low: float | None = None
    high: float | None = None
    reference: float | None = None
    """Where a line is drawn across, to compare with."""


def whisker(
    interval: Sequence[float], ends: tuple[float, float], kind: str = "rung", reference: float | None = None
) -> Whisker | None:
    """The whisker of (mean, low, high) on an axis; None without a mean, the dot alone without an interval."""

    def place(value: float | None) -> float | None:
        if value is None or not math.isfinite(value):
            return None
        return min(max((value - ends[0]) / (ends[1] - ends[0]), 0), 1) * 100 + 4

    mean, low, high = map(place, interval)
    if mean is None:
        return None
    if low is None or high is None:
        low = high = None
    return Whisker(kind, mean, low, high, place(reference))


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
    """The mean over `width` points around each; at the ends over as many as there are.

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
    """The share of queries whose best match has rank k or better, for k = 1 … `max_k`: one line a system.

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


@dataclass(frozen=True, slots=True)
class _Frame:
    """Where values lie on a chart."""

    x_axis: Axis
    y_axis: Axis

    def place(self, point: tuple[float, float]) -> tuple[float, float]:
        x = LEFT + self.x_axis.share(point[0]) * (WIDTH - LEFT - RIGHT)
        y = HEIGHT - BOTTOM - self.y_axis.share(point[1]) * (HEIGHT - TOP - BOTTOM)
        return round(x, 1), round(y, 1)

    def path(self, points: Points) -> str:
        return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in map(self.place, points))


def _axes(curve: Curve, series: Mapping[str, Points]) -> tuple[Axis, Axis]:
    if curve.kind == "precision-recall":
        return Axis(0.0, 1.0, percent=True), Axis(0.0, 1.0, percent=True)
    x_values = [x for points in series.values() for x, _ in points]
    y_values = [y for points in series.values() for _, y in points]
    shares = curve.kind == "recall"
    return Axis.around(x_values, log=shares), Axis.around(y_values, rounded=True, percent=shares)


@dataclass(frozen=True, slots=True)
class Tick:
    """A labeled place on an axis, in the chart's units."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Stroke:
    """A line, or a single point, of one series."""

    style: str
    """CSS class."""
    path: str
    """Of an SVG path; "" for a single point."""
    x: float = 0.0
    y: float = 0.0


@dataclass(frozen=True, slots=True)
class LegendEntry:
    """A series, or a marked point, and its value."""

    style: str
    """CSS class of the series; "" for a marked point."""
    name: str
    value: str


@dataclass(frozen=True, slots=True)
class LineChart:
    """A chart that is ready to be drawn, in units of WIDTH by HEIGHT."""

    curve: Curve
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]
    strokes: Sequence[Stroke]
    marks: Sequence[tuple[float, float]]
    legend: Sequence[LegendEntry]
    description: str
    """For readers who do not see it."""
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    bottom: int = HEIGHT - BOTTOM


def line_charts(curves: Sequence[Curve]) -> list[LineChart]:
    """The charts of the curves that have a point."""
    return [chart for curve in curves if (chart := line_chart(curve)) is not None]


def line_chart(curve: Curve) -> LineChart | None:
    """A chart's lines, legend with first and last values, ticks; None where no point can be drawn."""
    series = {name: thin_out(finite(points)) for name, points in curve.series.items()}
    if curve.kind == "recall":
        series = {name: [(x, y) for x, y in points if x > 0] for name, points in series.items()}
    series = {name: points for name, points in series.items() if points}
    if not series:
        return None
    frame = _Frame(*_axes(curve, series))
    strokes, legend = [], []
    for row, (name, points) in enumerate(series.items()):
        style = f"s{row % NUM_STYLES}"
        line = points
        if curve.kind == "training" and len(points) >= SMOOTH_FROM:
            line = running_mean(points, max(5, len(points) // 12))
            strokes.append(Stroke(f"line raw {style}", frame.path(points)))
        if len(points) == 1:
            strokes.append(Stroke(f"point {style}", "", *frame.place(points[0])))
        strokes.append(Stroke(f"line {style}", frame.path(line)))
        legend.append(LegendEntry(style, name, _change(curve, line)))
    marks = []
    for name, point in curve.marks.items():
        if all(map(math.isfinite, point)):
            marks.append(frame.place(point))
            at_x, at_y = frame.x_axis.label(point[0]), frame.y_axis.label(point[1])
            legend.append(LegendEntry("", name, f"{curve.x_label} {at_x}, {curve.y_label} {at_y}"))
    entries = "; ".join(f"{e.name}: {e.value.replace('→', 'to')}" if e.value else e.name for e in legend)
    return LineChart(
        curve,
        [Tick(frame.place((x, frame.y_axis.low))[0], frame.x_axis.label(x)) for x in frame.x_axis.ticks()],
        [Tick(frame.place((frame.x_axis.low, y))[1], frame.y_axis.label(y)) for y in frame.y_axis.ticks()],
        strokes,
        marks,
        legend,
        f"{curve.y_label} over {curve.x_label}. {entries}",
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
