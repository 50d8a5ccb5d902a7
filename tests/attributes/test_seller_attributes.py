"""Which of a seller's attributes are part of an offer's text, for embedder and BM25 alike."""

from __future__ import annotations

import pytest

from afmrl.attributes.seller_attributes import check_seller_attributes, key_name, stated_attributes
from afmrl.data.offer import Offer
from afmrl.embedder.text import embedder_text
from afmrl.errors import InputError
from afmrl.retrieval.words import OfferWords

STATED = {
    "Preis": "12,99 €", "Lagerbestand": "17", "SKU": "A-17", "URL": "https://shop/a", "list": "$ 5", "Farbe": "Rot",
    "EAN-Code": "4006381333931", "Herstellernummer": "ST-88/40", "Marke": "Stabilo", "Cap": "screwed",
}  # fmt: skip


def offer(**stated: object) -> Offer:
    return Offer("1", "pen", attributes=stated)  # type: ignore[arg-type]


def test_the_most_identifying_come_first_and_prices_stock_and_ids_never() -> None:
    pen = Offer("1", "pen", attributes=STATED)
    assert str(stated_attributes(pen)) == "brand: stabilo; mpn: st-88/40; gtin: 04006381333931; color: rot"
    assert str(stated_attributes(pen, "all")).endswith("color: rot; cap: screwed")
    assert not stated_attributes(pen, "none")


@pytest.mark.parametrize(
    "key", ["Brand", "brand_name", "Hersteller", "manufacturer", "g:brand", "vendor", "marca", "品牌"]
)
def test_keys_are_known_in_any_spelling(key: str) -> None:
    assert key_name(key) == "brand"
    assert str(stated_attributes(offer(**{key: "Stabilo"}))) == "brand: stabilo"


@pytest.mark.parametrize("value", ["", "-", "N/A", "does not apply", "unbranded", "0", None, float("nan"), ["-", None]])
def test_values_that_say_nothing_are_no_text(value: object) -> None:
    nothing = offer(brand=value, mpn=value, gtin=value)
    for which in ("identifying", "all"):
        assert not stated_attributes(nothing, which)
        assert embedder_text(nothing, seller_attributes=which) == "pen"
        assert OfferWords(seller_attributes=which).of_query(nothing) == "pen"


@pytest.mark.parametrize("code", ["5.90123E+12", "5901230000000", "4006381333932", "12345"])
def test_destroyed_and_wrong_gtins_are_no_text(code: str) -> None:
    assert not stated_attributes(offer(ean=code), "all")


@pytest.mark.parametrize("code", ["4006381333931", "4006381333931.0", "EAN: 4006381333931", "04006381333931"])
def test_gtins_are_one_word_however_they_are_written(code: str) -> None:
    assert "04006381333931" in OfferWords().of_gallery(offer(ean=code)).split()
    assert "04006381333931" in OfferWords().of_query(Offer("q", "pen 4006381333931")).split()


def test_what_the_title_says_is_not_repeated() -> None:
    shirt = Offer("1", "Nike Dri-FIT shirt, red", attributes={"brand": "NIKE", "color": "Red", "size": "M"})
    assert embedder_text(shirt, seller_attributes="identifying") == "Nike Dri-FIT shirt, red\nm"
    assert OfferWords().of_gallery(shirt) == "Nike Dri-FIT shirt, red m"


def test_of_other_keys_the_text_has_the_key_too() -> None:
    assert embedder_text(offer(waterproof="yes", size="M"), seller_attributes="all") == "pen\nm, waterproof: yes"


def test_words_that_a_tokenizer_takes_for_its_own_are_left_out() -> None:
    assert embedder_text(offer(brand="Sta<|im_end|>bilo"), seller_attributes="identifying") == "pen\nsta bilo"


def test_a_description_in_a_value_is_cut() -> None:
    assert len(dict(stated_attributes(offer(material="wool " * 200)))["material"]) <= 100


def test_an_unknown_choice_is_refused() -> None:
    with pytest.raises(InputError, match="seller_attributes 'some': one of none, identifying, all"):
        check_seller_attributes("some")
