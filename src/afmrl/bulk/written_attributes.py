"""Key attributes that were written before: read back all at once, or looked up by the offers' ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from afmrl.attributes.key_attributes import InvalidCompletion, KeyAttributes
from afmrl.bulk.folder import ATTRIBUTES, BulkFolder, key_attributes_of, shard_batches
from afmrl.errors import InputError
from afmrl.files import hash64, parse_json
from afmrl.generator.answers import attributes_of, parse_answer

KEPT_GROUPS = 8  # row groups in memory: offers mostly come in the order in which their attributes were written


def read_key_attributes(path: str | Path) -> dict[str, KeyAttributes]:
    """The valid key attributes of a folder or file, by offer id. An offer without valid attributes is left out.

    Args:
        path: the folder that `afmrl attributes` wrote, or a JSONL file of `id` and either `key_attributes` (or
            `attributes`; an object of key: value) or `completion` (the answer of a model). The first line of an id
            counts.

    Raises:
        InputError: it is neither, a line cannot be read, or the folder is incomplete.
    """
    path = Path(path)
    found: dict[str, KeyAttributes] = {}
    if path.is_dir():
        for batch in BulkFolder.open(path, kind=ATTRIBUTES).batches(["id", "key_attributes", "valid"]):
            columns = batch.column("id").to_pylist(), key_attributes_of(batch), batch.column("valid").to_pylist()
            found.update((identifier, each) for identifier, each, valid in zip(*columns, strict=True) if valid)
        return found
    if not path.is_file():
        raise InputError(f"key attributes {path}: no such file or folder; `afmrl attributes` writes one")
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        for number, line in enumerate(file, 1):
            read = _line(line, f"key attributes {path}:{number}") if line.strip() else None
            if read is not None:
                found.setdefault(*read)
    return found


def _line(line: str, place: str) -> tuple[str, KeyAttributes] | None:
    try:
        row = parse_json(line)
        identifier = str(row["id"])
        pairs = next((row[name] for name in ("key_attributes", "attributes") if row.get(name) is not None), None)
        if pairs is None:
            return identifier, parse_answer(str(row["completion"]))
        if not isinstance(pairs, Mapping):
            raise TypeError("the attributes are not an object of key: value")
        return identifier, attributes_of(pairs)
    except InvalidCompletion:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f'{place}: expected {{"id", "key_attributes"}} or {{"id", "completion"}} ({error})') from error


class WrittenAttributes:
    """Looks up what `afmrl attributes` wrote: 12 bytes an offer in memory, the attributes are read when asked for.

    Fast where offers are asked for in about the order of the folder.

    Args:
        path: the folder.

    Raises:
        InputError: it is not complete, or not one of attributes.
    """

    def __init__(self, path: str | Path) -> None:
        import pyarrow.parquet

        self.folder = BulkFolder.open(path, kind=ATTRIBUTES)
        self._starts: list[int] = []  # first row of each row group
        self._groups: list[tuple[Path, int]] = []
        ids, start = np.empty(len(self.folder), dtype=np.uint64), 0
        for shard in self.folder.manifest["shards"]:
            file = self.folder.path / shard["file"]
            first = start
            for batch in shard_batches(self.folder.path, shard, ["id"]):
                ids[start : start + batch.num_rows] = hash64(batch.column("id").to_pylist())
                start += batch.num_rows
            metadata = pyarrow.parquet.read_metadata(file)
            for group in range(metadata.num_row_groups):
                self._starts.append(first)
                self._groups.append((file, group))
                first += metadata.row_group(group).num_rows
        order = np.argsort(ids)
        self._ids, self._order = ids[order], order.astype(np.uint32)
        self._read = lru_cache(KEPT_GROUPS)(_read_group)

    def lookup(self, ids: Sequence[str], fingerprints: Sequence[str]) -> list[KeyAttributes | None]:
        """The key attributes of offers; None where the folder has none, or wrote them of another content of the row."""
        found: list[KeyAttributes | None] = [None] * len(ids)
        if not len(self._ids):
            return found
        hashes = hash64(ids)
        places = np.minimum(np.searchsorted(self._ids, hashes), len(self._ids) - 1)
        rows = self._order[places].astype(np.int64)
        groups = np.searchsorted(self._starts, rows, side="right") - 1
        known = self._ids[places] == hashes
        for number in np.lexsort((rows, groups)):  # each row group once
            if not known[number]:
                continue
            group = int(groups[number])
            read_ids, prints, attributes = self._read(*self._groups[group])
            at = int(rows[number]) - self._starts[group]
            if read_ids[at] == ids[number] and prints[at] == fingerprints[number]:
                found[number] = KeyAttributes(tuple(attributes[at].as_py() or ()))
        return found


def _read_group(file: Path, group: int) -> tuple[list[str], list[str], list]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(file) as parquet:
            table = parquet.read_row_group(group, columns=["id", "fingerprint", "key_attributes"])
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{file}: is damaged or gone ({error})") from error
    table = table.combine_chunks()
    return table["id"].to_pylist(), table["fingerprint"].to_pylist(), table["key_attributes"]
