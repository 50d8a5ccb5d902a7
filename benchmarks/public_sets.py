"""Every labeled set under DIR, for floors, MiniLM, and the tiny default with its stages.

    python benchmarks/public_sets.py run --data DIR   # continues where it was
    python benchmarks/public_sets.py table            # Markdown

DIR holds the sets as folders with a products.jsonl. The tiny default is pretrained once on the drawn sample catalog,
which knows nothing of the sets, and then trained on each set's train split: magento_luma and grocery_store by their
recipes, the text sets by `TEXT_RECIPE`, whose labels are what the rule-based extractor reads off the train titles (the
sets' own attributes are prices). A cell is what `afmrl evaluate --catalog` measures, and holds that command.
"""

from __future__ import annotations

import dataclasses
import functools
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from afmrl.attributes.extractor import AttributeExtractor
from afmrl.data.catalog import read_catalog, write_catalog
from afmrl.evaluation.evaluate import evaluate
from afmrl.files import file_hash, fingerprint
from afmrl.terminal import quiet_libraries
from afmrl.training.base import prepare_base
from afmrl.training.recipe import Recipe, load_recipe
from afmrl.training.run import train_embedder, train_generator
from cells import Cells
from common import RECIPES, add_data, minilm, percent, run_and_table
from sample_run import new_run

NUM_RESAMPLES = 2000


@dataclass(frozen=True)
class MeasuredSet:
    """What is measured of a set."""

    split: str
    tasks: tuple[str, ...]
    recipe: str = "text"
    """A file of recipes/, "text" for `TEXT_RECIPE`, "" where there is nothing to train on."""
    images: bool = False
    titles: bool = True
    """Whether queries have any."""
    gallery: str = "all"
    """Gallery offers of which splits."""


SETS = {
    "wdc_products": MeasuredSet("val", ("fine", "pairs")),
    "abt_buy": MeasuredSet("test", ("fine", "pairs")),
    "amazon_google": MeasuredSet("test", ("fine", "pairs")),
    "magento_luma": MeasuredSet("val", ("fine", "classification"), "magento.yaml", True),
    "grocery_store": MeasuredSet("val", ("fine", "coarse", "classification"), "grocery.yaml", True, titles=False),
    "abo_mini": MeasuredSet("all", ("fine",), "", True),
    "oa_mine": MeasuredSet("test", ("classification", "clustering")),
    "ae110k": MeasuredSet("test", ("classification", "clustering")),
}
FLOORS = {
    "tfidf": "TF-IDF of titles",
    "bm25": "BM25 of titles",
    "color": "color histogram",
    "tfidf+color": "TF-IDF + 0.3 × color histogram",
}
STAGES = {"untrained": "tiny, pretrained", "agcl": "tiny, AGCL", "sft": "tiny, AGCL + SFT attributes"}
TRAINED = ("agcl", "sft")
SYSTEMS = {**FLOORS, "minilm": "all-MiniLM-L6-v2", **STAGES}
SHOWN = {
    "fine": ("recall@1", "mrr"),
    "coarse": ("map",),
    "pairs": ("best_f1", "recall@precision=0.99"),
    "classification": ("accuracy",),
    "clustering": ("nmi", "purity"),
}
TEXT_RECIPE: dict[str, Any] = {
    "name": "text",
    "catalog": {"targets": {"column": "key_attributes"}},
    "sft": {"max_steps": 150, "batch_size": 32},
    "agcl": {
        "max_steps": 200,
        "batch_size": 48,
        "temperature": 0.05,
        "attributes_on": "both",
        "seller_attributes": "none",
    },
    "rar": {"max_steps": 0},
}


def recipe_of_set(name: str, data: Path, work: Path, base: Path) -> Recipe:
    """The recipe that trains the tiny default on a set's train split."""
    path, measured = data / name / "products.jsonl", SETS[name]
    recipe: Path | dict[str, Any] = RECIPES / measured.recipe
    if measured.recipe == "text":
        offers = read_catalog(path, max_bad=0.05).offers
        extractor = AttributeExtractor.learn([o for o in offers if o.extra["split"] == "train"])
        labeled = [
            dataclasses.replace(o, extra={**o.extra, "key_attributes": extractor.extract(o).as_dict()}) for o in offers
        ]
        recipe, path = TEXT_RECIPE, work / name / "catalog.jsonl"
        write_catalog(path, labeled)
    return load_recipe(recipe, {"tiny": None, "base": str(base), "catalog.path": str(path), "rar.max_steps": 0})


def pretrain(work: Path, data: Path) -> Path:
    """The tiny default, pretrained on the drawn sample alone, once for all sets."""
    recipe = load_recipe(RECIPES / "magento.yaml", {"catalog.path": str(data / "magento_luma" / "products.jsonl")})
    assert recipe.tiny is not None
    assert recipe.tiny.pretrain.families is not None
    assert not recipe.tiny.own_words  # otherwise it would know the words of one set
    run = new_run(recipe, work / "base")
    prepare_base(run)
    return Path(run.base)


def model_of(system: str, name: str, data: Path, work: Path, base: Callable[[], Path]) -> tuple[str, str | None]:
    """(model, generator) of a cell, trained where needed."""
    if system in FLOORS:
        return system, None
    if system == "minilm":
        return str(minilm()), None
    if system == "untrained":
        return str(base()), None
    run = new_run(recipe_of_set(name, data, work, base()), work / name / "run")
    prepare_base(run)
    train_embedder(run)
    if system == "agcl":
        return str(run.paths["agcl"]), None
    train_generator(run)
    return str(run.paths["agcl"]), str(run.paths["sft"])


def systems_of(name: str) -> list[str]:
    """The systems that can say something of a set."""
    measured = SETS[name]
    retrieval = any(task in ("fine", "coarse", "pairs") for task in measured.tasks)
    text = ["tfidf", "bm25"] if measured.titles and retrieval else []
    color = ["color", *(["tfidf+color"] if measured.titles else [])] if measured.images else []
    trained = ["agcl", "sft"] if measured.recipe and retrieval else []
    return [*text, *color, *(["minilm"] if measured.titles else []), "untrained", *trained]


def run_cell(name: str, system: str, data: Path, work: Path, cells: Cells, base: Callable[[], Path]) -> None:
    """Measure one cell unless it is there and made of the same.

    Args:
        base: makes the pretrained tiny model, or finds it.
    """
    measured = SETS[name]
    catalog = data / name / "products.jsonl"
    parts: list[Any] = [measured, system, file_hash(catalog)]
    if system in STAGES:
        parts.append(
            TEXT_RECIPE
            if measured.recipe == "text"
            else yaml.safe_load((RECIPES / (measured.recipe or "magento.yaml")).read_text(encoding="utf-8"))
        )
    made_of = fingerprint(*parts)
    known = cells.get((name, system))
    if known is not None and known["made_of"] == made_of:
        print(f"{name}, {system}: complete, not run again", flush=True)
        return
    model, generator = model_of(system, name, data, work, base)
    out = work / name / "scores" / system
    shutil.rmtree(out, ignore_errors=True)
    gallery = () if measured.gallery == "gallery" else (measured.gallery,)
    result = evaluate(
        model,
        catalog,
        out=out,
        tasks=measured.tasks,
        split=measured.split,
        gallery_splits=gallery,
        generator=generator,
        seller_attributes="none",  # of some sets they are labels
        max_bad=0.05,
        slices=False,
        floors=False,
        num_resamples=NUM_RESAMPLES,
    )
    shown = {"minilm": "MINILM", "untrained": "BASE", "agcl": "RUN/embedder", "sft": "RUN/embedder"}.get(system, system)
    command = f"afmrl evaluate --catalog DIR/{name}/products.jsonl --model {shown} --split {measured.split}"
    command += (
        f" --gallery-splits {measured.gallery} --seller-attributes none --max-bad 0.05"
        + " --generator RUN/generator" * (system == "sft")
    )
    command += "".join(f" --task {task}" for task in measured.tasks)
    cells.put((name, system), {"made_of": made_of, "command": command, "metrics": _slim(result.metrics)})
    print(f"{name}, {system}: done", flush=True)


def _slim(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Without the curves, which are long."""
    tasks = {name: {k: v for k, v in of.items() if k != "curve"} for name, of in metrics["tasks"].items()}
    return {**metrics, "tasks": tasks}


def table(of_benchmark: Cells) -> str:
    """Markdown: a table a task, a row a system, a column a set; percent, mean [95 % interval]."""
    cells = {(cell["set"], cell["system"]): cell["metrics"] for cell in of_benchmark.all()}
    if not cells:
        return f"no cells in {of_benchmark.path}; `python benchmarks/public_sets.py run` makes them"
    lines: list[str] = []
    for task, metrics in SHOWN.items():
        sets = [name for name in SETS if any(task in of["tasks"] for (s, _), of in cells.items() if s == name)]
        for metric in metrics if sets else ():
            lines += [
                "",
                f"**{task}, {metric}**",
                "",
                "| system | " + " | ".join(map(_heading(cells, task), sets)) + " |",
            ]
            lines.append("|---|" + "---|" * len(sets))
            for system, title in SYSTEMS.items():
                if task == "pairs" and system in TRAINED:
                    continue  # most of the sets' own test pairs hold an offer that the tiny default was trained on
                row = [_cell(cells.get((name, system)), task, metric) for name in sets]
                if any(cell != "–" for cell in row):
                    lines.append(f"| {title} | " + " | ".join(row) + " |")
    return "\n".join(lines[1:])


def _heading(cells: dict[tuple[str, str], dict[str, Any]], task: str) -> Any:
    def heading(name: str) -> str:
        of = next(of["tasks"][task] for (s, _), of in cells.items() if s == name and task in of["tasks"])
        count = of.get("num_queries") or of.get("num_pairs") or of.get("num_test") or of.get("num_offers")
        return f"{name}, {SETS[name].split} ({count:,})"

    return heading


def _cell(metrics: dict[str, Any] | None, task: str, metric: str) -> str:
    of = (metrics or {}).get("tasks", {}).get(task)
    if not of or metric not in of:
        return "–"
    low, high = of["intervals"][metric]
    return percent(of[metric], low, high)


def main() -> None:
    """Parse the command line."""
    parser, _, run, _ = run_and_table(__doc__, "public_sets")
    add_data(run)
    run.add_argument("--work", type=Path, default=Path("runs/public_sets"), help="models")
    run.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    run.add_argument("--systems", nargs="+", choices=list(SYSTEMS), default=list(SYSTEMS))
    run.add_argument("--base", type=Path, help="the pretrained tiny model of an earlier run, instead of making it")
    given = parser.parse_args()
    cells = Cells(given.results, "set", "system")
    if given.command == "run":
        quiet_libraries()
        base = functools.cache(lambda: given.base or pretrain(given.work, given.data))
        for name in given.sets:
            for system in systems_of(name):
                if system in given.systems:
                    run_cell(name, system, given.data, given.work, cells, base)
    print(table(cells))


if __name__ == "__main__":
    main()
