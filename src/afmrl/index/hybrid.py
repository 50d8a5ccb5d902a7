"""Hybrid search of an index: fused scores of what its embeddings, or its words, find."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from afmrl.index.backend import EXACT_BELOW, Hits, IndexBackend, Where
from afmrl.retrieval.fusion import FusionWeights
from afmrl.retrieval.scores import pair_scores

CANDIDATES = 10  # times k of each kind, and at least FEWEST
FEWEST = 200
WIDER = 8  # times as many candidates where the first ones may miss a hit
BLOCK = 8  # queries whose BM25 is asked for together; a local index keeps the scores of 16 texts


@dataclass(frozen=True)
class HybridQueries:
    """What is searched for. All columns have Q entries."""

    embeddings: np.ndarray
    """(Q, D)"""
    words: Sequence[str]
    """What BM25 reads of each query."""
    attributes: Sequence[str] | None = None
    """The values of its key attributes; None: none."""
    colors: np.ndarray | None = None
    """(Q, 216) color histograms; None: colors do not count."""


def hybrid_search(
    index: IndexBackend, queries: HybridQueries, k: int, weights: FusionWeights, *, where: Where | None = None
) -> Hits:
    """The k rows of highest fused score (`FusionWeights.fuse`), equal scores in the order of their ids.

    Candidates are the best rows by embedding and the best by words, at least 200 of each; their fused scores are
    complete. In an index of at most 20,000 rows, more candidates follow until no other row can be among the k best: the
    hits are then those of `afmrl evaluate --fuse`. A larger index may miss a row that is among the first neither by
    embedding nor by words. Where a database computes BM25 in its own way, its scores differ accordingly.

    Args:
        where: see `afmrl.index.backend`; the maxima that BM25 is divided by are those of the rows that pass.
    """
    num_queries, num_rows = len(queries.embeddings), len(index)
    count = max(CANDIDATES * k, FEWEST)
    widest = num_rows if num_rows <= EXACT_BELOW else count
    found: dict[int, tuple[list[str], np.ndarray]] = {}
    pending = list(range(num_queries))
    while pending:
        dense = index.search(queries.embeddings[pending], count, where=where)
        for start in range(0, len(pending), BLOCK):
            part = pending[start : start + BLOCK]
            hits = Hits(dense.ids[start : start + BLOCK], dense.scores[start : start + BLOCK])
            for query, candidates in zip(
                part, _candidates(index, queries, part, hits, count, weights, where), strict=True
            ):
                ids, scores = candidates.best(k, weights)
                if count >= widest or candidates.complete(scores, k, count, weights):
                    found[query] = ids, scores
        pending = [query for query in pending if query not in found]
        count = min(WIDER * count, max(widest, 1))
    best = [found[query] for query in range(num_queries)]
    return Hits([ids for ids, _ in best], [scores for _, scores in best])


@dataclass(frozen=True)
class _Candidates:
    """One query's candidates and the parts of their scores, (C,) each."""

    ids: list[str]
    cosines: np.ndarray
    words: np.ndarray
    attributes: np.ndarray
    colors: np.ndarray | None
    last_cosine: float
    last_words: float
    last_attributes: float
    """The least that a candidate by embedding, by words, by attributes has: no other row has more."""
    colors_at_hand: bool
    """Whether the index keeps colors, so that asking for those of every row costs little."""
    all_rows: bool
    """Whether every row that passes the filter is among them."""

    def best(self, k: int, weights: FusionWeights) -> tuple[list[str], np.ndarray]:
        colors = None if self.colors is None else self.colors[None]
        fused = weights.fuse(self.cosines[None], self.words[None], self.attributes[None], colors)[0]
        order = sorted(range(len(self.ids)), key=lambda row: (-fused[row], self.ids[row]))[:k]
        return [self.ids[row] for row in order], fused[order]

    def complete(self, scores: np.ndarray, k: int, count: int, weights: FusionWeights) -> bool:
        """Whether no row that is no candidate can be among the k best."""
        if self.all_rows:
            return True
        most = self.last_cosine
        most += weights.bm25 * self.last_words / max(float(self.words.max(initial=0.0)), 1e-9)
        most += weights.attributes * self.last_attributes / max(float(self.attributes.max(initial=0.0)), 1e-9)
        if self.colors_at_hand:
            most += weights.color  # opening every row's image would be too slow
        return len(scores) == k and float(scores[-1]) > most


def _candidates(
    index: IndexBackend,
    queries: HybridQueries,
    rows: Sequence[int],
    dense: Hits,
    count: int,
    weights: FusionWeights,
    where: Where | None,
) -> list[_Candidates]:
    kinds: list[tuple[list[str], Hits]] = []
    texts = [queries.words[row] for row in rows]
    kinds.append((texts, index.lexical(texts, count, where=where)))
    if queries.attributes is not None and weights.attributes:
        texts = [queries.attributes[row] for row in rows]
        kinds.append((texts, index.lexical(texts, count, where=where)))
    cosines = [
        dict(zip(ids, scores.tolist(), strict=True)) for ids, scores in zip(dense.ids, dense.scores, strict=True)
    ]
    _add_missing(index, queries.embeddings[list(rows)], cosines, [hits for _, hits in kinds])
    ids = [list(found) for found in cosines]
    lexical = [_scores(index, texts, hits, ids) for texts, hits in kinds]
    nothing = [np.zeros(len(names), dtype=np.float32) for names in ids]
    colors = _color_cosines(index, queries, rows, ids) if weights.color else None
    result = []
    for place, names in enumerate(ids):
        # a search by words that found fewer than it was asked for found every row with a word
        lasts = [float(hits.scores[place][-1]) if len(hits.ids[place]) >= count else 0.0 for _, hits in kinds]
        result.append(
            _Candidates(
                ids=names,
                cosines=np.array(list(cosines[place].values()), dtype=np.float32),
                words=lexical[0][place],
                attributes=lexical[1][place] if len(kinds) > 1 else nothing[place],
                colors=None if colors is None else colors[place],
                last_cosine=float(dense.scores[place][-1]) if len(dense.ids[place]) else -1.0,
                last_words=lasts[0],
                last_attributes=lasts[1] if len(kinds) > 1 else 0.0,
                colors_at_hand=bool(colors is not None and index.settings.get("colors")),
                all_rows=len(dense.ids[place]) < count,
            )
        )
    return result


def _add_missing(
    index: IndexBackend, queries: np.ndarray, cosines: list[dict[str, float]], lexical: Sequence[Hits]
) -> None:
    """The cosines of what only words found; a row that a writer removed meanwhile is left out."""
    missing = [
        sorted({identifier for hits in lexical for identifier in hits.ids[query]} - found.keys())
        for query, found in enumerate(cosines)
    ]
    rows = index.get(sorted(set().union(*missing)))
    place = {identifier: row for row, identifier in enumerate(rows.ids)}
    pairs = [(query, identifier) for query, names in enumerate(missing) for identifier in names if identifier in place]
    scores = pair_scores(
        queries,
        rows.embeddings,
        np.array([query for query, _ in pairs], dtype=np.int64),
        np.array([place[identifier] for _, identifier in pairs], dtype=np.int64),
    )
    for (query, identifier), score in zip(pairs, scores.tolist(), strict=True):
        cosines[query][identifier] = score


def _scores(
    index: IndexBackend, texts: Sequence[str], hits: Hits, candidates: Sequence[Sequence[str]]
) -> list[np.ndarray]:
    """BM25 of every candidate; the index is asked again for those that are not among the best by words."""
    known = [dict(zip(ids, scores.tolist(), strict=True)) for ids, scores in zip(hits.ids, hits.scores, strict=True)]
    others = [
        # of a text without hits no row has a word
        [name for name in names if name not in of_query] if of_query else []
        for names, of_query in zip(candidates, known, strict=True)
    ]
    if any(others):
        for of_query, names, scores in zip(known, others, index.lexical_scores(texts, others), strict=True):
            of_query.update(zip(names, scores.tolist(), strict=True))
    return [
        np.array([of_query.get(name, 0.0) for name in names], dtype=np.float32)
        for names, of_query in zip(candidates, known, strict=True)
    ]


def _color_cosines(
    index: IndexBackend, queries: HybridQueries, rows: Sequence[int], candidates: Sequence[Sequence[str]]
) -> list[np.ndarray] | None:
    if queries.colors is None:
        return None
    names = sorted(set().union(*candidates))
    place = {name: row for row, name in enumerate(names)}
    histograms = index.color_histograms(names)
    return [
        np.asarray(histograms[[place[name] for name in found]] @ queries.colors[row], dtype=np.float32)
        for row, found in zip(rows, candidates, strict=True)
    ]
