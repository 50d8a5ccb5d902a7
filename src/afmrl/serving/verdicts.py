"""What reviewers say of pairs: a log that only grows, where undoing is an entry too, and the labels that follow."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

from afmrl.errors import InputError
from afmrl.files import atomic_write, exclusive_lock, sync_file
from afmrl.serving.refusal import Refusal

Judgment = Literal["same", "different", "unsure"]
VERDICTS_FILE, LABELS_FILE = "verdicts.jsonl", "labels.jsonl"
LOCK_FILE = ".verdicts.lock"
Pair = tuple[str, str]


@dataclass(frozen=True)
class Verdict:
    """One entry of the log."""

    number: int
    """From 1, in the order of the log."""
    when: str
    """UTC, ISO 8601."""
    who: str
    left: str
    right: str
    verdict: Judgment | Literal["undone"]
    note: str = ""

    @property
    def pair(self) -> Pair:
        """The two ids, the smaller one first."""
        return (self.left, self.right) if self.left <= self.right else (self.right, self.left)


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
        content = self.path.read_bytes() if self.path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            os.truncate(self.path, len(whole))
        for number, line in enumerate(whole.decode("utf-8", "replace").split("\n")[:-1], 1):
            try:
                entry = Verdict(**json.loads(line))
                if entry.number != number or entry.verdict not in (*get_args(Judgment), "undone"):
                    raise ValueError
            except (ValueError, TypeError) as error:
                raise InputError(f"{self.path}:{number}: is no verdict; move the file away to begin anew") from error
            self._entries.append(entry)

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
        held: dict[Pair, list[Verdict]] = {}
        for entry in self._entries:
            stack = held.setdefault(entry.pair, [])
            if entry.verdict == "undone":
                stack[-1:] = []
            else:
                stack.append(entry)
        return {pair: stack[-1] for pair, stack in held.items() if stack}

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
