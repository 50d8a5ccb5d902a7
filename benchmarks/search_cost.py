"""Queries a second, build time and recall of a local index beside plain faiss, hnswlib and usearch, at equal recall.

Rows and queries are drawn from clusters: a center on the unit sphere for every 50 rows (20,000 for a million), plus
Gaussian noise of 0.6 times its length. Every library builds an HNSW graph of 16 links (32 in the lowest layer) at width
100; its search width is the least on a grid that finds at least --recall of the 10 nearest. Then they are timed by
turns, in a new order every round: all queries at once, single ones, and both among rows that pass a filter, each with
the library's own means of filtering (usearch's Python package has none: it is asked for more, and the rest is dropped).

    python benchmarks/search_cost.py --rows 1000000 --work DIR

Graphs are kept in --work, so that a second run measures without building. Needs faiss-cpu, hnswlib and usearch. Writes
benchmarks/results/search_cost.json and prints the table.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from afmrl.files import write_json
from common import RESULTS

DIMENSION, K, PER_CLUSTER, NOISE = 256, 10, 50, 0.6
LINKS, BUILD_WIDTH = 16, 100
WIDTHS = (10, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 128, 160, 192, 256, 384, 512, 768, 1024, 1536, 2048, 4096)
SHARES = {"1": None, "0.5": ("seller", ["a"]), "0.1": ("category", ["some"]), "0.01": ("category", ["rare"])}
BATCH_ROWS = 65_536


def draw(num_rows: int, num_queries: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(N, D) rows and (Q, D) queries of the same clusters, unit length."""
    rng = np.random.default_rng(seed)
    centers = rng.standard_normal((num_rows // PER_CLUSTER, DIMENSION), dtype=np.float32)
    centers /= np.linalg.norm(centers, axis=1, keepdims=True)

    def some(count: int) -> np.ndarray:
        noise = rng.standard_normal((count, DIMENSION), dtype=np.float32) * np.float32(NOISE / np.sqrt(DIMENSION))
        rows = centers[rng.integers(0, len(centers), count)] + noise
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    return np.concatenate([some(min(BATCH_ROWS, num_rows - i)) for i in range(0, num_rows, BATCH_ROWS)]), some(
        num_queries
    )


class Labels:
    """Category and seller of every row, drawn independently of where it lies."""

    def __init__(self, num_rows: int) -> None:
        rng = np.random.default_rng(1)
        place = rng.random(num_rows)
        self.category = np.where(place < 0.01, "rare", np.where(place < 0.11, "some", "many"))
        self.seller = np.where(rng.random(num_rows) < 0.5, "a", "b")

    def passing(self, share: str) -> np.ndarray | None:
        chosen = SHARES[share]
        return None if chosen is None else np.isin(getattr(self, chosen[0]), chosen[1])


class Ours:
    """`afmrl index` on a folder, by its public methods."""

    def __init__(self, rows: np.ndarray, labels: Labels, work: Path, dtype: str = "f16") -> None:
        from afmrl.attributes.key_attributes import KeyAttributes
        from afmrl.data.offer import Offer
        from afmrl.index.backend import Rows
        from afmrl.index.local.index import LocalIndex

        self.name, folder, facts = f"afmrl {dtype}", work / f"afmrl-{dtype}-{len(rows)}", {}
        if not (folder / "facts.txt").exists():
            shutil.rmtree(folder, ignore_errors=True)
            index = LocalIndex.open(
                folder / "index",
                create=True,
                dimension=DIMENSION,
                settings={"dtype": dtype, "exact_below": 20_000},
            )
            started = time.perf_counter()
            with index.transaction():
                for start in range(0, len(rows), BATCH_ROWS):
                    numbers = range(start, min(start + BATCH_ROWS, len(rows)))
                    ids = [f"offer-{number}" for number in numbers]
                    offers = [
                        Offer(i, title=f"offer {n} of {n % 997}", category=str(labels.category[n]),
                              extra={"seller": str(labels.seller[n])})
                        for i, n in zip(ids, numbers, strict=True)
                    ]  # fmt: skip
                    none = [KeyAttributes()] * len(ids)
                    index.upsert(Rows(ids, rows[start : numbers.stop], offers, none, ids))
                facts["rows_s"] = time.perf_counter() - started
            facts["build_s"] = time.perf_counter() - started
            (folder / "facts.txt").write_text(json.dumps(facts))
        self.facts = json.loads((folder / "facts.txt").read_text())
        self.index = LocalIndex.open(folder / "index")
        self.graph = self.index._now().snapshot.graph
        self.facts |= {"own_width": self.graph.width, "own_recall": self.graph.recall}
        self.facts["bytes"] = sum(path.stat().st_size for path in (folder / "index").rglob("*") if path.is_file())
        self.filters = {share: (None if c is None else {c[0]: c[1]}) for share, c in SHARES.items()}

    def search(self, queries: np.ndarray, width: int, share: str, passing: np.ndarray | None) -> list[list[int]]:
        if passing is None:
            self.graph.width = width
        else:  # by the width that the index measures for this filter, if it searches its graph at all
            self.graph.width = self.facts["own_width"]
        hits = self.index.search(queries, K, where=self.filters[share])
        return [[int(identifier[6:]) for identifier in ids] for ids in hits.ids]


class Faiss:
    """faiss, float32 or a byte a number."""

    def __init__(self, rows: np.ndarray, labels: Labels, work: Path, storage: str = "Flat") -> None:
        import faiss

        self.faiss, self.name = faiss, f"faiss HNSW {storage}"
        path = work / f"faiss-{storage}-{len(rows)}"

        def build() -> None:
            index = faiss.index_factory(DIMENSION, f"HNSW{LINKS},{storage}", faiss.METRIC_INNER_PRODUCT)
            index.hnsw.efConstruction = BUILD_WIDTH
            index.train(rows[:BATCH_ROWS])
            index.add(rows)
            faiss.write_index(index, str(path))

        self.facts = built(path, build)
        self.index = faiss.read_index(str(path))
        self.selectors: dict[str, Any] = {}

    def search(self, queries: np.ndarray, width: int, share: str, passing: np.ndarray | None) -> np.ndarray:
        parameters = self.faiss.SearchParametersHNSW(efSearch=width)
        if passing is not None:
            if share not in self.selectors:
                self.selectors[share] = self.faiss.IDSelectorBitmap(np.packbits(passing, bitorder="little"))
            parameters = self.faiss.SearchParametersHNSW(efSearch=width, sel=self.selectors[share])
        return self.index.search(queries, K, params=parameters)[1]


class Hnswlib:
    """hnswlib; its filter is a Python function."""

    name = "hnswlib"

    def __init__(self, rows: np.ndarray, labels: Labels, work: Path) -> None:
        import hnswlib

        path = work / f"hnswlib-{len(rows)}"

        def build() -> None:
            index = hnswlib.Index("ip", DIMENSION)
            index.init_index(len(rows), M=LINKS, ef_construction=BUILD_WIDTH)
            index.add_items(rows, num_threads=os.cpu_count())
            index.save_index(str(path))

        self.facts = built(path, build)
        self.index = hnswlib.Index("ip", DIMENSION)
        self.index.load_index(str(path))

    def search(self, queries: np.ndarray, width: int, share: str, passing: np.ndarray | None) -> np.ndarray:
        self.index.set_ef(width)
        if passing is None:
            return self.index.knn_query(queries, K, num_threads=os.cpu_count() if len(queries) > 1 else 1)[0]
        try:
            # its filter holds Python's lock, so more threads do not help
            return self.index.knn_query(queries, K, num_threads=1, filter=passing.item)[0]
        except RuntimeError:  # fewer than K found
            return np.full((len(queries), K), -1)


class Usearch:
    """usearch, float16 or a byte a number."""

    def __init__(self, rows: np.ndarray, labels: Labels, work: Path, dtype: str = "f16") -> None:
        from usearch.index import Index

        self.name = f"usearch {dtype}"
        path = work / f"usearch-{dtype}-{len(rows)}"

        def new() -> Any:
            return Index(ndim=DIMENSION, metric="ip", dtype=dtype, connectivity=LINKS, expansion_add=BUILD_WIDTH)

        def build() -> None:
            index = new()
            for start, stop in ((0, 4096), (4096, len(rows))):  # threads that start an empty graph lose rows
                index.add(np.arange(start, stop), rows[start:stop], threads=1 if start == 0 else 0)
            index.save(str(path))

        self.facts = built(path, build)
        self.index = new()
        self.index.load(str(path))

    def search(self, queries: np.ndarray, width: int, share: str, passing: np.ndarray | None) -> Any:
        self.index.expansion_search = width
        if passing is None:
            return np.atleast_2d(self.index.search(queries if len(queries) > 1 else queries[0], K).keys).astype(
                np.int64
            )
        keys = np.atleast_2d(self.index.search(queries if len(queries) > 1 else queries[0], width).keys).astype(
            np.int64
        )
        return [line[passing[line]][:K] for line in keys]


def built(path: Path, build: Callable[[], None]) -> dict[str, float]:
    """Build what is not there yet; how long it took, and its size."""
    facts = path.with_name(path.name + ".txt")
    if not facts.exists():
        started = time.perf_counter()
        build()
        facts.write_text(json.dumps({"build_s": time.perf_counter() - started}))
    return json.loads(facts.read_text()) | {"bytes": path.stat().st_size}


def recall(found: Any, nearest: np.ndarray) -> float:
    """Mean share of the nearest that were found."""
    return float(
        np.mean(
            [
                len(set(map(int, ours)) & set(theirs.tolist())) / len(theirs)
                for ours, theirs in zip(found, nearest, strict=True)
            ]
        )
    )


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    from afmrl.retrieval.exact import top_k

    rows, queries = draw(arguments.rows, arguments.queries)
    labels = Labels(len(rows))
    work = arguments.work
    work.mkdir(parents=True, exist_ok=True)
    makers: dict[str, Callable[[], Any]] = {
        "afmrl": lambda: Ours(rows, labels, work),
        "faiss": lambda: Faiss(rows, labels, work),
        "faiss-sq8": lambda: Faiss(rows, labels, work, "SQ8"),
        "hnswlib": lambda: Hnswlib(rows, labels, work),
        "usearch": lambda: Usearch(rows, labels, work),
        "usearch-i8": lambda: Usearch(rows, labels, work, "i8"),
    }
    libraries = []
    for name in arguments.libraries:
        libraries.append(makers[name]())
        print(libraries[-1].name, libraries[-1].facts, flush=True)
    result: dict[str, Any] = {
        "rows": len(rows), "dimension": DIMENSION, "clusters": len(rows) // PER_CLUSTER, "queries": len(queries),
        "recall_wanted": arguments.recall, "cores": os.cpu_count(), "machine": platform.machine(),
        "build": {library.name: library.facts for library in libraries}, "search": {},
    }  # fmt: skip
    for share in SHARES:
        passing = labels.passing(share)
        candidates = np.arange(len(rows)) if passing is None else np.flatnonzero(passing)
        nearest = candidates[top_k(queries, rows if passing is None else rows[candidates], K)[1]]
        chosen: list[tuple[Any, int]] = []
        found: dict[str, dict[str, Any]] = {}
        for library in libraries:
            width, reached = 0, 0.0
            for width in WIDTHS:
                started = time.perf_counter()
                some = slice(0, 200 if passing is not None else len(queries))
                reached = recall(library.search(queries[some], width, share, passing), nearest[some])
                if reached >= arguments.recall or time.perf_counter() - started > 60:
                    break
            own = passing is not None and isinstance(library, Ours)
            found[library.name] = {
                "width": "own" if own else width,
                "recall": round(reached, 4),
                "batch": [],
                "single": [],
            }
            if reached >= arguments.recall:
                chosen.append((library, width))
        rng = np.random.default_rng(2)
        many, few = (len(queries), 300) if passing is None else (500, 100)
        for _ in range(arguments.rounds):
            for place in rng.permutation(len(chosen)):
                library, width = chosen[place]
                started = time.perf_counter()
                library.search(queries[:many], width, share, passing)
                found[library.name]["batch"].append(many / (time.perf_counter() - started))
                started = time.perf_counter()
                for row in range(few):
                    library.search(queries[row : row + 1], width, share, passing)
                found[library.name]["single"].append(few / (time.perf_counter() - started))
        result["search"][share] = found
        for name, facts in found.items():
            print(
                share,
                name,
                facts["width"],
                facts["recall"],
                *(shown(facts[kind]) for kind in ("batch", "single")),
                flush=True,
            )
        save(result, arguments.out)
    return result


def shown(values: list[float]) -> str:
    return f"{statistics.median(values):,.0f}" if values else "–"


def ratio(found: dict[str, dict[str, Any]], kind: str) -> float:
    """Ours against the best of the others, by rounds: the median."""
    ours = next(facts[kind] for name, facts in found.items() if name.startswith("afmrl"))
    others = [facts[kind] for name, facts in found.items() if not name.startswith("afmrl") and facts[kind]]
    if not ours or not others:
        return float("nan")
    return statistics.median(our / max(their) for our, their in zip(ours, zip(*others, strict=True), strict=True))


def save(result: dict[str, Any], path: Path) -> None:
    for found in result["search"].values():
        for facts in found.values():
            for kind in ("batch", "single"):
                facts[kind] = [round(value, 1) for value in facts[kind]]
    result["against_best"] = {
        share: {kind: round(ratio(found, kind), 3) for kind in ("batch", "single")}
        for share, found in result["search"].items()
    }
    write_json(path, result)


def print_table(result: dict[str, Any]) -> None:
    print(f"{result['rows']:,} x {result['dimension']}, {result['clusters']:,} clusters, {result['cores']} cores")
    print("| library | build, s | MB | rows that pass | width | recall@10 | queries/s, batch | queries/s, single |")
    print("|---|---|---|---|---|---|---|---|")
    for share, found in result["search"].items():
        for name, facts in found.items():
            build = result["build"][name]
            print(
                f"| {name} | {build['build_s']:,.0f} | {build['bytes'] / 1e6:,.0f} | {float(share):.0%} "
                f"| {facts['width']} | {facts['recall']:.3f} | {shown(facts['batch'])} | {shown(facts['single'])} |"
            )
    print("ours / best of the others, median of rounds:", result["against_best"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = ("afmrl", "faiss", "faiss-sq8", "hnswlib", "usearch", "usearch-i8")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--recall", type=float, default=0.98)
    parser.add_argument("--libraries", nargs="+", choices=names, default=list(names))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=RESULTS / "search_cost.json")
    print_table(measure(parser.parse_args()))


if __name__ == "__main__":
    main()
