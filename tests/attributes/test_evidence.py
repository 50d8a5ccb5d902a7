"""Evidence: what an offer says of itself, however it is spelled; and when a generator is doubted."""

import pytest

from afmrl.attributes.evidence import Evidence, OfferText, usual_share
from afmrl.attributes.extractor import AttributeExtractor
from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.data.catalog import read_catalog
from afmrl.data.offer import Offer
from conftest import shared_data

BOOT = Offer(
    "1",
    "Bergfex Wanderstiefel MX-1000, schwarz, wasserdicht",
    description="Striped laces. 1.5 kg a pair, shaft of 20 cm.",
    attributes={"Material": "Leather", "fit": "n/a"},
)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("brand", "bergfex"),
        ("model", "mx1000"),
        ("color", "black"),  # the title says it in German
        ("pattern", "stripe"),
        ("weight", "1500 g"),
        ("height", "200 mm"),
        ("material", "leather"),
    ],
)
def test_what_the_offer_says_has_evidence(key, value):
    assert OfferText(BOOT).supports(key, value)


@pytest.mark.parametrize(
    ("key", "value"),
    [("type", "dress"), ("color", "red"), ("weight", "15 g"), ("model", "mx2000"), ("length", "mini"), ("fit", "n")],
)
def test_what_it_does_not_say_has_none(key, value):
    assert not OfferText(BOOT).supports(key, value)


def test_an_invention_is_doubted_against_what_was_usual():
    found = Evidence.of([BOOT] * 2, [KeyAttributes.of({"type": "dress", "color": "red", "brand": "bergfex"})] * 2)
    assert found.share == pytest.approx(1 / 3)
    assert found.as_json()["keys"] == {"type": [0, 2], "color": [0, 2], "brand": [2, 2]}
    assert found.doubt(0.35) == ""  # it has always written what only images show
    assert found.doubt(0.9) == "on the catalog that it was trained on it was 90%"
    assert found.doubt(None) == "fewer than 50% have evidence"
    warning, share, keys = found.lines(0.9)
    assert warning.startswith("warning: this generator seems to invent: 33% of its values have evidence")
    assert "2 of 6 written values (33%)" in share and "by key: type 0%, color 0%, brand 100%" in keys
    assert Evidence().lines() == [] and Evidence().doubt(0.9) == ""


def test_a_generators_usual_share_is_kept_beside_it(tmp_path):
    Evidence.of([BOOT], [KeyAttributes.of({"brand": "bergfex"})]).save(tmp_path)
    assert usual_share(tmp_path) == 1.0
    assert usual_share(tmp_path / "nowhere") is None and usual_share("openai:http://host/v1") is None


@pytest.mark.parametrize("name", ["oa_mine", "abt_buy"])
def test_real_titles_support_what_rules_read_off_them_and_not_off_others(name):
    offers = read_catalog(shared_data(name) / "products.jsonl", max_bad=0.1).offers[:600]
    read = AttributeExtractor.learn(offers).extract_all(offers)
    assert Evidence.of(offers, read).share > 0.95
    others = [*read[1:], read[0]]
    assert Evidence.of(offers, others).share < 0.3
