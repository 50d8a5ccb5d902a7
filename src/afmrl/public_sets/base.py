"""A public data set: what it is, where it comes from, and what reading its files gives."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from afmrl.data.offer import Offer, SkippedRow


@dataclass(frozen=True, slots=True)
class SourceRow:
    """An offer and where in the set's files it is."""

    offer: Offer
    """`image` is an absolute path that was not opened yet."""
    file: str
    row: int
    """Line or record of the file, from 1."""


@dataclass(frozen=True, slots=True)
class PairRow:
    """Two offers that somebody called the same product, or not."""

    left: str
    right: str
    label: int
    """1: the same product, 0: not."""
    pair_split: str = ""
    """The set's own split of its pairs; the offers of a pair may be in pairs of other splits too."""


@dataclass(frozen=True)
class Reading:
    """What a set's files hold. Rows come first: pairs and matches may be known only after all rows were taken."""

    rows: Iterable[SourceRow | SkippedRow]
    pairs: Callable[[], Iterable[PairRow]] | None = None
    matches: Callable[[], Iterable[tuple[str, str]]] | None = None
    """Query id and gallery id, for sets where one query matches several products; otherwise `product_id` is enough."""
    notes: tuple[str, ...] = ()
    """What the user should know of what was found, or not found, in the folder."""


@dataclass(frozen=True)
class PublicDataset:
    """One public set."""

    name: str
    """As on the command line."""
    title: str
    what: str
    """One line."""
    size: str
    """As published, not counted here."""
    license: str
    homepage: str
    download: str
    """What to fetch and how to lay it out, as plain lines."""
    layout_source: str
    """Where the knowledge of the file layout comes from, and what could not be checked."""
    citation: str
    read: Callable[[Path], Reading]
    """Folder to rows; raises InputError that names the first file that is missing."""
    has_images: bool = True
