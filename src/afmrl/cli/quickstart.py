"""`afmrl quickstart`: the recipe of the sample catalog, sized for two cores."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from afmrl.terminal import StageProgress, Timeline, quiet_libraries
from afmrl.training.memory import keep_freed_memory
from afmrl.training.recipe import load_recipe
from afmrl.training.run import Run, run_recipe
from afmrl.training.run_report import next_steps

EXPECTED = {"base": 120.0, "sft": 40.0, "agcl": 150.0, "rar": 110.0, "evaluation": 45.0}
"""Seconds of the long stages on two cores of 2024; the time left is scaled by what this machine took so far."""
EXPECTED_FAST = {"base": 12.0, "sft": 4.0, "agcl": 5.0, "rar": 3.0, "evaluation": 4.0}


def run_quickstart(out: str | Path, *, fast: bool = False, seed: int = 0) -> Run:
    """Run the packaged recipe into `out` and say what to type next."""
    name = "quickstart-fast.yaml" if fast else "quickstart.yaml"
    with resources.as_file(resources.files("afmrl.recipes") / name) as path:
        recipe = load_recipe(path, [f"seed={seed}"])
    quiet_libraries()
    keep_freed_memory()
    expected = EXPECTED_FAST if fast else EXPECTED
    print(
        f"The whole method on a sample catalog, into {out}. On two cores this takes about "
        f"{'a minute' if fast else '8 minutes'}; stopped, the same command goes on where it was."
    )
    run = run_recipe(recipe, out, callbacks=StageProgress(Timeline(expected)))
    if fast:
        print("\nThis was the fast size: it shows that everything runs; its numbers mean nothing.")
    print(f"\nLook at  {run.folder / 'report.html'}\n\nNext:")
    for step in next_steps(run, run.splits["test"]):
        print(f"  # {step[0]}\n  {step[1]}")
    return run
