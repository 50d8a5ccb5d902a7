"""A hundred offers of real products: their titles are common knowledge, written for this package."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from afmrl.files import atomic_path

NAME = "real_offers.jsonl"
CODE_QUESTION = "sony wh1000xm4 silver"
"""A question that words and codes answer."""
MEANING_QUESTION = "gift for a child who likes building cars"
"""A question of which no offer has the words: pretrained weights answer it."""


def write_real_offers(folder: Path) -> Path:
    """Write real_offers.jsonl into a folder: 50 products of everyday shops, each in the words of two offers.

    Columns: id, product_id, title, category. Products have near siblings: another color, size or version.
    """
    text = resources.files("afmrl.sample").joinpath(NAME).read_text(encoding="utf-8")
    with atomic_path(folder / NAME) as path:
        path.write_text(text, encoding="utf-8")
    return folder / NAME
