"""Time and peak memory of exact search with every metric, beside faiss, sentence-transformers and the bare product.

    pip install -c constraints.txt -e '.[bench]'   # faiss, for this benchmark alone
    python benchmarks/eval_cost.py      # 10,000 queries, a million offers; 19 minutes on half of two cores

By turns, each in a process of its own, so that its peak memory (VmHWM) is its own:

- afmrl: exact top k, the rank of every relevant offer, recall@1/5/10 (hit rate), recall fraction, mrr, map, ndcg@10;
- faiss: `IndexFlatIP.search`, top k alone (building the index, a copy of the gallery, is not timed);
- semantic_search: sentence-transformers' `util.semantic_search` with its default chunks and `dot_score`, top k alone;
- product: the float32 matrix product in blocks, each overwriting the last, nothing read from it. The fastest of three
  ways (`--products` times them: numpy with one block a thread, numpy and torch with all threads in one block).

The embeddings are drawn: unit rows, one to three relevant offers a query, some of them nearer than all of the million
others and some not. A ratio is of one round; stated are its median and its range over the rounds. `cores_got` says how
much of the machine other programs left (processor time by wall time); it has to be alike for all.
Writes benchmarks/results/eval_cost.json, and compares what was found with what faiss found.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import metadata, util
from pathlib import Path
from typing import Any

import numpy as np

from afmrl.files import write_json
from common import RESULTS, in_own_process, peak_bytes, rounded

K = 100
NEAR = 0.33  # cosine of a query and its relevant offers, on average
PRODUCTS = ("numpy-threads", "numpy", "torch")
PEERS = {"afmrl": "afmrl", "faiss": "faiss", "semantic_search": "sentence_transformers", "product": "numpy"}


def draw(folder: Path, num_queries: int, num_gallery: int, dim: int) -> None:
    """Write queries.npy (Q, D), gallery.npy (N, D) and relevant.npy (Q, 3), −1 behind the last."""
    rng = np.random.default_rng(0)
    gallery = np.empty((num_gallery, dim), dtype=np.float32)
    for start in range(0, num_gallery, 100_000):
        gallery[start : start + 100_000] = rng.standard_normal(gallery[start : start + 100_000].shape, np.float32)
    queries = rng.standard_normal((num_queries, dim), dtype=np.float32)
    relevant = rng.permutation(num_gallery)[: 3 * num_queries].reshape(num_queries, 3)
    relevant[np.arange(3) >= rng.integers(1, 4, num_queries)[:, None]] = -1
    centers = rng.standard_normal((num_queries, dim), dtype=np.float32)
    share = np.sqrt(NEAR / (1 - NEAR), dtype=np.float32)
    queries += share * centers
    query, place = np.nonzero(relevant >= 0)
    gallery[relevant[query, place]] += share * centers[query]
    for name, rows in (("queries", queries), ("gallery", gallery)):
        rows /= np.sqrt(np.einsum("nd,nd->n", rows, rows))[:, None]
        np.save(folder / f"{name}.npy", rows)
    np.save(folder / "relevant.npy", relevant)


def measure(name: str, folder: Path, product: str) -> dict[str, Any]:
    """One way of searching, in this process."""
    queries, gallery = np.load(folder / "queries.npy"), np.load(folder / "gallery.npy")
    prepare = {"afmrl": afmrl, "faiss": flat_index, "semantic_search": semantic_search}
    search = prepare[name](queries, gallery, folder) if name in prepare else bare(queries, gallery, product)
    search(queries[:100], gallery[:1000])  # libraries are loaded, threads started
    load, cpu, wall = os.getloadavg()[0], time.process_time(), time.perf_counter()
    more = search(queries, gallery)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"seconds": wall, "cpu_seconds": cpu, "load_before": load, "peak_mb": peak_bytes() // 2**20, **(more or {})}


def afmrl(queries: np.ndarray, gallery: np.ndarray, folder: Path) -> Callable:
    """Everything: hits, ranks, metrics."""
    from afmrl.evaluation.protocols import standard_metrics
    from afmrl.evaluation.ranking import rank_gallery
    from afmrl.retrieval.score_matrix import DenseScores

    table = np.load(folder / "relevant.npy")
    relevant = [row[row >= 0] for row in table]

    def search(queries: np.ndarray, gallery: np.ndarray) -> dict[str, Any]:
        if len(gallery) < len(np.load(folder / "gallery.npy", mmap_mode="r")):  # to warm up
            rank_gallery(DenseScores(queries, gallery), [np.zeros(1, np.int64)] * len(queries), num_hits=K)
            return {}
        ranking = rank_gallery(DenseScores(queries, gallery), relevant, num_hits=K)
        started = time.perf_counter()
        metrics = {name: round(float(values.mean()), 6) for name, values in standard_metrics(ranking).items()}
        np.save(folder / "afmrl.npy", ranking.hit_rows)
        return {"metrics": metrics, "of_which_metrics_seconds": time.perf_counter() - started}

    return search


def flat_index(queries: np.ndarray, gallery: np.ndarray, folder: Path) -> Callable:
    """faiss, its gallery copied beforehand."""
    import faiss

    index = faiss.IndexFlatIP(gallery.shape[1])
    index.add(gallery)

    def search(queries: np.ndarray, _: np.ndarray) -> None:
        np.save(folder / "faiss.npy", index.search(queries, min(K, len(gallery)))[1])

    return search


def semantic_search(queries: np.ndarray, gallery: np.ndarray, folder: Path) -> Callable:
    """sentence-transformers."""
    import torch
    from sentence_transformers.util import dot_score
    from sentence_transformers.util import semantic_search as peer

    def search(queries: np.ndarray, gallery: np.ndarray) -> None:
        peer(torch.from_numpy(queries), torch.from_numpy(gallery), top_k=K, score_function=dot_score)

    return search


def bare(queries: np.ndarray, gallery: np.ndarray, product: str) -> Callable:
    """The product alone, in blocks of 512 queries and 4,096 offers, or of 2,048 and 16,384 for all threads at once."""
    from concurrent.futures import ThreadPoolExecutor

    from threadpoolctl import ThreadpoolController

    blas = ThreadpoolController().select(user_api="blas")
    threads = num_threads() if product == "numpy-threads" else 1
    rows, columns = (512, 4096) if product == "numpy-threads" else (2048, 16_384)

    def search(queries: np.ndarray, gallery: np.ndarray) -> None:
        def multiply(start: int) -> None:
            ours = queries[start : start + rows]
            memory = np.empty(len(ours) * columns, dtype=np.float32)
            for first in range(0, len(gallery), columns):
                theirs = gallery[first : first + columns]
                block = memory[: len(ours) * len(theirs)].reshape(len(ours), len(theirs))
                if product == "torch":
                    import torch

                    torch.mm(torch.from_numpy(ours), torch.from_numpy(theirs).T, out=torch.from_numpy(block))
                else:
                    np.matmul(ours, theirs.T, out=block)

        with blas.limit(limits=1 if threads > 1 else None), ThreadPoolExecutor(threads) as executor:
            list(executor.map(multiply, range(0, len(queries), rows)))

    return search


def num_threads() -> int:
    """Threads that BLAS may use."""
    from threadpoolctl import ThreadpoolController

    return max(library["num_threads"] for library in ThreadpoolController().select(user_api="blas").info())


def summary(rounds: list[dict[str, dict[str, Any]]], flops: float) -> dict[str, Any]:
    """Medians, and ratios of each round."""

    def spread(values: list[float]) -> dict[str, float]:
        return {"median": statistics.median(values), "lowest": min(values), "highest": max(values)}

    names = list(rounds[0])
    of = {
        name: {
            **{key: spread([one[name][key] for one in rounds]) for key in ("seconds", "cpu_seconds", "peak_mb")},
            "cores_got": statistics.median(one[name]["cpu_seconds"] / one[name]["seconds"] for one in rounds),
            "gflop_per_second": flops / 1e9 / statistics.median(one[name]["seconds"] for one in rounds),
        }
        for name in names
    }
    ratios = {
        f"{name} / afmrl": {
            key: spread([one[name][key] / one["afmrl"][key] for one in rounds]) for key in ("seconds", "cpu_seconds")
        }
        for name in names
        if name != "afmrl"
    }
    return {"of": of, "ratios": ratios}


def short(value: Any) -> Any:
    """Four significant digits, but metrics as they are."""
    return rounded(value, 4, keep=("metrics",))


def versions() -> dict[str, str]:
    """Of what is measured."""
    names = ("numpy", "torch", "faiss-cpu", "sentence-transformers")
    known = {distribution.metadata["Name"] for distribution in metadata.distributions()}
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in names if name in known}}


def processor() -> str:
    """Its name where the system tells it."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return next((line.split(": ", 1)[1] for line in lines if line.startswith("model name")), platform.machine())


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--gallery", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--product", choices=PRODUCTS, default="numpy-threads")
    parser.add_argument("--products", action="store_true", help="time the three bare products alone")
    parser.add_argument("--out", type=Path, default=RESULTS / "eval_cost.json")
    parser.add_argument("--child", choices=list(PEERS), help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(measure(given.child, given.data, given.product)))
        return
    if 3 * given.queries > given.gallery:
        parser.error("--gallery has to be three times --queries or more")
    names = [name for name, module in PEERS.items() if util.find_spec(module)]
    for missing in [name for name in PEERS if name not in names]:
        print(f"{missing} is not installed and not measured", file=sys.stderr)
    flops = 2.0 * given.queries * given.gallery * given.dim
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        draw(folder, given.queries, given.gallery, given.dim)
        if given.products:
            for product in PRODUCTS * given.rounds:
                found = in_own_process("eval_cost.py", "--child", "product", "--data", folder, "--product", product)
                print(f"{product}: {flops / found['seconds'] / 1e9:.0f} GFLOP/s", flush=True)
            return
        rounds: list[dict[str, dict[str, Any]]] = []
        for number in range(given.rounds):
            # the order turns, so that nobody always follows the same neighbor
            turn = names[number % len(names) :] + names[: number % len(names)]
            done = {}
            for name in turn:
                child = ("--child", name, "--data", folder, "--product", given.product)
                done[name] = in_own_process("eval_cost.py", *child)
                print(f"round {number + 1}, {name}: {json.dumps(short(done[name]))}", flush=True)
            rounds.append({name: done[name] for name in names})
        agrees = None
        if "faiss" in names:
            ours, theirs = np.load(folder / "afmrl.npy"), np.load(folder / "faiss.npy")
            same_sets = [len(np.intersect1d(a, b)) / len(a) for a, b in zip(ours, theirs, strict=True)]
            agrees = {"same_row_same_rank": float((ours == theirs).mean()), "same_hits": float(np.mean(same_sets))}
    result = {
        "settings": {
            "queries": given.queries,
            "gallery": given.gallery,
            "dim": given.dim,
            "k": K,
            "rounds": given.rounds,
            "threads": num_threads(),
            "cores": os.cpu_count(),
            "processor": processor(),
            "product": given.product,
            "versions": versions(),
        },
        **short(summary(rounds, flops)),
        "agreement_with_faiss": agrees,
        "rounds": short(rounds),
    }
    write_json(given.out, result)
    print(json.dumps({"ratios": result["ratios"], "agreement_with_faiss": result["agreement_with_faiss"]}, indent=1))


if __name__ == "__main__":
    main()
