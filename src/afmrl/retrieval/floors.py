"""Floors: retrieval without any learning, which a model has to beat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from afmrl.attributes.seller_attributes import DEFAULT_SELLER_ATTRIBUTES, SellerAttributes
from afmrl.attributes.words import has_ideographs, tokenize
from afmrl.data.offer import Offer
from afmrl.data.offer_text import offer_text
from afmrl.errors import InputError
from afmrl.retrieval.bm25 import bm25_scores
from afmrl.retrieval.colors import color_scores
from afmrl.retrieval.words import seller_words

Floor = Literal["tfidf", "bm25", "color", "tfidf+color"]
Untrained = Literal[Floor, "minilm"]
"""Floors, and the small pretrained model as it comes: what a trained model has to beat."""
COLOR_WEIGHT = 0.3


def floor_scores(
    queries: Sequence[Offer],
    gallery: Sequence[Offer],
    kind: Floor | str,
    *,
    seller_attributes: SellerAttributes = DEFAULT_SELLER_ATTRIBUTES,
) -> np.ndarray:
    """Scores without learning, of the text that a model reads too: titles, and what the sellers state.

    - "tfidf": cosine of TF-IDF of the texts;  "bm25": BM25 of the texts;
    - "color": cosine of 216-bin color histograms of the images;
    - "tfidf+color": the first plus 0.3 times the third.

    Args:
        seller_attributes: which of the sellers' attributes are read.

    Shape:
        returns (Q, N) float32.

    Raises:
        InputError: an unknown kind.
    """
    if kind not in get_args(Floor):
        raise InputError(f"floor {kind!r} is unknown; one of {', '.join(get_args(Floor))}")
    scores = np.zeros((len(queries), len(gallery)), dtype=np.float32)
    if "tfidf" in kind or kind == "bm25":
        score = bm25_scores if kind == "bm25" else tfidf_scores
        scores += score(*([_text(offer, seller_attributes) for offer in offers] for offers in (queries, gallery)))
    if "color" in kind:
        scores += (COLOR_WEIGHT if "+" in kind else 1.0) * color_scores(queries, gallery)
    return scores


def _text(offer: Offer, which: SellerAttributes) -> str:
    return " ".join([offer_text(offer), *(seller_words(offer, which) if which != "none" else ())])


def tfidf_scores(queries: Sequence[str], gallery: Sequence[str]) -> np.ndarray:
    """Cosine of TF-IDF vectors fitted on the gallery (Q, N).

    Words are scikit-learn's; where a title holds Chinese or Japanese, which has no spaces, those of
    `afmrl.attributes.words.tokenize`.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    spaceless = any(has_ideographs(text) for text in (*queries, *gallery))
    vectorizer = TfidfVectorizer(analyzer=tokenize) if spaceless else TfidfVectorizer()
    try:
        theirs = vectorizer.fit_transform(gallery)
    except ValueError:  # not one word in the gallery
        return np.zeros((len(queries), len(gallery)), dtype=np.float32)
    return np.asarray((vectorizer.transform(queries) @ theirs.T).toarray(), dtype=np.float32)
