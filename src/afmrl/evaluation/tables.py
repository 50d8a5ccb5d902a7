"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

METRIC_NAMES = {"recall@1": "R@1", "recall@5": "R@5", "recall@10": "R@10", "mrr": "MRR"}


def print_ladder(title: str, rows: Sequence[tuple[str, Mapping[str, Sequence[float]]]]) -> None:
    """Print one line a row: its name and, for each metric, mean and 95 % interval (in percent).

    Args:
        rows: (name, {metric: (mean, low, high)}).
    """
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", caption="mean [95 % interval], in percent", caption_justify="left")
    table.add_column("")
    metrics = [metric for metric in METRIC_NAMES if any(metric in row for _, row in rows)]
    for metric in metrics:
        table.add_column(METRIC_NAMES[metric], justify="right", no_wrap=True)
    for name, row in rows:
        table.add_row(name, *(cell(row[metric]) if metric in row else "" for metric in metrics))
    Console().print(table)


def cell(interval: Sequence[float]) -> str:
    """
    >>> cell((0.5428, 0.5, 0.58))
    '54.3 [50.0, 58.0]'
    """
    mean, low, high = (100 * value for value in interval)
    return f"{mean:.1f} [{low:.1f}, {high:.1f}]"
