"""How many rows the index has, for who asks often and must not wait."""

from __future__ import annotations

import threading
import time

from afmrl.index.backend import IndexBackend

KEPT_SECONDS = 60.0
"""For which a count is given again; other processes may write meanwhile."""
WAIT_SECONDS = 0.1
"""For the index, which a search may be using."""


class RowCount:
    """Counts the rows of an index, which is a query of its own in a database, at most once a minute.

    Args:
        lock: of the index.
    """

    def __init__(self, index: IndexBackend, lock: threading.RLock) -> None:
        self._index, self._lock = index, lock
        self._known, self._until = len(index), time.monotonic() + KEPT_SECONDS

    def now(self) -> int:
        """The rows as they were at most a minute ago, or, while the index is in use, when they were last counted."""
        if time.monotonic() >= self._until and self._lock.acquire(timeout=WAIT_SECONDS):
            try:
                if time.monotonic() >= self._until:  # otherwise another thread has counted meanwhile
                    self._known, self._until = len(self._index), time.monotonic() + KEPT_SECONDS
            finally:
                self._lock.release()
        return self._known

    def forget(self) -> None:
        """Count again when it is next asked for: something was written."""
        self._until = 0.0
