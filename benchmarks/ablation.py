"""The method's ladder on the sample catalogue: InfoNCE, AGCL, + SFT attributes, + RAR, + CIT, at equal budget.

    python benchmarks/ablation.py run --seeds 0 1 2     # one JSON a cell (rung, seed); goes on where it was
    python benchmarks/ablation.py run --seeds 0 1 2 --parts safe cit loss     # beside the ladder
    python benchmarks/ablation.py table                 # means, steps between rungs, intervals; Markdown

Stages have the settings of `afmrl quickstart`, but RAR 60 steps for its 40, and the paper's reward: all pairs, no
loss of SFT beside it (benchmarks/rar_truth.py compares them). Every seed has its own tiny model,
pretraining, pairs and sampling; the catalogue is one, so that all seeds answer the same test queries. InfoNCE and AGCL
start from the same model and see equally many steps and pairs. CIT trains AGCL once more, so its control does so too,
on the attributes that it had. A cell's JSON holds the rank of every query, so cells of
many days and machines add up.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
from collections.abc import Callable, Sequence
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import numpy as np

from afmrl.attribute_accuracy import attribute_accuracy
from afmrl.demo.sample import write_sample_catalogue
from afmrl.embedder import Embedder
from afmrl.evaluation.metrics import recall_at_k, reciprocal_rank
from afmrl.evaluation.retrieval import RetrievalResult
from afmrl.evaluation.significance import bootstrap_seeds, holm, paired_bootstrap_seeds
from afmrl.pipeline import (
    Run,
    prepare_base,
    reinforce_generator,
    train_embedder,
    train_generator,
    train_in_cycles,
)
from afmrl.pipeline_data import prepare_data
from afmrl.pipeline_evaluation import (
    Encoded,
    encode_attributed,
    encode_split,
    general_quality_of,
    generated_attributes,
    score_encoded,
)
from afmrl.progress import StageProgress, quiet_libraries
from afmrl.recipe import Recipe, load_recipe
from afmrl.stages.agcl import AGCLStage
from afmrl.stages.checkpoints import write_json
from afmrl.stages.ledger import Ledger, file_hash, fingerprint

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "ablation"
TRAINING = {"train": 600, "reward": 80, "val": 30}
PAPERS_REWARD = ["rar.rewarded_pairs=all", "rar.sft_weight=0"]
SETTINGS = ["rar.max_steps=60", *PAPERS_REWARD, "evaluation.num_resamples=200"]  # beside those of the quickstart
CATALOGUE_SEED = 20260420
LADDER = {
    "infonce": "InfoNCE",
    "agcl": "+ AGCL",
    "sft:both": "+ SFT attributes",
    "rar:both": "+ RAR",
    "cit:both": "+ CIT",
}
ASIDE = {
    "cit_control:both": "RAR, AGCL once more without new attributes (CIT's control)",
    "safe:both": "AGCL + RAR attributes, with the default reward",
    "loss": "AGCL's weights, mask and batches, no attributes in the text",
    "weights": "the same without the mask",
    "mask": "the same without the weights",
    "batches": "the same without either: InfoNCE, similar offers in a batch",
    "published": "the same as published: raw BM25, gain 1, the positive weighted too, mask by margin",
    "sft:query": "AGCL + SFT attributes, on the query only",
    "rar:query": "AGCL + RAR attributes, on the query only",
    "perfect:query": "AGCL + everything visible, on the query only",
    "perfect:both": "AGCL + everything visible (perfect reader)",
}
STEPS = [
    *itertools.pairwise(LADDER),
    ("infonce", "rar:both"),
    ("infonce", "cit:both"),
    ("cit_control:both", "cit:both"),
    ("sft:both", "safe:both"),
    ("infonce", "batches"),
    *(("batches", rung) for rung in ("weights", "mask", "loss", "published")),
]
METRICS = {
    "recall@1": lambda ranks: recall_at_k(ranks, 1),
    "recall@5": lambda ranks: recall_at_k(ranks, 5),
    "recall@10": lambda ranks: recall_at_k(ranks, 10),
    "mrr": reciprocal_rank,
}


def plain_infonce(agcl: AGCLStage) -> AGCLStage:
    """The baseline at the same budget: no weights, no mask, random batches, no attributes in the text."""
    return dataclasses.replace(agcl, weighting="none", rules=(), attributes_on="none", similar_group=1)


def loss_alone(agcl: AGCLStage) -> AGCLStage:
    """AGCL's weights, mask and batches on InfoNCE's inputs: every pair is shown without attributes."""
    return dataclasses.replace(agcl, attributes_on="none")


def published_weights(agcl: AGCLStage) -> AGCLStage:
    """The same with the weights and the mask of the paper: raw BM25, gain 1, the positive weighted too, a margin."""
    published = {"scaling": "raw", "gain": 1.0, "weight_positive": True, "rules": ("margin",)}
    return dataclasses.replace(loss_alone(agcl), **published)


LOSSES: dict[str, Callable[[AGCLStage], AGCLStage]] = {
    "loss": loss_alone,
    "weights": lambda agcl: dataclasses.replace(loss_alone(agcl), rules=()),
    "mask": lambda agcl: dataclasses.replace(loss_alone(agcl), weighting="none"),
    "batches": lambda agcl: dataclasses.replace(loss_alone(agcl), weighting="none", rules=()),
    "published": published_weights,
}
Scored = tuple[RetrievalResult, dict[str, float]]
"""Retrieval, and the means of `general_quality`."""
PARTS = ("ladder", "safe", "cit", "loss")


def run_seed(seed: int, work: Path, results: Path, families: int, parts: Sequence[str]) -> None:
    """Train what is missing of one seed and write its cells."""
    quiet_libraries()
    catalogue = _catalogue(work, families)
    with resources.as_file(resources.files("afmrl.demo") / "quickstart.yaml") as path:
        recipe = load_recipe(path, [f"seed={seed}", *SETTINGS])
    recipe.catalogue.sample, recipe.catalogue.path = None, str(catalogue)
    recipe.catalogue.labels.column = "visible_attributes"
    ladder = _run(recipe, work / f"seed-{seed}")
    prepare_data(ladder)
    prepare_base(ladder)
    train_generator(ladder)
    train_embedder(ladder)
    if "ladder" in parts:
        _other_embedder("infonce", plain_infonce(recipe.agcl), ladder, seed, results)
        if not _complete("agcl", ladder, seed, results):
            _write_cells(_scored(ladder, "agcl", {"": "agcl"}), ladder, seed, results, {})
    if {"ladder", "cit"} & set(parts):
        reinforce_generator(ladder)
    if "ladder" in parts and not all(_complete(rung, ladder, seed, results) for rung in ("sft:both", "rar:both")):
        found = _scored(ladder, "agcl", {which: which for which in ("sft", "rar", "perfect")})
        _write_cells(found, ladder, seed, results, {which: _accuracy(ladder, which) for which in ("sft", "rar")})
    if "safe" in parts:
        _safe_reward(ladder, seed, results)
    if "cit" in parts:
        for rung, share in (("cit", recipe.cit.share), ("cit_control", 0.0)):
            _again(rung, share, ladder, seed, results)
    if "loss" in parts:
        for rung, variant in LOSSES.items():
            _other_embedder(rung, variant(recipe.agcl), ladder, seed, results)


def _complete(rung: str, run: Run, seed: int, results: Path) -> bool:
    """Whether the cell is there and made of what the run has now."""
    path = _cell_path(rung, seed, results)
    stage = rung.partition(":")[0]
    made_of = fingerprint(run.made_of.get(stage, run.made_of["agcl"]))
    return path.is_file() and json.loads(path.read_text(encoding="utf-8"))["settings"] == made_of


def _cell_path(rung: str, seed: int, results: Path) -> Path:
    return results / f"{rung.replace(':', '-')}-seed{seed}.json"


def _accuracy(run: Run, which: str) -> dict[str, Any]:
    return attribute_accuracy(generated_attributes(run, which, "test"), run.splits["test"].labels)


def _safe_reward(ladder: Run, seed: int, results: Path) -> None:
    """RAR once more with the quickstart's own reward, as many steps, in the same embedder."""
    with resources.as_file(resources.files("afmrl.demo") / "quickstart.yaml") as path:
        rar = load_recipe(path, [f"rar.max_steps={ladder.recipe.rar.max_steps}"]).rar
    other = dataclasses.replace(
        ladder,
        recipe=dataclasses.replace(ladder.recipe, rar=rar),
        ledger=Ledger(ladder.folder / "safe"),
        paths=dict(ladder.paths),
        made_of=dict(ladder.made_of),
    )
    reinforce_generator(other)
    other.made_of["safe"] = other.made_of["rar"]
    if _complete("safe:both", other, seed, results):
        return
    _write_cells(_scored(other, "agcl", {"rar": "safe"}), other, seed, results, {"safe": _accuracy(other, "rar")})


def _other_embedder(rung: str, agcl: AGCLStage, ladder: Run, seed: int, results: Path) -> None:
    """One more embedder from the same base, scored without attributes."""
    other = dataclasses.replace(
        ladder,
        recipe=dataclasses.replace(ladder.recipe, agcl=agcl),
        ledger=Ledger(ladder.folder / rung),
        paths={},
        made_of=dict(ladder.made_of),
    )
    train_embedder(other)
    if _complete(rung, other, seed, results):
        return
    _write_cells(_scored(other, "agcl", {"": rung}), other, seed, results, {})


def _again(rung: str, share: float, ladder: Run, seed: int, results: Path) -> None:
    """One round of CIT, scored as it is whether or not it is better on val: the control must not be chosen."""
    cit = dataclasses.replace(ladder.recipe.cit, rounds=1, share=share)
    other = dataclasses.replace(
        ladder,
        recipe=dataclasses.replace(ladder.recipe, cit=cit),
        paths=dict(ladder.paths),
        made_of=dict(ladder.made_of),
    )
    train_in_cycles(other, name=rung)
    other.made_of[rung] = other.made_of[f"{rung}-1"]
    if not _complete(f"{rung}:both", other, seed, results):
        _write_cells(_scored(other, f"{rung}-1", {"rar": rung}), other, seed, results, {})


def _scored(run: Run, embedder: str, rungs: dict[str, str]) -> dict[str, Scored]:
    """Of one stage's embedder, by rung: retrieval of the test split, and what the embeddings are good for elsewhere.

    Args:
        rungs: whose attributes ("" for none, "perfect" for the labels) → the rung's name.
    """
    split, model = run.splits["test"], Embedder.from_pretrained(run.paths[embedder])
    plain = encode_split(model, split, batch_size=run.recipe.evaluation.batch_size)
    found: dict[str, Scored] = {}
    for which, rung in rungs.items():
        encoded = encode_attributed(run, "test", model, which) if which else plain
        general = {name: round(i.mean, 6) for name, i in general_quality_of(run, split, encoded).items()}
        found[f"{rung}:both" if which else rung] = (score_encoded(run, split, encoded), general)
        if which:
            on_query = Encoded(encoded.queries, plain.gallery)
            found[f"{rung}:query"] = (score_encoded(run, split, on_query), {})
    return found


def _catalogue(work: Path, families: int) -> Path:
    folder = work / f"catalogue-{families}"
    path = folder / "catalogue.jsonl"
    if not path.is_file():  # written last
        write_sample_catalogue(folder, families={**TRAINING, "test": families}, seed=CATALOGUE_SEED)
    return path


def _run(recipe: Recipe, folder: Path) -> Run:
    folder.mkdir(parents=True, exist_ok=True)
    return Run(folder=folder, recipe=recipe, ledger=Ledger(folder), say=print, callbacks=StageProgress())


def _write_cells(found: dict[str, Scored], run: Run, seed: int, results: Path, accuracy: dict[str, Any]) -> None:
    results.mkdir(parents=True, exist_ok=True)
    path = run.recipe.catalogue.path
    assert path is not None
    sizes = {len(list(group)) for _, group in itertools.groupby(run.splits["test"].families)}
    if len(sizes) != 1:
        raise SystemExit(f"families of {sorted(sizes)} queries: the table takes them to be of one size, side by side")
    for name, (result, general) in found.items():
        stage = name.partition(":")[0]
        cell = {
            "rung": name,
            "seed": seed,
            "metrics": {metric: round(float(of(result.ranks).mean()), 6) for metric, of in METRICS.items()},
            "num_queries": len(result.ranks),
            "num_families": len(set(run.splits["test"].families)),
            "catalogue_sha256": file_hash(path),
            "settings": fingerprint(run.made_of.get(stage, run.made_of["agcl"])),
            "general": general,
            "attribute_accuracy": accuracy.get(stage, {}),
            "seconds": run.ledger.seconds,
            "versions": {library: metadata.version(library) for library in ("torch", "transformers", "trl")},
            "ranks": " ".join(str(rank) for rank in result.ranks.tolist()),
        }
        write_json(_cell_path(name, seed, results), cell)


def table(results: Path) -> str:
    """Markdown: every rung's mean over seeds, and each step between rungs with interval and Holm-adjusted p."""
    cells = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(results.glob("*.json"))]
    if not cells:
        return f"no cells in {results}; `python benchmarks/ablation.py run` makes them"
    hashes = {cell["catalogue_sha256"] for cell in cells}
    if len(hashes) > 1:
        raise SystemExit(f"{results}: cells of {len(hashes)} different catalogues do not add up; remove the old ones")
    ranks: dict[str, dict[int, np.ndarray]] = {}
    for cell in cells:
        ranks.setdefault(cell["rung"], {})[cell["seed"]] = np.array(cell["ranks"].split(), dtype=np.int64)
    queries, families = cells[0]["num_queries"], cells[0]["num_families"]
    clusters = [str(place * families // queries) for place in range(queries)]  # equal families, in catalogue order
    lines = [
        f"{queries:,} test queries in {families:,} families; mean [95 % interval], bootstrap over seeds and families; "
        "a step is of the seeds that both rungs have.",
        "",
        "| rung | seeds | R@1 | R@5 | R@10 | MRR |",
        "|---|---|---|---|---|---|",
    ]
    names = {**LADDER, **ASIDE}
    for rung, name in names.items():
        if rung in ranks:
            of_rung = _stacked(ranks, rung, rung)[0]
            row = [bootstrap_seeds(of(of_rung), clusters) for of in METRICS.values()]
            shown = " | ".join(_percent(i.mean, i.low, i.high) for i in row)
            lines.append(f"| {name} | {len(of_rung)} | {shown} |")
    steps = [(a, b) for a, b in STEPS if set(ranks.get(a, ())) & set(ranks.get(b, ()))]
    lines += ["", "| step | seeds | R@1, points | p (Holm) | MRR, points | p (Holm) |", "|---|---|---|---|---|---|"]
    pairs = [_stacked(ranks, a, b) for a, b in steps]
    tests = {
        metric: [
            paired_bootstrap_seeds(METRICS[metric](after), METRICS[metric](before), clusters, num_resamples=4000)
            for before, after in pairs
        ]
        for metric in ("recall@1", "mrr")
    }
    adjusted = {metric: holm([test.p_value for test in of]) for metric, of in tests.items()}
    for place, (a, b) in enumerate(steps):
        columns = [str(len(pairs[place][0]))]
        for metric in ("recall@1", "mrr"):
            change = tests[metric][place].difference
            columns += [_percent(change.mean, change.low, change.high, "+"), f"{adjusted[metric][place]:.3g}"]
        lines.append(f"| {names[a]} → {names[b]} | " + " | ".join(columns) + " |")
    return "\n".join([*lines, *_general_table(cells)])


def _general_table(cells: list[dict[str, Any]]) -> list[str]:
    """Coarse retrieval, classification and clustering by category: mean over seeds, and the seeds' range."""
    of_rung: dict[str, list[dict[str, float]]] = {}
    for cell in cells:
        if cell.get("general"):
            of_rung.setdefault(cell["rung"], []).append(cell["general"])
    if not of_rung:
        return []
    columns = list(next(iter(of_rung.values()))[0])
    lines = [
        "",
        f"| by category, mean (range of seeds) | seeds | {' | '.join(columns)} |",
        "|---" * (len(columns) + 2) + "|",
    ]
    for rung, name in {**LADDER, **ASIDE}.items():
        if rung in of_rung:
            values = [[100 * found[column] for found in of_rung[rung]] for column in columns]
            shown = " | ".join(f"{np.mean(of):.1f} ({min(of):.1f}–{max(of):.1f})" for of in values)
            lines.append(f"| {name} | {len(of_rung[rung])} | {shown} |")
    return lines


def _stacked(ranks: dict[str, dict[int, np.ndarray]], before: str, after: str) -> tuple[np.ndarray, np.ndarray]:
    """Ranks of two rungs over the seeds that both have, (S, Q) each."""
    seeds = sorted(set(ranks[before]) & set(ranks[after]))
    return np.stack([ranks[before][seed] for seed in seeds]), np.stack([ranks[after][seed] for seed in seeds])


def _percent(mean: float, low: float, high: float, sign: str = "") -> str:
    return f"{100 * mean:{sign}.1f} [{100 * low:{sign}.1f}, {100 * high:{sign}.1f}]"


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="train and score what is missing")
    run.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    run.add_argument("--parts", nargs="+", choices=PARTS, default=["ladder"], help="what to train and score")
    run.add_argument("--families", type=int, default=1600, help="test families of 5 products, one query each")
    run.add_argument("--work", type=Path, default=Path("runs/ablation"), help="models and catalogue")
    for command in (run, commands.add_parser("table", help="print the table of the cells that are there")):
        command.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    if given.command == "run":
        for seed in given.seeds:
            run_seed(seed, given.work, given.results, given.families, given.parts)
    print(table(given.results))


if __name__ == "__main__":
    main()
