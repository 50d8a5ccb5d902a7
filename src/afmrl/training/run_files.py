"""What a run leaves in its folder: models whole, numbers that are theirs, and whether all is as it was written."""

from __future__ import annotations

import errno
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from afmrl.data.damage import Checked, checked_files, file_facts
from afmrl.files import read_object, replace_folder
from afmrl.training.ledger import check_stages
from afmrl.training.run_state import Run


def forget_others(run: Run) -> None:
    """Take away the numbers of another recipe or of other models: these must not stand beside them."""
    record = run.folder / "run.json"
    try:
        known = read_object(record)
    except (OSError, ValueError):
        known = {}
    fingerprints = known.get("fingerprints")
    made_of = {**(fingerprints if isinstance(fingerprints, dict) else {}), **run.made_of}
    ours = {"recipe": run.recipe.model_dump(mode="json"), "fingerprints": made_of}
    if {name: known.get(name) for name in ours} != ours:
        for name in ("run.json", "metrics.json", "report.html"):
            (run.folder / name).unlink(missing_ok=True)


def publish_model(model: Path, target: Path) -> None:
    """A whole copy at `target`, or what was there before: the copy is renamed into place."""
    temporary = target.with_name(target.name + ".new")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        shutil.copytree(model, temporary, ignore=shutil.ignore_patterns("checkpoint-*", "training_args.bin"))
    except shutil.Error as error:  # it copies on, and lists what went wrong
        _, path, reason = error.args[0][0]
        raise OSError(errno.EIO, re.sub(r"^\[Errno \d+\] |: '.*$", "", reason), path) from error
    replace_folder(temporary, target)


def written_files(folder: Path) -> dict[str, dict[str, int]]:
    """What `check_run` compares the published models and numbers with; not their cards, which people edit."""
    models = [path for kind in ("embedder", "generator") for path in (folder / kind).rglob("*") if path.is_file()]
    models = [path for path in models if path.suffix != ".md"]
    files = [folder / "metrics.json", folder / "report.html", *sorted(models)]
    return {str(path.relative_to(folder)): file_facts(path) for path in files}


def check_run(folder: Path) -> Iterator[Checked]:
    """Read all of a run, and say of each thing what it is and what is wrong with it."""
    yield from check_stages(folder / "stages")
    record = folder / "run.json"
    if not record.is_file():
        yield Checked("run.json", "is missing: the run is not complete; the same command continues it")
        return
    try:
        content = read_object(record)
    except (OSError, ValueError) as error:
        yield Checked("run.json of `afmrl run`", f"cannot be read ({error}); the same command writes it again")
        return
    if "recipe" not in content:
        yield Checked("run.json", "was not written by `afmrl run`: it names no recipe; give another folder")
        return
    yield Checked("run.json of `afmrl run`")
    yield from checked_files(folder, content.get("files"))
