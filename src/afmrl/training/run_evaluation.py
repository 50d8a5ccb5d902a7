"""A run's evaluation: the table on test families, the attributes' accuracy, metrics.json and the report."""

from __future__ import annotations

from typing import Any

from afmrl.attributes.accuracy import attribute_accuracy
from afmrl.attributes.attributes_on import on_gallery, on_query
from afmrl.embedder.embedder import Embedder
from afmrl.evaluation.retrieval import RetrievalResult, score_matrix
from afmrl.files import write_json
from afmrl.report.terminal_tables import print_ladder
from afmrl.training.ladder import (
    ROW_NAMES,
    alignment_tax,
    default_attributes_on,
    encode_split,
    generated_attributes,
    score_rows,
)
from afmrl.training.run_report import next_steps, write_run_report
from afmrl.training.run_state import Run
from afmrl.training.splits import Split


def evaluate_run(run: Run) -> dict[str, Any]:
    """Score the test split, print the table, write metrics.json and report.html; returns what run.json keeps."""
    split_name = "test" if run.splits["test"].queries else "val"
    split, config = run.splits[split_name], run.recipe.evaluation
    if run.recipe.evaluation.fuse:
        _learn_fusion(run)
    rows = table_rows(run)
    results = score_rows(run, split_name, rows)
    titles = [(ROW_NAMES[row], _intervals(results[row])) for row in rows]
    titles += [(f"floor: {kind}", _intervals(_floor(run, split, kind))) for kind in config.floors]
    print_ladder(f"{run.recipe.name}: {len(split.queries)} {split_name} queries", titles)
    generators: dict[str, str] = {which: which for which in ("sft", "rar") if which in rows}
    if run.cit_generator not in (*generators, "rar"):
        generators["cit"] = run.cit_generator  # reinforced once more in CIT's rounds, and the one that is kept
    accuracy: dict[str, dict[str, dict[str, float]]] = {
        name: attribute_accuracy(generated_attributes(run, which, split_name), split.targets)
        for name, which in generators.items()
    }
    tax = alignment_tax(run, split_name, rows)
    metrics = {
        "split": split_name,
        "num_queries": len(split.queries),
        "num_gallery": len(split.gallery),
        "num_families": len(set(split.families)),
        "attributes_on": run.recipe.agcl.attributes_on,
        "seller_attributes": run.recipe.agcl.seller_attributes,
        "rows": {row: _intervals(result) for row, result in results.items()},
        "floors": {name.removeprefix("floor: "): row for name, row in titles if name.startswith("floor: ")},
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
    )
    return {"metrics": {row: metrics["rows"][row]["recall@1"][0] for row in rows}}  # type: ignore[index]


def table_rows(run: Run) -> list[str]:
    """The recipe's rows, but RAR's where nothing was reinforced, and CIT's before the perfect reader's after rounds."""
    wanted: list[str] = list(run.recipe.evaluation.rows)
    rows = [row for row in wanted if row != "rar" or run.recipe.rar.max_steps] or wanted
    if run.cit and "cit" not in rows:
        rows.insert(rows.index("perfect") if "perfect" in rows else len(rows), "cit")
    return rows


def _intervals(result: RetrievalResult) -> dict[str, list[float]]:
    return {
        metric: [round(i.mean, 6), round(i.low, 6), round(i.high, 6)] for metric, i in sorted(result.metrics.items())
    }


def _floor(run: Run, split: Split, kind: str) -> RetrievalResult:
    from afmrl.retrieval.floors import floor_scores

    return score_matrix(
        floor_scores(
            split.query_offers(),
            split.gallery_offers(),
            kind,
            seller_attributes=run.recipe.agcl.seller_attributes,
        ),
        split.relevant,
        split.families,
    )


def _learn_fusion(run: Run) -> None:
    """Weights of BM25 beside the dense score, learned where the embedder was not trained, stored beside it."""
    from afmrl.retrieval.colors import color_scores
    from afmrl.retrieval.fusion import learn_fusion_weights, lexical_scores

    name = next((n for n in ("reward", "val", "train") if len(run.splits[n].queries) >= 8), "train")
    split = run.splits[name]
    attributes = generated_attributes(run, run.cit_generator, name)
    attributes_on = default_attributes_on(run)
    query_attributes = [attributes[row] for row in split.queries] if on_query(attributes_on) else None
    gallery_attributes = [attributes[row] for row in split.gallery] if on_gallery(attributes_on) else None
    embedder = Embedder.from_pretrained(run.folder / "embedder")
    encoded = encode_split(embedder, split, query_attributes, gallery_attributes)
    queries, gallery = split.query_offers(), split.gallery_offers()
    words, values = lexical_scores(
        queries, gallery, query_attributes, gallery_attributes, seller_attributes=embedder.seller_attributes
    )
    has_images = any(o.image for o in queries) and any(o.image for o in gallery)
    colors = color_scores(queries, gallery) if has_images else None
    weights = learn_fusion_weights(encoded.queries @ encoded.gallery.T, words, values, split.relevant, colors)
    weights.save(run.folder / "embedder")
    run.say(f"fusion weights, learned on the split {name!r}: {weights}")
