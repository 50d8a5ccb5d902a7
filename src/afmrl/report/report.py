"""report.html: one self-contained page of a run; what goes into it, and the sampling of its queries.

The page holds everything it shows: images as data URIs, charts as inline SVG, no address that a browser would fetch
(a Content-Security-Policy in the page forbids it as well). `report_sections` writes its sections.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.data.offer import Offer, SkippedRow
from afmrl.errors import InputError
from afmrl.evaluation.robustness import RobustnessScore
from afmrl.evaluation.slices import SliceScore
from afmrl.evaluation.tables import Metrics
from afmrl.files import atomic_write

MAX_CARDS = 60
"""Queries that a page shows; of more, a sample is drawn and the page says so."""
NO_ATTRIBUTES = KeyAttributes()


@dataclass(frozen=True, slots=True)
class OfferView:
    """What the page shows of an offer."""

    id: str
    title: str = ""
    image_path: str = ""
    attributes: KeyAttributes = NO_ATTRIBUTES
    """Generated key attributes, or the seller's."""
    visible: KeyAttributes | None = None
    """Labels: what can be seen or read of this offer; None where nobody knows."""
    sellers: bool = False
    """Whether `attributes` are what the seller wrote."""

    @classmethod
    def of(
        cls, offer: Offer, attributes: KeyAttributes | None = None, visible: KeyAttributes | None = None
    ) -> OfferView:
        """The view of a catalog's offer; without `attributes` and labels, the seller's attributes are shown."""
        sellers = attributes is None and visible is None
        if sellers:
            attributes = KeyAttributes.of(offer.attributes)
        return cls(offer.id, offer.title, offer.image, attributes or NO_ATTRIBUTES, visible, sellers)


@dataclass(frozen=True, slots=True)
class LadderRow:
    """One rung: a way of searching and its metrics."""

    name: str
    metrics: Metrics
    """Metric -> (mean, low, high), 95 % interval."""
    note: str = ""
    kind: Literal["rung", "floor", "ceiling"] = "rung"
    """A floor needs no learning; a ceiling is given what no model would know (the perfect reader)."""


@dataclass(frozen=True, slots=True)
class MetricTable:
    """A table of its own beside the ladder: a task, a protocol, classification, clustering, pairs."""

    title: str
    rows: Sequence[LadderRow]
    about: str = ""
    """What was measured how, in a sentence."""


@dataclass(frozen=True, slots=True)
class Curve:
    """One chart: lines over a stage's steps, recall over k (`report_charts.recall_curve`), precision over recall."""

    title: str
    x_label: str
    y_label: str
    series: Mapping[str, Sequence[tuple[float, float]]]
    """Name -> points (x, y) in the order of x."""
    kind: Literal["training", "recall", "precision-recall"] = "training"
    """training: long lines are smoothed; recall: shares of 1 over log k; precision-recall: shares of 1 on both axes."""
    marks: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Points to be told apart, by name: where F1 is best."""


@dataclass(frozen=True, slots=True)
class HitView:
    """One gallery offer that was found."""

    offer: OfferView
    score: float
    """NaN where it is not known."""
    correct: bool
    label: str = ""
    """Shown in place of the rank."""


@dataclass(frozen=True, slots=True)
class QueryCard:
    """One query and its first hits, best first."""

    query: OfferView
    hits: Sequence[HitView]
    rank_of_correct: int | None
    """Rank of the best match, from 1; None where it is not among the hits that were kept."""
    correct: bool
    """The first hit is a match."""
    match: HitView | None = None
    """The best match, shown beside the hits where it is not one of them."""
    verdict: str = ""
    """In place of "right" or "wrong, …"."""


@dataclass(frozen=True, slots=True)
class CardSample:
    """The query cards of a page, and of how many queries they were drawn."""

    cards: tuple[QueryCard, ...]
    total_right: int
    total_wrong: int
    seed: int = 0
    about: str = ""
    """In place of the sentence that says of how many queries these were drawn."""
    kinds: tuple[str, str] = ("right", "wrong")
    """What the filter calls those with a first hit that is a match, and the others."""

    @property
    def statement(self) -> str:
        """How many of how many, in one sentence."""
        if self.about:
            return self.about
        total = self.total_right + self.total_wrong
        if len(self.cards) == total:
            return f"All {total:,} queries are shown."
        right = sum(card.correct for card in self.cards)
        return (
            f"A sample of {len(self.cards):,} of {total:,} queries: "
            f"{right:,} of the {self.total_right:,} answered right "
            f"and {len(self.cards) - right:,} of the {self.total_wrong:,} answered wrong, drawn with seed {self.seed}. "
            "The two halves say nothing about how often the search is right; the table does."
        )


@dataclass(frozen=True, slots=True)
class FamilyView:
    """One family of siblings and how its queries fared."""

    name: str
    num_queries: int
    num_right: int
    offers: Sequence[OfferView] = ()
    """Some of its gallery offers, to look at."""


@dataclass(frozen=True, slots=True)
class ReportData:
    """All that the page shows; every part but `title` and `ladder` may be empty and is then left out."""

    title: str
    subtitle: str
    ladder: Sequence[LadderRow]
    ladder_title: str = ""
    """Heading of the ladder, where its rows are no rungs: "Results, task by task"."""
    headline: str = ""
    """The main result in one sentence; made from `main_row` and `compare_row` if empty."""
    main_row: str = ""
    """Name of the ladder's row that is the result; the last rung by default."""
    compare_row: str = ""
    """Name of the row it is compared with; the rung before by default."""
    ceiling: Sequence[LadderRow] = ()
    """What there was to win: without attributes, the generator's, the perfect reader's; on the query, on both sides."""
    ceiling_note: str = ""
    """Where the ceiling was measured (split, number of queries)."""
    accuracy: Mapping[str, Mapping[str, Mapping[str, float]]] | None = None
    """Generator -> key -> {"precision", "recall", "labeled"}: how right its attributes are."""
    curves: Sequence[Curve] = ()
    tables: Sequence[MetricTable] = ()
    """Tasks and protocols, each in a table of its own."""
    recall_curves: Sequence[Curve] = ()
    pair_curves: Sequence[Curve] = ()
    """Precision over recall of duplicate pairs."""
    slices: Mapping[str, Mapping[str, SliceScore]] = field(default_factory=dict)
    """What `slices.by_slice` returns, of the main row."""
    slice_metrics: Sequence[str] = ()
    """Metrics that the slices' table shows; R@1 and MRR by default."""
    robustness: Sequence[RobustnessScore] = ()
    query_cards: CardSample | Sequence[QueryCard] = ()
    """A sample that was drawn already, or all cards, of which `max_cards` are drawn."""
    max_cards: int = MAX_CARDS
    seed: int = 0
    """Of the sample of queries."""
    families: Sequence[FamilyView] = ()
    """The hardest ones, hardest first (`hardest_families`)."""
    skipped: Sequence[SkippedRow] = ()
    """Rows of the catalogs that could not be used; the first of them are shown."""
    num_skipped: int = 0
    """How many were skipped in all, where `skipped` does not hold them all."""
    facts: Sequence[tuple[str, str]] = ()
    """Catalog sizes, times, versions, seeds."""
    notes: Sequence[str] = ()
    """What to read with care."""
    next_steps: Sequence[str | tuple[str, str]] = ()
    """Commands, or (what it does, command)."""


def sample_rows(correct: Sequence[bool], num: int, seed: int = 0) -> list[int]:
    """Rows of at most `num` queries, right and wrong ones alike (as far as there are), taking turns.

    >>> rows = sample_rows([True] * 90 + [False] * 10, 8)
    >>> sum(row < 90 for row in rows), len(set(rows))
    (4, 8)
    """
    draw = random.Random(seed)
    wrong = [row for row, is_right in enumerate(correct) if not is_right]
    right = [row for row, is_right in enumerate(correct) if is_right]
    half = num // 2
    num_right = min(len(right), max(half, num - len(wrong)))
    num_wrong = min(len(wrong), num - num_right)
    wrong, right = draw.sample(wrong, num_wrong), draw.sample(right, num_right)
    turns = [row for pair in zip(wrong, right, strict=False) for row in pair]
    both = min(len(wrong), len(right))
    return turns + wrong[both:] + right[both:]


def sample_cards(cards: Sequence[QueryCard], num: int = MAX_CARDS, seed: int = 0) -> CardSample:
    """At most `num` cards, right and wrong answers alike; its `statement` says how many of how many."""
    correct = [card.correct for card in cards]
    rows = sample_rows(correct, num, seed) if len(cards) > num else range(len(cards))
    return CardSample(tuple(cards[row] for row in rows), sum(correct), len(correct) - sum(correct), seed)


def hardest_families(
    families: Sequence[str], correct: Sequence[bool], num: int = 8, *, min_queries: int = 2
) -> list[tuple[str, int, int]]:
    """(family, number of queries, number right) of the families with the lowest share of right answers.

    Of equally hard families the larger comes first, then by name. Families in which every answer is right, and those
    of fewer than `min_queries` queries, are left out.

    >>> hardest_families(["a", "a", "b", "b", "c", "c"], [True, False, False, False, True, True])
    [('b', 2, 0), ('a', 2, 1)]
    """
    counts: dict[str, list[int]] = {}
    for family, is_right in zip(families, correct, strict=True):
        count = counts.setdefault(family, [0, 0])
        count[0] += 1
        count[1] += bool(is_right)
    hard = [(name, n, right) for name, (n, right) in counts.items() if n >= min_queries and right < n]
    return sorted(hard, key=lambda row: (row[2] / row[1], -row[1], row[0]))[:num]


def write_report(data: ReportData, path: str | Path) -> Path:
    """Write the page, atomically: a reader finds the old page or the whole new one.

    Raises:
        InputError: `path` is a folder, or `main_row` or `compare_row` name no row of the ladder.
    """
    from afmrl.report.sections import render_page

    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path}: is a folder; name the report's file, as {path / 'report.html'}")
    names = [row.name for row in data.ladder]
    for option, name in (("main_row", data.main_row), ("compare_row", data.compare_row)):
        if name and name not in names:
            raise InputError(f"report: {option}: {name!r} is no row of the ladder; rows are: {', '.join(names)}")
    cards = data.query_cards
    sample = cards if isinstance(cards, CardSample) else sample_cards(cards, data.max_cards, data.seed)
    # a lone surrogate (half an emoji in a broken export) must not stop the report
    page = render_page(data, sample).encode("utf-8", errors="replace")
    with atomic_write(path, "wb") as file:
        file.write(page)
    return path
