"""Tables of metrics on the terminal, with 95 % intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from afmrl.evaluation.metric_text import Metrics, interval_text, metric_label, ordered_metrics, percent
from afmrl.terminal import output_console

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

ONE_LINE_WIDTH = 120  # of the terminal, from which an interval is beside its mean and not below it


def render_table(
    title: str, rows: Sequence[tuple[str, Metrics]], *, metrics: Sequence[str] = (), one_line: bool = True
) -> Table:
    """A rich table: one row a rung, one column a metric, each cell a mean and its interval in percent.

    Args:
        title: printed above the table.
        rows: (name, {metric: (mean, low, high)}); a metric that a row does not have is a dash.
        metrics: which metrics in which order; all of the rows by default.
        one_line: the interval beside the mean; otherwise below it, for narrow terminals.
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
        cells = [Text(name)]  # Text: a "[" in a name is not markup
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
