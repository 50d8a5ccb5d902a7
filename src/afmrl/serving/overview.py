"""What a server serves, how it is doing, and what its match says: groups, changes, rows left out."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from afmrl.data.offer import SkippedRow
from afmrl.errors import InputError
from afmrl.files import read_object
from afmrl.matching.events import EVENTS_FILE
from afmrl.matching.group_ids import SUMMARY_FILE
from afmrl.matching.output import CHANGES_FILE, SKIPPED_FILE
from afmrl.serving.offer_routes import PREFIX
from afmrl.serving.problems import refusals
from afmrl.serving.service import MODEL_NAME, Service

SHOWN_EVENTS, SHOWN_REASONS = 30, 10


class ServedOut(BaseModel):
    """What is served."""

    afmrl: str = Field(description="Version of the program.")
    model: str = Field(description="Name of the embedder's folder.")
    model_version: str | None = Field(description="Fingerprint of the embedder; null: the index does not say.")
    generator: bool
    index: str = Field(description="Kind of the index: local, postgresql, qdrant or lancedb.")
    rows: int
    dimension: int


class LoadOut(BaseModel):
    """What the server has done since its start."""

    seconds: float
    requests: int
    refused: int = Field(description="Answered 429: no room.")
    failed: int = Field(description="Answered 500 or 503.")
    inputs: int = Field(description="Embedded.")
    passes: int = Field(description="Of the embedder.")
    model_seconds: float = Field(description="Spent in them.")


class EventOut(BaseModel):
    """One thing that became of a group or an offer."""

    when: str = ""
    change: str
    about: list[str] = Field(description="Ids of the groups or the offer.")
    into: list[str] = Field(description="Ids of the groups that they are now.")
    why: str = ""


class ReasonOut(BaseModel):
    """Rows or images that were left out for one reason."""

    reason: str
    lost: str = Field(description="row or image")
    number: int


class MatchOverview(BaseModel):
    """The match whose groups are named."""

    written: str = Field(description="UTC, ISO 8601.")
    offers: int
    groups: int
    offers_in_groups: int
    largest_group: int
    pairs_same: int
    pairs_vetoed: int
    offers_to_review: int
    changes: dict[str, int] | None = Field(description="Since the run before; null: there was none.")
    events: list[EventOut] = Field(description="The newest ones, newest first.")
    left_out: list[ReasonOut] = Field(description="The most frequent reasons.")
    num_left_out: int


class Overview(BaseModel):
    """The server at a glance."""

    served: ServedOut
    load: LoadOut
    match: MatchOverview | None = Field(description="null: the server has no --matches.")


class MatchFolder:
    """What a folder of `afmrl match` says of itself; read again when it is written again.

    Raises:
        InputError: it is none.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self._lock = folder, threading.Lock()
        self._known: tuple[int, MatchOverview] | None = None
        self.overview()

    def overview(self) -> MatchOverview:
        """As it is now; where it is just being written, as it was."""
        path = self.folder / SUMMARY_FILE
        with self._lock:
            changed = 0
            try:
                changed = path.stat().st_mtime_ns
                if self._known is None or self._known[0] != changed:
                    self._known = changed, self._read(read_object(path), changed)
            except (OSError, ValueError, KeyError, TypeError, AttributeError, InputError) as error:
                if self._known is None:
                    raise InputError(
                        f"{path}: cannot be read as a match; give a folder that `afmrl match` wrote"
                    ) from error
                self._known = changed, self._known[1]  # not read again before it is written again
            return self._known[1]

    def _read(self, summary: dict[str, Any], changed: int) -> MatchOverview:
        skipped = Counter((row.kind, row.lost) for row in map(_skipped_row, _lines(self.folder / SKIPPED_FILE)))
        name = EVENTS_FILE if (self.folder / EVENTS_FILE).is_file() else CHANGES_FILE
        events = deque(_lines(self.folder / name), maxlen=SHOWN_EVENTS)
        numbers = (
            "offers", "groups", "offers_in_groups", "largest_group", "pairs_same", "pairs_vetoed", "offers_to_review",
        )  # fmt: skip
        return MatchOverview(
            written=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(changed / 1e9)),
            **{number: int(summary.get(number) or 0) for number in numbers},
            changes=summary.get("changes"),
            events=[_event_out(event) for event in reversed(events)],
            left_out=[
                ReasonOut(reason=reason, lost=lost, number=number)
                for (reason, lost), number in skipped.most_common(SHOWN_REASONS)
            ],
            num_left_out=skipped.total(),
        )


def overview_routes(service: Service, match: MatchFolder | None) -> APIRouter:
    """The route of the overview."""
    router = APIRouter(prefix=PREFIX, tags=["server"], responses=refusals(PREFIX))
    start = time.monotonic()

    @router.get("/overview")
    def overview() -> Overview:
        """Versions, load, groups, changes since the last run, and what was left out."""
        statuses = service.metrics.statuses()
        return Overview(
            served=ServedOut(
                afmrl=version("afmrl"),
                model=Path(service.model).name or MODEL_NAME,
                model_version=(service.index.settings.get("model") or {}).get("fingerprint"),
                generator=service.has_generator,
                index=service.kind,
                rows=service.index.rows.now(),
                dimension=service.index.dimension,
            ),
            load=LoadOut(
                seconds=round(time.monotonic() - start, 1),
                requests=statuses.total(),
                refused=statuses["429"],
                failed=statuses["500"] + statuses["503"],
                inputs=service.batcher.num_embedded,
                passes=service.batcher.num_batches,
                model_seconds=round(service.metrics.model_seconds("embedder"), 3),
            ),
            match=match.overview() if match is not None else None,
        )

    return router


def _skipped_row(line: dict[str, Any]) -> SkippedRow:
    return SkippedRow(**line)


def _event_out(event: dict[str, Any]) -> EventOut:
    into = event.get("into", event.get("to", event.get("group") if "offer" in event else None))
    about = event.get("groups") or [event.get("offer") or event.get("group") or ""]
    return EventOut(
        when=str(event.get("when", "")),
        change=str(event["change"]),
        about=[str(one) for one in about],
        into=[str(one) for one in (into if isinstance(into, list) else [into] if into else [])],
        why=str(event.get("why", "")),
    )


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file of lines; a line that is none is passed over."""
    if path.is_file():
        with open(path, encoding="utf-8", errors="replace") as file:
            for line in file:
                with contextlib.suppress(ValueError):
                    if isinstance(value := json.loads(line), dict):
                        yield value
