"""Search by image and text, in an index or in a catalog that fits in memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import overload

from afmrl.bulk.images.cache import ImageCache
from afmrl.bulk.images.catalog import catalog_with_images
from afmrl.data.bad_rows import MAX_BAD, checked_max_bad
from afmrl.data.image_cache import is_address
from afmrl.data.images import verify_image
from afmrl.data.offer import Offer
from afmrl.data.reading import ReadOptions
from afmrl.data.rows import is_catalog
from afmrl.data.splits import split_of
from afmrl.errors import InputError, check_type
from afmrl.index.address import open_index
from afmrl.index.backend import Where
from afmrl.index.records import empty_index
from afmrl.matching.reranked_search import RerankedSearch
from afmrl.matching.searchers import CatalogSearch, Hit, IndexSearch, Searcher


@overload
def search(
    target: str | Path,
    *,
    text: str = ...,
    image: str | Path | None = ...,
    queries: None = ...,
    model: str | Path | None = ...,
    generator: str | Path | None = ...,
    k: int = ...,
    where: Where | None = ...,
    hybrid: bool = ...,
    hybrid_weight: float | None = ...,
    rerank: bool = ...,
    split: str | None = ...,
    max_bad: float = ...,
    options: ReadOptions | None = ...,
) -> list[Hit]: ...
@overload
def search(
    target: str | Path,
    *,
    queries: str | Path | Sequence[Offer],
    model: str | Path | None = ...,
    generator: str | Path | None = ...,
    k: int = ...,
    where: Where | None = ...,
    hybrid: bool = ...,
    hybrid_weight: float | None = ...,
    rerank: bool = ...,
    split: str | None = ...,
    max_bad: float = ...,
    options: ReadOptions | None = ...,
) -> list[list[Hit]]: ...
def search(
    target: str | Path,
    *,
    text: str = "",
    image: str | Path | None = None,
    queries: str | Path | Sequence[Offer] | None = None,
    model: str | Path | None = None,
    generator: str | Path | None = None,
    k: int = 10,
    where: Where | None = None,
    hybrid: bool = True,
    hybrid_weight: float | None = None,
    rerank: bool = True,
    split: str | None = None,
    max_bad: float = MAX_BAD,
    options: ReadOptions | None = None,
) -> list[Hit] | list[list[Hit]]:
    """Find the offers that look and read most like an image and a text.

    An index and the catalog that it was made of give the same hits and scores, which are those of `afmrl evaluate`:
    with `hybrid` those of `--fuse`, without it those of the embeddings alone, and with `rerank` those of `--rerank`.

    Args:
        target: the folder or address of an index; or a catalog file, whose offers are embedded at every call.
        text, image: what is searched for: a text, an image, or both.
        queries: many searches at once, instead of text and image: a catalog file, or offers. An offer with the query's
            id is no hit of it.
        model: a trained embedder's folder; of an index by default the one whose embeddings it holds.
        generator: writes key attributes of what is searched for, and of a catalog's offers, where the embedder was
            trained with them.
        k: hits of each query.
        where: search only the offers that pass: column ("category", "seller", "product_id") -> allowed values;
            categories and sellers are compared without case.
        hybrid: add BM25 to the cosine, and colors where the model learned a weight of them; False: the cosine alone.
        hybrid_weight: of BM25; None: what the model learned (fusion.json), or else a fixed one.
        rerank: order the best 50 by the pair model of `afmrl match`, those with a veto behind all others, and give each
            hit its reasons; False: the order of vectors and words. A search by image alone is not reranked.
        split: of a catalog: search only in offers whose column `split` says this.
        max_bad: share of a catalog's rows that may be skipped as unreadable.
        options: of catalog files: columns, delimiter and encoding, where they do not say them themselves; `fetch`
            fetches images that are addresses, also `image`.

    Returns:
        hits, best first; with `queries` one list a query.

    Raises:
        InputError: nothing to search for, nothing to search in, or a model that does not fit.
    """
    check_type("search: target", target, (str, Path), "an index's folder or address, or a catalog's file")
    check_type("search: text", text, str, "text")
    if image is not None:
        check_type("search: image", image, (str, Path), "an image's file")
    asked = _queries(text, image, queries, k, max_bad, options)
    opening = open_search(
        target,
        model,
        generator,
        hybrid=hybrid,
        weight=hybrid_weight,
        rerank=rerank,
        split=split,
        max_bad=max_bad,
        options=options,
    )
    with opening as searcher:
        found = searcher.hits(asked, k, where=where, own_hits=queries is None)
    return found[0] if queries is None else found


@contextlib.contextmanager
def open_search(
    target: str | Path,
    model: str | Path | None = None,
    generator: str | Path | None = None,
    *,
    hybrid: bool = True,
    weight: float | None = None,
    rerank: bool = True,
    split: str | None = None,
    max_bad: float = MAX_BAD,
    options: ReadOptions | None = None,
    progress: bool = False,
) -> Iterator[Searcher]:
    """An index or a catalog, opened to be searched many times; see `search` for the arguments.

    Args:
        options: of a catalog's file: columns, delimiter and encoding, where it does not say them itself.

    Raises:
        InputError: options that do not go together, no such index or catalog, no offers of this split.
    """
    checked_max_bad(max_bad)
    if not hybrid and weight is not None:
        raise InputError("search: --no-hybrid leaves BM25 out, --hybrid-weight weighs it; give one of them")
    if weight is not None and not 0 <= weight < float("inf"):
        raise InputError(f"search: --hybrid-weight {weight}: 0 or more")
    if is_catalog(target):
        if not Path(target).is_file():
            raise InputError(f"search: {target}: no such file; give an index, or a catalog's file")
        if model is None:
            raise InputError("search: a catalog is embedded at every search; give --model")
        catalog = catalog_with_images(target, max_bad=max_bad, options=options, progress=progress)
        offers = [offer for offer in catalog if split is None or split_of(offer) == split]
        if not offers:
            raise InputError(f"search: {target} holds no offer whose column 'split' says {split!r}")
        searcher: Searcher = CatalogSearch(offers, model, generator, hybrid=hybrid, weight=weight, progress=progress)
        yield RerankedSearch(searcher) if rerank else searcher
        return
    if split is not None:
        raise InputError("search: --split is of a catalog; filter an index by --category and --seller")
    with open_index(str(target)) as index:
        if not len(index):
            raise InputError(empty_index(str(target)))
        searcher = IndexSearch(index, model, generator, hybrid=hybrid, weight=weight)
        yield RerankedSearch(searcher) if rerank else searcher


def query_offer(text: str, image: str | Path | None, k: int, *, fetch: bool = False) -> Offer:
    """What is searched for, as an offer.

    Raises:
        InputError: neither text nor image, a file that is not an image, k below 1.
    """
    if not text.strip() and image is None:
        raise InputError("search: give a text (--text), an image (--image), or both")
    if k < 1:
        raise InputError(f"search: k={k}: at least one hit")
    if image is None:
        return Offer(id="query", title=text)
    if not is_address(str(image)):
        verify_image(image)
        return Offer(id="query", title=text, image=str(Path(image).resolve()))
    if not fetch:
        raise InputError(f"search: --image {image} is an address; --fetch fetches it")
    with ImageCache() as cache:
        cache.keep(str(image))
    return Offer(id="query", title=text, image=str(image))


def _queries(
    text: str,
    image: str | Path | None,
    queries: str | Path | Sequence[Offer] | None,
    k: int,
    max_bad: float,
    options: ReadOptions | None,
) -> Sequence[Offer]:
    if queries is None:
        return [query_offer(text, image, k, fetch=bool(options and options.fetch))]
    if text or image:
        raise InputError("search: give --queries, or --text and --image")
    return catalog_with_images(queries, max_bad=max_bad, options=options).offers
