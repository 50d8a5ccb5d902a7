"""How a catalog is to be read, and what was read of it."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from afmrl.data.check_digit import is_gtin
from afmrl.data.columns import Columns
from afmrl.data.feeds.notes import FeedNotes
from afmrl.data.gtin import gtin_faults, is_gtin_key
from afmrl.data.nested import nested_gtins
from afmrl.data.offer import Offer, SkippedRow
from afmrl.errors import InputError
from afmrl.terminal import counted

SAMPLED = 300  # rows whose unused columns are looked at
SHOWN_OFFERS = 3
SHOWN_COLUMNS = 12
SHOWN_OF_A_KIND = 3
_IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".avif")
_BETWEEN_PAIRS = re.compile(r",(?=[^=,]+=)")  # a column's name may have commas: "GTIN, UPC, EAN, or ISBN"
_LOGGER = logging.getLogger("afmrl.reading")


@dataclass(frozen=True)
class ReadOptions:
    """What a user says of a file that does not say it itself."""

    columns: Mapping[str, str] = field(default_factory=dict)
    """Field or attribute → column; "#" as the id: the row's number."""
    delimiter: str | None = None
    """Between cells; None: detected."""
    encoding: str | None = None
    """Of the text; None: detected."""
    fetch: bool = False
    """Fetch images that are http(s) addresses, into one folder for all commands (see `afmrl.data.image_cache`)."""


@dataclass
class Reading:
    """What was read of a catalog: rows, columns, and what was left out."""

    path: str
    format: str = ""
    rows: int = 0
    offers: int = 0
    columns: Columns | None = None
    left_out: Counter[str] = field(default_factory=Counter)
    """Reason → rows that gave no offer."""
    examples: dict[str, list[SkippedRow]] = field(default_factory=dict)
    """Reason → the first such rows."""
    lost_images: list[SkippedRow] = field(default_factory=list)
    """Images that cannot be read."""
    addresses: int = 0
    """Offers whose images are addresses that were not fetched."""
    gtins_not_used: Counter[str] = field(default_factory=Counter)
    """Fault → numbers of the offers' GTIN attributes that are none: rounded, or with a wrong check digit."""
    _first_gtins: dict[str, str] = field(default_factory=dict)
    """Fault → the first such offer and what it states."""
    first: list[Offer] = field(default_factory=list)
    """The first offers, as they were understood."""
    notes: FeedNotes = field(default_factory=FeedNotes)
    """What a feed's reader made its rows from."""
    _values: dict[str, list[str]] = field(default_factory=dict)
    _nested: dict[str, str] = field(default_factory=dict)

    def used(self) -> dict[str, list[str]]:
        """Field or attribute → the file's columns that it is read from."""
        used = {} if self.columns is None else self.columns.used()
        made_from = self.notes.made_from
        return {
            meaning: list(dict.fromkeys(source for column in columns for source in made_from.get(column, [column])))
            for meaning, columns in used.items()
        }

    def unused(self) -> list[str]:
        """Columns that nothing is read from."""
        unused = [] if self.columns is None else self.columns.unused()
        consumed = self.notes.consumed.union(*self.notes.made_from.values())
        return [column for column in unused if column not in consumed]

    def saw(self, row: Mapping[str, Any]) -> None:
        """Note the values of columns that are not used."""
        if self.columns is None or self.rows > SAMPLED:
            return
        for column in self.unused():
            value = row.get(column)
            if isinstance(value, str | int) and str(value).strip():
                self._values.setdefault(column, []).append(str(value).strip())
            elif isinstance(value, Mapping | list):
                for path, gtin in nested_gtins(column, value):
                    self._nested.setdefault(path, gtin)

    def took(self, offer: Offer) -> None:
        """Count an offer."""
        self.offers += 1
        for key, value in offer.attributes.items():
            for fault in gtin_faults(value) if is_gtin_key(str(key)) else ():
                self.gtins_not_used[fault] += 1
                self._first_gtins.setdefault(fault, f"offer {offer.id}: {_short(str(value))}")
        if len(self.first) < SHOWN_OFFERS:
            self.first.append(offer)

    def skipped(self, row: SkippedRow) -> None:
        """Count a row that gave no offer."""
        while self.lost_images and self.lost_images[-1].row == row.row:
            self.lost_images.pop()  # the whole row is lost
        self.left_out[row.kind] += 1
        examples = self.examples.setdefault(row.kind, [])
        if len(examples) < SHOWN_OF_A_KIND:
            examples.append(row)

    def suspects(self) -> list[str]:
        """Columns that are not used and look as if they should be."""
        found = []
        for column, (meaning, name) in ({} if self.columns is None else self.columns.misspelled()).items():
            if column in self.unused():
                found.append(f"column {column!r} is not used; did you mean {name!r}? --columns {meaning}={column}")
        for path, gtin in self._nested.items() if "gtin" not in self.used() else ():
            found.append(f"{path} holds a GTIN ({gtin!r}) and is not used; give it as a column gtin")
        for column, values in self._values.items():
            for meaning, looks in (("gtin", is_gtin), ("image", _is_image), ("category", _is_category)):
                if len(values) >= 2 and sum(map(looks, values)) > 0.8 * len(values):
                    found.append(
                        f"column {column!r} looks like {meaning} ({values[0][:60]!r}) and is not used: "
                        f"--columns {meaning}={column}"
                    )
                    break
        return found

    def line(self) -> str:
        """One line: rows, columns used and not used, rows left out by reason."""
        form = f" ({self.format})" if self.format else ""
        parts = [f"{self.path}: {counted(self.offers, 'offer')} of {counted(self.rows, 'row')}{form}"]
        if self.columns is not None:
            used = [_use(meaning, columns) for meaning, columns in self.used().items()]
            parts.append("read: " + ", ".join(used))
            unused = self.unused()
            if unused:
                more = f" and {len(unused) - SHOWN_COLUMNS} more" if len(unused) > SHOWN_COLUMNS else ""
                parts.append("not used: " + ", ".join(unused[:SHOWN_COLUMNS]) + more)
        if self.notes.besides:
            parts.append(f"no offers of their own: {self._besides()}")
        if self.addresses:
            parts.append(
                f"images of {counted(self.addresses, 'offer')} are addresses and were not fetched; --fetch does"
            )
        if self.lost_images:
            parts.append(f"{counted(len(self.lost_images), 'image')} cannot be read and left out: {self._lost()}")
        if self.gtins_not_used:
            parts.append(self._gtins())
        if self.left_out:
            parts.append(
                f"{counted(sum(self.left_out.values()), 'row')} left out: "
                + ", ".join(f"{count:,} × {reason}" for reason, count in self.left_out.most_common())
            )
        return "; ".join(parts)

    def _besides(self) -> str:
        return ", ".join(counted(number, kind) for kind, number in self.notes.besides.most_common())

    def _lost(self) -> str:
        kinds = Counter(row.kind for row in self.lost_images)
        return ", ".join(f"{count:,} × {reason}" for reason, count in kinds.most_common())

    def _gtins(self) -> str:
        (first, count), *others = self.gtins_not_used.most_common()
        more = "".join(f", {count:,} {fault}" for fault, count in others)
        return f"{counted(count, 'GTIN')} {first}{more}: not used as GTIN"

    def as_dict(self) -> dict[str, Any]:
        """The same as the report, for programs."""
        fields = ("id", "title", "description", "image", "category", "attributes", "product_id")
        return {
            "catalog": self.path,
            "format": self.format,
            "rows": self.rows,
            "offers": self.offers,
            "columns": self.used(),
            "columns_not_used": self.unused(),
            "warnings": self.suspects(),
            "rows_besides": dict(self.notes.besides.most_common()),
            "rows_left_out": dict(self.left_out.most_common()),
            "gtins_not_used": dict(self.gtins_not_used.most_common()),
            "images_not_fetched": self.addresses,
            "images_left_out": dict(Counter(row.kind for row in self.lost_images).most_common()),
            "examples": [dataclasses.asdict(row) for rows in self.examples.values() for row in rows],
            "first_offers": [{name: getattr(offer, name) for name in fields} for offer in self.first],
        }

    def report(self) -> str:
        """At length: every column, every kind of fault with its first rows, and the first offers."""
        lines = [
            f"{self.path}",
            f"  {counted(self.offers, 'offer')} of {counted(self.rows, 'row')}",
            f"  format: {self.format}",
        ]
        if self.columns is not None:
            lines.append("  columns read:")
            lines += [f"    {meaning} ← {', '.join(columns)}" for meaning, columns in self.used().items()]
            lines.append(f"  columns not used: {', '.join(self.unused()) or 'none'}")
        if self.notes.besides:
            lines.append(f"  rows that are no offers of their own: {self._besides()}")
        lines += [f"  warning: {suspect}" for suspect in self.suspects()]
        if self.addresses:
            lines.append(
                f"  images of {counted(self.addresses, 'offer')} are addresses; they are read where --fetch is given"
            )
        if self.gtins_not_used:
            lines.append(f"  {self._gtins()}")
            lines += [f"    {fault}: {self._first_gtins[fault]}" for fault, _ in self.gtins_not_used.most_common()]
        lines.append(f"  images that cannot be read: {len(self.lost_images):,}")
        for reason, count in Counter(row.kind for row in self.lost_images).most_common():
            lines.append(f"    {count:,} × {reason}")
            of_kind = (row for row in self.lost_images if row.kind == reason)
            lines += [f"      row {row.row}: {row.reason}" for row in itertools.islice(of_kind, SHOWN_OF_A_KIND)]
        lines.append(f"  rows left out: {sum(self.left_out.values()):,}")
        for reason, count in self.left_out.most_common():
            lines.append(f"    {count:,} × {reason}")
            lines += [f"      row {row.row}: {row.field}: {row.reason}" for row in self.examples[reason]]
        lines.append("  the first offers, as they were understood:")
        for offer in self.first:
            lines.append(f"    {offer.id}")
            for name in ("title", "description", "image", "category", "product_id"):
                value = getattr(offer, name)
                if value:
                    lines.append(f"      {name}: {_short(value)}")
            lines += [f"      attributes: {key}: {_short(value)}" for key, value in offer.attributes.items()]
        return "\n".join(lines)


def column_pairs(given: Iterable[str]) -> dict[str, str]:
    """Field or attribute → column, of what was typed.

    >>> column_pairs(["title=Name,gtin=GTIN, UPC, EAN, or ISBN", "id=SKU"])
    {'title': 'Name', 'gtin': 'GTIN, UPC, EAN, or ISBN', 'id': 'SKU'}
    """
    pairs: dict[str, str] = {}
    for part in (part for text in given for part in _BETWEEN_PAIRS.split(text)):
        name, separator, column = part.partition("=")
        if not separator or not name.strip() or not column.strip():
            raise InputError(f"--columns {part}: expected NAME=COLUMN, such as title=Name,id=SKU")
        pairs[name.strip()] = column.strip()
    return pairs


def announce(reading: Reading) -> None:
    """Say what was read: one line, and a warning for each column that looks as if it should be used.

    It goes to the log `afmrl.reading`; the command line shows it on stderr.
    """
    _LOGGER.info(reading.line())
    for suspect in reading.suspects():
        _LOGGER.warning("%s: %s", reading.path, suspect)


def _is_image(text: str) -> bool:
    return text.lower().partition("?")[0].endswith(_IMAGE_ENDINGS)


def _is_category(text: str) -> bool:
    return " > " in text and len(text) < 300


def _use(meaning: str, columns: list[str]) -> str:
    return meaning if columns == [meaning] else f"{meaning} ({', '.join(columns)})"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 120 else line[:119] + "…"
