"""The verdict of a retrieval task that was run: its floors are measured under the same protocol."""

from __future__ import annotations

import numpy as np

from afmrl.evaluation.floors import floors_of
from afmrl.evaluation.protocols import SHOWN_METRICS
from afmrl.evaluation.task_run import TaskRun, run_task
from afmrl.evaluation.verdict import Verdict, judge
from afmrl.retrieval.scorer import FloorScorer, Scorer


def verdict_of(
    run: TaskRun,
    scorer: Scorer,
    model: str,
    *,
    split: str = "",
    favored: str = "",
    num_resamples: int = 2000,
) -> Verdict | None:
    """A task's result against the best floor; None where a floor was measured itself.

    Args:
        model: what the scorer is called.
        split, favored: as in `judge`.
    """
    if isinstance(scorer, FloorScorer):
        return None
    metric = SHOWN_METRICS[run.protocol][0]
    floors = floors_of(run.task, model=model, seller_attributes=scorer.embedder.seller_attributes)
    return judge(
        run.result.per_query[metric][run.result.counted],
        {name: _values(floor, run, metric) for name, floor in floors.scorers.items()},
        [run.task.clusters[row] for row in run.result.counted],
        model=f"{model}, reranked" if run.reranked else model,
        metric=metric,
        split=split,
        favored=favored,
        left_out=floors.left_out,
        num_resamples=num_resamples,
    )


def trained_here(scorer: Scorer) -> bool:
    """Whether a run trained the scorer's embedder."""
    return not isinstance(scorer, FloorScorer) and "attributes_on" in scorer.embedder.settings


def _values(floor: Scorer, like: TaskRun, metric: str) -> np.ndarray:
    """A floor's metric of the queries that count, measured as `like` was."""
    run = run_task(
        floor,
        like.task,
        protocol=like.protocol,
        grades=like.grades,
        min_grade=like.min_grade,
        num_hits=1,
        with_slices=False,
        num_resamples=1,
    )
    return run.result.per_query[metric][run.result.counted]
