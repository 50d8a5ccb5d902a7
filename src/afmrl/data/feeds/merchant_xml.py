"""Google Merchant feeds as XML: RSS 2.0 and Atom."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.parsers import expat

from afmrl.errors import InputError

CHUNK = 1 << 16
ITEMS = ("item", "entry", "product")
DETAIL = "product_detail"


def merchant_rows(path: Path, at: Callable[[int], None] | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each item of a feed with its number, from 1; tags that are repeated are lists.

    Args:
        at: told the position in the file, in bytes.

    Raises:
        InputError: not well-formed, or a document that declares entities.
    """
    feed = _Feed(path)
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


class _Feed:
    """expat itself: a feed is read as a stream, nothing outside it is opened, and entities are refused.

    An entity that is declared may stand for others, and a few lines then for gigabytes. Entities of HTML, which shops
    write without declaring them, are decoded.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._items: list[dict[str, Any]] = []
        self._item: dict[str, Any] | None = None
        self._from_g: set[str] = set()
        self._stack: list[str] = []
        self._text: list[str] = []
        self._detail: dict[str, str] = {}
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

    def taken(self) -> list[dict[str, Any]]:
        """The items that are complete since the last call."""
        items, self._items = self._items, []
        return items

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

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        name = tag.rpartition(":")[2]
        self._text.clear()
        if self._item is None:
            if name in ITEMS:
                self._item, self._from_g, self._stack = {}, set(), []
            return
        self._stack.append(tag)
        if name == DETAIL:
            self._detail = {}
        if name == "link" and "href" in attributes:
            self._item.setdefault("link", attributes["href"])

    def _end(self, tag: str) -> None:
        name, text = tag.rpartition(":")[2], "".join(self._text).strip()
        self._text.clear()
        if self._item is None:
            return
        if not self._stack:
            self._items.append(self._item)
            self._item = None
            return
        self._stack.pop()
        inside = [outer.rpartition(":")[2] for outer in self._stack]
        if inside == [DETAIL]:
            self._detail[name] = text
        elif name == DETAIL and not inside:
            key, value = self._detail.get("attribute_name", ""), self._detail.get("attribute_value", "")
            if key and value:
                self._item.setdefault("attributes", {})[key] = value
        elif not inside and text:
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
