"""Parts of the report on their own: attributes side by side, the draw of the sample, the families, the colors."""

import math
import re
from collections.abc import Callable
from importlib import resources

import numpy as np
import pytest
from afmrl.evaluation.tables import metric_label, points
from afmrl.report.cards import cards_of, families_of
from afmrl.report.gallery import hit_attributes, query_attributes, shown_hit
from afmrl.report.report import OfferView, QueryCard, hardest_families, sample_cards, sample_rows

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.data.offer import Offer
from afmrl.report.text import text


def words(html: str) -> str:
    """Text of a piece of HTML."""
    return " ".join(re.sub(r"<[^>]*>", "", html.replace("</li>", " ")).split())


def test_attributes_agreeing_differing_and_missing() -> None:
    query = KeyAttributes.of({"color": "red", "size": "m", "brand": "x"})
    html = hit_attributes(query, KeyAttributes.of({"color": "blue", "size": "m", "cut": "slim"}))
    assert re.findall(r'<li class="(\w+)">', html) == ["ne", "one", "one", "eq"]
    shown = words(html)
    assert "≠ differs: color blue query: red" in shown
    assert "+ only here: cut slim" in shown and "− only the query has: brand x" in shown and "= agrees: size m" in shown
    assert "≠" not in hit_attributes(KeyAttributes(), query)


def test_a_hit_of_which_nothing_is_known_does_not_differ() -> None:
    query = KeyAttributes.of({"color": "red"})
    assert words(hit_attributes(query, KeyAttributes())) == "no attributes"
    assert hit_attributes(KeyAttributes(), KeyAttributes()) == "" and query_attributes(OfferView("q")) == ""


def test_the_sellers_attributes_stand_in_where_none_are_given() -> None:
    offer = Offer("1", title="t", attributes={"Color": "Red"})
    assert OfferView.of(offer).attributes.as_dict() == {"color": "red"}
    assert not OfferView.of(offer, KeyAttributes()).attributes  # a generator that wrote nothing
    assert not OfferView.of(offer, None, KeyAttributes.of({"color": "red"})).attributes  # labels judge what is written


def test_what_a_seller_wrote_is_told_apart_from_what_was_generated() -> None:
    offer = Offer("1", title="t", attributes={"Color": "Red"})
    sellers, generated = OfferView.of(offer), OfferView.of(offer, KeyAttributes.of({"color": "blue"}))
    beside = words(shown_hit(generated, sellers))
    assert beside == "the seller says: color red"  # and is no difference: no one was asked the same
    assert words(shown_hit(sellers, sellers)).startswith("the seller says") and "agrees" in words(
        shown_hit(sellers, sellers)
    )
    assert "≠ differs: color blue" in words(
        shown_hit(OfferView.of(offer, KeyAttributes.of({"color": "red"})), generated)
    )
    assert words(query_attributes(sellers)) == "the seller says: color red"
    assert words(query_attributes(generated)) == "color blue"
    assert words(shown_hit(OfferView.of(Offer("2", "t")), generated)) == "color blue"


def test_query_attributes_are_held_against_labels() -> None:
    written = KeyAttributes.of({"color": "red", "size": "m", "cut": "slim"})
    labels = KeyAttributes.of({"color": "blue", "size": "m", "brand": "x"})
    shown = words(query_attributes(OfferView("q", attributes=written, visible=labels)))
    assert "✗ wrong: color red label: blue" in shown and "✓ right: size m" in shown
    assert "? not to be seen or read: cut slim" in shown and "− not written: brand x missed" in shown
    assert "✗" not in query_attributes(OfferView("q", attributes=written))


@pytest.mark.parametrize(
    ("right", "wrong", "expected"), [(100, 3, 17), (3, 100, 3), (100, 0, 20), (0, 100, 0), (5, 5, 5)]
)
def test_sample_fills_up_where_one_side_is_short(right: int, wrong: int, expected: int) -> None:
    correct = [True] * right + [False] * wrong
    rows = sample_rows(correct, 20, seed=1)
    assert len(rows) == len(set(rows)) == min(20, right + wrong)
    assert sum(correct[row] for row in rows) == expected


def test_hardest_families_first() -> None:
    families = ["a"] * 4 + ["b"] * 4 + ["c"] * 2 + ["d"] + ["e"] * 2
    correct = [True, True, True, False] + [False] * 3 + [True] + [False] * 2 + [False] + [True] * 2
    assert hardest_families(families, correct) == [("c", 2, 0), ("b", 4, 1), ("a", 4, 3)]
    assert hardest_families(families, correct, 1, min_queries=3) == [("b", 4, 1)]


def _luminance(color: str) -> float:
    color = color.lstrip("#")
    color = "".join(c * 2 for c in color) if len(color) == 3 else color
    channels = [int(color[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def test_contrast_in_light_dark_and_print() -> None:
    css = (resources.files("afmrl.report") / "report.css").read_text(encoding="utf-8")
    palettes = [
        dict(re.findall(r"--([\w-]+): (#[0-9a-f]+)", block)) for block in re.findall(r":root \{(.*?)\}", css, re.S)
    ]
    assert len(palettes) == 3
    pairs = [(ink, paper) for ink in ("ink", "soft", "accent", "right", "wrong") for paper in ("page", "paper", "tint")]
    pairs += [("soft", "right-tint"), ("right", "right-tint"), ("ink", "right-tint"), ("differ", "differ-tint")]
    for palette in palettes:
        assert set(palette) == set(palettes[0])
        for ink, paper in pairs:
            light, dark = sorted((_luminance(palette[ink]), _luminance(palette[paper])), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (ink, paper, palette[ink], palette[paper])
        for line in (f"s{number}" for number in range(8)):  # a chart's lines are no text: 3 to 1
            light, dark = sorted((_luminance(palette[line]), _luminance(palette["paper"])), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 3, (line, palette[line])


def test_text_is_cut_and_cleaned() -> None:
    assert text("a" * 50, 10) == "a" * 9 + "…"
    assert text("  a\n\tb\x00\x9b ") == "a b"
    assert text("<a href='x'>&") == "&lt;a href=&#x27;x&#x27;&gt;&amp;"


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


def test_names_and_signs_of_numbers() -> None:
    names = ["recall@1", "hit_rate@5", "recall_fraction@10", "map@5", "ndcg@10", "prec@1", "nmi", "best_f1", "accuracy"]
    assert [metric_label(name) for name in names] == [
        "R@1", "hit rate@5", "recall fraction@10", "mAP@5", "NDCG@10", "Prec@1", "NMI", "best F1", "accuracy"
    ]  # fmt: skip
    assert [points(value) for value in (0.05, -0.05, 0.0, -0.0004, math.nan)] == ["+5.0", "−5.0", "0.0", "0.0", "–"]
