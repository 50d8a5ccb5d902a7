"""What became of a match's offers and groups in an update: a line an event, when, what and why."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any

from afmrl.matching.group_ids import GroupChanges

EVENTS_FILE = "events.jsonl"
NAMED = 5
"""Offers that an event names as its cause."""


def events_of(
    changes: GroupChanges,
    before: Mapping[str, str],
    after: Mapping[str, str],
    reasons: Mapping[str, tuple[str, str]],
    judged: Collection[str],
) -> list[dict[str, Any]]:
    """Events of an update.

    Of offers: {"change": "added", "changed" or "deleted", "offer", "group", "why"}, and {"change": "moved", "offer",
    "from", "to", "why"} of those that did not change and have another group. Of groups: those of `group_changes`.

    Args:
        before, after: the group's id of each offer whose group may have changed.
        reasons: id of an offer that changed → how, and why.
        judged: ids that verdicts name.
    """
    when = datetime.now(UTC).isoformat(timespec="seconds")
    causes: dict[str, list[str]] = {}
    for name, (kind, _) in sorted(reasons.items()):
        for group in {before.get(name), after.get(name)} - {None}:
            causes.setdefault(str(group), []).append(f"{name} {kind}")
    verdicts: set[str] = {group for name in judged for group in (before.get(name), after.get(name)) if group}

    def why(*groups: str) -> str:
        found = list(dict.fromkeys(cause for group in groups for cause in causes.get(group, ())))
        more = f" and {len(found) - NAMED:,} more" if len(found) > NAMED else ""
        said = [", ".join(found[:NAMED]) + more] if found else []
        if not verdicts.isdisjoint(groups):
            said.append("verdicts")
        return "; ".join(said) or "offers that they were linked with changed"

    events: list[dict[str, Any]] = []
    for name, (kind, reason) in sorted(reasons.items()):
        group = before.get(name, "") if kind == "deleted" else after[name]
        events.append({"when": when, "change": kind, "offer": name, "group": group, "why": reason})
    for name, group in sorted(after.items()):
        if name in before and before[name] != group:
            cause = why(before[name], group)
            events.append(
                {"when": when, "change": "moved", "offer": name, "from": before[name], "to": group, "why": cause}
            )
    for event in changes.events:
        groups = [event["group"], *event.get("into", ())] if "group" in event else [*event["groups"], event["into"]]
        events.append({"when": when, **event, "why": why(*groups)})
    return events
