"""The weight of BM25 beside the cosine that a search takes where the model brings none (BM25_WEIGHT).

all-MiniLM-L6-v2 as it comes, not trained on any of the sets. The weight is chosen by the mean reciprocal rank over the
queries of abt_buy's train and val and of wdc_products' train, each set weighing the same; R@1 is then shown on queries
that had no part in it: abt_buy's test, wdc_products' val, amazon_google's test. The gallery is each set's whole one.

    python benchmarks/hybrid_weight.py --data DIR

Writes benchmarks/results/hybrid_weight.json and prints the table.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from afmrl.data.catalog import read_catalog
from afmrl.embedder.embedder import Embedder
from afmrl.files import write_json
from afmrl.retrieval.bm25 import bm25_scores
from afmrl.retrieval.exact import ranks_of_scores
from afmrl.retrieval.fusion import scaled
from common import RESULTS, add_data, minilm, rows_by_product

GRID = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0, 1.5)
CHOSEN_ON = {"abt_buy": ("train", "val"), "wdc_products": ("train",)}
SHOWN_ON = {"abt_buy": "test", "wdc_products": "val", "amazon_google": "test"}


def ranks(name: str, splits: tuple[str, ...], data: Path, embedder: Embedder) -> dict[str, np.ndarray]:
    """Of BM25 alone and of each weight: the rank of every query's best match."""
    offers = read_catalog(data / name / "products.jsonl", max_bad=0.05).offers
    gallery = sorted((offer for offer in offers if offer.extra["role"] == "gallery"), key=lambda offer: offer.id)
    rows = rows_by_product(gallery)
    queries = [
        offer
        for offer in offers
        if offer.extra["role"] == "query" and offer.extra["split"] in splits and offer.product_id in rows
    ]
    relevant = [np.array(rows[offer.product_id]) for offer in queries]
    words = bm25_scores(
        [offer.title for offer in queries],
        [" ".join([offer.title, *offer.attributes.values()]) for offer in gallery],
    )
    dense = embedder.encode(queries, modality="text") @ embedder.encode(gallery, modality="text").T
    found = {"bm25": ranks_of_scores(words, relevant)}
    for weight in GRID:
        found[str(weight)] = ranks_of_scores(dense + weight * scaled(words), relevant)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_data(parser)
    arguments = parser.parse_args()
    embedder = Embedder.from_pretrained(minilm(), seller_attributes="none")
    chosen_on = [ranks(name, splits, arguments.data, embedder) for name, splits in CHOSEN_ON.items()]
    mrr = {weight: float(np.mean([(1 / found[str(weight)]).mean() for found in chosen_on])) for weight in GRID}
    best = max(mrr, key=mrr.__getitem__)
    result: dict[str, Any] = {
        "weight": best,
        "mrr": {str(weight): round(value, 4) for weight, value in mrr.items()},
        "r@1": {},
    }
    print("mean reciprocal rank by weight:", {weight: round(value, 4) for weight, value in mrr.items()})
    print(f"chosen: {best}\n\n| R@1 | queries | cosine | BM25 | hybrid, {best} |\n|---|---|---|---|---|")
    for name, split in SHOWN_ON.items():
        found = ranks(name, (split,), arguments.data, embedder)
        shown = {kind: round(100 * float((found[kind] == 1).mean()), 1) for kind in ("0.0", "bm25", str(best))}
        result["r@1"][f"{name}, {split}"] = {"queries": len(found["bm25"]), **shown}
        print(f"| {name}, {split} | {len(found['bm25'])} | {' | '.join(map(str, shown.values()))} |")
    write_json(RESULTS / "hybrid_weight.json", result)


if __name__ == "__main__":
    main()
