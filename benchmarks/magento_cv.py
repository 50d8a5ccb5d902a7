"""`recipes/magento.yaml` on styles that it was not trained on: cross-validation over styles.

    python benchmarks/magento_cv.py run --folds 4    # trains and scores what is missing; one JSON a fold
    python benchmarks/magento_cv.py table            # pooled over folds, intervals by bootstrap over styles; Markdown

The styles of the catalog's `train` and `val` offers are dealt into folds whole. A fold's styles are only scored:
of the others about one in seven is the run's `val` split (where fusion weights are learned) and the rest its `train`
split, as in the recipe. The pretrained model is made once: it sees the sample catalog alone. A fold's gallery is the
gallery offers of its own styles, and every system and floor answers the same queries in it, by `afmrl evaluate`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from afmrl.data.catalog import read_catalog, write_catalog
from afmrl.data.offer import Offer
from afmrl.evaluation.evaluate import evaluate
from afmrl.evaluation.metrics import recall_at_k, reciprocal_rank
from afmrl.evaluation.qrels import write_qrels
from afmrl.evaluation.significance import bootstrap_interval
from afmrl.files import file_hash, fingerprint, write_json
from afmrl.terminal import StageProgress, quiet_libraries
from afmrl.training.data import prepare_data
from afmrl.training.ledger import Ledger
from afmrl.training.recipe import Recipe, load_recipe
from afmrl.training.run import Run, prepare_base, run_recipe

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "magento_cv"
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
    recipe: Recipe, overrides: list[str], num_folds: int, work: Path, results: Path, base: Path | str | None
) -> None:
    """Train what is missing and write each fold's JSON."""
    quiet_libraries()
    assert recipe.catalog.path is not None
    offers = read_catalog(recipe.catalog.path).offers
    fold_of = deal_folds(offers, num_folds)
    settings = fingerprint(recipe, num_folds, file_hash(recipe.catalog.path))
    for fold in range(num_folds):
        path = results / f"fold{fold}of{num_folds}.json"
        if path.is_file() and json.loads(path.read_text(encoding="utf-8"))["settings"] == settings:
            print(f"{path.name}: there already")
            continue
        base = base or make_base(recipe, work / "base")
        started = time.time()
        folder = work / f"fold{fold}of{num_folds}"
        catalog = _write_fold(offers, fold_of, fold, folder)
        of_fold = dataclasses.replace(
            recipe,
            tiny=None,
            base=str(base),
            evaluation=dataclasses.replace(recipe.evaluation, rows=["agcl", "sft"], floors=[]),
            catalog=dataclasses.replace(recipe.catalog, path=str(catalog)),
        )
        run = run_recipe(of_fold, folder / "run", callbacks=StageProgress())
        cell: dict[str, Any] = {
            "fold": fold,
            "num_folds": num_folds,
            "settings": settings,
            "overrides": overrides,
            "num_train_styles": len({style_of(o) for name in ("train", "val") for o in run.splits[name].offers}),
            "fusion": json.loads((folder / "run" / "embedder" / "fusion.json").read_text(encoding="utf-8")),
            "seconds": round(time.time() - started, 1),
            "versions": {name: metadata.version(name) for name in ("torch", "transformers", "sentence-transformers")},
            "systems": _score(folder, offers),
        }
        results.mkdir(parents=True, exist_ok=True)
        write_json(path, cell)


def style_of(offer: Offer) -> str:
    """The family of a garment in all its colors."""
    return str(offer.extra[STYLE])


def deal_folds(offers: list[Offer], num_folds: int) -> dict[str, int]:
    """Style → fold."""
    styles = sorted({style_of(offer) for offer in offers})
    order = np.random.default_rng(0).permutation(len(styles))
    return {styles[style]: place % num_folds for place, style in enumerate(order)}


def make_base(recipe: Recipe, folder: Path) -> Path | str:
    """The pretrained model, once for all folds."""
    assert recipe.tiny is not None
    if recipe.tiny.sample is None or recipe.tiny.own_words:
        raise SystemExit("the folds share one pretrained model: it may see nothing of the catalog (tiny.own_words)")
    folder.mkdir(parents=True, exist_ok=True)
    run = Run(folder=folder, recipe=recipe, ledger=Ledger(folder), say=print, callbacks=StageProgress())
    prepare_data(run)
    prepare_base(run)
    return run.base


def _write_fold(offers: list[Offer], fold_of: dict[str, int], fold: int, folder: Path) -> Path:
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


def _score(folder: Path, offers: list[Offer]) -> dict[str, Any]:
    style = {offer.id: style_of(offer) for offer in offers}
    product = {offer.id: offer.product_id for offer in offers}
    run = folder / "run"
    found: dict[str, Any] = {}
    for system in SYSTEMS:
        floor = system not in ("embedder", "generator", "fused")
        evaluate(
            system if floor else run / "embedder",
            folder / "queries.jsonl",
            folder / "gallery.jsonl",
            folder / "qrels.tsv",
            folder / "scores" / system,
            generator=run / "generator" if system in ("generator", "fused") else None,
            fuse=system == "fused",
            k=10_000,
            num_resamples=10,
        )
        lines = (folder / "scores" / system / "hits.jsonl").read_text(encoding="utf-8").splitlines()
        queries = {}
        for line in lines:
            entry = json.loads(line)
            ids = [hit["id"] for hit in entry["hits"]]
            right = [product[i] == product[entry["query"]] for i in ids]
            if any(right):
                queries[entry["query"]] = [right.index(True) + 1, int(style[ids[0]] == style[entry["query"]])]
        found[system] = queries
    return found


def table(results: Path, num_folds: int) -> str:
    """Markdown: each system and floor, pooled over folds."""
    cells = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(results.glob(f"fold*of{num_folds}.json"))]
    if len({cell["settings"] for cell in cells}) > 1:
        raise SystemExit(f"{results}: folds of different settings do not add up; run again, or remove the old ones")
    if not cells:
        return f"no folds in {results}; `python benchmarks/magento_cv.py run` makes them"
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="train and score what is missing")
    run.add_argument("--recipe", type=Path, default=HERE / "recipes" / "magento.yaml")
    run.add_argument("--work", type=Path, default=Path("runs/magento_cv"), help="models")
    run.add_argument("--base", type=Path, help="the recipe's pretrained model of an earlier run (stages/base/model)")
    run.add_argument("--set", nargs="*", default=[], metavar="section.field=value", help="overrides of the recipe")
    for command in (run, commands.add_parser("table", help="print the table of the folds that are there")):
        command.add_argument("--results", type=Path, default=RESULTS)
        command.add_argument("--folds", type=int, default=4)
    given = parser.parse_args()
    if given.command == "run":
        recipe = load_recipe(given.recipe, given.set)
        run_folds(recipe, given.set, given.folds, given.work, given.results, given.base)
    print(table(given.results, given.folds))


if __name__ == "__main__":
    main()
