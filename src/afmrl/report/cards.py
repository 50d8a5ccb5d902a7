"""What of a ranking goes on the report: a sample of its queries as cards, its hardest families."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from afmrl.report.report import (
    MAX_CARDS,
    CardSample,
    FamilyView,
    HitView,
    OfferView,
    QueryCard,
    hardest_families,
    sample_rows,
)

View = Callable[[int], OfferView]
"""Row -> what the page shows of that offer."""
NUM_HITS = 5
MAX_SIBLINGS = 6


def cards_of(
    ranks: np.ndarray,
    hit_rows: np.ndarray,
    hit_scores: np.ndarray,
    relevant: Sequence[np.ndarray],
    query_view: View,
    gallery_view: View,
    *,
    num_cards: int = MAX_CARDS,
    num_hits: int = NUM_HITS,
    seed: int = 0,
) -> CardSample:
    """Cards of a sample of the queries, right and wrong answers alike; only what is drawn is looked at.

    Hits without a finite score are left out: an offer that was taken out of the ranking (the query itself) has none.

    Shape:
        ranks (Q,) of the best relevant offer, from 1; hit_rows, hit_scores (Q, K) best first; relevant: Q arrays of
        gallery rows.
    """
    correct = [bool(rank == 1) for rank in ranks]
    rows = sample_rows(correct, num_cards, seed) if len(correct) > num_cards else range(len(correct))
    cards = tuple(
        _card(int(ranks[row]), hit_rows[row], hit_scores[row], relevant[row], query_view(row), gallery_view, num_hits)
        for row in rows
    )
    return CardSample(cards, sum(correct), len(correct) - sum(correct), seed)


def families_of(
    ranks: np.ndarray, families: Sequence[str], relevant: Sequence[np.ndarray], gallery_view: View, *, num: int = 6
) -> list[FamilyView]:
    """The families whose queries fared worst, each with some of its offers in the gallery.

    Shape:
        ranks (Q,), families: Q names, relevant: Q arrays of gallery rows.
    """
    views = []
    for name, num_queries, num_right in hardest_families(families, [bool(rank == 1) for rank in ranks], num):
        of_queries = [relevant[row][:1].tolist() for row, family in enumerate(families) if family == name]
        siblings = dict.fromkeys(row for of_query in of_queries for row in of_query)  # one offer a product, in order
        views.append(FamilyView(name, num_queries, num_right, [gallery_view(row) for row in siblings][:MAX_SIBLINGS]))
    return views


def _card(
    rank: int,
    hit_rows: np.ndarray,
    hit_scores: np.ndarray,
    relevant: np.ndarray,
    query: OfferView,
    gallery_view: View,
    num_hits: int,
) -> QueryCard:
    matches = set(relevant.tolist())
    kept = [(int(row), float(score)) for row, score in zip(hit_rows, hit_scores, strict=True) if math.isfinite(score)]
    hits = [HitView(gallery_view(row), score, row in matches) for row, score in kept[:num_hits]]
    match = None
    if matches and not any(hit.correct for hit in hits):
        found = next(((row, score) for row, score in kept[num_hits:] if row in matches), None)
        if found is None:  # beyond what was kept: with several matches nobody knows which of them has the rank
            label = "" if len(matches) == 1 else "one of the matches"
            match = HitView(gallery_view(min(matches)), math.nan, True, label)
        else:
            match = HitView(gallery_view(found[0]), found[1], True)
    return QueryCard(query, hits, rank if matches else None, rank == 1, match)
