"""Kinds of keys: prices, stock, ids and GTINs in many languages; traits of products are none of them."""

from __future__ import annotations

import pytest

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.attributes.key_kinds import is_commercial_key, is_id_key, is_money, is_trait, traits
from afmrl.attributes.schema_learning import learn_schema
from afmrl.data.offer import Offer

COMMERCIAL = [
    "price", "Price (EUR)", "sale_price", "PriceUSD", "list-price", "Regular price", "compare_at_price", "MSRP", "UVP",
    "Preis", "Verkaufspreis", "Endpreis", "Netto-Preis", "Grundpreis", "prix de vente", "Prix TTC", "Precio de venta",
    "prezzo", "prijs per stuk", "adviesprijs", "Cena brutto", "cijena", "Preço", "Pris", "Försäljningspris", "Hinta",
    "Fiyat", "цена", "价格", "市场价", "価格(税込)", "판매가격", "السعر", "unit_cost", "currency", "Währung",
    "discount", "VAT", "MwSt", "shipping", "Versandkosten", "stock level", "availability", "Bestand",
]  # fmt: skip
IDS = ["id", "item_id", "productId", "SKU", "Variant SKU", "ASIN", "Artikelnummer", "Item Number", "URL", "商品编号"]
TRAITS = [
    "color", "mpn", "Model Number", "Part Number", "prism", "Capris", "enterprise edition", "costume", "capacity",
    "pack quantity", "handle", "stock material", "width", "liquid", "品牌", "Größe", "caffeine amount", "map scale",
    "price tag holder", "cufflink", "shipped with lens",
]  # fmt: skip


@pytest.mark.parametrize("key", COMMERCIAL)
def test_prices_and_stock_are_told_in_any_language(key):
    assert is_commercial_key(key) and not is_trait(key)


@pytest.mark.parametrize("key", IDS)
def test_ids_are_told(key):
    assert is_id_key(key) and not is_trait(key)


@pytest.mark.parametrize("key", TRAITS)
def test_traits_are_no_prices_and_no_ids(key):
    assert is_trait(key)


@pytest.mark.parametrize(
    "value", ["$12.99", "12,99 €", "EUR 1.299,00", "USD 5", "12,- €", "£5", "69.00 CAD", "¥ 1200", "9,99 €/kg"]
)
def test_sums_of_money_are_told_whatever_their_key(value):
    assert is_money(value) and not is_trait("offer", value)


@pytest.mark.parametrize("value", ["12.99", "12 oz", "red", "5 krone bits", "100% euro pallet", "30 ml"])
def test_other_values_are_no_money(value):
    assert not is_money(value)


def test_a_bare_quantity_is_a_stock_and_one_with_a_word_is_a_pack():
    assert str(traits(KeyAttributes.of({"quantity": "170", "units": "6 cans"}))) == "units: 6 cans"


def test_prices_ids_and_gtins_are_no_keys_of_a_learned_schema():
    offers = [Offer(id=str(i), title=f"cup {i % 2}", category="Cup") for i in range(6)]
    stated = [KeyAttributes.of({"Preis": f"{i},99", "sku": f"a{i}", "ean": f"{i}", "color": f"c{i}"}) for i in range(6)]
    schema = learn_schema(offers, stated)
    assert schema.keys("cup") == ["color"] == schema.keys("another")
