"""One version of the local index, opened: its segments as one list of rows, which of them live, which pass a filter."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from afmrl.data.color_bins import COLORS
from afmrl.data.damage import checksum, damage
from afmrl.files import hash64
from afmrl.index.backend import Rows
from afmrl.index.local.graph import Graph
from afmrl.index.local.segment import Segment, damaged
from afmrl.index.local.version import DEAD, GRAPHS, SEGMENTS, DeadEntry, GraphEntry, Version

MASKS = 16  # filters whose rows are remembered
OPENINGS = 10


class Snapshot:
    """Rows are numbered through the segments; `living` says which are there.

    Args:
        version: what it is made of.
        segments: opened, in the version's order.
        alive: of each segment (n,) bool.
        graph: over the first segment's rows.
    """

    def __init__(
        self, version: Version, segments: Sequence[Segment], alive: Sequence[np.ndarray], graph: Graph | None
    ) -> None:
        self.version, self.segments, self.alive, self.graph = version, list(segments), list(alive), graph
        self.edges = np.cumsum([0, *(segment.num_rows for segment in self.segments)])
        self._masks: OrderedDict[frozenset[tuple[str, frozenset[str]]], np.ndarray] = OrderedDict()

    @classmethod
    def open(cls, folder: Path) -> Snapshot:
        """Open the last complete version.

        Raises:
            InputError: no index is here, or it is damaged.
        """
        for _ in range(OPENINGS):
            version = Version.read(folder)
            try:
                return cls.of_version(folder, version)
            except FileNotFoundError as error:
                missing = Path(error.filename or folder)
                if Version.read(folder).sequence == version.sequence:
                    raise damaged(missing, "is missing") from error
                # a writer finished meanwhile and removed the version that was being opened
        raise damaged(folder, "its versions change faster than they can be opened")

    @classmethod
    def of_version(cls, folder: Path, version: Version) -> Snapshot:
        """Open one version's files; FileNotFoundError where one is gone."""
        segments = [Segment(folder / SEGMENTS / entry["name"], entry) for entry in version.segments]
        alive = [_alive(folder, segment) for segment in segments]
        graph = Graph.open(folder / GRAPHS / version.graph["file"], version.graph) if version.graph else None
        return cls(version, segments, alive, graph)

    def __len__(self) -> int:
        return self.version.rows

    @cached_property
    def living(self) -> np.ndarray:
        """(T,) bool, of all numbered rows."""
        return np.concatenate([np.empty(0, bool), *self.alive])

    @cached_property
    def orders(self) -> np.ndarray:
        """(T,) int64: each row's number in the order of insertion, by which equal scores are sorted."""
        return np.concatenate([np.empty(0, np.int64), *(segment.orders for segment in self.segments)])

    @cached_property
    def scanned(self) -> np.ndarray:
        """(N,) int64: living rows in the order of insertion."""
        rows = np.flatnonzero(self.living)
        return rows[np.argsort(self.orders[rows])]

    def passing(self, where: dict[str, frozenset[str]]) -> np.ndarray:
        """(T,) bool: the living rows that pass a filter; those of the last few filters are remembered."""
        if not where:
            return self.living
        key = frozenset(where.items())
        mask = self._masks.get(key)
        if mask is None:
            mask = np.concatenate([np.empty(0, bool), *(segment.passing(where) for segment in self.segments)])
            mask &= self.living
            self._masks[key] = mask
            if len(self._masks) > MASKS:
                self._masks.popitem(last=False)
        return mask

    def values(self, column: str) -> list[str]:
        """The different values of the living rows in one of FILTER_COLUMNS, sorted."""
        found: set[str] = set()
        for segment, alive in zip(self.segments, self.alive, strict=True):
            names, numbers = segment.filters[column]
            found.update(names[number] for number in np.unique(numbers[alive]).tolist())
        return sorted(found)

    def find(self, ids: Sequence[str]) -> np.ndarray:
        """(n,) int64: the row of each id, -1 if there is none."""
        rows = np.full(len(ids), -1, dtype=np.int64)
        hashes = hash64(ids)
        for segment, alive, edge in zip(self.segments, self.alive, self.edges, strict=False):
            places, found = segment.find(ids, hashes, alive)
            rows[places] = found + edge
        return rows

    def by_segment(self, rows: np.ndarray) -> Iterable[tuple[int, np.ndarray, np.ndarray]]:
        """Numbered rows, dealt out: segment, places among `rows`, rows of the segment."""
        of = np.searchsorted(self.edges, rows, "right") - 1
        for segment in np.unique(of).tolist():
            places = np.flatnonzero(of == segment)
            yield segment, places, rows[places] - self.edges[segment]

    def texts(self, column: str, rows: np.ndarray) -> list[str]:
        """A text column of numbered rows."""
        found = [""] * len(rows)
        for segment, places, local in self.by_segment(rows):
            for place, text in zip(places.tolist(), self.segments[segment].texts(column, local), strict=True):
                found[place] = text
        return found

    @cached_property
    def _ids(self) -> tuple[np.ndarray, memoryview]:
        """Where each row's id ends, and all ids as one text; in memory, since every search asks for them."""
        import pyarrow

        columns = [segment.records.column("id").combine_chunks() for segment in self.segments]
        flat = [chunk for column in columns for chunk in getattr(column, "chunks", [column])]
        joined = pyarrow.concat_arrays(flat)
        _, offsets, text = joined.buffers()
        return np.frombuffer(offsets, dtype=np.int64, count=len(joined) + 1), memoryview(text)

    def ids(self, rows: np.ndarray) -> list[str]:
        """The ids of numbered rows; of a few, in a tenth of the time that the table's own `take` needs."""
        if not len(rows):
            return []
        offsets, text = self._ids
        edges = zip(offsets[rows].tolist(), offsets[rows + 1].tolist(), strict=True)
        return [str(text[start:stop], "utf-8") for start, stop in edges]

    def check(self, folder: Path) -> None:
        """Compare every file with the version's checksum.

        Raises:
            InputError: one was changed.
        """
        for segment in self.segments:
            segment.check()
        others: list[tuple[str, DeadEntry | GraphEntry]] = [
            (DEAD, dead) for entry in self.version.segments if (dead := entry.get("dead"))
        ]
        if self.version.graph:
            others.append((GRAPHS, self.version.graph))
        for room, facts in others:
            if checksum(folder / room / facts["file"]) != facts["crc32"]:
                raise damaged(folder / room / facts["file"], "is not what was written (checksum)")

    def embeddings(self, rows: np.ndarray) -> np.ndarray:
        """(n, D) float32 of numbered rows."""
        if len(self.segments) == 1:
            return self.segments[0].embeddings(rows)
        found = np.empty((len(rows), self.version.dimension), dtype=np.float32)
        for segment, places, local in self.by_segment(rows):
            found[places] = self.segments[segment].embeddings(local)
        return found

    def colors(self, rows: np.ndarray) -> np.ndarray | None:
        """(n, 216) float32 color histograms of numbered rows; None where the index keeps none."""
        if any(segment.colors is None for segment in self.segments):
            return None
        found = np.empty((len(rows), COLORS), dtype=np.float32)
        for segment, places, local in self.by_segment(rows):
            colors = self.segments[segment].colors
            assert colors is not None
            found[places] = colors[local]
        return found

    def read(self, rows: np.ndarray) -> Rows:
        """Numbered rows, in this order."""
        parts: list[Rows] = []
        order: list[np.ndarray] = []
        for segment, places, local in self.by_segment(rows):
            parts.append(self.segments[segment].read(local))
            order.append(places)
        if len(parts) == 1:
            return parts[0]
        joined = Rows(
            [i for part in parts for i in part.ids],
            np.concatenate([np.empty((0, self.version.dimension), np.float32), *(part.embeddings for part in parts)]),
            [offer for part in parts for offer in part.offers],
            [found for part in parts for found in part.key_attributes],
            [text for part in parts for text in part.fingerprints],
        )
        return joined.take(np.argsort(np.concatenate([np.empty(0, np.int64), *order])))


def _alive(folder: Path, segment: Segment) -> np.ndarray:
    dead = segment.entry.get("dead")
    if not dead:
        return np.ones(segment.num_rows, dtype=bool)
    path = folder / DEAD / dead["file"]
    if found := damage(path, dead):
        raise damaged(path, found)
    bits = np.fromfile(path, dtype=np.uint8)
    return ~np.unpackbits(bits, count=segment.num_rows).astype(bool)
