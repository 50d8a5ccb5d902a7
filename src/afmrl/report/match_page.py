"""The page of a match: pairs and groups to review by eye, the doubtful ones first.

templates/match.html.j2 is its frame, templates/match/ has one file a section.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from afmrl.data.offer import Offer
from afmrl.matching.reasons import KEPT_APART
from afmrl.matching.result import MatchedPair, MatchResult, Review
from afmrl.report.charts import line_charts
from afmrl.report.images import PageImages
from afmrl.report.offer_attributes import AttributeLine
from afmrl.report.page import write_page
from afmrl.report.views import Curve

MAX_MEMBERS = 12  # of a group that are shown
MAX_REASONS = 8  # of a kind
SECTIONS = {
    "vetoed": "Kept apart by a veto",
    "near": "Near the threshold",
    "groups": "Groups",
    "curve": "Precision and recall",
    "reliability": "Reliability",
    "vetoes": "Vetoes",
    "facts": "Facts",
    "notes": "Read with care",
}
"""Section -> its link, in the order of the page. A section with nothing to show is left out."""
FACTS = {
    "catalog": "catalog",
    "against": "against",
    "model": "model",
    "generator": "generator",
    "labels": "labels_from",
    "offers": "offers",
    "pairs compared": "pairs_compared",
    "pairs listed": "pairs_listed",
    "pairs in one group": "pairs_same",
    "pairs vetoed": "pairs_vetoed",
    "pairs above the threshold in two groups": "pairs_kept_apart",
    "offers to review": "offers_to_review",
}
"""Fact -> its name in the summary."""


def write_match_page(result: MatchResult, out: str | Path) -> Path:
    """Write OUT/report.html; it holds all that it shows and loads nothing."""
    review, summary = result.review, result.summary
    images = PageImages()
    for offer in _shown_offers(review):
        if offer.image:
            images.thumbnail(offer.image)
    shown: dict[str, Any] = {
        "vetoed": review.vetoed,
        "near": review.near,
        "groups": True,
        "curve": line_charts([_curve(summary["labels"])]) if summary["labels"] else (),
        "reliability": summary["labels"],
        "vetoes": summary["vetoes"],
        "facts": _facts(summary),
        "notes": _notes(summary, images),
    }
    return write_page(
        Path(out) / "report.html",
        "match.html.j2",
        styles=("report.css", "match.css"),
        title=f"Same products in {PurePath(str(summary.get('catalog') or '')).name or 'the catalog'}",
        images=images,
        sections={name: link for name, link in SECTIONS.items() if shown[name]},
        shown=shown,
        review=review,
        summary=summary,
        imaged=any(offer.image for offer in _shown_offers(review)),
        max_members=MAX_MEMBERS,
        reason_lines=reason_lines,
        weights=weights_in_words,
        kept_apart=KEPT_APART,
    )


def reason_lines(pair: MatchedPair) -> list[AttributeLine]:
    """Why two offers were kept apart or brought together, attribute by attribute: what differs first."""
    reasons = pair.reasons.as_dict()
    lines = [
        AttributeLine(
            "ne strong" if key in reasons["veto"] else "ne",
            "≠",
            "differs",
            key,
            f"{of['left']} | {of['right']}",
            _remark(of["from"]),
        )
        for key, of in list(reasons["differ"].items())[:MAX_REASONS]
    ]
    for key, of in list(reasons["agree"].items())[:MAX_REASONS]:
        value = of["left"] if of["left"] == of["right"] else f"{of['left']} | {of['right']}"
        lines.append(AttributeLine("eq", "=", "agrees", key, value, _remark(of["from"])))
    for kind, name in (("only_left", "left only"), ("only_right", "right only")):
        for key, of in list(reasons[kind].items())[:MAX_REASONS]:
            lines.append(AttributeLine("one", "+", name, key, of["value"], _remark([of["from"]], name)))
    return lines


def weights_in_words(pair: MatchedPair) -> str:
    """How much words, image and embedding weigh in a pair's score."""
    reasons = pair.reasons.as_dict()
    names = [name for name in ("text", "image", "embedding") if name in reasons]
    return " · ".join(f"{name} {reasons[name]:+.1f}" for name in names)


def _curve(labels: Mapping[str, Any]) -> Curve:
    """Precision over recall on the validation pairs, with the ends of its 95 % interval and the chosen point."""
    points = [point for point in labels["curve"] if point["precision"]["mean"] is not None]
    series = {
        name: [(point["recall"]["mean"], point["precision"][key]) for point in points]
        for name, key in (("precision", "mean"), ("95 % interval, from", "low"), ("to", "high"))
    }
    chosen = labels["chosen"]
    mean = chosen["precision"]["mean"]
    marks = {} if mean is None else {"chosen": (chosen["recall"]["mean"], mean)}
    return Curve("Precision over recall", "recall", "precision", series, "precision-recall", marks)


def _remark(sources: Sequence[str], remark: str = "") -> str:
    """Where an attribute comes from, unless it was read from the text, which needs no remark."""
    source = " and ".join(dict.fromkeys(sources))
    return ", ".join(part for part in (remark, "" if source == "extracted" else source) if part)


def _facts(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    values = {fact: summary.get(name) for fact, name in FACTS.items()}
    return [
        (fact, f"{value:,}" if isinstance(value, int) else str(value))
        for fact, value in values.items()
        if value is not None
    ]


def _notes(summary: Mapping[str, Any], images: PageImages) -> list[str]:
    notes = list(summary["notes"])
    if summary["labels"] is None:
        notes.insert(
            0,
            "Threshold and probabilities are defaults learned on public sets. Their precision on this catalog is "
            "unknown: label some of the pairs above and give them with --labels.",
        )
    if images.num_left_out:
        notes.append(f"Images that are not shown, to keep this page small: {images.num_left_out:,}.")
    return notes


def _shown_offers(review: Review) -> Iterator[Offer]:
    """Every offer that the page shows, in its order."""
    for pair in (*review.vetoed, *review.near):
        yield from (pair.left, pair.right)
    for group in review.groups:
        yield from group.offers[:MAX_MEMBERS]
