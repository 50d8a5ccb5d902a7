"""What AGCL costs beside sentence-transformers' CachedMultipleNegativesRankingLoss: time and peak memory of a step.

    python benchmarks/agcl_cost.py --work DIR            # everything, about an hour on two cores
    python benchmarks/agcl_cost.py --work DIR --parts loss bm25

Both losses run on the tiny default model with the same batch of the sample catalog (image + title), by turns in one
process, so that what else the machine does meets both; a ratio is of two neighboring runs, and its interval a
bootstrap of the median of the ratios. Peak memory is of a process of its own for each loss and batch. Parts:

- step: forward, backward and AdamW step, inputs already tensors;
- loss: the loss stage alone (embeddings given, gradients back to them);
- bm25: the BM25 matrix of the batch, as a share of the step;
- statistics: what `last_statistics` costs, as a share of the step;
- memory: peak memory of a step, inputs already tensors, both losses;
- disk: a step whose images lie on disk, collation included, time and peak memory: all preprocessed at once
  (sentence-transformers' collator), or mini-batch by mini-batch (DeferredPreprocessing), keeping for the second pass
  nothing, 64 MiB, or all.

Writes benchmarks/results/agcl_cost.json.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from afmrl.files import write_json
from common import RESULTS, in_own_process, peak_bytes, rows_by_product, versions

PARTS = ("step", "loss", "bm25", "statistics", "memory", "disk")
BATCHES = (256, 1024, 4096)
ROUNDS = {256: 24, 1024: 12, 4096: 6}
MINI_BATCH = 64
KEPT = 64 * 2**20  # bytes of images that wait for the second pass
TEMPERATURE = 0.05
PEER = "CachedMultipleNegativesRankingLoss"


class Bench:
    """The tiny model, and a batch of it of any size."""

    def __init__(self, work: Path) -> None:
        import torch

        from afmrl.data.catalog import read_catalog
        from afmrl.embedder.embedder import Embedder
        from afmrl.embedder.tiny import build_tiny_model
        from afmrl.sample.catalog import write_sample_catalog
        from afmrl.training.data import sample_columns
        from afmrl.training.recipe import CatalogSection, SampleSection
        from afmrl.training.splits import split_offers

        torch.manual_seed(0)
        path = work / "catalog" / "catalog.jsonl"
        if not path.is_file():
            few = {"reward": 1, "val": 1, "test": 1}
            path = write_sample_catalog(work / "catalog", families={"train": 850, **few}, progress=True)
        section = sample_columns(CatalogSection(sample=SampleSection()))
        train = split_offers(read_catalog(path).offers, section)["train"]
        self.offers, self.attributes = train.offers, train.targets
        if not (work / "tiny" / "config.json").is_file():
            build_tiny_model([o.title for o in self.offers], work / "tiny")
        self.embedder = Embedder.from_pretrained(work / "tiny")
        self.model = self.embedder.model
        self.pairs = np.array([rows[:2] for rows in rows_by_product(self.offers).values() if len(rows) > 1])

    def rows(self, batch: int) -> np.ndarray:
        """(batch, 2) rows of anchor and positive, each of another product."""
        if len(self.pairs) < batch:
            raise SystemExit(f"the catalog has {len(self.pairs)} products of two offers, {batch} are needed")
        return self.pairs[np.random.default_rng(batch).permutation(len(self.pairs))[:batch]]

    def inputs(self, rows: np.ndarray, side: int, *, opened: bool) -> list[Any]:
        """One column: opened images, or callables that open them."""
        from functools import partial

        later = [partial(self.embedder.input, self.offers[row]) for row in rows[:, side]]
        return [one() for one in later] if opened else later

    def features(self, rows: np.ndarray) -> list[dict[str, Any]]:
        """Both columns as tensors."""
        return [self.model.preprocess(self.inputs(rows, side, opened=True)) for side in (0, 1)]

    def agcl(self, **options: Any) -> Any:
        """The loss with its defaults: raw BM25, the rule of agreement."""
        from afmrl.losses.agcl import AttributeGuidedContrastiveLoss

        return AttributeGuidedContrastiveLoss(
            self.model, self.attributes, temperature=TEMPERATURE, mini_batch_size=MINI_BATCH, **options
        )

    def peer(self) -> Any:
        """sentence-transformers' own."""
        from sentence_transformers.sentence_transformer.losses import CachedMultipleNegativesRankingLoss

        return CachedMultipleNegativesRankingLoss(self.model, scale=1 / TEMPERATURE, mini_batch_size=MINI_BATCH)

    def stepper(self) -> Callable[[Any, list[dict[str, Any]], Any], None]:
        """A training step: forward, backward, AdamW."""
        import torch

        optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-6)
        self.model.train()

        def step(loss: Any, features: list[dict[str, Any]], labels: Any) -> None:
            optimizer.zero_grad()
            loss([dict(column) for column in features], labels).backward()
            optimizer.step()

        return step


def by_turns(first: Callable[[], None], second: Callable[[], None], rounds: int) -> dict[str, Any]:
    """Seconds of each, and the ratio first / second: median of the pairs with its 95 % interval.

    By the clock, and under "cpu" by the processor's time, which other programs on the machine lengthen less.
    """
    first(), second()  # memory is there from now on
    gc.collect()
    seconds: list[tuple[float, float]] = []
    processor: list[tuple[float, float]] = []
    for number in range(rounds):
        taken, used = [0.0, 0.0], [0.0, 0.0]
        for which in (0, 1) if number % 2 == 0 else (1, 0):
            started, began = time.perf_counter(), time.process_time()
            (first, second)[which]()
            taken[which], used[which] = time.perf_counter() - started, time.process_time() - began
        seconds.append((taken[0], taken[1]))
        processor.append((used[0], used[1]))
    return {**_ratio(seconds), "rounds": rounds, "cpu": _ratio(processor)}


def _ratio(seconds: list[tuple[float, float]]) -> dict[str, Any]:
    ratios = np.array([a / b for a, b in seconds])
    draws = np.random.default_rng(0).integers(len(ratios), size=(4000, len(ratios)))
    low, high = np.quantile(np.median(ratios[draws], axis=1), [0.025, 0.975])
    medians = np.median(np.array(seconds), axis=0)
    return {
        "seconds": [round(float(value), 4) for value in medians],
        "ratio": round(float(np.median(ratios)), 4),
        "interval": [round(float(low), 4), round(float(high), 4)],
    }


def measure_step(bench: Bench, batch: int, rounds: int) -> dict[str, Any]:
    """A whole step, inputs already tensors."""
    import torch

    rows = bench.rows(batch)
    features, labels = bench.features(rows), torch.from_numpy(rows)
    ours, theirs, step = bench.agcl(), bench.peer(), bench.stepper()
    return by_turns(lambda: step(ours, features, labels), lambda: step(theirs, features, None), rounds)


def measure_loss(bench: Bench, batch: int, rounds: int) -> dict[str, Any]:
    """The loss stage alone."""
    import torch

    rows = bench.rows(batch)
    labels = torch.from_numpy(rows)
    draw = torch.Generator().manual_seed(0)
    columns = [torch.randn(batch, bench.embedder.dimension, generator=draw) for _ in range(2)]

    def stage(loss: Any, given: Any) -> None:
        pieces = [[piece.clone().requires_grad_() for piece in column.split(MINI_BATCH)] for column in columns]
        loss.calculate_loss(pieces, given, with_backward=True)

    ours, theirs = bench.agcl(), bench.peer()
    return by_turns(lambda: stage(ours, labels), lambda: stage(theirs, None), rounds)


def measure_bm25(bench: Bench, batch: int, rounds: int) -> dict[str, Any]:
    """Seconds of the (batch, batch) BM25 matrix."""
    rows = bench.rows(batch)
    lexical = bench.agcl().lexical
    seconds = []
    for _ in range(rounds + 1):
        started = time.perf_counter()
        scores = lexical.against(rows[:, 1])
        for begin in range(0, batch, MINI_BATCH):
            scores(rows[begin : begin + MINI_BATCH, 0])
        seconds.append(time.perf_counter() - started)
    return {"seconds": round(float(np.median(seconds[1:])), 4)}


def measure_statistics(bench: Bench, batch: int, rounds: int) -> dict[str, Any]:
    """Seconds that the loss stage takes more for its statistics, with and without known products."""
    import torch

    from afmrl.losses.statistics import LossStatistics

    rows = bench.rows(batch)
    labels = torch.from_numpy(rows)
    draw = torch.Generator().manual_seed(0)
    columns = [torch.randn(batch, bench.embedder.dimension, generator=draw) for _ in range(2)]

    class Mute(LossStatistics):
        def add(self, *_: Any, **__: Any) -> None:
            pass

    found = {}
    for name, options in (("plain", {}), ("with product ids", {"product_ids": [o.product_id for o in bench.offers]})):
        loss = bench.agcl(**options)
        kept = loss._statistics, Mute()

        def stage(statistics: Any, loss: Any = loss) -> None:
            loss._statistics = statistics
            pieces = [[piece.clone().requires_grad_() for piece in column.split(MINI_BATCH)] for column in columns]
            loss.calculate_loss(pieces, labels, with_backward=True)
            if not isinstance(statistics, Mute):
                statistics.read()

        timed = by_turns(lambda s=stage, k=kept: s(k[0]), lambda s=stage, k=kept: s(k[1]), rounds)
        found[name] = {"seconds": round(timed["seconds"][0] - timed["seconds"][1], 4)}
    return found


def disk_step(bench: Bench, batch: int, kind: str) -> Callable[[], None]:
    """A step from images on disk: collation, forward, backward, AdamW."""
    from sentence_transformers.sentence_transformer.data_collator import SentenceTransformerDataCollator
    from sentence_transformers.sentence_transformer.trainer import SentenceTransformerTrainer

    from afmrl.losses.deferred_inputs import DeferredPreprocessing

    rows = bench.rows(batch)
    at_once = kind == "at once"
    keep = {"at once": 0, "deferred, nothing kept": 0, "deferred": KEPT, "deferred, kept": 1 << 40}[kind]
    preprocess = bench.model.preprocess
    collate = SentenceTransformerDataCollator(
        preprocess_fn=preprocess if at_once else DeferredPreprocessing(preprocess, keep_bytes=keep)
    )
    loss, step = bench.agcl(), bench.stepper()

    def run() -> None:
        columns = [bench.inputs(rows, side, opened=at_once) for side in (0, 1)]
        table = [
            {"anchor": anchor, "positive": positive, "label": label}
            for anchor, positive, label in zip(*columns, rows.tolist(), strict=True)
        ]
        features, labels = SentenceTransformerTrainer.collect_features(None, collate(table))
        step(loss, features, labels)

    return run


def child(work: Path, what: str, batch: int) -> dict[str, Any]:
    """Peak memory of one step in this process, in bytes, and what stood before it."""
    import torch

    bench = Bench(work)
    if what.startswith("disk:"):
        run = disk_step(bench, batch, what.removeprefix("disk:"))
        before = peak_bytes()
    else:
        rows = bench.rows(batch)
        features, labels, step = bench.features(rows), torch.from_numpy(rows), bench.stepper()
        loss, labels = (bench.agcl(), labels) if what == "agcl" else (bench.peer(), None)
        before = peak_bytes()

        def run() -> None:
            step(loss, features, labels)

    started = time.perf_counter()
    run()
    return {"peak_bytes": peak_bytes(), "before_bytes": before, "seconds": round(time.perf_counter() - started, 3)}


def in_child(work: Path, what: str, batch: int, times: int = 1) -> dict[str, Any]:
    """`child` in processes of their own; the medians."""
    found = []
    for _ in range(times):
        found.append(in_own_process("agcl_cost.py", "--work", work, "--child", what, "--batches", batch))
    return {key: type(found[0][key])(np.median([one[key] for one in found])) for key in found[0]}


def run_part(part: str, bench: Bench, work: Path, batch: int, rounds: int, times: int) -> dict[str, Any]:
    """One part at one batch size."""
    if part == "step":
        return measure_step(bench, batch, rounds)
    if part == "loss":
        return measure_loss(bench, batch, 2 * rounds)
    if part == "bm25":
        return measure_bm25(bench, batch, rounds)
    if part == "statistics":
        return measure_statistics(bench, batch, rounds)
    if part == "memory":
        ours, theirs = (in_child(work, what, batch, times) for what in ("agcl", "peer"))
        return {"agcl": ours, "peer": theirs, "ratio": round(ours["peak_bytes"] / theirs["peak_bytes"], 4)}
    return {
        kind: in_child(work, f"disk:{kind}", batch, times)
        for kind in ("at once", "deferred, nothing kept", "deferred", "deferred, kept")
    }


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("runs/agcl_cost"), help="catalog and tiny model")
    parser.add_argument("--batches", type=int, nargs="+", default=list(BATCHES))
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--rounds", type=int, help="timed pairs of runs; of steps 24, 12 and 6 by default")
    parser.add_argument(
        "--times", type=int, default=1, help="processes whose peak memory is measured; the median counts"
    )
    parser.add_argument("--out", type=Path, default=RESULTS / "agcl_cost.json")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    from afmrl.terminal import quiet_libraries
    from afmrl.training.memory import keep_freed_memory

    quiet_libraries()
    keep_freed_memory()  # as the command line does; page faults of freed memory are a tenth of a step, and its noise
    if given.child:
        print(json.dumps(child(given.work, given.child, given.batches[0])))
        return
    bench = Bench(given.work)
    found: dict[str, Any] = {}
    if given.out.is_file():
        found = json.loads(given.out.read_text(encoding="utf-8"))
    for part in given.parts:
        for batch in given.batches:
            found.setdefault(part, {})[str(batch)] = run_part(
                part, bench, given.work, batch, given.rounds or ROUNDS.get(batch, 6), given.times
            )
            print(part, batch, json.dumps(found[part][str(batch)]), flush=True)
            found["settings"] = {
                "peer": PEER,
                "mini_batch_size": MINI_BATCH,
                "cores": os.cpu_count(),
                "processor": platform.machine(),
                "versions": versions("torch", "sentence-transformers"),
            }
            write_json(given.out, found)
    steps = found.get("step", {})
    for part in ("bm25", "statistics"):
        for batch, value in found.get(part, {}).items():
            for name, one in {"": value}.items() if part == "bm25" else value.items():
                if batch in steps:
                    share = one["seconds"] / steps[batch]["seconds"][0]
                    print(f"{part} {name} at {batch}: {100 * share:.2f} % of the step")


if __name__ == "__main__":
    main()
