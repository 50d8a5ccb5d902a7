"""Search by image and text: an index, or a catalog that fits in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from afmrl.attributes.attributes_on import on_gallery, on_query
from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.data.catalog import read_catalog
from afmrl.data.images import verify_image
from afmrl.data.offer import Offer
from afmrl.embedder.embedder import Embedder
from afmrl.errors import InputError
from afmrl.generator.generator import open_generator
from afmrl.index.backend import Hits, IndexBackend, Where
from afmrl.retrieval.exact import top_k
from afmrl.terminal import output_console


@dataclass(frozen=True)
class SearchHit:
    """One offer that was found."""

    offer: Offer
    score: float
    attributes: KeyAttributes


def query_offer(text: str, image: str | Path | None, k: int) -> Offer:
    """What is searched for, as an offer.

    Raises:
        InputError: neither text nor image, an image that is none, k below 1.
    """
    if not text.strip() and image is None:
        raise InputError("search: give a text (--text), an image (--image), or both")
    if k < 1:
        raise InputError(f"search: k={k}: at least one hit")
    if image is not None:
        verify_image(image)
    return Offer(id="query", title=text, image=str(Path(image).resolve()) if image else "")


def search_catalog(
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
    """The k offers of a catalog nearest to a text, an image, or both; best first.

    With a generator, the attributes it writes are read on the sides that the embedder was trained for.

    Raises:
        InputError: neither text nor image, or nothing to search in.
    """
    query = query_offer(text, image, k)
    offers = [
        offer for offer in read_catalog(catalog, max_bad=max_bad) if split is None or offer.extra.get("split") == split
    ]
    if not offers:
        raise InputError(f"search: {catalog} holds no offer whose column 'split' says {split!r}")
    embedder = Embedder.from_pretrained(model)
    query_attributes, attributes = None, None
    if generator is not None:
        writer = open_generator(generator)
        attributes_on = embedder.settings.get("attributes_on") or "query"
        if on_query(attributes_on):
            query_attributes = writer.attributes([query])
        if on_gallery(attributes_on):
            attributes = writer.attributes(offers, progress=True)
    scores, rows = top_k(
        embedder.encode([query], query_attributes), embedder.encode(offers, attributes, progress=True), k
    )
    return [
        SearchHit(offers[row], float(score), attributes[row] if attributes else KeyAttributes())
        for score, row in zip(scores[0], rows[0], strict=True)
    ]


@dataclass(frozen=True)
class IndexSearch:
    """How an index is searched.

    Args:
        index: opened.
        model: the embedder; None: the one that the index names.
        generator: writes key attributes of what is searched for; None: none.
        hybrid: add BM25 to the cosine.
        weight: of BM25; None: what the model learned (fusion.json), else BM25_WEIGHT.
    """

    index: IndexBackend
    model: str | None = None
    generator: str | None = None
    hybrid: bool = True
    weight: float | None = None

    def search(self, queries: Sequence[Offer], k: int, *, where: Where | None = None, own_hits: bool = True) -> Hits:
        """The k best rows for each query.

        Args:
            own_hits: False: a row with the query's id is no hit of it, as in `afmrl evaluate`.

        Raises:
            InputError: a model that is not the index's, or does not load.
        """
        from afmrl.index.backend import check_where
        from afmrl.retrieval.encoder import OfferEncoder

        if k < 1:
            raise InputError(f"search: k={k}: at least one hit")
        check_where(where)  # before the models load
        model = self._model()
        system = OfferEncoder.load(model, generator=self.generator)
        attributes = system.attributes(queries)
        attributes_on = self.index.settings.get("attributes_on") or system.attributes_on
        # BM25 reads them in any case
        embeddings = system.embed(queries, attributes if on_query(attributes_on) else None)
        count = k if own_hits else k + 1
        if self.hybrid:
            hits = self._hybrid(model, queries, attributes, embeddings, count, where)
        else:
            hits = self.index.search(embeddings, count, where=where)
        if own_hits:
            return hits
        kept = [
            [place for place, identifier in enumerate(ids) if identifier != query.id][:k]
            for query, ids in zip(queries, hits.ids, strict=True)
        ]
        return Hits(
            [[ids[place] for place in places] for ids, places in zip(hits.ids, kept, strict=True)],
            [np.asarray(scores)[places] for scores, places in zip(hits.scores, kept, strict=True)],
        )

    def _hybrid(
        self,
        model: str,
        queries: Sequence[Offer],
        attributes: Sequence[KeyAttributes] | None,
        embeddings: np.ndarray,
        k: int,
        where: Where | None,
    ) -> Hits:
        from afmrl.index.hybrid import BM25_WEIGHT, hybrid_search
        from afmrl.retrieval.fusion import FUSION_FILE, FusionWeights

        weight, attributes_weight = BM25_WEIGHT if self.weight is None else self.weight, 0.0
        if self.weight is None and (Path(model) / FUSION_FILE).is_file():
            learned = FusionWeights.load(model)
            weight, attributes_weight = learned.bm25, learned.attributes
        return hybrid_search(
            self.index,
            embeddings,
            [query.title for query in queries],
            k,
            weight=weight,
            attributes=[" ".join(value for _, value in found) for found in attributes] if attributes else None,
            attributes_weight=attributes_weight,
            where=where,
        )

    def _model(self) -> str:
        """The model's folder or name, when it is the one whose embeddings the index holds."""
        from afmrl.bulk.fingerprints import model_fingerprint

        known = self.index.settings.get("model") or {}
        model = self.model or known.get("path")
        if not model:
            raise InputError("search: the index does not say whose embeddings it holds; give --model")
        if self.model is None and Path(model).is_absolute() and not Path(model).is_dir():
            raise InputError(f"search: the index's model {model} is not there any more; give its folder with --model")
        found = model_fingerprint(model)
        if known.get("fingerprint") and found != known["fingerprint"]:
            raise InputError(
                f"search: the index holds embeddings of {known.get('path')} (fingerprint {known['fingerprint']}), "
                f"and {model} is another model now ({found}); give the index's model with --model, or embed and index "
                "the offers again"
            )
        return str(model)


def hits_of(index: IndexBackend, ids: Sequence[str], scores: np.ndarray) -> list[SearchHit]:
    """One query's hits with what the index knows of them."""
    rows = index.get(ids)
    place = {identifier: row for row, identifier in enumerate(rows.ids)}
    return [
        SearchHit(rows.offers[place[identifier]], float(score), rows.key_attributes[place[identifier]])
        for identifier, score in zip(ids, scores, strict=True)
        if identifier in place
    ]


def print_hits(hits: Sequence[SearchHit], *, title: str | None = None, images: bool = True) -> None:
    """A table of hits on the terminal; on a narrow one cells fold, and none is cut."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title) if title else None, title_justify="left")
    table.add_column("score", no_wrap=True)
    table.add_column("id", overflow="fold", ratio=2)
    table.add_column("title", overflow="fold", ratio=4)
    table.add_column("attributes", overflow="fold", ratio=3)
    if images:
        table.add_column("image", overflow="fold", ratio=2)
    for hit in hits:
        attributes = str(hit.attributes) if hit.attributes else ""
        cells = [f"{hit.score:.3f}", hit.offer.id, hit.offer.title, attributes, hit.offer.image]
        # as Text: a title in square brackets is no markup
        table.add_row(*(Text(cell) for cell in (cells if images else cells[:-1])))
    output_console().print(table)
