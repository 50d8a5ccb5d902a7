"""The small model's text tower on sets of real titles: alone and reranked; and trained without each set.

    python benchmarks/small_text_scores.py run --models bm25 tfidf minilm small=DELTA --data DIR
    python benchmarks/small_text_scores.py run --models without-abt_buy=DELTA --sets abt_buy --searches plain
    python benchmarks/small_text_scores.py table                    # Markdown, with intervals
    python benchmarks/small_text_scores.py choose --models small=DELTA    # weights of words and of the first search

DELTA is a file of small_text.py. Queries are those of the split with a match in the gallery. wdc_products has no test
split: its val split had no part in any choice.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from afmrl.data.catalog import read_catalog
from afmrl.embedder.embedder import Embedder
from afmrl.embedder.small import build as small
from afmrl.embedder.small.text_delta import add_text_delta
from afmrl.evaluation.metrics import recall_at_k
from afmrl.evaluation.significance import bootstrap_interval
from afmrl.matching.rerank import DEPTH, VETOED, Reranker
from afmrl.retrieval.encoder import OfferEncoder
from afmrl.retrieval.exact import top_k_of_scores
from afmrl.retrieval.fusion import BM25_WEIGHT, FusionWeights
from afmrl.retrieval.scorer import FLOOR_READS, FloorScorer, Scorer
from afmrl.terminal import quiet_libraries
from cells import Cells
from common import add_data, minilm, percent, run_and_table
from search import PLAIN, RERANKED, pooled, record_of, scored
from small_text import CHOSEN_ON, task_of

SCORED = (
    ("wdc_products", "val", "all"),
    ("abt_buy", "test", "all"),
    ("amazon_google", "test", "all"),
    ("wdc_lspc", "test", "test"),
)
"""Sets, splits of the queries, and of the gallery."""
BM25_WEIGHTS, FOUND_WEIGHTS = (0.0, 0.1, 0.3, 1.0), (0.0, 3.0, 6.0, 10.0, 15.0, 25.0)
MOST_QUERIES = 250
MODELS = ("bm25", "tfidf", "minilm")
POOLED = ("wdc_products", "abt_buy", "amazon_google")
KEY = ("set", "gallery", "model", "search")


def with_delta(delta: str) -> Embedder:
    """MiniLM with a delta; without one as it comes. On text it is the small model."""
    embedder = Embedder.from_pretrained(minilm())
    if delta:
        add_text_delta(embedder.model[0].model, delta)
    return embedder


def run(data: Path, cells: Cells, models: Sequence[str], sets: Sequence[str], searches: Sequence[str]) -> None:
    """Score models on SCORED; what is there already stays.

    Args:
        models: floors, "minilm", or NAME=DELTA.
    """
    done = set(cells.keys())
    catalogs = {name: read_catalog(data / name / "products.jsonl", max_bad=0.05) for name in sets}
    for model in models:
        label, _, delta = model.partition("=")
        scorer: Scorer = FloorScorer(label) if label in FLOOR_READS else OfferEncoder(with_delta(delta))
        for name, split, gallery in SCORED:
            for search in searches:
                if name not in sets or (name, gallery, label, search) in done:
                    continue
                if isinstance(scorer, OfferEncoder):  # what it has embedded stays
                    weight = small.BM25_WEIGHT if delta else BM25_WEIGHT
                    scorer.weights = None if search == PLAIN else FusionWeights(weight)
                found = scored(catalogs[name], scorer, split, rerank=search == RERANKED, gallery=gallery)
                assert found is not None
                record = record_of(found)
                cells.put((name, gallery, label, search), record)
                print(
                    name, gallery, label, search, f"R@1 {100 * recall_at_k(record['ranks'], 1).mean():.1f}", flush=True
                )


def choose(data: Path, model: str) -> str:
    """Markdown: R@1 on val splits, by the weights of BM25 in the first search and of the first search in reranking."""
    label, _, delta = model.partition("=")
    embedder = with_delta(delta)
    firsts: dict[tuple[float, float | None], list[float]] = defaultdict(list)
    for name, within in CHOSEN_ON.items():
        task = task_of(data, name, "val", within=within)
        queries = task.queries[:: -(-len(task.queries) // MOST_QUERIES)]
        dense = embedder.encode(queries) @ embedder.encode(task.gallery).T
        right: dict[tuple[float, float | None], list[bool]] = defaultdict(list)
        for bm25 in BM25_WEIGHTS:
            scores = FusionWeights(bm25).fuse_offers(dense, queries, task.gallery, None, None)
            own = np.array([query.id for query in queries])[:, None] == np.array([o.id for o in task.gallery])[None]
            for query, values, columns in zip(
                queries, *top_k_of_scores(np.where(own, -np.inf, scores), DEPTH), strict=True
            ):
                candidates = [task.gallery[column] for column in columns]
                hits = np.array([candidate.product_id == query.product_id for candidate in candidates])
                right[bm25, None].append(bool(hits[0]))
                compared = Reranker().compare(query, candidates, values)
                assert compared is not None
                places = np.arange(1, len(candidates) + 1)
                pairs = compared.scorer.score(np.zeros_like(places), places)
                nearness = np.maximum(values / max(float(values.max()), 1e-9) - 1, -1)
                for weight in FOUND_WEIGHTS:
                    final = pairs.logits + weight * nearness - VETOED * pairs.vetoed
                    right[bm25, weight].append(bool(hits[final.argmax()]))
        for key, of in right.items():
            firsts[key].append(float(np.mean(of)))
    lines = [
        f"| {label}: BM25 | first search | {' | '.join(CHOSEN_ON)} | mean |",
        "|---|---|" + "---|" * (len(CHOSEN_ON) + 1),
    ]
    for (bm25, found), of_sets in firsts.items():
        shown = [f"{100 * value:.1f}" for value in (*of_sets, float(np.mean(of_sets)))]
        lines.append(f"| {bm25:g} | {'not reranked' if found is None else f'{found:g}'} | {' | '.join(shown)} |")
    return "\n".join(lines)


def table(cells: Cells) -> str:
    """Markdown: R@1 with 95 % intervals over products."""
    records = {(r["set"], r["gallery"], r["model"], r["search"]): r for r in cells.all()}
    lines = ["| set | gallery | model | queries | alone | reranked |", "|---|---|---|---|---|---|"]
    for name, gallery in [*((name, gallery) for name, _, gallery in SCORED), ("pooled", "all")]:
        for model in dict.fromkeys(key[2] for key in records):
            shown, count = [], 0
            for search in (PLAIN, RERANKED):
                keys = [(of, gallery, model, search) for of in (POOLED if name == "pooled" else (name,))]
                if not all(key in records for key in keys):
                    shown.append("")
                    continue
                ranks, clusters, _ = pooled([records[key] for key in keys])
                of = bootstrap_interval(recall_at_k(ranks, 1), clusters)
                shown.append(percent(of.mean, of.low, of.high))
                count = len(ranks)
            if count:
                lines.append("| " + " | ".join([name, gallery, model, f"{count:,}", *shown]) + " |")
    return "\n".join(lines)


def main() -> None:
    """`run`, `table` or `choose`."""
    parser, commands, running, shown = run_and_table(__doc__, "small_text")
    choosing = commands.add_parser("choose", help="score weights on val splits")
    for command in (running, choosing):
        add_data(command)
        command.add_argument("--models", nargs="+", default=list(MODELS), help="floors, minilm, or NAME=DELTA")
    running.add_argument("--sets", nargs="+", default=list(dict.fromkeys(name for name, _, _ in SCORED)))
    running.add_argument("--searches", nargs="+", default=[PLAIN, RERANKED])
    given = parser.parse_args()
    quiet_libraries()
    if given.command == "run":
        run(given.data, Cells(given.results, *KEY), given.models, given.sets, given.searches)
    elif given.command == "table":
        print(table(Cells(given.results, *KEY)))
    else:
        for model in given.models:
            print(choose(given.data, model))


if __name__ == "__main__":
    main()
