"""`afmrl evaluate --catalog`: every task that a catalog allows, of one model, into one folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import numpy as np

from afmrl.data.catalog import Catalog, read_catalog
from afmrl.data.offer import Offer
from afmrl.data.pairs import PAIRS_FILE, LabeledPair, read_pairs
from afmrl.errors import InputError
from afmrl.evaluation.pairs import PairsResult, evaluated_and_validation, score_pairs
from afmrl.evaluation.probing import NUM_STARTS, ClusteringResult, ProbeResult, cluster_embeddings, linear_probe
from afmrl.evaluation.protocols import PROTOCOLS
from afmrl.evaluation.significance import Interval
from afmrl.evaluation.task_run import TaskRun, run_task, write_evaluation
from afmrl.evaluation.tasks import (
    EVERYTHING,
    ROLES,
    TASKS,
    Impossible,
    RetrievalTask,
    RetrievalTaskName,
    SplitOffers,
    build_task,
    choose_split,
    cluster_of,
    other_roles,
    split_of,
)
from afmrl.report.report import LadderRow, MetricTable
from afmrl.report.task_report import write_evaluation_report
from afmrl.retrieval.score_matrix import DenseScores
from afmrl.retrieval.scorer import FloorScorer, Scorer, load_scorer
from afmrl.retrieval.scores import pair_scores

TRAIN = "train"


@dataclass
class CatalogResult:
    """What was measured, task by task."""

    split: str
    protocol: str
    runs: list[TaskRun] = field(default_factory=list)
    classification: ProbeResult | None = None
    clustering: ClusteringResult | None = None
    pairs: PairsResult | None = None
    impossible: list[Impossible] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)
    """What metrics.json holds."""

    @property
    def notes(self) -> list[str]:
        """What the reader should know of the catalog before believing the numbers; sentences without a full stop."""
        return [
            f"role {role!r} of {count:,} offer(s) is none of {', '.join(ROLES)} and counts as no role"
            for role, count in self.metrics["other_roles"].items()
        ]


def evaluate_catalog(
    model: str | Path,
    catalog: str | Path,
    out: str | Path,
    *,
    tasks: Sequence[str] = (EVERYTHING,),
    protocol: str = "standard",
    split: str | None = None,
    gallery_splits: Sequence[str] = (),
    pairs: str | Path | None = None,
    generator: str | Path | None = None,
    fuse: bool = False,
    attributes_on: str | None = None,
    k: int = 100,
    batch_size: int = 64,
    max_bad: float = 0.01,
    slices: bool = True,
    robustness: bool = False,
    num_resamples: int = 2000,
    progress: bool = False,
) -> CatalogResult:
    """Score a model on the tasks of a catalog and write OUT: metrics.json, queries.jsonl, hits, report.html.

    metrics.json has the same bytes for the same inputs. A task that the catalog or the model does not allow stands
    under "not_possible" with the reason.

    Args:
        model: an embedder, or a floor ("tfidf", "bm25", "color", "tfidf+color").
        tasks: names of `afmrl.evaluation.tasks.TASKS`, or "all".
        protocol: "standard" or "m5product", of the retrieval tasks.
        split, gallery_splits: as in `choose_split`.
        pairs: file of labeled pairs; None: pairs.jsonl beside the catalog, where there is one.
        robustness: also score perturbed queries, of the first retrieval task.

    Raises:
        InputError: files, options or models that cannot be used, or not one task that is possible.
    """
    names = _task_names(tasks)
    if protocol not in PROTOCOLS:
        raise InputError(f"protocol {protocol!r}: one of {', '.join(PROTOCOLS)}")
    if k < 1:
        raise InputError(f"k={k}: at least one hit a query")
    read = read_catalog(catalog, max_bad=max_bad)
    chosen = choose_split(read.offers, split, gallery_splits)
    result = CatalogResult(chosen.name, protocol)
    built = [build_task(name, chosen) for name in names if name in get_args(RetrievalTaskName)]
    labeled = _read_pairs(read, pairs) if "pairs" in names else None
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
    for task in built:
        if isinstance(task, RetrievalTask) and (reason := _unreadable(scorer, task)):
            task = Impossible(task.name, reason)
        if isinstance(task, Impossible):
            result.impossible.append(task)
            continue
        result.runs.append(
            run_task(
                scorer,
                task,
                protocol=protocol,
                num_hits=k,
                with_slices=slices,
                with_robustness=robustness and not result.runs,
                num_resamples=num_resamples,
            )
        )
    if "classification" in names:
        probed = _classification(scorer, read, chosen, num_resamples)
        _keep(result, "classification", probed)
    if "clustering" in names:
        _keep(result, "clustering", _clustering(scorer, chosen, num_resamples))
    if "pairs" in names:
        scored = labeled if isinstance(labeled, Impossible) else _pairs(scorer, labeled or [], num_resamples)
        _keep(result, "pairs", scored)
    if not (result.runs or result.classification or result.clustering or result.pairs):
        reasons = "\n".join(f"  {task.name}: {task.reason}" for task in result.impossible)
        raise InputError(f"{catalog}: none of the tasks is possible with split {chosen.name!r}:\n{reasons}")
    result.metrics = _metrics(result, read, chosen, labeled if isinstance(labeled, list) else [])
    write_evaluation(out, result.metrics, result.runs, read.skipped)
    _write_report(out, result, read, chosen, str(model))
    return result


def _task_names(tasks: Sequence[str]) -> list[str]:
    asked = [EVERYTHING] if not tasks else list(tasks)
    for name in asked:
        if name != EVERYTHING and name not in TASKS:
            raise InputError(f"task {name!r}: one of {', '.join([EVERYTHING, *TASKS])}")
    return [name for name in TASKS if name in asked or EVERYTHING in asked]


def _unreadable(scorer: Scorer, task: RetrievalTask) -> str:
    """Why the scorer cannot do a task: it reads too little of the offers; "" where it can."""
    reads = scorer.reads
    for side, modality, offers in (
        ("queries", task.query_modality, task.queries),
        ("gallery", task.gallery_modality, task.gallery),
    ):
        if modality != "fused" and modality not in reads:
            return f"the model reads no {'images' if modality == 'image' else 'text'}"
        if not any(scorer.can_read(offer) for offer in offers):
            return f"the model reads {' and '.join(reads)} only, and the {side} have none"
    if isinstance(scorer, FloorScorer) and (task.query_modality, task.gallery_modality) == ("text", "image"):
        return f"the floor {scorer.floor!r} compares text with text and images with images only"
    return ""


def _keep(result: CatalogResult, name: str, found: Any) -> None:
    if isinstance(found, Impossible):
        result.impossible.append(found)
    else:
        setattr(result, name, found)


def _labeled(scorer: Scorer, offers: Sequence[Offer]) -> list[Offer]:
    """The offers with a category, of which the scorer reads something."""
    return [offer for offer in offers if offer.category.strip() and scorer.can_read(offer)]


def _classification(
    scorer: Scorer, catalog: Catalog, split: SplitOffers, num_resamples: int
) -> ProbeResult | Impossible:
    name = "classification"
    if isinstance(scorer, FloorScorer):
        return Impossible(name, f"the floor {scorer.floor!r} has no embeddings")
    if split.name == TRAIN:
        return Impossible(name, "the split 'train' is what the probe is trained on; evaluate another one")
    train = _labeled(scorer, [offer for offer in catalog if split_of(offer) == TRAIN])
    test = _labeled(scorer, [offer for offer in split.offers if split_of(offer) != TRAIN])
    if not train:
        return Impossible(name, "no offer of the split 'train' has a category")
    if not test:
        return Impossible(name, f"no offer of the split {split.name!r} has a category")
    if len({_category(offer) for offer in train}) < 2:
        return Impossible(name, "one category")
    return linear_probe(
        scorer.embed(train, scorer.attributes(train)),
        [_category(offer) for offer in train],
        scorer.embed(test, scorer.attributes(test)),
        [_category(offer) for offer in test],
        [cluster_of(offer) for offer in test],
        num_resamples=num_resamples,
    )


def _clustering(scorer: Scorer, split: SplitOffers, num_resamples: int) -> ClusteringResult | Impossible:
    name = "clustering"
    if isinstance(scorer, FloorScorer):
        return Impossible(name, f"the floor {scorer.floor!r} has no embeddings")
    offers = _labeled(scorer, split.offers)
    labels = [_category(offer) for offer in offers]
    if not offers:
        return Impossible(name, f"no offer of the split {split.name!r} has a category")
    if len(set(labels)) < 2:
        return Impossible(name, "one category")
    if len(set(labels)) == len(labels):
        return Impossible(name, "every offer has a category of its own")
    embeddings = scorer.embed(offers, scorer.attributes(offers))
    if len(np.unique(embeddings, axis=0)) < len(set(labels)):
        return Impossible(name, "fewer different embeddings than categories")
    return cluster_embeddings(embeddings, labels, [cluster_of(offer) for offer in offers], num_resamples=num_resamples)


def _category(offer: Offer) -> str:
    return offer.category.strip()


def _read_pairs(catalog: Catalog, path: str | Path | None) -> list[LabeledPair] | Impossible:
    file = Path(catalog.path).parent / PAIRS_FILE if path is None else Path(path)
    if path is None and not file.is_file():
        return Impossible("pairs", f"no {PAIRS_FILE} beside the catalog, and no --pairs FILE")
    pairs = read_pairs(file, catalog.by_id, skipped_ids=[row.id for row in catalog.skipped if row.id])
    scored, _ = evaluated_and_validation(pairs)
    if len({pairs[row].same for row in scored}) < 2:
        return Impossible("pairs", "the pairs that are scored are all of one label")
    return pairs


def _pairs(scorer: Scorer, pairs: Sequence[LabeledPair], num_resamples: int) -> PairsResult | Impossible:
    if not any(scorer.can_read(pair.left) for pair in pairs) or not any(scorer.can_read(pair.right) for pair in pairs):
        return Impossible("pairs", f"the model reads {' and '.join(scorer.reads)} only, and the offers have none")
    scored, validation = evaluated_and_validation(pairs)
    if len({pairs[row].same for row in validation}) < 2:
        validation = []
    scores = _pair_scores(scorer, [pairs[row] for row in [*scored, *validation]])
    same = np.array([pairs[row].same for row in [*scored, *validation]], dtype=np.float64)
    count = len(scored)
    return score_pairs(
        scores[:count],
        same[:count],
        [cluster_of(pairs[row].left) for row in scored],
        validation=(scores[count:], same[count:]) if validation else None,
        num_resamples=num_resamples,
    )


def _pair_scores(scorer: Scorer, pairs: Sequence[LabeledPair]) -> np.ndarray:
    """(P,) score of each pair; a fused one as in the ranking of all right offers for the left one."""
    lefts = {pair.left.id: pair.left for pair in pairs}
    rights = {pair.right.id: pair.right for pair in pairs}
    rows = {name: row for row, name in enumerate(lefts)}
    columns = {name: row for row, name in enumerate(rights)}
    places = (
        np.array([rows[pair.left.id] for pair in pairs]),
        np.array([columns[pair.right.id] for pair in pairs]),
    )
    scores = scorer.scores(list(lefts.values()), list(rights.values()))
    if isinstance(scores, DenseScores):
        return pair_scores(scores.queries, scores.gallery, *places)
    found = np.empty(len(pairs), dtype=np.float32)
    for row in range(scores.num_queries):
        of_row = np.flatnonzero(places[0] == row)
        found[of_row] = scores.block(row, row + 1)[0, places[1][of_row]]
    return found


def _metrics(
    result: CatalogResult, catalog: Catalog, split: SplitOffers, pairs: Sequence[LabeledPair]
) -> dict[str, Any]:
    tasks: dict[str, Any] = {run.task.name: run.as_json() for run in result.runs}
    if probe := result.classification:
        tasks["classification"] = {
            **_as_json({"accuracy": probe.accuracy}),
            "num_train": probe.num_train,
            "num_test": len(probe.correct),
            "num_classes": probe.num_classes,
            "num_unseen_class": probe.num_unseen,
        }
    if clustering := result.clustering:
        tasks["clustering"] = {
            **_as_json(clustering.metrics),
            "num_offers": len(clustering.assignment),
            "num_classes": clustering.num_classes,
            "n_init": NUM_STARTS,
        }
    if of_pairs := result.pairs:
        trained = [pairs[row] for row in evaluated_and_validation(pairs)[0]]
        tasks["pairs"] = {
            **_as_json(of_pairs.metrics),
            "num_pairs": of_pairs.num_pairs,
            "num_same": of_pairs.num_same,
            "num_with_train_offer": sum(TRAIN in (split_of(pair.left), split_of(pair.right)) for pair in trained),
            "threshold": round(of_pairs.threshold, 6),
            "threshold_from": of_pairs.threshold_from,
            "curve": [[round(value, 6) for value in point] for point in of_pairs.curve],
        }
    return {
        "protocol": result.protocol,
        "split": result.split,
        "num_offers": len(split.offers),
        "skipped": len(catalog.skipped),
        "other_roles": other_roles(split.gallery_offers),
        "tasks": tasks,
        "not_possible": {task.name: task.reason for task in result.impossible},
    }


def _as_json(metrics: dict[str, Interval]) -> dict[str, Any]:
    return {name: round(i.mean, 6) for name, i in metrics.items()} | {
        "intervals": {name: [round(i.low, 6), round(i.high, 6)] for name, i in metrics.items()}
    }


def tables_of(result: CatalogResult) -> list[MetricTable]:
    """The tables of the tasks that are no retrieval."""
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
    if of_pairs := result.pairs:
        about = (
            f"{of_pairs.num_pairs:,} labeled pairs, {of_pairs.num_same:,} of them duplicates. Best F1, precision and "
            f"recall are at the score {of_pairs.threshold:.3f}, chosen on {of_pairs.threshold_from}."
        )
        tables.append(_table("pairs", of_pairs.metrics, about))
    return tables


def _table(name: str, metrics: dict[str, Interval], about: str) -> MetricTable:
    row = LadderRow(name, {metric: (i.mean, i.low, i.high) for metric, i in metrics.items()})
    return MetricTable(f"{name}: {TASKS[name]}", [row], about)


def _write_report(out: Path, result: CatalogResult, catalog: Catalog, split: SplitOffers, model: str) -> None:
    shown = "every offer" if split.name == EVERYTHING else f"split {split.name!r}"
    facts = [("offers in the catalog", f"{len(catalog):,}"), (shown, f"{len(split.offers):,} offers")]
    facts += [
        (
            run.task.name,
            f"{len(run.result.counted):,} queries, {len(run.task.gallery):,} gallery offers, "
            f"{run.unseen:,} queries without a match, {run.result.ties['queries']:,} with a tie that matters",
        )
        for run in result.runs
    ]
    write_evaluation_report(
        out,
        title=f"{Path(catalog.path).stem}: {model}",
        subtitle=f"Protocol {result.protocol}, {shown}.",
        runs=result.runs,
        tables=tables_of(result),
        pairs=result.pairs,
        facts=facts,
        notes=[
            *(f"{note[0].upper()}{note[1:]}." for note in result.notes),
            *(f"{task.name} was not possible: {task.reason}." for task in result.impossible),
        ],
        skipped=catalog.skipped,
    )
