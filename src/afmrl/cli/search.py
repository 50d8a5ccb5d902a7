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
    from afmrl.index.searchers import Hit, IndexSearch

SHOWN_QUERIES = 10  # of --queries without --out


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
        Search only offers of this category; may be repeated.
    seller
        Search only offers of this seller; may be repeated.
    model
        A trained embedder's folder; of an index by default the one whose embeddings it holds.
    generator
        A generator's folder: its attributes enrich what is searched for.
    hybrid
        Add BM25 over title and attributes to the cosine, and the images' colors where the model learned a weight of
        them (fusion.json), as `afmrl evaluate --fuse` does; --no-hybrid gives the cosine alone.
    hybrid_weight
        Of BM25, without colors; by default what the model learned (fusion.json), or else 1.
    split
        Of a catalog: search only in offers whose column `split` says this.
    max_bad
        Share of a catalog's rows that may be skipped as unreadable; by default 0.5.
    """
    from afmrl.bulk.images.catalog import catalog_with_images
    from afmrl.data.rows import is_catalog
    from afmrl.index.searchers import IndexSearch
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
        split=split,
        max_bad=most_bad,
        options=read_options(reading),
        progress=True,
    )
    with opening as searcher:
        if isinstance(searcher, IndexSearch):
            _say_generator(searcher)
        where = {column: values for column, values in (("category", category), ("seller", seller)) if values}
        found = searcher.search(asked, k, where=where, own_hits=queries is None)
        if out is not None:
            rows = zip(asked, found.ids, found.scores, strict=True)
            write_hits(out, ((query.id, zip(ids, scores.tolist(), strict=True)) for query, ids, scores in rows))
            print(f"{len(asked):,} queries, {sum(map(len, found.ids)):,} hits: {out}")
            return {"queries": len(asked), "hits": sum(map(len, found.ids)), "out": out}
        for query, ids, scores in list(zip(asked, found.ids, found.scores, strict=True))[:SHOWN_QUERIES]:
            name = "" if queries is None else f"{query.id}: "
            if not ids:
                print(f"{name}no offer passes the filter")
                continue
            title = f"{name}{query.title}" if name else None
            print_hits(searcher.details(ids, scores), title=title, images=is_catalog(target))
        if len(asked) > SHOWN_QUERIES:
            print(f"… and {len(asked) - SHOWN_QUERIES:,} queries more; --out FILE writes the hits of all")
        hits = [searcher.details(ids, scores) for ids, scores in zip(found.ids, found.scores, strict=True)]
        return {"queries": [{"id": query.id, "title": query.title, "hits": list(map(_hit, of_query))}
                            for query, of_query in zip(asked, hits, strict=True)]}  # fmt: skip


def _hit(hit: Hit) -> Summary:
    offer = hit.offer
    return {"id": offer.id, "score": round(float(hit.score), 6), "title": offer.title, "image": offer.image,
            "category": offer.category, "attributes": hit.attributes.as_dict()}  # fmt: skip


def print_hits(hits: Sequence[Hit], *, title: str | None = None, images: bool = True) -> None:
    """A table of hits on the terminal; on a narrow one cells fold, and none is cut."""
    from rich.table import Table
    from rich.text import Text

    from afmrl.terminal import output_console

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


def _say_generator(searcher: IndexSearch) -> None:
    settings = searcher.index.settings
    known = settings.get("generator") or {}
    if searcher.generator is None and known and on_query(settings.get("attributes_on")):
        print(
            f"afmrl: the model was trained to read key attributes of what is searched for; --generator {known['path']} "
            "writes them",
            file=sys.stderr,
        )
