"""Tasks of a catalog: who are queries, who is the gallery, what is relevant; and why a task is not possible."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from afmrl.data.offer import Offer
from afmrl.data.roles import role_of
from afmrl.data.splits import split_of
from afmrl.embedder.embedder import Modality
from afmrl.errors import InputError
from afmrl.evaluation.slices import family_of

RetrievalTaskName = Literal["fine", "coarse", "text-to-image", "image-to-product", "text-to-product"]
TASKS: Mapping[str, str] = {
    "fine": "identical product: image and text against image and text",
    "coarse": "same category: image and text against image and text",
    "text-to-image": "identical product: the query's text against the gallery's images",
    "image-to-product": "identical product: the query's image against image and text",
    "text-to-product": "identical product: the query's text against image and text",
    "classification": "category by a linear probe on frozen embeddings",
    "clustering": "category by k-means of frozen embeddings",
    "pairs": "duplicates among labeled pairs",
}
"""Name -> what it measures, in the order of tables."""
COARSE = "coarse"
EVERYTHING = "all"
"""As a split: every offer of the catalog; as gallery splits: the gallery offers of every split."""
SHARED_GALLERY = "gallery"
"""A split of this name belongs to the gallery of every other."""
_MODALITIES: Mapping[str, tuple[Modality, Modality]] = {
    "fine": ("fused", "fused"),
    "coarse": ("fused", "fused"),
    "text-to-image": ("text", "image"),
    "image-to-product": ("image", "fused"),
    "text-to-product": ("text", "fused"),
}


@dataclass(frozen=True)
class RetrievalTask:
    """Queries, a gallery, and what is relevant."""

    name: str
    queries: Sequence[Offer]
    gallery: Sequence[Offer]
    """Sorted by id, so that equal scores are in the order of ids."""
    relevant: Sequence[np.ndarray]
    """Q arrays of gallery rows, rising; never the query's own."""
    own_rows: np.ndarray
    """(Q,) gallery row of the query's own offer, −1 where the gallery does not hold it."""
    clusters: Sequence[str]
    """Q names: family; without one, product; without one, the query's id. The units of the bootstrap."""
    query_modality: Modality = "fused"
    gallery_modality: Modality = "fused"


@dataclass(frozen=True)
class Impossible:
    """A task that the catalog does not allow, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class SplitOffers:
    """The offers of one split, and the gallery that its queries are searched in."""

    name: str
    offers: Sequence[Offer]
    gallery_offers: Sequence[Offer]
    """Of the split and of the gallery splits, whatever their role."""


def choose_split(offers: Sequence[Offer], split: str | None = None, gallery_splits: Sequence[str] = ()) -> SplitOffers:
    """The offers that are evaluated: those of a split; by default "test", or "val" without it, or all.

    Args:
        split: a value of the column `split`, or "all".
        gallery_splits: whose gallery offers are searched besides the split's own; by default those of the split
            "gallery", where there is one; "all": of every split.

    Raises:
        InputError: no offer belongs to a split that was asked for.
    """
    counts = Counter(split_of(offer) for offer in offers)
    for asked in [*([split] if split else []), *gallery_splits]:
        if asked != EVERYTHING and asked not in counts:
            named = ", ".join(f"{name or '(empty)'} ({count})" for name, count in sorted(counts.items()))
            raise InputError(f"split {asked!r}: no offer says so in the column 'split'; there are: {named}")
    chosen = split or next((name for name in ("test", "val") if counts[name]), EVERYTHING)
    own = [offer for offer in offers if chosen == EVERYTHING or split_of(offer) == chosen]
    others = set(gallery_splits or [SHARED_GALLERY]) - {chosen}
    gallery = [
        offer for offer in offers
        if chosen == EVERYTHING or EVERYTHING in others or split_of(offer) in {chosen, *others}
    ]  # fmt: skip
    return SplitOffers(chosen, own, gallery)


def cluster_of(offer: Offer) -> str:
    """The unit of the bootstrap that an offer belongs to: its family; without one, its product; without one, itself."""
    return family_of(offer) or offer.product_id or offer.id


def build_task(name: RetrievalTaskName | str, split: SplitOffers) -> RetrievalTask | Impossible:
    """A retrieval task of a split, or why it is not possible.

    Queries are the offers whose column `role` says "query" or "both"; an offer without a role is a query if it is the
    first of its product in the split and the product has another. The others, and "both", are the gallery. Of a
    catalog without roles and without two offers of a product, "coarse" takes every offer of the split as a query and
    every one as gallery: the query itself is no hit.

    Queries without a relevant gallery offer stay in the task; the protocol says whether they count.

    Raises:
        InputError: the name of no retrieval task.
    """
    if name not in get_args(RetrievalTaskName):
        raise InputError(f"task {name!r}: one of {', '.join(get_args(RetrievalTaskName))}")
    query_modality, gallery_modality = _MODALITIES[name]
    queries, gallery = _roles(split)
    coarse = name == COARSE
    if coarse and not queries:
        queries, gallery = list(split.offers), list(split.gallery_offers)
    label: Callable[[Offer], str] = _category if coarse else _product
    if not queries:
        return Impossible(name, "no queries: no offer has the role 'query', and no two share a product_id")
    queries = [offer for offer in queries if label(offer)]
    if not queries:
        return Impossible(name, f"no query has a {'category' if coarse else 'product_id'}")
    for what, modality, offers in (("query", query_modality, queries), ("gallery offer", gallery_modality, gallery)):
        if modality == "image" and not any(offer.image for offer in offers):
            return Impossible(name, f"no {what} has an image")
        if modality == "text" and not any(offer.title.strip() for offer in offers):
            return Impossible(name, f"no {what} has a title")
    queries = [offer for offer in queries if _has(offer, query_modality)]
    gallery = sorted((offer for offer in gallery if _has(offer, gallery_modality)), key=lambda offer: offer.id)
    if not gallery:
        return Impossible(name, "the gallery is empty: no offer of it has the role 'gallery'")
    if coarse and len({label(offer) for offer in gallery if label(offer)} | {label(offer) for offer in queries}) < 2:
        return Impossible(name, "one category: every offer would be relevant")
    row_of = {offer.id: row for row, offer in enumerate(gallery)}
    members: dict[str, list[int]] = defaultdict(list)
    for row, offer in enumerate(gallery):
        if label(offer):
            members[label(offer)].append(row)
    arrays = {value: np.array(rows, dtype=np.int64) for value, rows in members.items()}
    nothing = np.empty(0, dtype=np.int64)
    own_rows = np.array([row_of.get(offer.id, -1) for offer in queries], dtype=np.int64)
    relevant = [
        rows[rows != own] if own >= 0 else rows
        for rows, own in zip((arrays.get(label(offer), nothing) for offer in queries), own_rows, strict=True)
    ]
    if not any(map(len, relevant)):
        return Impossible(
            name, f"no query has {'an offer of its category' if coarse else 'its product'} in the gallery"
        )
    return RetrievalTask(
        name,
        queries,
        gallery,
        relevant,
        own_rows,
        [cluster_of(offer) for offer in queries],
        query_modality,
        gallery_modality,
    )


def _roles(split: SplitOffers) -> tuple[list[Offer], list[Offer]]:
    """Queries of the split, and the gallery: everything that is no query, or is both."""
    sizes: dict[str, list[str]] = defaultdict(list)
    for offer in split.offers:
        sizes[offer.product_id or offer.id].append(offer.id)
    first = {ids[0] for ids in sizes.values() if len(ids) > 1}
    queries = [o for o in split.offers if role_of(o) in ("query", "both") or (not role_of(o) and o.id in first)]
    asked = {offer.id for offer in queries if role_of(offer) != "both"}
    gallery = [offer for offer in split.gallery_offers if offer.id not in asked and role_of(offer) != "query"]
    return queries, gallery


def _product(offer: Offer) -> str:
    return offer.product_id


def _category(offer: Offer) -> str:
    return offer.category.strip()


def _has(offer: Offer, modality: Modality) -> bool:
    if modality == "image":
        return bool(offer.image)
    return bool(offer.title.strip()) if modality == "text" else True
