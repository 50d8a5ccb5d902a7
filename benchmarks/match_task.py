"""What is measured on a labeled set of `match.py`: labeled pairs, groups, and the thresholds of all systems.

Pairs: the published labeled pairs, fitted on `train`, threshold on `valid`, scored on `test` (wdc_products: gs050).
magento_luma has none: pairs are each offer's ten nearest by TF-IDF, labeled by product. Groups: the whole catalog is
matched; labels are those pairs whose offers are both of the product split train (fit) or val (threshold; where the
measured split is val itself, a fifth of train); B-cubed is of the offers of the split test (val, where there is no
test), whose products no label names. Thresholds are those of the highest F1 on the validation pairs, for all systems;
"default" has no labels and its own.
"""

from __future__ import annotations

from typing import Any
from zlib import crc32

import numpy as np

from afmrl.data.pairs import LabeledPair
from afmrl.evaluation.pairs import score_pairs
from afmrl.matching.labeled_pairs import LabeledRows
from afmrl.retrieval.floors import tfidf_scores
from bcubed import bcubed, bcubed_f1
from match_sets import LabeledSet

RESAMPLES = 1000


class Task:
    """Labeled pairs of a set, for pairs and for groups, and the offers that groups are measured on."""

    def __init__(self, of: LabeledSet) -> None:
        self.of = of
        self.split = "test" if "test" in of.splits else "val"
        pairs = of.pairs or _neighbors(of)
        self.published = LabeledRows.of(pairs, of.rows)
        splits = np.array(of.splits)
        left, right = splits[self.published.left], splits[self.published.right]
        train, val = (left == "train") & (right == "train"), (left == "val") & (right == "val")
        if self.split == "val":
            ids = [of.table.offers[row].product_id for row in self.published.left]
            val = train & np.array([crc32(identifier.encode()) % 5 == 0 for identifier in ids])
            train &= ~val
        names = np.where(train, "train", np.where(val, "validation", "test"))
        self.by_product = LabeledRows(self.published.left, self.published.right, self.published.same, names)
        self.measured = np.flatnonzero(splits == self.split)

    def bcubed(self, groups: np.ndarray) -> dict[str, Any]:
        """B-cubed of the measured offers, with the bootstrap over products; and the largest group."""
        ours, products = groups[self.measured], self.of.products[self.measured]
        precision, recall = bcubed(ours, products)
        point = bcubed_f1(precision, recall)
        draw = np.random.default_rng(0)
        units = np.unique(products, return_inverse=True)[1]
        found = []
        for _ in range(RESAMPLES):
            times = np.bincount(draw.integers(units.max() + 1, size=units.max() + 1), minlength=units.max() + 1)[units]
            p, r = np.average(precision, weights=times), np.average(recall, weights=times)
            found.append(2 * p * r / (p + r))
        low, high = np.quantile(found, [0.025, 0.975])
        return {
            "bcubed_f1": three(point, low, high),
            "bcubed_precision": round(float(precision.mean()), 4),
            "bcubed_recall": round(float(recall.mean()), 4),
            "largest_group": int(np.bincount(np.unique(ours, return_inverse=True)[1]).max()),
        }

    def pairs(self, scores: np.ndarray) -> dict[str, Any]:
        """F1 and recall at 0.99 precision of the published test pairs, threshold from the validation pairs."""
        rows = self.published
        held, test = rows.split == "validation", rows.split == "test"
        clusters = [self.of.table.offers[row].product_id for row in rows.left[test]]
        found = score_pairs(
            scores[test], rows.same[test], clusters, validation=(scores[held], rows.same[held]), num_resamples=RESAMPLES
        )
        kept = ("best_f1", "precision", "recall", "recall@precision=0.99", "average_precision")
        return {k: three(v.mean, v.low, v.high) for k, v in found.metrics.items() if k in kept}


def three(mean: float, low: float, high: float) -> list[float]:
    """A mean and its interval, as results keep them."""
    return [round(float(value), 4) for value in (mean, low, high)]


def _neighbors(of: LabeledSet, k: int = 10) -> list[LabeledPair]:
    titles = [offer.title for offer in of.table.offers]
    likeness = tfidf_scores(titles, titles)
    np.fill_diagonal(likeness, -1)
    near = np.argsort(-likeness, axis=1, kind="stable")[:, :k]
    found = sorted({tuple(sorted((row, int(other)))) for row in range(len(titles)) for other in near[row]})
    offers, pairs = of.table.offers, []
    for a, b in found:
        if of.splits[a] != of.splits[b]:
            continue
        split = of.splits[a] if of.splits[a] != "val" else "test"
        if split == "train" and crc32(offers[a].product_id.encode()) % 5 == 0:
            split = "validation"
        pairs.append(LabeledPair(offers[a], offers[b], bool(of.products[a] == of.products[b]), split))
    return pairs


def best_f1_threshold(scores: np.ndarray, same: np.ndarray) -> float:
    """The score of the highest F1."""
    order = np.argsort(-scores, kind="stable")
    true = np.cumsum(same[order])
    f1 = 2 * true / (np.arange(1, len(order) + 1) + same.sum())
    place = int(np.argmax(f1))
    below = scores[order][place + 1] if place + 1 < len(order) else scores[order][place]
    return float((scores[order][place] + below) / 2)


def union_find(left: np.ndarray, right: np.ndarray, linked: np.ndarray, count: int) -> np.ndarray:
    """Connected components."""
    from scipy import sparse
    from scipy.sparse.csgraph import connected_components

    ones = np.ones(int(linked.sum()), np.int8)
    graph: Any = sparse.coo_matrix((ones, (left[linked], right[linked])), shape=(count, count))
    return connected_components(graph, directed=False)[1]
