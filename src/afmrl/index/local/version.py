"""A version of the local index: the manifest that names its files, and the pointer that is replaced to make it so."""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, ClassVar, NotRequired

from annotated_types import Ge, Predicate
from typing_extensions import TypedDict

from afmrl.data.damage import other_format
from afmrl.errors import InputError
from afmrl.files import read_object, remove, unsealed, write_sealed

POINTER = "index.json"
LOCK = "lock"
SEGMENTS, DEAD, GRAPHS = "segments", "dead", "graphs"
FORMAT, FORMAT_VERSION = "afmrl-index", 1


Count = Annotated[int, Ge(0)]
Name = Annotated[str, Predicate(lambda name: bool(re.fullmatch(r"[0-9]{6}[0-9-]*", name)))]
"""Of a file or folder that a writer made: digits, so that it leads nowhere else."""


class FileFacts(TypedDict):
    """What a file must be like."""

    bytes: Count
    crc32: Count


class DeadEntry(FileFacts):
    """A segment's dead rows, a bit a row."""

    file: Name
    rows: Count


class SegmentEntry(TypedDict):
    """A segment; the names of its files are those that `afmrl.index.local.segment` writes."""

    name: Name
    rows: Count
    files: dict[Annotated[str, Predicate(lambda name: bool(re.fullmatch(r"[a-z0-9_]+\.[a-z]+", name)))], FileFacts]
    dead: NotRequired[DeadEntry | None]


class GraphEntry(FileFacts):
    """A graph over a segment's rows."""

    file: Name
    width: Count
    recall: float
    links: NotRequired[Count]


@dataclass(frozen=True)
class Version:
    """What one version of a local index is made of. Files are named by their folder and name, and never changed."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    dimension: Count
    settings: dict[str, Any]
    sequence: Count = 0
    """Counts the versions."""
    rows: Count = 0
    """Living ones."""
    next_order: Count = 0
    """Number of the next row in the order of insertion."""
    segments: list[SegmentEntry] = field(default_factory=list)
    graph: GraphEntry | None = None
    """Of the first segment's rows, where there is one."""
    written: str = ""
    """When, in UTC."""

    def write(self, folder: Path) -> None:
        """Make this the index's version: from here on, and not a moment earlier, readers see it."""
        written = datetime.now(UTC).isoformat(timespec="seconds")
        content = {"format": FORMAT, "version": FORMAT_VERSION, **asdict(self), "written": written}
        write_sealed(folder / POINTER, content)

    @classmethod
    def read(cls, folder: Path) -> Version:
        """The last complete version.

        Raises:
            InputError: no index is here, or its pointer is damaged or of a later format.
        """
        from pydantic import TypeAdapter, ValidationError

        try:
            content = read_object(folder / POINTER)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise InputError(
                f"index {folder}: no index is here; `afmrl index EMBEDDINGS --out {folder}` makes one"
            ) from error
        except ValueError as error:
            raise InputError(f"index: {folder / POINTER}: is damaged ({error}); make the index again") from error
        if content.get("format") != FORMAT:
            raise InputError(f"index {folder}: {POINTER} was not written by `afmrl index`; give another folder")
        if (found := content.get("version")) != FORMAT_VERSION:
            raise InputError(f"index {folder}: {other_format(found, FORMAT_VERSION)}")
        try:
            content = unsealed(content)
            del content["format"], content["version"]
            return TypeAdapter(cls).validate_json(json.dumps(content), strict=True)
        except ValidationError as error:  # a ValueError too
            first = error.errors()[0]
            reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        except ValueError as error:
            reason = str(error)
        raise InputError(f"index: {folder / POINTER}: is damaged ({reason}); make the index again")

    def files(self) -> set[str]:
        """Names below the index's folder that this version needs."""
        named = {f"{SEGMENTS}/{entry['name']}" for entry in self.segments}
        named |= {f"{DEAD}/{dead['file']}" for entry in self.segments if (dead := entry.get("dead"))}
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
