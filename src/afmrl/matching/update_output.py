"""What an update writes: the files of a match with some of their rows replaced, put in their places in one step."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from afmrl.data.delimited import without_guard
from afmrl.files import read_object, sync_path
from afmrl.matching.events import EVENTS_FILE
from afmrl.matching.group_ids import OFFERS_FILE, SUMMARY_FILE
from afmrl.matching.output import (
    GROUPS_FILE,
    OFFER_COLUMNS,
    OUTPUT_FILES,
    PAIR_COLUMNS,
    PAIRS_FILE,
    PairWriter,
    SheetWriter,
    whole_file,
    write_groups,
    write_offers,
)
from afmrl.matching.result import MatchedGroup, MatchedOffer, MatchedPair

PENDING, COMPLETE = ".update.tmp", ".update"
"""Folders of an update that is being written, and of one that is written and not yet in place."""
_PAIR = re.compile(r'\{"left": ("(?:[^"\\]|\\.)*"), "right": ("(?:[^"\\]|\\.)*")')
Pair = tuple[str, str]


@dataclass
class Replaced:
    """Rows that take the place of earlier ones."""

    names: set[str]
    """Ids whose rows and pairs are replaced."""
    group_ids: set[str]
    """Groups that are replaced."""
    groups: list[MatchedGroup]
    offers: list[MatchedOffer] = field(default_factory=list)
    pairs: list[tuple[Pair, str, str]] = field(default_factory=list)
    """Ids, line of pairs.jsonl and record of pairs.csv, by ids."""
    counts: Counter[str] = field(default_factory=Counter)

    def add_pairs(self, pairs: Iterable[MatchedPair], group_ids: Mapping[str, str]) -> None:
        """Pairs, by ids."""
        lines, table = io.StringIO(newline=""), io.StringIO(newline="")
        writer = PairWriter(lines, table, group_ids)
        for pair in pairs:
            _empty(lines)
            _empty(table)
            writer.append(pair)
            self.pairs.append(((pair.left.id, pair.right.id), lines.getvalue(), table.getvalue()))
            _count(self.counts, json.loads(self.pairs[-1][1]), 1)


def _empty(buffer: io.StringIO) -> None:
    buffer.seek(0)
    buffer.truncate()


def _count(counts: Counter[str], pair: Mapping[str, Any], by: int) -> None:
    reasons = pair["reasons"]
    counts["pairs_listed"] += by
    counts["pairs_same"] += by * bool(pair["same"])
    counts["pairs_vetoed"] += by * bool(reasons["veto"])
    counts["pairs_kept_apart"] += by * bool(reasons.get("kept_apart"))
    for key in reasons["veto"]:
        counts[f"veto {key}"] += by


@contextlib.contextmanager
def pending_update(matches: Path) -> Iterator[Path]:
    """A folder for the files of an update; when the block ends they take the places of the earlier ones.

    A kill before the end of the block leaves the match as it was, and one after it an update that `finish_update`
    completes.
    """
    pending = matches / PENDING
    shutil.rmtree(pending, ignore_errors=True)
    pending.mkdir()
    try:
        yield pending
        sync_path(pending)
        os.replace(pending, matches / COMPLETE)
        sync_path(matches)
    except BaseException:
        shutil.rmtree(pending, ignore_errors=True)
        raise
    finish_update(matches)


def finish_update(matches: Path) -> None:
    """Put in place what an update that was killed had written completely; take away what it had not."""
    shutil.rmtree(matches / PENDING, ignore_errors=True)
    complete = matches / COMPLETE
    if not complete.is_dir():
        return
    if (complete / SUMMARY_FILE).is_file():  # it goes last
        written = read_object(complete / SUMMARY_FILE)["files"]
        (matches / SUMMARY_FILE).unlink(missing_ok=True)
        for name in OUTPUT_FILES:
            if name not in written:
                (matches / name).unlink(missing_ok=True)
        for path in sorted(complete.iterdir()):
            if path.name != SUMMARY_FILE:
                os.replace(path, matches / path.name)
        sync_path(matches)
        os.replace(complete / SUMMARY_FILE, matches / SUMMARY_FILE)
        sync_path(matches)
    shutil.rmtree(complete)


def write_events(matches: Path, pending: Path, events: Sequence[Mapping[str, Any]]) -> None:
    """PENDING/events.jsonl: the earlier events, and those of this update."""
    with whole_file(pending / EVENTS_FILE) as file:
        if (matches / EVENTS_FILE).is_file():
            with open(matches / EVENTS_FILE, encoding="utf-8", newline="") as earlier:
                shutil.copyfileobj(earlier, file)
        file.writelines(json.dumps(event, ensure_ascii=False) + "\n" for event in events)


def replace_rows(matches: Path, pending: Path, replaced: Replaced) -> Counter[str]:
    """The offers, groups and pairs of a match in PENDING, some of them replaced.

    Returns:
        By how much the counts of summary.json change.
    """
    counts = Counter(replaced.counts)
    _replace_offers(matches, pending, replaced, counts)
    _replace_groups(matches, pending, replaced)
    _replace_pairs(matches, pending, replaced, counts)
    return counts


def _records(path: Path) -> Iterator[str]:
    """The records of a table as they stand, without the heading; a cell in quotes may have several lines."""
    with open(path, encoding="utf-8-sig", newline="") as file:
        record = ""
        for line in file:
            record += line
            if record.count('"') % 2 == 0:
                if not record.strip():
                    continue
                yield record
                record = ""


def _cells(record: str) -> list[str]:
    return next(csv.reader(io.StringIO(record, newline="")))


def _first_cell(record: str) -> str:
    """The first cell, which is in quotes, without the mark that guards it."""
    end = record.index('"', 1)
    while record[end : end + 2] == '""':
        end = record.index('"', end + 2)
    return without_guard(record[1:end].replace('""', '"'))


def _replace_offers(matches: Path, pending: Path, replaced: Replaced, counts: Counter[str]) -> None:
    write_offers(pending, replaced.offers)
    ours = list(_records(pending / OFFERS_FILE))[1:]
    counts["offers_to_review"] += sum(of.needs_review for of in replaced.offers)
    new = iter(zip((of.offer.id for of in replaced.offers), ours, strict=True))
    column = OFFER_COLUMNS.index("needs_review")

    def kept() -> Iterator[tuple[str, str]]:
        for number, record in enumerate(_records(matches / OFFERS_FILE)):
            if number == 0:
                continue
            name = _first_cell(record)
            if name in replaced.names:
                counts["offers_to_review"] -= _cells(record)[column] == "yes"
            else:
                yield name, record

    with whole_file(pending / OFFERS_FILE) as file:
        SheetWriter(file, OFFER_COLUMNS)
        file.writelines(record for _, record in _merged(kept(), new))


def _replace_groups(matches: Path, pending: Path, replaced: Replaced) -> None:
    write_groups(pending, replaced.groups)

    def of_folder(folder: Path) -> Iterator[tuple[str, tuple[str, str]]]:
        records = _records(folder / "groups.csv")
        next(records)
        with open(folder / GROUPS_FILE, encoding="utf-8", newline="") as lines:
            for line in lines:
                group = json.loads(line)
                members = "".join(next(records) for _ in group["offers"])
                if folder == pending or group["group"] not in replaced.group_ids:
                    yield group["offers"][0], (line, members)

    merged = list(_merged(of_folder(matches), iter(list(of_folder(pending)))))
    with whole_file(pending / GROUPS_FILE) as lines, whole_file(pending / "groups.csv") as table:
        SheetWriter(table, ("group", "offer", "title"))
        for _, (line, members) in merged:
            lines.write(line)
            table.write(members)


def _replace_pairs(matches: Path, pending: Path, replaced: Replaced, counts: Counter[str]) -> None:
    def kept() -> Iterator[tuple[Pair, tuple[str, str]]]:
        records = _records(matches / "pairs.csv")
        next(records)
        with open(matches / PAIRS_FILE, encoding="utf-8", newline="") as lines:
            for line, record in zip(lines, records, strict=True):
                ids = _PAIR.match(line)
                if ids is None:
                    raise ValueError(f"{matches / PAIRS_FILE}: a line is no pair")
                left, right = json.loads(ids[1]), json.loads(ids[2])
                if left in replaced.names or right in replaced.names:
                    _count(counts, json.loads(line), -1)
                else:
                    yield (left, right), (line, record)

    new = ((pair, (line, record)) for pair, line, record in replaced.pairs)
    with whole_file(pending / PAIRS_FILE) as lines, whole_file(pending / "pairs.csv") as table:
        SheetWriter(table, PAIR_COLUMNS)
        for _, (line, record) in _merged(kept(), new):
            lines.write(line)
            table.write(record)


def _merged(one: Iterator[tuple[Any, Any]], other: Iterator[tuple[Any, Any]]) -> Iterator[tuple[Any, Any]]:
    """Two sorted lists as one."""
    from heapq import merge
    from operator import itemgetter

    return merge(one, other, key=itemgetter(0))
