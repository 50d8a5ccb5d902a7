"""An index that many threads use: one call at a time, none of which opens an image or waits without an end."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from contextvars import ContextVar
from functools import partial
from types import TracebackType
from typing import Self

import numpy as np

from afmrl.index.backend import BATCH_ROWS, Hits, IndexBackend, Rows, Touched, Where
from afmrl.index.records import color_histograms_of
from afmrl.serving.batching import late
from afmrl.serving.decoding import Decoding
from afmrl.serving.row_count import RowCount


class SharedIndex:
    """Lets one call at a time into an index; see `IndexBackend`.

    Between two calls of one search another thread may write, as another process may at any time.

    Args:
        decoding: of all images of the server.
        seconds: for which a call waits for its turn where no deadline is set (`until`).

    Raises:
        Refusal: of every call: its turn did not come in time.
    """

    def __init__(self, index: IndexBackend, decoding: Decoding, seconds: float) -> None:
        self._index, self._decoding, self._seconds = index, decoding, seconds
        self.dimension, self.settings = index.dimension, index.settings
        self.lock = threading.RLock()
        self.rows = RowCount(index, self.lock)
        """How many rows there are, for who must not wait."""
        self._deadline: ContextVar[float | None] = ContextVar("deadline", default=None)

    @contextlib.contextmanager
    def until(self, deadline: float | None) -> Iterator[None]:
        """In this block this thread's calls wait for their turn until then, of `time.monotonic`; None: as before."""
        before = self._deadline.set(self._deadline.get() if deadline is None else deadline)
        try:
            yield
        finally:
            self._deadline.reset(before)

    def __len__(self) -> int:
        with self._turn():
            return len(self._index)

    def upsert(self, rows: Rows) -> Touched:
        """See `IndexBackend`."""
        with self._turn():
            try:
                return self._index.upsert(rows)
            finally:
                self.rows.forget()

    def delete(self, ids: Collection[str]) -> int:
        """See `IndexBackend`."""
        with self._turn():
            try:
                return self._index.delete(ids)
            finally:
                self.rows.forget()

    def get(self, ids: Sequence[str]) -> Rows:
        """See `IndexBackend`."""
        with self._turn():
            return self._index.get(ids)

    def scan(self, batch_rows: int = BATCH_ROWS) -> Iterator[Rows]:
        """See `IndexBackend`."""
        batches = self._index.scan(batch_rows)
        while True:
            with self._turn():
                rows = next(batches, None)
            if rows is None:
                return
            yield rows

    def search(self, queries: np.ndarray, k: int, *, where: Where | None = None) -> Hits:
        """See `IndexBackend`."""
        with self._turn():
            return self._index.search(queries, k, where=where)

    def lexical(self, texts: Sequence[str], k: int, *, where: Where | None = None) -> Hits:
        """See `IndexBackend`."""
        with self._turn():
            return self._index.lexical(texts, k, where=where)

    def lexical_scores(self, texts: Sequence[str], ids: Sequence[Sequence[str]]) -> list[np.ndarray]:
        """See `IndexBackend`."""
        with self._turn():
            return self._index.lexical_scores(texts, ids)

    def values(self, column: str) -> list[str]:
        """See `IndexBackend`."""
        with self._turn():
            return self._index.values(column)

    def color_histograms(self, ids: Sequence[str]) -> np.ndarray:
        """See `IndexBackend`; where the index keeps none, images are opened while others have their turn."""
        if self.settings.get("colors"):
            with self._turn():
                return self._index.color_histograms(ids)
        turn = partial(self._decoding.turn, self._until())
        return color_histograms_of(self.get(ids), ids, turn=turn)

    def close(self) -> None:
        """See `IndexBackend`."""
        with self.lock:
            self._index.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _until(self) -> float:
        deadline = self._deadline.get()
        return time.monotonic() + self._seconds if deadline is None else deadline

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        seconds = self._until() - time.monotonic()
        if seconds <= 0 or not self.lock.acquire(timeout=seconds):
            raise late()
        try:
            yield
        finally:
            self.lock.release()
