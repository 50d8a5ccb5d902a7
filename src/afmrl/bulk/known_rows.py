"""What a run remembers of each row: some 25 bytes in numpy arrays, whatever the row holds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class KnownRows:
    """Rows that are already in a folder, by the hash of their id.

    An id may be there more than once, where a run was stopped after it made a changed row again.

    Args:
        ids: `hash64` of the ids, in the folder's order.
        checks: `row_checks` of the same rows.

    Shape:
        ids, checks: (N,) uint64.
    """

    def __init__(self, ids: np.ndarray, checks: np.ndarray) -> None:
        order = np.argsort(ids, kind="stable")
        self._ids = ids[order]
        self._checks = checks[order]
        self._order = order.astype(np.uint32)
        del order
        self.live = np.zeros(len(ids), dtype=bool)
        """Which rows belong to the new version, in the folder's order."""
        self._noted = np.zeros(len(ids), dtype=np.uint32)  # rows of the catalog, at the first place of an id
        self._most = 1  # times that one id is here
        self.num_ids = int(len(ids) and 1 + (self._ids[1:] != self._ids[:-1]).sum())
        """Different ids."""
        while self._most < len(ids) and (self._ids[self._most :] == self._ids[: -self._most]).any():
            self._most += 1

    def __len__(self) -> int:
        return len(self._ids)

    def rows(self, ids: np.ndarray) -> np.ndarray:
        """In which row of the catalog each id was noted; 0: in none, or it is not known.

        Shape:
            ids: (n,) uint64. returns (n,) uint32.
        """
        if not len(self):
            return np.zeros(len(ids), dtype=np.uint32)
        place, known = self._places(ids)
        return np.where(known, self._noted[place], np.uint32(0))

    def note(self, ids: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Note in which row of the catalog, from 1, ids are; True where an id is known.

        Shape:
            ids: (n,) uint64. rows: (n,) uint32. returns (n,) bool.
        """
        place, known = self._places(ids)
        self._noted[place[known]] = rows[known]
        return known

    def keep(self, ids: np.ndarray, checks: np.ndarray) -> np.ndarray:
        """Make the rows live that have not changed; True where there was one.

        Shape:
            ids, checks: (n,) uint64. returns (n,) bool.
        """
        place, known = self._places(ids)
        kept = np.zeros(len(ids), dtype=bool)
        if not known.any():
            return kept
        for step in range(self._most):
            at = np.minimum(place + step, len(self) - 1)
            same = known & ~kept & (self._ids[at] == ids) & (self._checks[at] == checks)
            self.live[self._order[at[same]]] = True
            kept |= same
        return kept

    def _places(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        place = np.searchsorted(self._ids, ids)
        if not len(self):
            return place, np.zeros(len(ids), dtype=bool)
        place = np.minimum(place, len(self) - 1)
        return place, self._ids[place] == ids


class SeenIds:
    """Ids and the rows where they were first seen: sorted runs, each at least twice as long as the next.

    >>> seen = SeenIds()
    >>> seen.add(np.array([7, 5], dtype=np.uint64), np.array([1, 2]))
    >>> seen.rows(np.array([5, 6, 7], dtype=np.uint64)).tolist()
    [2, 0, 1]
    """

    def __init__(self) -> None:
        self._runs: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, ids: np.ndarray, rows: np.ndarray | Sequence[int]) -> None:
        """Add ids that are not here yet.

        Shape:
            ids: (n,) uint64. rows: (n,), from 1.
        """
        if not len(ids):
            return
        run = _sorted(ids, np.asarray(rows, dtype=np.uint32))
        while self._runs and len(self._runs[-1][0]) < 2 * len(run[0]):
            other = self._runs.pop()
            run = _sorted(np.concatenate([other[0], run[0]]), np.concatenate([other[1], run[1]]))
        self._runs.append(run)

    def rows(self, ids: np.ndarray) -> np.ndarray:
        """Where each id was seen; 0: nowhere.

        Shape:
            ids: (n,) uint64. returns (n,) uint32.
        """
        found = np.zeros(len(ids), dtype=np.uint32)
        for run_ids, run_rows in self._runs:
            place = np.minimum(np.searchsorted(run_ids, ids), len(run_ids) - 1)
            found = np.where(run_ids[place] == ids, run_rows[place], found)
        return found


def _sorted(ids: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(ids, kind="stable")
    return ids[order], rows[order]
