"""What a match writes: groups and pairs as JSONL and CSV, each file whole or not at all."""

from __future__ import annotations

import contextlib
import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from afmrl.data.offer import Offer
from afmrl.files import atomic_write

PAIR_COLUMNS = (
    "left", "right", "left_title", "right_title", "score", "probability", "same", "agree", "differ", "only_left",
    "only_right", "veto", "text", "image", "embedding",
)  # fmt: skip


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[IO[str]]:
    """A text file that appears under its name only when it is complete and on the disk."""
    # newline "": csv ends its lines itself; half an emoji of a broken export must not stop the run
    with atomic_write(path, errors="replace", newline="") as file:
        yield file


def group_lists(groups: np.ndarray) -> list[np.ndarray]:
    """Rows of each group of two or more, by first row."""
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.append(True, np.diff(groups[order]) != 0))
    return [rows for rows in np.split(order, starts[1:]) if len(rows) > 1]


def write_groups(out: Path, lists: Sequence[np.ndarray], offers: Sequence[Offer]) -> None:
    """OUT/groups.jsonl and OUT/groups.csv."""
    with whole_file(out / "groups.jsonl") as lines, whole_file(out / "groups.csv") as table:
        rows = csv.writer(table)
        rows.writerow(("group", "offer", "title"))
        for number, members in enumerate(lists, 1):
            ids = [offers[row].id for row in members]
            lines.write(json.dumps({"group": number, "offers": ids}, ensure_ascii=False) + "\n")
            rows.writerows((number, offers[row].id, offers[row].title) for row in members)


class PairWriter:
    """OUT/pairs.jsonl and OUT/pairs.csv, line by line."""

    def __init__(self, lines: IO[str], table: IO[str]) -> None:
        self._lines, self._rows = lines, csv.writer(table)
        self._rows.writerow(PAIR_COLUMNS)

    def write(
        self, left: Offer, right: Offer, score: float, probability: float, same: bool, reasons: dict[str, Any]
    ) -> None:
        """One pair."""
        record = {
            "left": left.id, "right": right.id, "score": round(score, 4), "probability": round(probability, 6),
            "same": same, "reasons": reasons,
        }  # fmt: skip
        self._lines.write(json.dumps(record, ensure_ascii=False) + "\n")
        self._rows.writerow(
            (
                left.id, right.id, left.title, right.title, record["score"], record["probability"], str(same).lower(),
                _both(reasons["agree"]), _both(reasons["differ"]), _one(reasons["only_left"]),
                _one(reasons["only_right"]), "; ".join(reasons["veto"]), reasons["text"], reasons.get("image", ""),
                reasons.get("embedding", ""),
            )
        )  # fmt: skip


@contextlib.contextmanager
def pair_files(out: Path) -> Iterator[PairWriter]:
    """The writer of both files."""
    with whole_file(out / "pairs.jsonl") as lines, whole_file(out / "pairs.csv") as table:
        yield PairWriter(lines, table)


def _both(compared: dict[str, Any]) -> str:
    return "; ".join(
        f"{key}: {of['left']}" if of["left"] == of["right"] else f"{key}: {of['left']} | {of['right']}"
        for key, of in compared.items()
    )


def _one(stated: dict[str, Any]) -> str:
    return "; ".join(f"{key}: {of['value']}" for key, of in stated.items())
