"""Fusion: BM25 over title and attributes, and colors of the images, added to the dense score with learned weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.attributes.seller_attributes import DEFAULT_SELLER_ATTRIBUTES, SellerAttributes
from afmrl.data.offer import Offer
from afmrl.embedder.names import model_folder
from afmrl.errors import InputError
from afmrl.files import parse_json
from afmrl.retrieval.bm25 import bm25_scores
from afmrl.retrieval.colors import color_scores
from afmrl.retrieval.exact import ranks_of_scores
from afmrl.retrieval.words import OfferWords, attribute_words

FUSION_FILE = "fusion.json"
BM25_WEIGHT = 1.0
"""Weight of BM25 where a model learned none. Chosen on titles of web shops (benchmarks/hybrid_weight.py)."""
# no further: on clothes a heavier weight lost queries (docs/results/photographs.md)
COLOR_GRID = (0.0, 0.1, 0.2, 0.3, 0.5)
GRID = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0)


@dataclass(frozen=True)
class FusionWeights:
    """How much words and colors weigh beside the cosine of two embeddings.

    score = cosine + bm25 · B / max B + attributes · A / max A + color · C. B is BM25 of the query's title over the
    words of title and attributes. A is BM25 of the query's key attributes over the same words. Each is divided by its
    maximum over the offers that are searched. C is the cosine of the images' color histograms.
    """

    bm25: float
    attributes: float = 0.0
    """Weight of a second BM25, over the attributes' values against title and attributes."""
    extracted: bool = False
    """Whether values that rules read off a title count as words of it, see `OfferWords.extracted`."""
    color: float = 0.0
    """Weight of the cosine of the images' color histograms."""

    @property
    def in_words(self) -> str:
        """The weights for people.

        >>> FusionWeights(0.5, color=0.1).in_words, FusionWeights(0.0).in_words
        ('cosine + 0.5 × BM25 + 0.1 × colors', 'cosine alone')
        """
        parts = ((self.bm25, "BM25"), (self.attributes, "BM25 of the attributes"), (self.color, "colors"))
        return "cosine" + ("".join(f" + {weight:g} × {name}" for weight, name in parts if weight) or " alone")

    def fuse(
        self, dense: np.ndarray, words: np.ndarray, attributes: np.ndarray, colors: np.ndarray | None = None
    ) -> np.ndarray:
        """(Q, N) fused scores of (Q, N) cosines, two BM25 matrices and the colors' cosines."""
        fused = dense + self.bm25 * scaled(words) + self.attributes * scaled(attributes)
        if colors is not None:
            fused = fused + self.color * colors
        return np.asarray(fused, dtype=np.float32)

    def fuse_offers(
        self,
        dense: np.ndarray,
        queries: Sequence[Offer],
        gallery: Sequence[Offer],
        query_attributes: Sequence[KeyAttributes] | None,
        gallery_attributes: Sequence[KeyAttributes] | None,
        *,
        passing: np.ndarray | None = None,
        seller_attributes: SellerAttributes | None = DEFAULT_SELLER_ATTRIBUTES,
    ) -> np.ndarray:
        """Fused scores of cosines and what the offers themselves say and show.

        Args:
            seller_attributes: which of the sellers' attributes count as words, see `OfferWords`.
            passing: (P,) gallery rows that are searched; frequencies of words are those of the whole gallery. None:
                all rows.

        Shape:
            dense (Q, P), with P = N where `passing` is None; returns (Q, P) float32.
        """
        words, values = lexical_scores(
            queries,
            gallery,
            query_attributes,
            gallery_attributes,
            extracted=self.extracted,
            seller_attributes=seller_attributes,
        )
        if passing is not None:
            words, values, gallery = words[:, passing], values[:, passing], [gallery[row] for row in passing]
        return self.fuse(dense, words, values, color_scores(queries, gallery) if self.color else None)

    def save(self, folder: str | Path) -> None:
        """Write FOLDER/fusion.json."""
        (Path(folder) / FUSION_FILE).write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def of_model(cls, model: str | Path) -> FusionWeights:
        """What a model learned (MODEL/fusion.json); where it learned none, BM25 of the title with a fixed weight."""
        return cls.load(model) if (Path(model_folder(model)) / FUSION_FILE).is_file() else cls(BM25_WEIGHT)

    @classmethod
    def load(cls, folder: str | Path) -> FusionWeights:
        """Read FOLDER/fusion.json.

        Raises:
            InputError: there is no such file: the model was trained without `evaluation.fuse`.
        """
        try:
            return cls(**parse_json((Path(model_folder(folder)) / FUSION_FILE).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise InputError(
                f"{folder}: has no weights of its own ({FUSION_FILE}); a run with evaluation.fuse=true learns them"
            ) from error


def scaled(scores: np.ndarray) -> np.ndarray:
    """Each row divided by its maximum, so that a query of many words weighs no more; zeros stay zeros."""
    top = scores.max(axis=1, keepdims=True, initial=0.0)
    return np.asarray(scores / np.where(top > 0, top, 1.0), dtype=np.float32)


def lexical_scores(
    queries: Sequence[Offer],
    gallery: Sequence[Offer],
    query_attributes: Sequence[KeyAttributes] | None,
    gallery_attributes: Sequence[KeyAttributes] | None,
    *,
    extracted: bool = False,
    seller_attributes: SellerAttributes | None = DEFAULT_SELLER_ATTRIBUTES,
) -> tuple[np.ndarray, np.ndarray]:
    """(Q, N) BM25 of titles and sellers' attributes against these and key attributes; of the query's key attributes
    against the same.

    Args:
        extracted: see `FusionWeights.extracted`.
        seller_attributes: which of the sellers' attributes count as words, see `OfferWords`.
    """
    words = OfferWords(extracted=extracted, seller_attributes=seller_attributes)
    theirs = [
        words.of_gallery(offer, gallery_attributes[i] if gallery_attributes else None)
        for i, offer in enumerate(gallery)
    ]
    values = [attribute_words(a) for a in query_attributes] if query_attributes else [""] * len(queries)
    return bm25_scores([words.of_query(offer) for offer in queries], theirs), bm25_scores(values, theirs)


def learn_fusion_weights(
    dense: np.ndarray,
    words: np.ndarray,
    attributes: np.ndarray,
    relevant: Sequence[np.ndarray],
    colors: np.ndarray | None = None,
) -> FusionWeights:
    """The weights of highest mean reciprocal rank on a grid; of equally good ones the middle.

    Args:
        colors: cosines of color histograms; None where there are no images: the color weight is then 0.

    Shape:
        dense, words, attributes, colors (Q, N) of queries that the embedder was not trained on.
    """
    words, attributes = scaled(words), scaled(attributes)
    grids = (
        GRID if words.any() else (0.0,),
        GRID if attributes.any() else (0.0,),
        (0.0,) if colors is None else COLOR_GRID,
    )
    found = np.empty([len(grid) for grid in grids])
    for place in np.ndindex(found.shape):
        of_words, of_attributes, of_colors = (grid[i] for grid, i in zip(grids, place, strict=True))
        fused = dense + of_words * words + of_attributes * attributes
        if of_colors and colors is not None:
            fused = fused + of_colors * colors
        found[place] = (1 / ranks_of_scores(np.asarray(fused, dtype=np.float32), relevant)).mean()
    # half of a place is its neighbors: a few queries leave a plateau, and its edge is no safe place
    smooth = 0.5 * found + 0.5 * _neighborhood_means(found)
    best = np.argwhere(smooth > smooth.max() - 1e-9)
    chosen: list[float] = []
    for axis, grid in enumerate(grids):
        values = sorted({int(place[axis]) for place in best})
        middle = values[(len(values) - 1) // 2]
        best = best[best[:, axis] == middle]
        chosen.append(grid[middle])
    return FusionWeights(chosen[0], chosen[1], color=chosen[2])


def _neighborhood_means(values: np.ndarray) -> np.ndarray:
    """The mean of each place of a grid with those beside it, at the grid's ends of fewer."""
    from scipy.ndimage import uniform_filter

    size = [3 if length > 1 else 1 for length in values.shape]
    shares = uniform_filter(np.ones_like(values), size, mode="constant")
    return np.asarray(uniform_filter(values, size, mode="constant") / shares)
