"""One pass over the score matrix, block by block: candidates for the best k, and counts for ranks.

BLAS multiplies a block in float32. Of its scores only those near enough to matter (above a query's k-th best so far, or
as high as a relevant offer's, give or take what float32 may err) are computed again by `pair_scores`, and these decide.
So blocks and threads change the time that a search takes and never its result, not even the last bit. Where that would
be most of a block, because k is large or the scores hardly differ, BLAS multiplies it in float64 instead.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from afmrl.errors import InputError
from afmrl.retrieval.scores import Embeddings
from afmrl.terminal import track

BLOCK_ROWS = 512  # queries; BLAS multiplies more no faster
BLOCK_COLUMNS = 4608  # gallery rows; up to 4,096 numpy compares a block with a column at a third of the speed
SCORE_BYTES = 16  # of a block: the float32, a copy of some of its rows, masks of it, places
WIDTH = 6  # times k: candidates of a query that are held; more room, fewer merges
CANDIDATE_BYTES = 40  # the candidate and what merging takes
MIN_FIRST_COLUMNS = 256  # gallery rows
EXACT_SHARE = 1 / 32  # of a block's scores to be computed again, above which float64 is faster
SETTLED_AT_ONCE = 2**17
SERIAL_FLOPS = 1e9  # below it threads cost more than they bring

_one_search = threading.Lock()  # the number of BLAS threads belongs to the whole process


@dataclass(frozen=True)
class Targets:
    """Pairs of query and relevant offer, sorted by query, best first; how many offers come before each."""

    query: np.ndarray
    """(M,) int64, as all but the scores."""
    row: np.ndarray
    score: np.ndarray
    """(M,) float32."""
    slot: np.ndarray
    """0 for the best of its query, then 1, …"""
    before: np.ndarray
    """Filled by `sweep`: offers of a higher score, or of the same and earlier in the gallery."""
    ties: np.ndarray
    """Filled by `sweep`: other offers of the same score."""

    @classmethod
    def of(cls, embeddings: Embeddings, relevant: Sequence[np.ndarray]) -> tuple[Targets, np.ndarray]:
        """The pairs, and the place of each of `np.concatenate(relevant)` among them."""
        lists = [np.asarray(rows, dtype=np.int64).reshape(-1) for rows in relevant]
        if len(lists) != embeddings.num_queries:
            raise InputError(f"search: {len(lists)} lists of relevant offers for {embeddings.num_queries} queries")
        row = np.concatenate([*lists, np.empty(0, np.int64)])
        if len(row) and (row.min() < 0 or row.max() >= embeddings.num_gallery):
            raise InputError(
                f"search: relevant rows {row.min()} to {row.max()}, but the gallery has {embeddings.num_gallery} rows"
            )
        counts = np.array([len(rows) for rows in lists], dtype=np.int64)
        query = np.repeat(np.arange(len(lists)), counts)
        score = embeddings.scores(query, row)
        order = np.lexsort((row, -score, query))
        slot = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        zeros = np.zeros(len(row), dtype=np.int64)
        return cls(query, row[order], score[order], slot, zeros, zeros.copy()), place

    def best(self) -> Targets:
        """The best of each query alone."""
        first = self.slot == 0
        columns = (self.query, self.row, self.score, self.slot, self.before, self.ties)
        return Targets(*(column[first] for column in columns))


class Counter:
    """Counts for the targets of queries `start` to `stop` the offers that come before them."""

    def __init__(self, embeddings: Embeddings, targets: Targets, start: int, stop: int) -> None:
        self.embeddings, self.targets = embeddings, targets
        which = np.arange(*np.searchsorted(targets.query, [start, stop]))
        margin = embeddings.margin[targets.query]
        zero = which[margin[which] == 0]  # every score is 0: nothing to count
        targets.before[zero], targets.ties[zero] = targets.row[zero], embeddings.num_gallery - 1
        which = which[margin[which] > 0]
        self.slots = [which[targets.slot[which] == slot] for slot in range(targets.slot[which].max(initial=-1) + 1)]
        self.lines = targets.query - start
        self.low, self.high = targets.score - margin, targets.score + margin
        self.num_settled = 0

    def see(self, block: np.ndarray, first: int, exact: bool) -> None:
        """Count in a block of scores whose columns start at gallery row `first`."""
        low, high = (self.targets.score, self.targets.score) if exact else (self.low, self.high)
        highest = block.max(axis=1)
        for ours in self.slots:
            reached = ours[highest[self.lines[ours]] >= low[ours]]
            if 2 * len(reached) > len(block) == len(ours):
                part, reached = block, ours  # cheaper than to copy most of it
            else:
                part = block[self.lines[reached]]
            above, reach = part > high[reached, None], part >= low[reached, None]
            num_above, num_reach = row_counts(above), row_counts(reach)
            self.targets.before[reached] += num_above
            if exact:
                self._tie(reached, first, reach ^ above, num_reach - num_above)
            else:
                self._settle(reached, first, reach, above, num_reach - num_above)

    def _tie(self, ours: np.ndarray, first: int, equal: np.ndarray, num_equal: np.ndarray) -> None:
        """Count the offers that have their target's score."""
        of, width = self.targets, equal.shape[1]
        of.ties[ours] += num_equal
        of.before[ours] += np.where(of.row[ours] >= first + width, num_equal, 0)
        for line in np.flatnonzero((first <= of.row[ours]) & (of.row[ours] < first + width)):
            of.ties[ours[line]] -= 1
            of.before[ours[line]] += np.count_nonzero(equal[line, : of.row[ours[line]] - first])

    def _settle(
        self, ours: np.ndarray, first: int, reach: np.ndarray, above: np.ndarray, num_unsure: np.ndarray
    ) -> None:
        """Count the offers that float32 could not tell from their target."""
        of = self.targets
        # a few lines at a time where hardly any scores differ
        for lines in np.array_split(np.flatnonzero(num_unsure), 1 + num_unsure.sum() // SETTLED_AT_ONCE):
            # flat, which numpy searches ten times as fast
            place, column = np.divmod(np.flatnonzero(reach[lines] ^ above[lines]), reach.shape[1])
            target, row = ours[lines][place], first + column
            others = row != of.row[target]  # the target itself is as good as itself
            target, row = target[others], row[others]
            score = self.embeddings.scores(of.query[target], row)
            equal = score == of.score[target]
            np.add.at(of.before, target, (score > of.score[target]) | (equal & (row < of.row[target])))
            np.add.at(of.ties, target, equal)
        self.num_settled += int(num_unsure.sum())


class Best:
    """The best k offers so far of queries `start` to `stop`."""

    def __init__(self, embeddings: Embeddings, k: int, start: int, stop: int) -> None:
        self.embeddings, self.k, self.start = embeddings, k, start
        self.margin = embeddings.margin[start:stop, None]
        self.floor = np.full_like(self.margin, -np.inf)  # what a score has to exceed
        shape = stop - start, min(WIDTH * k, embeddings.num_gallery)
        # candidates of each query in gallery order, then −inf; what BLAS said until `settled`
        self.scores, self.rows = np.full(shape, -np.inf, dtype=np.float32), np.zeros(shape, dtype=np.int64)
        self.settled = np.zeros(shape, dtype=bool)
        self.filled = np.zeros(stop - start, dtype=np.int64)
        self.fresh = False  # candidates since the last merge
        self.num_settled = 0

    def see(self, block: np.ndarray, first: int, exact: bool) -> None:
        """Take the candidates of a block of scores whose columns start at gallery row `first`."""
        passed = block > (self.floor if exact else self.floor - self.margin)
        overflow = np.count_nonzero(passed) > passed.shape[0] * self.scores.shape[1]
        if not overflow:
            places = np.flatnonzero(passed)
            query, column = np.divmod(places, block.shape[1])
            counts = np.bincount(query, minlength=len(block))
            overflow = (self.filled + counts).max() > self.scores.shape[1]
        if overflow:
            if self.fresh:
                self._merge()  # makes room, and raises the floor
                self.see(block, first, exact)
            else:
                half = block.shape[1] // 2
                self.see(block[:, :half], first, exact)
                self.see(block[:, half:], first + half, exact)
            return
        place = self.filled[query] + within(counts)
        self.scores[query, place] = block[query, column]
        self.rows[query, place] = column + first
        self.settled[query, place] = exact
        self.filled += counts
        self.fresh = True

    def _merge(self, last: bool = False) -> None:
        """Keep the candidates that may be among the best k, and of too many the best k alone."""
        width, k = int(self.filled.max()), self.k
        scores = self.scores[:, :width]
        likely = np.arange(width) < self.filled[:, None]
        if width > k:
            # neither the k-th score nor a candidate's is further than the margin from what BLAS said
            self.floor = np.partition(scores, width - k, axis=1)[:, [width - k]] - self.margin
            likely &= scores >= self.floor - self.margin
        self._keep(likely)
        if last or self.filled.max() > 2 * k:
            query, place = np.nonzero((np.arange(width) < self.filled[:, None]) & ~self.settled[:, :width])
            self.scores[query, place] = self.embeddings.scores(self.start + query, self.rows[query, place])
            self.settled[query, place] = True
            self.num_settled += len(query)
            best = np.argsort(-self.scores[:, :width], axis=1, kind="stable")[:, :k]
            chosen = np.zeros((len(best), width), dtype=bool)
            np.put_along_axis(chosen, best, True, axis=1)
            self._keep(chosen)
            if width >= k:
                self.floor = self.scores[:, :k].min(axis=1, keepdims=True)
        self.fresh = False

    def _keep(self, chosen: np.ndarray) -> None:
        """Move the chosen candidates (queries, width) to the front, in order."""
        query, place = np.nonzero(chosen)
        counts = row_counts(chosen)
        width, front = chosen.shape[1], (query, within(counts))
        for column, empty in ((self.scores, -np.inf), (self.rows, 0), (self.settled, False)):
            kept = column[query, place]
            column[:, :width] = empty
            column[front] = kept
        self.filled = counts

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """Scores and gallery rows (queries, k), best first."""
        self._merge(last=True)
        scores, rows = self.scores[:, : self.k], self.rows[:, : self.k]
        best = np.argsort(-scores, axis=1, kind="stable")
        return np.take_along_axis(scores, best, axis=1), np.take_along_axis(rows, best, axis=1)


def sweep(
    embeddings: Embeddings, k: int, targets: Targets | None, block_bytes: int, *, progress: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """The best k ≤ N of every query; counts for the targets, where there are any.

    Shape:
        returns scores (Q, k) float32 and gallery rows (Q, k) int64.
    """
    num_queries, num_gallery = embeddings.num_queries, embeddings.num_gallery
    scores, rows = np.empty((num_queries, k), dtype=np.float32), np.empty((num_queries, k), dtype=np.int64)
    if not num_queries or not num_gallery:
        return scores, rows
    with workers(embeddings) as (num_workers, run):
        at_once, columns = block_shape(embeddings, k, block_bytes // num_workers)
        at_once = min(at_once, -(-num_queries // num_workers))  # few queries: a part for each worker
        # the first block only finds the k-th best to start from
        first = min(columns, max(MIN_FIRST_COLUMNS, WIDTH * k)) if k else columns
        edges = [0, *range(first, num_gallery, columns), num_gallery]

        def search_block(start: int) -> None:
            stop = min(start + at_once, num_queries)
            best = Best(embeddings, k, start, stop) if k else None
            counter = Counter(embeddings, targets, start, stop) if targets else None
            consumers = [consumer for consumer in (best, counter) if consumer]
            memory = np.empty((stop - start) * max(first, columns), dtype=np.float32)
            exact = bool(k)
            for left, right in pairwise(edges):
                block = memory[: (stop - start) * (right - left)].reshape(stop - start, right - left)
                (embeddings.fill_exactly if exact else embeddings.fill)(block, start, left)
                before = sum(consumer.num_settled for consumer in consumers)
                for consumer in consumers:
                    consumer.see(block, left, exact)
                settled = sum(consumer.num_settled for consumer in consumers) - before
                # in the first block every score is a candidate for the best k
                exact = (exact and left > 0) or settled > EXACT_SHARE * block.size or k > EXACT_SHARE * num_gallery
            if best:
                scores[start:stop], rows[start:stop] = best.result()

        starts = range(0, num_queries, at_once)
        for _ in track(run(search_block, starts), "Search", len(starts), show=progress):
            pass
    return scores, rows


def block_shape(embeddings: Embeddings, k: int, num_bytes: int) -> tuple[int, int]:
    """Queries and gallery rows of a block, so that it and its candidates take about `num_bytes`."""
    size = max(64, min(num_bytes // SCORE_BYTES, BLOCK_ROWS * BLOCK_COLUMNS))
    at_once = min(max(size // BLOCK_COLUMNS, 128), size // 8, num_bytes // (WIDTH * CANDIDATE_BYTES * max(k, 1)))
    at_once = max(1, min(at_once, embeddings.num_queries))
    columns = min(size // at_once, embeddings.num_gallery)
    return at_once, max(columns - columns % 8, 8)


@contextmanager
def workers(embeddings: Embeddings) -> Iterator[tuple[int, Callable[..., Iterable[None]]]]:
    """How many threads share the work, each calling a BLAS of one thread, and their `map`."""
    size = embeddings.num_queries * embeddings.num_gallery * embeddings.queries.shape[1]
    if 2.0 * size < SERIAL_FLOPS:
        yield 1, map
        return
    from threadpoolctl import ThreadpoolController

    with _one_search:
        blas = ThreadpoolController().select(user_api="blas")
        allowed = max((library["num_threads"] for library in blas.info()), default=1)
        if allowed == 1 or embeddings.num_queries < 2 * allowed:  # for few queries BLAS shares out the gallery
            yield 1, map
            return
        with blas.limit(limits=1), ThreadPoolExecutor(allowed) as executor:
            yield allowed, executor.map


def row_counts(mask: np.ndarray) -> np.ndarray:
    """(rows,) int64: how many of each row of a C-contiguous mask are True; eight at a time where the width allows."""
    if mask.shape[1] % 8:
        return np.count_nonzero(mask, axis=1)
    return np.bitwise_count(mask.view(np.uint64)).sum(axis=1, dtype=np.int64)


def within(counts: np.ndarray) -> np.ndarray:
    """Numbers each row's entries from 0.

    >>> within(np.array([2, 0, 3])).tolist()
    [0, 1, 0, 1, 2]
    """
    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
