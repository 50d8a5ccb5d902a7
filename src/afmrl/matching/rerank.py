"""Reranking: the pair model of matching orders what vectors and words found, and says why."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from afmrl.attributes.missing import says_nothing
from afmrl.data.offer import Offer
from afmrl.matching.features import IMAGE_FEATURES, TEXT_FEATURES
from afmrl.matching.pair_model import default_model
from afmrl.matching.reasons import Explainer, Reasons
from afmrl.matching.scorer import PairScores, Scorer
from afmrl.matching.table import offer_table
from afmrl.matching.vetoes import DEFAULT_VETOES
from afmrl.retrieval.colors import color_histograms
from afmrl.retrieval.exact import top_k_of_scores
from afmrl.retrieval.score_matrix import ScoreMatrix

DEPTH = 50
"""Candidates of a query that are compared with it."""
FOUND_WEIGHT = 3.0
"""Logits between a query's best candidate by vectors and words and one that neither finds at all. Chosen on validation
queries, as is DEPTH (docs/results/search.md)."""
VETOED = 100.0
"""Logits that a veto costs: more than any other difference between two candidates."""


@dataclass(frozen=True)
class RerankedCandidates:
    """The candidates of one query, compared with it.

    Shape:
        scores (C,) float32: the pair model's logit, above 0 where query and candidate are more likely one product than
        not, less up to 3 where vectors and words found the candidate less near than the best one; a vetoed one loses
        another 100.
    """

    scores: np.ndarray
    pairs: PairScores
    """Of the query with each candidate, whatever found it."""
    scorer: Scorer
    """Of a table whose first row is the query and whose others are the candidates."""

    def reasons(self, places: np.ndarray) -> list[Reasons]:
        """Why the candidates at these places agree with the query (left), or not."""
        right = np.asarray(places, dtype=np.int64) + 1
        left = np.zeros_like(right)
        return Explainer(self.scorer).reasons(left, right, self.scorer.compare(left, right))


class Reranker:
    """Compares queries with their candidates by the default pair model of matching.

    How rare a word is, which words are brands and which identifiers say nothing is learned from the query's candidates
    alone: a query's scores do not depend on what else is searched for, or where.

    Args:
        vetoes: keys whose conflict puts a candidate behind all that have none.
        seller_attributes: compare what the sellers state too; False: where a catalog's `attributes` are labels.
    """

    def __init__(self, vetoes: Collection[str] = DEFAULT_VETOES, *, seller_attributes: bool = True) -> None:
        self.vetoes, self.seller_attributes = vetoes, seller_attributes
        self.default = default_model(TEXT_FEATURES + IMAGE_FEATURES, dense=False)

    def compare(
        self, query: Offer, candidates: Sequence[Offer], found: np.ndarray, colors: np.ndarray | None = None
    ) -> RerankedCandidates | None:
        """The candidates' scores; None where query or candidates hold no text: nothing can be said of images alone.

        Args:
            found: (C,) the scores that the candidates were found with.
            colors: (1 + C, 216) color histograms of the query's image and the candidates'; None: colors do not count.
        """
        # labels are for measuring: brands must not be learned with them
        known: dict[str, Any] = {"product_id": ""} if self.seller_attributes else {"product_id": "", "attributes": {}}
        offers = [dataclasses.replace(offer, **known) for offer in (query, *candidates)]
        if not has_text(offers[0]) or not any(map(has_text, offers[1:])):
            return None
        table = offer_table(offers)
        table.colors = colors
        scorer = Scorer(table, self.default.model, self.vetoes)
        right = np.arange(1, len(offers))
        pairs = scorer.score(np.zeros_like(right), right)
        best = float(found.max(initial=0.0))
        nearness = found / best - 1 if best > 0 else np.zeros(len(found))
        scores = pairs.logits + FOUND_WEIGHT * np.maximum(nearness, -1) - VETOED * pairs.vetoed
        return RerankedCandidates(np.asarray(scores, dtype=np.float32), pairs, scorer)


class RerankedScores:
    """A score matrix whose best DEPTH offers of each query are reranked; the others stay behind them in their order.

    Args:
        matrix: scores of queries against a gallery.
        own_rows: (Q,) gallery row of each query's own offer, −1 where there is none; it is no candidate, and comes
            first.
    """

    def __init__(
        self,
        matrix: ScoreMatrix,
        queries: Sequence[Offer],
        gallery: Sequence[Offer],
        own_rows: np.ndarray,
        reranker: Reranker,
    ) -> None:
        self.num_queries, self.num_gallery = matrix.num_queries, matrix.num_gallery
        self._matrix, self._queries, self._gallery = matrix, queries, gallery
        self._own, self._reranker = own_rows, reranker
        self._colors: dict[str, np.ndarray] = {}

    def block(self, start: int, stop: int) -> np.ndarray:
        """Rows `start` to `stop`, see `ScoreMatrix`."""
        block = self._matrix.block(start, stop)
        for query, row in enumerate(block, start):
            self._rerank(query, row)
        return block

    def _rerank(self, query: int, row: np.ndarray) -> None:
        offer, own = self._queries[query], int(self._own[query])
        if own >= 0:
            row[own] = -np.inf
        values, columns = (part[0] for part in top_k_of_scores(row[None], DEPTH))
        values, columns = values[values > -np.inf], columns[values > -np.inf]
        candidates = [self._gallery[column] for column in columns]
        colors = self._histograms([offer, *candidates]) if offer.image else None
        compared = self._reranker.compare(offer, candidates, values, colors)
        if compared is not None:
            row[:] = behind(row, compared.scores, values)
            row[columns] = compared.scores
        if own >= 0:
            row[own] = np.nextafter(row.max(), np.float32(np.inf))

    def _histograms(self, offers: Sequence[Offer]) -> np.ndarray:
        """(N, 216); each image is opened once."""
        new = {offer.image: offer for offer in offers if offer.image not in self._colors}
        self._colors.update(zip(new, color_histograms(list(new.values()), unreadable=[]), strict=True))
        return np.stack([self._colors[offer.image] for offer in offers])


def behind(rest: np.ndarray, reranked: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Scores of offers that were not reranked, in their order, below all that were.

    Shape:
        rest (N,), found (C,) of the first search, found at least as high as rest; reranked (C,); returns (N,).
    """
    return np.asarray(float(reranked.min()) - 1 + (rest - float(found.min())), dtype=np.float32)


def has_text(offer: Offer) -> bool:
    """Whether an offer says anything in words."""
    return bool(
        offer.title.strip()
        or offer.description.strip()
        or any(not says_nothing(value) for value in offer.attributes.values())
    )
