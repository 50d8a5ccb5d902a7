"""What a match writes: groups and pairs as JSONL and CSV, each file whole or not at all."""

from __future__ import annotations

import contextlib
import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import IO, Any, overload

from afmrl.data.offer import Offer, SkippedRow
from afmrl.files import atomic_write
from afmrl.matching.reasons import ComparedValues, Reasons, StatedValue
from afmrl.matching.result import MatchedGroup, MatchedPair

GROUPS_FILE, PAIRS_FILE, SUMMARY_FILE, REPORT_FILE = "groups.jsonl", "pairs.jsonl", "summary.json", "report.html"
SKIPPED_FILE = "skipped.jsonl"
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


def clear_output(out: Path) -> None:
    """Make the folder, and take away what says that it is complete.

    A run that is stopped while it writes leaves files of its own beside those of an earlier match.
    """
    out.mkdir(parents=True, exist_ok=True)
    for name in (SUMMARY_FILE, REPORT_FILE):
        (out / name).unlink(missing_ok=True)


def write_groups(out: Path, groups: Sequence[MatchedGroup]) -> None:
    """OUT/groups.jsonl and OUT/groups.csv."""
    with whole_file(out / GROUPS_FILE) as lines, whole_file(out / "groups.csv") as table:
        rows = csv.writer(table)
        rows.writerow(("group", "offer", "title"))
        for number, group in enumerate(groups, 1):
            lines.write(json.dumps({"group": number, "offers": group.ids}, ensure_ascii=False) + "\n")
            rows.writerows((number, offer.id, offer.title) for offer in group.offers)


def write_skipped(out: Path, skipped: Sequence[SkippedRow]) -> None:
    """OUT/skipped.jsonl, where rows or images of the catalog were left out: which, and why."""
    if not skipped:
        (out / SKIPPED_FILE).unlink(missing_ok=True)
        return
    out.mkdir(parents=True, exist_ok=True)
    with whole_file(out / SKIPPED_FILE) as file:
        file.writelines(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in skipped)


def write_summary(out: Path, summary: Mapping[str, Any]) -> None:
    """OUT/summary.json, written last: a folder that has it has all the other files of the same match."""
    with whole_file(out / SUMMARY_FILE) as file:
        file.write(json.dumps(summary, ensure_ascii=False, indent=2) + "\n")


class PairWriter:
    """OUT/pairs.jsonl and OUT/pairs.csv, line by line."""

    def __init__(self, lines: IO[str], table: IO[str]) -> None:
        self._lines, self._rows = lines, csv.writer(table)
        self._rows.writerow(PAIR_COLUMNS)

    def append(self, pair: MatchedPair) -> None:
        """Write one pair."""
        reasons = pair.reasons
        record = {
            "left": pair.left.id, "right": pair.right.id, "score": pair.score, "probability": pair.probability,
            "same": pair.same, "reasons": reasons.as_dict(),
        }  # fmt: skip
        self._lines.write(json.dumps(record, ensure_ascii=False) + "\n")
        self._rows.writerow(
            (
                pair.left.id, pair.right.id, pair.left.title, pair.right.title, pair.score, pair.probability,
                str(pair.same).lower(), _cell(reasons.agree), _cell(reasons.differ), _cell(reasons.only_left),
                _cell(reasons.only_right), "; ".join(reasons.veto), reasons.text,
                "" if reasons.image is None else reasons.image, "" if reasons.embedding is None else reasons.embedding,
            )
        )  # fmt: skip


@contextlib.contextmanager
def pair_files(out: Path) -> Iterator[PairWriter]:
    """The writer of both files."""
    with whole_file(out / PAIRS_FILE) as lines, whole_file(out / "pairs.csv") as table:
        yield PairWriter(lines, table)


class WrittenPairs(Sequence[MatchedPair]):
    """The pairs of OUT/pairs.jsonl: iterating reads line by line; an index or slice reads them all, once.

    Args:
        offers: those that were matched.
        count: how many pairs were written.
    """

    def __init__(self, out: Path, offers: Sequence[Offer], count: int) -> None:
        self.path = out / PAIRS_FILE
        self._offers, self._count = offers, count

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[MatchedPair]:
        by_id = self._by_id
        with open(self.path, encoding="utf-8") as lines:
            for line in lines:
                row = json.loads(line)
                yield MatchedPair(
                    by_id[row["left"]], by_id[row["right"]], row["score"], row["probability"], row["same"],
                    Reasons.of_dict(row["reasons"]),
                )  # fmt: skip

    @overload
    def __getitem__(self, place: int) -> MatchedPair: ...
    @overload
    def __getitem__(self, place: slice) -> list[MatchedPair]: ...
    def __getitem__(self, place: int | slice) -> MatchedPair | list[MatchedPair]:
        return self._all[place]

    @cached_property
    def _by_id(self) -> dict[str, Offer]:
        return {offer.id: offer for offer in self._offers}

    @cached_property
    def _all(self) -> list[MatchedPair]:
        return list(self)


def _cell(values: Mapping[str, ComparedValues] | Mapping[str, StatedValue]) -> str:
    return "; ".join(f"{key}: {of}" for key, of in values.items())
