"""Time and peak memory of mining hard negatives and drawing batches, from 10,000 to 1,000,000 offers.

Synthetic key attributes: each product has a brand, a series of it, a color, a size, a material and a model number
(some offers leave some out), two offers each. As a catalog grows so do its brands, series and models. Every size
runs in a process of its own, so that its peak memory is its own.

    python benchmarks/mining_cost.py --sizes 10000 100000 1000000

Writes benchmarks/results/mining_cost.json: for each size and part its seconds, the peak memory, what the scores found
are of the exact best (200 offers), and the exponent e of cost ~ n^e, fitted over the sizes and between neighbors.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import time

import numpy as np

from afmrl.files import write_json
from common import RESULTS, in_own_process, peak_bytes

K = 10
BATCH_SIZE = 1024
CHECKED = 200  # offers whose exact best are looked up
WORDS = ("red", "deep red", "blue", "navy", "black", "white", "green", "grey", "beige", "pink", "silver", "gold")


def synthetic(num_offers: int, seed: int = 0) -> tuple[list, list[str]]:
    """Key attributes and product ids; equal pairs are one object, as strings of a real catalog could be."""
    from afmrl.attributes.key_attributes import KeyAttributes

    draw = np.random.default_rng(seed)
    num_products = num_offers // 2
    num_brands = max(20, num_products // 200)
    popular = 1 / np.arange(1, num_brands + 1) ** 0.7
    brands = draw.choice(num_brands, num_products, p=popular / popular.sum())
    known: dict[tuple[str, str], tuple[str, str]] = {}
    table, ids = [], []
    values = {
        "brand": [f"brand{brand}" for brand in brands],
        "series": [
            f"brand{brand} series {number}"
            for brand, number in zip(brands, draw.integers(0, 30, num_products), strict=True)
        ],
        "color": [WORDS[i] for i in draw.integers(0, len(WORDS), num_products)],
        "size": [f"{i} cm" for i in draw.integers(1, 60, num_products)],
        "material": [f"material{i}" for i in draw.integers(0, 40, num_products)],
        "model": [f"m{i}" for i in draw.integers(0, num_products, num_products)],
    }
    shown = draw.random((num_products, 2, len(values))) < 0.85
    for product in range(num_products):
        for offer in range(2):
            pairs = [
                (key, column[product])
                for place, (key, column) in enumerate(values.items())
                if shown[product, offer, place]
            ]
            table.append(KeyAttributes(tuple(known.setdefault(pair, pair) for pair in pairs)))
            ids.append(f"p{product}")
    return table, ids


def measure(num_offers: int) -> dict:
    """One size, in this process."""
    from afmrl.attributes.relations import AttributeBM25
    from afmrl.losses.sampler import SimilarBatchSampler
    from afmrl.retrieval.mining import mine_by_attributes

    table, ids = synthetic(num_offers)
    before = peak()
    # processor time of this process: what other programs of the machine do does not count
    seconds, clock = {}, time.process_time()
    started = time.perf_counter()

    def lap(name: str) -> None:
        nonlocal clock
        seconds[name] = round(time.process_time() - clock, 3)
        clock = time.process_time()

    lexical = AttributeBM25(table)
    lap("bm25")
    mined = mine_by_attributes(table, K, product_ids=ids, lexical=lexical)
    lap("mining")
    batches = 0
    for batch in SimilarBatchSampler(
        range(num_offers), BATCH_SIZE, neighbors=mined.rows, product_ids=ids, similar_group=8
    ):
        batches += len(batch) == BATCH_SIZE
    lap("epoch_of_batches")
    wall, reached = time.perf_counter() - started, peak()
    products = np.array([int(name[1:]) for name in ids])
    rows = np.arange(num_offers)[:, None]
    right = (mined.rows < 0) | (products[mined.rows] != products[rows])
    return {
        "num_offers": num_offers,
        "cpu_seconds": {**seconds, "all": round(sum(seconds.values()), 3)},
        "wall_seconds": round(wall, 3),
        "peak_mb": round(reached),
        "peak_mb_above_the_catalog": round(reached - before),
        "full_batches": batches,
        "found_per_offer": float((mined.rows >= 0).sum(axis=1).mean()),
        "same_product_pairs": int((~right).sum()),
        "share_of_exact_score": share_of_exact(table, products, lexical, mined),
    }


def share_of_exact(table: list, products: np.ndarray, lexical, mined) -> float:
    """Summed BM25 of what was mined for a few offers, of that of their exact best, refused by the same rules."""
    from afmrl.attributes.relations import AttributeAgreement

    agreement = AttributeAgreement(table)
    scores_of = lexical.against(np.arange(len(table)))
    found = best = 0.0
    for row in np.random.default_rng(0).choice(len(table), CHECKED, replace=False):
        scores = scores_of([row])[0]
        likely = np.argpartition(-scores, 50 * K)[: 50 * K]
        likely = likely[np.argsort(-scores[likely])]
        same = agreement.pairs_agree(np.full(len(likely), row), likely, min_shared=3)
        kept = likely[~same & (products[likely] != products[row])][:K]
        best += float(scores[kept].sum())
        found += float(mined.scores[row][mined.rows[row] >= 0].sum())
    return round(found / best, 4)


def peak() -> float:
    """Peak memory of this process so far, MB."""
    return peak_bytes() / 2**20


def exponents(runs: list[dict]) -> dict:
    sizes = [run["num_offers"] for run in runs]

    def fit(values: list[float]) -> dict:
        logs = np.log(sizes), np.log(values)
        steps = [
            round(math.log(values[i + 1] / values[i]) / math.log(sizes[i + 1] / sizes[i]), 3)
            for i in range(len(sizes) - 1)
        ]
        return {"fitted": round(float(np.polyfit(*logs, 1)[0]), 3), "between_neighbors": steps}

    if len(runs) < 2:
        return {}
    parts = {f"cpu_seconds {name}": fit([run["cpu_seconds"][name] for run in runs]) for name in runs[0]["cpu_seconds"]}
    return {**parts, "peak_mb_above_the_catalog": fit([run["peak_mb_above_the_catalog"] for run in runs])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.one)))
        return
    runs = []
    for size in arguments.sizes:
        runs.append(in_own_process("mining_cost.py", "--one", size, one_thread=True))
        print(json.dumps(runs[-1], indent=2), flush=True)
        result = {
            "python": platform.python_version(),
            "cores": os.cpu_count(),
            "k": K,
            "batch_size": BATCH_SIZE,
            "runs": runs,
            "exponents": exponents(runs),
        }
        write_json(RESULTS / "mining_cost.json", result)
    print(json.dumps(result["exponents"], indent=2))


if __name__ == "__main__":
    main()
