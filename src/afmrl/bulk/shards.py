"""Shards: Parquet files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from afmrl.data.damage import checksum
from afmrl.files import PendingFile

if TYPE_CHECKING:
    import pyarrow

GROUP_ROWS, GROUP_BYTES = 8192, 32_000_000  # of a row group: what the writer holds in memory


class ShardWriter:
    """Writes rows to shards: each under a temporary name, synced, then renamed.

    Args:
        folder: where the shards go.
        schema: of the rows.
        names: the files' names, one after the other.
        shard_rows: rows of a shard.
        save_seconds: a shard is closed after so much time, however many rows it has; None: never.
        saved: called with each shard's entry of the manifest once it is safe on disk.
    """

    def __init__(
        self,
        folder: Path,
        schema: pyarrow.Schema,
        names: Iterator[str],
        *,
        shard_rows: int,
        save_seconds: float | None,
        saved: Callable[[dict[str, Any]], None],
    ) -> None:
        self.folder, self.schema, self.names = folder, schema, names
        self.shard_rows, self.save_seconds, self.saved = shard_rows, save_seconds, saved
        self._file: PendingFile | None = None
        self._writer: Any = None
        self._rows = 0  # of the open shard, those that wait included
        self._opened = 0.0
        self._waiting: list[pyarrow.RecordBatch] = []  # for the row group to be full

    def add(self, rows: pyarrow.RecordBatch) -> None:
        """Add rows; those beyond a shard's end begin the next one."""
        while rows.num_rows:
            if not self._rows:
                self._opened = time.monotonic()
            fitting = rows.slice(0, self.shard_rows - self._rows)
            rows = rows.slice(fitting.num_rows)
            self._waiting.append(fitting)
            self._rows += fitting.num_rows
            if sum(batch.num_rows for batch in self._waiting) >= GROUP_ROWS or self._waiting_bytes() >= GROUP_BYTES:
                self._write_group()
            if self._rows >= self.shard_rows:
                self.close()
        late = self.save_seconds is not None and time.monotonic() - self._opened >= self.save_seconds
        if self._rows and late:
            self.close()

    def close(self) -> None:
        """Finish the open shard, if there is one."""
        if not self._rows:
            return
        self._write_group()
        assert self._file is not None
        self._writer.close()
        size = self._file.file.tell()
        self._file.publish()
        path = self._file.path
        entry = {"file": path.name, "rows": self._rows, "bytes": size, "crc32": checksum(path)}
        self._file, self._writer, self._rows = None, None, 0
        self.saved(entry)

    def abandon(self) -> None:
        """Drop the open shard: its rows are not written."""
        if self._file is not None:
            with contextlib.suppress(Exception):  # what it would still write has no room either
                self._writer.close()
            self._file.discard()
        self._file, self._writer, self._rows, self._waiting = None, None, 0, []

    def _waiting_bytes(self) -> int:
        return sum(batch.nbytes for batch in self._waiting)

    def _write_group(self) -> None:
        import pyarrow
        import pyarrow.parquet

        if not self._waiting:
            return
        if self._writer is None:
            # a file of our own: it can be synced, and a full disk comes as the OSError that it is
            self._file = PendingFile(self.folder / next(self.names), "wb")
            self._writer = pyarrow.parquet.ParquetWriter(
                self._file.file,
                self.schema,
                compression="zstd",
                use_dictionary=[name for name in ("category", "seller", "model") if name in self.schema.names],
            )
        self._writer.write_table(pyarrow.Table.from_batches(self._waiting, self.schema))
        self._waiting = []
