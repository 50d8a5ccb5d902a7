"""Search a catalogue by picture and text, without an index: for catalogues that fit in memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from afmrl.attributes import KeyAttributes
from afmrl.embedder import Embedder
from afmrl.errors import InputError
from afmrl.generator import AttributeGenerator
from afmrl.images import verify_image
from afmrl.offers import Offer, read_catalogue
from afmrl.retrieval.exact import top_k


@dataclass(frozen=True)
class SearchHit:
    """One offer that was found."""

    offer: Offer
    score: float
    attributes: KeyAttributes


def search_catalogue(
    catalog: str | Path,
    model: str | Path,
    *,
    text: str = "",
    image: str | Path | None = None,
    generator: str | Path | None = None,
    k: int = 10,
    split: str | None = None,
    max_bad: float = 0.01,
) -> list[SearchHit]:
    """The k offers of a catalogue nearest to a text, a picture, or both; best first.

    With a generator, the attributes it writes are read on the sides that the embedder was trained for.

    Raises:
        InputError: neither text nor picture, or nothing to search in.
    """
    if not text.strip() and image is None:
        raise InputError("search: give a text (--text), a picture (--image), or both")
    if k < 1:
        raise InputError(f"search: k={k}: at least one hit")
    if image is not None:
        verify_image(image)
    offers = [
        offer
        for offer in read_catalogue(catalog, max_bad=max_bad)
        if split is None or offer.extra.get("split") == split
    ]
    if not offers:
        raise InputError(f"search: {catalog} holds no offer whose column 'split' says {split!r}")
    query = Offer(id="query", title=text, image=str(Path(image).resolve()) if image else "")
    embedder = Embedder.from_pretrained(model)
    query_attributes, attributes = None, None
    if generator is not None:
        writer = AttributeGenerator.from_pretrained(generator)
        query_attributes = writer.attributes([query])
        if embedder.settings.get("attributes_on") == "both":
            attributes = writer.attributes(offers, progress=True)
    scores, rows = top_k(
        embedder.encode([query], query_attributes), embedder.encode(offers, attributes, progress=True), k
    )
    return [
        SearchHit(offers[row], float(score), attributes[row] if attributes else KeyAttributes())
        for score, row in zip(scores[0], rows[0], strict=True)
    ]


def print_hits(hits: list[SearchHit]) -> None:
    """A table of hits on the terminal."""
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for name in ("score", "id", "title", "attributes", "picture"):
        table.add_column(name, overflow="fold")
    for hit in hits:
        table.add_row(
            f"{hit.score:.3f}",
            hit.offer.id,
            hit.offer.title,
            str(hit.attributes) if hit.attributes else "",
            hit.offer.image,
        )
    Console().print(table)
