"""What of a run goes into its report."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from afmrl.attributes import KeyAttributes
from afmrl.evaluation.report import (
    CardSample,
    Curve,
    FamilyView,
    HitView,
    LadderRow,
    OfferView,
    QueryCard,
    ReportData,
    hardest_families,
    sample_rows,
    write_report,
)
from afmrl.evaluation.retrieval import RetrievalResult
from afmrl.splits import Split

if TYPE_CHECKING:
    from afmrl.pipeline import Run

NUM_HITS = 5
CEILING_NAMES = {
    "agcl": "without attributes",
    "sft:query": "SFT attributes, on the query",
    "sft:both": "SFT attributes, on both sides",
    "perfect:query": "perfect reader, on the query",
    "perfect:both": "perfect reader, on both sides",
}


def write_run_report(
    run: Run,
    split_name: str,
    results: Mapping[str, RetrievalResult],
    titles: Sequence[tuple[str, Mapping[str, Sequence[float]]]],
    accuracy: Mapping[str, Mapping[str, Mapping[str, float]]],
    attributes: Sequence[KeyAttributes] | None,
    steps: Sequence[str | tuple[str, str]],
) -> None:
    """Write DIR/report.html.

    Args:
        results, titles: the ladder, by row and by title.
        attributes: what the final generator wrote for each offer of the split.
    """
    split, config = run.splits[split_name], run.recipe.evaluation
    final = next((row for row in ("rar", "sft", "agcl") if row in results), next(iter(results)))
    result = results[final]
    correct = [bool(rank == 1) for rank in result.ranks]
    rows = sample_rows(correct, config.cards, run.recipe.seed)
    ladder = [
        LadderRow(
            name, metrics, kind="floor" if name.startswith("floor") else "ceiling" if "perfect" in name else "rung"
        )
        for name, metrics in titles
    ]
    by_row = dict(zip(config.rows, ladder, strict=False))
    ceiling = run.ledger.results.get("ceiling", {})
    write_report(
        ReportData(
            title=run.recipe.name,
            subtitle=(
                f"Same-product retrieval: {len(split.queries):,} {split_name} queries against "
                f"{len(split.gallery):,} gallery offers, {len(set(split.families)):,} families."
            ),
            ladder=ladder,
            main_row=by_row[final].name if final in by_row else "",
            compare_row=by_row["untrained"].name if "untrained" in by_row and final != "untrained" else "",
            ceiling=[LadderRow(name, ceiling[row]) for row, name in CEILING_NAMES.items() if row in ceiling],
            ceiling_note="Measured before RAR on the validation split.",
            accuracy=accuracy,
            curves=_curves(run.ledger.results),
            query_cards=CardSample(
                tuple(_card(split, result, row, attributes) for row in rows),
                sum(correct),
                len(correct) - sum(correct),
                run.recipe.seed,
            ),
            families=[
                _family(split, name, number, right, attributes)
                for name, number, right in hardest_families(split.families, correct, 6)
            ],
            facts=_facts(run),
            notes=_notes(run),
            next_steps=steps,
        ),
        run.folder / "report.html",
    )


def _view(split: Split, row: int, attributes: Sequence[KeyAttributes] | None) -> OfferView:
    return OfferView.of(split.offers[row], attributes[row] if attributes else None, split.labels[row])


def _card(split: Split, result: RetrievalResult, query: int, attributes: Sequence[KeyAttributes] | None) -> QueryCard:
    relevant = set(split.relevant[query].tolist())

    def hit(place: int, score: float) -> HitView:
        return HitView(_view(split, split.gallery[place], attributes), score, place in relevant)

    hits = [
        hit(int(place), float(score))
        for place, score in zip(result.hit_rows[query, :NUM_HITS], result.hit_scores[query, :NUM_HITS], strict=True)
    ]
    missed = not any(h.correct for h in hits) and relevant
    return QueryCard(
        _view(split, split.queries[query], attributes),
        hits,
        int(result.ranks[query]),
        bool(result.ranks[query] == 1),
        hit(min(relevant), float("nan")) if missed else None,
    )


def _family(split: Split, name: str, number: int, right: int, attributes: Sequence[KeyAttributes] | None) -> FamilyView:
    rows: list[int] = []
    for query, family in enumerate(split.families):
        if family == name:
            rows.extend(split.gallery[int(place)] for place in split.relevant[query][:1])
    return FamilyView(name, number, right, [_view(split, row, attributes) for row in dict.fromkeys(rows)][:6])


def _curves(results: Mapping[str, Mapping[str, Any]]) -> list[Curve]:
    def series(stage: str, *names: str) -> dict[str, list[tuple[float, float]]]:
        history = results.get(stage, {}).get("history", [])
        return {n: [(e["step"], float(e[n])) for e in history if n in e] for n in names if any(n in e for e in history)}

    curves = [
        Curve("Pretraining of the tiny model", "step", "loss", series("base", "loss")),
        Curve("SFT of the generator", "step", "loss", series("sft", "loss")),
        Curve("AGCL of the embedder", "step", "loss", series("agcl", "loss")),
        Curve("RAR: reward", "step", "mean a completion", series("rar", "reward", "retrieval", "faithfulness")),
        Curve("RAR: length", "step", "tokens", series("rar", "length")),
        Curve("RAR: groups without variance, KL", "step", "", series("rar", "zero_variance_share", "kl")),
    ]
    return [curve for curve in curves if curve.series]


def _facts(run: Run) -> list[tuple[str, str]]:
    facts = [
        (f"{name} split", f"{len(split.offers):,} offers, {len(split.queries):,} queries, "
         f"{len(set(split.families)):,} families")
        for name, split in run.splits.items()
    ]  # fmt: skip
    facts += [(f"{stage}: seconds", f"{seconds:,.0f}") for stage, seconds in run.ledger.seconds.items()]
    facts.append(("seed", str(run.recipe.seed)))
    facts.append(("key attributes read by the embedder on", run.recipe.agcl.attributes_on))
    return facts


def _notes(run: Run) -> list[str]:
    notes = []
    if run.catalogue and run.catalogue.skipped:
        notes.append(f"{len(run.catalogue.skipped)} rows of the catalogue were skipped; skipped.json lists them.")
    rar = run.ledger.results.get("rar", {})
    if rar:
        notes.append(
            f"RAR trained on {rar['num_teachable']} of {rar['num_queries']} reward queries; for the others every "
            "sampled completion earned the same."
        )
    if run.recipe.catalogue.sample:
        notes.append("The sample catalogue is drawn, not photographed: its numbers say nothing about real shops.")
    return notes


def next_steps(run: Run, split: Split) -> list[tuple[str, str]]:
    """(What it does, command) that make sense after this run: a search, and the same run on one's own offers."""
    folder = run.folder
    steps = []
    query = next((offer for offer in split.query_offers() if offer.image and offer.title), None)
    if run.recipe.catalogue.sample and query:
        steps.append(
            (
                "search the sample by picture and text",
                f"afmrl search {folder / 'catalogue' / 'catalogue.jsonl'} --split test --model {folder / 'embedder'} "
                f"--generator {folder / 'generator'} --text {shlex.quote(query.title)} "
                f"--image {shlex.quote(query.image)}",
            )
        )
    steps.append(
        (
            "the same run on your own catalogue",
            "afmrl run recipes/own_catalogue.yaml --catalogue.path YOUR_OFFERS.jsonl --out YOUR_RUN",
        )
    )
    return steps
