"""The floors of a retrieval task: methods that learn nothing from the catalog, as far as its offers and size allow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from afmrl.attributes.seller_attributes import SellerAttributes
from afmrl.embedder.packaged import PACKAGED, is_installed, packaged_folder
from afmrl.evaluation.tasks import RetrievalTask
from afmrl.retrieval.floors import Untrained
from afmrl.retrieval.scorer import FLOOR_READS, FloorScorer, Scorer, load_scorer

FLOORS: tuple[str, ...] = get_args(Untrained)
"""In the order of tables: without learning, then the small pretrained model as it comes."""
MAX_SCORES = 100_000_000
"""Queries times gallery offers up to which floors are measured: some seconds each."""
MAX_OFFERS = 10_000
"""Offers up to which images are opened, and texts embedded, for floors that need it."""


@dataclass(frozen=True)
class TaskFloors:
    """Floors that are measured, and why the others are not."""

    scorers: dict[str, Scorer] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


def floors_of(
    task: RetrievalTask,
    asked: Sequence[str] = FLOORS,
    *,
    model: str | Path = "",
    seller_attributes: SellerAttributes | None = None,
) -> TaskFloors:
    """The floors that a task's offers allow.

    A floor that cannot read the offers is passed over in silence; one that is left out for its cost is told.

    Args:
        asked: names of FLOORS.
        model: what is judged; it is no floor of itself.
        seller_attributes: which of the sellers' attributes are read; as the model that is judged reads them.
    """
    found = TaskFloors()
    num_scores, num_offers = len(task.queries) * len(task.gallery), len(task.queries) + len(task.gallery)
    for name in asked:
        packaged = name in PACKAGED
        reads = ("text",) if packaged else FLOOR_READS[name]
        if (packaged and not is_installed(name)) or _is_itself(name, model) or not _there_is(reads, task):
            continue
        if num_scores > MAX_SCORES:
            found.left_out[name] = f"{num_scores:,} scores, more than {MAX_SCORES:,}"
        elif (packaged or "image" in reads) and num_offers > MAX_OFFERS:
            found.left_out[name] = f"{num_offers:,} offers, more than {MAX_OFFERS:,}"
        elif not unreadable(scorer := load_scorer(name, seller_attributes=seller_attributes), task):
            found.scorers[name] = scorer
    return found


def unreadable(scorer: Scorer, task: RetrievalTask) -> str:
    """Why a scorer cannot do a task: it reads too little of the offers; "" where it can."""
    reads = scorer.reads
    for name, modality, offers in (
        ("queries", task.query_modality, task.queries),
        ("gallery", task.gallery_modality, task.gallery),
    ):
        if modality != "fused" and modality not in reads:
            return f"the model reads no {'images' if modality == 'image' else 'text'}"
        if not any(scorer.can_read(offer) for offer in offers):
            return f"the model reads {' and '.join(reads)} only, and the {name} have none"
    if isinstance(scorer, FloorScorer) and (task.query_modality, task.gallery_modality) == ("text", "image"):
        return f"the floor {scorer.floor!r} compares text with text and images with images only"
    return ""


def _there_is(reads: Sequence[str], task: RetrievalTask) -> bool:
    """Whether both sides have offers with each part that a floor reads."""
    return all(
        any(offer.image if part == "image" else offer.title.strip() for offer in offers)
        for part in reads
        for offers in (task.queries, task.gallery)
    )


def _is_itself(name: str, model: str | Path) -> bool:
    """Whether the model that is judged is this floor."""
    if str(model) == name:
        return True
    return name in PACKAGED and Path(model).resolve() == packaged_folder(name).resolve()
