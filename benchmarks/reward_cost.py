"""What RAR's reward costs a step: encoding the completions, and scoring them in galleries of growing size.

    python benchmarks/reward_cost.py --galleries 1000 30000 200000

Seeded random unit rows × 1,536, float32; every completion lies near the one offer that is relevant to it. Scoring is
compared with (a) one completion at a time, `gallery @ completion`, sorted by argsort, and (b) the bare product
`completions @ gallery.T` of the whole step, which ranks nothing and holds all scores. Times are processor time of one
thread, which other programs of the machine slow less than the clock; what is compared takes turns, medians of the
rounds. All completions differ: the reward embeds and scores equal ones once, which does not show here.
`rewards_per_second` is the whole of `RetrievalReward.score` but the encoding, parsing included. Memory is what numpy
allocates during a step, above gallery and completions.

Encoding is that of the tiny default embedder with random weights, image and text (a trained one costs the same); it
has another dimension and does not enter the comparison.

Writes benchmarks/results/reward_cost.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
import tracemalloc
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from afmrl.files import write_json
from common import RESULTS, in_own_process

DIMENSION = 1536
KINDS = ("reciprocal_rank", "margin")
ALONE = 32  # completions that are scored one by one; the time of a step is so many times theirs


def unit_rows(draw: np.random.Generator, number: int) -> np.ndarray:
    """(number, D) float32."""
    rows = draw.standard_normal((number, DIMENSION), dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def measure(size: int, completions: int, rounds: int, block_bytes: int) -> dict[str, Any]:
    """One gallery and step, in this process."""
    from afmrl.data.offer import Offer
    from afmrl.rewards.retrieval_reward import RetrievalReward

    draw = np.random.default_rng(size + completions)
    gallery = unit_rows(draw, size)
    relevant = [draw.integers(size, size=1) for _ in range(completions)]
    step = 0.7 * unit_rows(draw, completions) + 0.5 * gallery[np.concatenate(relevant)]
    step /= np.linalg.norm(step, axis=1, keepdims=True)
    offers = [Offer(str(row), "an offer") for row in range(completions)]
    texts = [f"number: {row}" for row in range(completions)]

    def encode(chosen: Any, attributes: Any) -> np.ndarray:
        return step  # scoring alone

    rewards = {
        kind: RetrievalReward(encode, offers, gallery, relevant, kind=kind, score_block_bytes=block_bytes)
        for kind in KINDS
    }
    found: dict[str, np.ndarray] = {}

    def one_by_one() -> None:
        ranks = np.empty(ALONE, dtype=np.int64)
        for row in range(ALONE):
            order = np.argsort(-(gallery @ step[row]), kind="stable")
            ranks[row] = 1 + np.flatnonzero(order == relevant[row][0])[0]
        found["ranks"] = ranks

    def scored(kind: str) -> Callable[[], None]:
        def work() -> None:
            placed = rewards[kind].gallery.place(step, relevant, hardest=kind == "margin")
            found[kind] = placed.ranks

        return work

    def whole() -> None:
        found["whole"] = rewards["reciprocal_rank"].score(range(completions), texts).ranks

    whole()  # once unmeasured
    scores = np.empty((completions, size), dtype=np.float32)
    works: dict[str, Callable[[], None]] = {
        **{kind: scored(kind) for kind in KINDS},
        "whole_reward": whole,
        "bare_product": lambda: bare(step, gallery, scores),
        "one_by_one": one_by_one,
    }
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            start = time.process_time()
            work()
            seconds[name].append(time.process_time() - start)
    assert all((found[kind][:ALONE] == found["ranks"]).all() for kind in (*KINDS, "whole")), "ranks differ"
    seconds["one_by_one"] = [value * completions / ALONE for value in seconds["one_by_one"]]
    median = {name: statistics.median(of) for name, of in seconds.items()}

    def ratio(name: str, of: str) -> float:
        """Of the rounds' ratios, so that a slow moment of the machine falls on both."""
        return statistics.median(one / other for one, other in zip(seconds[name], seconds[of], strict=True))

    return {
        "gallery": size,
        "completions": completions,
        "rounds": rounds,
        "milliseconds": {name: round(1000 * value, 3) for name, value in median.items()},
        "rewards_per_second": round(completions / median["whole_reward"]),
        "times_as_fast_as_one_by_one": round(ratio("one_by_one", "reciprocal_rank"), 1),
        "share_of_the_bare_product": {kind: round(ratio("bare_product", kind), 3) for kind in KINDS},
    }


def bare(step: np.ndarray, gallery: np.ndarray, out: np.ndarray) -> None:
    """(b)"""
    np.matmul(step, gallery.T, out=out)


def measure_memory(size: int, completions: int, block_bytes: int) -> dict[str, Any]:
    """Peak memory of the first step above gallery and completions, in a process that did nothing else."""
    from afmrl.retrieval.frozen import FrozenGallery

    draw = np.random.default_rng(size)
    gallery, step = unit_rows(draw, size), unit_rows(draw, completions)
    frozen = FrozenGallery(gallery, block_bytes=block_bytes)
    tracemalloc.start()  # numpy's arrays; BLAS adds some megabytes of its own
    frozen.place(step, [np.array([row % size]) for row in range(completions)], hardest=True)
    above = tracemalloc.get_traced_memory()[1]
    return {
        "gallery": size,
        "completions": completions,
        "score_block_bytes": block_bytes,
        "peak_bytes_above_the_embeddings": above,
        "bytes_of_all_scores": 4 * size * completions,
    }


def measure_encoding(completions: int, rounds: int) -> dict[str, Any]:
    """The tiny embedder on a step's completions."""
    import tempfile

    from afmrl.attributes.key_attributes import KeyAttributes
    from afmrl.data.catalog import read_catalog
    from afmrl.embedder.embedder import Embedder
    from afmrl.embedder.tiny import build_tiny_model
    from afmrl.sample.catalog import write_sample_catalog

    with tempfile.TemporaryDirectory() as folder:
        offers = read_catalog(write_sample_catalog(folder, families={"reward": 20}, seed=0)).offers
        visible = [KeyAttributes.of(o.extra["visible_attributes"]) for o in offers]
        texts = [o.title for o in offers] + [str(label) for label in visible]
        embedder = Embedder.from_pretrained(build_tiny_model(texts, Path(folder) / "model", vocab_size=1280))
        chosen = [row % len(offers) for row in range(completions)]
        seconds = []
        for _ in range(rounds):
            start = time.process_time()
            embedder.encode([offers[row] for row in chosen], [visible[row] for row in chosen])
            seconds.append(time.process_time() - start)
    median = statistics.median(seconds)
    return {"completions": completions, "seconds": round(median, 3), "per_second": round(completions / median)}


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--galleries", type=int, nargs="+", default=[1000, 30_000, 200_000])
    parser.add_argument("--completions", type=int, nargs="+", default=[96, 512])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--score-block-bytes", type=int, default=64_000_000)
    parser.add_argument("--out", type=Path, default=RESULTS / "reward_cost.json")
    parser.add_argument("--part", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part:
        name, size, completions = given.part[0], int(given.part[1]), int(given.part[2])
        if name == "scoring":
            rounds = given.rounds if size * completions > 10**6 else 10 * given.rounds
            found = measure(size, completions, rounds, given.score_block_bytes)
        elif name == "memory":
            found = measure_memory(size, completions, given.score_block_bytes)
        else:
            found = measure_encoding(completions, 3)
        print(json.dumps(found))
        return
    report: dict[str, Any] = {
        "machine": {"cpus": os.cpu_count(), "processor": platform.machine(), "numpy": metadata.version("numpy")},
        "threads": 1,
        "dimension": DIMENSION,
        "scoring": [],
        "memory": [],
        "encoding": [],
    }

    def part(*arguments: object) -> dict[str, Any]:
        options = ["--rounds", given.rounds, "--score-block-bytes", given.score_block_bytes]
        found = in_own_process("reward_cost.py", "--part", *arguments, *options, one_thread=True)
        print(found, flush=True)
        return found

    for size in given.galleries:
        for completions in given.completions:
            report["scoring"].append(part("scoring", size, completions))
            report["memory"].append(part("memory", size, completions))
    for completions in given.completions:
        report["encoding"].append(part("encoding", 0, completions))
    write_json(given.out, report)


if __name__ == "__main__":
    main()
