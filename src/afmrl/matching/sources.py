"""Where the offers of a match come from: a catalog's file, offers in memory, an index, or a catalog and an index."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.bulk.images.catalog import catalog_with_images
from afmrl.data.offer import FIELDS, Offer, SkippedRow, skipped_in_words
from afmrl.data.offer_text import offer_text
from afmrl.data.reading import ReadOptions
from afmrl.data.rows import CatalogFile, CatalogRows
from afmrl.errors import InputError, shown_address
from afmrl.index.address import open_index
from afmrl.index.records import empty_index

if TYPE_CHECKING:
    from afmrl.index.backend import IndexBackend

AT_ONCE = 1_024  # offers that an index is asked about at a time
NEAREST = 20  # rows of an index that may be the same as an offer, by embedding and by words each


class DataFrame(Protocol):
    """What is used of a pandas DataFrame, a row an offer; pandas itself need not be installed."""

    def astype(self, dtype: Any) -> Any: ...
    def notna(self) -> Any: ...


OffersToMatch = str | Path | Iterable[Offer | Mapping[str, Any]] | DataFrame


@dataclass
class MatchSource:
    """Offers in the order of their ids, and what is known of them apart from their rows.

    Shape:
        dense: "fused" (and "text", "image") → (N, D); from_index (N,) bool: which offers are the index's; None: there
        are not two kinds.
    """

    offers: list[Offer]
    generated: list[KeyAttributes] | None = None
    dense: dict[str, np.ndarray] = field(default_factory=dict)
    from_index: np.ndarray | None = None
    skipped_ids: list[str] = field(default_factory=list)
    skipped: Sequence[SkippedRow] = ()
    notes: list[str] = field(default_factory=list)

    @property
    def by_id(self) -> Mapping[str, Offer]:
        """Offers by id."""
        return {offer.id: offer for offer in self.offers}


class OffersInMemory:
    """Offers and dicts as the rows of a catalog; an image's relative path is relative to the working directory."""

    format = ""

    def __init__(
        self,
        offers: Iterable[Offer | Mapping[str, Any]],
        path: Path = Path("offers"),
        options: ReadOptions | None = None,
    ) -> None:
        self.path, self.options = path, options or ReadOptions()
        self.folder = Path.cwd()
        self._rows = [self._row(number, offer) for number, offer in enumerate(offers, 1)]

    @staticmethod
    def _row(number: int, offer: Any) -> dict[str, Any]:
        if isinstance(offer, Offer):
            return {**offer.extra, **{name: getattr(offer, name) for name in FIELDS}}
        if isinstance(offer, Mapping):
            return dict(offer)
        raise InputError(f"offers: row {number} is {type(offer).__name__}; give each offer as an Offer or a dict")

    def __iter__(self) -> Iterator[tuple[int, dict[str, Any]]]:
        return enumerate(self._rows, 1)

    def total(self) -> int:
        """How many rows there are."""
        return len(self._rows)


def catalog_rows(offers: Any, options: ReadOptions | None = None) -> CatalogRows:
    """The rows of a catalog's file, of offers in memory, or of a pandas DataFrame.

    Args:
        options: which column is read as what, and how a file is written.

    Raises:
        InputError: `offers` is something else.
    """
    if isinstance(offers, str | Path):
        return CatalogFile(offers, options)
    if hasattr(offers, "to_dict") and hasattr(offers, "notna"):
        # None for every empty cell: pandas has several kinds, and one of them compares as neither true nor false
        cells = offers.astype(object)
        return OffersInMemory(cells.where(cells.notna(), None).to_dict("records"), options=options)
    if isinstance(offers, Mapping | bytes) or not isinstance(offers, Iterable):
        raise InputError(
            f"match: offers is {type(offers).__name__}; give a catalog's file, a list of Offers or dicts, or a pandas "
            "DataFrame"
        )
    return OffersInMemory(offers, options=options)


def read_offers(
    offers: OffersToMatch,
    folder: Path,
    *,
    model: str | None,
    generator: str | None,
    max_bad: float,
    options: ReadOptions | None,
    progress: bool,
) -> MatchSource:
    """The offers of a catalog, embedded where there is a model.

    Args:
        folder: where the embeddings are kept.
        options: of a catalog's file.
    """
    rows = catalog_rows(offers, options)
    catalog = catalog_with_images(rows, max_bad=max_bad, options=options, progress=progress)
    source = MatchSource(
        sorted(catalog.offers, key=lambda offer: offer.id),
        skipped_ids=catalog.skipped_ids,
        skipped=catalog.faults,
    )
    if catalog.faults:
        source.notes.append(skipped_in_words(catalog.faults))
    if model is not None:
        from afmrl.matching.embeddings import embed_offers

        source.dense, source.generated = embed_offers(
            OffersInMemory(source.offers, rows.path),
            source.offers,
            model,
            folder,
            generator=generator,
            progress=progress,
        )
    return source


def offers_of_index(address: str) -> MatchSource:
    """All rows of an index, with its embeddings."""
    offers: list[Offer] = []
    generated: list[KeyAttributes] = []
    embeddings = []
    with open_index(address) as index:
        for rows in index.scan():
            offers += rows.offers
            generated += rows.key_attributes
            embeddings.append(rows.embeddings.astype(np.float16))
        dimension = index.dimension
    if not offers:
        raise InputError(empty_index(address))
    order = sorted(range(len(offers)), key=lambda row: offers[row].id)
    dense = np.concatenate(embeddings) if embeddings else np.zeros((0, dimension), np.float16)
    return MatchSource([offers[row] for row in order], [generated[row] for row in order], {"fused": dense[order]})


def with_index(source: MatchSource, address: str) -> MatchSource:
    """The offers of a source and the rows of an index that may be the same as one of them.

    Rows are searched for by words and, where the source is embedded, by embedding; the index is never read as a whole.
    A row with the id of one of the offers is its older version and is left out.

    Raises:
        InputError: the index was made with another model than the source's.
    """
    with open_index(address) as index:
        if not len(index):
            raise InputError(empty_index(address))
        found = _likely_ids(index, source, address)
        ours = source.by_id
        rows = index.get(sorted(found - ours.keys()))
        older = sorted(found & ours.keys())
    shown = shown_address(address)
    if older and not rows.offers:
        raise InputError(
            f"index {shown}: holds the same offers, first: {older[0]!r}; give --against an index of other offers, or "
            "leave it out to match the offers among themselves"
        )
    if older:
        left_out = (
            f"{len(older):,} rows of index {shown} have ids of the offers and are left out as their older versions"
        )
        source.notes.append(f"{left_out}, first: {older[0]!r}")
    offers = [*source.offers, *rows.offers]
    order = sorted(range(len(offers)), key=lambda row: offers[row].id)
    from_index = np.array([False] * len(source.offers) + [True] * len(rows.offers))[order]
    dense: dict[str, np.ndarray] = {}
    if "fused" in source.dense:
        # text alone and image alone are not kept in an index
        dense["fused"] = np.concatenate([source.dense["fused"], rows.embeddings.astype(np.float16)])[order]
    generated = [*(source.generated or [KeyAttributes()] * len(source.offers)), *rows.key_attributes]
    return MatchSource(
        [offers[row] for row in order], [generated[row] for row in order], dense, from_index, source.skipped_ids,
        source.skipped, source.notes,
    )  # fmt: skip


def _likely_ids(index: IndexBackend, source: MatchSource, address: str) -> set[str]:
    """Ids of the rows of an index nearest to the offers, by words and by embedding."""
    embeddings = source.dense.get("fused")
    if embeddings is not None and embeddings.shape[1] != index.dimension:
        raise InputError(
            f"index {address}: its embeddings have {index.dimension} dimensions, the model's {embeddings.shape[1]}; "
            f"give the model that it was made with ({json.dumps(index.settings.get('model'))})"
        )
    found: set[str] = set()
    for start in range(0, len(source.offers), AT_ONCE):
        block = source.offers[start : start + AT_ONCE]
        for ids in index.lexical([offer_text(offer) for offer in block], NEAREST).ids:
            found.update(ids)
        if embeddings is not None:
            for ids in index.search(embeddings[start : start + AT_ONCE].astype(np.float32), NEAREST).ids:
                found.update(ids)
    return found
