"""Do labels help? `afmrl match` by its plain command on every labeled set, with and without its labels.

Two measurements of each set:

- published: the folder as it is. `afmrl match SET/products.jsonl` takes pairs.jsonl, or `product_id` where there are no
  pairs; B-cubed of all offers. The labels of some of these pairs were used.
- unseen: a copy without any label of the test products (val, where there is no test): their `product_id` and all pairs
  that name one of them are taken away. B-cubed of the test products' offers, among all offers, and ("alone") among
  themselves, as the other tools of match.json are measured.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from afmrl.files import write_json
from bcubed import bcubed, bcubed_f1
from common import HERE, percent

SETS = ("wdc_products", "abt_buy", "amazon_google", "wdc_lspc", "magento_luma")
RESAMPLES = 1000
SIDES = {"without labels": ("--no-labels",), "with labels": ()}
COMMAND = "afmrl match SET/products.jsonl --out OUT"


def run(data: Path, path: Path, sets: list[str] | None) -> None:
    """Every set, published and unseen."""
    for name in sets or SETS:
        with tempfile.TemporaryDirectory(prefix="afmrl-match-") as folder:
            found = _measure(data / name, Path(folder))
        print(name, json.dumps(found), flush=True)
        # read only now: another process may measure other sets
        results: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        results["commands"] = {side: " ".join([COMMAND, *options]) for side, options in SIDES.items()}
        write_json(path, {**results, name: found})


def _measure(folder: Path, scratch: Path) -> dict[str, Any]:
    rows = [json.loads(line) for line in (folder / "products.jsonl").read_text(encoding="utf-8").splitlines()]
    products = np.unique([row["product_id"] for row in rows], return_inverse=True)[1]
    splits = np.array([row["split"] for row in rows])
    measured = splits == ("test" if (splits == "test").any() else "val")
    unseen = scratch / "unseen"
    _without_labels_of(folder, rows, measured, unseen)
    found: dict[str, Any] = {}
    for case, catalog in (("published", folder), ("unseen", unseen)):
        groups = {}
        for side, options in SIDES.items():
            summary, groups[side] = _matched(catalog / "products.jsonl", scratch / f"{case} {side}", rows, options)
            found[f"{case}, {side}"] = {
                "groups": summary["groups"],
                "score": summary["threshold"]["score"],
                "probability": summary["threshold"]["probability"],
                "model": summary["labels"]["model"] if summary["labels"] else "default",
                "labels": summary["labels_from"] and summary["labels_from"].replace(str(catalog), folder.name),
            }
        judged = np.ones(len(rows), bool) if case == "published" else measured
        found[case] = _compared(groups, products, judged)
        if case == "unseen":
            alone = {side: of[measured] for side, of in groups.items()}
            found["unseen, alone"] = _compared(alone, products[measured], np.ones(int(measured.sum()), bool))
    return found


def _without_labels_of(folder: Path, rows: list[dict[str, Any]], hidden: np.ndarray, out: Path) -> None:
    out.mkdir()
    ids = {row["id"] for row, is_hidden in zip(rows, hidden, strict=True) if is_hidden}
    with open(out / "products.jsonl", "w", encoding="utf-8") as file:
        for row in rows:
            image = str(folder / row["image"]) if row["image"] else ""
            file.write(json.dumps({**row, "image": image, **({"product_id": ""} if row["id"] in ids else {})}) + "\n")
    if (folder / "pairs.jsonl").is_file():
        lines = (folder / "pairs.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if not {json.loads(line)["left"], json.loads(line)["right"]} & ids]
        (out / "pairs.jsonl").write_text("".join(kept), encoding="utf-8")


def _matched(
    catalog: Path, out: Path, rows: list[dict[str, Any]], options: tuple[str, ...]
) -> tuple[dict[str, Any], np.ndarray]:
    """The summary, and the group of every row, by the command line."""
    command = [sys.executable, "-m", "afmrl", "match", str(catalog), "--out", str(out), *options]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=HERE.parent)
    with open(out / "offers.csv", encoding="utf-8-sig", newline="") as file:
        group_of = {row["id"]: row["group_id"] for row in csv.DictReader(file)}
    names = [group_of[row["id"]] for row in rows]
    return json.loads((out / "summary.json").read_text(encoding="utf-8")), np.unique(names, return_inverse=True)[1]


def _compared(groups: dict[str, np.ndarray], products: np.ndarray, judged: np.ndarray) -> dict[str, Any]:
    """B-cubed F1 of both sides and their difference, [95 % interval] over products."""
    units = np.unique(products[judged], return_inverse=True)[1]
    size = int(units.max()) + 1
    draw = np.random.default_rng(0)
    drawn = [np.bincount(draw.integers(size, size=size), minlength=size)[units] for _ in range(RESAMPLES)]
    means, samples, found = {}, {}, {}
    for side, of in groups.items():
        precision, recall = (values[judged] for values in bcubed(of, products))
        means[side] = bcubed_f1(precision, recall)
        samples[side] = np.array([
            bcubed_f1(np.average(precision, weights=times), np.average(recall, weights=times)) for times in drawn
        ])  # fmt: skip
        found[side] = _three(means[side], samples[side])
        found[f"precision, recall {side}"] = [round(float(precision.mean()), 4), round(float(recall.mean()), 4)]
    with_labels, without = "with labels", "without labels"
    found["difference"] = _three(means[with_labels] - means[without], samples[with_labels] - samples[without])
    return found


def _three(mean: float, samples: np.ndarray) -> list[float]:
    return [round(float(value), 4) for value in (mean, *np.quantile(samples, [0.025, 0.975]))]


def table(path: Path) -> None:
    """The Markdown tables of docs/results/matching.md."""
    results = json.loads(path.read_text(encoding="utf-8"))
    for case in ("published", "unseen", "unseen, alone"):
        print(f"\n{case}\n\n| set | without labels | with labels | difference |\n|---|---|---|---|")
        for name in SETS:
            if name in results:
                of = results[name][case]
                shown = [percent(*of[side]) for side in SIDES]
                mean, low, high = of["difference"]
                print(f"| {name} | {' | '.join(shown)} | {percent(mean, low, high, sign='+')} |")
