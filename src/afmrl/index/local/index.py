"""The index in a folder: immutable segments, one pointer to the last complete version, readers beside one writer."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from afmrl.data.color_bins import COLORS
from afmrl.data.damage import Checked, checked_files
from afmrl.errors import InputError
from afmrl.files import TEMPORARY, exclusive_lock
from afmrl.index.backend import (
    BATCH_ROWS,
    DTYPES,
    EXACT_BELOW,
    MAX_VALUES,
    Hits,
    Rows,
    Touched,
    Where,
    check_queries,
    check_settings,
    check_where,
)
from afmrl.index.local.bm25 import SnapshotBM25
from afmrl.index.local.dense import DenseSearch
from afmrl.index.local.snapshot import Snapshot
from afmrl.index.local.version import DEAD, GRAPHS, LOCK, POINTER, SEGMENTS, Version, pointer_state
from afmrl.index.local.writer import Writer
from afmrl.index.records import color_histograms_of

REMAKE = "make the index again from its embeddings"


class LocalIndex:
    """An index in a folder; `open_index` opens it.

    Every call sees the last complete version, also while another process writes; a call that has begun ends on the
    version on which it began.

    Args:
        folder: of the index.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._pointer = str(folder / POINTER)
        self._writer: Writer | None = None
        self._opened: _Opened | None = None
        version = self._now().snapshot.version
        self.dimension, self.settings = version.dimension, dict(version.settings)

    @classmethod
    def open(
        cls,
        address: str | Path,
        *,
        create: bool = False,
        dimension: int | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> LocalIndex:
        """See `open_index`."""
        folder = Path(address)
        if create and dimension is not None and not (folder / POINTER).exists():
            _create(folder, dimension, settings or {})
        index = cls(folder)
        check_settings(str(folder), index.settings, index.dimension, wanted=settings, wanted_dimension=dimension)
        return index

    @property
    def version(self) -> Version:
        """The last complete version."""
        return self._now().snapshot.version

    def __len__(self) -> int:
        return len(self._now().snapshot)

    @contextlib.contextmanager
    def transaction(self, *, progress: bool = False) -> Iterator[None]:
        """Everything that is upserted and deleted within becomes one version at the end, or none of it.

        Raises:
            InputError: another process is writing.
        """
        if self._writer is not None:
            raise InputError(f"index {self.folder}: a transaction within a transaction")
        with exclusive_lock(self.folder / LOCK, f"index {self.folder}"):
            self._writer = Writer(self.folder)
            try:
                yield
                self._writer.commit(progress=progress)
            finally:
                self._writer = None

    def upsert(self, rows: Rows) -> Touched:
        """See `IndexBackend`."""
        if self._writer is not None:
            return self._writer.upsert(rows)
        with self.transaction():
            return self.upsert(rows)

    def delete(self, ids: Collection[str]) -> int:
        """See `IndexBackend`."""
        if self._writer is not None:
            return self._writer.delete(ids)
        with self.transaction():
            return self.delete(ids)

    def get(self, ids: Sequence[str]) -> Rows:
        """See `IndexBackend`."""
        snapshot = self._now().snapshot
        rows = snapshot.find(list(dict.fromkeys(ids)))
        return snapshot.read(rows[rows >= 0])

    def scan(self, batch_rows: int = BATCH_ROWS) -> Iterator[Rows]:
        """See `IndexBackend`."""
        snapshot = self._now().snapshot
        for start in range(0, len(snapshot.scanned), batch_rows):
            yield snapshot.read(snapshot.scanned[start : start + batch_rows])

    def search(self, queries: np.ndarray, k: int, *, where: Where | None = None) -> Hits:
        """See `IndexBackend`."""
        queries = check_queries(queries, self.dimension, k)
        now = self._now()
        return now.hits(now.dense.search(queries, k, check_where(where)) if len(queries) else [])

    def lexical(self, texts: Sequence[str], k: int, *, where: Where | None = None) -> Hits:
        """See `IndexBackend`."""
        if k < 1:
            raise InputError(f"search: k={k}: at least one hit")
        now = self._now()
        return now.hits(now.bm25.top(texts, k, now.snapshot.passing(check_where(where))))

    def lexical_scores(self, texts: Sequence[str], ids: Sequence[Sequence[str]]) -> list[np.ndarray]:
        """See `IndexBackend`."""
        now = self._now()
        return [now.bm25.scores_of(text, now.snapshot.find(names)) for text, names in zip(texts, ids, strict=True)]

    def values(self, column: str) -> list[str]:
        """See `IndexBackend`."""
        return self._now().snapshot.values(column)[:MAX_VALUES]

    def color_histograms(self, ids: Sequence[str]) -> np.ndarray:
        """See `IndexBackend`."""
        snapshot = self._now().snapshot
        rows = snapshot.find(ids)
        kept = snapshot.colors(rows[rows >= 0])
        if kept is None:  # made before the model's fusion weighed colors
            return color_histograms_of(self.get(ids), ids)
        found = np.zeros((len(ids), COLORS), dtype=np.float32)
        found[rows >= 0] = kept
        return found

    def check(self) -> None:
        """Read every byte of the last version.

        Raises:
            InputError: something is not as it was written.
        """
        self._now().snapshot.check(self.folder)

    def close(self) -> None:
        """See `IndexBackend`."""
        self._opened = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _now(self) -> _Opened:
        state = pointer_state(self._pointer)
        if self._opened is None or self._opened.state != state:
            snapshot = Snapshot.open(self.folder)
            self._opened = _Opened(state, snapshot, DenseSearch(snapshot))
        return self._opened


def check_index(folder: Path) -> Iterator[Checked]:
    """Read all of an index, and say of each thing what it is and what is wrong with it."""
    try:
        version = Version.read(folder)
    except (InputError, OSError) as error:
        yield Checked(POINTER, str(error))
        return
    yield Checked(f"{POINTER} of `afmrl index`: {version.rows:,} rows, dimension {version.dimension}, version "
                  f"{version.sequence}")  # fmt: skip
    for entry in version.segments:
        where = f"{SEGMENTS}/{entry['name']}"
        faults = [one for one in checked_files(folder / where, entry["files"]) if one.fault]
        yield from (Checked(f"{where}/{one.what}", f"{one.fault}; {REMAKE}") for one in faults)
        if not faults:
            yield Checked(f"{where}: {entry['rows']:,} rows in {len(entry['files'])} files")
    others = {f"{DEAD}/{dead['file']}": dead for entry in version.segments if (dead := entry.get("dead"))}
    graphs = {f"{GRAPHS}/{version.graph['file']}": version.graph} if version.graph else {}
    for one in checked_files(folder, {**others, **graphs}):
        yield Checked(one.what, f"{one.fault}; {REMAKE}" if one.fault else "")


@dataclass
class _Opened:
    """A snapshot and what searches it."""

    state: tuple[int, int, int]
    snapshot: Snapshot
    dense: DenseSearch
    _bm25: SnapshotBM25 | None = None

    @property
    def bm25(self) -> SnapshotBM25:
        """Made when it is first asked for."""
        if self._bm25 is None:
            self._bm25 = SnapshotBM25(self.snapshot)
        return self._bm25

    def hits(self, found: Sequence[tuple[np.ndarray, np.ndarray]]) -> Hits:
        """Rows as ids."""
        if len(found) == 1:
            return Hits([self.snapshot.ids(found[0][0])], [found[0][1]])
        texts = iter(self.snapshot.ids(np.concatenate([np.empty(0, np.int64), *(rows for rows, _ in found)])))
        return Hits([[next(texts) for _ in rows] for rows, _ in found], [scores for _, scores in found])


def _create(folder: Path, dimension: int, settings: Mapping[str, Any]) -> None:
    if dimension < 1:
        raise InputError(f"index {folder}: dimension {dimension}; embeddings have at least one number")
    settings = {"dtype": "f16", "exact_below": EXACT_BELOW, **settings}
    if settings["dtype"] not in DTYPES:
        raise InputError(f"index {folder}: dtype {settings['dtype']!r}; one of {', '.join(DTYPES)}")
    if int(settings["exact_below"]) < 0:
        raise InputError(f"index {folder}: exact_below {settings['exact_below']}; 0 or more rows")
    folder.mkdir(parents=True, exist_ok=True)
    ours = (LOCK, SEGMENTS, POINTER, POINTER + TEMPORARY)  # of a creator that was stopped, or is at work beside
    foreign = sorted(path.name for path in folder.iterdir() if path.name not in ours)
    if foreign:
        raise InputError(f"index {folder}: the folder holds other files ({foreign[0]}, …); give an empty or new one")
    with exclusive_lock(folder / LOCK, f"index {folder}"):
        if not (folder / POINTER).exists():
            Version(dimension, dict(settings)).write(folder)
