"""`afmrl search`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from afmrl.attributes.attributes_on import on_query
from afmrl.cli.reading import Reading, read_options
from afmrl.cli.summary import Summary
from afmrl.data.bad_rows import MAX_BAD
from afmrl.errors import InputError

if TYPE_CHECKING:
    from afmrl.matching.searchers import Hit, Searcher

SHOWN_QUERIES = 10  # of --queries without --out
RATIOS = {"score": None, "id": 2, "title": 4, "attributes": 3, "why": 4, "image": 2}
"""Widths of the columns of hits."""


def search(
    target: str,
    *,
    text: str = "",
    image: str | None = None,
    queries: Path | None = None,
    out: Path | None = None,
    k: int = 10,
    category: Annotated[list[str] | None, Parameter(negative=())] = None,
    seller: Annotated[list[str] | None, Parameter(negative=())] = None,
    model: str | None = None,
    generator: str | None = None,
    hybrid: bool = True,
    hybrid_weight: float | None = None,
    rerank: bool = True,
    split: str | None = None,
    max_bad: float | None = None,
    reading: Reading | None = None,
) -> Summary:
    """Find the offers of an index, or of a catalog, that look and read most like an image and a text.

    Parameters
    ----------
    target
        An index that `afmrl index` made; or a catalog file that fits in memory, which is embedded at every search.
        Both give the same hits and scores.
    text
        A text to search for; alone or together with --image.
    image
        An image file to search for, or with --fetch an address; alone or together with --text.
    queries
        A catalog of what is searched for; an offer with the query's id is no hit of it.
    out
        With --queries: hits.jsonl, in the line format of `afmrl evaluate`.
    k
        Hits of each query.
    category
        Search only offers of this category, upper or lower case; may be repeated.
    seller
        Search only offers of this seller, upper or lower case; may be repeated.
    model
        A trained embedder's folder, or "small" or "minilm" (extra `small`); of an index by default the one whose
        embeddings it holds. Of a catalog also a method that needs no training: tfidf, bm25, color, tfidf+color.
    generator
        A generator's folder: its attributes enrich what is searched for.
    hybrid
        Add BM25 over title and attributes to the cosine, and the images' colors where the model learned a weight of
        them (fusion.json), as `afmrl evaluate --fuse` does; --no-hybrid gives the cosine alone.
    hybrid_weight
        Of BM25, without colors; by default what the model learned (fusion.json), or else 1.
    rerank
        Order the best 50 by the pair model of `afmrl match`, those with a veto behind all others, and say beside each
        hit what agrees and differs; --no-rerank keeps the order of vectors and words. A search by image alone is not
        reranked.
    split
        Of a catalog: search only in offers whose column `split` says this.
    max_bad
        Share of a catalog's rows that may be skipped as unreadable; by default 0.5.
    """
    from afmrl.bulk.images.catalog import catalog_with_images
    from afmrl.data.rows import is_catalog
    from afmrl.matching.search import open_search, query_offer
    from afmrl.retrieval.hits import write_hits
    from afmrl.terminal import quiet_libraries

    most_bad = MAX_BAD if max_bad is None else max_bad
    if queries is None:
        if out is not None:
            raise InputError("search: --out needs --queries FILE")
        if max_bad is not None and not is_catalog(target):
            raise InputError("search: --max-bad needs --queries FILE, or a catalog")
        asked: Sequence = [query_offer(text, image, k, fetch=read_options(reading).fetch)]
    elif text or image:
        raise InputError("search: give --queries, or --text and --image")
    else:
        asked = catalog_with_images(queries, max_bad=most_bad, options=read_options(reading), progress=True).offers
    quiet_libraries()
    opening = open_search(
        target,
        model,
        generator,
        hybrid=hybrid,
        weight=hybrid_weight,
        rerank=rerank,
        split=split,
        max_bad=most_bad,
        options=read_options(reading),
        progress=True,
    )
    with opening as searcher:
        _say_generator(searcher)
        where = {column: values for column, values in (("category", category), ("seller", seller)) if values}
        for unknown in searcher.filters.unknown(where):
            print(f"afmrl: {unknown}", file=sys.stderr)
        own_hits = queries is None
        if out is not None:
            found = searcher.search(asked, k, where=where, own_hits=own_hits)
            rows = zip(asked, found.ids, found.scores, strict=True)
            write_hits(out, ((query.id, zip(ids, scores.tolist(), strict=True)) for query, ids, scores in rows))
            print(f"{len(asked):,} queries, {sum(map(len, found.ids)):,} hits: {out}")
            return {"queries": len(asked), "hits": sum(map(len, found.ids)), "out": out}
        every = searcher.hits(asked, k, where=where, own_hits=own_hits)
        for query, hits in list(zip(asked, every, strict=True))[:SHOWN_QUERIES]:
            name = "" if queries is None else f"{query.id}: "
            if not hits:
                print(f"{name}{'no offer passes the filter' if where else 'no other offer is there'}")
                continue
            print_hits(hits, title=f"{name}{query.title}" if name else None, images=is_catalog(target))
        if len(asked) > SHOWN_QUERIES:
            print(f"… and {len(asked) - SHOWN_QUERIES:,} queries more; --out FILE writes the hits of all")
        return {"queries": [{"id": query.id, "title": query.title, "hits": list(map(_hit, hits))}
                            for query, hits in zip(asked, every, strict=True)]}  # fmt: skip


def _hit(hit: Hit) -> Summary:
    offer = hit.offer
    return {"id": offer.id, "score": round(float(hit.score), 6), "title": offer.title, "image": offer.image,
            "category": offer.category, "attributes": hit.attributes.as_dict(),
            **({"reasons": hit.reasons.as_dict()} if hit.reasons else {})}  # fmt: skip


def print_hits(hits: Sequence[Hit], *, title: str | None = None, images: bool = True) -> None:
    """A table of hits on the terminal; on a narrow one cells fold, and none is cut."""
    from rich.table import Table
    from rich.text import Text

    from afmrl.terminal import output_console

    columns: dict[str, list[str]] = {
        "score": ["veto" if hit.reasons and hit.reasons.veto else f"{hit.score:.3f}" for hit in hits],
        "id": [hit.offer.id for hit in hits],
        "title": [hit.offer.title for hit in hits],
        "attributes": [str(hit.attributes) if hit.attributes else "" for hit in hits],
        "why": [str(hit.reasons) if hit.reasons else "" for hit in hits],
        "image": [hit.offer.image if images else "" for hit in hits],
    }
    table = Table(title=Text(title) if title else None, title_justify="left")
    filled = {name: cells for name, cells in columns.items() if any(cells)}
    for name in filled:
        table.add_column(name, overflow="fold", ratio=RATIOS[name], no_wrap=RATIOS[name] is None)
    for cells in zip(*filled.values(), strict=True):
        table.add_row(*map(Text, cells))  # as Text: a title in square brackets is no markup
    output_console().print(table)


def _say_generator(searcher: Searcher) -> None:
    from afmrl.matching.reranked_search import RerankedSearch
    from afmrl.matching.searchers import IndexSearch

    inner = searcher.inner if isinstance(searcher, RerankedSearch) else searcher
    if not isinstance(inner, IndexSearch):
        return
    settings = inner.index.settings
    known = settings.get("generator") or {}
    if inner.generator is None and known and on_query(settings.get("attributes_on")):
        print(
            f"afmrl: the model was trained to read key attributes of what is searched for; --generator {known['path']} "
            "writes them",
            file=sys.stderr,
        )
