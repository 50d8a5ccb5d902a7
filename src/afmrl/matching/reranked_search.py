"""A search whose best hits the pair model of matching orders and explains."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np

from afmrl.data.offer import Offer
from afmrl.index.backend import Hits, Where
from afmrl.index.filters import Filters
from afmrl.matching.rerank import DEPTH, RerankedCandidates, Reranker, behind, has_text
from afmrl.matching.searchers import Hit, Searcher, check_search
from afmrl.retrieval.colors import readable_color_histograms


class RerankedSearch(Searcher):
    """Orders what another searcher finds by the pair model of matching.

    The best 50 of a query are compared with it; further hits stay behind them in their order. A query without text
    keeps the other searcher's order and scores.

    Args:
        inner: finds the candidates.
    """

    def __init__(self, inner: Searcher) -> None:
        self.inner, self._reranker = inner, Reranker()

    def search(self, queries: Sequence[Offer], k: int, *, where: Where | None = None, own_hits: bool = True) -> Hits:
        """See `Searcher.search`."""
        found = list(self._reranked(queries, k, where, own_hits, explain=False))
        return Hits(
            [[hit.offer.id for hit in hits] for hits in found],
            [np.array([hit.score for hit in hits], dtype=np.float32) for hits in found],
        )

    def hits(
        self, queries: Sequence[Offer], k: int, *, where: Where | None = None, own_hits: bool = True
    ) -> list[list[Hit]]:
        """As `search`, with the hits' offers and reasons."""
        return list(self._reranked(queries, k, where, own_hits, explain=True))

    def details(self, ids: Sequence[str], scores: np.ndarray) -> list[Hit]:
        """See `Searcher.details`; without reasons, which `hits` gives."""
        return self.inner.details(ids, scores)

    @cached_property
    def filters(self) -> Filters:
        """See `Searcher.filters`."""
        return self.inner.filters

    def color_histograms(self, ids: Sequence[str]) -> np.ndarray:
        """See `Searcher.color_histograms`."""
        return self.inner.color_histograms(ids)

    def _reranked(
        self, queries: Sequence[Offer], k: int, where: Where | None, own_hits: bool, *, explain: bool
    ) -> Iterator[list[Hit]]:
        check_search(k, where)
        found = self.inner.search(queries, max(k, DEPTH), where=where, own_hits=own_hits)
        return self.rerank(queries, found, k, explain=explain)

    def rerank(
        self,
        queries: Sequence[Offer],
        found: Hits,
        k: int,
        *,
        explain: bool = True,
        colors: np.ndarray | None = None,
    ) -> Iterator[list[Hit]]:
        """The k best of what the other searcher found, with their offers.

        Args:
            found: of each query the best max(k, DEPTH).
            explain: give the hits their reasons.
            colors: color histograms of the queries' images; None: the images are opened.

        Shape:
            colors (Q, 216).
        """
        for row, (query, ids, scores) in enumerate(zip(queries, found.ids, found.scores, strict=True)):
            hits = self.inner.details(ids, scores)
            candidates, rest = hits[:DEPTH], hits[DEPTH:]
            nearness = np.array([hit.score for hit in candidates], dtype=np.float32)
            compared = self._compare(query, candidates, nearness, None if colors is None else colors[row : row + 1])
            if compared is None:
                yield hits[:k]
                continue
            rank = [(-score, hit.offer.id) for score, hit in zip(compared.scores, candidates, strict=True)]
            order = sorted(range(len(rank)), key=rank.__getitem__)[:k]
            reasons = compared.reasons(np.array(order)) if explain else [None] * len(order)
            best = [
                dataclasses.replace(candidates[place], score=float(compared.scores[place]), reasons=why)
                for place, why in zip(order, reasons, strict=True)
            ]
            lower = behind(np.array([hit.score for hit in rest]), compared.scores, nearness)
            best += [dataclasses.replace(hit, score=float(score)) for hit, score in zip(rest, lower, strict=True)]
            yield best[:k]

    def _compare(
        self, query: Offer, candidates: Sequence[Hit], nearness: np.ndarray, own_colors: np.ndarray | None
    ) -> RerankedCandidates | None:
        if not candidates:
            return None
        colors = None
        if query.image and has_text(query):  # of an image alone nothing is compared
            own = readable_color_histograms([query]) if own_colors is None else own_colors
            colors = np.concatenate([own, self.inner.color_histograms([hit.offer.id for hit in candidates])])
        return self._reranker.compare(query, [hit.offer for hit in candidates], nearness, colors)
