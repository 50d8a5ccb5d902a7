"""Changing the local index: new segments and marks of death, compaction, and one replaced pointer at the end."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from pathlib import Path

import numpy as np

from afmrl.data.damage import checksum
from afmrl.files import naming, sync_path
from afmrl.index.backend import Rows, Touched, check_rows
from afmrl.index.local.graph import Graph
from afmrl.index.local.segment import Segment, join_segments, write_segment
from afmrl.index.local.snapshot import Snapshot
from afmrl.index.local.version import DEAD, GRAPHS, SEGMENTS, DeadEntry, GraphEntry, SegmentEntry, Version

FAN = 8
"""So many neighboring segments of about one size become one: a row is copied a few times in all, not at every
change."""
SMALLEST = 1024  # rows up to which segments count as of one size
DEAD_SHARE = 0.25  # of the graph's rows, above which it is built again without them
TAIL_SHARE = 0.05  # of the graph's rows: so many more are compared one by one before they are put in
DELETED_ROWS = 65_536  # ids looked up at a time


class Writer:
    """The next version of an index in the making. What it writes is nothing to readers until `commit`.

    Args:
        folder: of the index; the caller holds its lock.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        snapshot = Snapshot.open(folder)
        self.version = snapshot.version
        self.version.remove_others(folder)  # what a killed writer left
        self.segments: list[Segment] = snapshot.segments
        self.alive = [alive.copy() for alive in snapshot.alive]
        self.graph = snapshot.graph
        self.next_order = self.version.next_order
        self.touched = False
        self._marked: set[str] = set()
        self._named = 0

    @property
    def num_rows(self) -> int:
        """Living rows."""
        return sum(int(alive.sum()) for alive in self.alive)

    def upsert(self, rows: Rows) -> Touched:
        """See `IndexBackend.upsert`."""
        check_rows(rows, self.version.dimension)
        orders = np.full(len(rows), -1, dtype=np.int64)
        state = np.zeros(len(rows), dtype=np.int8)  # 0 new, 1 changed, 2 unchanged
        snapshot = self._snapshot()
        found = snapshot.find(rows.ids)
        for segment, places, local in snapshot.by_segment(found[found >= 0]):
            ours = np.flatnonzero(found >= 0)[places]
            theirs = self.segments[segment].texts("fingerprint", local)
            same = np.array([rows.fingerprints[i] == text for i, text in zip(ours, theirs, strict=True)], dtype=bool)
            state[ours] = np.where(same, 2, 1)
            orders[ours] = self.segments[segment].orders[local]  # a changed row keeps its place among equals
            self._mark(segment, local[~same])
        new = np.flatnonzero(state == 0)
        orders[new] = self.next_order + np.arange(len(new))
        self.next_order += len(new)
        written = np.flatnonzero(state < 2)
        if len(written):
            self._add(write_segment(self._new_segment(), rows.take(written), orders[written], self.version.settings))
        return Touched(len(new), int((state == 1).sum()), int((state == 2).sum()))

    def delete(self, ids: Collection[str]) -> int:
        """See `IndexBackend.delete`."""
        unique = list(dict.fromkeys(ids))
        gone = 0
        for start in range(0, len(unique), DELETED_ROWS):
            snapshot = self._snapshot()
            found = snapshot.find(unique[start : start + DELETED_ROWS])
            for segment, _, local in snapshot.by_segment(found[found >= 0]):
                self._mark(segment, local)
                gone += len(local)
        return gone

    def commit(self, *, progress: bool = False) -> Version:
        """Compact where it is due, and make what was written the index's version.

        Args:
            progress: a bar while a graph is built.
        """
        if not self.touched:
            return self.version
        self._compact(progress)
        entries = []
        for segment, alive in zip(self.segments, self.alive, strict=True):
            entry = segment.entry.copy()
            if segment.name in self._marked:
                entry["dead"] = self._write_dead(segment, alive)
            entries.append(entry)
        graph = self._write_graph()
        self._flush(entries, graph)
        self.version = dataclasses.replace(
            self.version,
            sequence=self.version.sequence + 1,
            rows=self.num_rows,
            next_order=self.next_order,
            segments=entries,
            graph=graph,
        )
        self.version.write(self.folder)
        self.version.remove_others(self.folder)
        return self.version

    def _snapshot(self) -> Snapshot:
        return Snapshot(self.version, self.segments, self.alive, None)

    def _mark(self, segment: int, rows: np.ndarray) -> None:
        """These rows of a segment are dead."""
        if len(rows):
            self.alive[segment][rows] = False
            self._marked.add(self.segments[segment].name)
            self.touched = True

    def _new_segment(self) -> Path:
        self._named += 1
        return self.folder / SEGMENTS / f"{self.version.sequence + 1:06d}-{self._named:04d}"

    def _add(self, segment: Segment) -> None:
        self.segments.append(segment)
        self.alive.append(np.ones(segment.num_rows, dtype=bool))
        self.touched = True
        while len(due := self._alike()) == FAN:
            self._join(due)

    def _alike(self) -> list[int]:
        """The last FAN segments, where they are of about one size and outside the graph."""
        first = max(len(self.segments) - FAN, 1 if self.graph else 0)
        numbers = list(range(first, len(self.segments)))
        sizes = {_size_class(self.segments[number].num_rows) for number in numbers}
        return numbers if len(sizes) == 1 else []

    def _join(self, numbers: list[int], keep_dead_of: int | None = None) -> None:
        """Make neighboring segments one, without their dead; those of one segment may stay, for the graph's sake."""
        kept = [
            np.arange(self.segments[i].num_rows) if i == keep_dead_of else np.flatnonzero(self.alive[i])
            for i in numbers
        ]
        self.touched = True
        place = slice(numbers[0], numbers[-1] + 1)
        if not any(map(len, kept)):
            self.segments[place], self.alive[place] = [], []
            return
        joined = join_segments(self._new_segment(), [self.segments[i] for i in numbers], kept)
        alive = np.concatenate([self.alive[i][rows] for i, rows in zip(numbers, kept, strict=True)])
        self.segments[place], self.alive[place] = [joined], [alive]
        if not alive.all():
            self._marked.add(joined.name)

    def _compact(self, progress: bool) -> None:
        """Put the rows outside the graph into it when they are many, and build it again when many of its rows died."""
        exact_below = int(self.version.settings["exact_below"])
        if self.num_rows < max(exact_below, 1):
            if self.graph is not None and self.num_rows < exact_below / 2:
                self.graph = None  # not at the border, where it would be built and dropped in turns
            if self.graph is None:
                self._drop_dead_segments()
                return
        in_graph = self.segments[0].num_rows if self.graph else 0
        tail = sum(int(alive.sum()) for alive in self.alive[1 if self.graph else 0 :])
        dead = in_graph - int(self.alive[0].sum()) if self.graph else 0
        everything = list(range(len(self.segments)))
        if self.graph is None or dead > DEAD_SHARE * in_graph:
            self._join(everything)
            self.graph = Graph.build(self.segments[0], progress=progress)
        elif tail > max(exact_below, TAIL_SHARE * in_graph):
            self._join(everything, keep_dead_of=0)
            self.graph = self.graph.extended(self.segments[0], progress=progress)
        else:
            self._drop_dead_segments()

    def _drop_dead_segments(self) -> None:
        """Leave out segments without living rows, and write again those that are mostly deleted."""
        for number in reversed(range(1 if self.graph else 0, len(self.segments))):
            if self.alive[number].sum() < 0.5 * self.segments[number].num_rows:
                self._join([number])

    def _write_dead(self, segment: Segment, alive: np.ndarray) -> DeadEntry | None:
        dead = int((~alive).sum())
        if not dead:
            return None
        path = self.folder / DEAD / f"{self.version.sequence + 1:06d}-{segment.name}"
        path.parent.mkdir(exist_ok=True)
        with naming(path), open(path, "wb") as file:
            file.write(np.packbits(~alive).data)
        return {"file": path.name, "rows": dead, "bytes": path.stat().st_size, "crc32": checksum(path)}

    def _write_graph(self) -> GraphEntry | None:
        if self.graph is None or self.graph.entry:
            return self.graph.entry if self.graph else None
        path = self.folder / GRAPHS / f"{self.version.sequence + 1:06d}"
        path.parent.mkdir(exist_ok=True)
        return self.graph.write(path)

    def _flush(self, entries: list[SegmentEntry], graph: GraphEntry | None) -> None:
        """Wait for the disk: a pointer must not name what a loss of power would take."""
        before = self.version.files()
        after = dataclasses.replace(self.version, segments=entries, graph=graph).files()
        for name in sorted(after - before):
            path = self.folder / name
            for file in path.iterdir() if path.is_dir() else ():
                sync_path(file)
            sync_path(path)
        for room in (SEGMENTS, DEAD, GRAPHS):
            if (self.folder / room).is_dir():
                sync_path(self.folder / room)


def _size_class(rows: int) -> int:
    size = 0
    while rows > SMALLEST * FAN**size:
        size += 1
    return size
