"""What a page shows of a ranking: a sample of its queries as cards, and its hardest families."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

import numpy as np

from afmrl.report.views import MAX_CARDS, CardSample, FamilyView, HitView, OfferView, QueryCard

ViewOfRow = Callable[[int], OfferView]
"""Row -> what the page shows of that offer."""
NUM_HITS = 5
MAX_SIBLINGS = 6


def sample_rows(correct: Sequence[bool], num: int, seed: int = 0) -> list[int]:
    """Rows of at most `num` queries, right and wrong ones alike (as far as there are), taking turns.

    >>> rows = sample_rows([True] * 90 + [False] * 10, 8)
    >>> sum(row < 90 for row in rows), len(set(rows))
    (4, 8)
    """
    draw = random.Random(seed)
    wrong = [row for row, is_right in enumerate(correct) if not is_right]
    right = [row for row, is_right in enumerate(correct) if is_right]
    half = num // 2
    num_right = min(len(right), max(half, num - len(wrong)))
    num_wrong = min(len(wrong), num - num_right)
    wrong, right = draw.sample(wrong, num_wrong), draw.sample(right, num_right)
    turns = [row for pair in zip(wrong, right, strict=False) for row in pair]
    both = min(len(wrong), len(right))
    return turns + wrong[both:] + right[both:]


def sample_cards(cards: Sequence[QueryCard], num: int = MAX_CARDS, seed: int = 0) -> CardSample:
    """At most `num` cards, right and wrong answers alike; its `statement` says how many of how many."""
    correct = [card.correct for card in cards]
    rows = sample_rows(correct, num, seed) if len(cards) > num else range(len(cards))
    return CardSample(tuple(cards[row] for row in rows), sum(correct), len(correct) - sum(correct), seed)


def hardest_families(
    families: Sequence[str], correct: Sequence[bool], num: int = 8, *, min_queries: int = 2
) -> list[tuple[str, int, int]]:
    """(family, number of queries, number right) of the families with the lowest share of right answers.

    Of equally hard families the larger comes first, then by name. Families in which every answer is right, and those
    of fewer than `min_queries` queries, are left out.

    >>> hardest_families(["a", "a", "b", "b", "c", "c"], [True, False, False, False, True, True])
    [('b', 2, 0), ('a', 2, 1)]
    """
    counts: dict[str, list[int]] = {}
    for family, is_right in zip(families, correct, strict=True):
        count = counts.setdefault(family, [0, 0])
        count[0] += 1
        count[1] += bool(is_right)
    hard = [(name, n, right) for name, (n, right) in counts.items() if n >= min_queries and right < n]
    return sorted(hard, key=lambda row: (row[2] / row[1], -row[1], row[0]))[:num]


def cards_of(
    ranks: np.ndarray,
    hit_rows: np.ndarray,
    hit_scores: np.ndarray,
    relevant: Sequence[np.ndarray],
    query_view: ViewOfRow,
    gallery_view: ViewOfRow,
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
    ranks: np.ndarray, families: Sequence[str], relevant: Sequence[np.ndarray], gallery_view: ViewOfRow, *, num: int = 6
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
    gallery_view: ViewOfRow,
    num_hits: int,
) -> QueryCard:
    matches = set(relevant.tolist())
    kept = [(int(row), float(score)) for row, score in zip(hit_rows, hit_scores, strict=True) if math.isfinite(score)]
    hits = [HitView(gallery_view(row), score, row in matches) for row, score in kept[:num_hits]]
    match = None
    if matches and not any(hit.correct for hit in hits):
        found = next(((row, score) for row, score in kept[num_hits:] if row in matches), None)
        if found is None:  # beyond what was kept: with several matches it is not known which of them has the rank
            label = "" if len(matches) == 1 else "one of the matches"
            match = HitView(gallery_view(min(matches)), math.nan, True, label)
        else:
            match = HitView(gallery_view(found[0]), found[1], True)
    return QueryCard(query, hits, rank if matches else None, rank == 1, match)
