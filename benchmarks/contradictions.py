"""How often is the right offer first where a look-alike differs in one key, by key and by system?

    python benchmarks/contradictions.py --data DIR          # Markdown

Queries are those that `afmrl dataset contradictions` keeps, of the split test (val, where there is no test), pooled
over SETS; the gallery is the set's whole one, of wdc_lspc that of its split.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np

from afmrl.data.catalog import read_catalog
from afmrl.evaluation.contradictions import write_contradictions
from afmrl.evaluation.metrics import recall_at_k
from afmrl.evaluation.significance import bootstrap_interval
from afmrl.evaluation.slices import CONTRADICTS
from afmrl.retrieval.encoder import OfferEncoder
from afmrl.retrieval.fusion import FusionWeights
from afmrl.retrieval.scorer import FLOOR_READS, FloorScorer, Scorer
from afmrl.terminal import quiet_libraries
from common import add_data, minilm, percent
from search import scored

SETS = (("wdc_products", "val", "all"), ("abt_buy", "test", "all"), ("amazon_google", "test", "all"),
        ("wdc_lspc", "test", "test"))  # fmt: skip
SYSTEMS = ("bm25", "tfidf", "minilm", "small")
FEWEST = 20
"""Queries of a key, over all sets, below which it is counted with the others."""


def scorer_of(system: str) -> Scorer:
    """A floor's scores, or a model's cosines."""
    if system in FLOOR_READS:
        return FloorScorer(system)
    return OfferEncoder.load(str(minilm()) if system == "minilm" else system)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data(parser)
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS))
    given = parser.parse_args()
    quiet_libraries()
    right: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    products: dict[str, list[str]] = defaultdict(list)
    columns = [*given.systems, *(f"{system}, reranked" for system in given.systems if system in ("tfidf", "small"))]
    with tempfile.TemporaryDirectory() as folder:
        for name, split, gallery in SETS:
            path = Path(folder) / f"{name}.jsonl"
            write_contradictions(
                given.data / name / "products.jsonl", path, split=split, gallery_splits=[gallery], max_bad=0.05
            )
            catalog = read_catalog(path)
            for system in given.systems:
                scorer = scorer_of(system)
                for rerank in (False, True):
                    column = f"{system}, reranked" if rerank else system
                    if column not in columns:
                        continue
                    if isinstance(scorer, OfferEncoder):
                        scorer.weights = FusionWeights.of_model(system) if rerank else None
                    found = scored(catalog, scorer, split, rerank=rerank)
                    assert found is not None
                    for row in found.result.counted:
                        query = found.task.queries[row]
                        key = str(query.extra[CONTRADICTS])
                        right[column][key].append(bool(recall_at_k(found.result.ranks[[row]], 1)[0]))
                        if column == columns[0]:
                            products[key].append(f"{name} {query.product_id}")
    common = [key for key, of in sorted(products.items(), key=lambda item: -len(item[1])) if len(of) >= FEWEST]
    others = [key for key in products if key not in common]
    print("| key that differs | queries | " + " | ".join(columns) + " |\n" + "|---" * (len(columns) + 2) + "|")
    for label, keys in [*((key, [key]) for key in common), ("others", others), ("all", list(products))]:
        clusters = [product for key in keys for product in products[key]]
        cells = []
        for column in columns:
            values = np.array([value for key in keys for value in right[column][key]], dtype=float)
            of = bootstrap_interval(values, clusters)
            cells.append(percent(of.mean, of.low, of.high))
        print(f"| {label} | {len(clusters):,} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
