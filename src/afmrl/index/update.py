"""From a folder of embeddings to an index: create, update, mirror, delete, describe."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from afmrl.bulk.folder import EMBEDDINGS, BulkFolder, embeddings_of, key_attributes_of, offers_of
from afmrl.bulk.images.cache import ImageCache
from afmrl.bulk.images.catalog import fetch_addresses
from afmrl.data.bad_rows import MAX_DELETED, check_deleted
from afmrl.data.image_cache import is_address
from afmrl.errors import InputError, shown_address
from afmrl.files import read_lines
from afmrl.index.address import index_kind, open_index
from afmrl.index.backend import BATCH_ROWS, IndexBackend, Rows, Touched
from afmrl.index.local.index import LocalIndex
from afmrl.retrieval.fusion import FusionWeights
from afmrl.terminal import track

COLUMNS = (
    "id", "title", "category", "seller", "image", "attributes", "product_id", "key_attributes", "fingerprint", "model",
    "embedding",
)  # fmt: skip


@dataclass(frozen=True)
class Update:
    """What an update did to an index."""

    touched: Touched
    deleted: int
    rows: int
    """Of the index afterwards."""
    missing_images: Mapping[str, str] = field(default_factory=dict)
    """Addresses of images that could not be fetched, with the reason; their colors count as none."""

    def __str__(self) -> str:
        touched = self.touched
        deleted = f", deleted {self.deleted:,}" if self.deleted else ""
        images = f"; {len(self.missing_images):,} images cannot be fetched" if self.missing_images else ""
        return (
            f"inserted {touched.inserted:,}, updated {touched.updated:,}, unchanged {touched.unchanged:,}{deleted}; "
            f"{self.rows:,} rows{images}"
        )


def update_index(
    embeddings: str | Path,
    address: str,
    *,
    dtype: str | None = None,
    exact_below: int | None = None,
    mirror: bool = False,
    max_deleted: float = MAX_DELETED,
    fetch: bool = False,
    progress: bool = False,
) -> Update:
    """Bring an index up to date with what `afmrl embed` wrote; create it if there is none.

    A local index is changed in one step: readers see all of it or nothing.

    Args:
        embeddings: folder of `afmrl embed`.
        address: of the index, see `open_index`.
        dtype: how a new index stores embeddings; exact_below: rows up to which it compares all. None: its default.
        mirror: delete the rows that are not among the embeddings.
        max_deleted: share of the rows that `mirror` may delete in one go; 20 always may go.
        fetch: fetch images that are http(s) addresses and not in the cache, where the index keeps images' colors.

    Raises:
        InputError: embeddings of another model or dimension than the index's, options that an existing index
            contradicts, a mirror that would delete too much.
    """
    folder = BulkFolder.open(embeddings, kind=EMBEDDINGS)
    kept = ("model", "generator", "attributes_on", "seller_attributes")
    settings = {name: folder.manifest.get(name) for name in kept}
    settings |= _fusion_settings(folder.manifest.get("model"), address)
    chosen = {"dtype": dtype, "exact_below": exact_below}
    settings |= {name: value for name, value in chosen.items() if value is not None}
    with open_index(address, create=True, dimension=folder.dimension, settings=settings) as index:
        for name, value in chosen.items():
            if value is not None and index.settings.get(name) != value:
                raise InputError(
                    f"index {address}: was made with {name} {index.settings.get(name)}, which cannot be changed to "
                    f"{value}; leave the option out, or make another index"
                )
        _check_rendering(address, index.settings, settings)
        touched, deleted = Touched(), 0
        missing: dict[str, str] = {}
        whole = index.transaction(progress=progress) if isinstance(index, LocalIndex) else contextlib.nullcontext()
        with whole, ImageCache() as images:
            gone: list[str] = []
            if mirror:  # before anything is written: a database keeps what was
                given = {name for batch in folder.batches(["id"]) for name in batch.column("id").to_pylist()}
                gone = [name for rows in index.scan() for name in rows.ids if name not in given]
                check_deleted(gone, len(index), max_deleted, f"index {shown_address(address)}")
            for rows in _tracked(folder, progress):
                if fetch and index.settings.get("colors"):
                    addresses = dict.fromkeys(offer.image for offer in rows.offers if is_address(offer.image))
                    missing |= fetch_addresses(addresses, images)
                touched += index.upsert(rows)
            if mirror:
                deleted = index.delete(gone)
        return Update(touched, deleted, len(index), missing)


def _check_rendering(address: str, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse embeddings of another text than the index's: its searches would not read what its rows read."""
    ours, theirs = (settings.get("seller_attributes") or "none" for settings in (found, wanted))
    if ours != theirs:
        raise InputError(
            f"index {address}: holds embeddings with seller attributes {ours!r}, these were made with {theirs!r}; make "
            f"another index, or embed with --seller-attributes {ours}"
        )


def _fusion_settings(model: Mapping[str, Any] | None, address: str) -> dict[str, Any]:
    """What a new index has to keep for the model's fusion weights beside its embeddings."""
    settings: dict[str, Any] = {}
    if not (model or {}).get("path"):
        return settings
    weights = FusionWeights.of_model(str((model or {})["path"]))
    if weights.extracted:
        settings["extracted_words"] = True
    if weights.color and index_kind(address)[0] == "local":
        settings["colors"] = True
    return settings


def delete_rows(index: IndexBackend, ids: Sequence[str]) -> tuple[int, list[str]]:
    """Delete rows; how many really went, and the ids that were not there."""
    there: set[str] = set()
    for start in range(0, len(ids), BATCH_ROWS):
        there.update(index.get(ids[start : start + BATCH_ROWS]).ids)
    return index.delete(ids), [identifier for identifier in dict.fromkeys(ids) if identifier not in there]


def read_ids(path: Path) -> list[str]:
    """The ids of a text file, one a line, as they stand; an empty line is none.

    Raises:
        InputError: no such file, or no text.
    """
    try:
        lines = read_lines(path)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; give the ids to delete, one a line") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text; give the ids to delete, one a line") from error
    return [line for line in lines if line]


def describe_index(address: str, index: IndexBackend) -> dict[str, str]:
    """What `afmrl index INDEX --info` prints."""
    model: dict[str, Any] = index.settings.get("model") or {}
    generator: dict[str, Any] = index.settings.get("generator") or {}
    facts = {
        "index": address,
        "rows": f"{len(index):,}",
        "dimension": str(index.dimension),
        "stored as": str(index.settings.get("dtype", "")),
        "model": f"{model.get('path', 'unknown')} ({model.get('fingerprint', '')})",
        "generator": f"{generator['path']} ({generator.get('fingerprint', '')})" if generator else "none",
    }
    if isinstance(index, LocalIndex):
        version = index.version
        size = sum(path.stat().st_size for path in Path(address).rglob("*") if path.is_file())
        dead = sum(marks["rows"] for entry in version.segments if (marks := entry.get("dead")))
        if version.graph:
            recall = f"{version.graph['recall']:.3f} of the 10 nearest at width {version.graph['width']}"
            facts["search"] = f"HNSW graph, recall {recall}, of {version.segments[0]['rows']:,} rows"
        else:
            facts["search"] = "exact"
        facts["segments"] = f"{len(version.segments)}, {dead:,} dead rows"
        facts["size on disk"] = f"{size / 1e6:,.1f} MB"
        facts["version"] = f"{version.sequence}, {version.written}"
    return {name: value for name, value in facts.items() if value}


def _tracked(folder: BulkFolder, progress: bool) -> Any:
    batches = (
        Rows(
            batch.column("id").to_pylist(),
            embeddings_of(batch),
            offers_of(batch),
            key_attributes_of(batch),
            _fingerprints(batch),
        )
        for batch in folder.batches(COLUMNS, BATCH_ROWS)
    )
    return track(batches, "Index", -(-len(folder) // BATCH_ROWS), show=progress)


def _fingerprints(batch: Any) -> list[str]:
    # an offer that is read by another model, or with other attributes, makes another row
    columns = (batch.column(name).to_pylist() for name in ("fingerprint", "model"))
    return [f"{row}:{work}" for row, work in zip(*columns, strict=True)]
