"""Embeddings of the offers that are matched: made by `afmrl embed` beside the result, so that a rerun finds them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.data.offer import Offer
from afmrl.data.rows import BadRow, CatalogFile


class OneSide:
    """The rows of a catalog with their text alone, or their image alone (rows that have one)."""

    def __init__(self, rows: CatalogFile, side: str) -> None:
        self._rows, self._side = rows, side
        self.path, self.folder = rows.path, rows.folder

    def __iter__(self) -> Iterator[tuple[int, dict[str, Any] | BadRow]]:
        for number, row in self._rows:
            if isinstance(row, BadRow) or not row.get("image"):
                continue
            if self._side == "text" and str(row.get("title") or "").strip():
                yield number, {**row, "image": ""}
            elif self._side == "image":
                yield number, {**row, "title": "", "description": "", "attributes": None}

    def total(self) -> int | None:
        """As many as the catalog has at most."""
        return self._rows.total()


def embed_offers(
    catalog: Path,
    offers: Sequence[Offer],
    model: str,
    out: Path,
    *,
    generator: str | None = None,
    progress: bool = True,
) -> tuple[dict[str, np.ndarray], list[KeyAttributes] | None]:
    """Embeddings of `offers`, through the folder OUT/embeddings, which a second run takes up again.

    Where offers have images and the model reads them, text alone and image alone are embedded too
    (OUT/embeddings-text, -image).

    Shape:
        returns "fused" (and "text", "image") → (N, D) float16, zeros for an offer that has none; N KeyAttributes that
        the generator wrote, or None.
    """
    from afmrl.bulk.embeddings import EmbedWork
    from afmrl.bulk.folder import BulkFolder, embeddings_of, key_attributes_of
    from afmrl.bulk.job import BulkJob
    from afmrl.bulk.work import EmbedOptions

    rows = {offer.id: row for row, offer in enumerate(offers)}
    work = EmbedWork(EmbedOptions(model=model, generator=generator))
    images = work.reads_images and any(offer.image for offer in offers)
    found: dict[str, np.ndarray] = {}
    generated: list[KeyAttributes] | None = None
    for side in ("fused", "text", "image") if images else ("fused",):
        source = CatalogFile(catalog)
        folder = out / ("embeddings" if side == "fused" else f"embeddings-{side}")
        if side != "fused" and generator is not None:
            # the generator writes once, of the whole offer
            work = EmbedWork(EmbedOptions(model=model))
        job = BulkJob(
            source if side == "fused" else OneSide(source, side), work, folder, max_bad=1.0, progress=progress
        )
        job.run()
        shards = BulkFolder.open(folder)
        embeddings = np.zeros((len(offers), shards.dimension), dtype=np.float16)
        if side == "fused" and generator is not None:
            generated = [KeyAttributes()] * len(offers)
        for batch in shards.batches(["id", "key_attributes", "embedding"]):
            places = [rows.get(identifier, -1) for identifier in batch.column("id").to_pylist()]
            known = [place for place, row in enumerate(places) if row >= 0]
            embeddings[[places[place] for place in known]] = embeddings_of(batch)[known]
            if side == "fused" and generated is not None:
                of_batch = key_attributes_of(batch)
                for place in known:
                    generated[places[place]] = of_batch[place]
        found[side] = embeddings
    return found, generated
