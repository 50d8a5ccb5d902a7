"""Parts of the report on their own: attributes side by side, the draw of the sample, the families, the colours."""

import re
from importlib import resources

import pytest

from afmrl.attributes import KeyAttributes
from afmrl.evaluation.report import OfferView, QueryCard, hardest_families, sample_cards, sample_rows
from afmrl.evaluation.report_gallery import hit_attributes, query_attributes
from afmrl.evaluation.report_text import text


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
    css = (resources.files("afmrl.evaluation") / "report_assets" / "report.css").read_text(encoding="utf-8")
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
