"""Two evaluations of the same queries, tested query by query; and the queries that only one answers at rank 1."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from afmrl.errors import InputError, check_type
from afmrl.evaluation.metric_text import ordered_metrics
from afmrl.evaluation.records import QueryRecord, chosen_task, read_query_records, read_settings
from afmrl.evaluation.significance import bootstrap_intervals, holm, paired_bootstraps
from afmrl.files import write_text
from afmrl.retrieval.interval import Interval

NUM_RESAMPLES = 10_000
"""More than for a single interval: no p-value is below 2 / (1 + NUM_RESAMPLES)."""
SHOWN_IDS = 3


@dataclass(frozen=True, slots=True)
class MetricComparison:
    """One metric of both evaluations, over the same queries."""

    a: Interval
    b: Interval
    difference: Interval
    """B − A, paired."""
    p_value: float
    """Of the paired bootstrap, two-sided."""
    p_holm: float
    """The same after Holm's correction for the number of metrics."""


@dataclass(frozen=True, slots=True)
class ChangedQuery:
    """A query whose first hit was a match in one of the evaluations alone."""

    query: str
    rank_a: int
    rank_b: int
    first_hit_a: str
    first_hit_b: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """Evaluation B against evaluation A on one task."""

    a: str
    b: str
    task: str
    num_queries: int
    num_clusters: int
    """Families that the bootstrap drew; the number of queries where no families are known."""
    only_a: int
    """Queries that only A has and that were left out."""
    only_b: int
    metrics: Mapping[str, MetricComparison]
    won: Sequence[ChangedQuery]
    """Wrong at rank 1 in A, right in B; the longest way up first."""
    lost: Sequence[ChangedQuery]
    """Right at rank 1 in A, wrong in B; the longest way down first."""
    sign_p_value: float
    """Exact McNemar test of won against lost. It assumes that queries are independent: where siblings agree, believe
    the bootstrap by family."""
    same: Mapping[str, str] = field(default_factory=dict)
    """Metric -> the one of `metrics` that has the same value for every query of both; tested once, not twice."""
    notes: Sequence[str] = ()
    """What differs between the two besides the model."""

    def as_json(self) -> dict[str, Any]:
        """What compare.json holds: [mean, low, high] of every number, 6 decimals."""

        def rounded(interval: Interval) -> list[float]:
            return [round(value, 6) for value in (interval.mean, interval.low, interval.high)]

        return {
            "a": self.a,
            "b": self.b,
            "task": self.task,
            "num_queries": self.num_queries,
            "num_clusters": self.num_clusters,
            "only_a": self.only_a,
            "only_b": self.only_b,
            "metrics": {
                name: {
                    "a": rounded(metric.a),
                    "b": rounded(metric.b),
                    "difference": rounded(metric.difference),
                    "p_value": round(metric.p_value, 6),
                    "p_holm": round(metric.p_holm, 6),
                }
                for name, metric in self.metrics.items()
            },
            "rank_1": {
                "num_won": len(self.won),
                "num_lost": len(self.lost),
                "sign_p_value": round(self.sign_p_value, 6),
                "won": [_changed_as_json(query) for query in self.won],
                "lost": [_changed_as_json(query) for query in self.lost],
            },
            "same": dict(self.same),
            "notes": list(self.notes),
        }


def compare(
    a: str | Path,
    b: str | Path,
    *,
    task: str | None = None,
    metrics: Sequence[str] = (),
    common: bool = False,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
    out: str | Path | None = None,
) -> Comparison:
    """Compare evaluation B with evaluation A, query by query; differences are B − A.

    Differences are tested with a paired bootstrap that draws whole clusters (families; of the two files the coarser
    ones), corrected for the number of metrics (Holm 1979); right against wrong at rank 1 with the exact sign test of
    McNemar (1947).

    Args:
        a, b: folders that `afmrl evaluate` wrote, or their queries.jsonl.
        task: which task; None: "fine", or the only one that both have.
        metrics: which ones; by default all that both have for every query, each kind of numbers once.
        common: compare the queries that both have, where the sets differ.
        out: folder for compare.json (the same bytes for the same evaluations); None: nothing is written.

    Raises:
        InputError: files that cannot be read, another set of queries (without `common`), other matches of a query,
            an unknown task or metric.
    """
    for name, folder in (("a", a), ("b", b)):
        check_type(f"compare: {name}", folder, (str, Path), "a folder that `afmrl evaluate` wrote")
    from scipy.stats import binomtest

    of_a, of_b = read_query_records(a), read_query_records(b)
    task = chosen_task(task, {str(a): of_a, str(b): of_b})
    records_a, records_b = of_a[task], of_b[task]
    queries = [query for query in records_a if query in records_b]
    only_a, only_b = len(records_a) - len(queries), len(records_b) - len(queries)
    if (only_a or only_b) and not common:
        raise InputError(_other_queries(a, b, records_a, records_b))
    if not queries:
        raise InputError(f"{a} and {b}: the task {task!r} has no query in common")
    pairs = [(records_a[query], records_b[query]) for query in queries]
    _refuse_other_truth(a, b, pairs)
    names = _metrics_of(pairs, metrics)
    values_a = {name: np.array([left.metrics[name] for left, _ in pairs]) for name in names}
    values_b = {name: np.array([right.metrics[name] for _, right in pairs]) for name in names}
    same = {} if metrics else _same(values_a, values_b)
    names = tuple(name for name in names if name not in same)
    values_a, values_b = ({name: values[name] for name in names} for values in (values_a, values_b))
    clusters = min(
        ([left.cluster for left, _ in pairs], [right.cluster for _, right in pairs]),
        key=lambda names: len(set(names)),
    )
    means_a = bootstrap_intervals(values_a, clusters, num_resamples=num_resamples, seed=seed)
    means_b = bootstrap_intervals(values_b, clusters, num_resamples=num_resamples, seed=seed)
    tests = paired_bootstraps(values_b, values_a, clusters, num_resamples=num_resamples, seed=seed)
    corrected = holm([tests[name].p_value for name in names])
    changed = [_changed(left, right) for left, right in pairs if (left.rank == 1) != (right.rank == 1)]
    won = sorted((c for c in changed if c.rank_b == 1), key=lambda c: (-c.rank_a, c.query))
    lost = sorted((c for c in changed if c.rank_a == 1), key=lambda c: (-c.rank_b, c.query))
    comparison = Comparison(
        str(a),
        str(b),
        task,
        len(queries),
        len(set(clusters)),
        only_a,
        only_b,
        {
            name: MetricComparison(means_a[name], means_b[name], tests[name].difference, tests[name].p_value, p_holm)
            for name, p_holm in zip(names, corrected, strict=True)
        },
        won,
        lost,
        float(binomtest(len(won), len(changed), 0.5).pvalue) if changed else 1.0,
        same,
        _notes(a, b, task),
    )
    if out is not None:
        text = json.dumps(comparison.as_json(), indent=2, sort_keys=True, ensure_ascii=False)
        write_text(Path(out) / "compare.json", text + "\n")
    return comparison


def _changed(left: QueryRecord, right: QueryRecord) -> ChangedQuery:
    return ChangedQuery(left.query, left.rank, right.rank, left.first_hit, right.first_hit)


def _changed_as_json(query: ChangedQuery) -> dict[str, Any]:
    return {
        "query": query.query,
        "rank_a": query.rank_a,
        "rank_b": query.rank_b,
        "first_hit_a": query.first_hit_a,
        "first_hit_b": query.first_hit_b,
    }


def _other_queries(
    a: str | Path, b: str | Path, records_a: Mapping[str, QueryRecord], records_b: Mapping[str, QueryRecord]
) -> str:
    def listed(ids: Sequence[str]) -> str:
        return f"{len(ids):,}" + (
            f" ({', '.join(ids[:SHOWN_IDS])}{', …' if len(ids) > SHOWN_IDS else ''})" if ids else ""
        )

    return (
        f"{a} and {b} were not scored on the same queries: {listed([q for q in records_a if q not in records_b])} "
        f"are only in the first, {listed([q for q in records_b if q not in records_a])} only in the second; "
        "evaluate both on the same catalog, or compare what they share with --common"
    )


def _refuse_other_truth(a: str | Path, b: str | Path, pairs: Sequence[tuple[QueryRecord, QueryRecord]]) -> None:
    other = [(left, right) for left, right in pairs if left.num_relevant != right.num_relevant]
    if other:
        left, right = other[0]
        raise InputError(
            f"{a} and {b} were scored against different matches: {len(other):,} queries differ, {left.query!r} among "
            f"them, with {left.num_relevant} matches in the first and {right.num_relevant} in the second; evaluate "
            "both with the same gallery and qrels"
        )


def _metrics_of(pairs: Sequence[tuple[QueryRecord, QueryRecord]], asked: Sequence[str]) -> tuple[str, ...]:
    known = set(pairs[0][0].metrics)
    for left, right in pairs:
        known &= set(left.metrics) & set(right.metrics)
    if missing := [name for name in asked if name not in known]:
        raise InputError(f"metric {missing[0]!r} is not known for every query; these are: {', '.join(sorted(known))}")
    if not known:
        raise InputError("the two evaluations have no metric in common; were they made with the same --protocol?")
    return tuple(asked) or ordered_metrics([dict.fromkeys((m for m in pairs[0][0].metrics if m in known), ())])


def _same(values_a: Mapping[str, np.ndarray], values_b: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Metrics that repeat one before them: with one match a query, recall is the hit rate and mAP is MRR."""
    same: dict[str, str] = {}
    first: dict[bytes, str] = {}
    for name in values_a:
        content = values_a[name].tobytes() + values_b[name].tobytes()
        if (before := first.setdefault(content, name)) != name:
            same[name] = before
    return same


def _notes(a: str | Path, b: str | Path, task: str) -> list[str]:
    """Settings of the two metrics.json that should not differ where models are compared, and do."""
    left, right = read_settings(a, task), read_settings(b, task)
    if left.get("protocol", "") != right.get("protocol", "") and "protocol" in left and "protocol" in right:
        raise InputError(
            f"A was evaluated under the protocol {left['protocol']!r} and B under {right['protocol']!r}, whose metrics "
            "have different formulas; evaluate both under one"
        )
    return [
        f"{name.replace('_', ' ')} differs: {left[name]} in A, {right[name]} in B."
        for name in ("num_gallery", "split", "min_grade")
        if name in left and name in right and left[name] != right[name]
    ]
