"""What reviewers say of pairs: a log that only grows, where undoing is an entry too, and the labels that follow."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from afmrl.files import atomic_write, exclusive_lock, sync_file
from afmrl.matching.verdicts import VERDICTS_FILE, Judgment, Pair, Verdict, current_verdicts, read_verdicts
from afmrl.serving.refusal import Refusal

LABELS_FILE = "labels.jsonl"
LOCK_FILE = ".verdicts.lock"


class VerdictLog:
    """The verdicts in a folder of `afmrl match`: `verdicts.jsonl`, and `labels.jsonl` for `afmrl match --labels`.

    An entry is on the disk before it is answered. A line that a crash cut off counts as not written.

    Args:
        folder: of the match.

    Raises:
        InputError: a file that holds something else, or another server writes it.
    """

    def __init__(self, folder: Path) -> None:
        self.path, self._labels = folder / VERDICTS_FILE, folder / LABELS_FILE
        self._lock, self._held = threading.Lock(), contextlib.ExitStack()
        self._entries: list[Verdict] = []
        self._held.enter_context(exclusive_lock(folder / LOCK_FILE, f"verdicts of {folder}"))
        try:
            self._read()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let another server write."""
        self._held.close()

    def _read(self) -> None:
        if not self.path.exists():
            return
        self._entries, size = read_verdicts(self.path)
        if size < self.path.stat().st_size:
            os.truncate(self.path, size)

    def current(self) -> dict[Pair, Verdict]:
        """The verdict on each pair that has one: the last that was not undone."""
        with self._lock:
            return self._current()

    def entries(self) -> list[Verdict]:
        """Every entry, in order."""
        with self._lock:
            return list(self._entries)

    def add(self, who: str, pair: Pair, verdict: Judgment, *, note: str = "", after: int | None = None) -> Verdict:
        """Write a verdict.

        Args:
            after: number of the verdict on this pair that the reviewer knew of, 0: none; None: whatever there is.

        Raises:
            Refusal: there is a newer one (409).
        """
        with self._lock:
            known = self._current().get(_sorted(pair))
            if after is not None and (known.number if known else 0) != after:
                said = f"{known.who or 'somebody'} said {known.verdict!r}" if known else "the verdict was undone"
                raise Refusal(409, f"{said} of this pair meanwhile; look again", code="conflict")
            return self._write(who, pair, verdict, note)

    def undo(self, who: str) -> Verdict:
        """Take back this reviewer's last verdict that still holds.

        Raises:
            Refusal: there is none (404).
        """
        with self._lock:
            held = [entry for entry in self._current().values() if entry.who == who]
            if not held:
                raise Refusal(404, "there is no verdict of yours to undo")
            last = max(held, key=lambda entry: entry.number)
            return self._write(who, (last.left, last.right), "undone", "")

    def _current(self) -> dict[Pair, Verdict]:
        return current_verdicts(self._entries)

    def _write(self, who: str, pair: Pair, verdict: Judgment | Literal["undone"], note: str) -> Verdict:
        when = datetime.now(UTC).isoformat(timespec="seconds")
        entry = Verdict(len(self._entries) + 1, when, who, *pair, verdict, note)
        size = self.path.stat().st_size if self.path.exists() else 0
        self._entries.append(entry)
        try:
            with open(self.path, "ab") as file:
                file.write((json.dumps(asdict(entry), ensure_ascii=False) + "\n").encode())
                sync_file(file)
            self._write_labels()
        except BaseException as error:  # a full disk: half a line would spoil the log
            self._entries.pop()
            with contextlib.suppress(FileNotFoundError):
                os.truncate(self.path, size)
            if isinstance(error, OSError):
                raise Refusal(503, f"the verdict cannot be written ({error.strerror}); it is not kept") from error
            raise
        return entry

    def _write_labels(self) -> None:
        with atomic_write(self._labels) as labels:
            for (left, right), held in self._current().items():
                if held.verdict != "unsure":
                    labels.write(json.dumps(_label(left, right, held), ensure_ascii=False) + "\n")


def _sorted(pair: Pair) -> Pair:
    return pair if pair[0] <= pair[1] else (pair[1], pair[0])


def _label(left: str, right: str, held: Verdict) -> Mapping[str, Any]:
    return {"left": left, "right": right, "label": int(held.verdict == "same")}
