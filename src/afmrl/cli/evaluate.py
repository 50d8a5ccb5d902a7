"""`afmrl evaluate`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from afmrl.attributes.attributes_on import AttributesOn
from afmrl.attributes.seller_attributes import SellerAttributes
from afmrl.cli.reading import Reading, read_options
from afmrl.cli.summary import Summary
from afmrl.data.bad_rows import MAX_BAD

if TYPE_CHECKING:
    from afmrl.evaluation.metric_text import Metrics
    from afmrl.evaluation.result import EvaluationResult

ONE_LINE_COLUMN, TWO_LINE_COLUMN = 23, 17  # characters: "100.0 [100.0, 100.0]", the interval alone


def evaluate(
    *,
    model: str,
    catalog: Path | None = None,
    task: Annotated[list[str] | None, Parameter(negative=())] = None,
    split: str | None = None,
    gallery_splits: Annotated[list[str] | None, Parameter(negative=())] = None,
    pairs: Path | None = None,
    queries: Path | None = None,
    gallery: Path | None = None,
    qrels: Path | None = None,
    min_grade: int | None = None,
    out: Path = Path("afmrl-evaluation"),
    protocol: Literal["standard", "m5product"] = "standard",
    generator: str | None = None,
    fuse: bool = False,
    rerank: bool = False,
    attributes_on: AttributesOn | None = None,
    seller_attributes: SellerAttributes | None = None,
    slices: bool = True,
    robustness: bool = False,
    floors: bool = True,
    k: int = 100,
    batch_size: int = 64,
    max_bad: float = MAX_BAD,
    reading: Reading | None = None,
) -> Summary:
    """Score a model: the tasks of a catalog (--catalog), or a query and a gallery catalog with qrels.

    Parameters
    ----------
    model
        A trained embedder's folder; any sentence-transformers model; "small" or "minilm" (extra `small`); or a floor
        without learning: "tfidf", "bm25", "color", "tfidf+color".
    catalog
        A catalog with `product_id` or `category`, and maybe `split` and `role` (query, gallery).
    task
        With --catalog, may be repeated: fine, coarse, text-to-image, image-to-product, text-to-product,
        classification, clustering, pairs; or "all" that the data allows, which is the default.
    split
        With --catalog: whose offers are evaluated; by default "test", or "val" without it, or "all".
    gallery_splits
        With --catalog: splits whose gallery offers are searched too; by default "gallery"; or "all".
    pairs
        With --catalog: labeled pairs (JSONL of left, right, label); by default pairs.jsonl beside the catalog.
    queries
        Catalog of the queries (.jsonl, .csv, .tsv, .parquet), with --gallery and --qrels.
    gallery
        Catalog that the queries search.
    qrels
        Lines of query id, gallery id, grade, separated by tabs.
    min_grade
        With --qrels: grade from which a pair counts as a match; by default the highest present.
    out
        Folder for metrics.json, queries.jsonl, hits.jsonl and report.html.
    protocol
        Of retrieval: "standard", or "m5product", the metrics of M5Product's release.
    generator
        A generator's folder: its attributes enrich the text before it is embedded.
    fuse
        Add BM25 over title and attributes, and the images' colors, with the weights learned in training (fusion.json
        beside the model).
    rerank
        Order the best 50 hits of each query by the pair model of `afmrl match`, those with a veto behind all others, as
        `afmrl search` does by default; works with floors too, and not for the task "coarse".
    attributes_on
        Which side carries generated attributes; by default what the model was trained for.
    seller_attributes
        Which of the sellers' attributes are read with the title, by a model or a floor: "identifying" (brand, model
        number, color, size, …), "all" but prices, stock and ids, or "none"; by default what the model was trained
        with, and "identifying" for others. Choose "none" where the catalog's attributes are labels.
    slices
        Metrics by category, sibling, missing part and number of attributes.
    robustness
        Also score queries whose titles lose words and whose images lose detail; they are embedded again.
    floors
        Compare the first retrieval task with methods that learn nothing, and open with the verdict.
    k
        Hits written for each query.
    batch_size
        Offers embedded at a time.
    max_bad
        Share of rows that may be skipped as unreadable.
    """
    from afmrl.embedder.names import model_folder
    from afmrl.evaluation.evaluate import evaluate as run_evaluation
    from afmrl.files import one_writer
    from afmrl.report.evaluation_page import write_evaluation_page
    from afmrl.retrieval.fusion import FUSION_FILE, FusionWeights
    from afmrl.terminal import quiet_libraries

    quiet_libraries()
    with one_writer(out):
        result = run_evaluation(
            model,
            catalog,
            queries=queries,
            gallery=gallery,
            qrels=qrels,
            tasks=task,
            split=split,
            gallery_splits=gallery_splits,
            pairs=pairs,
            min_grade=min_grade,
            protocol=protocol,
            generator=generator,
            fuse=fuse,
            rerank=rerank,
            attributes_on=attributes_on,
            seller_attributes=seller_attributes,
            slices=slices,
            robustness=robustness,
            floors=floors,
            k=k,
            batch_size=batch_size,
            max_bad=max_bad,
            options=read_options(reading),
            progress=True,
            out=out,
        )
        write_evaluation_page(result, out)
    print_evaluation(result, out)
    folder = Path(model_folder(model))
    if not fuse and (folder / FUSION_FILE).is_file() and FusionWeights.load(folder) != FusionWeights(0.0):
        print(
            f"{model} learned weights of words and colors beside the cosine; --fuse adds them, as `afmrl search` does"
        )
    return {"out": out, **result.metrics}


def print_evaluation(result: EvaluationResult, out: Path) -> None:
    """Print the verdict, the tables, what was not possible and why, and where the files are."""
    for line in result.verdict.lines if result.verdict else ():
        print(line)
    if result.catalog is None:
        _print_graded(result, out)
    else:
        _print_catalog(result, out)


def _print_graded(result: EvaluationResult, out: Path) -> None:
    (run,), metrics = result.runs, result.metrics
    _print_table(
        f"{metrics['num_queries']} queries, {metrics['num_gallery']} gallery offers",
        [(Path(result.model).name, run.shown_metrics)],
    )
    _print_skipped(result, out)
    if run.unseen:
        print(f"{run.unseen} queries have no match in the gallery and are {run.unseen_count_as}")
    _print_ties(run.result.ties)
    _print_robustness(metrics)
    print(f"{out / 'metrics.json'}   {out / 'hits.jsonl'}   {out / 'queries.jsonl'}   {out / 'report.html'}")


def _print_catalog(result: EvaluationResult, out: Path) -> None:
    from afmrl.report.evaluation_page import other_tables, split_in_words

    if result.runs:
        rows = [(run.task.name, run.shown_metrics) for run in result.runs]
        _print_table(f"Retrieval, {split_in_words(result)}, protocol {result.protocol}", rows)
        for run in result.runs:
            print(f"{run.task.name}: {run.queries_in_words}" + (", reranked" if run.reranked else ""))
            _print_ties(run.result.ties)
            _print_robustness(result.metrics["tasks"][run.task.name])
    for table in other_tables(result):
        _print_table(table.title, [(row.name, row.metrics) for row in table.rows])
        print(table.about)
    for note in result.notes:
        print(note)
    for task in result.impossible:
        print(f"not possible: {task.name}: {task.reason}")
    _print_skipped(result, out)
    print(f"{out / 'metrics.json'}   {out / 'report.html'}")


def _print_table(title: str, rows: Sequence[tuple[str, Metrics]]) -> None:
    """A table as wide as the terminal: intervals beside or below the means, and on a narrow one fewer metrics."""
    from afmrl.evaluation.metric_text import metric_label, ordered_metrics
    from afmrl.report.terminal_tables import render_table
    from afmrl.terminal import output_console

    console = output_console()
    every = ordered_metrics([row for _, row in rows])
    names = max(len(name) for name, _ in rows)
    fitting = len(every)
    if console.width < names + TWO_LINE_COLUMN * len(every):
        fitting = max(1, (console.width - names) // TWO_LINE_COLUMN)
    one_line = console.width >= names + ONE_LINE_COLUMN * fitting
    console.print(render_table(title, rows, metrics=every[:fitting], one_line=one_line))
    if hidden := [metric_label(metric) for metric in every[fitting:]]:
        print(f"not shown on so narrow a terminal: {', '.join(hidden)} (report.html and metrics.json have them)")


def _print_skipped(result: EvaluationResult, out: Path) -> None:
    from afmrl.data.offer import skipped_in_words

    if result.skipped:
        print(f"{skipped_in_words(result.skipped)}\n{out / 'skipped.jsonl'} lists them")


def _print_ties(ties: Mapping[str, int]) -> None:
    if ties["queries"]:
        print(f"{ties['queries']} queries have equal scores whose order, by id, changes a metric")


def _print_robustness(metrics: Mapping[str, Any]) -> None:
    """Each perturbation of the queries in one line: the first metric before and after, and the paired difference."""
    from afmrl.evaluation.metric_text import metric_label, ordered_metrics, percent, points

    scores = metrics.get("robustness", {})
    if not scores:
        return
    first = ordered_metrics([score["difference"] for score in scores.values()])[0]
    print(f"queries made worse, {metric_label(first)} in percent before and after, of the queries that changed:")
    width = max(map(len, scores))
    for name, score in scores.items():
        if first not in score["difference"]:
            continue
        before, after = (percent(score[state][first][0]) for state in ("plain", "metrics"))
        mean, low, high = (points(value) for value in score["difference"][first])
        print(f"  {name:{width}}  {before:>5} to {after:>5}  {mean} [{low}, {high}]  {score['num_changed']:,} queries")
