"""What a reranked search is made of, chosen on validation queries: weight of the first search, veto, words, depth.

    python benchmarks/search_choice.py --data DIR

DIR holds wdc_products, abt_buy, amazon_google and wdc_lspc. The first search is BM25. Prints a Markdown table: R@1 and
MRR in percent, each the mean of the four sets.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np

from afmrl.data.catalog import read_catalog
from afmrl.data.offer import Offer
from afmrl.evaluation.tasks import RetrievalTask, build_task, choose_split
from afmrl.matching.rerank import DEPTH, FOUND_WEIGHT, Reranker
from afmrl.matching.scorer import PairScores, Scorer
from afmrl.matching.table import offer_table
from afmrl.retrieval.exact import top_k_of_scores
from afmrl.retrieval.floors import floor_scores
from common import add_data

SETS = ("wdc_products", "abt_buy", "amazon_google", "wdc_lspc")
WEIGHTS = (0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0)
CANDIDATES, CATALOG = "the candidates", "the whole catalog"


def reciprocal_ranks(name: str, data: Path) -> dict[tuple[str, bool, float, int], np.ndarray]:
    """(words from, whether vetoes count, weight, depth) → (Q,) of one set's validation queries, 0 beyond the depth."""
    catalog = read_catalog(data / name / "products.jsonl", max_bad=0.05)
    task = build_task("fine", choose_split(catalog.offers, "val", ["all"]))
    assert isinstance(task, RetrievalTask)
    gallery, queries = list(task.gallery), [row for row, relevant in enumerate(task.relevant) if len(relevant)]
    scores = floor_scores([task.queries[row] for row in queries], gallery, "bm25")
    with_own = np.flatnonzero(task.own_rows[queries] >= 0)
    scores[with_own, task.own_rows[queries][with_own]] = -np.inf
    found = defaultdict(list)
    whole = WholeTable(gallery, list(task.queries))
    for row, values, columns in zip(queries, *top_k_of_scores(scores, 2 * DEPTH), strict=True):
        hits = np.isin(columns, task.relevant[row])
        nearness = np.maximum(values / max(float(values.max()), 1e-9) - 1, -1)
        for depth in (DEPTH, 2 * DEPTH):
            candidates = [gallery[column] for column in columns[:depth]]
            compared = Reranker().compare(task.queries[row], candidates, values[:depth])
            assert compared is not None
            right = np.arange(1, depth + 1)
            for words, pairs in (
                (CANDIDATES, compared.scorer.score(np.zeros_like(right), right)),
                (CATALOG, whole(task.queries[row], candidates)),
            ):
                for weight in WEIGHTS:
                    for vetoes in (True, False):
                        final = pairs.logits + weight * nearness[:depth] - 1000 * (pairs.vetoed & vetoes)
                        place = np.flatnonzero(hits[np.argsort(-final, kind="stable")])
                        found[words, vetoes, weight, depth].append(1 / (1 + place[0]) if len(place) else 0.0)
    return {key: np.array(of_queries) for key, of_queries in found.items()}


class WholeTable:
    """Scores of a query with its candidates, of one table of the whole set."""

    def __init__(self, gallery: list[Offer], queries: list[Offer]) -> None:
        by_id = {offer.id: offer for offer in (*gallery, *queries)}
        self.rows = {identifier: row for row, identifier in enumerate(sorted(by_id))}
        table = offer_table(by_id[identifier] for identifier in self.rows)
        self.scorer = Scorer(table, Reranker().default.model)

    def __call__(self, query: Offer, candidates: list[Offer]) -> PairScores:
        right = np.array([self.rows[offer.id] for offer in candidates])
        return self.scorer.score(np.full_like(right, self.rows[query.id]), right)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data(parser)
    data = parser.parse_args().data
    sets = [reciprocal_ranks(name, data) for name in SETS]
    print("| words from | vetoes | weight | best | R@1 | MRR |")
    print("|---|---|---|---|---|---|")
    for key in sorted(sets[0]):
        words, vetoes, weight, depth = key
        chosen = (words, vetoes, depth) == (CANDIDATES, True, DEPTH)
        if chosen or weight == FOUND_WEIGHT:
            r1 = 100 * np.mean([(found[key] == 1).mean() for found in sets])
            mrr = 100 * np.mean([found[key].mean() for found in sets])
            last = "last" if vetoes else "as other conflicts"
            print(f"| {words} | {last} | {weight:g} | {depth} | {r1:.1f} | {mrr:.1f} |")


if __name__ == "__main__":
    main()
