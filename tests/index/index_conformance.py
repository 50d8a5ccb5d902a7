"""What the conformance tests of index backends compare with: small rows, exact search and BM25 in float64."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.attributes.words import tokenize
from afmrl.data.offer import Offer
from afmrl.index.backend import Rows, Where, filter_value
from afmrl.retrieval.words import OfferWords

D = 8
COLORS = ("red", "blue", "deep red", "green", "红色", "black and white")
KINDS = ("dress", "shoe", "phone 1.5 m cable", "lamp", "mug")
CATEGORIES = ("clothes", "shoes", 'it\'s "odd"')
SELLERS = ("anna", "bert", "", "läden & söhne")
MODEL = {"path": "models/tiny", "fingerprint": "f00d"}
SETTINGS = {"model": MODEL, "dtype": "f32", "exact_below": 10_000}


def unit(numbers: np.ndarray) -> np.ndarray:
    """Rows of unit length, float32."""
    return (numbers / np.linalg.norm(numbers, axis=-1, keepdims=True)).astype(np.float32)


def drawn_rows(ids: Sequence[str], seed: int, *, dimension: int = D, fingerprint: str = "1") -> Rows:
    """Rows with these ids and drawn content; titles of 1 to 12 words."""
    rng = np.random.default_rng(seed)
    offers, attributes = [], []
    for identifier in ids:
        words = rng.choice([*COLORS, *KINDS, "A12", "A12s", "new"], size=rng.integers(1, 9))
        offers.append(
            Offer(
                id=identifier,
                title=" ".join(words),
                description="described" if rng.random() < 0.5 else "",
                image="/images/1.jpg" if rng.random() < 0.5 else "",
                category=str(rng.choice(CATEGORIES)),
                attributes={"size": str(rng.integers(36, 46))} if rng.random() < 0.5 else {},
                product_id=f"p{rng.integers(5)}",
                extra={"seller": str(rng.choice(SELLERS))},
            )
        )
        attributes.append(KeyAttributes.of({"zeta": str(rng.choice(COLORS)), "alpha": str(rng.choice(KINDS))}))
    embeddings = unit(rng.standard_normal((len(ids), dimension)))
    return Rows(list(ids), embeddings, offers, attributes, [f"{fingerprint}-{seed}"] * len(ids))


def joined(*parts: Rows) -> Rows:
    """Rows one after another."""
    return Rows(
        [name for part in parts for name in part.ids],
        np.concatenate([part.embeddings for part in parts]),
        [offer for part in parts for offer in part.offers],
        [found for part in parts for found in part.key_attributes],
        [mark for part in parts for mark in part.fingerprints],
    )


def same_rows(left: Rows, right: Rows, tolerance: float = 1e-6) -> None:
    """Fail unless both have the same rows in the same order."""
    assert left.ids == right.ids
    assert left.offers == right.offers
    assert [str(found) for found in left.key_attributes] == [str(found) for found in right.key_attributes]
    assert left.fingerprints == right.fingerprints
    np.testing.assert_allclose(left.embeddings, right.embeddings, atol=tolerance)


def passing(rows: Rows, where: Where | None) -> np.ndarray:
    """(N,) bool: which rows pass a filter."""
    return np.array(
        [all(filter_value(offer, name) in values for name, values in (where or {}).items()) for offer in rows.offers],
        dtype=bool,
    )


def check_hits(
    ids: list[str], scores: np.ndarray, truth: Mapping[str, float], k: int, *, tolerance: float = 1e-5
) -> None:
    """Fail unless the hits are the k best of `truth`, best first, ties in any order."""
    best = sorted(truth.values(), reverse=True)[:k]
    assert len(ids) == len(set(ids)) == len(best) == len(scores)
    assert scores.dtype == np.float32
    assert set(ids) <= set(truth)
    np.testing.assert_allclose(scores, best, atol=tolerance, rtol=tolerance)
    np.testing.assert_allclose([truth[name] for name in ids], best, atol=tolerance, rtol=tolerance)


def dense_truth(rows: Rows, query: np.ndarray, where: Where | None = None) -> dict[str, float]:
    """Dot products in float64, of the rows that pass."""
    scores = rows.embeddings.astype(np.float64) @ query.astype(np.float64)
    return {
        name: float(score) for name, score, kept in zip(rows.ids, scores, passing(rows, where), strict=True) if kept
    }


def bm25_truth(
    rows: Rows, text: str, where: Where | None = None, *, k1: float = 1.5, b: float = 0.75
) -> dict[str, float]:
    """BM25 by its definition (Lucene's idf), above 0, of the rows that pass."""
    documents = [
        Counter(tokenize(OfferWords().of_gallery(offer, found)))
        for offer, found in zip(rows.offers, rows.key_attributes, strict=True)
    ]
    mean = sum(document.total() for document in documents) / max(len(documents), 1)
    found: dict[str, float] = {}
    for name, document, kept in zip(rows.ids, documents, passing(rows, where), strict=True):
        score = 0.0
        for word, times in Counter(tokenize(text)).items():
            frequency = sum(word in other for other in documents)
            weight = math.log(1 + (len(documents) - frequency + 0.5) / (frequency + 0.5))
            norm = k1 * (1 - b + b * document.total() / mean)
            score += times * weight * document[word] / (document[word] + norm)
        if kept and score > 0:
            found[name] = score
    return found
