"""The benchmark of distillation: how it counts, and its plain baseline, by hand."""

import importlib

import pytest

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.data.offer import Offer


@pytest.fixture(scope="module")
def distillation():
    return importlib.import_module("distillation")


def offer(number, title, attributes, absent=()):
    return Offer(str(number), title, category="Lure", attributes=attributes, extra={"absent_attributes": list(absent)})


def test_how_it_counts(distillation):
    offers = [
        offer(1, "a", {"Brand": "Acme", "Weight": "0.5 kg"}, absent=["Color"]),
        offer(2, "b", {"Brand": "Acme"}),
        offer(3, "c", {"Color": "Red"}),
    ]
    written = [
        KeyAttributes.of({"brand": "acme", "weight": "500 g", "color": "red"}),  # two right; a color that is absent
        KeyAttributes.of({"brand": "other", "color": "blue"}),  # a wrong brand; a color that nobody looked for
        KeyAttributes(),
    ]
    scores = distillation.score(offers, written)
    # strict: 2 right of 5 written and 4 gold; annotated: the second color is passed over
    assert scores["strict"]["micro"] == {"precision": 0.4, "recall": 0.5, "f1": 0.4444}
    assert scores["annotated"]["micro"] == {"precision": 0.5, "recall": 0.5, "f1": 0.5}
    assert scores["strict"]["by_key"]["brand"] == {"precision": 0.5, "recall": 0.5, "f1": 0.5, "gold": 2}
    assert scores["strict"]["by_key"]["color"]["precision"] == 0.0
    low, high = scores["strict"]["micro_f1_interval"]
    assert 0 <= low < 0.4444 < high <= 1


def test_the_baseline_copies_the_longest_known_value(distillation):
    train = [
        offer(1, "Fish King 5g", {"Brand": "Fish King", "Weight": "5g"}),
        offer(2, "King lure", {"Brand": "King"}),
        offer(3, "soft lure 5g king size", {"Kind": "soft lure"}),
        offer(4, "5g something", {}),
        offer(5, "5g other thing", {}),
    ]
    test = [offer(6, "FISH KING soft lure, 5g", {}), offer(7, "Fisher Kings 15g", {})]
    copied = distillation.copier(train)(test)
    assert copied[0].as_dict() == {"brand": "fish king", "weight": "5g", "kind": "soft lure"}
    assert len(copied[1]) == 0, "whole words alone"
    # 5g was the weight in one of four titles that hold it
    assert "weight" not in distillation.copier(train, sure=0.5)(test)[0].as_dict()
    other = [Offer("8", "Fish King", category="Shoes")]
    assert len(distillation.copier(train)(other)[0]) == 0, "of its own category"


def test_seen_and_new_values_are_told_apart(distillation):
    train = [offer(1, "x", {"Brand": "Acme"})]
    offers = [offer(2, "x", {"Brand": "ACME"}), offer(3, "x", {"Brand": "Zorro"}), offer(4, "x", {"Brand": "Bolt"})]
    written = [KeyAttributes.of({"brand": value}) for value in ("acme", "zorro", "acme")]
    assert distillation.seen_and_new(train, offers, written) == {
        "seen": {"gold": 1, "recall": 1.0}, "new": {"gold": 2, "recall": 0.5},
    }  # fmt: skip
