"""What a page of results shows, as plain data: a run's, an evaluation's, a comparison's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.data.offer import Offer, SkippedRow
from afmrl.evaluation.metric_text import Metrics
from afmrl.evaluation.robustness import RobustnessScore
from afmrl.evaluation.slices import SliceScore
from afmrl.evaluation.verdict import Verdict

MAX_CARDS = 60
"""Queries that a page shows; of more, a sample is drawn and the page says so."""


@dataclass(frozen=True, slots=True)
class OfferView:
    """What the page shows of an offer."""

    id: str
    title: str = ""
    image_path: str = ""
    attributes: KeyAttributes = KeyAttributes()
    """Generated key attributes, or the seller's."""
    targets: KeyAttributes | None = None
    """What can be seen or read of this offer; None where that is not known."""
    sellers: bool = False
    """Whether `attributes` are what the seller wrote."""

    @classmethod
    def of(
        cls, offer: Offer, attributes: KeyAttributes | None = None, targets: KeyAttributes | None = None
    ) -> OfferView:
        """The view of a catalog's offer; without `attributes` and `targets`, the seller's attributes are shown."""
        sellers = attributes is None and targets is None
        if sellers:
            attributes = KeyAttributes.of(offer.attributes)
        return cls(offer.id, offer.title, offer.image, attributes or KeyAttributes(), targets, sellers)


@dataclass(frozen=True, slots=True)
class LadderRow:
    """One rung: a way of searching and its metrics."""

    name: str
    metrics: Metrics
    """Metric -> (mean, low, high), 95 % interval."""
    note: str = ""
    kind: Literal["rung", "floor", "ceiling"] = "rung"
    """A floor needs no learning; a ceiling is given what no model can know (the perfect reader)."""


@dataclass(frozen=True, slots=True)
class MetricTable:
    """A table of its own beside the ladder: a task, a protocol, classification, clustering, pairs."""

    title: str
    rows: Sequence[LadderRow]
    about: str = ""
    """What was measured how, in a sentence."""


@dataclass(frozen=True, slots=True)
class Curve:
    """One chart: lines over a stage's steps, recall over k (`charts.recall_curve`), precision over recall."""

    title: str
    x_label: str
    y_label: str
    series: Mapping[str, Sequence[tuple[float, float]]]
    """Name -> points (x, y) in the order of x."""
    kind: Literal["training", "recall", "precision-recall"] = "training"
    """training: long lines are smoothed; recall: shares of 1 over log k; precision-recall: shares of 1 on both axes."""
    marks: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Points to mark, by name: where F1 is best."""


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
    """The query cards of a page, and how many queries they were drawn from."""

    cards: tuple[QueryCard, ...]
    total_right: int
    total_wrong: int
    seed: int = 0
    about: str = ""
    """In place of the sentence that says how many queries these were drawn from."""
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
class ResultsView:
    """All that a page of results shows. Every part but `title` and `ladder` may be empty and is then left out."""

    title: str
    subtitle: str
    ladder: Sequence[LadderRow]
    ladder_title: str = ""
    """Heading of the ladder, where its rows are no rungs: "Results, task by task"."""
    headline: str = ""
    """The main result in one sentence; made from `main_row` and `compare_row` if empty."""
    verdict: Verdict | None = None
    """The result against the best floor, which the page opens with; None: nothing was compared."""
    main_row: str = ""
    """Name of the ladder's row that is the result; the last rung by default."""
    compare_row: str = ""
    """Name of the row it is compared with; the rung before by default."""
    ceiling: Sequence[LadderRow] = ()
    """What attributes can win: without them, the generator's, the perfect reader's; on the query, on the gallery, on
    both."""
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
    """A sample that was drawn already, or all cards; at most MAX_CARDS of them are drawn."""
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
