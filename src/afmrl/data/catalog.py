"""Offers and catalogs: read, validate, write."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from afmrl.data.bad_rows import MAX_BAD, checked_max_bad, too_many_bad
from afmrl.data.clean import clean_row, clean_text
from afmrl.data.columns import Columns
from afmrl.data.offer import BadRow, Offer, SkippedRow
from afmrl.data.offer_from_row import id_as_text, offer_from_row
from afmrl.data.reading import Reading, ReadOptions, announce
from afmrl.data.rows import CatalogFile, CatalogRows
from afmrl.errors import InputError, check_type
from afmrl.files import atomic_write

LOOKED_AT = 256  # rows by whose columns it is decided what each is read as
Row = dict[str, Any] | BadRow
_GIVE_A_FILE = (
    "a catalog's file (`frame.to_parquet('offers.parquet')` writes one); `afmrl.match` takes DataFrames and lists too"
)
SHOWN = 10  # skipped rows that an error message lists


@dataclass(frozen=True)
class Catalog:
    """The offers of one file, and the rows of it that were skipped."""

    offers: tuple[Offer, ...]
    skipped: tuple[SkippedRow, ...] = ()
    path: str = ""
    reading: Reading | None = None
    """What was read of the file."""
    lost_images: tuple[SkippedRow, ...] = ()
    """Images that cannot be read; their offers are used without them."""
    row_numbers: Mapping[str, int] = field(default_factory=dict)
    """Id → the offer's row in the file."""

    def __len__(self) -> int:
        return len(self.offers)

    def __iter__(self) -> Iterator[Offer]:
        return iter(self.offers)

    @cached_property
    def by_id(self) -> dict[str, Offer]:
        """Offers by their id."""
        return {offer.id: offer for offer in self.offers}

    @property
    def faults(self) -> list[SkippedRow]:
        """Rows that were skipped and images that were lost, in the file's order: what skipped.jsonl lists."""
        return sorted((*self.skipped, *self.lost_images), key=lambda fault: fault.row)

    @property
    def skipped_ids(self) -> list[str]:
        """Ids that only skipped rows have."""
        return [row.id for row in self.skipped if row.id and row.id not in self.by_id]


def read_catalog(
    path: str | Path | CatalogRows,
    *,
    max_bad: float = MAX_BAD,
    check_images: bool = True,
    options: ReadOptions | None = None,
) -> Catalog:
    """Read a catalog: JSONL, CSV, TSV, Parquet, or a feed as shops export it.

    Columns are known by the names that shops give them; `Catalog.reading` says which were read as what. A row that
    cannot be used (malformed, an id that an earlier row has, no title and no image) is skipped and listed in
    `Catalog.skipped`. An image that is missing or unreadable is left out and listed in `Catalog.lost_images`; the next
    image that the row names leads then, and a row without a title is skipped if none is left.

    Args:
        path: the file, or anything that gives rows as `CatalogFile` does.
        max_bad: share of the rows that may be skipped, from 0 to 1 (see `afmrl.data.bad_rows`).
        check_images: look at every leading image's header and end (about 0.1 ms each).
        options: of a file: columns, delimiter and encoding, where it does not say them itself. With `fetch` images may
            be addresses; `afmrl.bulk.images.catalog` fetches them.

    Raises:
        InputError: no such file, an unknown ending, no rows, no column that could be the id, more than `max_bad`
            rows to skip, or a `max_bad` that is no share.
    """
    checked_max_bad(max_bad)
    if not isinstance(path, CatalogRows):
        check_type("read_catalog: the catalog", path, (str, Path), _GIVE_A_FILE)
    rows = CatalogFile(path, options) if isinstance(path, str | Path) else path
    path = rows.path
    offers: list[Offer] = []
    skipped: list[SkippedRow] = []
    reading = Reading(str(path))
    row_numbers: dict[str, int] = {}
    for offer in _once_each(rows, check_images, reading, row_numbers):
        if isinstance(offer, SkippedRow):
            skipped.append(offer)
        else:
            offers.append(offer)
    announce(reading)
    if not reading.rows:
        raise InputError(f"{path}: the catalog is empty; one offer a row is expected")
    refuse_bad(reading, skipped, max_bad)
    return Catalog(tuple(offers), tuple(skipped), str(path), reading, tuple(reading.lost_images), row_numbers)


def refuse_bad(reading: Reading, skipped: Sequence[SkippedRow], max_bad: float) -> None:
    """Refuse a catalog of which too many rows were skipped, or all.

    Raises:
        InputError: lists some rows of each kind of fault.
    """
    is_empty = len(skipped) >= reading.rows
    if is_empty or too_many_bad(len(skipped), reading.rows, max_bad, lost_images=len(reading.lost_images)):
        faults = [*skipped, *(reading.lost_images if not max_bad else ())]
        listed = "\n".join(f"  {row}" for row in shown_of_each_kind(faults))
        more = f"\n  … and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        tolerated = f"more than the tolerated share of {max_bad:g}" if not is_empty else "so none is left"
        raise InputError(
            f"{reading.path}: {len(faults)} of {reading.rows} rows cannot be used, {tolerated}; "
            f"fix them or raise max_bad (--max-bad, in a recipe catalog.max_bad):\n{listed}{more}"
        )


def read_report(path: str | Path, options: ReadOptions | None = None) -> Reading:
    """What is read of a catalog's file, however many of its rows cannot be used.

    Raises:
        InputError: a file that cannot be read at all.
    """
    reading = Reading(str(path))
    for _ in _once_each(CatalogFile(path, options), True, reading, {}):
        pass
    if not reading.rows:
        raise InputError(f"{path}: the catalog is empty; one offer a row is expected")
    return reading


def _once_each(
    rows: CatalogRows, check_images: bool, reading: Reading, first_row: dict[str, int]
) -> Iterator[Offer | SkippedRow]:
    """The offers of a catalog, whose rows are noted; a row with the id of an earlier one is skipped."""
    addresses = rows.options.fetch
    for row_number, offer in stream_offers(rows, check_images=check_images, addresses=addresses, reading=reading):
        if isinstance(offer, Offer) and offer.id in first_row:
            reason = f"{offer.id!r} is already in row {first_row[offer.id]}; ids must be unique"
            offer = SkippedRow(str(rows.path), row_number, "id", reason, offer.id)
        if isinstance(offer, SkippedRow):
            reading.skipped(offer)
        else:
            first_row[offer.id] = row_number
            reading.took(offer)
        yield offer


def shown_of_each_kind(skipped: Sequence[SkippedRow]) -> list[SkippedRow]:
    """At most SHOWN skipped rows, of every kind of fault some."""
    seen: Counter[str] = Counter()
    ranked: list[tuple[int, int]] = []
    for place, row in enumerate(skipped):
        ranked.append((seen[row.kind], place))
        seen[row.kind] += 1
    return [skipped[place] for place in sorted(place for _, place in sorted(ranked)[:SHOWN])]


def open_catalog(
    source: str | Path | Catalog | Sequence[Offer], *, max_bad: float = MAX_BAD, options: ReadOptions | None = None
) -> Catalog:
    """The catalog of a file, or of offers that are at hand.

    Args:
        max_bad, options: as in `read_catalog`.

    Raises:
        InputError: what `read_catalog` refuses; things that are not offers, no offers, an id twice.

    >>> len(open_catalog([Offer("1", title="red dress"), Offer("2", title="blue dress")]))
    2
    """
    checked_max_bad(max_bad)
    if isinstance(source, Catalog):
        return source
    if isinstance(source, str | Path):
        return read_catalog(source, max_bad=max_bad, options=options)
    seen: set[str] = set()
    if hasattr(source, "columns"):  # a DataFrame's elements are the names of its columns
        check_type("the catalog", source, Sequence, _GIVE_A_FILE)
    check_type("the catalog", source, Iterable, "a catalog's file, or a list of Offers")
    for row, offer in enumerate(source):
        if not isinstance(offer, Offer):
            raise InputError(f"catalog: row {row} is {type(offer).__name__}, not an Offer; give a file or offers")
        if offer.id in seen:
            raise InputError(f"catalog: row {row}: id {offer.id!r} is there twice; ids must be unique")
        seen.add(offer.id)
    if not seen:
        raise InputError("catalog: no offers")
    return Catalog(tuple(source))


def stream_offers(
    rows: CatalogRows,
    *,
    check_images: bool = True,
    archives: bool = False,
    addresses: bool = False,
    reading: Reading | None = None,
) -> Iterator[tuple[int, Offer | SkippedRow]]:
    """The offers of a catalog one by one, whatever its size; a row that cannot be used comes as a SkippedRow.

    Ids are not compared: callers that need unique ids compare them.

    Args:
        rows: the catalog's file, or anything that gives rows as it does.
        check_images: look at every leading image's header and end (about 0.1 ms each).
        archives: an image may be a member of an archive: `photos.zip!/a.jpg`. It is not opened here.
        addresses: an image may be an http(s) address. It is not opened here; without it addresses are left out.
        reading: told of rows and columns.

    Raises:
        InputError: a file that cannot be read, or no column that could be the id.
    """
    reading = reading or Reading(str(rows.path))
    folder = rows.folder.resolve()
    for row_number, raw, row, columns in _with_columns(rows, reading):
        reading.rows += 1
        try:
            if isinstance(row, BadRow):
                raise row
            assert columns is not None
            reading.saw(row)
            offer = _offer(row, row_number, columns, folder, check_images, archives, addresses, reading)
        except BadRow as bad:
            identifier = "" if isinstance(raw, BadRow) or columns is None else id_as_text(columns.first(raw, "id")[1])
            identifier = clean_text(identifier or "")
            yield row_number, SkippedRow(str(rows.path), row_number, bad.field, bad.reason, identifier)
        else:
            yield row_number, offer


def _offer(*row: Any) -> Offer:
    try:
        return offer_from_row(*row)
    except BadRow:
        raise
    except Exception as error:  # whatever a row causes, it costs that row alone
        raise BadRow("row", f"cannot be read ({type(error).__name__}: {error})") from error


def _with_columns(rows: CatalogRows, reading: Reading) -> Iterator[tuple[int, Row, Row, Columns | None]]:
    """Each row as it came, the same with clean text, and what its columns are read as.

    That is decided by the first rows, and again where a new column appears.
    """
    iterator = iter(rows)
    first = list(itertools.islice(iterator, LOOKED_AT))
    names: dict[str, None] = {}
    for _, row in first:
        if not isinstance(row, BadRow):
            names.update(dict.fromkeys(map(clean_text, row)))
    columns: Columns | None = None
    for number, raw in itertools.chain(first, iterator):
        row = _cleaned(raw)
        if not isinstance(row, BadRow) and (columns is None or not names.keys() >= row.keys()):
            names.update(dict.fromkeys(row))
            given = dict(rows.options.columns)
            if columns is not None:
                given["id"] = columns.of_field["id"][0]  # the id stays what it was
            columns = reading.columns = Columns(list(names), given, str(rows.path))
        if not isinstance(row, BadRow) and not isinstance(raw, BadRow) and columns is not None:
            identifier = columns.first(row, "id")[1]
            if isinstance(identifier, str) and identifier not in raw.values():
                row = BadRow("id", "holds a control character or half a character; no other name is guessed")
        reading.format = rows.format
        if isinstance(rows, CatalogFile):
            reading.notes = rows.notes
        yield number, raw, row, columns


def _cleaned(row: Row) -> Row:
    """The row with clean text; what is too large or too deep to be used as a `BadRow`."""
    try:
        return row if isinstance(row, BadRow) else clean_row(row)
    except BadRow as bad:
        return bad


def write_catalog(path: str | Path, offers: Iterable[Offer]) -> None:
    """Write offers as JSONL, atomically; images below the file's folder are named relative to it."""
    path = Path(path)
    folder = path.parent.resolve()
    with atomic_write(path) as file:
        for offer in offers:
            extra = dict(offer.extra)
            if isinstance(extra.get("images"), list):
                extra["images"] = [_relative(str(image), folder) for image in extra["images"]]
            row = {
                "id": offer.id,
                "title": offer.title,
                "description": offer.description,
                "image": _relative(offer.image, folder),
                "category": offer.category,
                "attributes": dict(offer.attributes),
                "product_id": offer.product_id,
                **extra,
            }
            # str: a date of a Parquet column
            file.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")


def _relative(image: str, folder: Path) -> str:
    if image and Path(image).is_absolute() and Path(image).is_relative_to(folder):
        return Path(image).relative_to(folder).as_posix()
    return image
