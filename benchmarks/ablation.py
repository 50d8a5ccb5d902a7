"""The method's ladder on the sample catalog: InfoNCE, AGCL, + SFT attributes, + RAR, + CIT, at equal budget.

    python benchmarks/ablation.py run --seeds 0 1 2     # one JSON a cell (rung, seed); goes on where it was
    python benchmarks/ablation.py run --seeds 0 1 2 --parts safe cit_text loss     # beside it
    python benchmarks/ablation.py table                 # means, steps between rungs, intervals; Markdown

Stages have the settings of `afmrl quickstart`, but RAR 60 steps for its 40, and the reward of all pairs, without SFT's
loss beside it; the part "safe" has the default reward, "paper" the paper's own (Recall@k of all pairs, without
faithfulness; benchmarks/rar_truth.py compares more). Every seed has its own tiny model, pretraining and pairs;
the catalog is one, so that all seeds answer the same test queries. InfoNCE and AGCL start from the same model and see
equally many steps and pairs. CIT trains AGCL once more, so its control does so too, on the attributes that it had
(the part "cit_apart" takes the mended CIT of "cit_text" apart). A cell's JSON holds the rank of every query, so cells
of many days and machines add up.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from afmrl.sample.catalog import write_sample_catalog
from afmrl.terminal import quiet_libraries
from afmrl.training.recipe import Recipe, load_recipe
from ladder import PARTS, Ladder
from ladder_table import read_cells, table

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "ablation"
TRAINING = {"train": 600, "reward": 80, "val": 30}
ALL_PAIRS = ["rar.rewarded_pairs=all", "rar.sft_weight=0"]
SETTINGS = ["rar.max_steps=60", "rar.eval_steps=0", "evaluation.num_resamples=200"]  # beside the quickstart's
CATALOG_SEED = 20260420


def run_seed(seed: int, work: Path, results: Path, families: int, parts: Sequence[str]) -> None:
    """Train what is missing of one seed and write its cells."""
    quiet_libraries()
    recipe = _recipe([f"seed={seed}", *SETTINGS, *ALL_PAIRS])
    recipe.catalog.sample, recipe.catalog.path = None, str(_catalog(work, families))
    recipe.catalog.labels.column = "visible_attributes"
    Ladder.of(recipe, work / f"seed-{seed}", results, {"seed": seed}).climb(parts, safe=_recipe(SETTINGS).rar)


def _recipe(settings: list[str]) -> Recipe:
    with resources.as_file(resources.files("afmrl.demo") / "quickstart.yaml") as path:
        return load_recipe(path, settings)


def _catalog(work: Path, families: int) -> Path:
    folder = work / f"catalog-{families}"
    path = folder / "catalog.jsonl"
    if not path.is_file():  # written last
        write_sample_catalog(folder, families={**TRAINING, "test": families}, seed=CATALOG_SEED)
    return path


def _table(results: Path) -> str:
    cells = read_cells(results)
    if not cells:
        return f"no cells in {results}; `python benchmarks/ablation.py run` makes them"
    hashes = {cell["catalog_sha256"] for cell in cells}
    if len(hashes) > 1:
        raise SystemExit(f"{results}: cells of {len(hashes)} different catalogs do not add up; remove the old ones")
    return table(cells)


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="train and score what is missing")
    run.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    run.add_argument("--parts", nargs="+", choices=PARTS, default=["ladder"], help="what to train and score")
    run.add_argument("--families", type=int, default=1600, help="test families of 5 products, one query each")
    run.add_argument("--work", type=Path, default=Path("runs/ablation"), help="models and catalog")
    for command in (run, commands.add_parser("table", help="print the table of the cells that are there")):
        command.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    if given.command == "run":
        for seed in given.seeds:
            run_seed(seed, given.work, given.results, given.families, given.parts)
    print(_table(given.results))


if __name__ == "__main__":
    main()
