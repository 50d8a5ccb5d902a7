"""A run's evaluation: the table on test families, the attributes' accuracy, metrics.json and the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from afmrl.attributes.accuracy import attribute_accuracy
from afmrl.attributes.evidence import Evidence
from afmrl.evaluation.retrieval import RetrievalResult
from afmrl.files import write_json
from afmrl.report.terminal_tables import print_ladder
from afmrl.training.ladder import ROW_NAMES, alignment_tax, generated_attributes, score_rows
from afmrl.training.published import Variant, choose_variant, score_variants
from afmrl.training.run_report import next_steps, write_run_report
from afmrl.training.run_state import Run
from afmrl.training.run_verdict import measure_floors, run_verdict


def evaluate_run(run: Run) -> dict[str, Any]:
    """Publish the variant that is best on val, score the test split, print the verdict and the table, write
    metrics.json and report.html; returns what run.json keeps."""
    split_name = "test" if run.splits["test"].queries else "val"
    split = run.splits[split_name]
    choice = choose_variant(run)
    rows = table_rows(run)
    results = score_rows(run, split_name, rows)
    published = published_row(run, choice.variant, results)
    scored = score_variants(run, split_name, choice.variants)
    if published not in results:
        results[published] = scored[choice.variant]
    floors = measure_floors(run, split_name)
    verdict = run_verdict(run, split_name, choice, scored, floors)
    titles = [(ROW_NAMES[row], _intervals(result)) for row, result in results.items() if row in ROW_NAMES]
    titles += [(f"floor: {kind}", _intervals(result)) for kind, result in floors.results.items()]
    for line in verdict.lines:
        run.say(line)
    print_ladder(f"{run.recipe.name}: {len(split.queries)} {split_name} queries", titles)
    generators: dict[str, str] = {which: which for which in ("sft", "rar") if which in rows}
    has_generator = run.cit_generator in run.paths
    if has_generator and run.cit_generator not in (*generators, "rar"):
        generators["cit"] = run.cit_generator  # reinforced once more in CIT's rounds, and the one that is kept
    accuracy: dict[str, dict[str, dict[str, float]]] = {
        name: attribute_accuracy(generated_attributes(run, which, split_name), split.targets)
        for name, which in generators.items()
    }
    if has_generator:
        written = generated_attributes(run, run.cit_generator, split_name)
        Evidence.of(split.offers, written).save(run.folder / "generator")
    tax = alignment_tax(run, split_name, rows)
    metrics: dict[str, Any] = {
        "verdict": verdict.as_json(),
        "published": {
            "attributes_on": choice.variant.attributes_on,
            "fused": choice.variant.weights is not None,
            "row": published,
            "val_mrr": choice.val_mrr,
        },
        "split": split_name,
        "num_queries": len(split.queries),
        "num_gallery": len(split.gallery),
        "num_families": len(set(split.families)),
        "attributes_on": run.recipe.agcl.attributes_on,
        "seller_attributes": run.recipe.agcl.seller_attributes,
        "rows": {row: _intervals(result) for row, result in results.items()},
        "floors": {kind: _intervals(result) for kind, result in floors.results.items()},
        "attribute_accuracy": accuracy,
        "alignment_tax": tax,
        "rar": {k: v for k, v in run.ledger.results.get("rar", {}).items() if k != "history"},
        **({"cit": run.cit} if run.cit else {}),
    }
    write_json(run.folder / "metrics.json", metrics)
    final: str | None = run.cit_generator if run.cit else next((row for row in ("rar", "sft") if row in rows), None)
    write_run_report(
        run,
        split_name,
        results,
        titles,
        accuracy,
        tax,
        generated_attributes(run, final, split_name) if final else None,
        next_steps(run, split),
        verdict=verdict,
        published=published,
    )
    return {"verdict": verdict.text, "metrics": {row: of["recall@1"][0] for row, of in metrics["rows"].items()}}


def published_row(run: Run, variant: Variant, results: Mapping[str, RetrievalResult]) -> str:
    """The row of the table that is the published variant; "published" where it has a row of its own."""
    if variant.weights is None:
        attributed = "cit" if run.cit else "rar" if run.recipe.rar.max_steps else "sft"
        row = attributed if variant.attributes_on != "none" else "agcl" if not run.cit else ""
        if row in results:
            return row
    return "published"


def table_rows(run: Run) -> list[str]:
    """The recipe's rows, but those of a generator that was not trained or not reinforced; after rounds CIT's before the
    perfect reader's."""
    wanted: list[str] = list(run.recipe.evaluation.rows)
    if run.recipe.sft.max_steps == 0:
        return [row for row in wanted if row not in ("sft", "rar", "perfect")] or ["agcl"]
    rows = [row for row in wanted if row != "rar" or run.recipe.rar.max_steps] or wanted
    if run.cit and "cit" not in rows:
        rows.insert(rows.index("perfect") if "perfect" in rows else len(rows), "cit")
    return rows


def _intervals(result: RetrievalResult) -> dict[str, list[float]]:
    return {
        metric: [round(i.mean, 6), round(i.low, 6), round(i.high, 6)] for metric, i in sorted(result.metrics.items())
    }
