"""The page of a comparison: two evaluations, and the queries that only one of them answers at rank 1."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from afmrl.data.offer import Offer
from afmrl.evaluation.compare import ChangedQuery, Comparison
from afmrl.evaluation.metric_text import metric_label, ordered_metrics, percent, points
from afmrl.report.results_page import write_results_page
from afmrl.report.samples import sample_rows
from afmrl.report.views import MAX_CARDS, CardSample, HitView, LadderRow, OfferView, QueryCard, ResultsView


def write_comparison_page(
    comparison: Comparison, out: str | Path, offers: Mapping[str, Offer], *, num_cards: int = MAX_CARDS
) -> Path:
    """Write OUT/compare.html, one self-contained page.

    Args:
        offers: queries and gallery offers by id; where one is missing, only its id is shown.
    """
    changed = [*comparison.won, *comparison.lost]
    correct = [query.rank_b == 1 for query in changed]
    rows = sample_rows(correct, num_cards) if len(changed) > num_cards else range(len(changed))
    cards = CardSample(
        tuple(_card(changed[row], offers) for row in rows),
        len(comparison.won),
        len(comparison.lost),
        about=_about(comparison, len(rows)),
        kinds=("won", "lost"),
    )
    return write_results_page(
        ResultsView(
            title=f"{Path(comparison.a).name or 'A'} and {Path(comparison.b).name or 'B'}, compared",
            subtitle=f"Task {comparison.task}, {comparison.num_queries:,} queries that both were scored on.",
            headline=_headline(comparison),
            ladder=[
                LadderRow(
                    f"A: {Path(comparison.a).name}",
                    {name: (m.a.mean, m.a.low, m.a.high) for name, m in comparison.metrics.items()},
                ),
                LadderRow(
                    f"B: {Path(comparison.b).name}",
                    {name: (m.b.mean, m.b.low, m.b.high) for name, m in comparison.metrics.items()},
                ),
            ],
            ladder_title="Both evaluations",
            query_cards=cards,
            facts=_facts(comparison),
            notes=list(comparison.notes),
        ),
        Path(out) / "compare.html",
    )


def _headline(comparison: Comparison) -> str:
    name = ordered_metrics([dict.fromkeys(comparison.metrics, ())])[0]
    metric = comparison.metrics[name]
    d = metric.difference
    verdict = "B is better" if d.low > 0 else "A is better" if d.high < 0 else "no difference is shown"
    return (
        f"{metric_label(name)}: {percent(metric.a.mean)} % in A, {percent(metric.b.mean)} % in B; "
        f"{points(d.mean)} points, 95 % interval [{points(d.low)}, {points(d.high)}]: {verdict}."
    )


def _about(comparison: Comparison, num_shown: int) -> str:
    won, lost = len(comparison.won), len(comparison.lost)
    shown = "" if num_shown == won + lost else f" A sample of {num_shown} is shown."
    return (
        f"{won:,} queries are right at rank 1 only in B, {lost:,} only in A; exact sign test "
        f"p = {comparison.sign_p_value:.3f}.{shown}"
    )


def _facts(comparison: Comparison) -> list[tuple[str, str]]:
    facts = [("families drawn by the bootstrap", f"{comparison.num_clusters:,}")]
    if comparison.only_a or comparison.only_b:
        facts.append(
            (
                "queries that only one evaluation has, left out",
                f"{comparison.only_a:,} of A, {comparison.only_b:,} of B",
            )
        )
    for name, metric in comparison.metrics.items():
        d = metric.difference
        facts.append(
            (
                f"{metric_label(name)}, B − A",
                f"{points(d.mean)} [{points(d.low)}, {points(d.high)}] points, p = {metric.p_value:.4f}, "
                f"with Holm's correction {metric.p_holm:.4f}",
            )
        )
    return facts


def _card(query: ChangedQuery, offers: Mapping[str, Offer]) -> QueryCard:
    def view(identifier: str) -> OfferView:
        return OfferView.of(offers[identifier]) if identifier in offers else OfferView(identifier)

    hits = [
        HitView(view(first_hit), math.nan, rank == 1, f"first hit of {name}")
        for name, first_hit, rank in (("A", query.first_hit_a, query.rank_a), ("B", query.first_hit_b, query.rank_b))
        if first_hit
    ]
    won = query.rank_b == 1
    verdict = f"{'✓ won' if won else '✗ lost'}: rank {query.rank_a:,} in A, {query.rank_b:,} in B"
    return QueryCard(view(query.query), hits, query.rank_b, won, verdict=verdict)
