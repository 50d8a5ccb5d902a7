"""Which pair of a match a reviewer should judge next, and what the verdicts so far say of its precision."""

from __future__ import annotations

import heapq
import json
import random
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from afmrl.errors import InputError
from afmrl.matching.output import GROUPS_FILE, PAIRS_FILE
from afmrl.matching.probability import wilson
from afmrl.matching.verdicts import Pair
from afmrl.retrieval.interval import Interval
from afmrl.serving.verdicts import VerdictLog

MOST_DOUBTFUL, MOST_DRAWN = 5_000, 1_000
DRAWN_EVERY = 4
"""One pair in so many is drawn at random."""
LOOK_SECONDS = 60.0
"""After which all offers are looked for again, to count the pairs that are left."""


@dataclass(frozen=True)
class ReviewPair:
    """A pair that `afmrl match` listed."""

    left: str
    right: str
    probability: float
    same: bool
    reasons: Mapping[str, Any]

    @property
    def pair(self) -> Pair:
        """The two ids, the smaller one first."""
        return (self.left, self.right) if self.left <= self.right else (self.right, self.left)


class ReviewQueue:
    """The pairs of a folder that `afmrl match` wrote, in the order in which they should be judged.

    The most doubtful pairs come first, those of large groups before those of small ones. Every fourth pair comes from a
    list of those that the match calls the same product, in random order: the share of right ones at its beginning is
    the match's precision.

    Args:
        folder: of the match.
        there: those of some ids whose offers are in the index; pairs of others are passed over.

    Raises:
        InputError: it is none.
    """

    def __init__(self, folder: Path, there: Callable[[Collection[str]], set[str]]) -> None:
        self.log, self._there = VerdictLog(folder), there
        self._gone: set[str] = set()
        self._look_again = 0.0
        try:
            sizes = {str(group["group"]): len(group["offers"]) for group in _lines(folder / GROUPS_FILE)}
            self._doubtful, self._drawn = _chosen(folder / PAIRS_FILE, sizes)
            written = datetime.fromtimestamp((folder / PAIRS_FILE).stat().st_mtime, UTC).isoformat(timespec="seconds")
        except (OSError, ValueError, KeyError, TypeError) as error:
            self.log.close()
            raise InputError(f"{folder}: cannot be read as a match; give a folder that `afmrl match` wrote") from error

        # the match may have learned from them as labels
        self._earlier = {pair for pair, held in self.log.current().items() if held.when < written}

    def next(self, skipped: Collection[Pair] = ()) -> ReviewPair | None:
        """The next pair without a verdict; None: all are judged, or skipped."""
        known = self.log.current()
        kinds = [self._doubtful, self._drawn]
        for kind in kinds[::-1] if len(known) % DRAWN_EVERY == DRAWN_EVERY - 1 else kinds:
            for one in kind:
                if one.pair not in known and one.pair not in skipped and self._is_there(one.pair):
                    return one
        return None

    def num_left(self) -> int:
        """Pairs that nobody has judged yet, and whose offers are still there."""
        left = {one.pair for one in (*self._doubtful, *self._drawn)} - self.log.current().keys()
        if time.monotonic() >= self._look_again:
            names = {name for pair in left for name in pair}
            self._gone = names - self._there(names)
            self._look_again = time.monotonic() + LOOK_SECONDS
        return sum(self._gone.isdisjoint(pair) for pair in left)

    def _is_there(self, pair: Pair) -> bool:
        return self._there(pair).issuperset(pair)

    def precision(self) -> tuple[int, Interval]:
        """How many pairs tell the precision, and the share of them that are the same product, with its 95 % interval.

        They are the judged beginning of the random list, whyever they were judged: only that is a fair sample. Pairs
        that were judged before the match was written are left out, and "unsure" counts as no judgment.
        """
        known, judged = self.log.current(), []
        for one in self._drawn:
            if one.pair in self._earlier:
                continue
            if one.pair in known:
                judged.append(known[one.pair].verdict)
            elif self._is_there(one.pair):
                break
        sure = [verdict for verdict in judged if verdict != "unsure"]
        return len(sure), wilson(sure.count("same"), len(sure))


def _chosen(path: Path, sizes: Mapping[str, int]) -> tuple[list[ReviewPair], list[ReviewPair]]:
    """The most doubtful pairs, and a random sample of those called the same; the memory does not grow with the file."""
    doubtful: list[tuple[float, int, ReviewPair]] = []
    drawn: list[ReviewPair] = []
    generator, num_same = random.Random(0), 0
    for number, row in enumerate(_lines(path)):
        left, right, probability = str(row["left"]), str(row["right"]), float(row["probability"])
        pair = ReviewPair(left, right, probability, bool(row["same"]), row["reasons"])
        size = max(sizes.get(str(row[side]), 1) for side in ("left_group", "right_group"))
        ranked = (probability * (1 - probability) * size, -number, pair)
        heapq.heappush(doubtful, ranked) if len(doubtful) < MOST_DOUBTFUL else heapq.heappushpop(doubtful, ranked)
        if pair.same:
            num_same += 1
            if len(drawn) < MOST_DRAWN:
                drawn.append(pair)
            elif (place := generator.randrange(num_same)) < MOST_DRAWN:
                drawn[place] = pair
    generator.shuffle(drawn)
    return [pair for _, _, pair in sorted(doubtful, reverse=True)], drawn


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with open(path, encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)
