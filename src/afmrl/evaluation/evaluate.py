"""`afmrl evaluate --queries --gallery --qrels`: any model on a query catalog, a gallery catalog and their qrels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from afmrl.attributes.attributes_on import ATTRIBUTES_ON
from afmrl.data.catalog import read_catalog
from afmrl.data.offer import SkippedRow
from afmrl.errors import InputError
from afmrl.evaluation.protocols import PROTOCOLS
from afmrl.evaluation.qrels import read_qrels
from afmrl.evaluation.task_run import TaskRun, run_task, write_evaluation
from afmrl.evaluation.tasks import RetrievalTask, cluster_of
from afmrl.report.task_report import write_evaluation_report
from afmrl.retrieval.scorer import load_scorer


def evaluate(
    model: str | Path,
    queries: str | Path,
    gallery: str | Path,
    qrels: str | Path,
    out: str | Path,
    *,
    protocol: str = "standard",
    generator: str | Path | None = None,
    fuse: bool = False,
    attributes_on: str | None = None,
    min_grade: int | None = None,
    k: int = 100,
    batch_size: int = 64,
    max_bad: float = 0.01,
    slices: bool = True,
    robustness: bool = False,
    num_resamples: int = 2000,
    progress: bool = False,
) -> dict[str, Any]:
    """Score a model and write OUT: metrics.json (the same bytes for the same inputs), hits.jsonl, queries.jsonl,
    report.html, and skipped.jsonl where rows were skipped.

    An offer that stands on both sides is no hit of itself. Queries without a match in the gallery are counted but
    stay out of the means (of the protocol "standard"). Intervals: bootstrap over queries, drawn together by family
    (columns `family_id`, `style_id`, `family`) or product_id where they are known.

    Args:
        model: an embedder, or a floor ("tfidf", "bm25", "color", "tfidf+color").
        protocol: "standard" or "m5product".
        attributes_on: "query", "gallery", "both" or "none"; None: what the model was trained for, "query" if it does
            not say.
        min_grade: grade from which a pair is a match; None: the highest present. NDCG gains by every grade above 0.

    Returns:
        what metrics.json holds: recall@1, recall@5, recall@10, mrr and the protocol's others, intervals, counts.

    Raises:
        InputError: catalogs, qrels or models that cannot be used.
    """
    if attributes_on not in (None, *ATTRIBUTES_ON):
        raise InputError(f"attributes_on {attributes_on!r}: one of {', '.join(ATTRIBUTES_ON)}")
    if protocol not in PROTOCOLS:
        raise InputError(f"protocol {protocol!r}: one of {', '.join(PROTOCOLS)}")
    if k < 1:
        raise InputError(f"k={k}: at least one hit a query")
    query_catalog = read_catalog(queries, max_bad=max_bad)
    gallery_catalog = read_catalog(gallery, max_bad=max_bad)
    skipped = [*query_catalog.skipped, *gallery_catalog.skipped]
    truth = read_qrels(
        qrels,
        query_catalog.by_id,
        gallery_catalog.by_id,
        min_grade=min_grade,
        skipped_ids=[row.id for row in skipped if row.id],
    )
    ordered = sorted(gallery_catalog, key=lambda offer: offer.id)  # equal scores stand in the order of ids
    row_of = {offer.id: row for row, offer in enumerate(ordered)}
    relevant: list[np.ndarray] = []
    grades: list[np.ndarray] = []
    for offer in query_catalog:
        # an offer on both sides is not its own match
        of_query = sorted((row_of[i], grade) for i, grade in truth.grades.get(offer.id, {}).items() if i != offer.id)
        relevant.append(np.array([row for row, _ in of_query], dtype=np.int64))
        grades.append(np.array([grade for _, grade in of_query], dtype=np.float64))
    if not any((of_query >= truth.min_grade).any() for of_query in grades):
        raise InputError(f"{qrels}: no query has a match in the gallery")
    task = RetrievalTask(
        "fine",
        query_catalog.offers,
        ordered,
        relevant,
        np.array([row_of.get(offer.id, -1) for offer in query_catalog], dtype=np.int64),
        [cluster_of(offer) for offer in query_catalog],
    )
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)  # before the models run
    scorer = load_scorer(
        model,
        generator=generator,
        fuse=fuse,
        attributes_on=attributes_on,
        batch_size=batch_size,
        progress=progress,
    )
    run = run_task(
        scorer,
        task,
        protocol=protocol,
        grades=grades,
        min_grade=truth.min_grade,
        num_hits=k,
        with_slices=slices,
        with_robustness=robustness,
        num_resamples=num_resamples,
    )
    metrics = run.as_json() | {"min_grade": truth.min_grade, "skipped": len(skipped)}
    write_evaluation(out, metrics, [run], skipped)
    _write_report(out, run, skipped, str(model), truth.min_grade)
    return metrics


def _write_report(out: Path, run: TaskRun, skipped: list[SkippedRow], model: str, min_grade: int) -> None:
    write_evaluation_report(
        out,
        title=f"Same-product retrieval: {model}",
        subtitle=f"{len(run.result.counted):,} queries against {len(run.task.gallery):,} gallery offers.",
        runs=[run],
        facts=[
            ("protocol", run.protocol),
            ("grade from which a pair is a match", str(min_grade)),
            ("queries without a match", f"{run.unseen:,}"),
            ("queries with a tie that matters", f"{run.result.ties['queries']:,}"),
        ],
        skipped=skipped,
    )
