"""Every task that a catalog allows, of one model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

from afmrl.data.catalog import Catalog
from afmrl.data.pairs import LabeledPair
from afmrl.data.roles import other_roles
from afmrl.data.splits import split_of
from afmrl.errors import InputError
from afmrl.evaluation.embedding_tasks import (
    TRAIN,
    classify_categories,
    cluster_categories,
    find_duplicates,
    read_labeled_pairs,
)
from afmrl.evaluation.floors import unreadable
from afmrl.evaluation.pairs import PairsResult, evaluated_and_validation
from afmrl.evaluation.probing import NUM_STARTS, ClusteringResult, ProbeResult
from afmrl.evaluation.result import EvaluatedCatalog, EvaluationResult
from afmrl.evaluation.task_run import TaskRun, run_task
from afmrl.evaluation.tasks import (
    EVERYTHING,
    TASKS,
    Impossible,
    RetrievalTask,
    RetrievalTaskName,
    SplitOffers,
    build_task,
    choose_split,
)
from afmrl.evaluation.verdict import Verdict
from afmrl.evaluation.verdict_of_task import trained_here, verdict_of
from afmrl.files import read_object
from afmrl.matching.rerank import Reranker
from afmrl.retrieval.interval import Interval
from afmrl.retrieval.scorer import Scorer

Result = TypeVar("Result")


class CatalogTasks:
    """The tasks of a catalog, read and checked before a model is loaded.

    Args:
        tasks: names of `afmrl.evaluation.tasks.TASKS`, or "all".
        split, gallery_splits: as in `choose_split`.
        pairs: file of labeled pairs; None: pairs.jsonl beside the catalog, where there is one.

    Raises:
        InputError: unknown tasks or splits, or pairs that cannot be used.
    """

    def __init__(
        self,
        catalog: Catalog,
        *,
        tasks: Sequence[str] = (EVERYTHING,),
        split: str | None = None,
        gallery_splits: Sequence[str] = (),
        pairs: str | Path | None = None,
    ) -> None:
        self.catalog = catalog
        self.names = _task_names(tasks)
        self.split = choose_split(catalog.offers, split, gallery_splits)
        retrieval = get_args(RetrievalTaskName)
        self.retrieval = [build_task(name, self.split) for name in self.names if name in retrieval]
        self.pairs = read_labeled_pairs(catalog, pairs) if "pairs" in self.names else None

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
        """Score a scorer on every task that it can do.

        Args:
            model: what the scorer is called.
            robustness: also score perturbed queries, of the first retrieval task.
            floors: compare the first retrieval task with methods that learn nothing.
            reranker: see `run_task`; None: hits stay in the scorer's order.

        Raises:
            InputError: not one task is possible.
        """
        runs: list[TaskRun] = []
        impossible: list[Impossible] = []
        for task in self.retrieval:
            if isinstance(task, RetrievalTask) and (reason := unreadable(scorer, task)):
                task = Impossible(task.name, reason)
            if isinstance(task, Impossible):
                impossible.append(task)
                continue
            runs.append(
                run_task(
                    scorer,
                    task,
                    protocol=protocol,
                    num_hits=k,
                    with_slices=slices,
                    with_robustness=robustness and not runs,
                    num_resamples=num_resamples,
                    reranker=reranker,
                )
            )
        classification = clustering = pairs = None
        if "classification" in self.names:
            classification = _possible(
                classify_categories(scorer, self.catalog, self.split, num_resamples=num_resamples), impossible
            )
        if "clustering" in self.names:
            clustering = _possible(cluster_categories(scorer, self.split, num_resamples=num_resamples), impossible)
        if isinstance(self.pairs, list):
            pairs = _possible(find_duplicates(scorer, self.pairs, num_resamples=num_resamples), impossible)
        elif self.pairs is not None:
            impossible.append(self.pairs)
        if not (runs or classification or clustering or pairs):
            reasons = "\n".join(f"  {task.name}: {task.reason}" for task in impossible)
            raise InputError(
                f"{self.catalog.path or 'catalog'}: none of the tasks is possible with split {self.split.name!r}:\n"
                f"{reasons}"
            )
        tasks: dict[str, Any] = {run.task.name: run.as_json() for run in runs}
        if classification:
            tasks["classification"] = _classification_as_json(classification)
        if clustering:
            tasks["clustering"] = _clustering_as_json(clustering)
        if pairs and isinstance(self.pairs, list):
            tasks["pairs"] = _pairs_as_json(pairs, self.pairs)
        evaluated = _evaluated(self.catalog, self.split)
        verdict = self._verdict(runs[0], scorer, model, num_resamples) if floors and runs else None
        return EvaluationResult(
            model=model,
            protocol=protocol,
            metrics={
                "protocol": protocol,
                "split": self.split.name,
                "num_offers": evaluated.num_evaluated,
                "skipped": len(self.catalog.skipped),
                "other_roles": dict(evaluated.other_roles),
                "tasks": tasks,
                "not_possible": {task.name: task.reason for task in impossible},
                **({"verdict": verdict.as_json()} if verdict else {}),
            },
            runs=runs,
            skipped=self.catalog.faults,
            catalog=evaluated,
            classification=classification,
            clustering=clustering,
            pairs=pairs,
            impossible=impossible,
            verdict=verdict,
        )

    def _verdict(self, run: TaskRun, scorer: Scorer, model: str, num_resamples: int) -> Verdict | None:
        """The first task against the floors."""
        return verdict_of(
            run,
            scorer,
            model,
            split="" if self.split.name == EVERYTHING else self.split.name,
            favored=self._favored(model) if trained_here(scorer) else "",
            num_resamples=num_resamples,
        )

    def _favored(self, model: str) -> str:
        """Why the evaluated split favors a model that a run trained on this catalog."""
        name = self.split.name
        if name == TRAIN or (name == EVERYTHING and any(split_of(offer) == TRAIN for offer in self.catalog.offers)):
            return "these offers include the split 'train', which a run trains on"
        if name == EVERYTHING and _catalog_of_run(model) == Path(self.catalog.path).resolve():
            return "the model was trained on offers of this very file, and it does not say which (column 'split')"
        return f"the split {name!r} also chooses in a run" if name in ("val", "reward") else ""


def _catalog_of_run(model: str) -> Path | None:
    """The catalog of the run whose folder a model lies in; None where it lies in none."""
    try:
        return Path(read_object(Path(model).parent / "run.json")["recipe"]["catalog"]["path"]).resolve()
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _task_names(tasks: Sequence[str]) -> list[str]:
    asked = list(tasks) or [EVERYTHING]
    for name in asked:
        if name != EVERYTHING and name not in TASKS:
            raise InputError(f"task {name!r}: one of {', '.join([EVERYTHING, *TASKS])}")
    return [name for name in TASKS if name in asked or EVERYTHING in asked]


def _possible(found: Result | Impossible, impossible: list[Impossible]) -> Result | None:
    """What was found; None, with the reason appended to `impossible`, where the task is not possible."""
    if isinstance(found, Impossible):
        impossible.append(found)
        return None
    return found


def _evaluated(catalog: Catalog, split: SplitOffers) -> EvaluatedCatalog:
    return EvaluatedCatalog(
        name=Path(catalog.path).stem if catalog.path else "catalog",
        split=split.name,
        num_offers=len(catalog),
        num_evaluated=len(split.offers),
        other_roles=other_roles(split.gallery_offers),
    )


def _classification_as_json(probe: ProbeResult) -> dict[str, Any]:
    return {
        **_intervals_as_json({"accuracy": probe.accuracy}),
        "num_train": probe.num_train,
        "num_test": len(probe.correct),
        "num_classes": probe.num_classes,
        "num_unseen_class": probe.num_unseen,
    }


def _clustering_as_json(clustering: ClusteringResult) -> dict[str, Any]:
    return {
        **_intervals_as_json(clustering.metrics),
        "num_offers": len(clustering.assignment),
        "num_classes": clustering.num_classes,
        "n_init": NUM_STARTS,
    }


def _pairs_as_json(result: PairsResult, pairs: Sequence[LabeledPair]) -> dict[str, Any]:
    evaluated = [pairs[row] for row in evaluated_and_validation(pairs)[0]]
    return {
        **_intervals_as_json(result.metrics),
        "num_pairs": result.num_pairs,
        "num_same": result.num_same,
        "num_with_train_offer": sum(TRAIN in (split_of(pair.left), split_of(pair.right)) for pair in evaluated),
        "threshold": round(result.threshold, 6),
        "threshold_from": result.threshold_from,
        "curve": [[round(value, 6) for value in point] for point in result.curve],
    }


def _intervals_as_json(metrics: Mapping[str, Interval]) -> dict[str, Any]:
    return {name: round(i.mean, 6) for name, i in metrics.items()} | {
        "intervals": {name: [round(i.low, 6), round(i.high, 6)] for name, i in metrics.items()}
    }
