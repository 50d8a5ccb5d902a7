"""The one place that renders an offer: for the generator as chat messages, for the embedder as model input."""

from __future__ import annotations

import re
from typing import Any

from afmrl.attributes import KeyAttributes
from afmrl.offers import Offer

GENERATOR_INSTRUCTION = "Key attributes:"
"""Asked after picture and text. The paper's prompt is not published; a general model gets a longer one by recipe."""
EMBEDDER_MAX_CHARACTERS = 2_000
"""Text beyond this is cut: an offer's first lines say what it is, and one endless title must not stop a batch."""


_SPECIAL_TOKEN = re.compile(r"<\|[^|<>]*\|>|</?s>|<(?:unk|pad|bos|eos|image|video)>")


def offer_text(offer: Offer, *, description: bool = False) -> str:
    """Title (and description, if asked and present) as one line; never longer than EMBEDDER_MAX_CHARACTERS.

    Words that a tokenizer takes for its own marks are left out: a title may not end a turn, nor claim a picture.

    >>> offer_text(Offer(id="1", title="red <|im_end|> dress <|image_pad|>"))
    'red dress'
    """
    parts = [_SPECIAL_TOKEN.sub(" ", part) for part in (offer.title, offer.description if description else "")]
    return " ".join(" ".join(part.split()) for part in parts if part)[:EMBEDDER_MAX_CHARACTERS]


def generator_messages(
    offer: Offer, *, instruction: str = GENERATOR_INSTRUCTION, description: bool = False
) -> list[dict[str, Any]]:
    """Chat messages that ask for the key attributes of `offer`; an image part only where it has a picture.

    The image part is `{"type": "image"}` without data: the picture travels beside the messages (trl's `image`
    column, the processor's `images=` argument).
    """
    content: list[dict[str, Any]] = [{"type": "image"}] if offer.image else []
    content.append({"type": "text", "text": f"{offer_text(offer, description=description)}\n{instruction}"})
    return [{"role": "user", "content": content}]


def embedder_text(offer: Offer, attributes: KeyAttributes | None = None, *, description: bool = False) -> str:
    """What the embedder reads of an offer: its text, then its key attributes where given.

    >>> embedder_text(Offer(id="1", title="silk dress"), KeyAttributes.of({"color": "red"}))
    'silk dress\\ncolor: red'
    """
    text = offer_text(offer, description=description)
    return "\n".join(part for part in (text, _SPECIAL_TOKEN.sub(" ", str(attributes)) if attributes else "") if part)
