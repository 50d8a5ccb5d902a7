"""Tables of metrics: means, intervals and whiskers, ready to be drawn.

On a phone a row becomes a block with one line a metric (report.css), so every cell carries its metric's name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from afmrl.evaluation.metric_text import interval_text, metric_label, ordered_metrics, percent, points
from afmrl.evaluation.robustness import RobustnessScore
from afmrl.evaluation.slices import MIN_CLUSTERS, SliceScore
from afmrl.report.charts import Whisker, domain, whisker
from afmrl.report.views import LadderRow
from afmrl.retrieval.interval import Interval

MAX_COLUMNS = 6  # metrics side by side; a single row with more of them is turned
WIDE_FROM = 5  # metrics, from which a table may be wider than the window and is then scrolled
LONG_NAME = 6  # characters, from which a metric's name needs a wider column on a phone
FEW = 30
"""Queries below which a slice is grayed: too few to act on."""
SLICE_NAMES = {
    "category": "Category",
    "sibling": "Another product of the query's family in the gallery",
    "missing": "What the query lacks",
    "num_attributes": "Key attributes of the query",
}
VALUE_NAMES = {"missing": {"none": "nothing: image and title", "image": "the image", "title": "the title"}}
Ends = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Column:
    """A metric and the ends of its axis."""

    metric: str
    low: str
    high: str


@dataclass(frozen=True, slots=True)
class MetricCell:
    """One number with its interval."""

    metric: str
    mean: str
    interval: str = ""
    whisker: Whisker | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A name and its numbers."""

    name: str
    note: str
    tag: str
    """ "floor", "ceiling" or nothing."""
    css: str
    cells: Sequence[MetricCell]


@dataclass(frozen=True, slots=True)
class RowGroup:
    """Rows under a heading of their own, or under none."""

    title: str
    rows: Sequence[Row]


@dataclass(frozen=True, slots=True)
class LadderTable:
    """One row a rung, one column a metric."""

    columns: Sequence[Column]
    groups: Sequence[RowGroup]
    css: str = ""

    @property
    def wide(self) -> bool:
        """Whether it may be wider than the window."""
        return len(self.columns) >= WIDE_FROM

    @property
    def long_names(self) -> bool:
        """Whether a metric's name is long."""
        return any(len(metric_label(column.metric)) > LONG_NAME for column in self.columns)


@dataclass(frozen=True, slots=True)
class TurnedTable:
    """A single row of many metrics: one line a metric."""

    name: str
    note: str
    cells: Sequence[MetricCell]


@dataclass(frozen=True, slots=True)
class RobustnessRow:
    """What a perturbation costs: before, after, and the paired difference."""

    score: RobustnessScore
    cells: Sequence[MetricCell]


@dataclass(frozen=True, slots=True)
class RobustnessTable:
    """One row a perturbation, of one metric."""

    metric: str
    low: str
    high: str
    """Ends of the differences' axis, in points."""
    rows: Sequence[RobustnessRow]


def ladder_table(rows: Sequence[LadderRow], main: LadderRow | None = None) -> LadderTable | TurnedTable:
    """One row a rung, one column a metric; a single row of many metrics is turned.

    Args:
        main: the row that is marked as the result.
    """
    metrics = ordered_metrics([row.metrics for row in rows])
    if len(rows) == 1 and len(metrics) > MAX_COLUMNS:
        (row,) = rows
        return TurnedTable(row.name, row.note, [_cell(m, row.metrics, (0.0, 1.0), row.kind) for m in metrics])
    ends = {name: domain(rows, name) for name in metrics}
    drawn = [
        Row(
            row.name,
            row.note,
            "" if row.kind == "rung" else row.kind,
            f"{row.kind}{' main' if row is main else ''}",
            [_cell(name, row.metrics, ends[name], row.kind) for name in metrics],
        )
        for row in rows
    ]
    return LadderTable(_columns(ends), [RowGroup("", drawn)])


def slice_table(slices: Mapping[str, Mapping[str, SliceScore]], metrics: Sequence[str]) -> LadderTable:
    """One group of rows a slice; the line across a whisker is the mean of all the group's queries."""
    every = [
        LadderRow("", {name: _triple(score.metrics[name]) for name in metrics if name in score.metrics})
        for values in slices.values()
        for score in values.values()
    ]
    ends = {name: domain(every, name) for name in metrics}
    groups = []
    for name, values in slices.items():
        means = {metric: _mean_of_all(list(values.values()), metric) for metric in metrics}
        rows = [
            Row(
                VALUE_NAMES.get(name, {}).get(value, value),
                _count(score),
                "",
                "few" if score.num_queries < FEW or score.num_clusters < MIN_CLUSTERS else "rung",
                [
                    _cell(m, {k: _triple(i) for k, i in score.metrics.items()}, ends[m], "rung", means[m])
                    for m in metrics
                ],
            )
            for value, score in values.items()
        ]
        groups.append(RowGroup(SLICE_NAMES.get(name, name), rows))
    return LadderTable(_columns(ends), groups, "slices")


def robustness_table(scores: Sequence[RobustnessScore], metric: str) -> RobustnessTable:
    """What each perturbation costs in one metric."""
    differences = [score.difference[metric].difference for score in scores]
    finite = [abs(end) for d in differences for end in _triple(d) if math.isfinite(end)]
    reach = max(math.ceil(max(finite, default=0.05) * 20 - 1e-9) / 20, 0.05)
    rows = []
    for score, difference in zip(scores, differences, strict=True):
        before, after = _triple(score.plain[metric]), _triple(score.perturbed[metric])
        cells = [
            MetricCell("before", percent(before[0]), interval_text(before)),
            MetricCell("after", percent(after[0]), interval_text(after)),
            MetricCell(
                "points",
                points(difference.mean),
                f"[{points(difference.low)}, {points(difference.high)}]",
                whisker(_triple(difference), (-reach, reach), reference=0.0),
            ),
        ]
        rows.append(RobustnessRow(score, cells))
    return RobustnessTable(metric, points(-reach), points(reach), rows)


def _cell(
    metric: str, metrics: Mapping[str, Sequence[float]], ends: Ends, kind: str, reference: float | None = None
) -> MetricCell:
    interval = metrics.get(metric)
    if interval is None:
        return MetricCell(metric, "–")
    return MetricCell(metric, percent(interval[0]), interval_text(interval), whisker(interval, ends, kind, reference))


def _columns(ends: Mapping[str, Ends]) -> list[Column]:
    return [Column(name, f"{100 * low:g}", f"{100 * high:g}") for name, (low, high) in ends.items()]


def _triple(interval: Interval) -> tuple[float, float, float]:
    return interval.mean, interval.low, interval.high


def _count(score: SliceScore) -> str:
    queries = f"{score.num_queries:,} {'query' if score.num_queries == 1 else 'queries'}"
    if score.num_clusters == score.num_queries:
        return queries
    return f"{queries}, {score.num_clusters:,} {'family' if score.num_clusters == 1 else 'families'}"


def _mean_of_all(scores: Sequence[SliceScore], name: str) -> float:
    known = [(score.num_queries, score.metrics[name].mean) for score in scores if name in score.metrics]
    total = sum(count for count, _ in known)
    return sum(count * mean for count, mean in known) / total if total else math.nan
