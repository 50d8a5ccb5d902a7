"""The method's ladder on the sample catalogue: InfoNCE, AGCL, + SFT attributes, + RAR, + CIT, at equal budget.

    python benchmarks/ablation.py run --seeds 0 1 2     # one JSON a cell (rung, seed); goes on where it was
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
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import numpy as np

from afmrl.attribute_accuracy import attribute_accuracy
from afmrl.demo.sample import write_sample_catalogue
from afmrl.evaluation.metrics import recall_at_k, reciprocal_rank
from afmrl.evaluation.retrieval import RetrievalResult
from afmrl.evaluation.significance import bootstrap_seeds, holm, paired_bootstrap_seeds
from afmrl.pipeline import (
    Run,
    prepare_base,
    prepare_data,
    reinforce_generator,
    train_embedder,
    train_generator,
    train_in_cycles,
)
from afmrl.pipeline_evaluation import generated_attributes, score_attributed, score_rows
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
    "loss": "AGCL's loss and batches alone: no attributes in the text",
    "published": "the same with the published weights",
    "sft:query": "AGCL + SFT attributes, on the query only",
    "rar:query": "AGCL + RAR attributes, on the query only",
    "perfect:query": "AGCL + everything visible, on the query only",
    "perfect:both": "AGCL + everything visible (perfect reader)",
}
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
    """The same with the weights of the paper: raw BM25, gain 1, the positive weighted too."""
    return dataclasses.replace(loss_alone(agcl), scaling="raw", gain=1.0, weight_positive=True)


def run_seed(seed: int, work: Path, results: Path, families: int) -> None:
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
    _other_embedder("infonce", plain_infonce(recipe.agcl), ladder, seed, results)
    train_generator(ladder)
    train_embedder(ladder)
    _write_cells({"agcl": score_rows(ladder, "test", ["agcl"])["agcl"]}, ladder, seed, results, {})
    reinforce_generator(ladder)
    found = score_rows(ladder, "test", ["sft", "rar", "perfect"])
    labels = ladder.splits["test"].labels
    accuracy = {
        which: attribute_accuracy(generated_attributes(ladder, which, "test"), labels) for which in ("sft", "rar")
    }
    _write_cells({name: result for name, result in found.items() if ":" in name}, ladder, seed, results, accuracy)
    for rung, share in (("cit", recipe.cit.share), ("cit_control", 0.0)):
        _write_cells(_again(rung, share, ladder), ladder, seed, results, {})
    for rung, variant in (("loss", loss_alone), ("published", published_weights)):
        _other_embedder(rung, variant(recipe.agcl), ladder, seed, results)


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
    cell = results / f"{rung}-seed{seed}.json"
    if cell.is_file() and json.loads(cell.read_text(encoding="utf-8"))["settings"] == fingerprint(
        other.made_of["agcl"]
    ):
        return
    _write_cells({rung: score_rows(other, "test", ["agcl"])["agcl"]}, other, seed, results, {})


def _again(rung: str, share: float, ladder: Run) -> dict[str, RetrievalResult]:
    """One round of CIT, scored as it is whether or not it is better on val: the control must not be chosen."""
    cit = dataclasses.replace(ladder.recipe.cit, rounds=1, share=share)
    other = dataclasses.replace(
        ladder, recipe=dataclasses.replace(ladder.recipe, cit=cit), paths=dict(ladder.paths), made_of=ladder.made_of
    )
    train_in_cycles(other, name=rung)
    ladder.made_of[rung] = other.made_of[f"{rung}-1"]
    found = score_attributed(other, "test", other.paths[f"{rung}-1"], "rar")
    return {f"{rung}:{side}": result for side, result in found.items()}


def _catalogue(work: Path, families: int) -> Path:
    folder = work / f"catalogue-{families}"
    path = folder / "catalogue.jsonl"
    if not path.is_file():  # written last
        write_sample_catalogue(folder, families={**TRAINING, "test": families}, seed=CATALOGUE_SEED)
    return path


def _run(recipe: Recipe, folder: Path) -> Run:
    folder.mkdir(parents=True, exist_ok=True)
    return Run(folder=folder, recipe=recipe, ledger=Ledger(folder), say=print, callbacks=StageProgress())


def _write_cells(
    found: dict[str, RetrievalResult], run: Run, seed: int, results: Path, accuracy: dict[str, Any]
) -> None:
    results.mkdir(parents=True, exist_ok=True)
    path = run.recipe.catalogue.path
    assert path is not None
    sizes = {len(list(group)) for _, group in itertools.groupby(run.splits["test"].families)}
    if len(sizes) != 1:
        raise SystemExit(f"families of {sorted(sizes)} queries: the table takes them to be of one size, side by side")
    for name, result in found.items():
        stage = name.partition(":")[0]
        cell = {
            "rung": name,
            "seed": seed,
            "metrics": {metric: round(float(of(result.ranks).mean()), 6) for metric, of in METRICS.items()},
            "num_queries": len(result.ranks),
            "num_families": len(set(run.splits["test"].families)),
            "catalogue_sha256": file_hash(path),
            "settings": fingerprint(run.made_of.get(stage, run.made_of["agcl"])),
            "attribute_accuracy": accuracy.get(stage, {}),
            "seconds": run.ledger.seconds,
            "versions": {library: metadata.version(library) for library in ("torch", "transformers", "trl")},
            "ranks": " ".join(str(rank) for rank in result.ranks.tolist()),
        }
        write_json(results / f"{name.replace(':', '-')}-seed{seed}.json", cell)


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
    seeds = sorted(set.intersection(*(set(ranks[rung]) for rung in LADDER if rung in ranks)))
    queries, families = cells[0]["num_queries"], cells[0]["num_families"]
    clusters = [str(place * families // queries) for place in range(queries)]  # equal families, in catalogue order
    lines = [
        f"{queries:,} test queries in {families:,} families, {len(seeds)} seeds; mean [95 % interval], bootstrap over "
        "seeds and families.",
        "",
        "| rung | R@1 | R@5 | R@10 | MRR |",
        "|---|---|---|---|---|",
    ]
    stacked = {rung: np.stack([of[seed] for seed in seeds]) for rung, of in ranks.items() if set(seeds) <= set(of)}
    for rung, name in {**LADDER, **ASIDE}.items():
        if rung in stacked:
            row = [bootstrap_seeds(of(stacked[rung]), clusters) for of in METRICS.values()]
            lines.append(f"| {name} | " + " | ".join(_percent(i.mean, i.low, i.high) for i in row) + " |")
    steps = [(a, b) for a, b in zip(list(LADDER), list(LADDER)[1:], strict=False) if a in stacked and b in stacked]
    if "infonce" in stacked and "rar:both" in stacked:
        steps.append(("infonce", "rar:both"))
    if "cit:both" in stacked and "cit_control:both" in stacked:
        steps.append(("cit_control:both", "cit:both"))
    lines += ["", "| step | R@1, points | p (Holm) | MRR, points | p (Holm) |", "|---|---|---|---|---|"]
    tests = {
        metric: [
            paired_bootstrap_seeds(
                METRICS[metric](stacked[b]), METRICS[metric](stacked[a]), clusters, num_resamples=4000
            )
            for a, b in steps
        ]
        for metric in ("recall@1", "mrr")
    }
    adjusted = {metric: holm([test.p_value for test in of]) for metric, of in tests.items()}
    names = {**LADDER, **ASIDE}
    for place, (a, b) in enumerate(steps):
        columns = []
        for metric in ("recall@1", "mrr"):
            change = tests[metric][place].difference
            columns += [_percent(change.mean, change.low, change.high, "+"), f"{adjusted[metric][place]:.3g}"]
        lines.append(f"| {names[a]} → {names[b]} | " + " | ".join(columns) + " |")
    return "\n".join(lines)


def _percent(mean: float, low: float, high: float, sign: str = "") -> str:
    return f"{100 * mean:{sign}.1f} [{100 * low:{sign}.1f}, {100 * high:{sign}.1f}]"


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="train and score what is missing")
    run.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    run.add_argument("--families", type=int, default=800, help="test families of 5 products, one query each")
    run.add_argument("--work", type=Path, default=Path("runs/ablation"), help="models and catalogue")
    for command in (run, commands.add_parser("table", help="print the table of the cells that are there")):
        command.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    if given.command == "run":
        for seed in given.seeds:
            run_seed(seed, given.work, given.results, given.families)
    print(table(given.results))


if __name__ == "__main__":
    main()
