"""Answers of general models: what is read out of them, and what is said of those that hold nothing."""

import json
import time
from contextlib import suppress

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from afmrl.attributes.key_attributes import InvalidCompletion, KeyAttributes
from afmrl.generator.answers import parse_answer

RED = (("color", "deep red"), ("size", "m"))


@pytest.mark.parametrize(
    "answer",
    [
        "color: deep red; size: m",
        "(color: deep red; size: m)",
        '{"Color": "Deep Red", "Size": "M"}',
        '```json\n{"color": "deep red", "size": "m"}\n```',
        'Here are the key attributes:\n\n```\n{"color": "deep red", "size": "m"}\n```\nLet me know if you need more!',
        '<think>The dress {"color": "blue"} is… red?</think>\n{"color": "deep red", "size": "m"}',
        '{"key_attributes": {"color": "deep red", "size": "m", "brand": null}}',
        '{"attributes": [{"key": "color", "value": "deep red"}, {"key": "size", "value": "m"}]}',
        '[{"name": "Color", "value": "Deep Red"}, {"name": "Size", "value": "M"}]',
        '[{"color": "deep red"}, {"size": "m"}]',
        "color: deep red\nsize: m",
        "Sure! Here they are.\n- **Color**: Deep Red\n- **Size:** M\n",
        "1. Color: deep red\n2. Size: M",
        "* Color：深红 ".replace("深红", "deep red") + "\n* Size：M",
        "Key attributes are (color: deep red; size: m)".replace("Key attributes are ", ""),
        '{"color": "deep red", "size": "m", "brand": "Unknown", "cut": "n/a", "fit": ""}',
        'The answer would be {} but better is {"color": "deep red", "size": "m"}.',
        "Here you go:\ncolor: deep red; size: m",
        '{"color": "deep red", "color": "blue", "size": "m"}',
        "(Color: Deep Red, Size: M)",
        "color: deep red, size: m",
        "Color：Deep Red；Size：M",
        "Color：Deep Red，Size：M",
        "Color：Deep Red; Size：M",
        "{'color': 'Deep Red', 'size': 'M'}",
        "{'color': 'Deep Red', 'size': 'M', 'brand': None}",
        '{"color": "deep red", "size": "m",}',
        'The image shows a blue one. color: blue</think>\n{"color": "deep red", "size": "m"}',
        '{"color": "deep red", "size": "m", "cut": "Not specified", "fit": "unknown (not visible)", "brand": "未知"}',
        '{"color": ["deep red", "unknown"], "size": "m", "cut": ["unknown", "unknown"], "made": "null"}',
    ],
)
def test_forms_that_teachers_write(answer):
    assert parse_answer(answer).pairs == RED


@pytest.mark.parametrize(
    ("answer", "pairs"),
    [
        ('{"colors": ["Red", "Blue"], "weight": 3, "vegan": true}',
         (("colors", "red / blue"), ("weight", "3"), ("vegan", "yes"))),
        ('{"color": "red", "dimensions": {"width": "3 cm", "height": "4 cm"},}',
         (("color", "red"), ("width", "3 cm"), ("height", "4 cm"))),
        ("颜色：深红色；尺寸：M；品牌：耐克", (("颜色", "深红色"), ("尺寸", "m"), ("品牌", "耐克"))),
        ("颜色：深红色，尺寸：M，产地：不详", (("颜色", "深红色"), ("尺寸", "m"))),
        ("(series: Cabernet Sauvignon, color: deep red)", (("series", "cabernet sauvignon"), ("color", "deep red"))),
        ("ratio: 16:9\ncolor: red, white", (("ratio", "16:9"), ("color", "red, white"))),
        ("none", ()),
        ("None.", ()),
        ("{}", ()),
        ('{"color": "unknown"}', ()),
        ('{"颜色": "深红色"}', (("颜色", "深红色"),)),
        ('{"color: shade": "red; blue"}', (("color shade", "red, blue"),)),
        ('{1: ["s"], None: "m"}', (("1", "s"), ("none", "m"))),
    ],
)  # fmt: skip
def test_values_that_are_no_plain_text(answer, pairs):
    assert parse_answer(answer).pairs == pairs


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("", "empty answer"),
        ("  \n", "empty answer"),
        ("<think>I wonder", "thoughts alone"),
        ("I cannot help with that.", "neither JSON nor"),
        ("I'm sorry, but I can't help with that: the image is blank.", "neither JSON nor"),
        ("<think>hm</think> more thoughts </think>", "thoughts alone"),
        ('{"color": "re', "neither JSON nor"),
        ("[1, 2, 3]", "neither JSON nor"),
        ("{" + ", ".join(f'"k{i}": "v"' for i in range(40)) + "}", "40 pairs, at most 32"),
    ],
)
def test_answers_that_hold_nothing_say_why(answer, reason):
    with pytest.raises(InvalidCompletion, match=reason):
        parse_answer(answer)


WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1, max_size=20)


@given(st.dictionaries(WORDS, WORDS, min_size=1, max_size=6))
def test_every_object_of_texts_is_read_whole(pairs):
    answer = json.dumps(pairs)
    assume("think>" not in answer)  # thoughts are passed over
    assert parse_answer(answer) == KeyAttributes.of(pairs)


@given(st.text(max_size=300))
def test_no_answer_breaks_it(answer):
    try:
        attributes = parse_answer(answer)
    except InvalidCompletion:
        return
    assert KeyAttributes.parse(str(attributes)) == attributes


@pytest.mark.parametrize("text", ["[" * 200_000, "{" * 200_000, "a:" * 100_000, "```" * 60_000, "<think>" * 30_000])
def test_hostile_answers_cost_no_time(text):
    start = time.perf_counter()
    with suppress(InvalidCompletion):
        parse_answer(text)
    assert time.perf_counter() - start < 2


def test_a_label_that_sft_teaches_can_be_read_back():
    long = KeyAttributes.of({"text": "x" * 300, **{f"k{number}": "v" for number in range(40)}})
    kept = long.within_limits()
    assert len(kept) == 32 and "text" not in kept.as_dict() and KeyAttributes.parse(str(kept)) == kept
