"""RAR's reward where completions describe the gallery's offers: how well a product's own queries then find it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.data.offer import Offer
from afmrl.errors import InputError
from afmrl.retrieval.scores import pair_scores
from afmrl.rewards.retrieval_reward import Encode, RetrievalReward


class GalleryRetrievalReward(RetrievalReward):
    """Rewards the attributes that a completion gives an offer of the gallery by how well its queries then find it.

    Every query of the offer's product ranks that offer among those of other products, whose embeddings stay as they
    are; an offer of equal score comes before it. The retrieval term of `RetrievalReward` is the mean over these
    queries, with the offer itself as the one that is relevant: the product's other offers neither help nor get in its
    way. Queries are embedded once, without attributes where the generator is to write for the gallery alone.

    What `RetrievalReward` says of a query (targets, floors, row numbers) holds here for an offer that is described.

    Args:
        encode: the frozen embedder.
        offers: those that completions describe; completions name them by row number.
        gallery: (N, D) embeddings, unit rows, with whatever attributes the others carry.
        rows: the gallery row of each of `offers`.
        queries: (Q, D) embeddings of all queries, unit rows.
        relevant: for each query, gallery rows of the same product.
        options: those of `RetrievalReward`; `targets` and `floors` are of `offers`.

    Raises:
        InputError: an offer that no query looks for, or numbers that disagree.
    """

    described = "offers that queries look for"

    def __init__(
        self,
        encode: Encode,
        offers: Sequence[Offer],
        gallery: np.ndarray,
        rows: Sequence[int],
        queries: np.ndarray,
        relevant: Sequence[np.ndarray],
        **options: Any,
    ) -> None:
        if len(rows) != len(offers) or len(queries) != len(relevant):
            raise InputError(
                f"reward: {len(rows)} gallery rows for {len(offers)} offers, and {len(relevant)} lists of relevant "
                f"rows for {len(queries)} queries; give one for each"
            )
        super().__init__(encode, offers, gallery, [np.array([row]) for row in rows], **options)
        wanted = [np.unique(np.asarray(found, dtype=np.int64)) for found in relevant]
        queries_of_row: dict[int, list[int]] = {}
        for query, found in enumerate(wanted):
            for row in found.tolist():
                queries_of_row.setdefault(row, []).append(query)
        for offer, row in zip(offers, rows, strict=True):
            if row not in queries_of_row:
                raise InputError(f"reward: no query looks for the offer {offer.id!r}; leave it out")
        self.queries_of_offer = [np.array(queries_of_row[row], dtype=np.int64) for row in rows]
        self.query_embeddings = np.asarray(queries)
        self._hardest = np.empty(0, dtype=np.float32)
        if self.kind == "margin":
            self._hardest = self.gallery.place(self.query_embeddings, wanted, hardest=True).hardest_scores
        # the scores of a product's own offers, which count for no rank
        self._own_scores = [
            pair_scores(self.query_embeddings, gallery, np.full(len(r), q), r) for q, r in enumerate(wanted)
        ]
        self._plain: tuple[np.ndarray, np.ndarray] | None = None

    def plain_ranks(self) -> np.ndarray:
        """(M,) rank of each described offer without attributes; of several queries the middle one's."""
        return self._without()[0]

    def plain_reciprocal_ranks(self) -> np.ndarray:
        """(M,) mean of 1 / rank without attributes, over each offer's queries."""
        return self._without()[1]

    def _without(self) -> tuple[np.ndarray, np.ndarray]:
        if self._plain is None:
            everyone = list(range(len(self.offers)))
            plain = self.encode(self.offers, [KeyAttributes()] * len(everyone))
            _, _, ranks, first = self._ranked(plain, everyone)
            self._plain = _middle(ranks, first), _mean(1.0 / ranks, first)
        return self._plain

    def _values(self, embeddings: np.ndarray, rows: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """The retrieval term of each described offer, and its rank: of several queries the middle one's."""
        query, scores, ranks, first = self._ranked(embeddings, rows)
        if self.kind == "recall@k":
            terms = (ranks <= self.k).astype(np.float64)
        elif self.kind == "ndcg@k":
            terms = np.where(ranks <= self.k, 1.0 / np.log2(ranks + 1), 0.0)
        elif self.kind == "margin":
            terms = scores.astype(np.float64) - self._hardest[query]
            terms[np.isnan(terms)] = 0.0  # a gallery of one product: nothing to take for it
        else:
            terms = 1.0 / ranks
        values = _mean(terms, first)
        if self.kind == "rank_gain":
            values = values - self.plain_reciprocal_ranks()[rows]
        return values, _middle(ranks, first)

    def _ranked(
        self, embeddings: np.ndarray, rows: Sequence[int]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Every query of every described offer: the query's row, the score, the rank; and where each offer's begin."""
        counts = np.array([len(self.queries_of_offer[row]) for row in rows], dtype=np.int64)
        query = np.concatenate([np.empty(0, np.int64), *(self.queries_of_offer[row] for row in rows)])
        scores = pair_scores(self.query_embeddings, embeddings, query, np.repeat(np.arange(len(rows)), counts))
        before = self.gallery.reaching(self.query_embeddings, query, scores)
        own = [np.count_nonzero(self._own_scores[q] >= score) for q, score in zip(query.tolist(), scores, strict=True)]
        return query, scores, 1 + before - np.array(own, dtype=np.int64), np.cumsum(counts) - counts


def _mean(terms: np.ndarray, first: np.ndarray) -> np.ndarray:
    """The mean of each part of `terms`; part p begins at `first[p]`."""
    return np.array([part.mean() for part in np.split(terms, first[1:])] if len(first) else [], dtype=np.float64)


def _middle(ranks: np.ndarray, first: np.ndarray) -> np.ndarray:
    """The median of each part, of two middle ones the worse."""
    return np.array([np.sort(part)[len(part) // 2] for part in np.split(ranks, first[1:])] if len(first) else [], int)
