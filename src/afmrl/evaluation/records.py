"""queries.jsonl of an evaluation: one line a query and task, with its rank, metrics and slices."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from afmrl.errors import InputError
from afmrl.files import parse_json

FILE = "queries.jsonl"
DEFAULT_TASK = "fine"


@dataclass(frozen=True, slots=True)
class QueryRecord:
    """How one query of one task fared."""

    query: str
    cluster: str
    """Its family, or its product: the unit of the bootstrap."""
    rank: int
    """Of the best match, from 1; one more than the gallery's size where it holds none."""
    num_relevant: int
    metrics: Mapping[str, float]
    first_hit: str
    """Id of the gallery offer at rank 1, "" if there is none."""


def read_query_records(path: str | Path) -> dict[str, dict[str, QueryRecord]]:
    """Task -> query id -> its record.

    Args:
        path: an evaluation's folder, or its queries.jsonl.

    Raises:
        InputError: no such file, a line that is not a record, a query twice.
    """
    path = Path(path)
    file = path / FILE if path.is_dir() else path
    if not file.is_file() and (file.parent / "metrics.json").is_file():
        raise InputError(f"{path}: holds an evaluation without a retrieval task, and only those are compared")
    if not file.is_file():
        raise InputError(f"{file}: no such file; `afmrl evaluate … --out {path}` writes it")
    records: dict[str, dict[str, QueryRecord]] = {}
    with open(file, "rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                task, record = _record(parse_json(line))
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                reason = f"has no {error.args[0]!r}" if isinstance(error, KeyError) else str(error)
                raise InputError(f"{file}:{number}: not a record of a query ({reason}); evaluate again") from error
            of_task = records.setdefault(task, {})
            if record.query in of_task:
                raise InputError(f"{file}:{number}: query {record.query!r} is there twice in the task {task!r}")
            of_task[record.query] = record
    if not records:
        raise InputError(f"{file}: holds no query")
    return records


def chosen_task(task: str | None, evaluations: Mapping[str, Mapping[str, object]]) -> str:
    """The task to compare: as asked; otherwise "fine", or the only one that all evaluations have.

    Args:
        evaluations: name -> its tasks.

    Raises:
        InputError: an evaluation does not have it, or there are several.

    >>> chosen_task(None, {"A": {"coarse": {}, "text-to-image": {}}, "B": {"coarse": {}}})
    'coarse'
    """
    shared = set.intersection(*(set(tasks) for tasks in evaluations.values()))
    if task is None:
        if DEFAULT_TASK in shared:
            return DEFAULT_TASK
        if len(shared) == 1:
            return next(iter(shared))
        there = "; ".join(f"{name}: {', '.join(sorted(tasks))}" for name, tasks in evaluations.items())
        raise InputError(f"which task? name it with --task ({there})")
    for name, tasks in evaluations.items():
        if task not in tasks:
            raise InputError(f"{name}: has no queries of the task {task!r}; it has: {', '.join(sorted(tasks))}")
    return task


def read_settings(path: str | Path, task: str) -> dict[str, str | float]:
    """The single numbers and names of the metrics.json beside the queries, those of the task before those of the whole
    evaluation; nothing if there is none.
    """
    file = (Path(path) if Path(path).is_dir() else Path(path).parent) / "metrics.json"
    try:
        values = parse_json(file.read_text(encoding="utf-8"))
        of_task = values.get("tasks", {}).get(task, {})
        return {name: value for name, value in (values | of_task).items() if isinstance(value, str | int | float)}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _record(row: dict[str, Any]) -> tuple[str, QueryRecord]:
    metrics = {str(name): float(value) for name, value in row["metrics"].items() if value is not None}
    if not all(map(math.isfinite, metrics.values())):
        raise ValueError("a metric is not a finite number")
    query, rank = str(row["query"]), int(row["rank"])
    if rank < 1:
        raise ValueError(f"rank {rank} is below 1")
    return str(row.get("task") or DEFAULT_TASK), QueryRecord(
        query,
        str(row.get("cluster") or query),
        rank,
        int(row["num_relevant"]),
        metrics,
        str(row.get("first_hit") or ""),
    )
