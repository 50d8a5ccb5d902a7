"""Group ids: one a group, the same in any order, carried over from the last run."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from afmrl.errors import InputError
from afmrl.matching.group_ids import group_changes, group_ids, read_group_ids

SEEDS = range(40)


def drawn(seed: int, num_offers: int = 60) -> list[list[str]]:
    """A partition of some offers."""
    draw = np.random.default_rng(seed)
    groups: dict[int, list[str]] = {}
    for number in draw.permutation(num_offers)[: num_offers - 10].tolist():
        groups.setdefault(int(draw.integers(20)), []).append(f"offer-{number}")
    return list(groups.values())


def by_member(groups: list[list[str]], ids: list[str]) -> dict[str, str]:
    return {member: identifier for members, identifier in zip(groups, ids, strict=True) for member in members}


@pytest.mark.parametrize("seed", SEEDS)
def test_ids_are_unique_and_the_same_in_any_order(seed: int) -> None:
    groups, before = drawn(seed), by_member(drawn(seed + 1000), group_ids(drawn(seed + 1000)))
    draw = np.random.default_rng(seed)
    for previous in (None, before):
        ids = group_ids(groups, previous)
        assert len(set(ids)) == len(groups)
        order = draw.permutation(len(groups)).tolist()
        shuffled = [draw.permutation(groups[place]).tolist() for place in order]
        assert group_ids(shuffled, previous) == [ids[place] for place in order]


@pytest.mark.parametrize("seed", SEEDS)
def test_groups_with_the_members_of_before_keep_their_ids(seed: int) -> None:
    # ids of some other run, so that none of them follows from the members
    groups = drawn(seed)
    before = by_member(groups, [f"old-{number}" for number in range(len(groups))])
    assert by_member(groups, group_ids(groups, before)) == before
    # a third of the groups are torn up: the rest keep theirs
    kept, torn = groups[len(groups) // 3 :], sum(groups[: len(groups) // 3], [])
    now = [*kept, *([member] for member in torn), ["new"]]
    ids = group_ids(now, before)
    assert ids[: len(kept)] == [before[members[0]] for members in kept] and len(set(ids)) == len(now)
    assert ids[-1] not in before.values()


def test_the_group_that_inherits_most_keeps_the_id() -> None:
    before = dict.fromkeys("abcde", "x") | dict.fromkeys("fg", "y")
    ids = group_ids([["a", "b"], ["c", "d", "e", "f"], ["g"]], before)
    assert ids[1:] == ["x", "y"] and ids[0] not in "xy"


def test_a_new_group_does_not_take_the_id_of_one_that_vanished() -> None:
    (own,) = group_ids([["a"]])
    before = dict.fromkeys("abc", "x") | {"gone": own}
    first, alone = group_ids([["b", "c"], ["a"]], before)
    assert first == "x" and alone not in before.values()


def test_changes_name_splits_merges_new_and_vanished_groups() -> None:
    before = (
        dict.fromkeys("abc", "x")
        | dict.fromkeys("de", "y")
        | {"f": "z"}
        | dict.fromkeys("gh", "v")
        | dict.fromkeys("st", "u")
    )
    now = {"x": ["a", "b"], "w": ["c"], "y": ["d", "e", "f"], "n": ["k", "l"], "alone": ["m"], "u": ["s", "t"]}
    changes = group_changes(now, before)
    assert changes.events == [
        {"change": "vanished", "group": "v"},
        {"change": "split", "group": "x", "into": ["w", "x"]},
        {"change": "new", "group": "n"},
        {"change": "merge", "groups": ["y", "z"], "into": "y"},
    ]
    assert changes.counts == {"unchanged": 1, "split": 1, "merge": 1, "new": 1, "vanished": 1}
    same = group_changes(now, {member: group for group, members in now.items() for member in members})
    assert not same.events and same.num_unchanged == 4


def test_a_folder_without_a_match_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no offers\.csv; give OUT of an earlier"):
        read_group_ids(tmp_path)
    with open(tmp_path / "offers.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("id", "title"), ("a", "b")])
    with pytest.raises(InputError, match=r"offers\.csv:2: id and group_id are needed"):
        read_group_ids(tmp_path)
