"""A folder while a run writes it: the manifest, the journal of a run that is not complete, and one writer at a time."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from afmrl.bulk.fingerprints import row_checks
from afmrl.bulk.folder import COMMAND, MANIFEST, SHARD, VERSION, check_shard, read_manifest, shard_batches, shard_faults
from afmrl.bulk.known_rows import KnownRows
from afmrl.errors import InputError
from afmrl.files import TEMPORARY, exclusive_lock, hash64, read_object, unsealed, write_sealed

JOURNAL = "journal.json"
LOCK = ".lock"
IMAGES = "images"
_SHARD_FILE = re.compile(rf"{SHARD.pattern}({re.escape(TEMPORARY)})?")


class FolderState:
    """The shards of a folder: those of the last complete run, and those that a run added since.

    A reader sees the manifest's alone. The journal lists the new ones; it counts only while it names the manifest
    that it was begun on, so that replacing the manifest is the one moment at which a run is complete.

    Args:
        path: the folder; made if missing.
        kind: EMBEDDINGS or ATTRIBUTES.

    Raises:
        InputError: the folder holds something else, is damaged, or is being written.
    """

    def __init__(self, path: Path, kind: str) -> None:
        self.path = path
        self._lock = contextlib.ExitStack()
        self._lock.enter_context(exclusive_lock(path / LOCK, str(path)))
        try:
            if not (path / MANIFEST).exists():
                foreign = sorted({entry.name for entry in path.iterdir()} - {LOCK, MANIFEST + TEMPORARY, IMAGES})
                if foreign:
                    raise InputError(
                        f"{path}: is not empty ({foreign[0]}) and not a folder of `{COMMAND[kind]}`; give another --out"
                    )
                empty = {"format": kind, "version": VERSION, "complete": False, "generation": 0, "shards": []}
                write_sealed(path / MANIFEST, {**empty, "rows": 0, "quarantined": 0})
            self.manifest = read_manifest(path)
            if self.manifest["format"] != kind:
                raise InputError(f"{path}: was written by `{COMMAND[self.manifest['format']]}`; give another --out")
            self.added: list[dict[str, Any]] = self._journal()
            self._remove_unlisted()
            for shard in self.shards:
                check_shard(path, shard)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let others write."""
        self._lock.close()

    @property
    def shards(self) -> list[dict[str, Any]]:
        """All shards: the manifest's, then the journal's."""
        return [*self.manifest["shards"], *self.added]

    def names(self) -> Iterator[str]:
        """Names for new shards."""
        used = [int(match[1]) for shard in self.shards if (match := SHARD.fullmatch(shard["file"]))]
        number = max(used, default=-1) + 1
        while True:
            yield f"part-{number:05d}.parquet"
            number += 1

    def add(self, shard: dict[str, Any]) -> None:
        """Note a shard that is safe on disk."""
        self.added.append(shard)
        write_sealed(self.path / JOURNAL, {"begun_on": self.manifest["generation"], "shards": self.added})

    def known_rows(self, work: str) -> KnownRows:
        """The rows of all shards.

        Args:
            work: fingerprint of the work: rows of another one have changed, whatever they hold.
        """
        count = sum(shard["rows"] for shard in self.shards)
        ids, checks, start = np.empty(count, dtype=np.uint64), np.empty(count, dtype=np.uint64), 0
        for shard in self.shards:
            first = start
            for batch in shard_batches(self.path, shard, ["id", "fingerprint", "model"]):
                stop = start + batch.num_rows
                columns = [batch.column(name).to_pylist() for name in ("id", "fingerprint", "model")]
                if stop <= count:
                    ids[start:stop], checks[start:stop] = hash64(columns[0]), row_checks(columns[1], columns[2])
                start = stop
            if start - first != shard["rows"]:
                raise InputError(f"{self.path / shard['file']}: holds {start - first} rows, listed are {shard['rows']}")
        return KnownRows(ids, checks)

    def complete(self, shards: list[dict[str, Any]], content: dict[str, Any]) -> None:
        """Replace the manifest, then remove what it no longer lists."""
        manifest = {
            "format": self.manifest["format"],
            "version": VERSION,
            "complete": True,
            "generation": self.manifest["generation"] + 1,
            **content,
            "rows": sum(shard["rows"] for shard in shards),
            "shards": shards,
        }
        write_sealed(self.path / MANIFEST, manifest)
        self.manifest, self.added = manifest, []
        (self.path / JOURNAL).unlink(missing_ok=True)
        self._remove_unlisted()

    def _journal(self) -> list[dict[str, Any]]:
        path = self.path / JOURNAL
        if not path.is_file():
            return []
        try:
            journal = unsealed(read_object(path))
            if faults := shard_faults(journal.get("shards")):
                raise ValueError(faults[0])
            return journal["shards"] if journal["begun_on"] == self.manifest["generation"] else []
        except (OSError, ValueError, KeyError) as error:
            raise InputError(
                f"{path}: cannot be read ({error}); remove it to begin on the last complete run"
            ) from error

    def _remove_unlisted(self) -> None:
        """What a stopped run left: half shards, and whole ones that no list names."""
        listed = {shard["file"] for shard in self.shards}
        for path in self.path.iterdir():
            if _SHARD_FILE.fullmatch(path.name) and path.name not in listed:
                path.unlink()
