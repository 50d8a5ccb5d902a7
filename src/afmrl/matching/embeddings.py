"""Embeddings of the offers that are matched, kept in the output folder as `afmrl embed` keeps them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.data.image_cache import is_address
from afmrl.data.offer import FIELDS, BadRow, Offer
from afmrl.data.rows import CatalogRows
from afmrl.embedder.embedder import Modality


class OneModality:
    """The rows of a catalog with their text alone, or their image alone (rows that have one)."""

    def __init__(self, rows: CatalogRows, modality: Modality) -> None:
        self._rows, self._modality = rows, modality
        self.path, self.folder, self.options, self.format = rows.path, rows.folder, rows.options, rows.format

    def __iter__(self) -> Iterator[tuple[int, dict[str, Any] | BadRow]]:
        for number, row in self._rows:
            if isinstance(row, BadRow) or not row.get("image"):
                continue
            # the fields alone: another column may hold more images, or an attribute
            fields = {name: row.get(name) for name in FIELDS}
            if self._modality == "text" and str(row.get("title") or "").strip():
                yield number, {**fields, "image": ""}
            elif self._modality == "image":
                yield number, {**fields, "title": "", "description": "", "attributes": None}

    def total(self) -> int | None:
        """As many as the catalog has at most."""
        return self._rows.total()


def embed_offers(
    rows: CatalogRows,
    offers: Sequence[Offer],
    model: str,
    folder: Path,
    *,
    generator: str | None = None,
    progress: bool = True,
) -> tuple[dict[str, np.ndarray], list[KeyAttributes] | None]:
    """Embeddings of `offers`, kept in FOLDER/embeddings, so that a second run embeds only what has changed.

    Where offers have images and the model reads them, text alone and image alone are embedded too
    (FOLDER/embeddings-text, -image).

    Shape:
        returns "fused" (and "text", "image") → (N, D) float16, zeros for an offer that has none; N KeyAttributes that
        the generator wrote, or None.
    """
    from afmrl.bulk.embeddings import EmbedWork
    from afmrl.bulk.folder import BulkFolder, embeddings_of, key_attributes_of
    from afmrl.bulk.job import BulkJob
    from afmrl.bulk.work import EmbedOptions

    places = {offer.id: place for place, offer in enumerate(offers)}
    fetched = any(is_address(offer.image) for offer in offers)
    work = EmbedWork(EmbedOptions(model=model, generator=generator, fetch=fetched))
    images = work.reads_images and any(offer.image for offer in offers)
    found: dict[str, np.ndarray] = {}
    generated: list[KeyAttributes] | None = None
    modalities: tuple[Modality, ...] = get_args(Modality) if images else ("fused",)
    for modality in modalities:
        out = folder / ("embeddings" if modality == "fused" else f"embeddings-{modality}")
        if modality != "fused" and generator is not None:
            # the generator writes once, of the whole offer
            work = EmbedWork(EmbedOptions(model=model, fetch=fetched))
        source = rows if modality == "fused" else OneModality(rows, modality)
        BulkJob(source, work, out, max_bad=1.0, addresses=fetched, progress=progress).run()
        shards = BulkFolder.open(out)
        embeddings = np.zeros((len(offers), shards.dimension), dtype=np.float16)
        if modality == "fused" and generator is not None:
            generated = [KeyAttributes()] * len(offers)
        for batch in shards.batches(["id", "key_attributes", "embedding"]):
            of_batch = [places.get(identifier, -1) for identifier in batch.column("id").to_pylist()]
            known = [row for row, place in enumerate(of_batch) if place >= 0]
            embeddings[[of_batch[row] for row in known]] = embeddings_of(batch)[known]
            if modality == "fused" and generated is not None:
                written = key_attributes_of(batch)
                for row in known:
                    generated[of_batch[row]] = written[row]
        found[modality] = embeddings
    return found, generated
