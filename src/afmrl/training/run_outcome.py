"""The end of a run: models where they are looked for, their numbers, and a record of what they were made of."""

from __future__ import annotations

import platform
import shutil
import time
from importlib import metadata
from typing import Any

from afmrl.embedder.embedder import Embedder
from afmrl.embedder.parity.golden import write_golden
from afmrl.files import write_json
from afmrl.training.model_card import write_model_card
from afmrl.training.processes import world_size
from afmrl.training.run_evaluation import evaluate_run
from afmrl.training.run_files import forget_others, publish_model, written_files
from afmrl.training.run_state import Run

LIBRARIES = ("afmrl", "torch", "transformers", "sentence-transformers", "trl", "datasets", "numpy", "pillow", "bm25s")


def finish(run: Run, started: float) -> None:
    """Copy the models to where they are looked for, and measure them."""
    forget_others(run)
    publish_model(run.paths["cit" if run.cit else "agcl"], run.folder / "embedder")
    kinds = ["embedder"]
    if run.cit_generator in run.paths:
        publish_model(run.paths[run.cit_generator], run.folder / "generator")
        kinds.append("generator")
    else:
        shutil.rmtree(run.folder / "generator", ignore_errors=True)  # of an earlier run, and not this embedder's
    result = evaluate_run(run)
    write_golden(Embedder.from_pretrained(run.folder / "embedder"), run.folder / "embedder")
    write_json(run.folder / "run.json", _run_record(run, started, result))
    for kind in kinds:
        write_model_card(run.folder / kind, f"{run.folder.resolve().name}/{kind}")


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
        "files": written_files(run.folder),
    }
