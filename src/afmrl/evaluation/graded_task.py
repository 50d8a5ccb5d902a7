"""Queries, a gallery and their qrels, of one model."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from afmrl.data.catalog import Catalog
from afmrl.errors import InputError
from afmrl.evaluation.qrels import read_qrels
from afmrl.evaluation.result import EvaluationResult
from afmrl.evaluation.task_run import run_task
from afmrl.evaluation.tasks import RetrievalTask, cluster_of
from afmrl.evaluation.verdict_of_task import verdict_of
from afmrl.matching.rerank import Reranker
from afmrl.retrieval.scorer import Scorer


class GradedTask:
    """Queries, a gallery and their qrels, read and checked before a model is loaded.

    Args:
        min_grade: grade from which a pair is a match; None: the highest present.

    Raises:
        InputError: qrels that cannot be used, or that leave no query a match in the gallery.
    """

    def __init__(self, queries: Catalog, gallery: Catalog, qrels: str | Path, *, min_grade: int | None = None) -> None:
        self.skipped = (*queries.faults, *gallery.faults)
        self.qrels = read_qrels(
            qrels,
            queries.by_id,
            gallery.by_id,
            min_grade=min_grade,
            skipped_ids=[*queries.skipped_ids, *gallery.skipped_ids],
        )
        ordered = sorted(gallery, key=lambda offer: offer.id)  # equal scores are ranked by id
        row_of = {offer.id: row for row, offer in enumerate(ordered)}
        relevant: list[np.ndarray] = []
        self.grades: list[np.ndarray] = []
        for offer in queries:
            graded = self.qrels.grades.get(offer.id, {})
            found = sorted((row_of[i], grade) for i, grade in graded.items() if i != offer.id)  # never its own match
            relevant.append(np.array([row for row, _ in found], dtype=np.int64))
            self.grades.append(np.array([grade for _, grade in found], dtype=np.float64))
        if not any((grades >= self.qrels.min_grade).any() for grades in self.grades):
            raise InputError(f"{qrels}: no query has a match in the gallery")
        self.task = RetrievalTask(
            "fine",
            queries.offers,
            ordered,
            relevant,
            np.array([row_of.get(offer.id, -1) for offer in queries], dtype=np.int64),
            [cluster_of(offer) for offer in queries],
        )

    def evaluate(
        self,
        scorer: Scorer,
        *,
        model: str,
        protocol: str = "standard",
        k: int = 100,
        slices: bool = True,
        robustness: bool = False,
        floors: bool = True,
        num_resamples: int = 2000,
        reranker: Reranker | None = None,
    ) -> EvaluationResult:
        """Score a scorer; the arguments are those of `CatalogTasks.evaluate`."""
        run = run_task(
            scorer,
            self.task,
            protocol=protocol,
            grades=self.grades,
            min_grade=self.qrels.min_grade,
            num_hits=k,
            with_slices=slices,
            with_robustness=robustness,
            num_resamples=num_resamples,
            reranker=reranker,
        )
        verdict = verdict_of(run, scorer, model, num_resamples=num_resamples) if floors else None
        metrics = run.as_json() | {
            "min_grade": self.qrels.min_grade,
            "skipped": sum(fault.lost == "row" for fault in self.skipped),
            **({"verdict": verdict.as_json()} if verdict else {}),
        }
        return EvaluationResult(model, protocol, metrics, [run], self.skipped, verdict=verdict)
