"""compare.html: two evaluations beside one another, and the queries that changed sides at rank 1."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from afmrl.data.offer import Offer
from afmrl.evaluation.compare import ChangedQuery, Comparison
from afmrl.evaluation.tables import metric_label, ordered_metrics, percent, points
from afmrl.report.report import (
    MAX_CARDS,
    CardSample,
    HitView,
    LadderRow,
    OfferView,
    QueryCard,
    ReportData,
    sample_rows,
    write_report,
)


def write_comparison_page(
    comparison: Comparison, out: str | Path, offers: Mapping[str, Offer], *, num_cards: int = MAX_CARDS
) -> Path:
    """Write OUT/compare.html, one self-contained page.

    Args:
        offers: queries and gallery offers by id; of one that is not there, the id alone is shown.
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
    return write_report(
        ReportData(
            title=f"{Path(comparison.a).name or 'A'} and {Path(comparison.b).name or 'B'}, compared",
            subtitle=f"Task {comparison.task}, {comparison.num_queries:,} queries that both were scored on.",
            headline=_headline(comparison),
            ladder=[
                LadderRow(
                    f"{side.upper()}: {Path(getattr(comparison, side)).name}",
                    {
                        name: (getattr(m, side).mean, getattr(m, side).low, getattr(m, side).high)
                        for name, m in comparison.metrics.items()
                    },
                )
                for side in ("a", "b")
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
        f"{won:,} queries are right at rank 1 in B alone, {lost:,} in A alone; exact sign test "
        f"p = {comparison.sign_p_value:.3f}.{shown}"
    )


def _facts(comparison: Comparison) -> list[tuple[str, str]]:
    facts = [("families that the bootstrap drew", f"{comparison.num_clusters:,}")]
    if comparison.only_a or comparison.only_b:
        facts.append(("queries of one side alone, left out", f"{comparison.only_a:,} of A, {comparison.only_b:,} of B"))
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
        HitView(view(first_hit), math.nan, rank == 1, f"first hit of {side}")
        for side, first_hit, rank in (("A", query.first_hit_a, query.rank_a), ("B", query.first_hit_b, query.rank_b))
        if first_hit
    ]
    won = query.rank_b == 1
    verdict = f"{'✓ won' if won else '✗ lost'}: rank {query.rank_a:,} in A, {query.rank_b:,} in B"
    return QueryCard(view(query.query), hits, query.rank_b, won, verdict=verdict)
