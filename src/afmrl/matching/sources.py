"""Where the offers of a match come from: a catalog's file, an index, or both."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.data.catalog import read_catalog
from afmrl.data.offer import Offer
from afmrl.data.offer_text import offer_text
from afmrl.errors import InputError

if TYPE_CHECKING:
    from afmrl.index.backend import IndexBackend

ADDRESSES = ("postgresql:", "postgres:", "qdrant:", "lancedb:")
AT_ONCE = 1_024  # offers that an index is asked about at a time
ASKED = 20  # rows of an index that may be the same as an offer, by embedding and by words each


@dataclass
class MatchSource:
    """Offers by id, and what is known of them beside their rows.

    Shape:
        dense: "fused" (and "text", "image") → (N, D); side (N,): 0 the catalog's, 1 the index's; None: one side.
    """

    offers: list[Offer]
    generated: list[KeyAttributes] | None = None
    dense: dict[str, np.ndarray] = field(default_factory=dict)
    side: np.ndarray | None = None
    skipped_ids: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def read(self) -> Mapping[str, Offer]:
        """Offers by id."""
        return {offer.id: offer for offer in self.offers}


def is_index(address: str) -> bool:
    """Whether an address is an index's: a database's, or a folder."""
    return address.startswith(ADDRESSES) or Path(address).is_dir()


def offers_of_catalog(
    catalog: Path, out: Path, *, model: str | None, generator: str | None, max_bad: float, progress: bool
) -> MatchSource:
    """The offers of a file, embedded where there is a model."""
    read = read_catalog(catalog, max_bad=max_bad)
    source = MatchSource(
        sorted(read.offers, key=lambda offer: offer.id), skipped_ids=[row.id for row in read.skipped if row.id]
    )
    if read.skipped:
        source.notes.append(f"{len(read.skipped)} rows of {catalog} could not be used, first: {read.skipped[0]}")
    if model is not None:
        from afmrl.matching.embeddings import embed_offers

        source.dense, source.generated = embed_offers(
            catalog, source.offers, model, out, generator=generator, progress=progress
        )
    return source


def offers_of_index(address: str) -> MatchSource:
    """All rows of an index, with its embeddings."""
    from afmrl.index.address import open_index

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
        raise InputError(f"index {address}: holds no offers to match")
    order = sorted(range(len(offers)), key=lambda row: offers[row].id)
    dense = np.concatenate(embeddings) if embeddings else np.zeros((0, dimension), np.float16)
    return MatchSource([offers[row] for row in order], [generated[row] for row in order], {"fused": dense[order]})


def with_index(source: MatchSource, address: str) -> MatchSource:
    """The offers of a source and the rows of an index that may be the same as one of them.

    Rows are asked for by words and, where the source is embedded, by embedding; the index is never read as a whole. A
    row with the id of one of the offers is its older version and left out.

    Raises:
        InputError: the index was made with another model than the source's.
    """
    from afmrl.index.address import open_index

    with open_index(address) as index:
        found = _asked(index, source, address)
        ours = source.read
        rows = index.get(sorted(found - ours.keys()))
    offers = [*source.offers, *rows.offers]
    order = sorted(range(len(offers)), key=lambda row: offers[row].id)
    side = np.array([0] * len(source.offers) + [1] * len(rows.offers), dtype=np.int8)[order]
    dense: dict[str, np.ndarray] = {}
    if "fused" in source.dense:
        # text alone and image alone are not kept in an index
        dense["fused"] = np.concatenate([source.dense["fused"], rows.embeddings.astype(np.float16)])[order]
    generated = [*(source.generated or [KeyAttributes()] * len(source.offers)), *rows.key_attributes]
    return MatchSource(
        [offers[row] for row in order], [generated[row] for row in order], dense, side, source.skipped_ids, source.notes
    )


def _asked(index: IndexBackend, source: MatchSource, address: str) -> set[str]:
    embeddings = source.dense.get("fused")
    if embeddings is not None and embeddings.shape[1] != index.dimension:
        raise InputError(
            f"index {address}: its embeddings have {index.dimension} dimensions, the model's {embeddings.shape[1]}; "
            f"give the model that it was made with ({json.dumps(index.settings.get('model'))})"
        )
    found: set[str] = set()
    for start in range(0, len(source.offers), AT_ONCE):
        block = source.offers[start : start + AT_ONCE]
        for ids in index.lexical([offer_text(offer) for offer in block], ASKED).ids:
            found.update(ids)
        if embeddings is not None:
            for ids in index.search(embeddings[start : start + AT_ONCE].astype(np.float32), ASKED).ids:
                found.update(ids)
    return found
