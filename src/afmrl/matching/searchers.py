"""What is searched: an index, or offers in memory. Both find the same with the same scores."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import get_args

import numpy as np

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.bulk.fingerprints import model_fingerprint
from afmrl.data.offer import Offer
from afmrl.errors import InputError
from afmrl.index.backend import Hits, IndexBackend, Where, check_where, filter_value, offer_words
from afmrl.index.filters import Filters
from afmrl.index.hybrid import HybridQueries, hybrid_search
from afmrl.matching.reasons import Reasons
from afmrl.retrieval.colors import color_histograms, readable_color_histograms
from afmrl.retrieval.encoder import OfferEncoder
from afmrl.retrieval.exact import top_k_of_scores
from afmrl.retrieval.floors import Floor
from afmrl.retrieval.fusion import FusionWeights
from afmrl.retrieval.scorer import Scorer, load_scorer
from afmrl.retrieval.words import attribute_words

BLOCK_BYTES = 256_000_000  # of a catalog's score matrix held at a time


@dataclass(frozen=True)
class Hit:
    """One offer that a search found."""

    offer: Offer
    score: float
    attributes: KeyAttributes
    """What a generator wrote of the offer, as far as the index or the search knows it."""
    reasons: Reasons | None = None
    """What agrees and differs with the query (left); None where the search is not reranked or the query has no text."""


class Searcher(ABC):
    """An index or a catalog, ready to be searched."""

    @abstractmethod
    def search(self, queries: Sequence[Offer], k: int, *, where: Where | None = None, own_hits: bool = True) -> Hits:
        """The k best offers for each query, equal scores in the order of their ids.

        Args:
            where: categories and sellers are compared without case.
            own_hits: False: an offer with the query's id is no hit of it, as in `afmrl evaluate`.

        Raises:
            InputError: k below 1, a filter that cannot be used, a model that does not load.
        """

    @abstractmethod
    def details(self, ids: Sequence[str], scores: np.ndarray) -> list[Hit]:
        """One query's hits with their offers."""

    @cached_property
    @abstractmethod
    def filters(self) -> Filters:
        """Finds the values of its offers that a filter means."""

    @abstractmethod
    def color_histograms(self, ids: Sequence[str]) -> np.ndarray:
        """(n, 216) float32 color histograms of offers' images, zeros where an offer has no image that can be read."""

    def hits(
        self, queries: Sequence[Offer], k: int, *, where: Where | None = None, own_hits: bool = True
    ) -> list[list[Hit]]:
        """As `search`, with the hits' offers."""
        found = self.search(queries, k, where=where, own_hits=own_hits)
        return [self.details(ids, scores) for ids, scores in zip(found.ids, found.scores, strict=True)]


class IndexSearch(Searcher):
    """Searches an index.

    Args:
        index: opened.
        model: the embedder; None: the one that the index names.
        generator: writes key attributes of what is searched for; None: none.
        hybrid: add BM25, and the images' colors where the model learned a weight of them, to the cosine.
        weight: of BM25, colors left out; None: what the model learned (fusion.json), or else a fixed one.
    """

    def __init__(
        self,
        index: IndexBackend,
        model: str | Path | None = None,
        generator: str | Path | None = None,
        *,
        hybrid: bool = True,
        weight: float | None = None,
    ) -> None:
        self.index, self.model, self.generator = index, model, generator
        self.hybrid, self.weight = hybrid, weight

    def search(self, queries: Sequence[Offer], k: int, *, where: Where | None = None, own_hits: bool = True) -> Hits:
        """See `Searcher.search`; also refuses a model that is not the index's."""
        check_search(k, where)
        attributes = self.encoder.query_attributes(queries)
        embeddings = self.encoder.embed(queries, attributes)
        return self.nearest(queries, attributes, embeddings, k, where=where, own_hits=own_hits)

    def nearest(
        self,
        queries: Sequence[Offer],
        attributes: Sequence[KeyAttributes] | None,
        embeddings: np.ndarray,
        k: int,
        *,
        where: Where | None = None,
        own_hits: bool = True,
        colors: np.ndarray | None = None,
    ) -> Hits:
        """As `search`, of queries whose key attributes and embeddings are known.

        Args:
            colors: color histograms of the queries' images; None: the images are opened where colors count.

        Shape:
            embeddings (Q, D), colors (Q, 216).
        """
        check_search(k, where)
        where = self.filters.existing(where)
        embeddings = self.encoder.embedder.as_queries(embeddings)
        count = k if own_hits else k + 1
        weights = self.encoder.weights
        if weights is None:
            hits = _dense_search(self.index, embeddings, count, where)
        else:
            words = offer_words(self.index.settings)
            if colors is None and weights.color:
                colors = color_histograms(queries)
            asked = HybridQueries(
                embeddings,
                [words.of_query(query) for query in queries],
                [attribute_words(found) for found in attributes] if attributes else None,
                colors if weights.color else None,
            )
            hits = hybrid_search(self.index, asked, count, weights, where=where)
        return hits if own_hits else _without_own(queries, hits, k)

    def details(self, ids: Sequence[str], scores: np.ndarray) -> list[Hit]:
        """See `Searcher.details`; a row that a writer removed meanwhile is left out."""
        rows = self.index.get(ids)
        place = {identifier: row for row, identifier in enumerate(rows.ids)}
        return [
            Hit(rows.offers[place[identifier]], float(score), rows.key_attributes[place[identifier]])
            for identifier, score in zip(ids, scores, strict=True)
            if identifier in place
        ]

    @cached_property
    def filters(self) -> Filters:
        """See `Searcher.filters`."""
        return Filters(self.index.values)

    def color_histograms(self, ids: Sequence[str]) -> np.ndarray:
        """See `Searcher.color_histograms`."""
        return self.index.color_histograms(ids)

    @cached_property
    def encoder(self) -> OfferEncoder:
        """The model whose embeddings the index holds; loaded when it is first asked for."""
        settings = self.index.settings
        known = settings.get("model") or {}
        model = self.model or known.get("path")
        if not model:
            raise InputError("search: the index does not say whose embeddings it holds; give --model")
        if self.model is None and Path(model).is_absolute() and not Path(model).is_dir():
            raise InputError(f"search: the index's model {model} is no longer there; give its folder with --model")
        found = model_fingerprint(model)
        if known.get("fingerprint") and found != known["fingerprint"]:
            raise InputError(
                f"search: the index holds embeddings of {known.get('path')} (fingerprint {known['fingerprint']}), "
                f"and {model} is another model now ({found}); give the index's model with --model, or embed and index "
                "the offers again"
            )
        weights = _weights(model, self.hybrid, self.weight)
        if weights is not None and weights.extracted != bool(settings.get("extracted_words")):
            reads = "reads" if weights.extracted else "does not read"
            raise InputError(
                f"search: the fusion of {model} {reads} values that rules find in titles, and the index was made "
                "otherwise; make the index again with `afmrl index`, or leave BM25 out (--no-hybrid)"
            )
        return OfferEncoder.load(
            model,
            generator=self.generator,
            weights=weights,
            attributes_on=settings.get("attributes_on"),
            seller_attributes=settings.get("seller_attributes") or "none",
        )


class CatalogSearch(Searcher):
    """Searches offers in memory; they are embedded at the first search.

    Args:
        offers: what is searched in.
        model: the embedder, or a floor by its name ("tfidf", "bm25", …), which needs no training.
        generator: writes key attributes of queries and offers, where the embedder was trained with them; None: none.
        hybrid, weight: as in `IndexSearch`.
    """

    def __init__(
        self,
        offers: Sequence[Offer],
        model: str | Path,
        generator: str | Path | None = None,
        *,
        hybrid: bool = True,
        weight: float | None = None,
        progress: bool = False,
    ) -> None:
        self.offers = sorted(offers, key=lambda offer: offer.id)
        self.model, self.generator, self.hybrid, self.weight = model, generator, hybrid, weight
        self.progress = progress

    def search(self, queries: Sequence[Offer], k: int, *, where: Where | None = None, own_hits: bool = True) -> Hits:
        """See `Searcher.search`."""
        check_search(k, where)
        checked = self.filters.existing(where)
        passing = [
            row
            for row, offer in enumerate(self.offers)
            if all(filter_value(offer, column) in values for column, values in checked.items())
        ]
        ids = [self.offers[row].id for row in passing]
        column = {identifier: number for number, identifier in enumerate(ids)}
        matrix = self._encoder.scores(
            queries, self.offers, passing=np.array(passing, dtype=np.int64) if checked else None
        )
        hits = Hits([], [])
        step = max(1, BLOCK_BYTES // (4 * max(len(ids), 1)))
        for start in range(0, len(queries), step):
            part = queries[start : start + step]
            block = matrix.block(start, start + len(part))
            if not own_hits:
                for scores, query in zip(block, part, strict=True):
                    if query.id in column:
                        scores[column[query.id]] = -np.inf
            for values, columns in zip(*top_k_of_scores(block, k), strict=True):
                there = values > -np.inf
                hits.ids.append([ids[number] for number in columns[there].tolist()])
                hits.scores.append(values[there])
        return hits

    def details(self, ids: Sequence[str], scores: np.ndarray) -> list[Hit]:
        """See `Searcher.details`."""
        found = [self._by_id[identifier] for identifier in ids]
        attributes = self._encoder.gallery_attributes(found) or [KeyAttributes()] * len(found)
        return [Hit(*one) for one in zip(found, map(float, scores), attributes, strict=True)]

    @cached_property
    def filters(self) -> Filters:
        """See `Searcher.filters`."""
        return Filters(lambda column: sorted({filter_value(offer, column) for offer in self.offers}))

    def color_histograms(self, ids: Sequence[str]) -> np.ndarray:
        """See `Searcher.color_histograms`."""
        return readable_color_histograms([self._by_id[identifier] for identifier in ids])

    @cached_property
    def _by_id(self) -> dict[str, Offer]:
        return {offer.id: offer for offer in self.offers}

    @cached_property
    def _encoder(self) -> Scorer:
        if str(self.model) in get_args(Floor):
            return load_scorer(self.model, generator=self.generator)
        weights = _weights(self.model, self.hybrid, self.weight)
        return OfferEncoder.load(self.model, generator=self.generator, weights=weights, progress=self.progress)


def check_search(k: int, where: Where | None) -> None:
    """Refuse what no search can do, before a model is loaded."""
    if k < 1:
        raise InputError(f"search: k={k}: at least one hit")
    check_where(where)


def _weights(model: str | Path, hybrid: bool, weight: float | None) -> FusionWeights | None:
    if not hybrid:
        return None
    learned = FusionWeights.of_model(model)
    return learned if weight is None else dataclasses.replace(learned, bm25=weight, attributes=0.0, color=0.0)


def _dense_search(index: IndexBackend, embeddings: np.ndarray, k: int, where: Where | None) -> Hits:
    """The k nearest rows of each query; where more rows have the score of the k-th, those of the smaller ids."""
    found: dict[int, tuple[list[str], np.ndarray]] = {}
    pending, count = list(range(len(embeddings))), k + 1
    while pending:
        hits = index.search(embeddings[pending], count, where=where)
        for query, ids, scores in zip(pending, hits.ids, hits.scores, strict=True):
            if len(ids) < count or scores[-1] < scores[k - 1]:
                order = sorted(range(len(ids)), key=lambda row: (-scores[row], ids[row]))[:k]
                found[query] = [ids[row] for row in order], scores[order]
        pending = [query for query in pending if query not in found]
        count *= 4
    return Hits(
        [found[query][0] for query in range(len(embeddings))], [found[query][1] for query in range(len(embeddings))]
    )


def _without_own(queries: Sequence[Offer], hits: Hits, k: int) -> Hits:
    kept = [
        [place for place, identifier in enumerate(ids) if identifier != query.id][:k]
        for query, ids in zip(queries, hits.ids, strict=True)
    ]
    return Hits(
        [[ids[place] for place in places] for ids, places in zip(hits.ids, kept, strict=True)],
        [np.asarray(scores)[places] for scores, places in zip(hits.scores, kept, strict=True)],
    )
