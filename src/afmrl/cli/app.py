"""The command line: one table from command to typed function."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from afmrl.cli.bulk import attributes, embed
from afmrl.cli.compare import compare
from afmrl.cli.evaluate import evaluate
from afmrl.cli.index import index
from afmrl.cli.match import match
from afmrl.cli.push import push
from afmrl.cli.schema import schema
from afmrl.cli.search import search
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


app.command(evaluate)
app.command(compare)

dataset_app = App(name="dataset", help="Public data sets as catalogs; splits by product or family; a check for leaks.")
app.command(dataset_app)


@dataset_app.default
def dataset(
    name: str | None = None,
    folder: Path | None = None,
    *,
    out: Path | None = None,
    max_bad: float = 0.01,
    images: bool = True,
    check_images: bool = True,
) -> None:
    """List the public sets; say what to download for one (NAME); write it as a catalog (NAME FOLDER --out DIR).

    Parameters
    ----------
    name
        Of a set, as `afmrl dataset` lists them.
    folder
        Where its files lie.
    out
        Folder for catalog.jsonl, and pairs.jsonl, qrels.tsv where the set has them.
    max_bad
        Share of rows that may be skipped as unreadable.
    images
        Name the images; --no-images writes the texts alone.
    check_images
        Look at every image's header.
    """
    from afmrl.cli.dataset import convert_dataset

    convert_dataset(name, folder, out=out, max_bad=max_bad, images=images, check_images=check_images)


@dataset_app.command(name="split")
def dataset_split(
    file: Path,
    *,
    out: Path,
    by: str = "product_id",
    train: float = 0.7,
    val: float = 0.1,
    test: float = 0.2,
    seed: int = 0,
    join_images: bool = False,
    near: bool = True,
    max_bad: float = 0.01,
) -> None:
    """Deal the products (or families) of a catalog out to train, val and test, and check for leaks.

    Parameters
    ----------
    file
        The catalog.
    out
        The catalog with a column `split`.
    by
        Column whose equal values stay together: product_id, family_id, style_id, …
    train, val, test
        Shares of the groups.
    seed
        Of the dealing.
    join_images
        Keep offers that share an image together, instead of refusing them.
    near
        Also look for nearly identical images; --no-near saves decoding them.
    max_bad
        Share of rows that may be skipped as unreadable.
    """
    from afmrl.cli.dataset import split_dataset

    split_dataset(
        file, out=out, by=by, train=train, val=val, test=test, seed=seed, join_images=join_images, near=near,
        max_bad=max_bad,
    )  # fmt: skip


@dataset_app.command(name="check")
def dataset_check(
    file: Path, *, column: str = "split", by: str = "product_id", shared: str = "", near: bool = True
) -> None:
    """Refuse a catalog in which a product or an image stands in two splits.

    Parameters
    ----------
    file
        The catalog.
    column
        Names the split of each offer.
    by
        Column whose equal values must not stand in two splits.
    shared
        A split that belongs to all others, as a common gallery does.
    near
        Also look for nearly identical images; --no-near saves decoding them.
    """
    from afmrl.cli.dataset import check_dataset

    check_dataset(file, column=column, by=by, shared=shared, near=near)


app.command(schema)
app.command(attributes)
app.command(embed)
app.command(match)
app.command(index)
app.command(search)
app.command(push)


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
