"""Which words BM25 reads of an offer: one place for evaluation, search and every index."""

from __future__ import annotations

import re
from dataclasses import dataclass

from afmrl.attributes.extractor import AttributeExtractor
from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.attributes.missing import says_nothing
from afmrl.attributes.seller_attributes import DEFAULT_SELLER_ATTRIBUTES, SellerAttributes, stated_attributes
from afmrl.attributes.words import tokenize
from afmrl.data.gtin import normalize_gtin
from afmrl.data.offer import Offer

_RULES = AttributeExtractor()
_LONG_NUMBER = re.compile(r"(?<!\d)\d{8,14}(?!\d)")


@dataclass(frozen=True)
class OfferWords:
    """How an offer becomes the text that BM25 reads.

    >>> offer = Offer("1", "dress", attributes={"size": "M", "price": "12.99"})
    >>> OfferWords().of_gallery(Offer("2", "dress", attributes={"size": "N/A"}))
    'dress'
    >>> OfferWords().of_gallery(offer, KeyAttributes.of({"color": "red"}))
    'dress m red'
    >>> OfferWords(extracted=True).of_query(Offer("q", "LDS-4821WW dishwasher"))
    'LDS-4821WW dishwasher lds4821ww'
    >>> OfferWords().of_query(Offer("q", "4006381333931", attributes={"mpn": "WD-10 EZEX"}))
    '4006381333931 04006381333931 wd-10 ezex wd10ezex'
    """

    key_attributes: bool = True
    """Whether the values of a gallery offer's key attributes count as its words."""
    extracted: bool = False
    """Whether what `AttributeExtractor` reads off a title counts as words of it: a model number without its hyphens, a
    length in one unit."""
    seller_attributes: SellerAttributes | None = DEFAULT_SELLER_ATTRIBUTES
    """Which of the seller's attributes count as words, of queries and gallery. None: every value of the gallery, none
    of the queries, as for models and indexes that were made before there was a choice."""

    def of_query(self, offer: Offer) -> str:
        """What is searched for: title, values of the seller's attributes."""
        return self._with_extracted(" ".join([offer.title, *self._stated(offer, is_query=True)]), offer)

    def of_gallery(self, offer: Offer, attributes: KeyAttributes | None = None) -> str:
        """What is searched in: title, values of the seller's attributes, values of the key attributes."""
        values = [value for _, value in attributes] if attributes and self.key_attributes else []
        return self._with_extracted(" ".join([offer.title, *self._stated(offer), *values]), offer)

    def _stated(self, offer: Offer, *, is_query: bool = False) -> list[str]:
        which = self.seller_attributes
        if which is None:
            return [] if is_query else [str(value) for value in offer.attributes.values() if not says_nothing(value)]
        return [] if which == "none" else seller_words(offer, which)

    def _with_extracted(self, text: str, offer: Offer) -> str:
        if not self.extracted:
            return text
        # each value is one word; brands are in the title as they are
        found = _RULES.extract(Offer(id=offer.id, title=offer.title))
        return f"{text} {' '.join(value.replace(' ', '') for _, value in found)}"


def seller_words(offer: Offer, which: SellerAttributes) -> list[str]:
    """The values of the seller's attributes that the title lacks, as words that meet those of another shop.

    A model number is there without its punctuation too. GTINs have 14 digits, also those that a title names.
    """
    words: list[str] = []
    for number in _LONG_NUMBER.findall(offer.title):
        if gtin := normalize_gtin(number):
            words.append(gtin)
    title = set(tokenize(offer.title))
    for key, value in stated_attributes(offer, which):
        forms = [value, "".join(filter(str.isalnum, value))] if key in ("mpn", "model") else [value]
        words += [form for form in dict.fromkeys(forms) if not title.issuperset(tokenize(form))]
    return words


def attribute_words(attributes: KeyAttributes) -> str:
    """The values of a query's key attributes, which BM25 reads apart from its title."""
    return " ".join(value for _, value in attributes)
