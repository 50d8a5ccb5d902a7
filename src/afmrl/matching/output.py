"""What a match writes: groups and pairs as JSONL and CSV, each file whole or not at all."""

from __future__ import annotations

import contextlib
import csv
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import IO, Any, overload

from afmrl.data.damage import Checked, checked_files, file_facts, other_format
from afmrl.data.delimited import guarded
from afmrl.data.offer import Offer, SkippedRow
from afmrl.files import atomic_write, read_object, unsealed, write_sealed
from afmrl.matching.events import EVENTS_FILE
from afmrl.matching.group_ids import EARLIER_FILE, OFFERS_FILE, SUMMARY_FILE, GroupChanges
from afmrl.matching.reasons import KEPT_APART, ComparedValues, Reasons, StatedValue
from afmrl.matching.result import MatchedGroup, MatchedOffer, MatchedPair

GROUPS_FILE, PAIRS_FILE, REPORT_FILE = "groups.jsonl", "pairs.jsonl", "report.html"
SKIPPED_FILE, CHANGES_FILE, KEPT_FILE = "skipped.jsonl", "changes.jsonl", "kept.bin"
OUTPUT_FILES = (
    GROUPS_FILE, "groups.csv", PAIRS_FILE, "pairs.csv", OFFERS_FILE, CHANGES_FILE, SKIPPED_FILE, REPORT_FILE,
    KEPT_FILE, EVENTS_FILE,
)  # fmt: skip
FORMAT, VERSION = "afmrl-match", 1
OFFER_COLUMNS = ("id", "group_id", "canonical_id", "title", "confidence", "needs_review", "why")
PAIR_COLUMNS = (
    "left", "right", "left_group", "right_group", "left_title", "right_title", "score", "probability", "same", "agree",
    "differ", "only_left", "only_right", "veto", "kept_apart", "text", "image", "embedding", "verdict",
)  # fmt: skip
Cell = str | int | float


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[IO[str]]:
    """A text file that appears under its name only when it is complete and on the disk."""
    # newline "": csv ends its lines itself; half an emoji of a broken export must not stop the run
    with atomic_write(path, errors="replace", newline="") as file:
        yield file


def clear_output(out: Path) -> None:
    """Make the folder, and take away what says that it is complete.

    A run that is stopped while it writes leaves files of its own beside those of an earlier match. The earlier match's
    groups are kept until then: the same run again says what changed since.
    """
    out.mkdir(parents=True, exist_ok=True)
    if (out / SUMMARY_FILE).is_file() and (out / OFFERS_FILE).is_file():
        with open(out / OFFERS_FILE, "rb") as earlier, atomic_write(out / EARLIER_FILE, "wb") as kept:
            shutil.copyfileobj(earlier, kept)
    for name in (SUMMARY_FILE, REPORT_FILE):
        (out / name).unlink(missing_ok=True)


class SheetWriter:
    """Rows of a CSV file that a spreadsheet opens as it is: UTF-8 with its mark, no cell taken for a formula.

    Texts are in quotes and numbers are not: programs that look at quotes keep ids and GTINs as text, and all others
    read the same digits.
    """

    def __init__(self, file: IO[str], columns: Sequence[str]) -> None:
        file.write("\ufeff")
        self._rows = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC)
        self._rows.writerow(columns)

    def write(self, *cells: Cell) -> None:
        """One row."""
        self._rows.writerow([guarded(cell) if isinstance(cell, str) else cell for cell in cells])


def write_groups(out: Path, groups: Sequence[MatchedGroup]) -> None:
    """OUT/groups.jsonl and OUT/groups.csv."""
    with whole_file(out / GROUPS_FILE) as lines, whole_file(out / "groups.csv") as table:
        sheet = SheetWriter(table, ("group", "offer", "title"))
        for group in groups:
            record = {"group": group.id, "canonical": group.canonical.id, "offers": group.ids}
            lines.write(json.dumps(record, ensure_ascii=False) + "\n")
            for offer in group.offers:
                sheet.write(group.id, offer.id, offer.title)


def write_offers(out: Path, offers: Sequence[MatchedOffer]) -> None:
    """OUT/offers.csv: a row for every offer."""
    with whole_file(out / OFFERS_FILE) as table:
        sheet = SheetWriter(table, OFFER_COLUMNS)
        for of in offers:
            review = "yes" if of.needs_review else "no"
            sheet.write(of.offer.id, of.group_id, of.canonical_id, of.offer.title, of.confidence, review, of.why)


def write_changes(out: Path, changes: GroupChanges | None) -> None:
    """OUT/changes.jsonl, where there is an earlier run to compare with."""
    if changes is None:
        (out / CHANGES_FILE).unlink(missing_ok=True)
        return
    with whole_file(out / CHANGES_FILE) as file:
        file.writelines(json.dumps(event, ensure_ascii=False) + "\n" for event in changes.events)


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
    files = {name: file_facts(out / name) for name in OUTPUT_FILES if (out / name).is_file()}
    text = json.dumps({**summary, "files": files}, ensure_ascii=False)
    write_sealed(out / SUMMARY_FILE, json.loads(text.encode("utf-8", "replace")))  # half an emoji, see `whole_file`
    (out / EARLIER_FILE).unlink(missing_ok=True)


def check_match_folder(out: Path) -> Iterator[Checked]:
    """Read all of what a match wrote, and say of each thing what it is and what is wrong with it."""
    if not (out / SUMMARY_FILE).is_file():
        yield Checked(SUMMARY_FILE, "is missing: the match is not complete; the same command writes it")
        return
    try:
        summary = unsealed(read_object(out / SUMMARY_FILE))
        if (found := summary.get("version")) != VERSION:
            raise ValueError(other_format(found, VERSION))
        about = f"{summary['groups']:,} groups of {summary['offers']:,} offers"
    except (OSError, ValueError, KeyError, TypeError) as error:
        yield Checked(f"{SUMMARY_FILE} of `afmrl match`", f"cannot be used ({error})")
        return
    yield Checked(f"{SUMMARY_FILE} of `afmrl match`: {about}")
    yield from checked_files(out, summary.get("files"))


class PairWriter:
    """OUT/pairs.jsonl and OUT/pairs.csv, line by line.

    Args:
        group_ids: the group's id of every offer.
    """

    def __init__(self, lines: IO[str], table: IO[str], group_ids: Mapping[str, str]) -> None:
        self._lines, self._sheet, self._group_ids = lines, SheetWriter(table, PAIR_COLUMNS), group_ids

    def append(self, pair: MatchedPair) -> None:
        """Write one pair."""
        reasons = pair.reasons
        groups = [self._group_ids[offer.id] for offer in (pair.left, pair.right)]
        record = {
            "left": pair.left.id, "right": pair.right.id, "left_group": groups[0], "right_group": groups[1],
            "score": pair.score, "probability": pair.probability, "same": pair.same, "reasons": reasons.as_dict(),
        }  # fmt: skip
        self._lines.write(json.dumps(record, ensure_ascii=False) + "\n")
        self._sheet.write(
            pair.left.id, pair.right.id, *groups, pair.left.title, pair.right.title, pair.score, pair.probability,
            str(pair.same).lower(), _cell(reasons.agree), _cell(reasons.differ), _cell(reasons.only_left),
            _cell(reasons.only_right), "; ".join(reasons.veto), KEPT_APART if reasons.kept_apart else "", reasons.text,
            "" if reasons.image is None else reasons.image, "" if reasons.embedding is None else reasons.embedding,
            reasons.verdict or "",
        )  # fmt: skip


@contextlib.contextmanager
def pair_files(out: Path, group_ids: Mapping[str, str]) -> Iterator[PairWriter]:
    """The writer of both files."""
    with whole_file(out / PAIRS_FILE) as lines, whole_file(out / "pairs.csv") as table:
        yield PairWriter(lines, table, group_ids)


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
