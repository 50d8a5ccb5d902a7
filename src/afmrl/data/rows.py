"""A catalog's file, row by row: a table, lines of JSON, Parquet, or a feed as shops export it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from afmrl.data.delimited import (
    DelimitedFile,
    check_names,
    detect_dialect,
    detect_encoding,
    encoding_name,
    known_encoding,
)
from afmrl.data.feeds.json_ld import is_json_ld, product_rows
from afmrl.data.feeds.merchant_table import is_merchant, merchant_table_rows
from afmrl.data.feeds.merchant_xml import merchant_rows, repeated_element
from afmrl.data.feeds.notes import FeedNotes
from afmrl.data.feeds.shopify import is_shopify, shopify_rows
from afmrl.data.feeds.shopify_json import is_shopify_product, shopify_product_rows
from afmrl.data.feeds.woocommerce import is_woocommerce, woocommerce_rows
from afmrl.data.missing import says_nothing
from afmrl.data.nested import unnested
from afmrl.data.offer import BadRow
from afmrl.data.reading import ReadOptions
from afmrl.errors import InputError

LINES, TABLES, DOCUMENTS, FEEDS = (
    (".jsonl", ".ndjson"),
    (".csv", ".tsv", ".tab", ".txt"),
    (".json", ".jsonld"),
    (".xml", ".rss", ".atom"),
)
ENDINGS = (*LINES, *TABLES, *DOCUMENTS, *FEEDS, ".parquet")
KNOWN_ENDINGS = ".jsonl, .csv, .tsv, .parquet, .json, .xml"
MAX_LINE = 1 << 24
"""Bytes of a line of JSON."""
MEASURED_EVERY = 256  # rows between two looks at how far the file was read

Rows = Iterator[tuple[int, dict[str, Any] | BadRow]]


def is_catalog(target: str | Path) -> bool:
    """Whether a name is of a catalog's file, and not the address of an index."""
    return Path(target).is_file() or Path(target).suffix.lower() in ENDINGS


@runtime_checkable
class CatalogRows(Protocol):
    """What gives a catalog's rows one by one: a file, or another source that does as `CatalogFile` does."""

    path: Path
    folder: Path
    options: ReadOptions
    format: str

    def __iter__(self) -> Iterator[tuple[int, dict[str, Any] | BadRow]]:
        """Each row with its number."""
        ...

    def total(self) -> int | None:
        """How many rows there are, as far as is known so far."""
        ...


class CatalogFile:
    """The rows of one file, read as a stream.

    Args:
        path: JSONL (.jsonl, .ndjson), a table (.csv, .tsv, .tab, .txt: also the exports of Shopify and WooCommerce and
            Google Merchant's feed), Parquet, JSON-LD (.jsonld, .json), or a feed in XML (.xml, .rss,
            .atom: Google Merchant's, others by the element that is repeated).
        options: what the file does not say itself.
    """

    def __init__(self, path: str | Path, options: ReadOptions | None = None) -> None:
        self.path = Path(path)
        self.folder = self.path.parent
        """What an image's relative path is relative to."""
        self.options = options or ReadOptions()
        self.format = ""
        """What the file turned out to be, once it is read."""
        self.notes = FeedNotes()
        """What a feed's reader tells of the rows."""
        self._rows_read = 0
        self._total: int | None = None
        self._size = 1

    def __iter__(self) -> Rows:
        """Each row with its line (JSONL, tables) or number (others), from 1; a `BadRow` where it cannot be read.

        Raises:
            InputError: no such file, an unknown ending, or a file that cannot be read as what it claims to be.
        """
        path = self.path
        if not path.is_file():
            raise InputError(f"{path}: no such file; give a catalog as {KNOWN_ENDINGS}")
        self._size = max(path.stat().st_size, 1)
        self.notes = FeedNotes()
        ending = path.suffix.lower()
        if ending in LINES:
            rows = self._whole(self._jsonl_rows())
        elif ending in TABLES:
            rows = self._table_rows()
        elif ending in DOCUMENTS:
            rows = self._whole(self._json_rows())
        elif ending in FEEDS:
            rows = self._xml_rows()
        elif ending == ".parquet":
            rows = self._whole(self._parquet_rows())
        else:
            raise InputError(f"{path}: unknown ending {ending!r}; known are {KNOWN_ENDINGS}")
        self._rows_read = 0
        for number, row in rows:
            self._rows_read += 1
            yield number, row
        self._total = self._rows_read

    def total(self) -> int | None:
        """How many rows there are: Parquet's count, otherwise an estimate; None: unknown."""
        return self._total

    def _measure(self, position: int) -> None:
        if self._rows_read and self._rows_read % MEASURED_EVERY == 0 and position:
            self._total = round(self._rows_read * self._size / position)

    def _encoding(self) -> str:
        # JSON is UTF-8 by its standard: only a mark or the user says otherwise
        if self.options.encoding:
            return known_encoding(self.options.encoding)
        found = detect_encoding(self.path)
        return "utf-8-sig" if found == "cp1252" else found

    def _jsonl_rows(self) -> Rows:
        encoding = self._encoding()
        self.format = f"JSONL, {encoding_name(encoding)}"
        with open(self.path, "rb") as file:
            for number, line in enumerate(_bounded_lines(self._lines(file, encoding)), 1):
                self._measure(file.tell())
                if line is None:
                    yield number, BadRow("line", f"has more than {MAX_LINE:,} bytes; at most so many are read")
                    continue
                if not line.strip(b"\xef\xbb\xbf \t\r\n"):
                    continue
                try:
                    row = json.loads(line.decode("utf-8-sig"), object_pairs_hook=_once_each)
                except UnicodeDecodeError:
                    yield number, BadRow("line", f"is not {encoding_name(encoding)}")
                    continue
                except BadRow as bad:
                    yield number, bad
                    continue
                except (ValueError, RecursionError) as error:
                    yield number, BadRow("line", f"is not JSON ({error})")
                    continue
                if not isinstance(row, dict):
                    yield number, BadRow("line", "is not a JSON object")
                elif twice := _in_two_cases(row):
                    yield number, twice
                elif is_json_ld(row):
                    self.format = "schema.org JSON-LD in lines"
                    yield from ((number, product) for product in product_rows(row, self.notes))
                else:
                    yield number, row

    @staticmethod
    def _lines(file: Any, encoding: str) -> Callable[[int], bytes]:
        if encoding == "utf-8-sig":
            return file.readline
        # newline "\n": other ends of lines that Unicode knows may be inside a JSON string
        text = io.TextIOWrapper(file, encoding=encoding, errors="replace", newline="\n")
        return lambda size: text.readline(size).encode("utf-8", "replace")

    def _table_rows(self) -> Rows:
        if not self._size_on_disk():
            return iter(())
        dialect = detect_dialect(self.path, delimiter=self.options.delimiter, encoding=self.options.encoding)
        table = DelimitedFile(self.path, dialect)
        first = next(table.rows(), None)  # reads the header
        header = table.header
        kind = "TSV" if dialect.delimiter == "\t" else "CSV"
        if is_shopify(header):
            self.format = f"Shopify product export, {dialect}"
            return shopify_rows(table.rows(self._measure), self.notes)
        if is_woocommerce(header):
            self.format = f"WooCommerce product export, {dialect}"
            return woocommerce_rows(lambda: table.rows(self._measure), self.notes)
        if is_merchant(header):
            self.format = f"Google Merchant feed, {dialect}"
            return merchant_table_rows(table.rows(self._measure))
        self.format = f"{kind}, {dialect}"
        return iter(()) if first is None else table.rows(self._measure)

    def _whole(self, rows: Rows) -> Rows:
        """The rows with what they hold in objects: variants as rows, attributes as columns."""
        for number, row in shopify_product_rows(rows, self.notes):
            yield number, row if isinstance(row, BadRow) else unnested(row, self.notes)

    def _xml_rows(self) -> Rows:
        self.format = "Google Merchant XML"
        is_empty = True
        for row in merchant_rows(self.path, self._measure):
            is_empty = False
            yield row
        if is_empty and (element := repeated_element(self.path)):
            self.format = f"XML, {element} elements"
            yield from merchant_rows(self.path, self._measure, (element,))

    def _size_on_disk(self) -> int:
        return self.path.stat().st_size

    def _json_rows(self) -> Rows:
        encoding = self._encoding()
        try:
            value = json.loads(self.path.read_text(encoding=encoding) or "[]")
        except UnicodeDecodeError as error:
            raise InputError(f"{self.path}: is not {encoding_name(encoding)} ({error})") from error
        except (ValueError, RecursionError) as error:
            raise InputError(f"{self.path}: is not JSON ({error}); objects one a line are read as .jsonl") from error
        listed = value if isinstance(value, list) else [value]
        if any(map(is_json_ld, listed)):
            self.format = "schema.org JSON-LD"
            return enumerate(product_rows(value, self.notes), 1)
        if isinstance(value, dict) and not is_shopify_product(value):
            lists = [of for of in value.values() if isinstance(of, list) and of and isinstance(of[0], dict)]
            listed = lists[0] if len(lists) == 1 else listed
        self.format = "Shopify products.json" if any(map(is_shopify_product, listed)) else "JSON list"
        return (
            (number, _in_two_cases(row) or row if isinstance(row, dict) else BadRow("line", "is not a JSON object"))
            for number, row in enumerate(listed, 1)
        )

    def _parquet_rows(self) -> Rows:
        import pyarrow
        import pyarrow.parquet

        path = self.path
        try:
            file = pyarrow.parquet.ParquetFile(path)
        except (pyarrow.ArrowInvalid, OSError) as error:
            raise InputError(f"{path}: is not Parquet ({error})") from error
        check_names(path, list(file.schema_arrow.names))
        self.format = "Parquet"
        self._total = file.metadata.num_rows
        number = 0
        try:
            for batch in file.iter_batches(4096):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
        except (pyarrow.ArrowException, OSError, ValueError) as error:
            raise InputError(f"{path}: cannot be read after row {number} ({error}); the file is damaged") from error


def _bounded_lines(readline: Callable[[int], bytes]) -> Iterator[bytes | None]:
    """Lines; None in the place of one that is longer than MAX_LINE, which is passed over in pieces."""
    while line := readline(MAX_LINE):
        if len(line) < MAX_LINE or line.endswith(b"\n"):
            yield line
            continue
        while (rest := readline(MAX_LINE)) and not rest.endswith(b"\n"):
            pass
        yield None


def _in_two_cases(row: dict[str, Any]) -> BadRow | None:
    """What is wrong with a row that has a column in two cases ("Brand", "brand") which do not say the same."""
    if len({name.casefold() for name in row}) == len(row):
        return None
    first: dict[str, str] = {}
    for name, value in row.items():
        other = first.setdefault(name.casefold(), name)
        if row[other] != value and not says_nothing(value) and not says_nothing(row[other]):
            return BadRow(other, f"is there as {name!r} too, with another value; one of the two would be lost")
    return None


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise BadRow(twice, "is there twice; one of the two would be lost")
    return found
