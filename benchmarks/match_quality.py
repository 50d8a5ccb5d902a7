"""Quality of a match on the labeled sets: pairs, groups, vetoes, linkage; beside TF-IDF + union-find and peers."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np

import match_peers
from afmrl.files import write_json
from afmrl.matching.features import FALLING, feature_names
from afmrl.matching.labeled_pairs import LabeledRows
from afmrl.matching.matched_table import MatchedTable, match_table
from afmrl.matching.pair_model import default_model, fit_pair_model
from afmrl.matching.scorer import Scorer
from afmrl.matching.vetoes import DEFAULT_VETOES
from afmrl.retrieval.floors import tfidf_scores
from bcubed import bcubed, bcubed_f1
from common import minilm, percent
from match_sets import SETS, LabeledSet, load_set
from match_task import Task, best_f1_threshold, three, union_find


def run(data: Path, path: Path, *, sets: list[str] | None, peers: bool) -> None:
    """Every system on every set; what was measured before stays."""
    results: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    for name in sets or SETS:
        found = results.setdefault(name, {})
        systems = {"words": None} if peers else {"words": None, "MiniLM": _minilm}
        for system, encoder in systems.items():
            started = time.perf_counter()
            of = load_set(data, name, encode=encoder() if encoder else None)
            cells = match_peers.measure(of, Task(of)) if peers else _measure(of, system)
            for cell, value in cells.items():
                found[cell] = value
                print(name, cell, json.dumps(value), flush=True)
            print(f"  {time.perf_counter() - started:.0f} s", flush=True)
            write_json(path, results)


def _minilm() -> Any:
    from afmrl.embedder.embedder import Embedder

    embedder = Embedder.from_pretrained(minilm())
    return lambda offers: embedder.encode(offers, modality="text")


def _fitted(of: LabeledSet, rows: LabeledRows) -> tuple[Scorer, np.ndarray, float]:
    """The scorer fitted on the train rows, the scores of all rows (vetoed ones last), the threshold."""
    default = default_model(feature_names(of.table), dense=bool(of.table.dense)).model
    scorer = Scorer(of.table, default)
    features = scorer.compare(rows.left, rows.right)
    train = rows.split == "train"
    model = fit_pair_model(features.values[train], rows.same[train], default.features, default, falling=FALLING)
    scorer = Scorer(of.table, model)
    logits, vetoed, _ = scorer.of_features(features)
    scores = np.where(vetoed, -99.0, logits)
    held = rows.split == "validation"
    return scorer, scores, best_f1_threshold(scores[held], rows.same[held])


def _default_scores(of: LabeledSet, rows: LabeledRows) -> np.ndarray:
    scorer = Scorer(of.table, default_model(feature_names(of.table), dense=bool(of.table.dense)).model)
    found = scorer.score(rows.left, rows.right)
    return np.where(found.vetoed, -99.0, found.logits)


def _matched(of: LabeledSet, scorer: Scorer | None, threshold: float | None) -> MatchedTable:
    return match_table(of.table, model=None if scorer is None else scorer.model, threshold=threshold)


def _measure(of: LabeledSet, system: str) -> dict[str, Any]:
    task = Task(of)
    cells: dict[str, Any] = {}
    by_default = _matched(of, None, None)
    cells[f"default, {system}"] = {
        **task.pairs(_default_scores(of, task.published)),
        **task.bcubed(by_default.groups),
        "called": _called(task, by_default),
        "candidate_recall": _candidate_recall(of, by_default),
    }
    _, scores, _ = _fitted(of, task.published)
    scorer, _, threshold = _fitted(of, task.by_product)
    matched = _matched(of, scorer, threshold)
    cells[f"labels, {system}"] = {**task.pairs(scores), **task.bcubed(matched.groups)}
    linked = (matched.scores.logits >= threshold) & ~matched.scores.vetoed
    cells[f"labels, {system}, union-find"] = task.bcubed(union_find(matched.left, matched.right, linked, len(of.table)))
    if system == "words":
        cells["TF-IDF + union-find"] = _tfidf(of, task, False)
        cells["TF-IDF + union-find, tuned for B-cubed"] = _tfidf(of, task, True)
    return cells


def _called(task: Task, matched: MatchedTable) -> dict[str, list[float]]:
    """Precision and recall of `same` on the published test pairs."""
    from afmrl.matching.probability import precision_and_recall

    rows = task.published
    test = rows.split == "test"
    same = matched.groups[rows.left[test]] == matched.groups[rows.right[test]]
    precision, recall = precision_and_recall(same, rows.same[test])
    return {
        "precision": three(precision.mean, precision.low, precision.high),
        "recall": three(recall.mean, recall.low, recall.high),
    }


def _candidate_recall(of: LabeledSet, matched: MatchedTable) -> float:
    return round(float((of.products[matched.left] == of.products[matched.right]).sum()) / of.num_true_pairs, 4)


def _tfidf(of: LabeledSet, task: Task, for_groups: bool) -> dict[str, Any]:
    """The threshold of the highest F1 on the validation pairs; or, what nothing else here is given, of the highest
    B-cubed F1 of the train split's offers."""
    titles = [offer.title for offer in of.table.offers]
    likeness = tfidf_scores(titles, titles)
    pairs = likeness[task.published.left, task.published.right].astype(np.float64)
    rows = task.by_product
    held = rows.split == "validation"
    scores = likeness[rows.left, rows.right].astype(np.float64)
    threshold = best_f1_threshold(scores[held], rows.same[held])

    def grouped(at: float) -> np.ndarray:
        left, right = np.nonzero(np.triu(likeness >= at, 1))
        return union_find(left, right, np.ones(len(left), bool), len(titles))

    if for_groups:
        train = np.array(of.splits) == "train"
        thresholds = np.arange(0.3, 1.0, 0.02)
        threshold = max(thresholds, key=lambda at: bcubed_f1(*bcubed(grouped(at)[train], of.products[train])))
    groups = grouped(threshold)
    return {**task.pairs(pairs), **task.bcubed(groups)}


def vetoes(data: Path, path: Path) -> None:
    """How many true and other labeled pairs of the train split each veto meets, and those of likely pairs alone."""
    results: dict[str, Any] = {}
    for name in SETS[:3]:
        of = load_set(data, name, ("train",))
        rows = LabeledRows.of(of.pairs, of.rows)
        scorer = Scorer(of.table, default_model(feature_names(of.table), dense=False).model)
        features = scorer.compare(rows.left, rows.right)
        alike = scorer.of_features(features)[2] >= default_model(feature_names(of.table), dense=False).threshold.logit
        counts: dict[str, Any] = {
            "all": [int(rows.same.sum()), int((~rows.same).sum()), int((alike & ~rows.same).sum())]
        }
        for place, key in enumerate(features.keys):
            differs = features.differ[:, place]
            if differs.any():
                counts[key] = [
                    int((differs & rows.same).sum()), int((differs & ~rows.same).sum()),
                    int((differs & ~rows.same & alike).sum()),
                ]  # fmt: skip
        vetoed = features.differ[:, [features.keys.index(key) for key in DEFAULT_VETOES]].any(axis=1)
        counts["any that vetoes"] = [
            int((vetoed & rows.same).sum()), int((vetoed & ~rows.same).sum()), int((vetoed & ~rows.same & alike).sum())
        ]  # fmt: skip
        results[name] = counts
        print(name, json.dumps(counts))
    write_json(path, {"columns": ["same product", "other", "other, else called the same"], "sets": results})


def linkages(data: Path, path: Path) -> None:
    """B-cubed on the train split's offers by linkage, slack and threshold."""
    from scipy.cluster.hierarchy import fcluster, linkage

    import afmrl.matching.groups as module

    results: dict[str, Any] = {}
    ours = module._join
    for name in SETS[:3]:
        of = load_set(data, name, ("train",))
        for threshold in (0.0, 1.0, 2.0):
            for method, slacks in (("average", (0.0, 1.0, 2.0, 4.0)), ("complete", (0.0, 2.0, 4.0))):
                for slack in slacks:

                    def join(groups: Any, rows: Any, distances: Any, furthest: float, how=(method, slack)) -> None:
                        most = furthest - module.SLACK + how[1]
                        labels = fcluster(linkage(distances, how[0]), max(most, 0.0) + 1e-9, "distance")
                        first: dict[int, int] = {}
                        for row, label in zip(rows, labels.tolist(), strict=True):
                            groups[row] = first.setdefault(label, row)

                    module._join = join
                    matched = match_table(of.table, threshold=threshold)
                    results[f"{name}, {threshold:g}, {method} {slack:g}"] = _row(matched.groups, of)
            module._join = ours
            linked = (matched.scores.logits >= threshold) & ~matched.scores.vetoed
            groups = union_find(matched.left, matched.right, linked, len(of.table))
            results[f"{name}, {threshold:g}, union-find"] = _row(groups, of)
        write_json(path, results)
    for key, row in results.items():
        print(key, json.dumps(row))


def _row(groups: np.ndarray, of: LabeledSet) -> dict[str, float]:
    precision, recall = bcubed(groups, of.products)
    return {
        "f1": round(bcubed_f1(precision, recall), 4), "precision": round(float(precision.mean()), 4),
        "recall": round(float(recall.mean()), 4), "largest": int(np.bincount(groups).max()),
    }  # fmt: skip


def table(folder: Path) -> None:
    """The Markdown table of docs/results/matching.md."""
    results = json.loads((folder / "match.json").read_text(encoding="utf-8"))
    print(
        "| set | system | pair F1 | recall at 0.99 precision | B-cubed F1 | largest group |\n|---|---|---|---|---|---|"
    )
    for name, cells in results.items():
        for system, of in cells.items():
            if "error" in of:
                print(f"| {name} | {system} | {of['error']} | | | |")
                continue
            values = [_shown(of.get(key)) for key in ("best_f1", "recall@precision=0.99", "bcubed_f1")]
            print(f"| {name} | {system} | {' | '.join(values)} | {of['largest_group']} |")


def _shown(interval: list[float] | None) -> str:
    if interval is None:
        return "–"
    mean, low, high = interval
    return percent(mean, low, high)
