"""What a run leaves: models where they are looked for, numbers, and a record that damage shows against."""

from __future__ import annotations

import platform
import shutil
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from afmrl.files import Checked, checked_files, file_facts, read_object, replace_folder, write_json
from afmrl.training.ledger import check_stages
from afmrl.training.model_card import write_model_card
from afmrl.training.processes import world_size
from afmrl.training.run_evaluation import evaluate_run
from afmrl.training.run_state import Run

LIBRARIES = ("afmrl", "torch", "transformers", "sentence-transformers", "trl", "datasets", "numpy", "pillow", "bm25s")


def finish(run: Run, started: float) -> None:
    """Copy the models to where they are looked for, and measure them."""
    _forget_others(run)
    _publish(run.paths["cit" if run.cit else "agcl"], run.folder / "embedder")
    kinds = ["embedder"]
    if run.cit_generator in run.paths:
        _publish(run.paths[run.cit_generator], run.folder / "generator")
        kinds.append("generator")
    else:
        shutil.rmtree(run.folder / "generator", ignore_errors=True)  # of an earlier run, and not this embedder's
    result = evaluate_run(run)
    write_json(run.folder / "run.json", _run_record(run, started, result))
    for kind in kinds:
        write_model_card(run.folder / kind, f"{run.folder.resolve().name}/{kind}")


def _forget_others(run: Run) -> None:
    """Take away the numbers of another recipe or of other models: these must not stand beside them."""
    record = run.folder / "run.json"
    try:
        known = read_object(record)
    except (OSError, ValueError):
        known = {}
    ours = {
        "recipe": run.recipe.model_dump(mode="json"),
        "fingerprints": {**known.get("fingerprints", {}), **run.made_of},
    }
    if {name: known.get(name) for name in ours} != ours:
        for name in ("run.json", "metrics.json", "report.html"):
            (run.folder / name).unlink(missing_ok=True)


def _publish(model: Path, target: Path) -> None:
    """A whole copy at `target`, or what was there before: the copy is renamed into place."""
    temporary = target.with_name(target.name + ".new")
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.copytree(model, temporary, ignore=shutil.ignore_patterns("checkpoint-*", "training_args.bin"))
    replace_folder(temporary, target)


def _run_record(run: Run, started: float, result: dict[str, Any]) -> dict[str, Any]:
    versions = {}
    for library in LIBRARIES:
        try:
            versions[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            versions[library] = "not installed as a package"
    return {
        "recipe": run.recipe.model_dump(mode="json"),
        "seed": run.recipe.seed,
        "versions": {**versions, "python": platform.python_version()},
        "fingerprints": run.made_of,
        "processes": world_size(),
        "skipped_rows": len(run.catalog.skipped) if run.catalog else 0,
        "stage_seconds": run.ledger.seconds,
        "total_seconds": round(time.time() - started, 1),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "result": result,
        "files": _written_files(run.folder),
    }


def _written_files(folder: Path) -> dict[str, dict[str, int]]:
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
        files = read_object(record).get("files")
    except (OSError, ValueError) as error:
        yield Checked("run.json of `afmrl run`", f"cannot be read ({error}); the same command writes it again")
        return
    yield Checked("run.json of `afmrl run`")
    yield from checked_files(folder, files)
