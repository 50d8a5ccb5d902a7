"""A retrieval task that was run: its result, slices and robustness."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from afmrl.attributes.attributes_on import on_gallery, on_query
from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.data.offer import Offer
from afmrl.evaluation.protocols import SHOWN_METRICS, score_protocol
from afmrl.evaluation.retrieval import RetrievalResult
from afmrl.evaluation.robustness import PERTURBATIONS, RobustnessScore, perturbed, robustness_score
from afmrl.evaluation.slices import SliceScore, by_slice, slices_as_json, slices_of
from afmrl.evaluation.tasks import COARSE, RetrievalTask
from afmrl.matching.rerank import RerankedScores, Reranker
from afmrl.retrieval.encoder import visible_part
from afmrl.retrieval.hits import Hit
from afmrl.retrieval.score_matrix import ScoreMatrix
from afmrl.retrieval.scorer import Scorer


@dataclass(frozen=True)
class TaskRun:
    """One retrieval task under one protocol."""

    task: RetrievalTask
    protocol: str
    result: RetrievalResult
    matches: Sequence[np.ndarray]
    """Q arrays of gallery rows: the relevant ones whose grade makes them a match."""
    attributes: Sequence[KeyAttributes] | None = None
    """Generated key attributes of each query; None without a generator, or where queries carry none."""
    gallery_attributes: Sequence[KeyAttributes] | None = None
    """Likewise of each gallery offer."""
    slices: Sequence[Mapping[str, str]] | None = None
    """Of each query."""
    slice_scores: Mapping[str, Mapping[str, SliceScore]] = field(default_factory=dict)
    robustness: Sequence[RobustnessScore] = ()
    grades: Sequence[np.ndarray] | None = None
    """Of the task's relevant offers; None: all 1."""
    min_grade: float = 1
    """Grade from which an offer is a match."""
    reranked: bool = False
    """Whether the pair model of matching ordered the best hits."""

    @property
    def unseen(self) -> int:
        """Queries that count and have no match in the gallery (m5product counts them as missed)."""
        return int((self.result.num_relevant == 0).sum())

    @property
    def unseen_count_as(self) -> str:
        """What the protocol makes of queries without a match."""
        return "counted as missed" if self.protocol == "m5product" else "not counted"

    @property
    def queries_in_words(self) -> str:
        """How many queries count, how large the gallery is, and what became of queries without a match."""
        text = f"{len(self.result.counted):,} queries, {len(self.task.gallery):,} gallery offers"
        return text + (f"; {self.unseen:,} queries without a match, {self.unseen_count_as}" if self.unseen else "")

    @property
    def shown_metrics(self) -> dict[str, tuple[float, float, float]]:
        """Metric -> (mean, low, high) of the metrics that a table shows."""
        metrics = self.result.metrics
        shown = SHOWN_METRICS[self.protocol]
        return {name: (metrics[name].mean, metrics[name].low, metrics[name].high) for name in shown}

    def as_json(self) -> dict[str, Any]:
        """What metrics.json holds: each metric, its interval under "intervals", counts, ties, slices, robustness."""
        metrics: dict[str, Any] = {name: round(i.mean, 6) for name, i in self.result.metrics.items()}
        metrics |= {
            "intervals": {name: [round(i.low, 6), round(i.high, 6)] for name, i in self.result.metrics.items()},
            "protocol": self.protocol,
            "num_queries": len(self.result.counted),
            "num_gallery": len(self.task.gallery),
            "num_clusters": len({self.task.clusters[row] for row in self.result.counted}),
            "queries_without_match": self.unseen,
            "ties": dict(self.result.ties),
        }
        if self.reranked:
            metrics["reranked"] = True
        if self.slice_scores:
            metrics["slices"] = slices_as_json(self.slice_scores)
        if self.robustness:
            metrics["robustness"] = {score.name: score.as_json() for score in self.robustness}
        return metrics

    def query_lines(self) -> Iterator[str]:
        """queries.jsonl: one line for each query that counts."""
        result = self.result
        for row in result.counted.tolist():
            offer = self.task.queries[row]
            found = np.isfinite(result.hit_scores[row, :1]).any()
            line = {
                "task": self.task.name,
                "query": offer.id,
                "cluster": self.task.clusters[row],
                "rank": int(result.ranks[row]),
                "num_relevant": int(result.num_relevant[row]),
                "metrics": {name: round(float(values[row]), 6) for name, values in result.per_query.items()},
                "slices": dict(self.slices[row]) if self.slices is not None else {},
                "first_hit": self.task.gallery[result.hit_rows[row, 0]].id if found else None,
            }
            yield json.dumps(line, ensure_ascii=False) + "\n"

    def hits(self) -> Iterator[tuple[str, list[Hit]]]:
        """hits.jsonl: the hits of every query, best first."""
        gallery = self.task.gallery
        for offer, scores, rows in zip(self.task.queries, self.result.hit_scores, self.result.hit_rows, strict=True):
            yield (
                offer.id,
                [
                    (gallery[row].id, score)
                    for score, row in zip(scores.tolist(), rows.tolist(), strict=True)
                    if score != -np.inf
                ],
            )


def run_task(
    scorer: Scorer,
    task: RetrievalTask,
    *,
    protocol: str = "standard",
    grades: Sequence[np.ndarray] | None = None,
    min_grade: float = 1,
    num_hits: int = 100,
    with_slices: bool = True,
    with_robustness: bool = False,
    num_resamples: int = 2000,
    reranker: Reranker | None = None,
) -> TaskRun:
    """Score a task with a scorer.

    Args:
        reranker: orders each query's best hits, but of the task "coarse"; None: the scorer's order.
        grades: of the task's relevant offers; None: all 1.
        min_grade: grade from which an offer is a match.
        with_robustness: embed the queries again after each perturbation of `afmrl.evaluation.robustness`.
    """

    if task.name == COARSE:  # offers of a category need not be one product
        reranker = None

    def scored(queries: Sequence[Offer], hits: int, resamples: int) -> RetrievalResult:
        return score_protocol(
            _scores(scorer, task, queries, reranker),
            task.relevant,
            protocol=protocol,
            grades=grades,
            min_grade=min_grade,
            own_rows=task.own_rows,
            clusters=task.clusters,
            num_hits=hits,
            num_resamples=resamples,
        )

    result = scored(task.queries, num_hits, num_resamples)
    attributes = of_gallery = None  # as they were scored with: they are cached
    if on_query(scorer.attributes_on):
        attributes = scorer.attributes([visible_part(offer, task.query_modality) for offer in task.queries])
    if on_gallery(scorer.attributes_on) and task.gallery_modality != "image":
        of_gallery = scorer.attributes([visible_part(offer, task.gallery_modality) for offer in task.gallery])
    matches = [
        rows if grades is None else rows[np.asarray(grades[query]) >= min_grade]
        for query, rows in enumerate(task.relevant)
    ]
    run = TaskRun(
        task, protocol, result, matches, attributes, of_gallery, grades=grades, min_grade=min_grade,
        reranked=reranker is not None,
    )  # fmt: skip
    if with_slices:
        slices = slices_of(task.queries, task.gallery, matches, attributes)
        per_query, clusters = _counted(run)
        scores = by_slice(per_query, [slices[row] for row in result.counted], clusters, num_resamples=num_resamples)
        run = dataclasses.replace(run, slices=slices, slice_scores=scores)
    if with_robustness:
        found: list[RobustnessScore] = []
        for name in PERTURBATIONS:
            with tempfile.TemporaryDirectory() as folder:
                after = perturbed(task.queries, name, folder=folder)
                changed = [ours is not theirs for ours, theirs in zip(after, task.queries, strict=True)]
                if not any(changed[row] for row in result.counted):
                    continue
                per_query_after = scored(after, 1, 1).per_query
            per_query, clusters = _counted(run)
            score = robustness_score(
                name,
                per_query,
                {metric: values[result.counted] for metric, values in per_query_after.items()},
                [changed[row] for row in result.counted],
                clusters,
                num_resamples=num_resamples,
            )
            if score is not None:
                found.append(score)
        run = dataclasses.replace(run, robustness=found)
    return run


def _scores(scorer: Scorer, task: RetrievalTask, queries: Sequence[Offer], reranker: Reranker | None) -> ScoreMatrix:
    scores = scorer.scores(
        queries, task.gallery, query_modality=task.query_modality, gallery_modality=task.gallery_modality
    )
    if reranker is None:
        return scores
    return RerankedScores(
        scores,
        [visible_part(offer, task.query_modality) for offer in queries],
        [visible_part(offer, task.gallery_modality) for offer in task.gallery],
        task.own_rows,
        reranker,
    )


def _counted(run: TaskRun) -> tuple[dict[str, np.ndarray], list[str]]:
    """Values and clusters of the queries that count."""
    rows = run.result.counted
    return (
        {name: values[rows] for name, values in run.result.per_query.items()},
        [run.task.clusters[row] for row in rows],
    )
