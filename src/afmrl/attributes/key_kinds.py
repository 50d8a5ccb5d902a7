"""Kinds of keys: which names a product's trait, and which only a price, a stock, a link or a row of somebody's list."""

from __future__ import annotations

import functools
import re
from typing import Any

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.attributes.words import normalize
from afmrl.data.gtin import is_gtin_key

# as words of a key
_COMMERCIAL_WORDS = (
    # prices
    "price prices pricing msrp rrp srp uvp evp vk ek pvp pvr tarif tarifa cost costs coste costo custo kosten preis "
    "prix precio precios prezzo prezzi prijs cena ceny cenu preço preco preços precos pris priser preț hinta "
    "cijena cijene fiyat fiyatı fiyati цена цены ціна τιμή τιμη harga giá giá "
    # money, taxes, discounts
    "currency currencies währung waehrung devise moneda moeda valuta waluta discount rabatt rabais "
    "remise descuento sconto korting rabat vat tax taxes taxable mwst ust tva iva btw steuer steuersatz "
    # shipping and stock
    "shipping versand versandkosten lieferzeit lieferung livraison envío envio spedizione delivery availability "
    "verfügbarkeit verfuegbarkeit disponibilité disponibilidad disponibilità instock inventory bestand lagerbestand"
)
_COMMERCIAL_PARTS = re.compile(
    r"price|preis(?!el)|prijs|precio|prezzo|(?:^|[ _.-])prix|fiyat|hinta$|"
    r"(?:ings|gs|ts|inköps|utsalgs|veil|kampanj|normal|butikk?s|tilbuds|rea|rek)pris(?:er)?$|versand|^compare at|"
    r"^(?:in )?stock(?: (?:level|status|quantity|count|qty))?$|價格|价格|售价|售價|单价|單價|原价|"
    r"原價|现价|市场价|定价|価格|値段|税込|税抜|가격|판매가|정가|цена|ราคา|السعر|سعر|מחיר|库存|庫存|運費|运费|送料|在庫"
)
_PRICED = re.compile(r"^(?:price|preis)(?:less| tag holder)")
_COUNTS = re.compile(r"(?:quantity|qty|units?|menge|anzahl|quantité|cantidad|quantità|aantal|ilość)$")
_BARE_NUMBER = re.compile(r"[\d.,]*")
_ID_WORDS = "id ids sku skus asin guid uuid uid url urls href permalink artikelnummer artikelnr bestellnummer"
_ID_PHRASES = re.compile(
    r"^(?:link|links|slug)$|(?:^| )(?:(?:article|item|order|stock|catalog|catalogue|listing|offer|reference|inventory|"
    r"seller|merchant|shop|art|artikel|bestell)(?: s)? (?:no|nr|num|number|nummer|code)|product (?:no|number|code|id)|"
    r"date first .*|best sellers rank|(?:created|updated|published|modified) at)(?: |$)|"
    r"商品编号|货号|订单号|品番|商品コード"
)
_BETWEEN_WORDS = re.compile(r"[\W_]+")
_CAMEL = re.compile(r"(?<=[a-z]{3})(?=[A-Z])")  # salePrice, and not MwSt
_CURRENCY = (
    r"(?:[$€£¥₹₽₩₺₴฿₫₪]|(?:us|eu|a|c|ca|au|hk|nz|s|r|mx)\$|\b(?:usd|eur|gbp|jpy|cny|rmb|chf|cad|aud|sek|nok|dkk|pln|czk|"
    r"huf|inr|brl|mxn|rub|try|krw|zar|nzd|sgd|hkd|ron|uah|euro?s?|dollars?|kr|zł|kč|元|円)(?![^\W\d_]))"
)
_NUMBER = r"\d[\d.,'’ ]*(?:[.,]-{1,2})?"
_MONEY = re.compile(rf"(?:{_CURRENCY}\s*{_NUMBER}|{_NUMBER}\s*{_CURRENCY})(?:\s*/\s*\w+|\s*(?:incl|inkl)\.?.*)?")


def is_commercial_key(key: str) -> bool:
    """Whether a key names a price, a tax, a discount, shipping or stock, in any of some twenty languages.

    >>> [is_commercial_key(key) for key in ("Sale Price", "verkaufspreis", "prix_ttc", "市场价", "salePrice", "stock")]
    [True, True, True, True, True, True]
    >>> [is_commercial_key(key) for key in ("prism", "costume", "color", "enterprise", "pack size")]
    [False, False, False, False, False]
    """
    text = _words(key)
    if _PRICED.match(text):
        return False
    return not _COMMERCIAL.isdisjoint(text.split()) or bool(_COMMERCIAL_PARTS.search(text))


def is_id_key(key: str) -> bool:
    """Whether a key numbers a row of somebody's own list: an id, a SKU, a link. A maker's numbers are none.

    >>> [is_id_key(key) for key in ("SKU", "item_id", "productId", "Artikelnummer", "Item Number", "URL")]
    [True, True, True, True, True, True]
    >>> [is_id_key(key) for key in ("mpn", "model number", "liquid", "width")]
    [False, False, False, False]
    """
    text = _words(key)
    return not _IDS.isdisjoint(text.split()) or bool(_ID_PHRASES.search(text))


def is_money(value: Any) -> bool:
    """Whether a value is a sum of money and nothing else.

    >>> [is_money(value) for value in ("$12.99", "1.299,00 €", "USD 5", "12,- €", "12 oz", "5 krone", "12.99")]
    [True, True, True, True, False, False, False]
    """
    text = str(value)
    # most values are no numbers, or long: seen before the letters are normalized
    return len(text) <= 60 and any(map(str.isdigit, text)) and bool(_MONEY.fullmatch(normalize(text)))


def is_trait(key: str, value: Any = "") -> bool:
    """Whether a pair says something of the product: its key is no price, stock, id or GTIN, its value no sum of money.

    A bare quantity is a stock.

    >>> [is_trait(key) for key in ("color", "mpn", "EAN", "price", "sku")]
    [True, True, False, False, False]
    >>> is_trait("quantity", "2 pack"), is_trait("quantity", "170")
    (True, False)
    """
    if _names_no_trait(key) or is_money(value):
        return False
    return not (_is_count(key) and _BARE_NUMBER.fullmatch(normalize(str(value))))


@functools.lru_cache(maxsize=2**14)
def _names_no_trait(key: str) -> bool:
    return is_gtin_key(key) or is_commercial_key(key) or is_id_key(key)


@functools.lru_cache(maxsize=2**14)
def _is_count(key: str) -> bool:
    return bool(_COUNTS.match(normalize(key)))


def traits(attributes: KeyAttributes) -> KeyAttributes:
    """Key attributes without prices, stock, ids and GTINs: what a generator may learn to write.

    >>> str(traits(KeyAttributes.of({"color": "red", "ean": "4006381333931", "Preis": "12,99", "list": "$5"})))
    'color: red'
    """
    if all(is_trait(key, value) for key, value in attributes):
        return attributes
    return KeyAttributes(tuple(pair for pair in attributes if is_trait(*pair)))


def _words(key: str) -> str:
    return " ".join(_BETWEEN_WORDS.sub(" ", normalize(_CAMEL.sub(" ", key))).split())


_COMMERCIAL, _IDS = (frozenset(normalize(words).split()) for words in (_COMMERCIAL_WORDS, _ID_WORDS))
