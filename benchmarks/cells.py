"""The cells of a benchmark: one Parquet file, one row per cell.

A cell is one measurement: its key (arm and seed, say) and a record. Columns of the file: those of the key; `record`,
the record as JSON; and one list column for each array in the record, named by its path: `ranks`, `ranks/abt_buy/dense`.
Each cell is written as soon as it is measured, so a run that was stopped continues after the cells it has. Several
processes may write cells of one file at once.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from afmrl.errors import InputError
from afmrl.files import atomic_write, exclusive_lock

Key = tuple[str | int, ...]
RECORD = "record"
SEPARATOR = "/"


class Cells:
    """A benchmark's cells, on disk.

    Args:
        path: the Parquet file; it need not exist yet.
        names: what the parts of a key are called; one column each.
    """

    def __init__(self, path: str | Path, *names: str) -> None:
        self.path = Path(path)
        self.names = names

    def keys(self) -> list[Key]:
        """The keys of all cells, in order."""
        return [] if (table := self._read()) is None else _keys(table.select(list(self.names)))

    def get(self, key: Sequence[str | int]) -> dict[str, Any] | None:
        """One cell's record, with the parts of its key; None if it is not there."""
        if (table := self._read()) is None:
            return None
        found = _records(table.filter(_is(table, self.names, key)), self.names)
        return found[0] if found else None

    def all(self) -> list[dict[str, Any]]:
        """The records of all cells, with the parts of their keys, in the order of the keys."""
        return [] if (table := self._read()) is None else _records(table, self.names)

    def put(self, key: Sequence[str | int], record: dict[str, Any]) -> None:
        """Add a cell, or replace it. It is on disk when this returns.

        Args:
            record: what JSON can hold, in dicts that may also hold integer and floating-point arrays of one dimension.
        """
        row = _row(self.names, key, record)
        with self._locked():
            if (table := self._read()) is not None:
                others = table.filter(~_is(table, self.names, key))
                row = pa.concat_tables([others, row], promote_options="default")
            with atomic_write(self.path, "wb") as file:
                _write(row.sort_by([(name, "ascending") for name in self.names]), self.names, file)

    def _read(self) -> pa.Table | None:
        if not self.path.is_file():
            return None
        with open(self.path, "rb") as file:  # opened once: another process may put a new file in its place meanwhile
            table = pq.ParquetFile(file).read()
        if missing := [name for name in (*self.names, RECORD) if name not in table.column_names]:
            raise SystemExit(f"{self.path}: has no column {missing[0]!r}; these are not cells of this benchmark")
        return table

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Wait until no other process writes cells."""
        with contextlib.ExitStack() as stack:
            while True:
                try:
                    stack.enter_context(exclusive_lock(self.path.with_name(self.path.name + ".lock"), str(self.path)))
                    break
                except InputError:
                    time.sleep(0.05)
            yield


def _is(table: pa.Table, names: Sequence[str], key: Sequence[str | int]) -> np.ndarray:
    """Whether a row is the cell of a key, (N,)."""
    same = [pc.equal(table[name], part).to_numpy() for name, part in zip(names, key, strict=True)]
    return np.logical_and.reduce(same)


def _keys(table: pa.Table) -> list[Key]:
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True))


def _row(names: Sequence[str], key: Sequence[str | int], record: dict[str, Any]) -> pa.Table:
    arrays: dict[str, np.ndarray] = {}
    plain = _without_arrays({name: value for name, value in record.items() if name not in names}, (), arrays)
    columns: dict[str, pa.Array] = {name: pa.array([part]) for name, part in zip(names, key, strict=True)}
    columns[RECORD] = pa.array([json.dumps(plain, ensure_ascii=False)])
    for path, values in arrays.items():
        number = pa.float64() if values.dtype.kind == "f" else pa.int32()
        columns[path] = pa.array([values], type=pa.list_(number))
    return pa.table(columns)


def _without_arrays(value: dict[str, Any], path: tuple[str, ...], arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for name, inner in value.items():
        here = (*path, name)
        if isinstance(inner, np.ndarray):
            if any(SEPARATOR in part for part in here) or here == (RECORD,):
                raise ValueError(f"an array at {here}: its name may neither hold {SEPARATOR!r} nor be {RECORD!r}")
            arrays[SEPARATOR.join(here)] = inner
        else:
            plain[name] = _without_arrays(inner, here, arrays) if isinstance(inner, dict) else inner
    return plain


def _records(table: pa.Table, names: Sequence[str]) -> list[dict[str, Any]]:
    keys = _keys(table.select(list(names)))
    found = [
        {**dict(zip(names, key, strict=True)), **json.loads(text)}
        for key, text in zip(keys, table[RECORD].to_pylist(), strict=True)
    ]
    for path in table.column_names:
        if path in (*names, RECORD):
            continue
        *folders, last = path.split(SEPARATOR)
        for record, values in zip(found, table[path], strict=True):
            if values.is_valid:
                inner = record
                for folder in folders:
                    inner = inner.setdefault(folder, {})
                inner[last] = values.values.to_numpy()
    return found


def _write(table: pa.Table, names: Sequence[str], file: Any) -> None:
    """As small as can be: bytes of one weight lie together, in large pages, or ranks take a quarter more."""
    lists = [f"{name}.list.element" for name in table.column_names if name not in (*names, RECORD)]
    pq.write_table(
        table,
        file,
        compression="zstd",
        compression_level=19,
        use_dictionary=list(names),
        use_byte_stream_split=lists,
        data_page_size=1 << 24,
    )
