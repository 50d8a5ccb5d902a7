"""A version of the local index: the manifest that names its files, and the pointer that is replaced to make it so."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from afmrl.errors import InputError
from afmrl.files import remove, write_json

POINTER = "index.json"
LOCK = "lock"
SEGMENTS, DEAD, GRAPHS = "segments", "dead", "graphs"
FORMAT, FORMAT_VERSION = "afmrl-index", 1


@dataclass(frozen=True)
class Version:
    """What one version of a local index is made of. Files are named by their folder and name, and never changed."""

    dimension: int
    settings: dict[str, Any]
    sequence: int = 0
    """Counts the versions."""
    rows: int = 0
    """Living ones."""
    next_order: int = 0
    """Number of the next row in the order of insertion."""
    segments: list[dict[str, Any]] = field(default_factory=list)
    """Of each its "name", "rows", "files"; "dead", where rows of it are dead: "file", "rows", "bytes", "crc32"."""
    graph: dict[str, Any] | None = None
    """Of the first segment's rows, where there is one: "file", "bytes", "crc32", "width", "recall"."""
    written: str = ""
    """When, in UTC."""

    def write(self, folder: Path) -> None:
        """Make this the index's version: from here on, and not a moment earlier, readers see it."""
        written = datetime.now(UTC).isoformat(timespec="seconds")
        content = {"format": FORMAT, "version": FORMAT_VERSION, **asdict(self), "written": written}
        write_json(folder / POINTER, content)

    @classmethod
    def read(cls, folder: Path) -> Version:
        """The last complete version.

        Raises:
            InputError: no index is here, or its pointer is damaged or of a later format.
        """
        try:
            content = json.loads((folder / POINTER).read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise InputError(
                f"index {folder}: no index is here; `afmrl index EMBEDDINGS --out {folder}` makes one"
            ) from error
        except ValueError as error:
            raise InputError(f"index: {folder / POINTER}: is not JSON ({error}); make the index again") from error
        if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
            raise InputError(f"index {folder}: {POINTER} was not written by `afmrl index`; give another folder")
        if (found := content.pop("version", None)) != FORMAT_VERSION:
            raise InputError(f"index {folder}: is of format {found}, this release reads {FORMAT_VERSION}")
        try:
            return cls(**content)
        except TypeError as error:
            raise InputError(f"index: {folder / POINTER}: is damaged ({error}); make the index again") from error

    def files(self) -> set[str]:
        """Names below the index's folder that this version needs."""
        named = {f"{SEGMENTS}/{entry['name']}" for entry in self.segments}
        named |= {f"{DEAD}/{entry['dead']['file']}" for entry in self.segments if entry.get("dead")}
        return named | ({f"{GRAPHS}/{self.graph['file']}"} if self.graph else set())

    def remove_others(self, folder: Path) -> None:
        """Remove what no version needs: earlier ones' files, and what a killed writer left."""
        needed = self.files()
        for room in (SEGMENTS, DEAD, GRAPHS):
            for path in (folder / room).glob("*"):
                if f"{room}/{path.name}" not in needed:
                    remove(path)


def pointer_state(pointer: str) -> tuple[int, int, int]:
    """Changes with every version; cheaper than reading the pointer."""
    try:
        status = os.stat(pointer)
    except OSError:
        return (0, 0, 0)
    return (status.st_ino, status.st_mtime_ns, status.st_size)
