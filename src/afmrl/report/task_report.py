"""What of an evaluation goes into its report.html."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from afmrl.data.offer import SkippedRow
from afmrl.evaluation.pairs import PairsResult
from afmrl.evaluation.protocols import SHOWN_METRICS
from afmrl.evaluation.tables import interval_text, metric_label, percent
from afmrl.evaluation.task_run import TaskRun
from afmrl.evaluation.tasks import TASKS
from afmrl.report.cards import cards_of, families_of
from afmrl.report.charts import recall_curve
from afmrl.report.report import Curve, LadderRow, MetricTable, OfferView, ReportData, write_report

MAX_CURVE = 100
SLICE_METRICS = {"standard": ("recall@1", "mrr"), "m5product": ("map@1", "map@5")}


def write_evaluation_report(
    out: Path,
    *,
    title: str,
    subtitle: str,
    runs: Sequence[TaskRun],
    tables: Sequence[MetricTable] = (),
    pairs: PairsResult | None = None,
    facts: Sequence[tuple[str, str]] = (),
    notes: Sequence[str] = (),
    skipped: Sequence[SkippedRow] = (),
    next_steps: Sequence[str | tuple[str, str]] = (),
) -> Path:
    """Write OUT/report.html: a row a task, and queries, families, slices and robustness of the first task."""
    first = runs[0] if runs else None
    return write_report(
        ReportData(
            title=title,
            subtitle=subtitle,
            ladder=[LadderRow(run.task.name, shown_intervals(run), TASKS[run.task.name]) for run in runs],
            main_row=first.task.name if first else "",
            headline=_headline(first) if first else "No retrieval task was asked for.",
            ladder_title="Results, task by task",
            tables=tables,
            recall_curves=[_recall_curve(runs)] if runs else (),
            pair_curves=[_pair_curve(pairs)] if pairs else (),
            facts=facts,
            notes=notes,
            skipped=skipped,
            next_steps=next_steps,
            **(_of_first_task(first) if first else {}),
        ),
        out / "report.html",
    )


def _headline(run: TaskRun) -> str:
    metric, interval = next(iter(shown_intervals(run).items()))
    about = TASKS[run.task.name].partition(":")[0]
    return (
        f"{metric_label(metric)} {percent(interval[0])} % {interval_text(interval)}: {about}, "
        f"{len(run.result.counted):,} queries against {len(run.task.gallery):,} gallery offers."
    )


def shown_intervals(run: TaskRun) -> dict[str, tuple[float, float, float]]:
    """Metric -> (mean, low, high) of the metrics that a table shows."""
    metrics = run.result.metrics
    return {name: (metrics[name].mean, metrics[name].low, metrics[name].high) for name in SHOWN_METRICS[run.protocol]}


def _of_first_task(run: TaskRun) -> dict[str, Any]:
    task, result = run.task, run.result
    rows = result.counted.tolist()
    ranks = result.ranks[result.counted]
    relevant = [run.matches[row] for row in rows]

    def query_view(place: int) -> OfferView:
        row = rows[place]
        return OfferView.of(task.queries[row], run.attributes[row] if run.attributes else None)

    def gallery_view(row: int) -> OfferView:
        return OfferView.of(task.gallery[row], run.gallery_attributes[row] if run.gallery_attributes else None)

    return {
        "slices": run.slice_scores,
        "slice_metrics": SLICE_METRICS[run.protocol],
        "robustness": run.robustness,
        "query_cards": cards_of(
            ranks, result.hit_rows[rows], result.hit_scores[rows], relevant, query_view, gallery_view
        ),
        "families": families_of(ranks, [task.clusters[row] for row in rows], relevant, gallery_view),
    }


def _recall_curve(runs: Sequence[TaskRun]) -> Curve:
    ranks = {run.task.name: run.result.ranks[run.result.counted] for run in runs}
    return recall_curve(ranks, min(MAX_CURVE, max(len(run.task.gallery) for run in runs)))


def _pair_curve(result: PairsResult) -> Curve:
    best = {"best F1": (result.metrics["recall"].mean, result.metrics["precision"].mean)}
    points = [(recall, precision) for _, precision, recall in result.curve]
    return Curve("Duplicate pairs", "recall", "precision", {"pairs": points}, "precision-recall", best)
