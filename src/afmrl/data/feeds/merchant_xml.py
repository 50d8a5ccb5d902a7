"""Feeds as XML: Google Merchant's as RSS 2.0 and Atom, and others by the element that is repeated."""

from __future__ import annotations

import html
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.parsers import expat

from afmrl.data.columns import field_named
from afmrl.errors import InputError

CHUNK = 1 << 16
ITEMS = ("item", "entry", "product")
FEEDS = ("rss", "feed", "RDF")
"""Roots of feeds as Google Merchant knows them."""
_NAME_AND_VALUE = (("attribute_name", "attribute_value"), ("PARAM_NAME", "VAL"), ("name", "value"))
"""Parts of an element that says one attribute: product_detail, Heureka's PARAM."""


def merchant_rows(
    path: Path, at: Callable[[int], None] | None = None, items: tuple[str, ...] = ITEMS
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each item of a feed with its number, from 1; tags that are repeated are lists.

    Args:
        items: names of the elements that are items.
        at: told the position in the file, in bytes.

    Raises:
        InputError: not well-formed, or a document that declares entities.
    """
    feed = _Feed(path, items)
    number = 0
    with open(path, "rb") as file:
        while True:
            chunk = file.read(CHUNK)
            feed.parse(chunk)
            if at is not None:
                at(file.tell())
            for item in feed.taken():
                number += 1
                yield number, item
            if not chunk:
                return


def repeated_element(path: Path) -> str:
    """The element of a document that is a product: the most frequent of those whose parts have a title among them.

    Returns:
        Its name; "" where the document is a feed that has no items.

    Raises:
        InputError: none has a title; says which elements there are.
    """
    outline = _Outline(path)
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            outline.parse(chunk)
        outline.parse(b"")
    if outline.titled:  # where two are as frequent, the inner one: a shop has a name too
        return max(outline.titled, key=lambda of: (outline.titled[of], of[0]))[1]
    if outline.root in FEEDS:
        return ""
    found = ", ".join(f"{count:,} × {name}" for name, count in outline.outer.most_common(3)) or "nothing"
    raise InputError(
        f"{path}: is XML that is no feed of products: found {found} in {outline.root}, no item or entry, and no "
        "element with a title"
    )


class _Xml(ABC):
    """expat itself: a feed is read as a stream, nothing outside it is opened, and entities are refused.

    An entity that is declared may stand for others, and a few lines then for gigabytes. Entities of HTML, which shops
    write without declaring them, are decoded.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stack: list[str] = []
        self._text: list[str] = []
        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text.append
        parser.EntityDeclHandler = self._refuse
        parser.UseForeignDTD(True)  # without a DTD an undeclared entity (&eacute;) would end the feed
        parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_ALWAYS)
        parser.ExternalEntityRefHandler = self._empty_dtd
        parser.SkippedEntityHandler = self._html_entity
        self._parser = parser

    def parse(self, chunk: bytes) -> None:
        """Take the next bytes; none: the end."""
        try:
            self._parser.Parse(chunk, not chunk)
        except expat.ExpatError as error:
            raise InputError(f"{self._path}:{error.lineno}: is not well-formed XML ({error})") from error

    def _refuse(self, name: str, *_: Any) -> None:
        raise InputError(
            f"{self._path}:{self._parser.CurrentLineNumber}: declares the entity {name!r}; feeds with entities of "
            "their own are not read, write the text itself"
        )

    def _empty_dtd(self, context: str | None, *_: Any) -> int:
        # in place of any DTD that the feed names; nothing is opened
        self._parser.ExternalEntityParserCreate(context).Parse(b"", True)
        return 1

    def _html_entity(self, name: str, is_parameter: int) -> None:
        if not is_parameter:
            self._text.append(html.unescape(f"&{name};"))

    @abstractmethod
    def _start(self, tag: str, attributes: dict[str, str]) -> None: ...

    @abstractmethod
    def _end(self, tag: str) -> None: ...


class _Outline(_Xml):
    """Which elements there are."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.root = ""
        self.outer: Counter[str] = Counter()
        """Elements in the root."""
        self.titled: Counter[tuple[int, str]] = Counter()
        """Elements with a title among their parts, with their depth."""
        self._has_title: list[bool] = []

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        name = tag.rpartition(":")[2]
        self.root = self.root or name
        if len(self._stack) == 1:
            self.outer[name] += 1
        self._text.clear()
        self._stack.append(name)
        self._has_title.append(False)

    def _end(self, tag: str) -> None:
        name = self._stack.pop()
        if self._has_title.pop() and name != "channel":
            self.titled[len(self._stack), name] += 1
        if self._stack and field_named(name) == "title" and "".join(self._text).strip():
            self._has_title[-1] = True
        self._text.clear()


class _Feed(_Xml):
    """The items of a feed."""

    def __init__(self, path: Path, items: tuple[str, ...]) -> None:
        super().__init__(path)
        self._names = items
        self._items: list[dict[str, Any]] = []
        self._item: dict[str, Any] | None = None
        self._from_g: set[str] = set()
        self._own: dict[str, str] = {}
        self._parameter = ""
        self._detail: dict[str, str] = {}

    def taken(self) -> list[dict[str, Any]]:
        """The items that are complete since the last call."""
        items, self._items = self._items, []
        return items

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        name = tag.rpartition(":")[2]
        self._text.clear()
        if self._item is None:
            if name in self._names:
                self._item, self._from_g, self._stack = {}, set(), []
                self._own = {} if name in ITEMS else attributes
            return
        self._stack.append(tag)
        if len(self._stack) == 1:
            self._detail = {}
            self._parameter = attributes.get("name", "") if name == "param" else ""
        if name == "link" and "href" in attributes:
            self._item.setdefault("link", attributes["href"])

    def _end(self, tag: str) -> None:
        name, text = tag.rpartition(":")[2], "".join(self._text).strip()
        self._text.clear()
        if self._item is None:
            return
        if not self._stack:
            self._items.append({**self._own, **self._item})
            self._item = None
            return
        self._stack.pop()
        if len(self._stack) == 1:
            self._detail[name] = text
        elif not self._stack and self._detail:
            for name_part, value_part in _NAME_AND_VALUE:
                key, value = self._detail.get(name_part, ""), self._detail.get(value_part, "")
                if key and value:
                    self._item.setdefault("attributes", {})[key] = value
        elif not self._stack and text and self._parameter:
            self._item.setdefault("attributes", {})[self._parameter] = text
        elif not self._stack and text:
            self._keep(name, text, is_google=":" in tag)

    def _keep(self, name: str, text: str, *, is_google: bool) -> None:
        assert self._item is not None
        known = self._item.get(name)
        if known is None or (is_google and name not in self._from_g):
            self._item[name] = text  # Atom has an id and a title of its own; Google's are meant
        elif is_google == (name in self._from_g):
            self._item[name] = [*known, text] if isinstance(known, list) else [known, text]
        if is_google:
            self._from_g.add(name)
