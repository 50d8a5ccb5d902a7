"""Floors: retrieval without any learning, which a model has to beat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from afmrl.attributes.words import has_ideographs, tokenize
from afmrl.data.images import open_image
from afmrl.data.offer import Offer
from afmrl.data.offer_text import offer_text
from afmrl.errors import InputError

Floor = Literal["tfidf", "bm25", "color", "tfidf+color"]
BINS = 6  # a channel: 216 colors
COLOR_WEIGHT = 0.3
BACKGROUND = 235
"""Pixels whose darkest channel is above are taken for a white background and not counted."""


def floor_scores(queries: Sequence[Offer], gallery: Sequence[Offer], kind: Floor | str) -> np.ndarray:
    """Scores without learning.

    - "tfidf": cosine of TF-IDF of titles;  "bm25": BM25 of titles;
    - "color": cosine of 216-bin color histograms of the images;
    - "tfidf+color": the first plus 0.3 times the third.

    Shape:
        returns (Q, N) float32.

    Raises:
        InputError: an unknown kind.
    """
    if kind not in get_args(Floor):
        raise InputError(f"floor {kind!r} is unknown; one of {', '.join(get_args(Floor))}")
    scores = np.zeros((len(queries), len(gallery)), dtype=np.float32)
    if "tfidf" in kind:
        scores += tfidf_scores([offer_text(o) for o in queries], [offer_text(o) for o in gallery])
    if kind == "bm25":
        from afmrl.retrieval.fusion import bm25_scores

        scores += bm25_scores([offer_text(o) for o in queries], [offer_text(o) for o in gallery])
    if "color" in kind:
        scores += (COLOR_WEIGHT if "+" in kind else 1.0) * color_scores(queries, gallery)
    return scores


def tfidf_scores(queries: Sequence[str], gallery: Sequence[str]) -> np.ndarray:
    """Cosine of TF-IDF vectors fitted on the gallery (Q, N).

    Words are scikit-learn's; where a title holds Chinese or Japanese, which has no spaces, those of
    `afmrl.attributes.relations.tokenize`.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    spaceless = any(has_ideographs(text) for text in (*queries, *gallery))
    vectorizer = TfidfVectorizer(analyzer=tokenize) if spaceless else TfidfVectorizer()
    try:
        theirs = vectorizer.fit_transform(gallery)
    except ValueError:  # not one word in the gallery
        return np.zeros((len(queries), len(gallery)), dtype=np.float32)
    return np.asarray((vectorizer.transform(queries) @ theirs.T).toarray(), dtype=np.float32)


def color_scores(queries: Sequence[Offer], gallery: Sequence[Offer]) -> np.ndarray:
    """Cosine of 216-bin color histograms of the images (Q, N); 0 where an offer has none."""
    ours = np.stack([color_histogram(offer) for offer in queries])
    theirs = np.stack([color_histogram(offer) for offer in gallery])
    return np.asarray(ours @ theirs.T, dtype=np.float32)


def color_histogram(offer: Offer) -> np.ndarray:
    """(216,) float32 unit vector of an offer's image; zeros where it has none."""
    if not offer.image:
        return np.zeros(BINS**3, dtype=np.float32)
    pixels = np.asarray(open_image(offer.image, max_side=224)).reshape(-1, 3).astype(np.int64)
    product = pixels[pixels.min(axis=1) < BACKGROUND]
    pixels = (product if len(product) else pixels) * BINS // 256
    counts = np.bincount(pixels @ np.array([BINS * BINS, BINS, 1]), minlength=BINS**3).astype(np.float32)
    return np.asarray(counts / np.linalg.norm(counts), dtype=np.float32)
