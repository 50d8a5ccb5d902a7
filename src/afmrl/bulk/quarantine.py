"""Rows that a run leaves out, with the reason; too many of them end it."""

from __future__ import annotations

import json
import math
import threading
from pathlib import Path
from typing import Any, Literal

from afmrl.bulk.folder import QUARANTINE
from afmrl.data.bad_rows import too_many_bad
from afmrl.files import PendingFile

EARLIEST = 1_000  # rows before a share means anything
SHOWN = 5


class TooManyBadRows(Exception):
    """More rows are bad than `max_bad` allows; the message is the summary."""


class Quarantine:
    """Writes quarantine.jsonl; the old file stays until `publish`.

    Args:
        folder: of the run.
        catalog: named in messages.
        max_bad: share of the catalog's rows that may be bad.
    """

    def __init__(self, folder: Path, catalog: str, max_bad: float) -> None:
        self.catalog, self.max_bad = catalog, max_bad
        self.count = self.images = 0
        """Rows left out; rows that are there without their image."""
        self._first: list[str] = []
        self._lock = threading.Lock()  # rows are read in one thread and embedded in another
        self._pending = PendingFile(folder / QUARANTINE)

    def add(self, identifier: str, row: int, field: str, reason: str, lost: Literal["row", "image"] = "row") -> None:
        """Leave a row out, or its image alone."""
        with self._lock:
            entry: dict[str, Any] = {"id": identifier, "row": row, "field": field, "reason": reason, "lost": lost}
            # a lone surrogate is no UTF-8, and a reason may quote one
            self._pending.file.write(json.dumps(entry, ensure_ascii=False).encode("utf-8", "replace").decode() + "\n")
            if lost == "image":
                self.images += 1
            else:
                self.count += 1
            if len(self._first) < SHOWN and (lost == "row" or not self.max_bad):
                self._first.append(f"  row {row}, {field}: {reason}")

    def check(self, read: int, *, complete: bool = False) -> None:
        """Compare the share of bad rows with what is allowed.

        Before the end, only a share that cannot well be chance is too much: five standard deviations above.

        Args:
            read: rows of the catalog so far.
            complete: those are all.

        Raises:
            TooManyBadRows: there are too many.
        """
        if complete:
            is_too_many = too_many_bad(self.count, read, self.max_bad, lost_images=self.images) or self.count >= read
        else:
            expected = self.max_bad * read
            is_too_many = read >= EARLIEST and self.count > expected + 5 * math.sqrt(expected + 1)
        if is_too_many:
            raise TooManyBadRows(
                f"{self.catalog}: {self.count or self.images:,} of the {read:,} rows read are bad, more than the "
                f"tolerated share of {self.max_bad:g} (--max-bad):\n" + "\n".join(self._first)
            )

    def publish(self) -> None:
        """Put the file in the old one's place."""
        with self._lock:
            self._pending.publish()

    def discard(self) -> None:
        """Drop what was noted; the old file stays."""
        with self._lock:
            self._pending.discard()
