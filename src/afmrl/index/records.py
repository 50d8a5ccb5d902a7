"""What the adapters of databases share: rows as records, words to count, addresses to show."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import numpy as np

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.attributes.words import tokenize
from afmrl.data.color_bins import COLORS
from afmrl.data.offer import Offer
from afmrl.errors import InputError, shown_address
from afmrl.files import digest
from afmrl.index.backend import DTYPES, EXACT_BELOW, Rows, filter_value
from afmrl.retrieval.colors import readable_color_histograms

MAX_WORD_CHARACTERS = 100
FORMAT, VERSION = "afmrl-index", 1
T = TypeVar("T")
DTYPE = "f16"
STORED_DTYPES = ("f32", "f16")  # i8 is the local index's own


def record_of(offer: Offer, key_attributes: KeyAttributes) -> dict[str, str]:
    """A row's texts as columns; the mappings as JSON, which keeps their order and every character.

    >>> offer_of(record_of(Offer("1", "dress", extra={"seller": "shop"}), KeyAttributes.of({"color": "red"})))
    (Offer(id='1', title='dress', ..., extra={'seller': 'shop'}), KeyAttributes(pairs=(('color', 'red'),)))
    """
    return {
        "id": offer.id,
        "title": offer.title,
        "description": offer.description,
        "image": offer.image,
        "category": offer.category,
        "seller": filter_value(offer, "seller"),
        "product_id": offer.product_id,
        "attributes": json.dumps(dict(offer.attributes)),
        "key_attributes": json.dumps(key_attributes.as_dict()),
        "extra": json.dumps(dict(offer.extra), default=str),  # str: a date of a Parquet column
    }


def records_of(rows: Rows) -> list[dict[str, str]]:
    """`record_of` every row, with its fingerprint."""
    columns = zip(rows.ids, rows.offers, rows.key_attributes, rows.fingerprints, strict=True)
    return [record_of(offer, found) | {"id": name, "fingerprint": mark} for name, offer, found, mark in columns]


def offer_of(record: Mapping[str, Any]) -> tuple[Offer, KeyAttributes]:
    """The offer and the key attributes that `record_of` wrote."""
    offer = Offer(
        id=record["id"],
        title=record["title"],
        description=record["description"],
        image=record["image"],
        category=record["category"],
        attributes=json.loads(record["attributes"]),
        product_id=record["product_id"],
        extra=json.loads(record["extra"]),
    )
    return offer, KeyAttributes(tuple(json.loads(record["key_attributes"]).items()))


def word_counts(text: str) -> Counter[str]:
    """How often each word is in a text; an endless word is cut and hashed, since indexes bound their keys.

    >>> word_counts("red Red dress")
    Counter({'red': 2, 'dress': 1})
    """
    return Counter(word if len(word) <= MAX_WORD_CHARACTERS else _shortened(word) for word in tokenize(text))


def color_histograms_of(
    rows: Rows, ids: Sequence[str], *, turn: Callable[[], AbstractContextManager[None]] = nullcontext
) -> np.ndarray:
    """Color histograms by id: a database keeps none, so the rows' images are opened.

    Args:
        turn: each image is opened within one.

    Shape:
        returns (n, 216) float32.
    """
    place = {identifier: row for row, identifier in enumerate(rows.ids)}
    found = np.zeros((len(ids), COLORS), dtype=np.float32)
    there = [number for number, identifier in enumerate(ids) if identifier in place]
    found[there] = readable_color_histograms([rows.offers[place[ids[number]]] for number in there], turn=turn)
    return found


def scores_by_id(ids: Sequence[str], found_ids: Sequence[str], scores: np.ndarray) -> np.ndarray:
    """(n,) float32 of `ids`; 0 where a row was not found.

    >>> scores_by_id(["a", "b"], ["b"], np.array([0.5])).tolist()
    [0.0, 0.5]
    """
    known = dict(zip(found_ids, scores.tolist(), strict=True))
    return np.array([known.get(identifier, 0.0) for identifier in ids], dtype=np.float32)


def stored_dtype(address: str, settings: Mapping[str, Any]) -> str:
    """The settings' dtype, f16 where they name none.

    Raises:
        InputError: one that databases do not hold.
    """
    dtype = str(settings.get("dtype", DTYPE))
    if dtype not in STORED_DTYPES:
        reason = "is only for a local index" if dtype in DTYPES else "is unknown"
        raise InputError(f"index {address}: dtype {dtype!r} {reason}; choose {' or '.join(STORED_DTYPES)}")
    return dtype


def sealed(dimension: int, settings: Mapping[str, Any]) -> str:
    """What a database remembers of the index, as JSON; what the settings leave out is filled in."""
    whole = {"dtype": DTYPE, "exact_below": EXACT_BELOW, **settings}
    return json.dumps({"format": FORMAT, "version": VERSION, "dimension": dimension, "settings": whole})


def unsealed(address: str, text: str | None) -> tuple[int, dict[str, Any]]:
    """Dimension and settings that `sealed` wrote.

    Raises:
        InputError: it did not, or a later version did.
    """
    try:
        found = json.loads(text or "")
        if found["format"] == FORMAT and found["version"] == VERSION:
            return int(found["dimension"]), dict(found["settings"])
        reason = f"is of format {found['format']!r}, version {found['version']}; this release reads {VERSION}"
    except (ValueError, TypeError, KeyError):
        reason = "was not made by `afmrl index`"
    raise InputError(f"index {address}: {reason}; give another address")


def empty_index(address: str) -> str:
    """What to say of an index without a row.

    >>> empty_index("shop/index")
    'index shop/index: is empty; fill it with: afmrl index EMBEDDINGS --out shop/index'
    """
    shown = shown_address(address)
    return f"index {shown}: is empty; fill it with: afmrl index EMBEDDINGS --out {shown}"


def without_secrets(message: str, address: str) -> str:
    """A library's message on one line, without the address's password.

    >>> without_secrets("no host s3 cret,\\n none", "postgresql://shop:s3%20cret@db/offers")
    'no host …, none'
    """
    try:
        password = urlsplit(address).password or ""
    except ValueError:
        password = ""
    message = " ".join(shown_address(message).split())
    for secret in {password, unquote(password)} - {""}:
        message = message.replace(secret, "…")
    return message


def chunks(things: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` things, the last of the rest.

    >>> list(chunks("abcde", 2))
    [['a', 'b'], ['c', 'd'], ['e']]
    """
    rest = iter(things)
    while chunk := list(islice(rest, size)):
        yield chunk


def _shortened(word: str) -> str:
    short = digest(word.encode("utf-8", "replace"), 8).hex()
    return f"{word[: MAX_WORD_CHARACTERS - 17]}~{short}"
