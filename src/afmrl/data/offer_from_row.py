"""One row of a catalog to an offer: its cells by their columns, cleaned and checked."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from afmrl.data.clean import clean_row
from afmrl.data.columns import ROW_NUMBER, Columns, attribute_named, is_empty, meant_by
from afmrl.data.image_cache import is_address
from afmrl.data.images import verify_image
from afmrl.data.missing import says_nothing
from afmrl.data.offer import BadRow, Offer, SkippedRow
from afmrl.data.plain_text import plain_text
from afmrl.data.reading import Reading
from afmrl.errors import InputError

MAX_TITLE_CHARACTERS = 10_000
_VALUE_PARTS = ("value", "values", "option", "options", "attribute_value")
ARCHIVE_SEPARATOR = "!/"
"""Between an archive and the member that is the image: `photos.zip!/a.jpg`."""


def offer_from_row(
    row: dict[str, Any],
    row_number: int,
    columns: Columns,
    folder: Path,
    check_images: bool,
    archives: bool,
    addresses: bool,
    reading: Reading,
) -> Offer:
    """The offer that a row says.

    Raises:
        BadRow: it cannot be used; says the field and the reason.
    """
    identifier = str(row_number) if columns.of_field["id"] == [ROW_NUMBER] else id_as_text(columns.first(row, "id")[1])
    if identifier is None:
        raise BadRow("id", "is missing or not text")
    text = {name: _text(*columns.first(row, name)) for name in ("title", "description", "product_id")}
    text["title"], text["description"] = plain_text(text["title"]), plain_text(text["description"])
    category = plain_text(" > ".join(_texts(*columns.first(row, "category"))))
    if len(text["title"]) > MAX_TITLE_CHARACTERS:
        raise BadRow("title", f"has {len(text['title']):,} characters, at most {MAX_TITLE_CHARACTERS:,} are read")
    named = _images(row, columns)
    usable = named if addresses else [value for value in named if not is_address(value)]
    has_title = bool(text["title"].strip())
    if not has_title and not named:
        raise BadRow("title, image", f"are both empty, one of them is needed{_hint(row, columns)}")
    if not has_title and not usable:
        raise BadRow("title, image", "the title is empty and the image is an address, not fetched (--fetch)")
    images, faults = _readable(usable, folder, check_images, archives)
    if not has_title and not images:
        raise faults[0]
    reading.addresses += bool(named) and not usable
    attributes = _attributes(columns.first(row, "attributes")[1])
    stated = {attribute_named(key) or key for key, value in attributes.items() if not says_nothing(value)}
    for name, value in columns.attributes(row).items():
        if name not in stated:
            attributes[name] = plain_text(", ".join(_texts(name, value))).strip().lstrip("'")
    extra = columns.others(row)
    seller = columns.first(row, "seller")[1]
    if not is_empty(seller):
        extra["seller"] = seller
    if len(named) > 1 or len(images) < len(named):
        lost = [value for value in usable if value not in images]
        extra["images"] = [images.get(value, value) for value in named if value not in lost]
    reading.lost_images += [
        SkippedRow(reading.path, row_number, fault.field, fault.reason, identifier, "image") for fault in faults
    ]
    return Offer(
        id=identifier,
        title=text["title"],
        description=text["description"],
        image=next(iter(images.values()), ""),
        category=category,
        attributes=attributes,
        product_id=text["product_id"],
        extra=extra,
    )


def _hint(row: Mapping[str, Any], columns: Columns) -> str:
    for column in columns.unused():
        if not is_empty(row.get(column)) and (name := meant_by(column, ("title", "image"))):
            return f"; did you mean {name!r} by {column!r}?"
    return ""


def id_as_text(value: Any) -> str | None:
    """An id as text; None where it is none."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = _number(value)
    if not isinstance(value, str) or not value.strip():
        return None
    return value


def _number(value: float) -> str:
    """A number as text; a whole one without the ".0" that pandas gives a column with empty cells."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() and abs(value) < 1e16 else str(value)


def _text(name: str, value: Any) -> str:
    if is_empty(value):
        return ""
    if isinstance(value, Mapping):
        value = _named(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = _number(value)
    if not isinstance(value, str):
        raise BadRow(name, f"is {type(value).__name__}, expected text")
    return value


def _named(value: Mapping[str, Any]) -> Any:
    """What a struct says, where one of its parts is its name or value: `{"id": 7, "name": "Stelton"}`."""
    return next((value[part] for part in ("name", "value", "label", "text") if not is_empty(value.get(part))), value)


def _texts(name: str, value: Any) -> list[str]:
    """A value that may be a list, also one written as JSON."""
    value = _parsed_list(value)
    if isinstance(value, list | tuple):
        return [text for one in value for text in _texts(name, one) if text]
    return [text] if (text := _text(name, value)) else []


def _parsed_list(value: Any) -> Any:
    if isinstance(value, str) and value[:1] == "[" and value[-1:] == "]":
        with contextlib.suppress(ValueError, RecursionError):
            parsed = json.loads(value)
            return clean_row({"": parsed})[""] if isinstance(parsed, list) else value
    return value


def _images(row: Mapping[str, Any], columns: Columns) -> list[str]:
    """Every image of a row, the leading one first."""
    found: dict[str, None] = {}
    for column in columns.of_field.get("image", ()):
        value = row.get(column)
        if isinstance(value, Mapping):
            value = next((value[name] for name in ("url", "src", "contentUrl", "path") if value.get(name)), None)
        elif isinstance(value, list | tuple):
            value = [one.get("url") or one.get("src") if isinstance(one, Mapping) else one for one in value]
        for text in _texts(column, value):
            found.update(dict.fromkeys(map(_with_scheme, _separated(text.strip()))))
    return [image for image in found if not says_nothing(image)]


def _with_scheme(text: str) -> str:
    return f"https:{text}" if text.startswith("//") else text


def _separated(text: str) -> list[str]:
    """The images of one cell: separated where each part looks like an image, a comma may be part of a name.

    >>> _separated("a.jpg, https://shop/b"), _separated("red, blue.jpg")
    (['a.jpg', 'https://shop/b'], ['red, blue.jpg'])
    """
    for parts in (re.split(r"\s*[|;\n]\s*", text), re.split(r"\s*,\s*", text)):
        parts = [part for part in parts if part]
        if len(parts) > 1 and all(is_address(_with_scheme(part)) or re.search(r"\.\w{3,4}$", part) for part in parts):
            return parts
    return [text]


def _attributes(value: Any) -> dict[str, str]:
    if is_empty(value):
        return {}
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise BadRow("attributes", f"is text but not a JSON object ({error})") from error
        value = clean_row({"attributes": value})["attributes"]
    if isinstance(value, list) and all(isinstance(pair, tuple | list) and len(pair) == 2 for pair in value):
        if not all(isinstance(key, str) for key, _ in value):
            raise BadRow("attributes", "is a list of pairs whose keys are not all text")
        value = dict(value)  # a Parquet map
    if isinstance(value, list) and value and all(isinstance(pair, Mapping) for pair in value):
        value = dict(map(_name_and_value, value))
    if not isinstance(value, Mapping):
        raise BadRow("attributes", f"is {type(value).__name__}, expected an object of key: value")
    return {str(key): plain_text(_value_text(of_key)) for key, of_key in value.items() if not _is_nothing(of_key)}


def _is_nothing(value: Any) -> bool:
    return value is None or value != value  # NaN: an empty cell


def _name_and_value(pair: Mapping[str, Any]) -> tuple[str, Any]:
    """An attribute of a list of them, as shops' interfaces write it: `{"name": "Color", "value": "red"}`."""
    name = next((pair[part] for part in ("name", "key", "attribute_name", "label") if pair.get(part)), None)
    value = next((pair[part] for part in _VALUE_PARTS if part in pair), None)
    if name is None or not any(part in pair for part in _VALUE_PARTS):
        raise BadRow("attributes", "is a list of objects without name and value")
    return str(name), value


def _value_text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(_value_text(one) for one in value if not _is_nothing(one))
    if isinstance(value, Mapping):
        named = _named(value)
        return str(dict(value)) if named is value else _value_text(named)
    return _number(value) if isinstance(value, float) else str(value)


def _readable(named: list[str], folder: Path, check: bool, archives: bool) -> tuple[dict[str, str], list[BadRow]]:
    """Images by what names them, and the faults of the others. The leading one is looked at, the rest are believed."""
    images: dict[str, str] = {}
    faults: list[BadRow] = []
    for value in named:
        try:
            images[value] = _image(value, folder, check and not images, archives)
        except BadRow as fault:
            faults.append(fault)
    return images, faults


def _image(value: str, folder: Path, check: bool, archives: bool) -> str:
    if "\0" in value or len(value) > 4096:
        raise BadRow("image", "is not a path")
    if is_address(value):
        return value
    if "://" in value:
        raise BadRow("image", f"{value[:80]!r} is an address; only http and https are fetched")
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
