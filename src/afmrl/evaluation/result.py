"""What an evaluation measured, and how it is written down."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from afmrl.data.damage import Checked
from afmrl.data.offer import SkippedRow
from afmrl.data.roles import ROLES
from afmrl.evaluation.pairs import PairsResult
from afmrl.evaluation.probing import ClusteringResult, ProbeResult
from afmrl.evaluation.records import read_query_records
from afmrl.evaluation.task_run import TaskRun
from afmrl.evaluation.tasks import TASKS, Impossible
from afmrl.evaluation.verdict import Verdict
from afmrl.files import atomic_write, parse_json, read_lines, read_object
from afmrl.retrieval.hits import read_hits, write_hits


@dataclass(frozen=True)
class EvaluatedCatalog:
    """Which offers of a catalog were evaluated."""

    name: str
    """Of the catalog's file, without its ending; "catalog" where offers were given."""
    split: str
    num_offers: int
    """In the catalog."""
    num_evaluated: int
    """In the split."""
    other_roles: Mapping[str, int]
    """Values of the column `role` that count as none, and how many offers have each."""


@dataclass(frozen=True)
class EvaluationResult:
    """All numbers and records of an evaluation, task by task."""

    model: str
    protocol: str
    metrics: Mapping[str, Any]
    """What metrics.json holds."""
    runs: Sequence[TaskRun]
    """The retrieval tasks, in the order of tables."""
    skipped: Sequence[SkippedRow]
    """Rows of the catalogs, and images of their rows, that could not be used."""
    catalog: EvaluatedCatalog | None = None
    """None where queries, gallery and qrels were given."""
    classification: ProbeResult | None = None
    clustering: ClusteringResult | None = None
    pairs: PairsResult | None = None
    impossible: Sequence[Impossible] = ()
    """Tasks that the catalog or the model does not allow."""
    verdict: Verdict | None = None
    """The first retrieval task against the best floor; None: it was not asked for, or a floor was evaluated."""

    @property
    def notes(self) -> list[str]:
        """What the reader should know of the catalog before believing the numbers; sentences without a full stop."""
        return [
            f"role {role!r} of {count:,} offer(s) is not one of {', '.join(ROLES)} and counts as no role"
            for role, count in (self.catalog.other_roles if self.catalog else {}).items()
        ]


def write_evaluation(result: EvaluationResult, out: str | Path) -> None:
    """Write OUT: metrics.json, queries.jsonl, hits.jsonl (hits-TASK.jsonl of several tasks), skipped.jsonl.

    Each file is written whole or not at all; metrics.json is removed first and comes last: where it is, the other files
    are of the same evaluation. What an earlier evaluation left there and this one does not write is removed.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    runs = {"hits.jsonl" if len(result.runs) == 1 else f"hits-{run.task.name}.jsonl": run for run in result.runs}
    stale = {"hits.jsonl", "queries.jsonl", "skipped.jsonl", "report.html", *(f"hits-{name}.jsonl" for name in TASKS)}
    for name in ("metrics.json", *sorted(stale - set(runs))):
        (out / name).unlink(missing_ok=True)
    for name, run in runs.items():
        write_hits(out / name, run.hits())
    if result.runs:
        _write(out / "queries.jsonl", (line for run in result.runs for line in run.query_lines()))
    if result.skipped:
        _write(out / "skipped.jsonl", (json.dumps(dataclasses.asdict(row)) + "\n" for row in result.skipped))
    _write(out / "metrics.json", [json.dumps(result.metrics, indent=2, sort_keys=True, allow_nan=False) + "\n"])


def check_evaluation(out: Path) -> Iterator[Checked]:
    """Read all of what an evaluation wrote, and say of each thing what it is and what is wrong with it."""
    readers: dict[str, Callable[[Path], Sized]] = {
        "metrics.json": read_object,
        "queries.jsonl": read_query_records,
        "skipped.jsonl": lambda path: [parse_json(line) for line in read_lines(path)],
        **{path.name: read_hits for path in sorted(out.glob("hits*.jsonl"))},
    }
    for name, read in readers.items():
        if not (out / name).is_file() and name != "metrics.json":
            continue
        try:
            fault = "" if len(read(out / name)) or name == "skipped.jsonl" else "is empty; evaluate again"
        except (OSError, ValueError) as error:
            fault = f"cannot be read ({error}); evaluate again"
        yield Checked(f"{name} of `afmrl evaluate`", fault)


def _write(path: Path, lines: Iterable[str]) -> None:
    with atomic_write(path) as file:
        file.writelines(lines)
