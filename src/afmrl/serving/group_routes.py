"""Groups of a match: which offers one has, and what became of it."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter
from fastapi import Path as PathParameter
from pydantic import BaseModel, Field

from afmrl.matching.events import EVENTS_FILE
from afmrl.serving.answers import OfferOut, offer_out
from afmrl.serving.inputs import Id
from afmrl.serving.offer_routes import PREFIX
from afmrl.serving.problems import refusals
from afmrl.serving.refusal import Refusal
from afmrl.serving.service import Service

MOST_EVENTS = 1_000
MOST_OFFERS = 1_000


class GroupEvent(BaseModel):
    """What became of the group, or of an offer in it, in an update of the match."""

    when: str
    change: str = Field(description="added, changed, deleted, moved; split, merge, new, vanished.")
    why: str
    offer: str | None = None
    group: str | None = None
    groups: list[str] | None = Field(None, description="Groups that were merged.")
    from_group: str | None = Field(None, description="Of an offer that moved.")
    into: list[str] = Field(description="Groups that came of it.")


class GroupAnswer(BaseModel):
    """A group of two or more offers, or one that is gone and has events."""

    group: str
    ids: list[str] = Field(description="Its offers, by id; none: the group is gone.")
    offers: list[OfferOut] = Field(description="Those that are in the index, at most 1,000.")
    events: list[GroupEvent] = Field(description="The last 1,000, in order.")


def group_routes(service: Service, groups: Mapping[str, str], matches: Path) -> APIRouter:
    """The routes of groups.

    Args:
        groups: id of an offer → id of its group.
        matches: folder of the match.
    """
    router = APIRouter(prefix=PREFIX, tags=["groups"], responses=refusals(PREFIX))
    members: dict[str, list[str]] = {}
    for name, group in sorted(groups.items()):
        members.setdefault(group, []).append(name)

    @router.get("/groups/{group}")
    def get_group(group: Annotated[Id, PathParameter()]) -> GroupAnswer:
        """The offers of a group, and its events. Which group an offer is in, a search or a match says."""
        ids = members.get(group, [])
        events = [_event_out(event) for event in deque(_events(matches / EVENTS_FILE, group), maxlen=MOST_EVENTS)]
        if not ids and not events:
            raise Refusal(404, f"the match has no group {group[:100]!r} of two or more offers", param="group")
        rows = service.get(ids[:MOST_OFFERS]) if ids else None
        offers = [] if rows is None else zip(rows.offers, rows.key_attributes, strict=True)
        return GroupAnswer(group=group, ids=ids, offers=[offer_out(offer, of) for offer, of in offers], events=events)

    return router


def _events(path: Path, group: str) -> Iterator[dict[str, Any]]:
    """The events that name a group; read when they are asked for, since updates add to them.

    A line that is no event is passed over.
    """
    if not path.is_file():
        return
    written = json.dumps(group, ensure_ascii=False)
    with open(path, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if written in line and line.endswith("\n"):
                try:
                    event = json.loads(line)
                except ValueError:
                    continue
                if not isinstance(event, dict):
                    continue
                named = [event.get(name) for name in ("group", "from", "to", "into")]
                into = event.get("into")
                if group in [*named, *event.get("groups", ()), *(into if isinstance(into, list) else ())]:
                    yield event


def _event_out(event: Mapping[str, Any]) -> GroupEvent:
    into = event.get("into", event.get("to", []))
    return GroupEvent(
        when=str(event.get("when", "")),
        change=str(event.get("change", "")),
        why=str(event.get("why", "")),
        offer=event.get("offer"),
        group=event.get("group"),
        groups=event.get("groups"),
        from_group=event.get("from"),
        into=into if isinstance(into, list) else [into],
    )
