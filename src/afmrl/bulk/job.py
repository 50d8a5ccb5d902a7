"""A bulk job: a catalog's rows through some work into shards, resuming where it was stopped."""

from __future__ import annotations

import contextlib
import errno
import time
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from afmrl.attributes.evidence import Evidence
from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.bulk.compaction import compact
from afmrl.bulk.fingerprints import ImageMissing, lost_image_fingerprint, row_checks, row_fingerprint, without_image
from afmrl.bulk.folder import ATTRIBUTES, COMMAND, key_attributes_of
from afmrl.bulk.known_rows import KnownRows, SeenIds
from afmrl.bulk.quarantine import Quarantine, TooManyBadRows
from afmrl.bulk.shards import ShardWriter
from afmrl.bulk.state import IMAGES, FolderState
from afmrl.bulk.work import Task, TaskResult, Work
from afmrl.bulk.written_attributes import WrittenAttributes
from afmrl.data.bad_rows import MAX_BAD, checked_max_bad
from afmrl.data.catalog import stream_offers
from afmrl.data.offer import Offer, SkippedRow
from afmrl.data.reading import Reading
from afmrl.data.rows import CatalogRows
from afmrl.errors import InputError
from afmrl.files import fingerprint, hash64
from afmrl.terminal import Progress

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
CHUNK = 1024  # rows whose ids are looked up together
SAVE_SECONDS = 60.0
"""What was done in this time at most is lost when a run is killed (and a window of offers)."""


@dataclass
class Summary:
    """What a run did, in rows."""

    read: int = 0
    """Of the catalog."""
    rows: int = 0
    """Of the output."""
    kept: int = 0
    """Of an earlier run, or of this one before it was stopped; nothing of them has changed."""
    new: int = 0
    again: int = 0
    """Whose row, image, model or prompt has changed."""
    removed: int = 0
    """That were in the output and are no longer."""
    quarantined: int = 0
    lost_images: int = 0
    """Rows that are there without their image."""
    seconds: float = 0.0
    evidence: Evidence = field(default_factory=Evidence)
    """Of the key attributes that this run wrote."""
    with_images: bool = False
    """Whether one of the offers that were written about has an image."""

    def __str__(self) -> str:
        without = f", {self.lost_images:,} without their image" if self.lost_images else ""
        return (
            f"{self.rows:,} rows: {self.kept:,} kept, {self.new:,} new, {self.again:,} done again, "
            f"{self.removed:,} removed, {self.quarantined:,} quarantined{without}, of {self.read:,} read; "
            f"{self.seconds:.0f} s"
        )


class BulkJob:
    """One run of a command over a catalog.

    Args:
        rows: the catalog.
        work: what is made of the offers.
        out: the folder.
        attributes: of another run, which travel with the offers.
        max_bad: share of the rows that may go to quarantine.
        shard_rows: rows of a shard.
        save_seconds: a shard is closed after so much time, and later joined with its neighbors.
        addresses: images may be http(s) addresses.
        progress: show a bar.

    Raises:
        InputError: `out` is something else or is being written, or a size is below 1.
    """

    def __init__(
        self,
        rows: CatalogRows,
        work: Work,
        out: str | Path,
        *,
        attributes: WrittenAttributes | None = None,
        max_bad: float = MAX_BAD,
        shard_rows: int = 50_000,
        save_seconds: float = SAVE_SECONDS,
        addresses: bool = False,
        progress: bool = False,
    ) -> None:
        if shard_rows < 1:
            raise InputError(f"shard_rows={shard_rows}: at least one row")
        checked_max_bad(max_bad)
        self.rows, self.work, self.out = rows, work, Path(out).resolve()
        self.attributes, self.max_bad, self.addresses = attributes, max_bad, addresses
        self.shard_rows, self.save_seconds, self.progress = shard_rows, save_seconds, progress
        self.description = work.describe()
        self.summary = Summary()
        self.reading = Reading(str(rows.path))
        """What was read of the catalog."""
        self._num_done = 0

    def run(self) -> Summary:
        """Do what is not done yet, and make the folder complete.

        Raises:
            InputError: the catalog cannot be read or is empty, or the disk is full.
            TooManyBadRows: more than `max_bad` are bad; what was made stays, and the same run resumes there.
        """
        started = time.monotonic()
        try:
            with FolderState(self.out, self.description.kind) as state:
                self._run(state)
        except OSError as error:
            if error.errno in NO_ROOM:
                raise InputError(
                    f"{self.out}: {error.strerror or error}; what is complete stays: make room and give the same "
                    "command again"
                ) from error
            raise
        self.summary.seconds = time.monotonic() - started
        return self.summary

    def _run(self, state: FolderState) -> None:
        known = state.known_rows(self.description.fingerprint)
        names = state.names()
        quarantine = Quarantine(self.out, str(self.rows.path), self.max_bad)
        writer = ShardWriter(
            self.out,
            self.description.schema,
            names,
            shard_rows=self.shard_rows,
            save_seconds=self.save_seconds,
            saved=state.add,
        )
        summary = self.summary
        try:
            with contextlib.closing(self._with_progress(self.work.run(self._tasks(known, quarantine)))) as made:
                for done in made:
                    self._take(done, writer, quarantine)
            writer.close()
            if not summary.read:
                raise InputError(f"{self.rows.path}: the catalog is empty; one offer a row is expected")
            quarantine.check(summary.read, complete=True)
        except OSError:
            writer.abandon()
            quarantine.discard()
            raise
        except BaseException as error:
            writer.close()  # what is done is kept
            if isinstance(error, TooManyBadRows):
                quarantine.publish()
            quarantine.discard()
            raise
        quarantine.publish()
        self._complete(state, known.live, names, quarantine.count)
        summary.quarantined, summary.lost_images = quarantine.count, quarantine.images
        summary.removed = known.num_ids - summary.kept - summary.again
        summary.rows = int(state.manifest["rows"])

    def _take(self, done: TaskResult, writer: ShardWriter, quarantine: Quarantine) -> None:
        self._num_done += len(done.task.offers)
        for place, (name, reason) in sorted(done.bad.items()):
            quarantine.add(done.task.offers[place].id, done.task.rows[place], name, reason)
        for place, reason in sorted(done.lost_images.items()):
            quarantine.add(done.task.offers[place].id, done.task.rows[place], "image", reason, "image")
        good = [again for place, again in enumerate(done.task.known) if place not in done.bad]
        self.summary.again += sum(good)
        self.summary.new += len(good) - sum(good)
        writer.add(done.rows)
        if self.description.kind == ATTRIBUTES:
            self._weigh(done)
        quarantine.check(self.summary.read)

    def _weigh(self, done: TaskResult) -> None:
        """Count how much of what was written the offers themselves say."""
        offers = {offer.id: offer for offer in done.task.offers}
        for identifier, written in zip(done.rows.column("id").to_pylist(), key_attributes_of(done.rows), strict=True):
            self.summary.evidence.add(offers[identifier], written)
            self.summary.with_images |= bool(offers[identifier].image)

    def _leave_out(self, quarantine: Quarantine, identifier: str, row: int, field: str, reason: str) -> None:
        self._num_done += 1
        quarantine.add(identifier, row, field, reason)

    def _complete(self, state: FolderState, kept: np.ndarray, names: Iterator[str], quarantined: int) -> None:
        added = sum(shard["rows"] for shard in state.shards) - len(kept)
        live = np.concatenate([kept, np.ones(added, dtype=bool)])
        shards = compact(self.out, state.shards, live, names, self.description.schema, shard_rows=self.shard_rows)
        content: dict[str, Any] = {
            "catalog": str(self.rows.path),
            **self.description.manifest,
            "work": self.description.fingerprint,
            "quarantined": quarantined,
        }
        if self.summary.evidence.written:
            content["evidence"] = self.summary.evidence.as_json()
        if self.attributes is not None:
            content["attributes"] = str(self.attributes.folder.path.resolve())
        state.complete(shards, content)

    def _tasks(self, known: KnownRows, quarantine: Quarantine) -> Iterator[Task]:
        """Offers that are new or have changed, in the catalog's order."""
        seen = SeenIds()
        waiting: list[_Row] = []
        for chunk in self._chunks(quarantine):
            for row in self._fresh(chunk, known, seen, quarantine):
                waiting.append(row)
                if len(waiting) == self.description.window:
                    yield _task(waiting, self.attributes is not None)
                    waiting = []
            quarantine.check(self.summary.read)
        if waiting:
            yield _task(waiting, self.attributes is not None)

    def _chunks(self, quarantine: Quarantine) -> Iterator[list[tuple[int, Offer]]]:
        chunk: list[tuple[int, Offer]] = []
        offers = stream_offers(
            self.rows, check_images=False, archives=True, addresses=self.addresses, reading=self.reading
        )
        for number, offer in offers:
            self.summary.read += 1
            if isinstance(offer, SkippedRow):
                self.reading.skipped(offer)
                self._leave_out(quarantine, offer.id, number, offer.field, offer.reason)
            else:
                self.reading.took(offer)
                chunk.append((number, offer))
            if len(chunk) == CHUNK or (not chunk and self.summary.read % CHUNK == 0):
                yield chunk
                chunk = []
        yield chunk

    def _fresh(
        self, chunk: list[tuple[int, Offer]], known: KnownRows, seen: SeenIds, quarantine: Quarantine
    ) -> Iterator[_Row]:
        """Rows of a chunk whose work is to do; those that have not changed are marked as kept."""
        rows = []
        for row in self._once(chunk, known, seen, quarantine):
            try:
                row.fingerprint = row_fingerprint(row.offer, self.out / IMAGES)
                rows.append(row)
            except ImageMissing as missing:
                if not (self.description.reads_text and row.offer.title.strip()):
                    self._leave_out(quarantine, row.offer.id, row.number, "image", str(missing))
                    continue
                quarantine.add(row.offer.id, row.number, "image", str(missing), "image")
                row.offer = without_image(row.offer)
                row.fingerprint = row_fingerprint(row.offer)
                rows.append(row)
        if self.attributes is not None:
            found = self._written_attributes(rows)
            for row, attributes in zip(rows, found, strict=True):
                if attributes is None:
                    reason = f"{self.attributes.folder.path} has none for this row as it is now; run `afmrl attributes`"
                    self._leave_out(quarantine, row.offer.id, row.number, "key_attributes", reason)
                else:
                    row.key_attributes = attributes
                    row.fingerprint = fingerprint(row.fingerprint, list(attributes))
            rows = [row for row, attributes in zip(rows, found, strict=True) if attributes is not None]
        if not rows:
            return
        ids = hash64(row.offer.id for row in rows)
        kept = known.keep(
            ids, row_checks([row.fingerprint for row in rows], [self.description.fingerprint] * len(rows))
        )
        self.summary.kept += int(kept.sum())
        yield from (row for row, unchanged in zip(rows, kept, strict=True) if not unchanged)

    def _written_attributes(self, rows: list[_Row]) -> list[KeyAttributes | None]:
        """Those of another run; also where it could not read a row's image."""
        assert self.attributes is not None
        found = self.attributes.lookup([row.offer.id for row in rows], [row.fingerprint for row in rows])
        missing = [place for place, attributes in enumerate(found) if attributes is None and rows[place].offer.image]
        ids = [rows[place].offer.id for place in missing]
        fingerprints = [lost_image_fingerprint(rows[place].fingerprint) for place in missing]
        for place, attributes in zip(missing, self.attributes.lookup(ids, fingerprints) if ids else (), strict=True):
            found[place] = attributes
        return found

    def _once(
        self, chunk: list[tuple[int, Offer]], known: KnownRows, seen: SeenIds, quarantine: Quarantine
    ) -> list[_Row]:
        """The rows of a chunk, but for those whose id was in an earlier row."""
        ids = hash64(offer.id for _, offer in chunk)
        earlier = np.maximum(known.rows(ids), seen.rows(ids)).tolist()
        here: dict[int, int] = {}
        once, places = [], []
        for place, (number, offer) in enumerate(chunk):
            first = earlier[place] or here.setdefault(int(ids[place]), number)
            if first != number:
                self._leave_out(quarantine, offer.id, number, "id", f"{offer.id!r} is already in row {first}")
            else:
                once.append(_Row(number, offer))
                places.append(place)
        ids, numbers = ids[places], np.array([row.number for row in once], dtype=np.uint32)
        is_known = known.note(ids, numbers)
        seen.add(ids[~is_known], numbers[~is_known])
        for row, was_known in zip(once, is_known.tolist(), strict=True):
            row.known = was_known
        return once

    def _with_progress(self, made: Iterable[TaskResult]) -> Generator[TaskResult]:
        # it asks: rows that are kept pass without an event, and the total may be an estimate that improves
        title, done = COMMAND[self.description.kind], lambda: self._num_done + self.summary.kept
        with Progress(title, self.rows.total, done=done, unit="offers", show=self.progress):
            yield from made


@dataclass
class _Row:
    number: int
    offer: Offer
    fingerprint: str = ""
    key_attributes: KeyAttributes | None = None
    known: bool = False


def _task(rows: list[_Row], with_attributes: bool) -> Task:
    return Task(
        offers=[row.offer for row in rows],
        fingerprints=[row.fingerprint for row in rows],
        rows=[row.number for row in rows],
        known=[row.known for row in rows],
        key_attributes=[row.key_attributes or KeyAttributes() for row in rows] if with_attributes else None,
    )
