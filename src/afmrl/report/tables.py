"""The report's tables of metrics: a mean, its interval and a whisker in every cell.

On a phone a row becomes a block of one line a metric (report.css), so every cell carries its metric's name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from afmrl.evaluation.robustness import RobustnessScore
from afmrl.evaluation.significance import Interval
from afmrl.evaluation.slices import MIN_CLUSTERS, SliceScore
from afmrl.evaluation.tables import interval_text, metric_label, ordered_metrics, percent, points
from afmrl.report.charts import domain, whisker
from afmrl.report.report import LadderRow, MetricTable
from afmrl.report.text import MAX_TITLE, MAX_VALUE, text

MAX_COLUMNS = 6  # metrics side by side; a single row with more of them is turned
WIDE_FROM = 5  # metrics, from which a table may be wider than the window and is then scrolled
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


def metric(name: str) -> str:
    """A metric's name, escaped."""
    return text(metric_label(name), MAX_VALUE)


def ladder_table(rows: Sequence[LadderRow], caption: str, main: LadderRow | None = None) -> str:
    """One row a rung, one column a metric; a single row of many metrics is turned: one row a metric."""
    metrics = ordered_metrics([row.metrics for row in rows])
    if len(rows) == 1 and len(metrics) > MAX_COLUMNS:
        return _turned(rows[0], metrics, caption)
    ends = {name: domain(rows, name) for name in metrics}
    body = "".join(
        _row(row.name, row.note, row.kind, row.metrics, ends, f"{row.kind}{' main' if row is main else ''}")
        for row in rows
    )
    return _table(ends, caption, f'<tbody role="rowgroup">{body}</tbody>', "")


def metric_tables(tables: Sequence[MetricTable]) -> str:
    """Each table under its title."""
    parts = []
    for table in tables:
        about = f"<p>{text(table.about)}</p>" if table.about else ""
        rows = ladder_table(table.rows, "Percent, with 95 % interval") if table.rows else "<p>Nothing was measured.</p>"
        parts.append(f"<h3>{text(table.title, MAX_TITLE)}</h3>{about}{rows}")
    return "".join(parts)


def slice_table(slices: Mapping[str, Mapping[str, SliceScore]], metrics: Sequence[str]) -> str:
    """One group of rows a slice; the line across a whisker is the mean of all the group's queries."""
    intervals = [
        {name: _ends_of(score.metrics[name]) for name in metrics if name in score.metrics}
        for values in slices.values()
        for score in values.values()
    ]
    ends = {name: domain([LadderRow("", row) for row in intervals], name) for name in metrics}
    groups = []
    for name, values in slices.items():
        whole = {m: _mean_of_all(list(values.values()), m) for m in metrics}
        rows = "".join(
            _row(
                VALUE_NAMES.get(name, {}).get(value, value),
                _count(score),
                "rung",
                {m: _ends_of(score.metrics[m]) for m in metrics if m in score.metrics},
                ends,
                "few" if score.num_queries < FEW or score.num_clusters < MIN_CLUSTERS else "rung",
                whole,
            )
            for value, score in values.items()
        )
        title = text(SLICE_NAMES.get(name, name), MAX_TITLE)
        groups.append(
            f'<tbody role="rowgroup"><tr class="group" role="row"><th scope="rowgroup" role="rowheader" '
            f'colspan="{len(metrics) + 1}">{title}</th></tr>{rows}</tbody>'
        )
    caption = (
        "Percent, with 95 % interval. The line across: the mean of the whole group. Grey: fewer than "
        f"{FEW} queries, or than {MIN_CLUSTERS} families, which have no interval; nor has a group in which all agree"
    )
    return _table(ends, caption, "".join(groups), " slices")


def robustness_table(scores: Sequence[RobustnessScore], name: str) -> str:
    """What each perturbation costs in one metric: before, after, and the paired difference."""
    differences = [score.difference[name].difference for score in scores]
    finite = [abs(end) for d in differences for end in (d.mean, d.low, d.high) if math.isfinite(end)]
    reach = max(math.ceil(max(finite, default=0.05) * 20 - 1e-9) / 20, 0.05)
    rows = []
    for score, difference in zip(scores, differences, strict=True):
        cells = "".join(
            f'<td role="cell" data-label="{label}"><span class="mean">{percent(side[name].mean)}</span> '
            f'<span class="range">{interval_text(_ends_of(side[name]))}</span></td>'
            for label, side in (("before", score.plain), ("after", score.perturbed))
        )
        drawn = whisker(_ends_of(difference), (-reach, reach), reference=0.0)
        rows.append(
            f'<tr role="row"><th scope="row" role="rowheader">{text(score.name, MAX_TITLE)}'
            f'<span class="note">{text(score.description)}; {score.num_changed:,} queries changed</span></th>{cells}'
            f'<td role="cell" data-label="points"><span class="mean">{points(difference.mean)}</span> '
            f'<span class="range">[{points(difference.low)}, {points(difference.high)}]</span>{drawn}</td></tr>'
        )
    scale = f'<span class="ends" aria-hidden="true"><span>{points(-reach)}</span><span>{points(reach)}</span></span>'
    head = "".join(
        f'<th scope="col" role="columnheader">{title}</th>'
        for title in ('<span class="vh">Perturbation</span>', "Before", "After", f"Difference, points{scale}")
    )
    caption = (
        f"{metric(name)} in percent, with 95 % interval, of the queries that the perturbation changed"
        f'<span class="narrow" aria-hidden="true">. Scale: {points(-reach)} to {points(reach)}</span>'
    )
    return (
        f'<table class="ladder signed" role="table"><caption>{caption}</caption><thead role="rowgroup"><tr role="row">'
        f'{head}</tr></thead><tbody role="rowgroup">{"".join(rows)}</tbody></table>'
    )


def _table(ends: Mapping[str, Ends], caption: str, bodies: str, css: str) -> str:
    head = "".join(
        f'<th scope="col" role="columnheader">{metric(name)}{_scale(low, high)}</th>'
        for name, (low, high) in ends.items()
    )
    # on a phone the table's head is not to be seen, and with it the ends of the scales
    scales = ", ".join(f"{metric(name)} {100 * low:g} to {100 * high:g}" for name, (low, high) in ends.items())
    caption += f'<span class="narrow" aria-hidden="true">. Scales: {scales}</span>'
    many = " many" if len(ends) >= WIDE_FROM else ""
    long = " long" if any(len(metric_label(name)) > 6 for name in ends) else ""
    table = (
        f'<table class="ladder{css}{many}{long}" role="table"><caption>{caption}</caption><thead role="rowgroup">'
        f'<tr role="row"><th scope="col" role="columnheader"><span class="vh">Row</span></th>{head}</tr></thead>'
        f"{bodies}</table>"
    )
    if not many:
        return table
    return f'<div class="scroll" tabindex="0" role="region" aria-label="Table of metrics">{table}</div>'


def _row(
    name: str,
    note: str,
    kind: str,
    metrics: Mapping[str, Sequence[float]],
    ends: Mapping[str, Ends],
    css: str,
    references: Mapping[str, float] | None = None,
) -> str:
    cells = "".join(_cell(metrics.get(m), m, ends[m], kind, (references or {}).get(m)) for m in ends)
    tag = "" if kind == "rung" else f' <span class="tag">{kind}</span>'
    shown_note = f'<span class="note">{text(note)}</span>' if note else ""
    return (
        f'<tr role="row" class="{escape(css)}"><th scope="row" role="rowheader">{text(name, MAX_TITLE)}{tag}'
        f"{shown_note}</th>{cells}</tr>"
    )


def _cell(interval: Sequence[float] | None, name: str, ends: Ends, kind: str, reference: float | None) -> str:
    if interval is None:
        return f'<td role="cell" data-label="{metric(name)}">–</td>'
    return (
        f'<td role="cell" data-label="{metric(name)}"><span class="mean">{percent(interval[0])}</span> '
        f'<span class="range">{interval_text(interval)}</span>{whisker(interval, ends, kind, reference)}</td>'
    )


def _turned(row: LadderRow, metrics: Sequence[str], caption: str) -> str:
    name = f"{text(row.name, MAX_TITLE)}{f': {text(row.note)}' if row.note else ''}. "
    body = "".join(
        f'<tr><th scope="row">{metric(m)}</th><td><span class="mean">{percent(row.metrics[m][0])}</span> '
        f'<span class="range">{interval_text(row.metrics[m])}</span></td>'
        f"<td>{whisker(row.metrics[m], (0.0, 1.0), row.kind)}</td></tr>"
        for m in metrics
    )
    return (
        f'<table class="plain turned"><caption>{name}{caption}</caption><thead><tr><th scope="col">Metric</th>'
        f'<th scope="col">Mean</th><th scope="col"><span class="vh">On a scale from 0 to 100</span>'
        f"{_scale(0.0, 1.0)}</th></tr></thead><tbody>{body}</tbody></table>"
    )


def _scale(low: float, high: float) -> str:
    return f'<span class="ends" aria-hidden="true"><span>{100 * low:g}</span><span>{100 * high:g}</span></span>'


def _ends_of(interval: Interval) -> tuple[float, float, float]:
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
