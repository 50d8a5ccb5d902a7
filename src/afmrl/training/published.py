"""What a run publishes: the embedder with or without attributes, alone or fused; whichever is best on val."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from afmrl.attributes.attributes_on import on_gallery, on_query
from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.embedder.embedder import SETTINGS_FILE, Embedder
from afmrl.evaluation.retrieval import RetrievalResult, score_matrix
from afmrl.files import write_json
from afmrl.retrieval.fusion import FusionWeights, learn_fusion_weights, lexical_scores
from afmrl.training.ladder import encode_split, generated_attributes
from afmrl.training.run_state import Run

ENOUGH = 8
"""Queries of a split from which fusion weights are learned on it."""
NO_FUSION = FusionWeights(0.0)


@dataclass(frozen=True)
class Variant:
    """A way to use what was trained."""

    attributes_on: str
    """Whose text carries what the generator writes; "none"."""
    weights: FusionWeights | None = None
    """Of words and colors beside the cosine; None: the cosine alone."""

    @property
    def num_parts(self) -> int:
        """How much there is beside the embedder: a generator costs more than words."""
        return 2 * (self.attributes_on != "none") + (self.weights is not None)

    @property
    def in_words(self) -> str:
        """How it differs from the embedder alone."""
        attributes = "" if self.attributes_on == "none" else "with generated attributes"
        fused = f"fused ({self.weights.in_words})" if self.weights else ""
        return ", ".join(part for part in (attributes, fused) if part) or "alone"


@dataclass(frozen=True)
class Choice:
    """The variant that is published, and what else there was."""

    variant: Variant
    variants: Sequence[Variant]
    """All that there were, the recipe's own first."""
    val_mrr: dict[str, float]
    """MRR on val by the variant's words; empty where val has no query, and the recipe's own variant is kept."""


def choose_variant(run: Run) -> Choice:
    """The variant of highest MRR on val, of equals the one that needs least; write it into RUN/embedder."""
    sides = [run.recipe.agcl.attributes_on] if run.cit_generator in run.paths else []
    variants = []
    for side in dict.fromkeys([*sides, "none"]):
        weights = _learn_weights(run, side) if run.recipe.evaluation.fuse else NO_FUSION
        variants += [*([Variant(side, weights)] if weights != NO_FUSION else []), Variant(side)]
    chosen, val_mrr = variants[0], dict[str, float]()
    if len(variants) > 1 and run.splits["val"].queries:
        found = score_variants(run, "val", variants)
        val_mrr = {variant.in_words: round(of.metrics["mrr"].mean, 6) for variant, of in found.items()}
        chosen = max(variants, key=lambda variant: (round(found[variant].metrics["mrr"].mean, 6), -variant.num_parts))
    _publish(run, chosen)
    return Choice(chosen, variants, val_mrr)


def score_variants(run: Run, split_name: str, variants: Sequence[Variant]) -> dict[Variant, RetrievalResult]:
    """Same-product retrieval of a split in each variant."""
    split = run.splits[split_name]
    embedder = Embedder.from_pretrained(run.folder / "embedder")
    results = {}
    for side in dict.fromkeys(variant.attributes_on for variant in variants):
        dense, of_queries, of_gallery = _cosines(run, split_name, embedder, side)
        for variant in variants:
            if variant.attributes_on == side:
                scores = dense
                if variant.weights is not None:
                    offers = split.query_offers(), split.gallery_offers()
                    scores = variant.weights.fuse_offers(
                        dense, *offers, of_queries, of_gallery, seller_attributes=embedder.seller_attributes
                    )
                results[variant] = score_matrix(scores, split.relevant, split.families)
    return results


def _cosines(
    run: Run, split_name: str, embedder: Embedder, side: str
) -> tuple[np.ndarray, list[KeyAttributes] | None, list[KeyAttributes] | None]:
    """(Q, N) cosines of a split, and the attributes that its queries and gallery carry."""
    split = run.splits[split_name]
    of_queries, of_gallery = attributes_of(run, split_name, side)
    encoded = encode_split(embedder, split, of_queries, of_gallery, batch_size=run.recipe.evaluation.batch_size)
    return encoded.queries @ encoded.gallery.T, of_queries, of_gallery


def attributes_of(
    run: Run, split_name: str, side: str
) -> tuple[list[KeyAttributes] | None, list[KeyAttributes] | None]:
    """What the last generator writes of a split's queries and gallery; None where a side carries none."""
    if side == "none":
        return None, None
    split = run.splits[split_name]
    written = generated_attributes(run, run.cit_generator, split_name)
    return (
        [written[row] for row in split.queries] if on_query(side) else None,
        [written[row] for row in split.gallery] if on_gallery(side) else None,
    )


def fusion_split(run: Run) -> str:
    """The split that fusion weights are learned on: the first that has some queries, of those not trained on."""
    return next((name for name in ("reward", "val") if len(run.splits[name].queries) >= ENOUGH), "train")


def _learn_weights(run: Run, side: str) -> FusionWeights:
    """Weights of BM25 and colors beside the dense score."""
    from afmrl.retrieval.colors import color_scores

    name = fusion_split(run)
    split = run.splits[name]
    embedder = Embedder.from_pretrained(run.folder / "embedder")
    dense, of_queries, of_gallery = _cosines(run, name, embedder, side)
    queries, gallery = split.query_offers(), split.gallery_offers()
    words, values = lexical_scores(
        queries, gallery, of_queries, of_gallery, seller_attributes=embedder.seller_attributes
    )
    has_images = any(o.image for o in queries) and any(o.image for o in gallery)
    colors = color_scores(queries, gallery) if has_images else None
    return learn_fusion_weights(dense, words, values, split.relevant, colors)


def _publish(run: Run, variant: Variant) -> None:
    """Write into RUN/embedder what `afmrl search`, `match` and `evaluate` then do by themselves."""
    path = Path(run.folder / "embedder" / SETTINGS_FILE)
    settings = json.loads(path.read_text(encoding="utf-8"))
    write_json(path, {**settings, "attributes_on": variant.attributes_on})
    if run.recipe.evaluation.fuse:
        name = fusion_split(run)
        why = f", since reward and val have fewer than {ENOUGH} queries" if name == "train" else ""
        run.say(f"fusion, learned on the split {name!r}{why}: {(variant.weights or NO_FUSION).in_words}")
        (variant.weights or NO_FUSION).save(run.folder / "embedder")
