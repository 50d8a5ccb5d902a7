"""A collection of Qdrant that holds an index: its name and address, how it is made, what its points consist of."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from afmrl.errors import InputError, shown_address
from afmrl.files import digest
from afmrl.index.backend import FILTER_COLUMNS
from afmrl.index.records import sealed, stored_dtype, without_secrets
from afmrl.retrieval.bm25 import K1, B

if TYPE_CHECKING:
    from qdrant_client import QdrantClient, models

COLLECTION, PORT = "offers", 6333
NAMESPACE = uuid.UUID("6f6a2f0e-51a8-5d8c-9e53-0d6f3a1c7b42")  # of the points' ids: never to be changed
DENSE, WORDS = "embedding", "words"
HNSW_LINKS, HNSW_CONSTRUCTION = 16, 128


def create_collection(
    client: QdrantClient, address: str, collection: str, dimension: int, settings: Mapping[str, Any]
) -> None:
    """Make an empty collection.

    Raises:
        InputError: the server or the settings cannot have it.
    """
    from qdrant_client import models

    datatype = models.Datatype.FLOAT16 if stored_dtype(address, settings) == "f16" else models.Datatype.FLOAT32
    client.create_collection(
        collection,
        vectors_config={DENSE: models.VectorParams(size=dimension, distance=models.Distance.DOT, datatype=datatype)},
        sparse_vectors_config={WORDS: models.SparseVectorParams(modifier=models.Modifier.IDF)},
        hnsw_config=models.HnswConfigDiff(m=HNSW_LINKS, ef_construct=HNSW_CONSTRUCTION),
        metadata={"afmrl": sealed(dimension, settings), "mean_length": 0.0},
    )
    if not client.get_collection(collection).config.metadata:
        client.delete_collection(collection)
        raise InputError(f"index qdrant:{address}: this Qdrant keeps no metadata of collections; use a newer server")


def index_payload(client: QdrantClient, collection: str) -> None:
    """Index what is filtered by and counted; local mode has no such indexes, and warns when asked for one."""
    from qdrant_client import models

    for column in FILTER_COLUMNS:
        client.create_payload_index(collection, column, models.PayloadSchemaType.KEYWORD, wait=True)
    lengths = models.IntegerIndexParams(type=models.IntegerIndexType.INTEGER, lookup=True, range=False)
    client.create_payload_index(collection, "length", lengths, wait=True)


def server_and_collection(address: str) -> tuple[str, str, str]:
    """URL, path before the collection, and collection.

    >>> server_and_collection("https://host/qdrant/offers")
    ('https://host:6333', 'qdrant', 'offers')
    """
    shown = shown_address(address)
    try:
        parts = urlsplit(address)
        port = parts.port or PORT
    except ValueError as error:
        raise InputError(f"index qdrant:{shown}: is no address ({error})") from error
    prefix, _, collection = parts.path.strip("/").rpartition("/")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None or parts.query:
        raise InputError(
            f"index qdrant:{shown}: give http://host:6333/collection, and a key in the environment variable "
            "QDRANT_API_KEY"
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}:{port}", prefix, collection or COLLECTION


@contextmanager
def answered(address: str) -> Iterator[None]:
    """Turn what a server, a folder or its administrator must repair into an InputError."""
    from qdrant_client.http.exceptions import ApiException

    shown = shown_address(address)
    try:
        yield
    except ApiException as error:
        reason = without_secrets(str(error), address)[:300]
        raise InputError(
            f"index qdrant:{shown}: {reason}; look whether the server runs, at the address and at QDRANT_API_KEY"
        ) from error
    except RuntimeError as error:
        if "already accessed" not in str(error):
            raise
        raise InputError(
            f"index qdrant:{shown}: another process has it open; wait for it, or let both use a Qdrant server"
        ) from error


def point_id(name: str) -> str:
    """The UUID of a row's id: what Qdrant has for one."""
    return str(uuid.uuid5(NAMESPACE, name))


def payload_of(point: Any) -> dict[str, Any]:
    """What a point holds of its row."""
    return point.payload or {}


def numbered(words: Mapping[str, int]) -> dict[int, int]:
    """Counts by a 32-bit number of the word: what Qdrant's sparse vectors are indexed by."""
    counts: Counter[int] = Counter()
    for word, count in words.items():
        counts[int.from_bytes(digest(word.encode("utf-8", "replace"), 4), "big")] += count
    return counts


def sparse(values: Mapping[int, float]) -> models.SparseVector:
    """A sparse vector of numbers by index."""
    from qdrant_client import models

    return models.SparseVector(indices=list(values), values=[float(value) for value in values.values()])


def weighed(words: Counter[str], mean_length: float) -> models.SparseVector:
    """BM25's part of a row, by word: tf / (tf + k1 (1 − b + b · length / mean length)); Qdrant multiplies by the idf.

    >>> weighed(Counter({"red": 2}), mean_length=2.0).values
    [0.5714285714285714]
    """
    normalized = K1 * (1 - B + B * words.total() / max(mean_length, 1e-9))
    return sparse({number: count / (count + normalized) for number, count in numbered(words).items()})
