"""The HNSW graph of the local index (Malkov & Yashunin 2018), by faiss: candidates that are then scored exactly."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from afmrl.data.damage import checksum, damage
from afmrl.errors import InputError
from afmrl.index.local.codes import decode
from afmrl.index.local.segment import Segment, damaged
from afmrl.index.local.version import GraphEntry
from afmrl.retrieval.exact import top_k
from afmrl.retrieval.scores import pair_scores
from afmrl.terminal import track

LINKS = 16  # of a row in each layer but the lowest, which has twice as many
BUILD_WIDTH = 100
WIDTHS = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096)
RECALL = 0.99
"""Of the 10 nearest, on the rows' own embeddings: the width is the least that reaches it."""
SAMPLE = 256  # rows that are searched for to choose the width
FILTERED_SAMPLE = 64  # the same for a filter, whose first search waits for it
COMPARED = 65_536  # rows that are compared with the sample at a time
TRAINED = 65_536  # rows whose range each dimension's byte covers
ADDED = 16_384  # rows put in between two moves of the bar
CHUNK = 32  # queries that a thread searches at a time


class Graph:
    """A graph over the rows of one segment. It holds a byte a number; what it finds is scored by the segment.

    Args:
        index: of faiss.
        entry: what the version says of its file; None before it is written.
        width: candidates that a search keeps in view (efSearch).
        recall: what was measured at that width.
    """

    def __init__(self, index: Any, entry: GraphEntry | None, width: int, recall: float) -> None:
        self.index, self.entry, self.width, self.recall = index, entry, width, recall
        self._path: Path | None = None
        self._faiss = import_faiss()
        self._threads = int(self._faiss.omp_get_max_threads())

    @classmethod
    def build(cls, segment: Segment, *, progress: bool = False) -> Graph:
        """A graph over all rows of a segment."""
        faiss = import_faiss()
        index = faiss.IndexHNSWSQ(
            segment.codes.shape[1], faiss.ScalarQuantizer.QT_8bit, LINKS, faiss.METRIC_INNER_PRODUCT
        )
        index.hnsw.efConstruction = BUILD_WIDTH
        step = max(1, segment.num_rows // TRAINED)
        index.train(segment.embeddings(slice(0, None, step)))
        return cls._filled(index, segment, progress)

    def extended(self, segment: Segment, *, progress: bool = False) -> Graph:
        """The graph with the rows of a segment that begins with the graph's own."""
        index = self.index
        if self._path is not None:
            index = import_faiss().read_index(str(self._path))  # what is mapped cannot grow
        index.hnsw.efConstruction = BUILD_WIDTH
        return self._filled(index, segment, progress)

    @classmethod
    def _filled(cls, index: Any, segment: Segment, progress: bool) -> Graph:
        starts = range(index.ntotal, segment.num_rows, ADDED)
        for start in track(starts, "Graph", show=progress):
            index.add(segment.embeddings(slice(start, min(start + ADDED, segment.num_rows))))
        graph = cls(index, None, WIDTHS[0], 0.0)
        graph._choose_width(segment)
        return graph

    def _choose_width(self, segment: Segment) -> None:
        rows = np.unique(np.linspace(0, segment.num_rows - 1, SAMPLE).astype(np.int64))
        self.width, self.recall = self._least_width(segment, rows, None, WIDTHS)

    def filtered_width(self, segment: Segment, allowed: np.ndarray, widest: float) -> int:
        """The width that a search needs among the rows that pass a filter, which may be far apart from each other.

        Args:
            allowed: (n,) bool: which rows pass.
            widest: widths above it are not tried.

        Returns:
            the least width found that reaches `RECALL`; 0: none does.
        """
        widths = [width for width in WIDTHS if self.width <= width <= widest]
        if not widths:
            return 0
        rows = np.unique(np.linspace(0, segment.num_rows - 1, FILTERED_SAMPLE).astype(np.int64))
        width, recall = self._least_width(segment, rows, allowed, widths)
        return width if recall >= RECALL else 0

    def _least_width(
        self, segment: Segment, rows: np.ndarray, allowed: np.ndarray | None, widths: Sequence[int]
    ) -> tuple[int, float]:
        """The first width by which enough of the 10 rows nearest to each of some rows are found, and their share."""
        queries = segment.embeddings(rows)
        nearest = _nearest(segment, queries, 11, allowed)  # a row finds itself
        bits = None if allowed is None else np.packbits(allowed, bitorder="little")
        others = nearest != rows[:, None]
        width, recall = 0, 0.0
        for width in widths:
            _, found = self.search(queries, nearest.shape[1], segment, allowed=bits, width=width)
            hits = (found[:, None, :] == nearest[:, :, None]).any(axis=2) & others
            recall = float(hits.sum() / max(others.sum(), 1))
            if recall >= RECALL:
                break
        return width, recall

    @classmethod
    def open(cls, path: Path, entry: GraphEntry) -> Graph:
        """Map a graph's file.

        Raises:
            FileNotFoundError: it is not there (any more).
            InputError: it is damaged, or faiss is not installed.
        """
        if found := damage(path, entry):
            raise damaged(path, found)
        faiss = import_faiss()
        try:
            index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
        except RuntimeError as error:
            path.stat()  # it may have been removed meanwhile
            raise damaged(path, str(error).splitlines()[0][:200]) from error
        graph = cls(index, entry, int(entry["width"]), float(entry["recall"]))
        graph._path = path
        return graph

    def write(self, path: Path) -> GraphEntry:
        """Write the file; returns, and remembers, what the version says of it."""
        try:
            import_faiss().write_index(self.index, str(path))
        except RuntimeError as error:  # faiss names the system's reason in its text alone
            number = errno.ENOSPC if os.strerror(errno.ENOSPC) in str(error) else errno.EIO
            raise OSError(number, os.strerror(number), str(path)) from error
        self.entry = {
            "file": path.name, "bytes": path.stat().st_size, "crc32": checksum(path), "width": self.width,
            "recall": round(self.recall, 4), "links": LINKS,
        }  # fmt: skip
        self._path = path
        return self.entry

    def search(
        self, queries: np.ndarray, k: int, segment: Segment, *, allowed: np.ndarray | None = None, width: int = 0
    ) -> tuple[np.ndarray, np.ndarray]:
        """The best rows found, as the segment scores them; at least k candidates are scored.

        Args:
            allowed: (n,) bits, the lowest first: rows that may be found; None: all.
            width: 0: the one chosen when the graph was built.

        Shape:
            queries (Q, D); returns scores (Q, C) float32, best first, and rows (Q, C) int64, then -1 and -inf.
        """
        wanted = min(2 * k, k + 32)
        faiss = self._faiss
        options: dict[str, Any] = {"efSearch": max(width or self.width, wanted)}
        if allowed is not None:
            options["sel"] = faiss.IDSelectorBitmap(allowed)
        parameters = faiss.SearchParametersHNSW(**options)
        if len(queries) < 2 * CHUNK or self._threads == 1:
            return self._candidates(queries, wanted, parameters, segment)

        def of_chunk(start: int) -> tuple[np.ndarray, np.ndarray]:
            faiss.omp_set_num_threads(1)  # of this thread alone
            return self._candidates(queries[start : start + CHUNK], wanted, parameters, segment)

        # faiss would search on all threads, and leave the scoring to one
        with ThreadPoolExecutor(self._threads) as executor:
            parts = list(executor.map(of_chunk, range(0, len(queries), CHUNK)))
        return np.concatenate([scores for scores, _ in parts]), np.concatenate([rows for _, rows in parts])

    def _candidates(
        self, queries: np.ndarray, wanted: int, parameters: Any, segment: Segment
    ) -> tuple[np.ndarray, np.ndarray]:
        _, rows = self.index.search(queries, wanted, params=parameters)
        flat = np.maximum(rows, 0).ravel()
        query_rows = np.repeat(np.arange(len(rows)), wanted)
        if segment.scales is None:
            scores = pair_scores(queries, segment.codes, query_rows, flat).reshape(rows.shape)
        else:
            embeddings = decode(segment.codes[flat], segment.scales[flat])
            scores = pair_scores(queries, embeddings, query_rows, np.arange(len(flat))).reshape(rows.shape)
        scores[rows < 0] = -np.inf
        return scores, rows


def import_faiss() -> Any:
    """The module.

    Raises:
        InputError: it is not installed.
    """
    try:
        import faiss
    except ImportError as error:
        raise InputError(
            'index: a large index needs faiss: pip install "afmrl[ann]"; or compare all rows, with a larger '
            "--exact-below"
        ) from error
    return faiss


def _nearest(segment: Segment, queries: np.ndarray, k: int, allowed: np.ndarray | None) -> np.ndarray:
    """(Q, k) the rows of highest score among those allowed, by comparing them all."""
    passing = np.arange(segment.num_rows) if allowed is None else np.flatnonzero(allowed)
    best = np.empty((len(queries), 0), np.int64)
    values = np.empty((len(queries), 0), np.float32)
    for start in range(0, len(passing), COMPARED):
        rows = passing[start : start + COMPARED]
        scores, places = top_k(queries, segment.embeddings(rows), k)
        values, best = np.concatenate([values, scores], axis=1), np.concatenate([best, rows[places]], axis=1)
        kept = np.argsort(-values, axis=1, kind="stable")[:, :k]
        values, best = np.take_along_axis(values, kept, 1), np.take_along_axis(best, kept, 1)
    return best
