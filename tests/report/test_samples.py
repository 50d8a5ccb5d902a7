"""What a page shows of a ranking: the draw of the sample, its cards, the hardest families."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from afmrl.report.samples import cards_of, families_of, hardest_families, sample_cards, sample_rows
from afmrl.report.views import OfferView, QueryCard


@pytest.mark.parametrize(
    ("right", "wrong", "expected"), [(100, 3, 17), (3, 100, 3), (100, 0, 20), (0, 100, 0), (5, 5, 5)]
)
def test_sample_fills_up_where_one_kind_is_short(right: int, wrong: int, expected: int) -> None:
    correct = [True] * right + [False] * wrong
    rows = sample_rows(correct, 20, seed=1)
    assert len(rows) == len(set(rows)) == min(20, right + wrong)
    assert sum(correct[row] for row in rows) == expected


def test_hardest_families_first() -> None:
    families = ["a"] * 4 + ["b"] * 4 + ["c"] * 2 + ["d"] + ["e"] * 2
    correct = [True, True, True, False] + [False] * 3 + [True] + [False] * 2 + [False] + [True] * 2
    assert hardest_families(families, correct) == [("c", 2, 0), ("b", 4, 1), ("a", 4, 3)]
    assert hardest_families(families, correct, 1, min_queries=3) == [("b", 4, 1)]


def test_sample_takes_right_and_wrong_alike_and_says_so() -> None:
    cards = [QueryCard(OfferView(f"q{n}"), [], None, n % 10 != 0) for n in range(1000)]
    sample = sample_cards(cards, 40, seed=3)
    assert [card.correct for card in sample.cards] == [False, True] * 20
    assert len({card.query.id for card in sample.cards}) == 40
    assert sample.statement.startswith(
        "A sample of 40 of 1,000 queries: 20 of the 900 answered right and 20 of the 100 answered wrong, drawn with "
        "seed 3."
    )
    assert sample == sample_cards(cards, 40, seed=3) != sample_cards(cards, 40, seed=4)
    assert sample_cards(cards[:40], 40).statement == "All 40 queries are shown."


def view(prefix: str) -> Callable[[int], OfferView]:
    return lambda row: OfferView(f"{prefix}{row}")


def test_cards_hold_the_hits_and_the_match_beside_them() -> None:
    ranks = np.array([1, 3, 5, 9, 8])
    rows = np.array([[0, 1, 2, 3, 4], [1, 0, 2, 3, 4], [4, 3, 2, 1, 0], [4, 3, 2, 1, 0], [1, 2, 3, 4, 0]])
    scores = np.tile(np.array([0.9, 0.8, 0.7, 0.6, 0.5]), (5, 1))
    scores[4, 4] = -np.inf  # the query itself, taken out of the ranking
    relevant = [np.array([0]), np.array([2]), np.array([0]), np.array([7, 8]), np.array([], dtype=int)]
    sample = cards_of(ranks, rows, scores, relevant, view("q"), view("g"), num_hits=3)
    assert (sample.total_right, sample.total_wrong, len(sample.cards)) == (1, 4, 5)
    right, third, fifth, far, none = sample.cards
    assert right.correct and right.match is None and [hit.offer.id for hit in right.hits] == ["g0", "g1", "g2"]
    assert [hit.correct for hit in third.hits] == [False, False, True] and third.match is None
    assert fifth.match is not None  # kept, though beyond what is shown: with its score
    assert (fifth.match.offer.id, fifth.match.score, fifth.rank_of_correct) == ("g0", 0.5, 5)
    assert far.match is not None and far.match.label == "one of the matches" and math.isnan(far.match.score)
    assert none.match is None and none.rank_of_correct is None
    full = cards_of(ranks, rows, scores, relevant, view("q"), view("g"), num_hits=5).cards[4]
    assert [hit.offer.id for hit in full.hits] == ["g1", "g2", "g3", "g4"]


def test_cards_look_at_the_sample_alone() -> None:
    looked: list[int] = []

    def query_view(row: int) -> OfferView:
        looked.append(row)
        return OfferView(str(row))

    ranks = np.where(np.arange(10_000) % 10 == 0, 2, 1)
    hits = np.zeros((10_000, 1), dtype=int)
    sample = cards_of(ranks, hits, np.ones((10_000, 1)), [np.array([0])] * 10_000, query_view, view("g"), num_cards=8)
    assert len(sample.cards) == len(looked) == 8 and sum(card.correct for card in sample.cards) == 4
    assert (sample.total_right, sample.total_wrong) == (9_000, 1_000)


def test_families_show_one_offer_a_product() -> None:
    families = families_of(
        np.array([2, 1, 3, 1]),
        ["a", "a", "a", "b"],
        [np.array([5, 6]), np.array([5]), np.array([7]), np.array([1])],
        view("g"),
    )
    assert [(f.name, f.num_queries, f.num_right) for f in families] == [("a", 3, 1)]
    assert [offer.id for offer in families[0].offers] == ["g5", "g7"]
