"""`afmrl evaluate`: any model, a query catalogue, a gallery catalogue, qrels; metrics.json and hits.jsonl."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np

from afmrl.attributes import KeyAttributes
from afmrl.embedder import Embedder
from afmrl.errors import InputError
from afmrl.evaluation.qrels import read_qrels
from afmrl.evaluation.retrieval import score_matrix
from afmrl.offers import Catalogue, Offer, read_catalogue
from afmrl.retrieval.baselines import Floor, floor_scores
from afmrl.retrieval.fusion import FusionWeights, lexical_scores

SIDES = ("query", "both", "none")


def evaluate(
    model: str | Path,
    queries: str | Path,
    gallery: str | Path,
    qrels: str | Path,
    out: str | Path,
    *,
    generator: str | Path | None = None,
    fuse: bool = False,
    attributes_on: str | None = None,
    min_grade: int | None = None,
    k: int = 100,
    batch_size: int = 64,
    max_bad: float = 0.01,
    num_resamples: int = 2000,
) -> dict[str, Any]:
    """Score a model and write OUT/metrics.json (the same bytes for the same inputs) and OUT/hits.jsonl.

    An offer that stands on both sides is no hit of itself. Queries without a match in the gallery are counted but
    stay out of the means. Intervals: bootstrap over queries, by the `family_id` column where there is one.

    Args:
        model: an embedder, or a floor ("tfidf", "bm25", "colour", "tfidf+colour").
        attributes_on: "query", "both" or "none"; None: what the model was trained for, "query" if it does not say.

    Returns:
        what metrics.json holds: recall@1, recall@5, recall@10, mrr, intervals, counts.

    Raises:
        InputError: catalogues, qrels or models that cannot be used.
    """
    if attributes_on not in (None, *SIDES):
        raise InputError(f"attributes_on {attributes_on!r}: one of {', '.join(SIDES)}")
    if k < 1:
        raise InputError(f"k={k}: at least one hit a query")
    if batch_size < 1:
        raise InputError(f"batch_size={batch_size}: at least one offer a batch")
    if str(model) in get_args(Floor) and (fuse or generator is not None):
        raise InputError(f"the floor {str(model)!r} reads no generated attributes and is not fused; leave them out")
    query_catalogue = read_catalogue(queries, max_bad=max_bad)
    gallery_catalogue = read_catalogue(gallery, max_bad=max_bad)
    skipped = [*query_catalogue.skipped, *gallery_catalogue.skipped]
    truth = read_qrels(
        qrels,
        query_catalogue.by_id,
        gallery_catalogue.by_id,
        min_grade=min_grade,
        skipped_ids=[row.id for row in skipped if row.id],
    )
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)  # before the models run
    position = {offer.id: row for row, offer in enumerate(gallery_catalogue)}
    # an offer on both sides is not its own match
    relevant = [
        np.array(sorted(position[i] for i in truth.matches.get(o.id, {}) if i != o.id), dtype=np.int64)
        for o in query_catalogue
    ]
    scores = _scores(
        str(model), query_catalogue.offers, gallery_catalogue.offers, generator, fuse, attributes_on, batch_size
    )
    for row, offer in enumerate(query_catalogue):
        if offer.id in position:
            scores[row, position[offer.id]] = -np.inf
    counted = [row for row, columns in enumerate(relevant) if len(columns)]
    if not counted:
        raise InputError(f"{qrels}: no query has a match in the gallery")
    families = [_family(query_catalogue.offers[row]) for row in counted]
    result = score_matrix(
        scores[counted], [relevant[row] for row in counted], families, num_hits=k, num_resamples=num_resamples
    )
    metrics: dict[str, Any] = {name: round(interval.mean, 6) for name, interval in result.metrics.items()}
    metrics |= {
        "intervals": {name: [round(i.low, 6), round(i.high, 6)] for name, i in result.metrics.items()},
        "num_queries": len(counted),
        "num_gallery": len(gallery_catalogue),
        "queries_without_match": len(query_catalogue) - len(counted),
        "min_grade": truth.min_grade,
        "skipped": len(skipped),
    }
    _write_hits(out / "hits.jsonl", query_catalogue, gallery_catalogue, scores, k)
    if skipped:
        _write(out / "skipped.jsonl", "".join(json.dumps(dataclasses.asdict(row)) + "\n" for row in skipped))
    _write(out / "metrics.json", json.dumps(metrics, indent=2, sort_keys=True) + "\n")
    return metrics


def _scores(
    model: str,
    queries: Sequence[Offer],
    gallery: Sequence[Offer],
    generator: str | Path | None,
    fuse: bool,
    attributes_on: str | None,
    batch_size: int,
) -> np.ndarray:
    """(Q, N) float32."""
    if model in get_args(Floor):
        return floor_scores(queries, gallery, model)
    weights = FusionWeights.load(model) if fuse else None
    embedder = Embedder.from_pretrained(model)
    sides = attributes_on or (embedder.settings.get("attributes_on") if generator else None) or "query"
    on_queries: Sequence[KeyAttributes] | None = None
    on_gallery: Sequence[KeyAttributes] | None = None
    if generator is not None and sides != "none":
        from afmrl.generator import AttributeGenerator

        writer = AttributeGenerator.from_pretrained(generator)
        on_queries = writer.attributes(queries, batch_size=batch_size)
        on_gallery = writer.attributes(gallery, batch_size=batch_size) if sides == "both" else None
    dense = embedder.encode(queries, on_queries, batch_size=batch_size) @ (
        embedder.encode(gallery, on_gallery, batch_size=batch_size).T
    )
    if weights is None:
        return np.asarray(dense, dtype=np.float32)
    words, values = lexical_scores(queries, gallery, on_queries, on_gallery, extracted=weights.extracted)
    return weights.fuse(dense, words, values)


def _family(offer: Offer) -> str:
    return str(offer.extra.get("family_id") or offer.id)


def _write_hits(path: Path, queries: Catalogue, gallery: Catalogue, scores: np.ndarray, k: int) -> None:
    from afmrl.retrieval.exact import top_k_of_scores

    hit_scores, rows = top_k_of_scores(scores, k)
    lines = []
    for offer, of_query, columns in zip(queries, hit_scores, rows, strict=True):
        hits = [
            {"id": gallery.offers[column].id, "score": round(float(score), 9)}
            for score, column in zip(of_query, columns, strict=True)
            if np.isfinite(score)
        ]
        lines.append(json.dumps({"query": offer.id, "hits": hits}, ensure_ascii=False) + "\n")
    _write(path, "".join(lines))


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
