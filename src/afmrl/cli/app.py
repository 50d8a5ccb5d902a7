"""The command line: one table from command to typed function."""

from __future__ import annotations

import sys
from pathlib import Path

from cyclopts import App

from afmrl.cli.bulk import attributes, embed
from afmrl.cli.compare import compare
from afmrl.cli.evaluate import evaluate
from afmrl.cli.index import index
from afmrl.cli.match import match
from afmrl.cli.push import push
from afmrl.cli.quickstart import quickstart
from afmrl.cli.recipe import recipe
from afmrl.cli.run import run
from afmrl.cli.schema import schema
from afmrl.cli.search import search
from afmrl.errors import InputError

app = App(name="afmrl", help="Are two offers the same product? Key attributes, embeddings, retrieval, matching.")


app.command(quickstart)
app.command(run)
app.command(recipe)
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


def _dashed(token: str) -> str:
    """A recipe's field as an option, written as in YAML or with dashes.

    >>> _dashed("--agcl.max_steps=3"), _dashed("--text=a_b.c"), _dashed("a.max_steps")
    ('--agcl.max-steps=3', '--text=a_b.c', 'a.max_steps')
    """
    name, separator, value = token.partition("=")
    return name.replace("_", "-") + separator + value if name.startswith("--") and "." in name else token


def _wait_for_first(error: InputError) -> None:
    """In another process than the first: leave it to the first to say the error, and to torchrun to end this one."""
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
        app([_dashed(token) for token in sys.argv[1:]])
    except InputError as error:
        _wait_for_first(error)
        print(f"afmrl: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except OSError as error:  # a folder that cannot be written, a full disk
        print(f"afmrl: {error.filename or 'input or output'}: {error.strerror or error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("afmrl: stopped; the same command resumes it", file=sys.stderr)
        raise SystemExit(130) from None
