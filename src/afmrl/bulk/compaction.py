"""The shards of a complete run: those with outdated rows, and those that are too small, are rewritten."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from afmrl.bulk.folder import shard_batches
from afmrl.bulk.shards import ShardWriter

if TYPE_CHECKING:
    import pyarrow


def compact(
    folder: Path,
    shards: list[dict[str, Any]],
    live: np.ndarray,
    names: Iterator[str],
    schema: pyarrow.Schema,
    *,
    shard_rows: int,
) -> list[dict[str, Any]]:
    """Rewrite shards with superseded or removed rows, and join small ones; the old files stay.

    A shard stays as it is when all its rows hold and it is at least half full, or has no neighbor to join.

    Args:
        live: which rows hold, over all shards.

    Shape:
        live: (N,) bool.

    Returns:
        entries of the manifest, in the order of the rows.
    """
    result: list[dict[str, Any]] = []
    waiting: list[tuple[dict[str, Any], np.ndarray]] = []
    start = 0
    for shard in shards:
        holds = live[start : start + shard["rows"]]
        start += shard["rows"]
        if not holds.any():
            continue
        if holds.all() and 2 * shard["rows"] >= shard_rows:
            _join(folder, waiting, names, schema, shard_rows, result)
            result.append(shard)
        else:
            waiting.append((shard, holds))
    _join(folder, waiting, names, schema, shard_rows, result)
    return result


def _join(
    folder: Path,
    waiting: list[tuple[dict[str, Any], np.ndarray]],
    names: Iterator[str],
    schema: pyarrow.Schema,
    shard_rows: int,
    result: list[dict[str, Any]],
) -> None:
    import pyarrow

    if len(waiting) == 1 and waiting[0][1].all():
        result.append(waiting[0][0])
    elif waiting:
        writer = ShardWriter(folder, schema, names, shard_rows=shard_rows, save_seconds=None, saved=result.append)
        try:
            for shard, holds in waiting:
                start = 0
                for batch in shard_batches(folder, shard):
                    mask = pyarrow.array(holds[start : start + batch.num_rows])
                    start += batch.num_rows
                    writer.add(batch.filter(mask))
            writer.close()
        except BaseException:
            writer.abandon()
            raise
    waiting.clear()
