"""Cheap ways to a high reward, smaller than benchmarks/reward_adversaries.py and on a hardly trained embedder."""

import importlib

import numpy as np
import pytest

from afmrl.attributes.key_attributes import InvalidCompletion, KeyAttributes
from afmrl.data.catalog import read_catalog
from afmrl.data.offer import Offer
from afmrl.embedder.embedder import Embedder
from afmrl.rewards.truth import true_pairs
from afmrl.training.config import RARStage
from afmrl.training.recipe import CatalogSection, TargetsSection
from afmrl.training.splits import Split, split_offers


@pytest.fixture(scope="module")
def benchmark():
    return importlib.import_module("reward_adversaries")


@pytest.fixture
def case(benchmark):
    gold = KeyAttributes.of({"color": "red", "cut": "wide"})
    other = KeyAttributes.of({"color": "blue", "cut": "wide"})
    query = Offer("q1", "red dress", category="dress", product_id="p1")
    answer = Offer("g7", "dress, wine red", category="dress", product_id="p1")
    values = {"color": ["blue", "red"], "cut": ["wide"]}
    return benchmark.Case(query, gold, answer, KeyAttributes.of({"color": "wine red"}), other, values)


def read(text):
    try:
        return KeyAttributes.parse(text)
    except InvalidCompletion:
        return None


def test_the_families_are_what_they_say(benchmark, case):
    written = {name: write(case) for name, write in benchmark.ADVERSARIES.items()}
    assert len(written) >= 20 and len(set(written.values())) == len(written)
    assert "g7" in written["needs the gallery: answer's id"]
    assert "wine red" in written["needs the gallery: answer's title"]
    assert written["one key a hundred times"].count("color") == 100
    assert len(written["thousands of words"].split()) > 5000
    assert "<|im_end|>" in written["control tokens"]
    # all others are valid lists: they are not turned away at the door
    assert {name for name, text in written.items() if read(text) is None} == {
        "one key a hundred times", "thousands of words", "no list at all", "gold without its colons",
    }  # fmt: skip


def test_of_what_they_write_only_gold_is_shown_to_the_embedder(benchmark, case):
    for name, write in benchmark.ADVERSARIES.items():
        attributes = read(write(case))
        if attributes is not None:
            assert set(true_pairs(attributes, case.gold)) <= set(case.gold), name
    tricks = "color: r\u200bed; с\u043elor: red; color again: red; ｃut: ｗide"
    assert str(true_pairs(KeyAttributes.parse(tricks), case.gold)) == "cut: wide"  # full width is the same letter


def test_gallery_offers_are_described_by_their_own_labels(benchmark):
    rows = [("a0", "a", "f"), ("a1", "a", "f"), ("b0", "b", "f"), ("b1", "b", "f"), ("c0", "c", "g"), ("c1", "c", "g")]
    offers = [Offer(name, f"title {name}", product_id=product) for name, product, _ in rows]
    labels = [KeyAttributes.of({"word": offer.id}) for offer in offers]
    queries, gallery, relevant = [0, 2, 4], [1, 3, 5], [np.array([place]) for place in range(3)]
    split = Split(offers, labels, queries, gallery, relevant, ["f", "f", "g"])
    cases = benchmark.gallery_cases_of(split)
    assert [case.query.id for case in cases] == ["a1", "b1", "c1"]
    assert [str(case.gold) for case in cases] == ["word: a1", "word: b1", "word: c1"]
    assert [case.answer.id for case in cases] == ["a0", "b0", "c0"]
    assert [str(case.answer_attributes) for case in cases] == ["word: a0", "word: b0", "word: c0"]
    assert [str(case.other) for case in cases] == ["word: b0", "word: a0", "word: a0"]  # of the family, else the next
    assert list(benchmark.described_of(split).items()) == [(0, 0), (1, 1), (2, 2)]


@pytest.mark.slow
def test_none_that_a_generator_can_write_earns_more_than_gold(benchmark, quickstart):
    """What needs the gallery is left to the benchmark and its trained embedder: after the twelve steps of this one,
    naming just the true keys that the answer shows too is worth more than naming all (reciprocal rank +0.03)."""
    path = quickstart / "catalog" / "catalog.jsonl"
    section = CatalogSection(path=str(path), targets=TargetsSection(column="visible_attributes"))
    splits = split_offers(read_catalog(path).offers, section)
    embedder = Embedder.from_pretrained(quickstart / "stages" / "agcl" / "model")
    defaults = {
        name: of for name, of in benchmark.settings_of(RARStage(), k=5).items() if name.startswith("confirmed pairs")
    }
    assert len(defaults) == 5
    parts = [
        benchmark.duel(embedder, split, [split.targets[row] for row in split.gallery], defaults)
        for split in (splits["reward"], splits["test"])
    ]
    for setting in defaults:
        gold = np.concatenate([part[setting]["gold"] for part in parts])
        assert len(gold) == 80
        for family in (name for name in benchmark.ADVERSARIES if not name.startswith("needs the gallery")):
            earned = np.concatenate([part[setting][family] for part in parts])
            assert benchmark.upper_bound(earned - gold) <= 0, (setting, family)


def test_the_bound_is_one_sided(benchmark):
    draw = np.random.default_rng(0)
    difference = draw.normal(-1, 1, 400)
    bound = benchmark.upper_bound(difference)
    assert bound == pytest.approx(difference.mean() + 1.645 * difference.std() / 20, abs=0.01)
