"""The page of results: of a run, of an evaluation, of a comparison.

templates/results.html.j2 is its frame, templates/results/ has one file a section.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from afmrl.errors import InputError
from afmrl.evaluation.metric_text import ordered_metrics
from afmrl.evaluation.slices import MIN_CLUSTERS
from afmrl.report.charts import line_charts
from afmrl.report.images import PageImages
from afmrl.report.offer_attributes import hit_attributes, query_attributes
from afmrl.report.page import write_page
from afmrl.report.samples import sample_cards
from afmrl.report.tables import FEW, RobustnessTable, ladder_table, robustness_table, slice_table
from afmrl.report.views import CardSample, LadderRow, OfferView, ResultsView

MAX_NOTES, MAX_FACTS, MAX_SKIPPED = 60, 200, 50  # entries shown
FOLDED_FROM = 8  # skipped rows, from which they are listed when asked for
SECTIONS = {
    "results": "Results",
    "tasks": "Tasks",
    "recall": "Recall over k",
    "pairs": "Pairs",
    "slices": "Slices",
    "robustness": "Robustness",
    "ceiling": "What there was to win",
    "attributes": "Attributes",
    "training": "Training",
    "queries": "Queries",
    "families": "Hardest families",
    "skipped": "Skipped rows",
    "facts": "Facts",
    "notes": "Read with care",
    "next": "Next",
}
"""Section -> its link, in the order of the page. A section with nothing to show is left out."""


def write_results_page(view: ResultsView, path: str | Path) -> Path:
    """Write the page, atomically: a reader finds the old page or the whole new one.

    Raises:
        InputError: `path` is a folder, or `main_row` or `compare_row` name no row of the ladder.
    """
    names = [row.name for row in view.ladder]
    for option, name in (("main_row", view.main_row), ("compare_row", view.compare_row)):
        if name and name not in names:
            raise InputError(f"report: {option}: {name!r} is no row of the ladder; rows are: {', '.join(names)}")
    cards = view.query_cards
    sample = cards if isinstance(cards, CardSample) else sample_cards(cards)
    images = PageImages()
    for offer in _shown_offers(view, sample):
        if offer.image_path:
            images.thumbnail(offer.image_path)
    main, _ = main_and_compared(view)
    shown: dict[str, Any] = {
        "results": ladder_table(view.ladder, main) if view.ladder else None,
        "tasks": [(table, ladder_table(table.rows) if table.rows else None) for table in view.tables],
        "recall": line_charts(view.recall_curves),
        "pairs": line_charts(view.pair_curves),
        "slices": _slices(view),
        "robustness": _robustness(view),
        "ceiling": ladder_table(view.ceiling) if view.ceiling else None,
        "attributes": _accuracy(view),
        "training": line_charts(view.curves),
        "queries": sample.cards,
        "families": view.families,
        "skipped": max(view.num_skipped, len(view.skipped)),
        "facts": view.facts[:MAX_FACTS],
        "notes": _notes(view, images),
        "next": [("", step) if isinstance(step, str) else step for step in view.next_steps],
    }
    return write_page(
        path,
        "results.html.j2",
        styles=("report.css",),
        script="report.js",
        title=view.title,
        images=images,
        sections={name: link for name, link in SECTIONS.items() if shown[name]},
        shown=shown,
        view=view,
        main=main,
        headline=_headline(view),
        gap=_gap(view),
        sample=sample,
        skipped=[(PurePath(row.file).name, row) for row in view.skipped[:MAX_SKIPPED]],
        folded=len(view.skipped[:MAX_SKIPPED]) > FOLDED_FROM,
        few=FEW,
        min_clusters=MIN_CLUSTERS,
        query_attributes=query_attributes,
        hit_attributes=hit_attributes,
    )


def main_and_compared(view: ResultsView) -> tuple[LadderRow | None, LadderRow | None]:
    """The row that is the result, and the row it is compared with (None where there is no other)."""
    rungs = [row for row in view.ladder if row.kind == "rung"] or list(view.ladder)
    if not rungs:
        return None, None
    by_name = {row.name: row for row in view.ladder}
    main = by_name.get(view.main_row, rungs[-1])
    before = rungs[rungs.index(main) - 1] if main in rungs[1:] else None
    compared = by_name.get(view.compare_row, before)
    return main, compared if compared is not main else None


@dataclass(frozen=True, slots=True)
class Difference:
    """Two rows in one metric, as (mean, low, high)."""

    metric: str
    row: LadderRow
    interval: tuple[float, float, float]
    other: LadderRow | None = None
    other_interval: tuple[float, float, float] = (math.nan, math.nan, math.nan)

    @property
    def apart(self) -> bool:
        """Whether the intervals do not overlap."""
        return self.interval[1] > self.other_interval[2] or self.other_interval[1] > self.interval[2]

    @property
    def points(self) -> float:
        """By how much the means differ, in points of percent."""
        return 100 * (self.interval[0] - self.other_interval[0])


def _headline(view: ResultsView) -> Difference | None:
    """The main result and what it is compared with; None without a result."""
    main, compared = main_and_compared(view)
    metrics = ordered_metrics([main.metrics]) if main else ()
    if main is None or not metrics:
        return None
    return _difference(metrics[0], main, compared if compared and metrics[0] in compared.metrics else None)


def _gap(view: ResultsView) -> Difference | None:
    """The ceiling's best row and its first; None where there is nothing to compare."""
    metrics = ordered_metrics([row.metrics for row in view.ceiling])
    if not metrics or len(view.ceiling) < 2 or metrics[0] not in view.ceiling[0].metrics:
        return None
    best = max(view.ceiling, key=lambda row: row.metrics.get(metrics[0], (-math.inf,))[0])
    return _difference(metrics[0], best, view.ceiling[0])


def _difference(metric: str, row: LadderRow, other: LadderRow | None) -> Difference:
    mean, low, high = row.metrics[metric]
    if other is None:
        return Difference(metric, row, (mean, low, high))
    other_mean, other_low, other_high = other.metrics[metric]
    return Difference(metric, row, (mean, low, high), other, (other_mean, other_low, other_high))


def _slices(view: ResultsView) -> Any:
    scores = [score for values in view.slices.values() for score in values.values()]
    if not scores:
        return None
    present = ordered_metrics([dict.fromkeys(score.metrics, ()) for score in scores])
    default = [name for name in ("recall@1", "mrr") if name in present] or present[:2]
    return slice_table(view.slices, [name for name in view.slice_metrics if name in present] or list(default))


def _robustness(view: ResultsView) -> RobustnessTable | None:
    if not view.robustness:
        return None
    metric = ordered_metrics([dict.fromkeys(score.difference, ()) for score in view.robustness])[0]
    return robustness_table([score for score in view.robustness if metric in score.difference], metric)


def _accuracy(view: ResultsView) -> dict[str, Any] | None:
    """Generators, and of each key how often it is labeled and (precision, recall) of each generator."""
    accuracy = {name: keys for name, keys in (view.accuracy or {}).items() if keys}
    if not accuracy:
        return None
    keys = dict.fromkeys(key for of_generator in accuracy.values() for key in of_generator)
    return {
        "generators": list(accuracy),
        "rows": [
            (
                key,
                max(of_generator.get(key, {}).get("labeled", 0) for of_generator in accuracy.values()),
                [
                    of_generator.get(key, {}).get(part, math.nan)
                    for of_generator in accuracy.values()
                    for part in ("precision", "recall")
                ],
            )
            for key in keys
        ],
    }


def _notes(view: ResultsView, images: PageImages) -> list[str]:
    notes = list(view.notes[:MAX_NOTES])
    if len(view.notes) > MAX_NOTES:
        notes.append(f"… and {len(view.notes) - MAX_NOTES:,} more.")
    if images.num_unreadable:
        notes.append(f"Images that could not be opened and are not shown: {images.num_unreadable:,}.")
    if images.num_left_out:
        notes.append(f"Images that are not shown, to keep this page small: {images.num_left_out:,}.")
    return notes


def _shown_offers(view: ResultsView, sample: CardSample) -> Iterator[OfferView]:
    """Every offer whose image the page shows, in the order of the page."""
    for card in sample.cards:
        yield card.query
        yield from (hit.offer for hit in card.hits)
        if card.match is not None:
            yield card.match.offer
    for family in view.families:
        yield from family.offers
