import pytest
from hypothesis import given
from hypothesis import strategies as st

from afmrl.attributes.key_attributes import MAX_PAIRS, InvalidCompletion, KeyAttributes

WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1, max_size=20)


@given(st.dictionaries(WORDS, WORDS, max_size=8))
def test_what_is_written_parses_back(pairs):
    attributes = KeyAttributes.of(pairs)
    assert KeyAttributes.parse(str(attributes)) == attributes


def test_values_are_normalized_and_unknown_ones_left_out():
    attributes = KeyAttributes.of({"Color": "  Deep　ＲＥＤ ", "size": "Unknown", "cut": ""})
    assert attributes.pairs == (("color", "deep red"),)


def test_parse_reads_the_papers_form():
    parsed = KeyAttributes.parse("(series: Cabernet Sauvignon; color: deep red)")
    assert parsed.as_dict() == {"series": "cabernet sauvignon", "color": "deep red"}


def test_none_is_an_answer_and_empty_is_not():
    assert KeyAttributes.parse("none") == KeyAttributes()
    with pytest.raises(InvalidCompletion, match="empty"):
        KeyAttributes.parse("  ")


@pytest.mark.parametrize(
    ("completion", "reason"),
    [
        ("color red", "is not 'key: value'"),
        ("color: red; size", "is not 'key: value'"),
        ("color: ; size: m", "is not 'key: value'"),
        ("color: red; color: red", "appears twice"),
        ("; ".join(f"k{i}: v" for i in range(MAX_PAIRS + 1)), "pairs"),
        ("color: " + "x" * 300, "over 200 characters"),
    ],
)
def test_parse_says_why_a_completion_is_invalid(completion, reason):
    with pytest.raises(InvalidCompletion, match=reason):
        KeyAttributes.parse(completion)


def test_compare_keeps_the_sides_apart():
    left = KeyAttributes.of({"brand": "a", "color": "red", "size": "m"})
    right = KeyAttributes.of({"color": "blue", "brand": "a", "cut": "low"})
    result = left.compared_with(right)
    assert (result.agree, result.differ, result.only_left, result.only_right) == (
        ("brand",),
        ("color",),
        ("size",),
        ("cut",),
    )
