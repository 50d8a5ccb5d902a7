"""Key attributes: parse a completion, normalize, serialize, compare with another offer's."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from afmrl.attributes.missing import says_nothing
from afmrl.attributes.words import normalize
from afmrl.errors import InputError, check_type

PAIR_SEPARATOR = "; "
KEY_SEPARATOR = ": "
NOTHING = "none"
"""What an offer without any readable attribute is labeled with, and what such a completion consists of."""
MAX_PAIRS = 32
MAX_VALUE_CHARACTERS = 200


class InvalidCompletion(ValueError):
    """A completion that is not a list of key attributes; the message says why (RAR rewards it with −0.1)."""


def _clean_value(value: str) -> str:
    # the separators may not be inside a value, or the string would not parse back
    return normalize(value).replace(";", ",").strip(" ,")


def _clean_key(key: str) -> str:
    # nor may a key begin like the parenthesis that some models write around the whole list
    return normalize(re.sub(r"[:;]", " ", normalize(key))).strip("() ")


@dataclass(frozen=True, slots=True)
class AttributeComparison:
    """The keys of two offers: in the left offer's order, then the right's."""

    agree: tuple[str, ...]
    differ: tuple[str, ...]
    only_left: tuple[str, ...]
    only_right: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class KeyAttributes:
    """Ordered `key: value` pairs of one offer; keys are unique, values non-empty and normalized.

    >>> attributes = KeyAttributes.of({"Color": "Deep Red", "Series": "Cabernet Sauvignon", "Size": "unknown"})
    >>> str(attributes)
    'color: deep red; series: cabernet sauvignon'
    >>> KeyAttributes.parse(str(attributes)) == attributes
    True
    """

    pairs: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if type(self.pairs) is not tuple:
            check_type("KeyAttributes: pairs", self.pairs, tuple, "a tuple of pairs, or KeyAttributes.of({key: value})")

    @classmethod
    def of(cls, pairs: Mapping[str, str] | Iterable[tuple[str, str]]) -> KeyAttributes:
        """From a mapping or pairs: normalized; values that say nothing are left out; the first of a key counts.

        Raises:
            InputError: neither a mapping nor pairs.
        """
        give = '{"color": "red"}, or [("color", "red")]; KeyAttributes.parse reads text'
        if isinstance(pairs, str):
            check_type("KeyAttributes.of: the argument", pairs, Mapping, give)
        check_type("KeyAttributes.of: the argument", pairs, Iterable, give)
        kept: dict[str, str] = {}
        for pair in pairs.items() if isinstance(pairs, Mapping) else pairs:
            if not isinstance(pair, tuple | list) or len(pair) != 2:
                raise InputError(f"KeyAttributes.of: {pair!r:.60} is no pair; give {give}")
            key, value = pair
            if says_nothing(value):
                continue
            key, value = _clean_key(str(key)), _clean_value(str(value))
            if key and value:
                kept.setdefault(key, value)
        return cls(tuple(kept.items()))

    @classmethod
    def parse(cls, completion: str) -> KeyAttributes:
        """Key attributes of a completion, strictly.

        Raises:
            InvalidCompletion: empty text, a part without `key: value`, a key twice, an over-long value,
                too many pairs.

        >>> KeyAttributes.parse("color: red; color: blue")
        Traceback (most recent call last):
        afmrl.attributes.key_attributes.InvalidCompletion: key 'color' appears twice
        """
        text = normalize(completion)
        if text.startswith("(") and text.endswith(")"):
            text = text[1:-1].strip()
        if not text:
            raise InvalidCompletion("empty completion")
        if text == NOTHING:
            return cls()
        parts = [part.strip() for part in text.rstrip("; ").split(";")]
        if len(parts) > MAX_PAIRS:
            raise InvalidCompletion(f"{len(parts)} pairs, at most {MAX_PAIRS} are allowed")
        pairs: dict[str, str] = {}
        for part in parts:
            key, separator, value = part.partition(":")
            key, value = key.strip("() "), value.strip()
            if not separator or not key or not value:
                raise InvalidCompletion(f"{part[:60]!r} is not 'key: value'")
            if key in pairs:
                raise InvalidCompletion(f"key {key!r} appears twice")
            if len(key) > MAX_VALUE_CHARACTERS or len(value) > MAX_VALUE_CHARACTERS:
                raise InvalidCompletion(f"a key or value of over {MAX_VALUE_CHARACTERS} characters ({part[:40]!r}…)")
            pairs[key] = value
        return cls(tuple((key, value) for key, value in pairs.items() if not says_nothing(value)))

    def within_limits(self) -> KeyAttributes:
        """What `parse` would read back: without over-long keys and values, and no more pairs than it takes."""
        short = [pair for pair in self.pairs if max(map(len, pair)) <= MAX_VALUE_CHARACTERS]
        return KeyAttributes(tuple(short[:MAX_PAIRS]))

    def without(self, key: str) -> KeyAttributes:
        """The pairs of all other keys."""
        return KeyAttributes(tuple(pair for pair in self.pairs if pair[0] != key))

    def __str__(self) -> str:
        return PAIR_SEPARATOR.join(f"{key}{KEY_SEPARATOR}{value}" for key, value in self.pairs) or NOTHING

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self.pairs)

    def __len__(self) -> int:
        return len(self.pairs)

    def as_dict(self) -> dict[str, str]:
        """The pairs as a new dict, in order."""
        return dict(self.pairs)

    def compared_with(self, other: KeyAttributes) -> AttributeComparison:
        """Which keys agree, differ, or are there on the left (here) or the right (in `other`) only.

        >>> KeyAttributes.of({"color": "red", "size": "m"}).compared_with(KeyAttributes.of({"color": "blue"}))
        AttributeComparison(agree=(), differ=('color',), only_left=('size',), only_right=())
        """
        ours, theirs = self.as_dict(), other.as_dict()
        shared = [key for key in ours if key in theirs]
        return AttributeComparison(
            agree=tuple(key for key in shared if ours[key] == theirs[key]),
            differ=tuple(key for key in shared if ours[key] != theirs[key]),
            only_left=tuple(key for key in ours if key not in theirs),
            only_right=tuple(key for key in theirs if key not in ours),
        )
