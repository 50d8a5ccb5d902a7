"""What `Embedder.encode` takes: offers, dicts, plain texts, images."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from afmrl.data.columns import ROW_NUMBER, Columns, attribute_named
from afmrl.data.images import decode
from afmrl.data.offer import Offer
from afmrl.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

ACCEPTED = 'an offer, {"text": …, "image": …}, a row of a catalog, a text, or a PIL image'
_IMAGE_ADDRESS = re.compile(r"\s*\S+\.(?:jpe?g|png|webp|gif|bmp|tiff?|avif)(?:[?#]\S*)?\s*", re.IGNORECASE)
_TEXT_FIELDS = ("title", "description")  # of a row: no other text is embedded


def read_inputs(inputs: Iterable[Any]) -> list[tuple[Offer, Image | None]]:
    """Inputs as offers; the images of those that came with an open one.

    Raises:
        InputError: not a list, or something in it that cannot be embedded.
    """
    if isinstance(inputs, str | bytes | Mapping | Offer) or not isinstance(inputs, Iterable):
        raise InputError(f"embedder: give a list of inputs, such as [{_shown(inputs)}]; each one is {ACCEPTED}")
    return [_read(value, number) for number, value in enumerate(inputs)]


def _read(value: Any, number: int) -> tuple[Offer, Image | None]:
    if isinstance(value, Offer):
        return value, None
    if isinstance(value, str):
        if _IMAGE_ADDRESS.fullmatch(value):
            what = "images are not fetched: download it, then" if "://" in value else "for the image"
            raise InputError(
                f"embedder: input {number} ({_shown(value)}) is the address of an image and would be read as words; "
                f'{what} give {{"image": FILE}}'
            )
        return Offer(id=str(number), title=value), None
    if isinstance(value, Mapping):
        return _read_mapping(value, number)
    if (image := _opened(value)) is not None:
        return Offer(id=str(number)), image
    raise InputError(f"embedder: input {number} is {type(value).__name__} ({_shown(value)}); each one is {ACCEPTED}")


def _read_mapping(value: Mapping[str, Any], number: int) -> tuple[Offer, Image | None]:
    row = {**value, "title": value["text"]} if "text" in value else value
    if "text" in value and set(value) - {"text", "image"}:
        raise InputError(
            f"embedder: input {number} has the key 'text' and others ({', '.join(map(str, value))}); give "
            '{"text": …, "image": …}, or a row of a catalog with "title"'
        )
    texts: dict[str, str] = {}
    for name in _TEXT_FIELDS:
        field = row.get(name)
        if field is not None and not isinstance(field, str):
            given = "text" if name == "title" and "text" in value else name
            raise InputError(f"embedder: input {number}: {given}: is {type(field).__name__}, expected text")
        texts[name] = field or ""
    image = row.get("image")
    opened = None if image is None or isinstance(image, str | Path) else _opened(image)
    if image is not None and opened is None and not isinstance(image, str | Path):
        raise InputError(f"embedder: input {number}: image: is {type(image).__name__}, expected a file or a PIL image")
    path = "" if opened is not None else str(image or "")
    if "://" in path:
        raise InputError(f"embedder: input {number}: image: {_shown(path)} is an address; download it, give the file")
    if not texts["title"].strip() and not path and opened is None:
        keys = ", ".join(map(str, value)) or "none"
        raise InputError(
            f"embedder: input {number} has neither a text nor an image (its keys: {keys}); each one is {ACCEPTED}"
        )
    offer = Offer(
        id=str(row.get("id", number)),
        title=texts["title"],
        description=texts["description"],
        image=path,
        attributes=_attributes(row),
    )
    return offer, opened


def _attributes(row: Mapping[str, Any]) -> dict[str, Any]:
    """The seller's attributes of a catalog's row: its object of attributes, and columns such as brand and color."""
    stated = row.get("attributes")
    stated = dict(stated) if isinstance(stated, Mapping) else {}
    columns = Columns(map(str, row), given={"id": ROW_NUMBER}).attributes(row)
    return {
        **{name: value for name, value in columns.items() if name not in set(map(attribute_named, stated))},
        **stated,
    }


def _opened(value: Any) -> Image | None:
    """A PIL image as models get it: RGB, upright, not too large; None where it is something else."""
    from PIL import Image

    if not isinstance(value, Image.Image):
        return None
    return decode(value.copy(), "that was given")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
