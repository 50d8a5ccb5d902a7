"""Which words BM25 reads of an offer: one place for evaluation, search and every index."""

from __future__ import annotations

from dataclasses import dataclass

from afmrl.attributes.extractor import AttributeExtractor
from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.attributes.missing import says_nothing
from afmrl.data.offer import Offer

_RULES = AttributeExtractor()


@dataclass(frozen=True)
class OfferWords:
    """How an offer becomes the text that BM25 reads.

    >>> offer = Offer("1", "dress", attributes={"size": "M"})
    >>> OfferWords().of_gallery(Offer("2", "dress", attributes={"size": "N/A"}))
    'dress'
    >>> OfferWords().of_gallery(offer, KeyAttributes.of({"color": "red"}))
    'dress M red'
    >>> OfferWords(extracted=True).of_query(Offer("q", "LDS-4821WW dishwasher"))
    'LDS-4821WW dishwasher lds4821ww'
    """

    key_attributes: bool = True
    """Whether the values of a gallery offer's key attributes count as its words."""
    extracted: bool = False
    """Whether what `AttributeExtractor` reads off a title counts as words of it: a model number without its hyphens, a
    length in one unit."""

    def of_query(self, offer: Offer) -> str:
        """What is searched for: the title."""
        return self._with_extracted(offer.title, offer)

    def of_gallery(self, offer: Offer, attributes: KeyAttributes | None = None) -> str:
        """What is searched in: title, values of the seller's attributes, values of the key attributes."""
        values = [value for _, value in attributes] if attributes and self.key_attributes else []
        stated = [str(value) for value in offer.attributes.values() if not says_nothing(value)]
        return self._with_extracted(" ".join([offer.title, *stated, *values]), offer)

    def _with_extracted(self, text: str, offer: Offer) -> str:
        if not self.extracted:
            return text
        # each value is one word; brands are in the title as they are
        found = _RULES.extract(Offer(id=offer.id, title=offer.title))
        return f"{text} {' '.join(value.replace(' ', '') for _, value in found)}"


def attribute_words(attributes: KeyAttributes) -> str:
    """The values of a query's key attributes, which BM25 reads apart from its title."""
    return " ".join(value for _, value in attributes)
