"""Dense search of a snapshot: exact where few rows are in question, by the graph where many are."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from afmrl.index.local.graph import Graph
from afmrl.index.local.nearest import FEW_QUERIES, ExactRows, RowHits
from afmrl.index.local.snapshot import Snapshot

Filter = dict[str, frozenset[str]]
REMEMBERED = 4  # filters whose rows' embeddings are kept
EXACT_ROWS = 40, 150
"""Rows that are compared in the time that the graph's search takes for one step of width: for a few queries, for many
(100,000 rows of 256 numbers, a tenth of which pass, on two cores: 44 and 190)."""


@dataclass(frozen=True)
class Plan:
    """How rows that pass a filter are searched."""

    num_passing: int
    allowed: np.ndarray | None
    """Bits of the graph's rows; None: all of them pass."""
    width: int
    """Of the graph's search; 0: it does not find enough of them."""
    tail: ExactRows | None
    """Rows outside the graph."""


class DenseSearch:
    """Searches one snapshot.

    Args:
        snapshot: the rows.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self._exact_rows: OrderedDict[Any, ExactRows] = OrderedDict()
        self._plans: OrderedDict[Any, Plan] = OrderedDict()

    def search(self, queries: np.ndarray, k: int, where: Filter) -> list[RowHits]:
        """Of each query the k best rows that pass the filter, and their scores."""
        plan = self._plan(where)
        graph = self.snapshot.graph
        rows_per_step = EXACT_ROWS[len(queries) > FEW_QUERIES]
        exact = plan.num_passing <= max(rows_per_step * plan.width, 2 * k)
        if graph is None or not plan.width or exact:
            return self._exact(where).search(queries, k)
        found = self._in_graph(graph, queries, k, plan)
        short = [query for query, (rows, _) in enumerate(found) if len(rows) < k]
        if short:  # rows that pass are far apart in the graph; k rows do pass, so k must be found
            everything = self._exact(where).search(queries[short], k)
            for query, hits in zip(short, everything, strict=True):
                found[query] = hits
        if plan.tail is not None:
            found = self._merged(found, plan.tail.search(queries, k), k)
        return found

    def _plan(self, where: Filter) -> Plan:
        key = frozenset(where.items()) if where else None
        plan = self._plans.get(key)
        if plan is None:
            plan = self._planned(where)
            remember(self._plans, key, plan, 4 * REMEMBERED)
        return plan

    def _planned(self, where: Filter) -> Plan:
        passing = self.snapshot.passing(where)
        num_passing = int(passing.sum())
        graph = self.snapshot.graph
        if graph is None:
            return Plan(num_passing, None, 0, None)
        of_graph = passing[: self.snapshot.segments[0].num_rows]
        width, allowed = graph.width, None
        if not of_graph.all():
            # rows that pass are far apart in the graph; how far depends on the rows, so it is measured
            width = graph.filtered_width(self.snapshot.segments[0], of_graph, num_passing / EXACT_ROWS[0])
            allowed = np.packbits(of_graph, bitorder="little")
        if not width:
            return Plan(num_passing, None, 0, None)
        tail = np.flatnonzero(passing[len(of_graph) :]) + len(of_graph)
        return Plan(num_passing, allowed, width, ExactRows(self.snapshot, tail) if len(tail) else None)

    def _in_graph(self, graph: Graph, queries: np.ndarray, k: int, plan: Plan) -> list[RowHits]:
        segment = self.snapshot.segments[0]
        width = graph.width if plan.allowed is None else plan.width
        all_scores, all_rows = graph.search(queries, k, segment, allowed=plan.allowed, width=width)
        orders = all_rows if self._sorted_orders else segment.orders[all_rows]
        found = []
        for scores, rows, order in zip(all_scores, all_rows, orders, strict=True):
            best = np.lexsort((order, -scores))[:k]
            scores, rows = scores[best], rows[best]
            if scores[-1] == -np.inf:
                scores, rows = scores[scores > -np.inf], rows[scores > -np.inf]
            found.append((rows, scores))
        return found

    def _merged(self, ours: Sequence[RowHits], theirs: Sequence[RowHits], k: int) -> list[RowHits]:
        merged = []
        for (rows, scores), (more_rows, more_scores) in zip(ours, theirs, strict=True):
            together, values = np.concatenate([rows, more_rows]), np.concatenate([scores, more_scores])
            together, first = np.unique(together, return_index=True)  # a query that was searched exactly has them
            values = values[first]
            chosen = np.lexsort((self.snapshot.orders[together], -values))[:k]
            merged.append((together[chosen], values[chosen]))
        return merged

    @cached_property
    def _sorted_orders(self) -> bool:
        """Whether rows of the graph are in the order of insertion."""
        return bool((np.diff(self.snapshot.segments[0].orders) > 0).all())

    def _exact(self, where: Filter) -> ExactRows:
        """The rows that pass, in memory."""
        key = frozenset(where.items())
        found = self._exact_rows.get(key)
        if found is None:
            found = ExactRows(self.snapshot, np.flatnonzero(self.snapshot.passing(where)))
            remember(self._exact_rows, key, found, REMEMBERED)
        return found


def remember(memory: OrderedDict[Any, Any], key: Any, value: Any, count: int) -> None:
    """Keep a value, and of all the latest `count`."""
    memory[key] = value
    if len(memory) > count:
        memory.popitem(last=False)
