"""What `afmrl evaluate` says on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from afmrl.evaluation.catalog_evaluation import CatalogResult, tables_of
from afmrl.evaluation.protocols import SHOWN_METRICS
from afmrl.evaluation.tables import Metrics, metric_label, ordered_metrics, percent, points, render_table
from afmrl.evaluation.tasks import EVERYTHING
from afmrl.report.task_report import shown_intervals
from afmrl.terminal import output_console

ONE_LINE_CELL, TWO_LINE_CELL = 23, 17  # characters of a column: "100.0 [100.0, 100.0]", the interval alone


def print_qrels_result(model: str, metrics: Mapping[str, Any], out: Path) -> None:
    """One table of retrieval, what was not counted, and where the files lie."""
    rows = {name: (metrics[name], *metrics["intervals"][name]) for name in SHOWN_METRICS[metrics["protocol"]]}
    _print_table(
        f"{metrics['num_queries']} queries, {metrics['num_gallery']} gallery offers", [(Path(model).name, rows)]
    )
    if metrics["skipped"]:
        print(f"{metrics['skipped']} rows were skipped: {out / 'skipped.jsonl'} lists them")
    if metrics["queries_without_match"]:
        counted = "counted as missed" if metrics["protocol"] == "m5product" else "not counted"
        print(f"{metrics['queries_without_match']} queries have no match in the gallery and are {counted}")
    _print_ties(metrics["ties"])
    _print_robustness(metrics)
    print(f"{out / 'metrics.json'}   {out / 'hits.jsonl'}   {out / 'queries.jsonl'}   {out / 'report.html'}")


def print_catalog_result(result: CatalogResult, out: Path) -> None:
    """One table a kind of task, what was not possible and why, and where the files lie."""
    shown = "every offer" if result.split == EVERYTHING else f"split {result.split!r}"
    if result.runs:
        rows = [(run.task.name, shown_intervals(run)) for run in result.runs]
        _print_table(f"Retrieval, {shown}, protocol {result.protocol}", rows)
        for run in result.runs:
            print(
                f"{run.task.name}: {len(run.result.counted)} queries, {len(run.task.gallery)} gallery offers"
                + (f", {run.unseen} of the queries without a match and counted as missed" if run.unseen else "")
            )
            _print_ties(run.result.ties)
            _print_robustness(result.metrics["tasks"][run.task.name])
    for table in tables_of(result):
        _print_table(table.title, [(row.name, row.metrics) for row in table.rows])
        print(table.about)
    for note in result.notes:
        print(note)
    for task in result.impossible:
        print(f"not possible: {task.name}: {task.reason}")
    if result.metrics["skipped"]:
        print(f"{result.metrics['skipped']} rows were skipped: {out / 'skipped.jsonl'} lists them")
    print(f"{out / 'metrics.json'}   {out / 'report.html'}")


def _print_table(title: str, rows: Sequence[tuple[str, Metrics]], metrics: Sequence[str] = ()) -> None:
    """A table as wide as the terminal: intervals beside or below the means, and on a narrow one fewer metrics."""
    console = output_console()
    metrics = every = tuple(metrics) or ordered_metrics([row for _, row in rows])
    names = max(len(name) for name, _ in rows)
    if console.width < names + TWO_LINE_CELL * len(metrics):
        metrics = metrics[: max(1, (console.width - names) // TWO_LINE_CELL)]
    one_line = console.width >= names + ONE_LINE_CELL * len(metrics)
    console.print(render_table(title, rows, metrics=metrics, one_line=one_line))
    if hidden := [metric_label(metric) for metric in every if metric not in metrics]:
        print(f"not shown on so narrow a terminal: {', '.join(hidden)} (report.html and metrics.json have them)")


def _print_ties(ties: Mapping[str, int]) -> None:
    if ties["queries"]:
        print(f"{ties['queries']} queries have equal scores whose order, by id, changes a metric")


def _print_robustness(metrics: Mapping[str, Any]) -> None:
    """Each perturbation of the queries in one line: the first metric before and after, and the paired difference."""
    scores = metrics.get("robustness", {})
    if not scores:
        return
    first = ordered_metrics([score["difference"] for score in scores.values()])[0]
    print(f"queries made worse, {metric_label(first)} in percent before and after, of the queries that changed:")
    width = max(map(len, scores))
    for name, score in scores.items():
        if first not in score["difference"]:
            continue
        before, after = (percent(score[side][first][0]) for side in ("plain", "metrics"))
        mean, low, high = (points(value) for value in score["difference"][first])
        print(f"  {name:{width}}  {before:>5} to {after:>5}  {mean} [{low}, {high}]  {score['num_changed']:,} queries")
