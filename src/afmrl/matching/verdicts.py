"""What reviewers said of pairs, and what follows: which offers are one product, and which are not, over the model."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from afmrl.errors import InputError
from afmrl.files import check_regular
from afmrl.terminal import counted

Judgment = Literal["same", "different", "variant", "unsure"]
VERDICTS_FILE = "verdicts.jsonl"
Pair = tuple[str, str]
SHOWN = 3


@dataclass(frozen=True)
class Verdict:
    """One entry of the log."""

    number: int
    """From 1, in the order of the log."""
    when: str
    """UTC, ISO 8601."""
    who: str
    left: str
    right: str
    verdict: Judgment | Literal["undone"]
    """A variant is another product of the same family: for a match it is a different one."""
    note: str = ""

    @property
    def pair(self) -> Pair:
        """The two ids, the smaller one first."""
        return (self.left, self.right) if self.left <= self.right else (self.right, self.left)

    def __str__(self) -> str:
        sign = "=" if self.verdict == "same" else "≠"
        return f"{self.left} {sign} {self.right} ({self.number}{f', {self.who}' if self.who else ''})"


def read_verdicts(path: Path) -> tuple[list[Verdict], int]:
    """The entries of a log, and how many bytes they take; a last line that a crash cut off is not one of them.

    Raises:
        InputError: there is no such file, or a line of it is no verdict.
    """
    try:
        check_regular(path)
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"verdicts {path}: cannot be read ({error.strerror})") from error
    whole = content[: content.rfind(b"\n") + 1]
    entries: list[Verdict] = []
    for number, line in enumerate(whole.decode("utf-8", "replace").split("\n")[:-1], 1):
        try:
            entry = Verdict(**json.loads(line))
            if not (isinstance(entry.left, str) and isinstance(entry.right, str)):
                raise TypeError
            if entry.number != number or entry.verdict not in (*get_args(Judgment), "undone"):
                raise ValueError
        except (ValueError, TypeError) as error:
            raise InputError(f"{path}:{number}: is no verdict; move the file away to begin anew") from error
        entries.append(entry)
    return entries, len(whole)


def current_verdicts(entries: Iterable[Verdict]) -> dict[Pair, Verdict]:
    """The verdict on each pair that has one: the last that was not undone."""
    held: dict[Pair, list[Verdict]] = {}
    for entry in entries:
        stack = held.setdefault(entry.pair, [])
        if entry.verdict == "undone":
            stack[-1:] = []
        else:
            stack.append(entry)
    return {pair: stack[-1] for pair, stack in held.items() if stack}


class Bindings:
    """What verdicts join and keep apart, by the offers' ids.

    "same" is an equivalence: what is the same as one offer is the same as all that this one is the same as, also where
    the offer between them is gone. Where verdicts contradict each other the newest ones hold.

    Args:
        verdicts: the current ones; "unsure" binds nobody.
        source: where they are from, in words.

    >>> said = [("a", "b", "same"), ("b", "c", "same"), ("a", "c", "different")]
    >>> bindings = Bindings([Verdict(number, "", "", *of) for number, of in enumerate(said, 1)])
    >>> [str(verdict) for verdict in bindings.overruled]
    ['a = b (1)']
    """

    def __init__(self, verdicts: Iterable[Verdict] = (), source: str = "") -> None:
        self.source = source
        self.verdicts: list[Verdict] = []
        """Those that hold, the newest first."""
        self.overruled: list[Verdict] = []
        """Those that contradict newer ones."""
        self._parents: dict[str, str] = {}
        apart: dict[str, set[str]] = {}
        for verdict in sorted(verdicts, key=lambda verdict: -verdict.number):
            if verdict.verdict == "unsure":
                continue
            left, right = self.product(verdict.left), self.product(verdict.right)
            is_same = verdict.verdict == "same"
            if (right in apart.get(left, ())) if is_same else left == right:
                self.overruled.append(verdict)
                continue
            self.verdicts.append(verdict)
            if is_same and left != right:
                self._parents[right] = left
                for other in apart.pop(right, ()):
                    apart[other] = apart[other] - {right} | {left}
                    apart.setdefault(left, set()).add(other)
            elif not is_same:
                apart.setdefault(left, set()).add(right)
                apart.setdefault(right, set()).add(left)
        self.apart = {(one, other) for one, others in apart.items() for other in others}
        """Products that are not the same, each pair in both orders."""

    @classmethod
    def read(cls, path: str | Path) -> Bindings:
        """Of a log that `afmrl serve` writes.

        Raises:
            InputError: it cannot be read.
        """
        return cls(current_verdicts(read_verdicts(Path(path))[0]).values(), str(path))

    @cached_property
    def ids(self) -> set[str]:
        """Offers that a verdict which holds names."""
        return {identifier for verdict in self.verdicts for identifier in verdict.pair}

    def as_rows(self) -> list[list[Any]]:
        """The verdicts that hold, each as its two ids, what it says and its number: for JSON."""
        return [[verdict.left, verdict.right, verdict.verdict, verdict.number] for verdict in self.verdicts]

    def product(self, identifier: str) -> str:
        """The id that stands for all offers that are the same as this one."""
        while (parent := self._parents.get(identifier)) is not None:
            identifier = parent
        return identifier

    def of_offers(self, ids: Sequence[str]) -> Constraints:
        """What binds the offers of a table.

        Args:
            ids: of the offers, in the order of their rows.
        """
        named = self.ids
        rows = {identifier: row for row, identifier in enumerate(ids) if identifier in named}
        first: dict[str, int] = {}
        products = np.arange(len(ids), dtype=np.int64)
        for identifier, row in rows.items():
            products[row] = first.setdefault(self.product(identifier), row)
        apart = {(first[one], first[other]) for one, other in self.apart if one in first and other in first}
        judged = [(rows[v.left], rows[v.right]) for v in self.verdicts if v.left in rows and v.right in rows]
        return Constraints(products, apart, sorted({(min(pair), max(pair)) for pair in judged}), list(rows.values()))

    def summary(self, ids: Collection[str]) -> dict[str, Any]:
        """Counts for summary.json.

        Args:
            ids: of the offers that are matched.
        """
        there = [verdict for verdict in self.verdicts if verdict.left in ids and verdict.right in ids]
        num_same = sum(verdict.verdict == "same" for verdict in there)
        return {
            "from": self.source,
            "same": num_same,
            "different": len(there) - num_same,
            "of_offers_that_are_gone": len(self.verdicts) - len(there),
            "overruled": [str(verdict) for verdict in self.overruled],
        }


def bindings_in_words(summary: Mapping[str, Any]) -> str:
    """One line of what binds, from what `Bindings.summary` gave."""
    bind = summary["same"] + summary["different"]
    line = (
        f"{counted(bind, 'verdict')} of {summary['from']}: {summary['same']:,} same, {summary['different']:,} different"
    )
    if gone := summary["of_offers_that_are_gone"]:
        line += f"; {gone:,} more of offers that are gone"
    if overruled := summary["overruled"]:
        more = ", …" if len(overruled) > SHOWN else ""
        line += f"; {len(overruled):,} overruled by newer ones: {', '.join(overruled[:SHOWN])}{more}"
    return line


@dataclass(frozen=True)
class Constraints:
    """Verdicts as rows of a table.

    Shape:
        products (N,) the first row of what verdicts call the same; an offer that they do not name has its own.
    """

    products: np.ndarray
    apart: set[tuple[int, int]] = field(default_factory=set)
    """Of `products`, in both orders."""
    judged: list[tuple[int, int]] = field(default_factory=list)
    """Pairs of rows that have a verdict, left < right."""
    rows: list[int] = field(default_factory=list)
    """Rows that a verdict names."""

    @cached_property
    def _apart_codes(self) -> np.ndarray:
        count = len(self.products)
        return np.array(sorted(one * count + other for one, other in self.apart), dtype=np.int64)

    def of(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """(P,) int8 of pairs of rows: 1 where verdicts say or imply that they are the same, -1 different, 0 nothing."""
        found = np.zeros(len(left), dtype=np.int8)
        if not self.rows:
            return found
        ours, theirs = self.products[left], self.products[right]
        found[(ours == theirs) & (np.asarray(left) != np.asarray(right))] = 1
        found[np.isin(ours * len(self.products) + theirs, self._apart_codes)] = -1
        return found

    def bound(self, groups: np.ndarray) -> np.ndarray:
        """Groups in which every verdict holds: "same" joins the groups of its two offers, over what keeps them apart.

        Where a verdict keeps apart two offers of groups that others join, the groups come together as far as they may:
        one by one, by first row, and an offer that may not follow its group stays out.

        Args:
            groups: of the model, that already keep apart what verdicts keep apart.

        Shape:
            groups and what returns (N,), the number of a group's first row.
        """
        if not self.rows:
            return groups
        touched = np.flatnonzero(np.isin(groups, groups[self.rows]))
        members: dict[int, list[int]] = {}
        for row in touched.tolist():
            members.setdefault(int(self.products[row]), []).append(row)
        leader = {row: product for product, rows in members.items() for row in rows}
        enemies: dict[int, set[int]] = {product: set() for product in members}
        for one, other in self.apart:
            enemies[one].add(other)
        leaders_of: dict[int, list[int]] = {}
        for row in touched.tolist():
            ours = leader[row]
            known = leaders_of.setdefault(int(groups[row]), [])
            for other_row in known:
                other = leader[other_row]
                if other == ours:
                    break
                if other not in enemies[ours]:
                    _join(other, ours, members, leader, enemies)
                    break
            else:
                known.append(row)
        found = groups.copy()
        for rows in members.values():
            found[rows] = min(rows)
        return found


def _join(
    kept: int, gone: int, members: dict[int, list[int]], leader: dict[int, int], enemies: dict[int, set[int]]
) -> None:
    for row in members[gone]:
        leader[row] = kept
    members[kept] += members.pop(gone)
    for enemy in enemies.pop(gone):
        enemies[enemy].discard(gone)
        enemies[enemy].add(kept)
        enemies[kept].add(enemy)
