"""An index in Qdrant: a server's collection, or a folder in the client's local mode."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.data.offer import Offer
from afmrl.errors import InputError, shown_address
from afmrl.index.backend import (
    BATCH_ROWS,
    EXACT_BELOW,
    MAX_VALUES,
    Hits,
    Rows,
    Touched,
    Where,
    check_queries,
    check_rows,
    check_settings,
    check_where,
    offer_words,
)
from afmrl.index.qdrant.collection import (
    COLLECTION,
    DENSE,
    WORDS,
    answered,
    create_collection,
    index_payload,
    numbered,
    payload_of,
    point_id,
    server_and_collection,
    sparse,
    weighed,
)
from afmrl.index.records import (
    chunks,
    color_histograms_of,
    offer_of,
    records_of,
    scores_by_id,
    sealed,
    unsealed,
    word_counts,
)

if TYPE_CHECKING:
    from qdrant_client import QdrantClient, models

POINTS_AT_ONCE = 256  # of one request: a server refuses those of over 32 MB
QUERIES_AT_ONCE = 32
SEARCHED = 128  # candidates that a search of the graph keeps, at least
DRIFT = 0.05
"""How far the offers' mean length may be from the one in their weights before those are computed again."""
MAX_LENGTHS = 100_000  # distinct ones
TIMEOUT_SECONDS = 60


class QdrantIndex:
    """Rows of an index as points of a collection.

    A point's id is the UUIDv5 of the row's; its payload holds the row. BM25 is a sparse vector of saturated counts that
    Qdrant multiplies by each word's inverse document frequency; the mean length in it is the collection's as `close`
    last found it to have drifted by over 5 %, so that scores of BM25 may be off by a few percent in between.

    An upsert is sent in requests of 256 points: one that is broken off has written some of them, and the same
    upsert again writes the rest. Up to `exact_below` rows every search compares all of them; above, the server's HNSW
    index answers, and where it finds fewer than k rows, all are compared. Local mode always compares all.
    """

    def __init__(
        self,
        client: QdrantClient,
        address: str,
        collection: str,
        dimension: int,
        settings: dict[str, Any],
        *,
        mean_length: float,
        local: bool,
    ) -> None:
        self._client, self._address, self._collection, self._local = client, address, collection, local
        self.dimension, self.settings = dimension, settings
        self._mean_length = mean_length
        self._written = False

    @classmethod
    def open(
        cls,
        address: str,
        *,
        create: bool = False,
        dimension: int | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> Self:
        """Open or create; see `open_index`.

        Args:
            address: "http://host:6333/collection", with the key in the environment variable QDRANT_API_KEY where the
                server wants one; or a folder.
        """
        shown = shown_address(address)
        try:
            from qdrant_client import QdrantClient
        except ImportError as error:
            raise InputError(
                f'index {shown}: the package qdrant-client is missing; pip install "afmrl[qdrant]"'
            ) from error
        local = "://" not in address
        with answered(address):
            if local:
                if not address or (not create and not (Path(address) / "meta.json").is_file()):
                    raise InputError(
                        f"index qdrant:{address}: no index is here; make it with: afmrl index EMBEDDINGS --out …"
                    )
                client, collection = QdrantClient(path=address), COLLECTION
            else:
                url, prefix, collection = server_and_collection(address)
                client = QdrantClient(
                    url=url,
                    prefix=prefix or None,
                    api_key=os.environ.get("QDRANT_API_KEY"),
                    timeout=TIMEOUT_SECONDS,
                    check_compatibility=False,  # asks the server before there is anything to ask
                )
            try:
                if not client.collection_exists(collection):
                    if not create:
                        raise InputError(
                            f"index {shown}: no index is here; make it with: "
                            f"afmrl index EMBEDDINGS --out qdrant:{shown}"
                        )
                    create_collection(client, shown, collection, dimension or 0, settings or {})
                if create and not local:
                    index_payload(client, collection)
                metadata = client.get_collection(collection).config.metadata or {}
                held, held_settings = unsealed(shown, metadata.get("afmrl"))
                check_settings(shown, held_settings, held, wanted=settings, wanted_dimension=dimension)
                mean_length = float(metadata.get("mean_length", 0.0))
                return cls(client, address, collection, held, held_settings, mean_length=mean_length, local=local)
            except BaseException:
                client.close()
                raise

    def __len__(self) -> int:
        with answered(self._address):
            return self._client.count(self._collection, exact=True).count

    def upsert(self, rows: Rows) -> Touched:
        """See `IndexBackend.upsert`; not one transaction, see the class."""
        check_rows(rows, self.dimension)
        with answered(self._address):
            known = self._fingerprints(rows.ids)
            changed = [i for i, name in enumerate(rows.ids) if known.get(name) != rows.fingerprints[i]]
            words = {i: self._row_words(rows.offers[i], rows.key_attributes[i]) for i in changed}
            if not self._mean_length and words:
                self._set_mean_length(sum(counts.total() for counts in words.values()) / len(words))
            for places in chunks(changed, POINTS_AT_ONCE):
                records = zip(places, records_of(rows.take(places)), strict=True)
                points = [self._point(rows.embeddings[i], record, words[i]) for i, record in records]
                self._check_done(self._client.upsert(self._collection, points, wait=True))
        self._written |= bool(changed)
        updated = sum(rows.ids[i] in known for i in changed)
        return Touched(len(changed) - updated, updated, len(rows) - len(changed))

    def delete(self, ids: Collection[str]) -> int:
        """See `IndexBackend.delete`."""
        with answered(self._address):
            known = list(self._fingerprints(list(dict.fromkeys(ids))))
            for names in chunks(known, POINTS_AT_ONCE):
                points: list[Any] = [point_id(name) for name in names]
                self._check_done(self._client.delete(self._collection, points, wait=True))
        self._written |= bool(known)
        return len(known)

    def get(self, ids: Sequence[str]) -> Rows:
        """See `IndexBackend.get`."""
        found: dict[str, Any] = {}
        with answered(self._address):
            for names in chunks(dict.fromkeys(ids), POINTS_AT_ONCE):
                for point in self._client.retrieve(
                    self._collection, [point_id(name) for name in names], with_payload=True, with_vectors=[DENSE]
                ):
                    found[payload_of(point)["id"]] = point
        return self._rows([found[name] for name in dict.fromkeys(ids) if name in found])

    def scan(self, batch_rows: int = BATCH_ROWS) -> Iterator[Rows]:
        """See `IndexBackend.scan`; in the order of the points' ids."""
        offset: Any = None
        while True:
            with answered(self._address):
                points, offset = self._client.scroll(
                    self._collection, limit=batch_rows, offset=offset, with_payload=True, with_vectors=[DENSE]
                )
            if points:
                yield self._rows(points)
            if offset is None:
                return

    def search(self, queries: np.ndarray, k: int, *, where: Where | None = None) -> Hits:
        """See `IndexBackend.search`."""
        from qdrant_client import models

        queries = check_queries(queries, self.dimension, k)
        exact = self._local or len(self) <= int(self.settings.get("exact_below", EXACT_BELOW))
        # local mode compares all rows, and warns of parameters
        exactly = None if self._local else models.SearchParams(exact=True)
        params = exactly if exact else models.SearchParams(hnsw_ef=max(SEARCHED, 2 * k))
        hits = self._query(queries.tolist(), DENSE, k, where, params)
        if not exact:
            few = [place for place, ids in enumerate(hits.ids) if len(ids) < k]
            again = self._query(queries[few].tolist(), DENSE, k, where, exactly)
            for place, ids, scores in zip(few, again.ids, again.scores, strict=True):
                hits.ids[place], hits.scores[place] = ids, scores
        return hits

    def lexical(self, texts: Sequence[str], k: int, *, where: Where | None = None) -> Hits:
        """See `IndexBackend.lexical`; BM25 with the mean length that the class describes."""
        if k < 1:
            raise InputError(f"search: k={k}: at least one hit")
        return self._query([sparse(numbered(word_counts(text))) for text in texts], WORDS, k, where, None)

    def lexical_scores(self, texts: Sequence[str], ids: Sequence[Sequence[str]]) -> list[np.ndarray]:
        """See `IndexBackend.lexical_scores`; BM25 with the mean length that the class describes."""
        from qdrant_client import models

        scores = []
        for text, names in zip(texts, ids, strict=True):
            if not names:
                scores.append(np.empty(0, dtype=np.float32))
                continue
            among = models.HasIdCondition(has_id=[point_id(name) for name in names])
            query = sparse(numbered(word_counts(text)))
            found = self._query([query], WORDS, len(names), None, None, among=among)
            scores.append(scores_by_id(names, found.ids[0], found.scores[0]))
        return scores

    def values(self, column: str) -> list[str]:
        """See `IndexBackend`."""
        with answered(self._address):
            hits = self._client.facet(self._collection, key=column, limit=MAX_VALUES, exact=True).hits
        return sorted(str(hit.value) for hit in hits)

    def color_histograms(self, ids: Sequence[str]) -> np.ndarray:
        """See `IndexBackend.color_histograms`."""
        return color_histograms_of(self.get(ids), ids)

    def close(self) -> None:
        """Weigh words again where their offers' mean length has drifted; let go of the connection or the folder."""
        try:
            if self._written:
                self._written = False
                with answered(self._address):
                    self._follow_mean_length()
        finally:
            self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._written = False
        self.close()

    def _query(
        self,
        queries: Sequence[Any],
        using: str,
        k: int,
        where: Where | None,
        params: models.SearchParams | None,
        among: models.HasIdCondition | None = None,
    ) -> Hits:
        from qdrant_client import models

        checked = check_where(where)
        hits = Hits([], [])
        conditions: list[Any] = [
            models.FieldCondition(key=column, match=models.MatchAny(any=sorted(values)))
            for column, values in checked.items()
        ]
        passing = models.Filter(must=[*conditions, *([among] if among else [])])
        nothing = not all(checked.values())  # MatchAny of no value would be refused by a server
        with answered(self._address):
            for some in chunks(queries, QUERIES_AT_ONCE):
                requests = [
                    models.QueryRequest(
                        query=query, using=using, filter=passing, params=params, limit=k, with_payload=["id"]
                    )
                    for query in some
                ]
                answers = [] if nothing else self._client.query_batch_points(self._collection, requests)
                for place in range(len(some)):
                    points = [] if nothing else answers[place].points
                    hits.ids.append([payload_of(point)["id"] for point in points])
                    hits.scores.append(np.array([point.score for point in points], dtype=np.float32))
        return hits

    def _point(self, embedding: np.ndarray, record: dict[str, str], words: Counter[str]) -> models.PointStruct:
        from qdrant_client import models

        dense = embedding.astype(np.float32).tolist()
        return models.PointStruct(
            id=point_id(record["id"]),
            payload={**record, "length": words.total()},
            vector={DENSE: dense, WORDS: weighed(words, self._mean_length)},
        )

    def _row_words(self, offer: Offer, key_attributes: KeyAttributes) -> Counter[str]:
        return word_counts(offer_words(self.settings).of_gallery(offer, key_attributes))

    def _fingerprints(self, ids: Sequence[str]) -> dict[str, str]:
        found: dict[str, str] = {}
        for names in chunks(ids, POINTS_AT_ONCE):
            points = self._client.retrieve(
                self._collection, [point_id(name) for name in names], with_payload=["id", "fingerprint"]
            )
            found |= {payload_of(point)["id"]: payload_of(point)["fingerprint"] for point in points}
        return found

    def _set_mean_length(self, mean_length: float) -> None:
        metadata = {"afmrl": sealed(self.dimension, self.settings), "mean_length": mean_length}
        self._client.update_collection(self._collection, metadata=metadata)
        self._mean_length = mean_length

    def _follow_mean_length(self) -> None:
        hits = self._client.facet(self._collection, key="length", limit=MAX_LENGTHS, exact=True).hits
        total, count = sum(int(hit.value) * hit.count for hit in hits), sum(hit.count for hit in hits)
        if not total or abs(total / count / self._mean_length - 1) <= DRIFT:
            return
        from qdrant_client import models

        self._mean_length = total / count
        for rows in self.scan(POINTS_AT_ONCE):
            words = map(self._row_words, rows.offers, rows.key_attributes)
            points = [
                models.PointVectors(id=point_id(name), vector={WORDS: weighed(counts, self._mean_length)})
                for name, counts in zip(rows.ids, words, strict=True)
            ]
            self._check_done(self._client.update_vectors(self._collection, points, wait=True))
        self._set_mean_length(self._mean_length)  # last: a stop before weighs them again

    def _check_done(self, result: models.UpdateResult) -> None:
        if result.status.value != "completed":
            raise InputError(
                f"index qdrant:{shown_address(self._address)}: the server has not finished a write "
                f"({result.status.value}); give it time, then run the same again"
            )

    def _rows(self, points: Sequence[Any]) -> Rows:
        payloads = [payload_of(point) for point in points]
        pairs = [offer_of(payload) for payload in payloads]
        embeddings = np.array([point.vector[DENSE] for point in points], dtype=np.float32)
        return Rows(
            [payload["id"] for payload in payloads],
            embeddings.reshape(len(points), self.dimension),
            [offer for offer, _ in pairs],
            [attributes for _, attributes in pairs],
            [payload["fingerprint"] for payload in payloads],
        )
