"""The method's ladder on the sample catalog: InfoNCE, AGCL, + SFT attributes, + RAR, + CIT, at equal budget.

    python benchmarks/ablation.py run --seeds 0 1 2     # a cell is a rung and a seed; continues where it was
    python benchmarks/ablation.py run --seeds 0 1 2 --parts safe cit_text loss     # further rungs
    python benchmarks/ablation.py table                 # means, steps between rungs, intervals; Markdown

Stages have the settings of `afmrl quickstart`, but RAR 60 steps for its 40, and the reward of all pairs, without SFT's
loss beside it; the part "safe" has the default reward, "paper" the paper's own (Recall@k of all pairs, without
faithfulness; benchmarks/rar_truth.py compares more). Every seed has its own tiny model, pretraining and pairs;
the catalog is one, so that all seeds answer the same test queries. InfoNCE and AGCL start from the same model and see
equally many steps and pairs. CIT trains AGCL once more, so its control does so too, on the attributes that it had
(the part "cit_apart" takes back one difference of "cit_text" at a time). A cell holds the rank of every query, so
cells of many days and machines add up.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from afmrl.terminal import quiet_libraries
from cells import Cells
from common import run_and_table
from ladder import PARTS, Ladder
from ladder_table import table
from sample_run import quickstart_recipe, sample_recipe

ALL_PAIRS = {"rar.rewarded_pairs": "all", "rar.sft_weight": 0.0}
SETTINGS = {"rar.max_steps": 60, "rar.eval_steps": 0}  # beside the quickstart's


def run_seed(seed: int, work: Path, cells: Cells, families: int, parts: Sequence[str]) -> None:
    """Train what is missing of one seed and write its cells."""
    quiet_libraries()
    recipe = sample_recipe(seed, work, families, {**SETTINGS, **ALL_PAIRS})
    ladder = Ladder.of(recipe, work / f"seed-{seed}", cells, {"seed": seed})
    ladder.climb(parts, safe=quickstart_recipe(SETTINGS).rar)


def _table(cells: Cells) -> str:
    found = cells.all()
    if not found:
        return f"no cells in {cells.path}; `python benchmarks/ablation.py run` makes them"
    hashes = {cell["catalog_sha256"] for cell in found}
    if len(hashes) > 1:
        raise SystemExit(f"{cells.path}: cells of {len(hashes)} different catalogs do not add up; remove the old ones")
    return table(found)


def main() -> None:
    """Parse the command line."""
    parser, _, run, _ = run_and_table(__doc__, "ablation")
    run.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    run.add_argument("--parts", nargs="+", choices=PARTS, default=["ladder"], help="what to train and score")
    run.add_argument("--families", type=int, default=1600, help="test families of 5 products, one query each")
    run.add_argument("--work", type=Path, default=Path("runs/ablation"), help="models and catalog")
    given = parser.parse_args()
    cells = Cells(given.results, "rung", "seed")
    if given.command == "run":
        for seed in given.seeds:
            run_seed(seed, given.work, cells, given.families, given.parts)
    print(_table(cells))


if __name__ == "__main__":
    main()
