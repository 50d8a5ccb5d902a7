"""Ids of groups that stay: derived from the members, carried over from the last run, and what changed since."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from afmrl.data.delimited import DelimitedFile, detect_dialect
from afmrl.data.offer import BadRow
from afmrl.errors import InputError
from afmrl.files import digest

OFFERS_FILE, SUMMARY_FILE = "offers.csv", "summary.json"
EARLIER_FILE = ".offers-before.csv"
"""offers.csv of the last complete match, as long as a later one is not complete and has no summary."""
ID_BYTES = 8
Members = Sequence[str]


@dataclass(frozen=True)
class GroupChanges:
    """What became of the last run's groups."""

    events: list[dict[str, Any]]
    """{"change": "split", "group", "into"}, {"change": "merge", "groups", "into"}, {"change": "new", "group"} and
    {"change": "vanished", "group"}; of one offer alone only splits and merges."""
    num_unchanged: int
    """Groups of two or more with the same members as before."""

    @property
    def counts(self) -> dict[str, int]:
        """How many changes there are of each kind."""
        found = Counter(event["change"] for event in self.events)
        return {"unchanged": self.num_unchanged, **{k: found[k] for k in ("split", "merge", "new", "vanished")}}


def group_ids(
    groups: Sequence[Members], previous: Mapping[str, str] | None = None, others: Collection[str] = ()
) -> list[str]:
    """An id for every group; the order of groups and members changes nothing.

    A group keeps the id of the earlier group that gave it most of its members, and of several that inherit from one,
    the one with most keeps the id. Otherwise its id is a hash of its first member's id.

    Args:
        groups: ids of the members; no offer is in two.
        previous: the group's id of every offer of the last run.
        others: ids that other groups have.

    >>> first = group_ids([["a", "b"], ["c"]])
    >>> before = {"a": first[0], "b": first[0], "c": first[1]}
    >>> group_ids([["c"], ["b", "d", "a"]], before) == first[::-1]
    True
    """
    previous = previous or {}
    shared = Counter(
        (previous[member], place) for place, members in enumerate(groups) for member in members if member in previous
    )
    firsts = [min(members) for members in groups]
    found: dict[int, str] = {}
    taken: set[str] = set()
    ranked = sorted(shared.items(), key=lambda pair: (-pair[1], firsts[pair[0][1]], pair[0][0]))
    for (identifier, place), _ in ranked:
        if place not in found and identifier not in taken:
            found[place] = identifier
            taken.add(identifier)
    taken.update(previous.values(), others)
    for place in sorted(range(len(groups)), key=firsts.__getitem__):
        if place not in found:
            found[place] = _derived(firsts[place], taken)
            taken.add(found[place])
    return [found[place] for place in range(len(groups))]


def _derived(first: str, taken: Collection[str]) -> str:
    # a letter first: a spreadsheet takes 12e45678 for a number
    for number in range(len(taken) + 1):
        identifier = "g" + digest(f"{first}\n{number}" if number else first, ID_BYTES).hex()
        if identifier not in taken:
            return identifier
    raise AssertionError("more ids than groups")


def group_changes(groups: Mapping[str, Members], previous: Mapping[str, str]) -> GroupChanges:
    """What became of the last run's groups.

    Args:
        groups: id → ids of the members.
        previous: the group's id of every offer of the last run.
    """
    before: dict[str, list[str]] = {}
    for member, identifier in previous.items():
        before.setdefault(identifier, []).append(member)
    now = {member: identifier for identifier, members in groups.items() for member in members}
    events: list[dict[str, Any]] = []
    unchanged = 0
    for identifier, members in sorted(before.items()):
        into = sorted({now[member] for member in members if member in now})
        if len(into) > 1:
            events.append({"change": "split", "group": identifier, "into": into})
        elif not into and len(members) > 1:
            events.append({"change": "vanished", "group": identifier})
    for identifier, of_group in sorted(groups.items()):
        origins = sorted({previous[member] for member in of_group if member in previous})
        if len(origins) > 1:
            events.append({"change": "merge", "groups": origins, "into": identifier})
        elif not origins and len(of_group) > 1:
            events.append({"change": "new", "group": identifier})
        unchanged += len(of_group) > 1 and set(of_group) == set(before.get(identifier, ()))
    return GroupChanges(events, unchanged)


def read_group_ids(folder: str | Path) -> dict[str, str]:
    """The group's id of every offer of an earlier run, the last complete one.

    Raises:
        InputError: the folder holds no match, or one whose offers.csv was changed.
    """
    path = Path(folder) / EARLIER_FILE
    if not path.is_file() or (Path(folder) / SUMMARY_FILE).is_file():
        path = Path(folder) / OFFERS_FILE
    if not path.is_file():
        raise InputError(f"--previous {folder}: has no {OFFERS_FILE}; give OUT of an earlier afmrl match")
    found: dict[str, str] = {}
    for number, row in DelimitedFile(path, detect_dialect(path)).rows():
        if isinstance(row, BadRow):
            raise InputError(f"{path}:{number}: {row.field}: {row.reason}")
        if not row.get("id") or not row.get("group_id"):
            raise InputError(f"{path}:{number}: id and group_id are needed, as afmrl match writes them")
        found[row["id"]] = row["group_id"]
    return found
