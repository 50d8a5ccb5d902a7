"""What the embedder reads of an offer."""

from __future__ import annotations

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.data.offer import Offer
from afmrl.data.offer_text import SPECIAL_TOKEN, offer_text


def embedder_text(offer: Offer, attributes: KeyAttributes | None = None, *, description: bool = False) -> str:
    """What the embedder reads of an offer: its text, then its key attributes where given.

    >>> embedder_text(Offer(id="1", title="silk dress"), KeyAttributes.of({"color": "red"}))
    'silk dress\\ncolor: red'
    """
    text = offer_text(offer, description=description)
    return "\n".join(part for part in (text, SPECIAL_TOKEN.sub(" ", str(attributes)) if attributes else "") if part)
