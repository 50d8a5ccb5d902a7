"""The ladder of a run as a table for the terminal, with 95 % intervals; metrics' names and numbers for people."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from afmrl.terminal import output_console

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

Metrics = Mapping[str, Sequence[float]]
"""Metric name -> (mean, low, high), shares of 1."""
METRIC_NAMES = {"recall@1": "R@1", "recall@5": "R@5", "recall@10": "R@10", "mrr": "MRR"}
"""The four that a ladder opens with, in this order."""
_LABELS = {
    "recall": "R", "mrr": "MRR", "map": "mAP", "ap": "AP", "ndcg": "NDCG", "prec": "Prec", "f1": "F1", "nmi": "NMI",
    "ari": "ARI", "recall_fraction": "recall fraction",
}  # fmt: skip
ONE_LINE_WIDTH = 120  # of the terminal, from which an interval stands beside its mean and not below it


def metric_label(metric: str) -> str:
    """A metric's name as the field's tables write it.

    >>> metric_label("recall@10"), metric_label("mrr"), metric_label("ndcg@10"), metric_label("map@5")
    ('R@10', 'MRR', 'NDCG@10', 'mAP@5')
    >>> metric_label("recall_fraction@10"), metric_label("best_f1")
    ('recall fraction@10', 'best F1')
    """
    name, at, k = metric.partition("@")
    return (_LABELS.get(name) or " ".join(_LABELS.get(word, word) for word in name.split("_"))) + at + k


def ordered_metrics(rows: Sequence[Metrics]) -> tuple[str, ...]:
    """The metrics that stand in any of the rows: R@1, R@5, R@10, MRR, then the others as they come.

    >>> ordered_metrics([{"mrr": (0.5, 0.4, 0.6), "hits": (1, 1, 1), "recall@1": (0.3, 0.2, 0.4)}])
    ('recall@1', 'mrr', 'hits')
    """
    present = {metric: None for row in rows for metric in row}
    return (*(m for m in METRIC_NAMES if m in present), *(m for m in present if m not in METRIC_NAMES))


def percent(share: float) -> str:
    """A share of 1 in percent, one decimal; a dash where there is no number.

    >>> percent(0.5428), percent(float("nan"))
    ('54.3', '–')
    """
    return f"{100 * share:.1f}" if math.isfinite(share) else "–"


def points(share: float) -> str:
    """A difference of shares in points of percent, with its sign.

    >>> points(0.0512), points(-0.03), points(-0.0001)
    ('+5.1', '−3.0', '0.0')
    """
    if not math.isfinite(share):
        return "–"
    shown = f"{100 * share:.1f}"
    return "0.0" if float(shown) == 0 else shown.replace("-", "−") if share < 0 else f"+{shown}"


def interval_text(interval: Sequence[float]) -> str:
    """The ends of (mean, low, high) in percent; nothing where they are no numbers.

    >>> interval_text((0.5428, 0.5, 0.58))
    '[50.0, 58.0]'
    """
    _, low, high = interval
    return f"[{percent(low)}, {percent(high)}]" if math.isfinite(low) and math.isfinite(high) else ""


def cell(interval: Sequence[float]) -> str:
    """Mean and interval in percent, on one line.

    >>> cell((0.5428, 0.5, 0.58))
    '54.3 [50.0, 58.0]'
    """
    return f"{percent(interval[0])} {interval_text(interval)}".rstrip()


def render_table(
    title: str, rows: Sequence[tuple[str, Metrics]], *, metrics: Sequence[str] = (), one_line: bool = True
) -> Table:
    """A rich table: one row a rung, one column a metric, each cell a mean and its interval in percent.

    Args:
        title: printed above the table.
        rows: (name, {metric: (mean, low, high)}); a metric that a row does not have is a dash.
        metrics: which metrics in which order; all that are there by default.
        one_line: the interval beside the mean; else below it, for narrow terminals.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    names = tuple(metrics) or ordered_metrics([row for _, row in rows])
    best = {
        m: max((row[m][0] for _, row in rows if m in row and math.isfinite(row[m][0])), default=None) for m in names
    }
    table = Table(
        title=Text(title, style="bold"),
        caption=Text("mean [95 % interval], in percent" if rows else "no rows", style="dim"),
        box=box.SIMPLE_HEAD,
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("")
    for metric in names:
        table.add_column(metric_label(metric), justify="right", no_wrap=True)
    for name, row in rows:
        cells = [Text(name)]  # Text: a "[" in a name is no markup
        for metric in names:
            if metric not in row:
                cells.append(Text("–", style="dim"))
                continue
            mean = Text(percent(row[metric][0]), style="bold" if row[metric][0] == best[metric] else "")
            cells.append(
                mean.append(" " if one_line else "\n").append(interval_text(row[metric]), style="not bold dim")
            )
        table.add_row(*cells)
    return table


def print_ladder(
    title: str, rows: Sequence[tuple[str, Metrics]], *, metrics: Sequence[str] = (), console: Console | None = None
) -> None:
    """Print `render_table`, with intervals beside the means where the terminal is wide enough."""
    console = console or output_console()
    console.print(render_table(title, rows, metrics=metrics, one_line=console.width >= ONE_LINE_WIDTH))
