"""What a server does, whatever protocol it is asked in: embed, write attributes, search, rerank, match, change rows."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from afmrl.attributes.attributes_on import on_gallery, on_query
from afmrl.attributes.extractor import AttributeExtractor
from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.bulk.fingerprints import model_fingerprint, row_fingerprint
from afmrl.data.offer import Offer
from afmrl.errors import InputError, shown_address
from afmrl.files import fingerprint
from afmrl.index.address import index_kind
from afmrl.index.backend import Hits, IndexBackend, Rows, Touched, Where
from afmrl.index.records import empty_index
from afmrl.matching.reasons import Reasons
from afmrl.matching.rerank import DEPTH, Reranker
from afmrl.matching.reranked_search import RerankedSearch
from afmrl.matching.searchers import Hit, IndexSearch
from afmrl.retrieval.colors import readable_color_histograms
from afmrl.serving.batching import Batcher, check_time, late
from afmrl.serving.decoding import Decoding
from afmrl.serving.images_ahead import ImagesAhead
from afmrl.serving.inputs import Inputs
from afmrl.serving.kept_images import Keeping, KeptImages
from afmrl.serving.limits import Limits
from afmrl.serving.metrics import Metrics
from afmrl.serving.refusal import Refusal
from afmrl.serving.shared_index import SharedIndex
from afmrl.serving.timing import Timing
from afmrl.serving.uploads import Uploads

if TYPE_CHECKING:
    from PIL.Image import Image

MODEL_NAME = "afmrl"
"""What clients may call the model, whatever its folder's name."""
IMAGES = "images"
"""Folder of a local index that keeps the images of offers that came in requests."""
MATCHED = 20
"""Candidates that a match compares and gives back at most."""

_PATH = re.compile(r"(?<![\w:/.])/(?:[^\s/:'\"]+/)+([^\s/:'\"]*)")
GENERATED = 8
"""Offers whose attributes are generated before the clock is looked at again."""


@dataclass(frozen=True)
class Ranked:
    """A document as it was ranked."""

    place: int
    """Of the document in the request."""
    relevance: float
    """Between 0 and 1."""
    score: float
    """Its log-odds."""
    reasons: Reasons | None
    """None where it was ranked by embeddings: query or documents hold no text."""


@dataclass(frozen=True)
class Match:
    """An offer of the index beside one that was asked for."""

    hit: Hit
    probability: float
    same: bool
    """Whether the pair model calls them one product: above its threshold, and no veto."""


class Service:
    """An index with its model, generator and pair model; its methods may be called from many threads.

    Args:
        index: opened.
        model: the embedder; None: the one that the index names.
        generator: writes key attributes; None: none.
        address: of the index, as messages show it.
        limits: of requests.
        fetch: fetch images that are http(s) addresses.
        images: folder that keeps images of offers that came in requests; None: of a local index, inside it.

    Raises:
        InputError: an empty index, or a model that does not fit it.
    """

    def __init__(
        self,
        index: IndexBackend,
        address: str,
        model: str | Path | None = None,
        generator: str | Path | None = None,
        *,
        limits: Limits | None = None,
        fetch: bool = False,
        images: Path | None = None,
    ) -> None:
        self.limits, self.metrics = limits or Limits(), Metrics()
        self.decoding = Decoding()
        self.index = SharedIndex(index, self.decoding, self.limits.seconds)
        if not self.index.rows.now():
            raise InputError(empty_index(address))
        self.address, self.fetch, self._generator_lock = shown_address(address), fetch, threading.Lock()
        self._search = IndexSearch(self.index, model, generator)
        self.encoder = self._search.encoder
        self._reranked, self._reranker = RerankedSearch(self._search), Reranker()
        known: Mapping[str, Any] = index.settings.get("model") or {}
        self.model = str(model or known["path"])
        self._fingerprint = model_fingerprint(self.model)
        self.kind = index_kind(address)[0]
        self.images = KeptImages(images or (Path(address) / IMAGES if self.kind == "local" else None))
        self._images_ahead = ImagesAhead(self.encoder.embedder, self.decoding)
        self.uploads = Uploads(self.limits, self.decoding, fetch=fetch)
        self.batcher = Batcher(self._embed, self.limits, self.metrics)
        self.metrics.watch("afmrl_index_rows", "Offers in the index.", self.index.rows.now)

    def inputs(self, deadline: float) -> Inputs:
        """Reads the offers of one request."""
        return Inputs(self.uploads, self.limits, deadline)

    def deadline(self) -> float:
        """When a request that begins now must be answered, of `time.monotonic`."""
        return time.monotonic() + self.limits.seconds

    @property
    def model_names(self) -> tuple[str, str]:
        """What clients may call the model."""
        return MODEL_NAME, Path(self.model).name

    @property
    def has_generator(self) -> bool:
        """Whether key attributes can be written."""
        return self.encoder.generator is not None

    def check_model(self, name: str | None) -> None:
        """Refuse another model's name."""
        if name is not None and name not in self.model_names:
            known = " or ".join(map(repr, dict.fromkeys(self.model_names)))
            raise Refusal(
                404,
                f"the model {name[:100]!r} is not served here; ask for {known}",
                param="model",
                code="model_not_found",
            )

    def check_batch(self, number: int, what: str, most: int | None = None) -> None:
        """Refuse a request of too many things, or of none."""
        most = self.limits.batch if most is None else most
        if number > most:
            raise Refusal(413, f"{what}: {number:,} are given, at most {most:,} at a time", param=what)
        if not number:
            raise Refusal(400, f"{what}: is empty; give at least one", param=what)

    def embed(self, offers: Sequence[Offer], *, role: str, deadline: float, generate: bool | None = None) -> np.ndarray:
        """Embeddings as the index's own: of queries, or of the offers that are searched in.

        Args:
            role: "query" or "document".
            generate: write key attributes where the model reads them; None: if there is a generator.

        Shape:
            returns (N, D) float32, rows of unit length.
        """
        return self._embeddings(offers, self._read_attributes(offers, role, generate, deadline), deadline)

    def attributes(self, offers: Sequence[Offer], deadline: float) -> list[KeyAttributes]:
        """Key attributes: the generator's, or without one what rules read off titles."""
        if self.encoder.generator is None:
            return AttributeExtractor().extract_all(offers)
        if not self._generator_lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise late()
        try:
            written: list[KeyAttributes] = []
            for start in range(0, len(offers), GENERATED):
                check_time(deadline)
                with self.metrics.model_pass("generator"):
                    written += self.encoder.generator.attributes(offers[start : start + GENERATED])
            return written
        finally:
            self._generator_lock.release()

    def search(
        self,
        query: Offer,
        k: int,
        timing: Timing,
        deadline: float,
        *,
        where: Where | None = None,
        generate: bool | None = None,
        rerank: bool = True,
        own_hits: bool = True,
    ) -> list[Hit]:
        """The k best offers of the index, as `afmrl search` finds them.

        Args:
            own_hits: False: an offer with the query's id is no hit.
        """
        with timing.step("attributes"):
            attributes = self._read_attributes([query], "query", generate, deadline)
        with timing.step("embedding"):
            embeddings = self._embeddings([query], attributes, deadline)
        depth = max(k, DEPTH) if rerank else k
        with self.index.until(deadline):
            with timing.step("search"):
                colors = self._histograms([query], deadline)
                found = self._search.nearest(
                    [query], attributes, embeddings, depth, where=where, own_hits=own_hits, colors=colors
                )
            if not rerank:
                return self._search.details(found.ids[0], found.scores[0])
            with timing.step("rerank"):
                return next(self._reranked.rerank([query], found, k, colors=colors))

    def unknown_filters(self, where: Where, deadline: float) -> list[str]:
        """A sentence for each value of a filter that no offer has."""
        with self.index.until(deadline):
            return self._search.filters.unknown(where)

    def filter_values(self, column: str, most: int, deadline: float) -> list[str]:
        """Some values that offers have in a column."""
        with self.index.until(deadline):
            return [value for value in self.index.values(column) if value][:most]

    def rerank(self, query: Offer, documents: Sequence[Offer], deadline: float, top: int | None = None) -> list[Ranked]:
        """Documents by how surely the pair model calls them the query's product; those with a veto last.

        Where the query or all documents hold no text, the cosines of the embeddings decide.
        """
        colors = self._histograms([query, *documents], deadline) if query.image else None
        compared = self._reranker.compare(query, documents, np.zeros(len(documents), dtype=np.float32), colors)
        if compared is None:
            embeddings = self._embeddings([query, *documents], None, deadline)
            scores = embeddings[1:] @ embeddings[0]
            relevance = np.clip((1 + scores) / 2, 1e-6, 1 - 1e-6).astype(np.float64)
        else:
            scores = compared.scores
            relevance = self._reranker.default.model.probabilities(scores.astype(np.float64))
        log_odds = np.log(relevance) - np.log1p(-relevance)
        order = np.argsort(-scores, kind="stable")[:top]
        reasons: Sequence[Reasons | None] = compared.reasons(order) if compared else [None] * len(order)
        return [
            Ranked(place, float(relevance[place]), float(log_odds[place]), why)
            for place, why in zip(order.tolist(), reasons, strict=True)
        ]

    def match(self, offer: Offer, k: int, timing: Timing, deadline: float) -> list[Match]:
        """Offers of the index that may be the same product, the likeliest first.

        Candidates are the best 50 of a search; an offer with the same id is none of them.
        """
        attributes = self._read_attributes([offer], "query", None, deadline)
        with timing.step("embedding"):
            embeddings = self._embeddings([offer], attributes, deadline)
        with timing.step("search"), self.index.until(deadline):
            colors = self._histograms([offer], deadline)
            found: Hits = self._search.nearest([offer], attributes, embeddings, DEPTH, own_hits=False, colors=colors)
            candidates = self._search.details(found.ids[0], found.scores[0])
            theirs = self._search.color_histograms([hit.offer.id for hit in candidates]) if offer.image else None
        if not candidates:
            return []
        with timing.step("compare"):
            nearness = np.array([hit.score for hit in candidates], dtype=np.float32)
            colors_of_all = None if theirs is None else np.concatenate([colors, theirs])
            compared = self._reranker.compare(offer, [hit.offer for hit in candidates], nearness, colors_of_all)
            if compared is None:
                raise Refusal(400, "an image alone cannot be matched; give a title, or search by the image")
            default, pairs = self._reranker.default, compared.pairs
            probabilities = default.model.probabilities(pairs.logits)
            probabilities = np.where(
                pairs.vetoed, np.minimum(probabilities, default.max_vetoed_probability), probabilities
            )
            same = (pairs.logits >= default.threshold.logit) & ~pairs.vetoed
            order = np.lexsort((-pairs.logits, -probabilities, pairs.vetoed, ~same))[:k]
            reasons = compared.reasons(order)
        return [
            Match(
                dataclasses.replace(candidates[place], score=float(pairs.logits[place]), reasons=why),
                round(float(probabilities[place]), 4),
                bool(same[place]),
            )
            for place, why in zip(order.tolist(), reasons, strict=True)
        ]

    def is_same(self, hit: Hit) -> bool | None:
        """Whether the pair model calls a hit the same product, as `match` does; None: it was not asked."""
        if hit.reasons is None:
            return None
        return hit.score >= self._reranker.default.threshold.logit and not hit.reasons.veto

    @property
    def match_threshold(self) -> tuple[float, str]:
        """From which probability two offers are called one product, and where that comes from."""
        default = self._reranker.default
        return float(default.model.probabilities(np.array([default.threshold.logit]))[0]), default.threshold.origin

    def get(self, ids: Sequence[str], deadline: float | None = None) -> Rows:
        """The rows of these ids; ids that are not there are left out. No deadline: of a request that begins now."""
        with self.index.until(deadline):
            return self.index.get(ids)

    def there(self, ids: Collection[str]) -> set[str]:
        """Those of these ids that are in the index."""
        return set(self.get(list(ids)).ids)

    def upsert(self, offers: Sequence[Offer], kept: Keeping, deadline: float) -> Touched:
        """Embed offers and put them into the index; once this returns they are on the disk.

        Args:
            kept: the images that were kept for them.

        Raises:
            Refusal: the index's rows carry key attributes and there is no generator, or another process is writing.
        """
        settings = self.index.settings
        if settings.get("generator") and on_gallery(self.encoder.attributes_on) and not self.has_generator:
            raise Refusal(409, "the index's rows carry key attributes; start the server with --generator to add rows")
        attributes = self._read_attributes(offers, "document", None, deadline)
        embeddings = self._embeddings(offers, attributes, deadline)
        written = attributes or [KeyAttributes()] * len(offers)
        marks = [
            fingerprint(
                "served", row_fingerprint(offer), offer.description, dict(offer.extra), self._fingerprint, list(a)
            )
            for offer, a in zip(offers, written, strict=True)
        ]
        rows = Rows([offer.id for offer in offers], embeddings, list(offers), written, marks)
        with self._writing(deadline):
            kept.may_be_written = True
            return self.index.upsert(rows)

    def delete(self, ids: Sequence[str], deadline: float) -> int:
        """Delete rows; how many really went."""
        with self._writing(deadline):
            return self.index.delete(ids)

    def without_folders(self, message: str) -> str:
        """A message that names files, without where they lie on this machine."""
        known = [self.uploads.folder, self.images.folder, Path(self.address), Path(self.model)]
        for folder in known:
            for name in (str(folder.resolve()), str(folder)) if folder is not None else ():
                message = message.replace(name, Path(name).name)
        return _PATH.sub(r"\1", message)

    def close(self) -> None:
        """Finish what waits, and remove what was uploaded."""
        self.batcher.close()
        self.uploads.close()

    def _read_attributes(
        self, offers: Sequence[Offer], role: str, generate: bool | None, deadline: float
    ) -> list[KeyAttributes] | None:
        reads = on_query(self.encoder.attributes_on) if role == "query" else on_gallery(self.encoder.attributes_on)
        if generate and not self.has_generator:
            raise Refusal(400, "this server has no generator; start it with --generator", param="generator")
        if generate is False or not self.has_generator or not reads:
            return None
        return self.attributes(offers, deadline)

    def _embeddings(
        self, offers: Sequence[Offer], attributes: Sequence[KeyAttributes] | None, deadline: float
    ) -> np.ndarray:
        with self._images_ahead.opened(offers, deadline) as images:
            return self.batcher.embed(offers, attributes, deadline, images=images)

    def _histograms(self, offers: Sequence[Offer], deadline: float) -> np.ndarray:
        return readable_color_histograms(offers, turn=partial(self.decoding.turn, deadline))

    def _embed(
        self, offers: Sequence[Offer], attributes: Sequence[KeyAttributes], images: Sequence[Image | None]
    ) -> np.ndarray:
        try:
            return self.encoder.embed(offers, attributes, opened=images)
        finally:
            self.encoder.forget()

    @contextlib.contextmanager
    def _writing(self, deadline: float) -> Iterator[None]:
        with self.index.until(deadline):
            try:
                yield
            except InputError as error:
                if "is writing to it" not in str(error):
                    raise
                raise Refusal(409, "another process is writing to the index; ask again later", retry_after=5) from error
