"""Invented values: title and targets still say the same, in words that nobody knows."""

import importlib.util
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.attributes.words import tokenize
from afmrl.data.catalog import read_catalog
from afmrl.data.offer import Offer
from conftest import ROOT, shared_data

spec = importlib.util.spec_from_file_location("invented_values", ROOT / "benchmarks" / "invented_values.py")
benchmark = importlib.util.module_from_spec(spec)
spec.loader.exec_module(benchmark)
with_invented_values = benchmark.with_invented_values

OFFER = Offer("1", "SEAPESCA Metal VIB 55mm 11g Lure YA180", category="Lure")
LABEL = KeyAttributes.of({"brand": "seapesca", "length": "55mm", "model": "ya180", "color": "red"})


def several(share, count=40):
    return [with_invented_values(OFFER, LABEL, share, (0, draw)) for draw in range(count)]


def test_none_all_or_a_share():
    assert several(0.0) == [(OFFER, LABEL)] * 40
    assert all(title.title != OFFER.title for title, _ in several(1.0))
    changed = sum(offer.title != OFFER.title for offer, _ in several(0.5, 400))
    assert 150 < changed < 250
    draws, targets = benchmark.draws_with_invented_values([OFFER], [LABEL], 1.0, 40)
    assert list(zip(draws, targets, strict=True)) == several(1.0)


def test_title_and_label_say_the_same_and_keep_their_form():
    brands = set()
    for offer, label in several(1.0):
        values = label.as_dict()
        words = offer.title.split()
        assert list(values) == ["brand", "length", "model", "color"]
        assert (words[0], words[3], words[6]) == (values["brand"], values["length"], values["model"])
        assert re.fullmatch(r"\d\dmm", values["length"]), "a number takes other digits, two letters stay"
        assert re.fullmatch(r"ya\d{3}", values["model"])
        assert values["color"] == "red", "what the title does not hold stays"
        assert words[1:3] == ["metal", "vib"], "and so does what no label says"
        assert (offer.id, offer.category) == ("1", "Lure")
        brands.add(values["brand"])
    assert len(brands) > 15


def test_the_same_seeds_give_the_same():
    assert several(1.0) == several(1.0)
    assert several(1.0)[0] != several(1.0)[1]


WORDS = st.lists(st.sampled_from(["red", "king", "fish king", "12 cm", "a-1", "红色", "cm"]), min_size=1, max_size=6)


@settings(max_examples=200)
@given(WORDS, st.data())
def test_what_stood_in_the_title_stands_there_still(words, data):
    title = " ".join(words)
    chosen = data.draw(st.lists(st.sampled_from(words), max_size=3, unique=True))
    label = KeyAttributes.of([(f"k{i}", value) for i, value in enumerate(chosen)])
    offer, new = with_invented_values(Offer("1", title), label, 1.0, (data.draw(st.integers(0, 99)),))
    assert [key for key, _ in new] == [key for key, _ in label]
    assert all(value in offer.title for _, value in new)


@pytest.mark.parametrize("name", ["oa_mine", "ae110k"])
def test_real_titles_keep_their_values(name):
    offers = list(read_catalog(shared_data(name) / "products.jsonl"))[:300]
    before = same = changed = 0
    for row, offer in enumerate(offers):
        label = KeyAttributes.of(offer.attributes)
        new_offer, new = with_invented_values(offer, label, 1.0, (row,))
        words = set(tokenize(offer.title))
        before += sum(words.issuperset(tokenize(value)) for _, value in label)
        words = set(tokenize(new_offer.title))
        same += sum(words.issuperset(tokenize(value)) for _, value in new)
        changed += sum(value != dict(label.pairs)[key] for key, value in new)
    total = sum(len(KeyAttributes.of(offer.attributes)) for offer in offers)
    assert before >= 0.95 * total
    assert same >= before, "what stood in the title stands there still"
    assert 0.2 * total < changed < 0.8 * total
