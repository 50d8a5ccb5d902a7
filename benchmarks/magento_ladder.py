"""The method's ladder on photographs of a shop, by cross-validation over styles: InfoNCE, AGCL, + SFT, + RAR, + CIT.

    python benchmarks/magento_ladder.py run --seeds 0 1 2     # continues where it was
    python benchmarks/magento_ladder.py table                 # pooled over folds; intervals over seeds and styles

Stages have the settings of `recipes/magento.yaml`, RAR those of `afmrl quickstart` (60 steps of 8 queries; the reward
of all pairs, without SFT's loss; the part "safe": the default reward). The styles of the catalog's `train` and `val`
offers are dealt into folds whole: a fold's are the test split, of the others one in five rewards, one in eight is val,
and the rest trains all stages. The pretrained model, one a seed, sees the sample catalog alone. The generator reads
the query alone, as the recipe has it: gallery titles say the color.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ablation import ALL_PAIRS
from afmrl.data.catalog import read_catalog, write_catalog
from afmrl.data.offer import Offer
from afmrl.terminal import quiet_libraries
from afmrl.training.config import RARStage
from afmrl.training.recipe import Recipe, load_recipe
from cells import Cells
from common import RECIPES, run_and_table
from ladder import PARTS, Ladder
from ladder_table import table
from magento_cv import deal_folds, in_split, make_base, style_of
from sample_run import quickstart_recipe

REWARD, VAL = 5, 8  # one style in so many
# a fold has some 20 reward queries, of which the colors of a few alone differ by what is written
RAR_STEPS = {"rar.max_steps": 60, "rar.eval_steps": 0, "rar.prompts_per_step": 8, "rar.teachable_only": False}


def run_seed(
    recipe: Recipe,
    seed: int,
    num_folds: int,
    work: Path,
    cells: Cells,
    parts: Sequence[str],
    only: Sequence[int] | None = None,
) -> None:
    """Train what is missing of one seed and write its cells.

    Args:
        only: folds to do now, so that several processes share a seed whose base is there; None: all.
    """
    quiet_libraries()
    assert recipe.catalog.path is not None
    offers = read_catalog(recipe.catalog.path).offers
    recipe = recipe.model_copy(update={"seed": seed, "rar": _rar(ALL_PAIRS)})
    fold_of = deal_folds(offers, num_folds)
    folder = work / f"seed-{seed}"
    base = make_base(recipe.changed({"rar.max_steps": 0}), folder / "base")
    for fold in range(num_folds) if only is None else only:
        home = folder / f"fold{fold}of{num_folds}"
        catalog = _write_fold(offers, fold_of, fold, home)
        of_fold = recipe.changed({"tiny": None, "base": str(base), "catalog.path": str(catalog)})
        ladder = Ladder.of(of_fold, home / "run", cells, {"seed": seed, "fold": fold})
        ladder.climb(parts, safe=_rar({}))


def _rar(settings: Mapping[str, Any]) -> RARStage:
    return quickstart_recipe({**RAR_STEPS, **settings}).rar


def _write_fold(offers: Sequence[Offer], fold_of: dict[str, int], fold: int, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    others = sorted(style for style, of in fold_of.items() if of != fold)
    order = np.random.default_rng(1 + fold).permutation(len(others))
    num_reward, num_val = len(others) // REWARD, len(others) // VAL
    named = {others[place]: "reward" for place in order[:num_reward]}
    named |= {others[place]: "val" for place in order[num_reward : num_reward + num_val]}

    def split(offer: Offer) -> str:
        style = style_of(offer)
        return "test" if fold_of[style] == fold else named.get(style, "train")

    path = folder / "catalog.jsonl"
    write_catalog(path, [in_split(offer, split(offer)) for offer in offers])
    return path


def main() -> None:
    """Parse the command line."""
    parser, _, run, _ = run_and_table(__doc__, "magento_ladder")
    run.add_argument("--recipe", type=Path, default=RECIPES / "magento.yaml")
    run.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    run.add_argument("--folds", type=int, default=4)
    run.add_argument("--only", type=int, nargs="*", help="folds to do now; by default all, with none the base alone")
    run.add_argument("--parts", nargs="+", choices=PARTS, default=["ladder"], help="what to train and score")
    run.add_argument("--work", type=Path, default=Path("runs/magento_ladder"), help="models")
    given = parser.parse_args()
    cells = Cells(given.results, "rung", "seed", "fold")
    if given.command == "run":
        if unknown := [fold for fold in given.only or () if not 0 <= fold < given.folds]:
            parser.error(f"--only {unknown[0]}: folds are 0 to {given.folds - 1}")
        recipe = load_recipe(given.recipe)
        for seed in given.seeds:
            run_seed(recipe, seed, given.folds, given.work, cells, given.parts, given.only)
    found = cells.all()
    print(table(found, "query") if found else f"no cells in {cells.path}")


if __name__ == "__main__":
    main()
