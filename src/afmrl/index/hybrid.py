"""Hybrid search: the dense score plus BM25, over what either of the two finds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from afmrl.index.backend import Hits, IndexBackend, Where

BM25_WEIGHT = 1.0
"""Where the model brings no weight of its own (fusion.json): of BM25 divided by the query's highest. Chosen on titles
of web shops (benchmarks/hybrid_weight.py)."""
CANDIDATES = 10  # times k of each kind, and at least FEWEST
FEWEST = 200


def hybrid_search(
    index: IndexBackend,
    queries: np.ndarray,
    texts: Sequence[str],
    k: int,
    *,
    weight: float,
    attributes: Sequence[str] | None = None,
    attributes_weight: float = 0.0,
    where: Where | None = None,
) -> Hits:
    """The k rows of highest cosine + weight · B / max B (+ attributes_weight · A / max A), among the candidates.

    Candidates are the best of each kind of search. Their cosines are all computed; a candidate beyond the best by
    words counts as without words in common, so it is placed too low by less than the weight of the last of those.
    Equal scores stand in the order of their ids.

    Args:
        texts: one a query: what BM25 reads (B). Empty: the dense score alone.
        attributes: one a query: the values of its key attributes (A).
        where: see `afmrl.index.backend`; max B is of the rows that pass.

    Shape:
        queries (Q, D).
    """
    count = max(CANDIDATES * k, FEWEST)
    dense = index.search(queries, count, where=where)
    kinds = [(weight, index.lexical(texts, count, where=where))]
    if attributes is not None and attributes_weight:
        kinds.append((attributes_weight, index.lexical(attributes, count, where=where)))
    cosines = [
        dict(zip(ids, scores.tolist(), strict=True)) for ids, scores in zip(dense.ids, dense.scores, strict=True)
    ]
    _add_missing(index, queries, cosines, [hits for _, hits in kinds])
    ids: list[list[str]] = []
    scores: list[np.ndarray] = []
    for query, found in enumerate(cosines):
        fused = dict(found)
        for of_kind, hits in kinds:
            values = hits.scores[query]
            for identifier, value in zip(hits.ids[query], values.tolist(), strict=True):
                fused[identifier] += of_kind * value / float(values[0])
        ranked = sorted(fused.items(), key=lambda pair: (-pair[1], pair[0]))[:k]
        ids.append([identifier for identifier, _ in ranked])
        scores.append(np.array([score for _, score in ranked], dtype=np.float32))
    return Hits(ids, scores)


def _add_missing(
    index: IndexBackend, queries: np.ndarray, cosines: list[dict[str, float]], lexical: Sequence[Hits]
) -> None:
    """The cosines of what only words found."""
    missing = [
        {identifier for hits in lexical for identifier in hits.ids[query]} - found.keys()
        for query, found in enumerate(cosines)
    ]
    rows = index.get(sorted(set().union(*missing)))
    place = {identifier: row for row, identifier in enumerate(rows.ids)}
    for query, (found, of_query) in enumerate(zip(cosines, missing, strict=True)):
        for identifier in of_query:
            # a row that a writer took away meanwhile stays last
            row = place.get(identifier)
            found[identifier] = float(rows.embeddings[row] @ queries[query]) if row is not None else -1.0
