"""What of a run goes into its report."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.data.columns import FAMILY_COLUMNS
from afmrl.evaluation.retrieval import RetrievalResult
from afmrl.evaluation.slices import by_slice, slices_of
from afmrl.evaluation.verdict import Verdict
from afmrl.report.charts import recall_curve
from afmrl.report.results_page import write_results_page
from afmrl.report.samples import cards_of, families_of
from afmrl.report.views import Curve, LadderRow, OfferView, ResultsView
from afmrl.training.run_state import Run
from afmrl.training.splits import Split
from afmrl.training.watch import kept_in_words

NUM_CARDS = 24  # queries shown in the report
CEILING_NAMES = {
    "agcl": "without attributes",
    "sft:query": "SFT attributes, on the query",
    "sft:gallery": "SFT attributes, on the gallery",
    "sft:both": "SFT attributes, on both sides",
    "perfect:query": "perfect reader, on the query",
    "perfect:gallery": "perfect reader, on the gallery",
    "perfect:both": "perfect reader, on both sides",
}


def write_run_report(
    run: Run,
    split_name: str,
    results: Mapping[str, RetrievalResult],
    titles: Sequence[tuple[str, Mapping[str, Sequence[float]]]],
    accuracy: Mapping[str, Mapping[str, Mapping[str, float]]],
    tax: Mapping[str, Mapping[str, Sequence[float]]],
    attributes: Sequence[KeyAttributes] | None,
    steps: Sequence[str | tuple[str, str]],
    *,
    verdict: Verdict,
    published: str,
) -> None:
    """Write DIR/report.html.

    Args:
        results, titles: the ladder, by row and by title.
        tax: coarse retrieval, classification and clustering by row.
        attributes: what the final generator wrote for each offer of the split.
        published: the row of the variant that is published.
    """
    split = run.splits[split_name]
    result = results[published]
    ladder = [
        LadderRow(
            name, metrics, kind="floor" if name.startswith("floor") else "ceiling" if "perfect" in name else "rung"
        )
        for name, metrics in titles
    ]

    def view(row: int) -> OfferView:
        return OfferView.of(split.offers[row], attributes[row] if attributes else None, split.targets[row])

    slices = slices_of(
        split.query_offers(),
        split.gallery_offers(),
        split.relevant,
        [attributes[row] for row in split.queries] if attributes else None,
        family_columns=[run.recipe.catalog.family_column] if run.recipe.catalog.family_column else FAMILY_COLUMNS,
    )
    shown = [row for row in results if ":" not in row]
    by_row = dict(zip(shown, ladder, strict=False))
    ceiling = run.ledger.results.get("ceiling", {})
    write_results_page(
        ResultsView(
            title=run.recipe.name,
            subtitle=(
                f"Same-product retrieval: {len(split.queries):,} {split_name} queries against "
                f"{len(split.gallery):,} gallery offers, {len(set(split.families)):,} families."
            ),
            ladder=ladder,
            main_row=by_row[published].name,
            verdict=verdict,
            ceiling=[LadderRow(name, ceiling[row]) for row, name in CEILING_NAMES.items() if row in ceiling],
            ceiling_note="Measured before RAR on the validation split.",
            accuracy=accuracy,
            curves=_curves(run.ledger.results),
            recall_curves=[
                recall_curve(
                    {title: results[row].ranks for row, (title, _) in zip(shown, titles, strict=False)},
                    min(100, len(split.gallery)),
                )
            ],
            slices=by_slice(result.per_query, slices, split.families),
            query_cards=cards_of(
                result.ranks,
                result.hit_rows,
                result.hit_scores,
                split.relevant,
                lambda row: view(split.queries[row]),
                lambda row: view(split.gallery[row]),
                num_cards=NUM_CARDS,
                seed=run.recipe.seed,
            ),
            families=families_of(result.ranks, split.families, split.relevant, lambda row: view(split.gallery[row])),
            skipped=run.catalog.faults if run.catalog else (),
            facts=_facts(run),
            notes=[*_notes(run), *_tax_notes(tax, split)],
            next_steps=steps,
        ),
        run.folder / "report.html",
    )


def _curves(results: Mapping[str, Mapping[str, Any]]) -> list[Curve]:
    def series(stage: str, *names: str) -> dict[str, list[tuple[float, float]]]:
        history = results.get(stage, {}).get("history", [])
        return {n: [(e["step"], float(e[n])) for e in history if n in e] for n in names if any(n in e for e in history)}

    curves = [
        Curve("Pretraining of the tiny model", "step", "loss", series("base", "loss")),
        Curve("SFT of the generator", "step", "loss", series("sft", "loss")),
        Curve("AGCL of the embedder", "step", "loss", series("agcl", "loss")),
        Curve("RAR: reward", "step", "mean a completion", series("rar", "reward", "retrieval", "faithfulness")),
        Curve("RAR: validation split", "step", "", series("rar", "val_mrr", "val_recall@1", "val_faithfulness")),
        Curve("RAR: validity, entropy", "step", "", series("rar", "valid", "entropy")),
        Curve("RAR: length", "step", "tokens", series("rar", "length")),
        Curve("RAR: SFT's loss beside it", "step", "loss", series("rar", "sft_loss")),
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
    facts.append(("seller attributes read by the embedder", run.recipe.agcl.seller_attributes))
    return facts


def _notes(run: Run) -> list[str]:
    notes = []
    rar = run.ledger.results.get("rar", {})
    if rar:
        left_out = rar["num_left_out"]
        notes.append(
            f"RAR trained on {rar['num_trained_on']} of {rar['num_queries']} reward queries; of "
            f"{rar['zero_variance_share']:.0%} every sampled completion earned the same"
            + (f", and {left_out} {rar['left_out']} were left out." if left_out else ".")
        )
        if watched := rar.get("validation"):
            notes.append(f"RAR: {kept_in_words(watched)}.")
    if run.cit:
        notes.append(f"CIT kept round {run.cit['kept_round']}; MRR on val by round: {run.cit['val_mrr']}.")
    if run.recipe.catalog.sample:
        notes.append("The sample catalog is drawn, not photographed: its numbers say nothing about real shops.")
    return notes


def _tax_notes(tax: Mapping[str, Mapping[str, Sequence[float]]], split: Split) -> list[str]:
    """One line a metric: what finer retrieval and the attributes cost elsewhere."""
    names = {"agcl": "AGCL", "sft": "with SFT attributes", "rar": "with RAR attributes", "cit": "CIT"}
    metrics = list(next(iter(tax.values()), {}))
    lines = []
    for metric in metrics:
        intervals = {names[row]: of[metric] for row, of in tax.items()}
        values = [f"{name} {mean:.3f} [{low:.3f}, {high:.3f}]" for name, (mean, low, high) in intervals.items()]
        lines.append(f"By category, {metric}: {', '.join(values)}.")
    known = [category for row in split.queries if (category := split.offers[row].category)]
    if len(set(known)) < 2:
        lines.append("What finer retrieval costs by category was not measured: the queries have no two categories.")
    elif lines and len(known) < len(split.queries):
        lines.append(f"By category: of the {len(known):,} of {len(split.queries):,} queries that have one.")
    return lines


def _as_typed(folder: Path, path: str) -> Path:
    """A file below a run's folder, with the folder as the user named it.

    >>> str(_as_typed(Path("run"), str(Path("run/a.jpg").resolve()))), str(_as_typed(Path("run"), "/shop/a.jpg"))
    ('run/a.jpg', '/shop/a.jpg')
    """
    within = Path(path)
    return folder / within.relative_to(folder.resolve()) if within.is_relative_to(folder.resolve()) else within


def next_steps(run: Run, split: Split) -> list[tuple[str, str]]:
    """(What it does, command) that make sense after this run: a search, and the same run on one's own offers."""
    folder = run.folder
    steps = []
    query = next((offer for offer in split.query_offers() if offer.image and offer.title), None)
    if run.recipe.catalog.sample and query:
        steps.append(
            (
                "search the sample by image and text",
                f"afmrl search {folder / 'catalog' / 'catalog.jsonl'} --split test --model {folder / 'embedder'} "
                f"--generator {folder / 'generator'} --text {shlex.quote(query.title)} "
                f"--image {shlex.quote(str(_as_typed(folder, query.image)))}",
            )
        )
    steps.append(
        (
            "the same run on your own catalog",
            "afmrl run own_catalog --catalog.path OFFERS.jsonl --out RUN",
        )
    )
    return steps
