"""Words of a text: how numbers and their units are written makes no difference, other numbers are left alone."""

from __future__ import annotations

import pytest

from afmrl.attributes.words import tokenize

ONE_WORD = [
    (["26.800 mAh", "26,800 mAh", "26'800 mAh", "26’800mAh", "26 800 mAh", "26800 mAh"], "26800mah"),
    (["1,5 L", "1.5 L", "1,5l", "1.50 l", "1.5 liter"], "1.5l"),
    (["1.500 g", "1,500 g", "1'500 g", "1500g"], "1500g"),
    (["0,750 kg", "0.75 kg"], "0.75kg"),
    (["1.600 W", "1600 watt", "1,600 W"], "1600w"),
]


@pytest.mark.parametrize(("texts", "word"), ONE_WORD)
def test_one_measured_number_is_one_word(texts: list[str], word: str) -> None:
    assert {text: tokenize(text) for text in texts} == {text: [word] for text in texts}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("driver 14.10.2 g", ["driver", "14.10.2", "g"]),
        ("canon sd990", ["canon", "sd990"]),
        ("bell 1,500 kg", ["bell", "1", "500", "kg"]),
        ("drill 18 500 w", ["drill", "18", "500", "w"]),
        ("flour 1 500 g", ["flour", "1", "500", "g"]),
        ("ssd 64 GB", ["ssd", "64", "gb"]),
        ("ryzen 5600g", ["ryzen", "5600g"]),
        ("series 4000 v. 10", ["series", "4000", "v", "10"]),
        ("tools 7.3 m-audio", ["tools", "7.3", "m", "audio"]),
        ("v1.5 l", ["v1.5", "l"]),
        ("office 2007 and 3,5", ["office", "2007", "and", "3", "5"]),
    ],
)
def test_other_numbers_stay(text: str, words: list[str]) -> None:
    assert tokenize(text) == words
