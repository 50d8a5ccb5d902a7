"""The command line: one table from command to typed function."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from afmrl.errors import InputError

app = App(name="afmrl", help="Are two offers the same product? Key attributes, embeddings, retrieval, matching.")


@app.command
def quickstart(*, fast: bool = False, out: Path = Path("afmrl-quickstart"), seed: int = 0) -> None:
    """The whole method on a sample catalogue, on this machine: no network, no GPU, no data of your own.

    Parameters
    ----------
    fast
        A run of about a minute that shows that everything works; its numbers do not climb.
    out
        Folder of the run; a run that was stopped goes on where it was.
    seed
        Of catalogue, models and training.
    """
    from afmrl.demo.quickstart import run_quickstart

    run_quickstart(out, fast=fast, seed=seed)


@app.command
def run(
    recipe: Path,
    *overrides: Annotated[str, Parameter(allow_leading_hyphen=True, show=False)],
    out: Path = Path("afmrl-run"),
) -> None:
    """Run a recipe's stages: SFT, AGCL, RAR, evaluation. Complete stages are not run again, killed ones go on.

    Every field of the recipe can be overridden by its dotted name: `--agcl.max_steps 100` or `agcl.max_steps=100`.

    Parameters
    ----------
    recipe
        YAML file; recipes/ holds some.
    out
        Folder of the run: embedder/, generator/, metrics.json, report.html, run.json.
    """
    from afmrl.memory import keep_freed_memory
    from afmrl.pipeline import run_recipe
    from afmrl.processes import leave_processes, rank
    from afmrl.progress import StageProgress, quiet_libraries
    from afmrl.recipe import load_recipe

    loaded = load_recipe(recipe, _pairs(list(overrides)))
    quiet_libraries()
    keep_freed_memory()
    run_recipe(loaded, out, callbacks=StageProgress())
    first = rank() == 0
    leave_processes()
    if not first:
        return
    print(f"\nReport: {out / 'report.html'}   numbers: {out / 'metrics.json'}")


@app.command
def evaluate(
    *,
    model: str,
    queries: Path,
    gallery: Path,
    qrels: Path,
    out: Path,
    generator: str | None = None,
    fuse: bool = False,
    attributes_on: Literal["query", "both", "none"] | None = None,
    min_grade: int | None = None,
    k: int = 100,
    batch_size: int = 64,
    max_bad: float = 0.01,
) -> None:
    """Score same-product retrieval of a query catalogue in a gallery catalogue.

    Parameters
    ----------
    model
        A trained embedder's folder, any sentence-transformers model, or a floor without learning:
        "tfidf", "bm25", "colour", "tfidf+colour".
    queries, gallery
        Catalogues (.jsonl, .csv, .tsv, .parquet).
    qrels
        Lines of query id, gallery id, grade, separated by tabs.
    out
        Folder for metrics.json and hits.jsonl.
    generator
        A generator's folder: its attributes enrich the text before it is embedded.
    fuse
        Add BM25 over title and attributes, with the weights learnt in training (fusion.json beside the model).
    attributes_on
        Which side carries generated attributes; by default what the model was trained for.
    min_grade
        Grade from which a pair counts as a match; by default the highest present.
    k
        Hits written for each query.
    batch_size
        Offers embedded at a time.
    max_bad
        Share of rows that may be skipped as unreadable.
    """
    from afmrl.evaluation.evaluate import evaluate as run_evaluation
    from afmrl.evaluation.tables import print_ladder
    from afmrl.progress import quiet_libraries

    quiet_libraries()
    metrics = run_evaluation(
        model,
        queries,
        gallery,
        qrels,
        out,
        generator=generator,
        fuse=fuse,
        attributes_on=attributes_on,
        min_grade=min_grade,
        k=k,
        batch_size=batch_size,
        max_bad=max_bad,
    )
    rows = {name: (metrics[name], *metrics["intervals"][name]) for name in metrics["intervals"]}
    print_ladder(f"{metrics['num_queries']} queries, {metrics['num_gallery']} gallery offers", [(model, rows)])
    if metrics["skipped"]:
        print(f"{metrics['skipped']} rows were skipped: {out / 'skipped.jsonl'} lists them")
    if metrics["queries_without_match"]:
        print(f"{metrics['queries_without_match']} queries have no match in the gallery and are not counted")
    print(f"{out / 'metrics.json'}   {out / 'hits.jsonl'}")


@app.command
def search(
    catalog: Path,
    *,
    model: str,
    text: str = "",
    image: Path | None = None,
    generator: str | None = None,
    k: int = 10,
    split: str | None = None,
    max_bad: float = 0.01,
) -> None:
    """Find the offers of a catalogue that look and read most like a picture and a text.

    Parameters
    ----------
    catalog
        Offers to search in: a catalogue that fits in memory; it is embedded anew at every search.
    model
        A trained embedder's folder.
    text, image
        What is searched for: a text, a picture, or both.
    generator
        A generator's folder: its attributes enrich what is searched for.
    k
        Hits to print.
    split
        Search only in offers whose column `split` says this.
    max_bad
        Share of rows that may be skipped as unreadable.
    """
    from afmrl.progress import quiet_libraries
    from afmrl.searching import print_hits, search_catalogue

    quiet_libraries()
    hits = search_catalogue(
        catalog, model, text=text, image=image, generator=generator, k=k, split=split, max_bad=max_bad
    )
    print_hits(hits)


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

    from afmrl.processes import FailedElsewhere

    if os.environ.get("RANK", "0") != "0":
        time.sleep(10)
        if isinstance(error, FailedElsewhere):
            raise SystemExit(2)


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
