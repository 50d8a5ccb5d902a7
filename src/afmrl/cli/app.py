"""The command line: one table from command to typed function."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from afmrl.attributes.attributes_on import Side
from afmrl.cli.bulk import attributes, embed
from afmrl.cli.dataset import dataset_app
from afmrl.cli.index import index, search
from afmrl.cli.match import match
from afmrl.cli.schema import schema
from afmrl.errors import InputError

app = App(name="afmrl", help="Are two offers the same product? Key attributes, embeddings, retrieval, matching.")


@app.command
def quickstart(*, fast: bool = False, out: Path = Path("afmrl-quickstart"), seed: int = 0) -> None:
    """The whole method on a sample catalog, on this machine: no network, no GPU, no data of your own.

    Parameters
    ----------
    fast
        A run of about a minute that shows that everything works; its numbers do not climb.
    out
        Folder of the run; a run that was stopped goes on where it was.
    seed
        Of catalog, models and training.
    """
    from afmrl.cli.quickstart import run_quickstart

    run_quickstart(out, fast=fast, seed=seed)


@app.command
def run(
    recipe: Path,
    *overrides: Annotated[str, Parameter(allow_leading_hyphen=True, show=False)],
    out: Path = Path("afmrl-run"),
    until: Literal["sft", "agcl", "rar"] | None = None,
) -> None:
    """Run a recipe's stages: SFT, AGCL, RAR, evaluation. Complete stages are not run again, killed ones go on.

    Every field of the recipe can be overridden by its dotted name: `--agcl.max_steps 100` or `agcl.max_steps=100`.

    Parameters
    ----------
    recipe
        YAML file; recipes/ holds some.
    out
        Folder of the run: embedder/, generator/, metrics.json, report.html, run.json.
    until
        The last stage to run, to look at its model (OUT/stages/NAME/model) before more is trained; without it the same
        command goes on from there.
    """
    from afmrl.terminal import StageProgress, quiet_libraries
    from afmrl.training.memory import keep_freed_memory
    from afmrl.training.processes import leave_processes, rank
    from afmrl.training.recipe import load_recipe
    from afmrl.training.run import run_recipe

    loaded = load_recipe(recipe, _pairs(list(overrides)))
    quiet_libraries()
    keep_freed_memory()
    run_recipe(loaded, out, callbacks=StageProgress(), until=until)
    if rank() == 0 and until is None:
        print(f"\nReport: {out / 'report.html'}   numbers: {out / 'metrics.json'}")
    leave_processes()


@app.command
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
    attributes_on: Side | None = None,
    slices: bool = True,
    robustness: bool = False,
    k: int = 100,
    batch_size: int = 64,
    max_bad: float = 0.01,
) -> None:
    """Score a model: the tasks of a catalog (--catalog), or a query and a gallery catalog with qrels.

    Parameters
    ----------
    model
        A trained embedder's folder, any sentence-transformers model, or a floor without learning:
        "tfidf", "bm25", "color", "tfidf+color".
    catalog
        A catalog with `product_id` or `category`, and maybe `split` and `role` (query, gallery).
    task
        With --catalog, as often as wanted: fine, coarse, text-to-image, image-to-product, text-to-product,
        classification, clustering, pairs; or "all" that the data allows, which is the default.
    split
        With --catalog: whose offers are evaluated; by default "test", else "val", else "all".
    gallery_splits
        With --catalog: splits whose gallery offers stand beside the split's own; by default "gallery"; or "all".
    pairs
        With --catalog: labeled pairs (JSONL of left, right, label); by default pairs.jsonl beside the catalog.
    queries, gallery
        Catalogs (.jsonl, .csv, .tsv, .parquet).
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
    attributes_on
        Which side carries generated attributes; by default what the model was trained for.
    slices
        Metrics by category, sibling, missing part and number of attributes.
    robustness
        Also score queries whose titles lose words and whose images lose detail; they are embedded again.
    k
        Hits written for each query.
    batch_size
        Offers embedded at a time.
    max_bad
        Share of rows that may be skipped as unreadable.
    """
    from afmrl.evaluation.printing import print_catalog_result, print_qrels_result
    from afmrl.terminal import quiet_libraries

    of_catalog = {"--task": task, "--split": split, "--gallery-splits": gallery_splits, "--pairs": pairs}
    of_qrels = {"--queries": queries, "--gallery": gallery, "--qrels": qrels, "--min-grade": min_grade}
    misplaced = [name for name, value in (of_qrels if catalog else of_catalog).items() if value is not None]
    if catalog and misplaced:
        raise InputError(f"{misplaced[0]} does not go with --catalog; it says itself who is query and who is gallery")
    if not catalog and misplaced:
        raise InputError(f"{misplaced[0]} needs --catalog FILE")
    options: dict[str, Any] = {
        "protocol": protocol, "generator": generator, "fuse": fuse, "attributes_on": attributes_on, "k": k,
        "batch_size": batch_size, "max_bad": max_bad, "slices": slices, "robustness": robustness, "progress": True,
    }  # fmt: skip
    if catalog:
        from afmrl.evaluation.catalog_evaluation import evaluate_catalog

        quiet_libraries()
        result = evaluate_catalog(
            model, catalog, out, tasks=task or (), split=split, gallery_splits=gallery_splits or (), pairs=pairs,
            **options,
        )  # fmt: skip
        print_catalog_result(result, out)
        return
    if not (queries and gallery and qrels):
        raise InputError("evaluate: give --catalog FILE, or --queries, --gallery and --qrels together")
    from afmrl.evaluation.evaluate import evaluate as run_evaluation

    quiet_libraries()
    metrics = run_evaluation(model, queries, gallery, qrels, out, min_grade=min_grade, **options)
    print_qrels_result(model, metrics, out)


@app.command
def compare(
    a: Path,
    b: Path,
    *,
    task: str | None = None,
    metric: Annotated[list[str] | None, Parameter(negative=())] = None,
    common: bool = False,
    out: Path | None = None,
    catalog: Annotated[list[Path] | None, Parameter(negative=())] = None,
) -> None:
    """Compare two evaluations of the same queries: paired tests, and the queries that changed sides at rank 1.

    Parameters
    ----------
    a, b
        Folders that `afmrl evaluate` wrote; differences are B − A.
    task
        Which task; by default "fine", or the only one that both have.
    metric
        Which metric, as often as wanted; by default all.
    common
        Compare the queries that both have, where the sets differ.
    out
        Folder for compare.json and compare.html.
    catalog
        Catalog of queries or gallery, as often as wanted: titles and images of compare.html.
    """
    from afmrl.evaluation.compare import compare as compare_evaluations
    from afmrl.evaluation.compare import print_comparison, write_comparison

    found = compare_evaluations(a, b, task=task, metrics=metric or (), common=common)
    print_comparison(found)
    if out is not None:
        from afmrl.data.catalog import read_catalog
        from afmrl.report.compare_page import write_comparison_page

        offers = {o.id: o for path in catalog or () for o in read_catalog(path, check_images=False, max_bad=1.0)}
        print(f"\n{write_comparison(found, out)}   {write_comparison_page(found, out, offers)}")


app.command(dataset_app)
app.command(schema)
app.command(attributes)
app.command(embed)
app.command(match)
app.command(index)
app.command(search)


def _pairs(tokens: list[str]) -> list[str]:
    """`--a.b 3`, `--a.b=3` and `a.b=3` as `a.b=3`.

    >>> _pairs(["--agcl.max_steps", "3", "seed=1"])
    ['agcl.max_steps=3', 'seed=1']
    """
    pairs: list[str] = []
    while tokens:
        token = tokens.pop(0)
        if token.startswith("--") and "=" not in token:
            if not tokens:
                raise InputError(f"override {token}: a value is missing")
            token = f"{token}={tokens.pop(0)}"
        pairs.append(token.removeprefix("--"))
    return pairs


def _wait_for_first(error: InputError) -> None:
    """In another process than the first: what the first one meets too it has said, and torchrun ends this one."""
    import os
    import time

    from afmrl.training.processes import FailedElsewhere, leave_processes

    if os.environ.get("RANK", "0") != "0":
        time.sleep(10)
        if isinstance(error, FailedElsewhere):
            leave_processes(2)


def main() -> None:
    """Entry point: a user's mistake is one message on stderr and exit code 2, never a traceback."""
    try:
        app()
    except InputError as error:
        _wait_for_first(error)
        print(f"afmrl: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except OSError as error:  # a folder that cannot be written, a full disk
        print(f"afmrl: {error.filename or 'input or output'}: {error.strerror or error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("afmrl: stopped; the same command goes on where it was", file=sys.stderr)
        raise SystemExit(130) from None
