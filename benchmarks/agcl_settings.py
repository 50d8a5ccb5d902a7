"""AGCL's settings on the sample catalog: what each wins in retrieval and costs in coarse quality.

    python benchmarks/agcl_settings.py run --seeds 0 --settings "gain 4" "gain 1"   # continues where it was
    python benchmarks/agcl_settings.py table

The quickstart's stages on a catalog of another seed than `ablation.py`'s: the defaults are chosen here, so that the
ladder's test families have no part in it. SFT's generator is one a seed. Scored without attributes, with those that
SFT's generator writes, and with all that is visible, on both sides each.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from afmrl.embedder.embedder import Embedder
from afmrl.evaluation.metrics import recall_at_k
from afmrl.evaluation.significance import over_seeds
from afmrl.terminal import quiet_libraries
from afmrl.training.base import prepare_base
from afmrl.training.ladder import encode_attributed, encode_split, general_quality_of, score_encoded
from afmrl.training.ledger import Ledger
from afmrl.training.run import train_embedder, train_generator
from cells import Cells
from common import percent, run_and_table
from sample_run import CATALOG_SEED, file_name, new_run, sample_recipe

ROWS = {"": "no attributes", "sft": "SFT attributes", "perfect": "everything visible"}
NONE: dict[str, Any] = {"weighting": "none"}
PLAIN: dict[str, Any] = {**NONE, "rules": (), "similar_group": 1, "attributes_on": "none"}
GENERATED: dict[str, Any] = {"text_attributes": "generated", "attribute_dropout": 0.5, "similar_share": 0.5}
TWICE = {"max_steps": 300}
SETTINGS: dict[str, dict[str, Any]] = {
    "InfoNCE, random batches, no attributes in the text": PLAIN,
    "InfoNCE, random batches, no attributes in the text, twice the steps": {**PLAIN, **TWICE},
    "InfoNCE, random batches": {**NONE, "rules": (), "similar_group": 1},
    "InfoNCE": {**NONE, "rules": ()},
    "InfoNCE, agreement": NONE,
    **{f"gain {gain}": {"gain": float(gain)} for gain in (1, 2, 4)},
    "published": {"gain": 1.0, "scaling": "raw", "weight_positive": True, "rules": ("margin",)},
    "gain 1, half the batches random": {"gain": 1.0, "similar_share": 0.5},
    "InfoNCE, half the batches random": {**NONE, "rules": (), "similar_share": 0.5},
    "gain 1, both directions": {"gain": 1.0, "directions": ("query_to_doc", "doc_to_query")},
    "gain 1, generated text": {"gain": 1.0, "text_attributes": "generated"},
    "gain 1, half of the pairs plain": {"gain": 1.0, "attribute_dropout": 0.5},
    "gain 1, no attributes in the text": {"gain": 1.0, "attributes_on": "none"},
    "gain 1, no attributes in the text, half the batches random": {
        "gain": 1.0,
        "attributes_on": "none",
        "similar_share": 0.5,
    },
    "generated text, half plain, half random": GENERATED,
    "the same, both directions": {**GENERATED, "directions": ("query_to_doc", "doc_to_query")},
    "generated text, half plain, half random, twice the steps": {**GENERATED, **TWICE},
    "gain 1, groups of 4": {"gain": 1.0, "similar_group": 4},
}
"""Changes of the quickstart's AGCL section, whose gain is 1 and whose groups are of 8."""


def run_cell(seed: int, name: str, work: Path, cells: Cells, families: int) -> None:
    """One setting of one seed, unless it is there."""
    if cells.get((name, seed)) is not None:
        return
    quiet_libraries()
    recipe = sample_recipe(seed, work, families, {}, CATALOG_SEED + 1)
    home = work / f"seed-{seed}"
    run = new_run(recipe, home)
    prepare_base(run)
    train_generator(run)
    setting = recipe.agcl.model_copy(update=SETTINGS[name])
    other = dataclasses.replace(
        run, recipe=recipe.model_copy(update={"agcl": setting}), ledger=Ledger(home / file_name(name))
    )
    other.paths, other.made_of = dict(run.paths), dict(run.made_of)
    train_embedder(other)
    other.ledger = run.ledger  # SFT's attributes are written once for all settings
    split, model = run.splits["test"], Embedder.from_pretrained(other.paths["agcl"])
    cell: dict[str, Any] = {"agcl": setting.model_dump(mode="json"), "rows": {}}
    for which in ROWS:
        if which:
            encoded = encode_attributed(other, "test", model, which)
        else:
            encoded = encode_split(model, split, batch_size=recipe.evaluation.batch_size)
        result = score_encoded(run, split, encoded)
        general = {name: round(i.mean, 6) for name, i in general_quality_of(run, split, encoded).items()}
        cell["rows"][which] = {
            "mrr": round(float((1 / result.ranks).mean()), 6),
            "general": general,
            "ranks": result.ranks,
        }
    cell["families"] = split.families
    cells.put((name, seed), cell)


def table(cells: Cells) -> str:
    """Markdown: R@1 by row with intervals over seeds and families, and coarse quality without attributes."""
    by_setting: dict[str, list[dict[str, Any]]] = {}
    for cell in cells.all():
        by_setting.setdefault(cell["setting"], []).append(cell)
    names = list(ROWS.values())
    lines = [
        f"| setting | seeds | R@1, {', '.join(names[:1])} | R@1, {names[1]} | R@1, {names[2]} | coarse precision@10 "
        "| classification | NMI | purity |",
        "|---" * 9 + "|",
    ]
    for name in SETTINGS:
        if name not in by_setting:
            continue
        of = by_setting[name]
        columns = [str(len(of))]
        for which in ROWS:
            ranks = np.stack([cell["rows"][which]["ranks"] for cell in of])
            interval = over_seeds(recall_at_k(ranks, 1), of[0]["families"]).difference
            columns.append(percent(interval.mean, interval.low, interval.high))
        general = [cell["rows"][""]["general"] for cell in of]
        for key in ("coarse precision@10", "classification accuracy", "nmi", "purity"):
            columns.append(f"{100 * np.mean([found[key] for found in general]):.1f}")
        lines.append(f"| {name} | " + " | ".join(columns) + " |")
    return "\n".join(lines)


def main() -> None:
    """Parse the command line."""
    parser, _, run, _ = run_and_table(__doc__, "agcl_settings")
    run.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    run.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    run.add_argument("--families", type=int, default=300, help="test families of 5 products, two offers each")
    run.add_argument("--work", type=Path, default=Path("runs/agcl_settings"), help="models and catalog")
    given = parser.parse_args()
    cells = Cells(given.results, "setting", "seed")
    if given.command == "run":
        for seed in given.seeds:
            for name in given.settings:
                run_cell(seed, name, given.work, cells, given.families)
    print(table(cells))


if __name__ == "__main__":
    main()
