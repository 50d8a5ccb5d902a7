"""Offers and catalogs: read, validate, write."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from afmrl.data.images import verify_image
from afmrl.data.offer import FIELDS, TEXT_FIELDS, Offer, SkippedRow
from afmrl.data.rows import BadRow, CatalogFile, CatalogRows, is_unicode
from afmrl.errors import InputError
from afmrl.files import atomic_write

MAX_TITLE_CHARACTERS = 10_000
ARCHIVE_SEPARATOR = "!/"
"""Between an archive and the member that is the image: `photos.zip!/a.jpg`."""
SHOWN = 10  # skipped rows that an error message lists


@dataclass(frozen=True)
class Catalog:
    """The offers of one file, and the rows of it that were skipped."""

    offers: tuple[Offer, ...]
    skipped: tuple[SkippedRow, ...] = ()
    path: str = ""

    def __len__(self) -> int:
        return len(self.offers)

    def __iter__(self) -> Iterator[Offer]:
        return iter(self.offers)

    @cached_property
    def by_id(self) -> dict[str, Offer]:
        """Offers by their id."""
        return {offer.id: offer for offer in self.offers}


def read_catalog(path: str | Path | CatalogRows, *, max_bad: float = 0.01, check_images: bool = True) -> Catalog:
    """Read a catalog: JSONL, CSV, TSV or Parquet, by the file's ending.

    A row that cannot be used (malformed, no title and no image, an image that is missing or unreadable) is skipped and
    listed in `Catalog.skipped`.

    Args:
        path: the file, or anything that gives rows as `CatalogFile` does.
        max_bad: share of the rows that may be skipped.
        check_images: read every image's header (about 0.1 ms each).

    Raises:
        InputError: no such file, an unknown ending, no rows, an id twice, or more than `max_bad` rows to skip.
    """
    rows = CatalogFile(path) if isinstance(path, str | Path) else path
    path = rows.path
    offers: list[Offer] = []
    skipped: list[SkippedRow] = []
    first_row: dict[str, int] = {}
    count = 0
    for row_number, offer in stream_offers(rows, check_images=check_images):
        count += 1
        if isinstance(offer, SkippedRow):
            skipped.append(offer)
            continue
        if offer.id in first_row:
            raise InputError(
                f"{path}:{row_number}: id: {offer.id!r} is already in row {first_row[offer.id]}; ids must be "
                "unique, remove one of the rows or rename it"
            )
        first_row[offer.id] = row_number
        offers.append(offer)
    if not count:
        raise InputError(f"{path}: the catalog is empty; one offer a row is expected")
    if len(skipped) > max_bad * count or not offers:
        listed = "\n".join(f"  {row}" for row in skipped[:SHOWN])
        more = f"\n  … and {len(skipped) - SHOWN} more" if len(skipped) > SHOWN else ""
        tolerated = f"more than the tolerated share of {max_bad:g}" if offers else "so none is left"
        raise InputError(
            f"{path}: {len(skipped)} of {count} rows cannot be used, {tolerated}; "
            f"fix them or raise max_bad (--max-bad, in a recipe catalog.max_bad):\n{listed}{more}"
        )
    return Catalog(tuple(offers), tuple(skipped), str(path))


def open_catalog(source: str | Path | Catalog | Sequence[Offer], *, max_bad: float = 0.01) -> Catalog:
    """The catalog of a file, or of offers that are at hand.

    Args:
        max_bad: as in `read_catalog`.

    Raises:
        InputError: what `read_catalog` refuses; things that are not offers, no offers, an id twice.

    >>> len(open_catalog([Offer("1", title="red dress"), Offer("2", title="blue dress")]))
    2
    """
    if isinstance(source, Catalog):
        return source
    if isinstance(source, str | Path):
        return read_catalog(source, max_bad=max_bad)
    seen: set[str] = set()
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
    rows: CatalogRows, *, check_images: bool = True, archives: bool = False, addresses: bool = False
) -> Iterator[tuple[int, Offer | SkippedRow]]:
    """The offers of a catalog one by one, whatever its size; a row that cannot be used comes as a SkippedRow.

    Ids are not compared: callers that need unique ids compare them.

    Args:
        rows: the catalog's file, or anything that gives rows as it does.
        check_images: read every image's header (about 0.1 ms each).
        archives: an image may be a member of an archive: `photos.zip!/a.jpg`. It is not opened here.
        addresses: an image may be an http(s) address. It is not opened here.
    """
    folder = rows.folder.resolve()
    for row_number, row in rows:
        try:
            if isinstance(row, BadRow):
                raise row
            offer = _offer(row)
            image = _image(offer.image, folder, check_images, archives, addresses)
            yield row_number, offer if image == offer.image else dataclasses.replace(offer, image=image)
        except BadRow as bad:
            identifier = "" if isinstance(row, BadRow) else str(row.get("id") or "")
            yield row_number, SkippedRow(str(rows.path), row_number, bad.field, bad.reason, identifier)


def write_catalog(path: str | Path, offers: Iterable[Offer]) -> None:
    """Write offers as JSONL, atomically; images below the file's folder are named relative to it."""
    path = Path(path)
    folder = path.parent.resolve()
    with atomic_write(path) as file:
        for offer in offers:
            image = offer.image
            if image and Path(image).is_absolute() and Path(image).is_relative_to(folder):
                image = Path(image).relative_to(folder).as_posix()
            row = {
                "id": offer.id,
                "title": offer.title,
                "description": offer.description,
                "image": image,
                "category": offer.category,
                "attributes": dict(offer.attributes),
                "product_id": offer.product_id,
                **offer.extra,
            }
            # str: a date of a Parquet column
            file.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")


def _offer(row: dict[str, Any]) -> Offer:
    identifier = row.get("id")
    if isinstance(identifier, int) and not isinstance(identifier, bool):
        identifier = str(identifier)
    if not isinstance(identifier, str) or not identifier.strip() or not is_unicode(identifier):
        raise BadRow("id", "is missing or not text")
    text: dict[str, str] = {}
    for name in TEXT_FIELDS:
        value = row.get(name)
        if value is None or value != value:  # NaN: what pandas writes for an empty cell
            value = ""
        if isinstance(value, int | float) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str):
            raise BadRow(name, f"is {type(value).__name__}, expected text")
        if not is_unicode(value):
            raise BadRow(name, "holds half a character (a lone surrogate)")
        text[name] = value
    if len(text["title"]) > MAX_TITLE_CHARACTERS:
        raise BadRow("title", f"has {len(text['title']):,} characters, at most {MAX_TITLE_CHARACTERS:,} are read")
    if not text["title"].strip() and not text["image"].strip():
        raise BadRow("title, image", "are both empty, one of them is needed")
    return Offer(
        id=identifier,
        title=text["title"],
        description=text["description"],
        image=text["image"].strip(),
        category=text["category"],
        attributes=_attributes(row.get("attributes")),
        product_id=text["product_id"],
        extra={key: value for key, value in row.items() if key not in FIELDS},
    )


def _attributes(value: Any) -> dict[str, str]:
    if value is None or value == "" or (isinstance(value, float) and value != value):  # NaN: an empty cell
        return {}
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise BadRow("attributes", f"is text but not a JSON object ({error})") from error
    if isinstance(value, list) and all(isinstance(pair, tuple | list) and len(pair) == 2 for pair in value):
        value = dict(value)  # a Parquet map
    if not isinstance(value, dict):
        raise BadRow("attributes", f"is {type(value).__name__}, expected an object of key: value")
    return {str(key): str(of_key) for key, of_key in value.items() if of_key is not None}


def _image(value: str, folder: Path, check: bool, archives: bool, addresses: bool) -> str:
    if not value:
        return ""
    if "\0" in value or len(value) > 4096:
        raise BadRow("image", "is not a path")
    if "://" in value:
        if addresses and value.lower().startswith(("http://", "https://")):
            return value
        advice = "only http and https are fetched" if addresses else "images are not fetched, give a file"
        raise BadRow("image", f"{value[:80]!r} is an address; {advice}")
    file, separator, member = value.partition(ARCHIVE_SEPARATOR)
    if separator and not archives:
        raise BadRow("image", f"{value[:80]!r} is a member of an archive; unpack it and give a file")
    path = Path(file) if Path(file).is_absolute() else folder / file
    if check and not separator:
        try:
            verify_image(path)
        except (InputError, OSError) as error:
            raise BadRow("image", str(error).removeprefix("image ")) from error
    return f"{path}{separator}{member}"
