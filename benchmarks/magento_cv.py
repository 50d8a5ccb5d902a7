"""`recipes/magento.yaml` on styles that it was not trained on: cross-validation over styles.

    python benchmarks/magento_cv.py run --folds 4    # trains and scores what is missing; continues where it was
    python benchmarks/magento_cv.py table            # pooled over folds, intervals by bootstrap over styles; Markdown

The styles of the catalog's `train` and `val` offers are dealt into folds whole. A fold's styles are only scored:
of the others about one in seven is the run's `val` split (where fusion weights are learned) and the rest its `train`
split, as in the recipe. The pretrained model is made once: it sees the sample catalog alone. A fold's gallery is the
gallery offers of its own styles, and every system and floor answers the same queries in it, by `afmrl evaluate`.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from afmrl.data.catalog import read_catalog, write_catalog
from afmrl.data.offer import Offer
from afmrl.data.yaml_text import parse_yaml
from afmrl.evaluation.evaluate import evaluate
from afmrl.evaluation.metrics import recall_at_k, reciprocal_rank
from afmrl.evaluation.qrels import write_qrels
from afmrl.evaluation.significance import bootstrap_interval
from afmrl.files import file_hash, fingerprint
from afmrl.retrieval.hits import read_hits
from afmrl.terminal import StageProgress, quiet_libraries
from afmrl.training.base import prepare_base
from afmrl.training.recipe import Recipe, load_recipe
from afmrl.training.run import run
from cells import Cells
from common import RECIPES, run_and_table, versions
from sample_run import new_run

KEY = ("num_folds", "fold")
STYLE = "style_id"
ONE_IN = 7  # training styles: one of so many learns the fusion weights
SYSTEMS = {
    "embedder": "embedder alone",
    "generator": "embedder + generator",
    "fused": "embedder + generator + fusion",
    "tfidf": "floor: title TF-IDF",
    "bm25": "floor: title BM25",
    "color": "floor: color histogram",
    "tfidf+color": "floor: title TF-IDF + 0.3 × color histogram",
}


def run_folds(
    recipe: Recipe, overrides: list[str], num_folds: int, work: Path, cells: Cells, base: Path | str | None
) -> None:
    """Train what is missing and write each fold's cell."""
    quiet_libraries()
    assert recipe.catalog.path is not None
    offers = read_catalog(recipe.catalog.path).offers
    fold_of = deal_folds(offers, num_folds)
    settings = fingerprint(recipe, num_folds, file_hash(recipe.catalog.path))
    for fold in range(num_folds):
        known = cells.get((num_folds, fold))
        if known is not None and known["settings"] == settings:
            print(f"fold {fold} of {num_folds}: complete, not run again")
            continue
        base = base or make_base(recipe, work / "base")
        started = time.time()
        folder = work / f"fold{fold}of{num_folds}"
        catalog = _write_fold(offers, fold_of, fold, folder)
        changes = {
            "tiny": None,
            "base": str(base),
            "evaluation.rows": ["agcl", "sft"],
            "evaluation.floors": [],
            "catalog.path": str(catalog),
        }
        done = run(recipe.changed(changes), folder / "run", callbacks=StageProgress())
        cell: dict[str, Any] = {
            "settings": settings,
            "overrides": overrides,
            "num_train_styles": len({style_of(o) for name in ("train", "val") for o in done.splits[name].offers}),
            "fusion": json.loads((folder / "run" / "embedder" / "fusion.json").read_text(encoding="utf-8")),
            "seconds": round(time.time() - started, 1),
            "versions": versions("torch", "transformers", "sentence-transformers"),
            "systems": _score(folder, offers),
        }
        cells.put((num_folds, fold), cell)


def style_of(offer: Offer) -> str:
    """The family of a garment in all its colors."""
    return str(offer.extra[STYLE])


def deal_folds(offers: Sequence[Offer], num_folds: int) -> dict[str, int]:
    """Style → fold."""
    styles = sorted({style_of(offer) for offer in offers})
    order = np.random.default_rng(0).permutation(len(styles))
    return {styles[style]: place % num_folds for place, style in enumerate(order)}


def make_base(recipe: Recipe, folder: Path) -> Path | str:
    """The pretrained model, once for all folds."""
    assert recipe.tiny is not None
    if recipe.tiny.pretrain.families is None or recipe.tiny.own_words:
        raise SystemExit("the folds share one pretrained model: it may see nothing of the catalog (tiny.own_words)")
    of_base = new_run(recipe, folder)
    prepare_base(of_base)
    return of_base.base


def _write_fold(offers: Sequence[Offer], fold_of: dict[str, int], fold: int, folder: Path) -> Path:
    """The fold's catalog with its splits, and queries, gallery and qrels of its held-out styles."""
    folder.mkdir(parents=True, exist_ok=True)
    others = sorted(style for style, of in fold_of.items() if of != fold)
    order = np.random.default_rng(1 + fold).permutation(len(others))
    val = {others[place] for place in order[: len(others) // ONE_IN]}
    held_out = [offer for offer in offers if fold_of[style_of(offer)] == fold]
    gallery = [offer for offer in held_out if offer.extra["role"] == "gallery"]
    queries = [offer for offer in held_out if offer.extra["role"] == "query"]
    training = [offer for offer in offers if fold_of[style_of(offer)] != fold]
    write_catalog(folder / "queries.jsonl", [in_split(offer, "") for offer in queries])
    write_catalog(folder / "gallery.jsonl", [in_split(offer, "") for offer in gallery])
    grades = {
        query.id: {
            offer.id: 2 if offer.product_id == query.product_id else 1
            for offer in gallery
            if style_of(offer) == style_of(query)
        }
        for query in queries
    }
    write_qrels(folder / "qrels.tsv", grades)
    # held-out styles are not in the run's catalog at all
    catalog = folder / "catalog.jsonl"
    write_catalog(catalog, [in_split(o, "val" if style_of(o) in val else "train") for o in training])
    return catalog


def in_split(offer: Offer, split: str) -> Offer:
    """The offer in another split, its image found from anywhere."""
    extra = {**offer.extra, "split": split, "family_id": style_of(offer)}
    return dataclasses.replace(offer, image=str(Path(offer.image).resolve()) if offer.image else "", extra=extra)


def _score(folder: Path, offers: Sequence[Offer]) -> dict[str, Any]:
    style = {offer.id: style_of(offer) for offer in offers}
    product = {offer.id: offer.product_id for offer in offers}
    run = folder / "run"
    found: dict[str, Any] = {}
    for system in SYSTEMS:
        floor = system not in ("embedder", "generator", "fused")
        evaluate(
            system if floor else run / "embedder",
            queries=folder / "queries.jsonl",
            gallery=folder / "gallery.jsonl",
            qrels=folder / "qrels.tsv",
            out=folder / "scores" / system,
            generator=run / "generator" if system in ("generator", "fused") else None,
            fuse=system == "fused",
            attributes_on="query",  # as the recipe; also where val chose to publish the embedder without
            floors=False,
            seller_attributes="none",
            k=10_000,
            num_resamples=10,
        )
        queries = {}
        for query, hits in read_hits(folder / "scores" / system / "hits.jsonl").items():
            right = [product[offer] == product[query] for offer, _ in hits]
            if any(right):
                queries[query] = [right.index(True) + 1, int(style[hits[0][0]] == style[query])]
        found[system] = queries
    return found


def table(of_benchmark: Cells, num_folds: int) -> str:
    """Markdown: each system and floor, pooled over folds."""
    cells = [cell for cell in of_benchmark.all() if cell["num_folds"] == num_folds]
    if len({cell["settings"] for cell in cells}) > 1:
        raise SystemExit(
            f"{of_benchmark.path}: folds of different settings do not add up; run again, or remove the old ones"
        )
    if not cells:
        return f"no folds in {of_benchmark.path}; `python benchmarks/magento_cv.py run` makes them"
    queries = [query for cell in cells for query in cell["systems"]["tfidf"]]
    styles = [query.split("-")[0] for query in queries]
    lines = [
        f"{len(queries)} queries of {len(set(styles))} unseen styles in {len(cells)} of {num_folds} folds, each fold's "
        "gallery the gallery offers of its own styles; mean [95 % interval], bootstrap over styles.",
        "",
        "| system | R@1 | right style first | MRR |",
        "|---|---|---|---|",
    ]
    for system, name in SYSTEMS.items():
        rows = np.array([cell["systems"][system][query] for cell in cells for query in cell["systems"]["tfidf"]])
        columns = [recall_at_k(rows[:, 0], 1), rows[:, 1].astype(float), reciprocal_rank(rows[:, 0])]
        shown = [bootstrap_interval(values, styles, num_resamples=4000) for values in columns]
        lines.append(f"| {name} | " + " | ".join(f"{i.mean:.3f} [{i.low:.3f}, {i.high:.3f}]" for i in shown) + " |")
    weights = ", ".join(
        "/".join(f"{c['fusion'].get(name, 0):g}" for name in ("bm25", "attributes", "color")) for c in cells
    )
    lines += ["", f"Fusion weights (BM25 of titles / of attributes / colors) by fold: {weights}."]
    return "\n".join(lines)


def main() -> None:
    """Parse the command line."""
    parser, _, run_of, table_of = run_and_table(__doc__, "magento_cv")
    run_of.add_argument("--recipe", type=Path, default=RECIPES / "magento.yaml")
    run_of.add_argument("--work", type=Path, default=Path("runs/magento_cv"), help="models")
    run_of.add_argument("--base", type=Path, help="the recipe's pretrained model of an earlier run (stages/base/model)")
    run_of.add_argument("--set", nargs="*", default=[], metavar="section.field=value", help="overrides of the recipe")
    for command in (run_of, table_of):
        command.add_argument("--folds", type=int, default=4)
    given = parser.parse_args()
    cells = Cells(given.results, *KEY)
    if given.command == "run":
        pairs = [setting.partition("=") for setting in given.set]
        recipe = load_recipe(given.recipe, {name: parse_yaml(value, name) for name, _, value in pairs})
        run_folds(recipe, given.set, given.folds, given.work, cells, given.base)
    print(table(cells, given.folds))


if __name__ == "__main__":
    main()
