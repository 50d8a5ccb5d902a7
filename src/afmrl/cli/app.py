"""The command line: one table from command to typed function."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from afmrl.cli.bulk import attributes, embed
from afmrl.cli.compare import compare
from afmrl.cli.dataset import dataset_app
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

app.command(dataset_app)
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
