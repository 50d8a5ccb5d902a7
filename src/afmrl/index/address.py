"""Addresses of indexes: which kind of index one names, and how it is opened."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from afmrl.errors import InputError, check_type
from afmrl.index.backend import IndexBackend

BACKENDS = {
    "local": ("afmrl.index.local.index", "LocalIndex"),
    "postgresql": ("afmrl.index.pgvector.index", "PgvectorIndex"),
    "qdrant": ("afmrl.index.qdrant.index", "QdrantIndex"),
    "lancedb": ("afmrl.index.lancedb.index", "LanceIndex"),
}
"""Kind -> module and class, imported when an index of that kind is opened."""


def index_kind(address: str) -> tuple[str, str]:
    """The kind of index that an address names, and what its backend calls the address.

    >>> index_kind("qdrant:http://host:6333/offers")
    ('qdrant', 'http://host:6333/offers')
    >>> index_kind("shop/index")
    ('local', 'shop/index')

    Raises:
        InputError: an unknown kind.
    """
    kind, separator, rest = str(address).partition(":")
    if separator and kind in ("postgresql", "postgres"):
        return "postgresql", str(address)
    if separator and kind in BACKENDS and kind != "local":
        return kind, rest
    # a mistyped kind must not become a folder of that name; one letter before a colon is a drive
    if "://" in str(address) or (re.fullmatch("[a-z][a-z0-9]+", kind) and separator and not Path(address).exists()):
        raise InputError(f"index {kind}:…: no such kind of index; give a folder, postgresql://…, qdrant:… or lancedb:…")
    return "local", str(address)


def open_index(
    address: str,
    *,
    create: bool = False,
    dimension: int | None = None,
    settings: Mapping[str, Any] | None = None,
) -> IndexBackend:
    """Open an index, or create one.

    Args:
        address: a folder; or "postgresql://…", "qdrant:http://host:6333/collection", "qdrant:PATH", "lancedb:PATH".
        create: make an empty index if there is none; `dimension` and `settings` are then needed.
        dimension: D; an existing index of another dimension is refused.
        settings: what an index remembers. An existing index of another model's fingerprint is refused; the rest of its
            settings stays as it is.

            | key | meaning |
            |---|---|
            | model | `{"path", "fingerprint"}` of the embedder |
            | attributes_on | whose text carries key attributes; with "query" or "none", BM25 reads none of the rows' |
            | seller_attributes | which of the sellers' attributes embedder and BM25 read; without it (an older index) \
the embeddings read none, and BM25 every value of the rows |
            | extracted_words | BM25 also reads the values that rules find in a title |
            | colors | a local index keeps color histograms of the rows' images |
            | dtype | one of DTYPES: how embeddings are stored |
            | exact_below | rows up to which every search compares all of them |

    Raises:
        InputError: there is no index here, it is damaged, it was made for something else, or a package or server is
            missing.
    """
    check_type("open_index: address", address, (str, Path), "an index's folder, or its address")
    if create and (dimension is None or settings is None):
        raise InputError(f"index {address}: creating one needs a dimension and settings")
    kind, rest = index_kind(address)
    module, name = BACKENDS[kind]
    backend = getattr(importlib.import_module(module), name)
    opened: IndexBackend = backend.open(rest, create=create, dimension=dimension, settings=settings)
    return opened
