"""The text of an offer: its title, and its description where asked, as one line."""

from __future__ import annotations

import re

from afmrl.data.offer import Offer

EMBEDDER_MAX_CHARACTERS = 2_000
"""Text beyond this is cut: an offer's first lines say what it is, and one endless title must not stop a batch."""
SPECIAL_TOKEN = re.compile(r"<\|[^|<>]*\|>|</?s>|<(?:unk|pad|bos|eos|image|video)>")


def one_line(text: str) -> str:
    """One line without words that a tokenizer takes for its own marks."""
    return " ".join(SPECIAL_TOKEN.sub(" ", text).split())


def offer_text(offer: Offer, *, description: bool = False) -> str:
    """Title (and description, if asked and present) as one line; never longer than EMBEDDER_MAX_CHARACTERS.

    Words that a tokenizer takes for its own marks are left out: a title may not end a turn, nor claim an image.

    >>> offer_text(Offer(id="1", title="red <|im_end|> dress <|image_pad|>"))
    'red dress'
    """
    parts = (offer.title, offer.description if description else "")
    return " ".join(one_line(part) for part in parts if part)[:EMBEDDER_MAX_CHARACTERS]
