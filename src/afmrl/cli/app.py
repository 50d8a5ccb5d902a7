"""The command line: one table from command to typed function."""

from __future__ import annotations

import sys

from cyclopts import App

from afmrl.cli.bulk import attributes, embed
from afmrl.cli.check import check
from afmrl.cli.compare import compare
from afmrl.cli.dataset import dataset_app
from afmrl.cli.evaluate import evaluate
from afmrl.cli.index import index
from afmrl.cli.match import match
from afmrl.cli.model import model
from afmrl.cli.parity import parity
from afmrl.cli.push import push
from afmrl.cli.quickstart import quickstart
from afmrl.cli.reading import show_readings
from afmrl.cli.recipe import recipe
from afmrl.cli.run import run
from afmrl.cli.schema import schema
from afmrl.cli.search import search
from afmrl.cli.serve import serve
from afmrl.cli.summary import summarized
from afmrl.errors import InputError

app = App(name="afmrl", help="Are two offers the same product? Key attributes, embeddings, retrieval, matching.")


for command in (
    quickstart, run, recipe, evaluate, compare, check, schema, attributes, embed, model, match, index, search,
    serve, parity, push,
):  # fmt: skip
    app.command(summarized(command))
    if command is check:
        app.command(dataset_app)


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


def _leave() -> None:
    """Take leave of torchrun's other processes, where there are any."""
    import os

    if os.environ.get("WORLD_SIZE", "1") != "1":
        from afmrl.training.processes import leave_processes

        leave_processes()


def main() -> None:
    """Entry point: a user's mistake is one message on stderr and exit code 2, never a traceback."""
    show_readings()
    try:
        try:
            app([_dashed(token) for token in sys.argv[1:]])
        except SystemExit as end:
            if not end.code:
                _leave()
            raise
    except InputError as error:
        _wait_for_first(error)
        print(f"afmrl: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except BrokenPipeError:  # `afmrl recipe NAME | head`
        sys.stdout = None  # nothing is left to flush into
        raise SystemExit(0) from None
    except OSError as error:  # a folder that cannot be written, a full disk
        print(f"afmrl: {error.filename or 'input or output'}: {error.strerror or error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("afmrl: stopped; the same command resumes it", file=sys.stderr)
        raise SystemExit(130) from None
