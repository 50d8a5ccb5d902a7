"""The page of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from afmrl.evaluation.metric_text import interval_text, metric_label, percent
from afmrl.evaluation.pairs import PairsResult
from afmrl.evaluation.probing import NUM_STARTS
from afmrl.evaluation.result import EvaluatedCatalog, EvaluationResult
from afmrl.evaluation.task_run import TaskRun
from afmrl.evaluation.tasks import EVERYTHING, TASKS
from afmrl.report.charts import recall_curve
from afmrl.report.results_page import write_results_page
from afmrl.report.samples import cards_of, families_of
from afmrl.report.views import Curve, LadderRow, MetricTable, OfferView, ResultsView
from afmrl.retrieval.interval import Interval

MAX_CURVE = 100
SLICE_METRICS = {"standard": ("recall@1", "mrr"), "m5product": ("map@1", "map@5")}


def write_evaluation_page(result: EvaluationResult, out: str | Path) -> Path:
    """Write OUT/report.html: a row a task, and queries, families, slices and robustness of the first task."""
    first = result.runs[0] if result.runs else None
    about = _of_graded_task(result) if result.catalog is None else _of_catalog(result, result.catalog)
    return write_results_page(
        ResultsView(
            ladder=[LadderRow(run.task.name, run.shown_metrics, TASKS[run.task.name]) for run in result.runs],
            main_row=first.task.name if first else "",
            headline=_headline(first) if first else "No retrieval task was asked for.",
            verdict=result.verdict,
            ladder_title="Results, task by task",
            tables=other_tables(result),
            recall_curves=[_recall_curve(result.runs)] if result.runs else (),
            pair_curves=[_pair_curve(result.pairs)] if result.pairs else (),
            notes=[
                *(f"{note[0].upper()}{note[1:]}." for note in result.notes),
                *(f"{task.name} was not possible: {task.reason}." for task in result.impossible),
            ],
            skipped=result.skipped,
            **about,
            **(_of_first_task(first) if first else {}),
        ),
        Path(out) / "report.html",
    )


def split_in_words(result: EvaluationResult) -> str:
    """ "split 'test'", or "every offer"."""
    split = result.catalog.split if result.catalog else EVERYTHING
    return "every offer" if split == EVERYTHING else f"split {split!r}"


def other_tables(result: EvaluationResult) -> list[MetricTable]:
    """The tables of the tasks that are not retrieval."""
    tables = []
    if probe := result.classification:
        about = (
            f"Linear probe of {probe.num_classes:,} categories on frozen embeddings: trained on {probe.num_train:,} "
            f"offers of the split 'train', tested on {len(probe.correct):,}."
        )
        if probe.num_unseen:
            about += f" {probe.num_unseen:,} of these are of a category that training does not have: wrong."
        tables.append(_table("classification", {"accuracy": probe.accuracy}, about))
    if clustering := result.clustering:
        about = (
            f"k-means of {len(clustering.assignment):,} offers with k = {clustering.num_classes:,} categories, the "
            f"best of {NUM_STARTS} starts. Intervals over products of this one clustering."
        )
        tables.append(_table("clustering", clustering.metrics, about))
    if pairs := result.pairs:
        about = (
            f"{pairs.num_pairs:,} labeled pairs, {pairs.num_same:,} of them duplicates. Best F1, precision and "
            f"recall are at the score {pairs.threshold:.3f}, chosen on {pairs.threshold_from}."
        )
        tables.append(_table("pairs", pairs.metrics, about))
    return tables


def _table(name: str, metrics: Mapping[str, Interval], about: str) -> MetricTable:
    row = LadderRow(name, {metric: (i.mean, i.low, i.high) for metric, i in metrics.items()})
    return MetricTable(f"{name}: {TASKS[name]}", [row], about)


def _of_graded_task(result: EvaluationResult) -> dict[str, Any]:
    """Title, subtitle and facts where queries, gallery and qrels were given."""
    (run,) = result.runs
    return {
        "title": f"Same-product retrieval: {result.model}",
        "subtitle": f"{len(run.result.counted):,} queries against {len(run.task.gallery):,} gallery offers.",
        "facts": [
            ("protocol", run.protocol),
            ("grade from which a pair is a match", str(result.metrics["min_grade"])),
            ("queries without a match", f"{run.unseen:,}, {run.unseen_count_as}"),
            ("queries with a tie that matters", f"{run.result.ties['queries']:,}"),
        ],
    }


def _of_catalog(result: EvaluationResult, catalog: EvaluatedCatalog) -> dict[str, Any]:
    """Title, subtitle and facts where a catalog was given."""
    split = split_in_words(result)
    facts = [("offers in the catalog", f"{catalog.num_offers:,}"), (split, f"{catalog.num_evaluated:,} offers")]
    facts += [
        (
            run.task.name,
            f"{run.queries_in_words}; {run.result.ties['queries']:,} with a tie that matters",
        )
        for run in result.runs
    ]
    return {
        "title": f"{catalog.name}: {result.model}",
        "subtitle": f"Protocol {result.protocol}, {split}.",
        "facts": facts,
    }


def _headline(run: TaskRun) -> str:
    metric, interval = next(iter(run.shown_metrics.items()))
    about = TASKS[run.task.name].partition(":")[0]
    return (
        f"{metric_label(metric)} {percent(interval[0])} % {interval_text(interval)}: {about}, "
        f"{len(run.result.counted):,} queries against {len(run.task.gallery):,} gallery offers."
    )


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
