"""`afmrl compare`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from afmrl.cli.summary import Summary

if TYPE_CHECKING:
    from rich.console import Console

    from afmrl.evaluation.compare import ChangedQuery, Comparison

SHOWN_QUERIES = 10  # won or lost, printed of each kind


def compare(
    a: Path,
    b: Path,
    *,
    task: str | None = None,
    metric: Annotated[list[str] | None, Parameter(negative=())] = None,
    common: bool = False,
    out: Path | None = None,
    catalog: Annotated[list[Path] | None, Parameter(negative=())] = None,
) -> Summary:
    """Compare two evaluations of the same queries: paired tests, and the queries that only one answers at rank 1.

    Parameters
    ----------
    a
        Folder that `afmrl evaluate` wrote.
    b
        Another such folder, of the same queries; differences are B − A.
    task
        Which task; by default "fine", or the only one that both have.
    metric
        Which metric, may be repeated; by default all.
    common
        Compare the queries that both have, where the sets differ.
    out
        Folder for compare.json and compare.html.
    catalog
        Catalog of queries or gallery, may be repeated: titles and images of compare.html.
    """
    from afmrl.evaluation.compare import compare as compare_evaluations

    comparison = compare_evaluations(a, b, task=task, metrics=metric or (), common=common, out=out)
    print_comparison(comparison)
    if out is not None:
        from afmrl.data.catalog import read_catalog
        from afmrl.report.comparison_page import write_comparison_page

        offers = {o.id: o for path in catalog or () for o in read_catalog(path, check_images=False, max_bad=1.0)}
        page = write_comparison_page(comparison, out, offers)
        print(f"\n{out / 'compare.json'}   {page}")
    return comparison.as_json() | ({"out": out} if out is not None else {})


def print_comparison(comparison: Comparison, console: Console | None = None) -> None:
    """Print the differences as a table, then the queries that only one evaluation answers at rank 1."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from afmrl.evaluation.metric_text import mean_and_interval, metric_label, percent, points
    from afmrl.terminal import output_console

    console = console or output_console()
    families = ""
    if comparison.num_clusters < comparison.num_queries:
        families = f" in {comparison.num_clusters:,} families"
    console.print(Text(f"A: {comparison.a}\nB: {comparison.b}", style="bold"))
    console.print(Text(f"Task {comparison.task}: {comparison.num_queries:,} queries{families}."))
    if comparison.only_a or comparison.only_b:
        console.print(
            Text(f"Left out, as only one evaluation has them: {comparison.only_a:,} of A, {comparison.only_b:,} of B.")
        )
    for note in comparison.notes:
        console.print(Text(f"Note: {note}", style="yellow"))
    table = Table(box=box.SIMPLE_HEAD)
    for title in ("", "A", "B", "B − A, points", "p", "p (Holm)"):
        table.add_column(title, justify="right" if title else "left")
    for name, metric in comparison.metrics.items():
        d = metric.difference
        sure = "bold" if metric.p_holm < 0.05 else "dim"
        table.add_row(
            Text(metric_label(name)),
            Text(mean_and_interval((metric.a.mean, metric.a.low, metric.a.high))),
            Text(mean_and_interval((metric.b.mean, metric.b.low, metric.b.high))),
            Text(f"{points(d.mean)} [{points(d.low)}, {points(d.high)}]", style=sure),
            Text(_p(metric.p_value)),
            Text(_p(metric.p_holm), style=sure),
        )
    console.print(table)
    if comparison.same:
        same = ", ".join(f"{metric_label(name)} = {metric_label(other)}" for name, other in comparison.same.items())
        console.print(Text(f"The same number for every query: {same}.", style="dim"))
    won, lost = len(comparison.won), len(comparison.lost)
    sign = _p(comparison.sign_p_value, equals="= ")
    console.print(
        Text(
            f"At rank 1: {won:,} won (wrong in A, right in B), {lost:,} lost, of {comparison.num_queries:,} "
            f"({percent((won + lost) / comparison.num_queries)} %); exact sign test: p {sign}."
        )
    )
    for title, changed in (("Won", comparison.won), ("Lost", comparison.lost)):
        if changed:
            _print_changed(console, title, changed)


def _print_changed(console: Console, title: str, changed: Sequence[ChangedQuery]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title, style="bold"), title_justify="left", box=box.SIMPLE_HEAD)
    for name in ("query", "rank in A", "rank in B", "first hit of A", "first hit of B"):
        table.add_column(name, justify="right" if name.startswith("rank") else "left")
    for query in changed[:SHOWN_QUERIES]:
        cells = (query.query, f"{query.rank_a:,}", f"{query.rank_b:,}", query.first_hit_a, query.first_hit_b)
        table.add_row(*(Text(value) for value in cells))
    console.print(table)
    if len(changed) > SHOWN_QUERIES:
        console.print(Text(f"… and {len(changed) - SHOWN_QUERIES:,} more", style="dim"))


def _p(value: float, equals: str = "") -> str:
    return "< 0.001" if value < 0.001 else f"{equals}{value:.3f}"
