"""How far the rule-based extractor's key attributes tell products apart: three text sets, training and val splits.

    python benchmarks/extractor_quality.py --data DIR     # Markdown

For each key: the share of offers that have it; how often two offers that both have it agree, if they are of one product
and if the other is one of the twenty offers of another product whose titles are nearest by BM25. For each key, and for
the loss's rule of agreeing attributes with one, two and three shared keys, also what it calls one product among those
pairs: precision and recall (seven to twenty negative pairs to a positive one, which is no catalog's share).
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np

from afmrl.attributes.extractor import AttributeExtractor
from afmrl.data.catalog import read_catalog
from afmrl.retrieval.bm25 import bm25_scores
from common import add_data

SETS = ("wdc_products", "abt_buy", "amazon_google")
NEAREST = 20


def pairs_of(offers: list, scores: np.ndarray) -> list[tuple[int, int, bool]]:
    """Rows of each query with its matches, and with its nearest offers of other products."""
    queries = [row for row, offer in enumerate(offers) if offer.extra["role"] == "query"]
    gallery = np.array([row for row, offer in enumerate(offers) if offer.extra["role"] == "gallery"])
    found = []
    for row, of_query in zip(queries, scores, strict=True):
        same = np.array([offers[other].product_id == offers[row].product_id for other in gallery])
        if not same.any():
            continue
        nearest = [place for place in np.argsort(-of_query, kind="stable") if not same[place]][:NEAREST]
        found += [(row, int(other), True) for other in gallery[same]]
        found += [(row, int(gallery[place]), False) for place in nearest]
    return found


def quality(path: Path) -> str:
    """One set, as Markdown."""
    catalog = read_catalog(path, max_bad=0.05)
    offers = [offer for offer in catalog if offer.extra["split"] in ("train", "val")]
    extractor = AttributeExtractor.learn([offer for offer in offers if offer.extra["split"] == "train"])
    table = extractor.extract_all(offers)
    titles = {role: [offer.title for offer in offers if offer.extra["role"] == role] for role in ("query", "gallery")}
    pairs = pairs_of(offers, bm25_scores(titles["query"], titles["gallery"]))
    both: dict[tuple[str, bool], list[bool]] = defaultdict(list)
    ruled: dict[int, list[tuple[bool, bool]]] = defaultdict(list)
    for left, right, same in pairs:
        found = table[left].compared_with(table[right])
        for key in (*found.agree, *found.differ):
            both[key, same].append(key in found.agree)
        for shared in (1, 2, 3):
            ruled[shared].append((len(found.agree) >= shared and not found.differ, same))
    positives = sum(same for _, _, same in pairs)
    lines = [
        f"**{path.parent.name}**: {len(offers):,} offers, {positives:,} pairs of one product, "
        f"{len(pairs) - positives:,} of others; {len(extractor.brands)} brands.",
        "",
        "| key | offers that have it | agree, one product | agree, others | precision | recall |",
        "|---|---|---|---|---|---|",
    ]
    share = {key: np.mean([key in dict(a.pairs) for a in table]) for key in {k for a in table for k, _ in a}}
    for key in sorted(share, key=lambda key: -share[key]):
        yes, no = both.get((key, True), []), both.get((key, False), [])
        if share[key] < 0.01 or not yes or not no:
            continue
        right = sum(yes)
        lines.append(
            f"| {key} | {share[key]:.2f} | {np.mean(yes):.2f} | {np.mean(no):.2f} | "
            f"{right / max(right + sum(no), 1):.2f} | {right / positives:.2f} |"
        )
    for shared, calls in ruled.items():
        called = [same for call, same in calls if call]
        precision = np.mean(called) if called else float("nan")
        lines.append(f"| agreement, {shared} shared | | | | {precision:.2f} | {sum(called) / positives:.2f} |")
    return "\n".join(lines)


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data(parser)
    given = parser.parse_args()
    print("\n\n".join(quality(given.data / name / "products.jsonl") for name in SETS))


if __name__ == "__main__":
    main()
