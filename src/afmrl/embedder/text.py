"""What the embedder reads of an offer."""

from __future__ import annotations

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.attributes.seller_attributes import SellerAttributes, new_values, stated_attributes
from afmrl.data.offer import Offer
from afmrl.data.offer_text import SPECIAL_TOKEN, offer_text


def text_parts(
    offer: Offer,
    attributes: KeyAttributes | None = None,
    *,
    seller_attributes: SellerAttributes = "none",
    description: bool = False,
) -> tuple[str, str]:
    """The two parts of an offer's text: its title, and its attributes, which a long title must not cut off.

    Of the seller's attributes it has the values that the title does not say, without GTINs: repeated, or with their
    keys, they retrieve worse, and GTINs are for BM25 (docs/results/seller_attributes.md).

    Args:
        attributes: its key attributes.
        seller_attributes: which of the seller's attributes are read.
        description: read the description after the title.
    """
    title = offer_text(offer, description=description)
    stated = ", ".join(new_values(stated_attributes(offer, seller_attributes).without("gtin"), offer.title))
    lines = [line for line in (stated, str(attributes) if attributes else "") if line]
    return title, "\n".join(SPECIAL_TOKEN.sub(" ", line) for line in lines)


def embedder_text(
    offer: Offer,
    attributes: KeyAttributes | None = None,
    *,
    seller_attributes: SellerAttributes = "none",
    description: bool = False,
) -> str:
    """What the embedder reads of an offer: its text, what the seller's attributes add, its key attributes.

    A text that is longer than the model reads is cut by `TextRoom`.

    >>> embedder_text(Offer(id="1", title="silk dress"), KeyAttributes.of({"color": "red"}))
    'silk dress\\ncolor: red'
    >>> offer = Offer(id="1", title="silk dress", attributes={"Marke": "Lune", "size": "M", "material": "silk"})
    >>> embedder_text(offer, seller_attributes="identifying")
    'silk dress\\nlune, m'
    """
    parts = text_parts(offer, attributes, seller_attributes=seller_attributes, description=description)
    return "\n".join(part for part in parts if part)
