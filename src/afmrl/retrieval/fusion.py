"""Fusion: BM25 over title and attributes, added to the dense score with learnt weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from afmrl.attributes import KeyAttributes
from afmrl.errors import InputError
from afmrl.extractor import AttributeExtractor
from afmrl.lexical import tokenize
from afmrl.offers import Offer
from afmrl.retrieval.exact import ranks_of_scores

FUSION_FILE = "fusion.json"
_RULES = AttributeExtractor()
GRID = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0)


@dataclass(frozen=True)
class FusionWeights:
    """score = cosine + bm25 · B / max B of the query; B is BM25 over the words of title and attributes."""

    bm25: float
    attributes: float = 0.0
    """Weight of a second BM25, over the attributes' values against title and attributes."""
    extracted: bool = False
    """Whether what `AttributeExtractor` reads off a title counts as words of it: a model number without its hyphens, a
    length in one unit."""

    def fuse(self, dense: np.ndarray, words: np.ndarray, attributes: np.ndarray) -> np.ndarray:
        """(Q, N) fused scores of (Q, N) cosines and two BM25 matrices."""
        return np.asarray(dense + self.bm25 * scaled(words) + self.attributes * scaled(attributes), dtype=np.float32)

    def save(self, folder: str | Path) -> None:
        """Write FOLDER/fusion.json."""
        (Path(folder) / FUSION_FILE).write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> FusionWeights:
        """Read FOLDER/fusion.json.

        Raises:
            InputError: there is none: the model was trained without `evaluation.fuse`.
        """
        try:
            return cls(**json.loads((Path(folder) / FUSION_FILE).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise InputError(
                f"{folder}: holds no {FUSION_FILE} ({error}); fusion weights are learnt by a run with "
                "evaluation.fuse=true"
            ) from error


def scaled(scores: np.ndarray) -> np.ndarray:
    """Each row divided by its maximum, so that a query of many words weighs no more; zeros stay."""
    top = scores.max(axis=1, keepdims=True, initial=0.0)
    return np.asarray(scores / np.where(top > 0, top, 1.0), dtype=np.float32)


def bm25_scores(queries: Sequence[str], gallery: Sequence[str]) -> np.ndarray:
    """BM25 of texts, by bm25s (Lucene's variant).

    Shape:
        returns (Q, N) float32.
    """
    import bm25s

    tokens = [tokenize(text) for text in gallery]
    if not any(tokens):
        return np.zeros((len(queries), len(gallery)), dtype=np.float32)
    index = bm25s.BM25(method="lucene")
    index.index(tokens, show_progress=False)
    known = index.vocab_dict
    rows = [[token for token in tokenize(text) if token in known] for text in queries]
    empty = np.zeros(len(gallery), dtype=np.float32)
    return np.stack([index.get_scores(row) if row else empty for row in rows]).astype(np.float32)


def lexical_scores(
    queries: Sequence[Offer],
    gallery: Sequence[Offer],
    query_attributes: Sequence[KeyAttributes] | None,
    gallery_attributes: Sequence[KeyAttributes] | None,
    *,
    extracted: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """(Q, N) BM25 of titles against titles and attributes, and of the query's attributes against the same.

    Args:
        extracted: see `FusionWeights.extracted`.
    """
    theirs = [_words(offer, gallery_attributes[i] if gallery_attributes else None) for i, offer in enumerate(gallery)]
    ours = [offer.title for offer in queries]
    if extracted:
        ours = [f"{text} {_extracted(offer)}" for text, offer in zip(ours, queries, strict=True)]
        theirs = [f"{text} {_extracted(offer)}" for text, offer in zip(theirs, gallery, strict=True)]
    words = bm25_scores(ours, theirs)
    values = [" ".join(value for _, value in a) for a in query_attributes] if query_attributes else [""] * len(queries)
    return words, bm25_scores(values, theirs)


def _extracted(offer: Offer) -> str:
    """The values that rules read off a title, each one word; brands stand in the title as they are."""
    return " ".join(value.replace(" ", "") for _, value in _RULES.extract(Offer(id=offer.id, title=offer.title)))


def _words(offer: Offer, attributes: KeyAttributes | None) -> str:
    values = [value for _, value in attributes] if attributes else []
    return " ".join([offer.title, *offer.attributes.values(), *values])


def learn_fusion_weights(
    dense: np.ndarray, words: np.ndarray, attributes: np.ndarray, relevant: Sequence[np.ndarray]
) -> FusionWeights:
    """The weights of highest mean reciprocal rank on a grid; of equal ones the middle, which generalises better.

    Shape:
        dense, words, attributes (Q, N) of queries that the embedder was not trained on.
    """
    found = {}
    for of_words in GRID:
        for of_attributes in GRID:
            weights = FusionWeights(of_words, of_attributes)
            ranks = ranks_of_scores(weights.fuse(dense, words, attributes), relevant)
            found[of_words, of_attributes] = float((1 / ranks).mean())
    smooth = {place: _neighbourhood(found, place) for place in found}
    highest = max(smooth.values())
    best = [place for place, value in smooth.items() if value > highest - 1e-9]
    of_words = _middle([words for words, _ in best])
    return FusionWeights(of_words, _middle([values for words, values in best if words == of_words]))


def _middle(weights: list[float]) -> float:
    """The lower median of different weights: a few queries leave a plateau, and its edge is no safe place."""
    distinct = sorted(set(weights))
    return distinct[(len(distinct) - 1) // 2]


def _neighbourhood(found: dict[tuple[float, float], float], place: tuple[float, float]) -> float:
    rows, columns = GRID.index(place[0]), GRID.index(place[1])
    near = [
        found[GRID[r], GRID[c]]
        for r in range(max(rows - 1, 0), min(rows + 2, len(GRID)))
        for c in range(max(columns - 1, 0), min(columns + 2, len(GRID)))
    ]
    return 0.5 * found[place] + 0.5 * sum(near) / len(near)
