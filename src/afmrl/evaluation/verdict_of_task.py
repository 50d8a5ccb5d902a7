"""The verdict of a retrieval task that was run: its floors are measured under the same protocol."""

from __future__ import annotations

import numpy as np

from afmrl.evaluation.floors import TaskFloors, floors_of
from afmrl.evaluation.protocols import SHOWN_METRICS
from afmrl.evaluation.task_run import TaskRun, run_task
from afmrl.evaluation.tasks import RetrievalTask
from afmrl.evaluation.verdict import Verdict, judge
from afmrl.retrieval.scorer import FloorScorer, Scorer


def verdict_of(
    run: TaskRun,
    scorer: Scorer,
    model: str,
    *,
    val: RetrievalTask | None = None,
    split: str = "",
    favored: str = "",
    num_resamples: int = 2000,
) -> Verdict | None:
    """A task's result against the best floor; None where a floor was measured itself.

    Args:
        model: what the scorer is called.
        val: the same task of the validation split, which chooses the best floor; None: the task's own queries do.
        split, favored: as in `judge`.
    """
    if isinstance(scorer, FloorScorer):
        return None
    metric = SHOWN_METRICS[run.protocol][0]
    floors = floors_of(run.task, model=model)
    means: dict[str, float] = {}
    if val is not None and set(floors_of(val, model=model).scorers) >= set(floors.scorers):
        means = {name: float(v.mean()) for name, v in _values(floors, val, run.protocol, metric).items() if len(v)}
    return judge(
        run.result.per_query[metric][run.result.counted],
        _values(floors, run.task, run.protocol, metric, run),
        [run.task.clusters[row] for row in run.result.counted],
        model=model,
        metric=metric,
        on_val=means,
        split=split,
        favored=favored,
        left_out=floors.left_out,
        num_resamples=num_resamples,
    )


def trained_here(scorer: Scorer) -> bool:
    """Whether a run trained the scorer's embedder."""
    return not isinstance(scorer, FloorScorer) and bool(scorer.embedder.settings)


def _values(
    floors: TaskFloors, task: RetrievalTask, protocol: str, metric: str, like: TaskRun | None = None
) -> dict[str, np.ndarray]:
    """Each floor's metric of the queries that count.

    Args:
        like: the run whose grades the task has; None: every relevant offer is a match.
    """
    found = {}
    for name, scorer in floors.scorers.items():
        run = run_task(
            scorer,
            task,
            protocol=protocol,
            grades=like.grades if like else None,
            min_grade=like.min_grade if like else 1,
            num_hits=1,
            with_slices=False,
            num_resamples=1,
        )
        found[name] = run.result.per_query[metric][run.result.counted]
    return found
