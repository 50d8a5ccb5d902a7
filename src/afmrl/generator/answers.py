"""Answers of general models (teachers): key attributes out of JSON, code fences and chatter."""

from __future__ import annotations

import ast
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from afmrl.attributes.key_attributes import (
    MAX_PAIRS,
    MAX_VALUE_CHARACTERS,
    NOTHING,
    InvalidCompletion,
    KeyAttributes,
)
from afmrl.attributes.missing import says_nothing
from afmrl.attributes.words import normalize

MAX_ANSWER_CHARACTERS = 50_000
"""Of a longer answer only the beginning is read: nobody's key attributes are that long."""
MAX_JSON_STARTS = 200
"""Brackets that are tried as the start of JSON: an answer of brackets alone must not cost time."""
_BRACKET = re.compile(r"[{\[]")
_THOUGHT = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)
_FENCE = re.compile(r"```[\w-]*\n?(.*?)(?:```|\Z)", re.DOTALL)
_LINE = re.compile(r"^\s*(?:[-*•·]|\d{1,2}[.)])?\s*\**\"?([^:：\n*\"]{1,60}?)\"?\**\s*[:：]\s*\**\s*(.+?)\s*\**,?\s*$")
_COMMA_BEFORE_KEY = re.compile(r",\s*(?=[^,:;]{1,40}:\s*\S)")
_TRAILING_COMMA = re.compile(r",\s*([}\]])")
_PROSE = re.compile(r"[.!?,{}\[\]]|(?:\S+\s+){6}")
"""What no key looks like: a sentence's signs, JSON that was cut off, or more than six words."""
_CLOSED = {"{": "}", "[": "]"}
_KEY_NAMES, _VALUE_NAMES = ("key", "name", "attribute"), ("value",)


def parse_answer(answer: str) -> KeyAttributes:
    """Key attributes of a general model's answer, leniently.

    Read are: a JSON object anywhere in the answer (of several the last that holds pairs; an object of objects is
    opened; a list of values is joined by " / "), a JSON list of `{"key": …, "value": …}`, the same as a Python literal
    or with a trailing comma; otherwise lines or a list of `key: value`, with semicolons or commas between them, also
    full-width ones.
    Thoughts and code fences are skipped. The first of a key counts; unknown values are left out.
    `KeyAttributes.parse` is the strict reader, which RAR's reward uses.

    Raises:
        InvalidCompletion: there are no pairs in it, or too many; the message says what there is instead.

    >>> str(parse_answer('Sure! Here it is:\\n```json\\n{"Color": "Deep Red", "Size": null}\\n```'))
    'color: deep red'
    >>> str(parse_answer("**Color**: red\\n**Size**: M"))
    'color: red; size: m'
    """
    text = _THOUGHT.sub(" ", answer[:MAX_ANSWER_CHARACTERS])
    text = text.rpartition("</think>")[2].strip()  # some chat templates open the thought themselves
    if not text:
        raise InvalidCompletion("empty answer" if not answer.strip() else "the answer holds thoughts alone")
    if normalize(text).strip(". ") == NOTHING:
        return KeyAttributes()
    found = None
    for value in _json_values(text):
        pairs = _pairs(value)
        if pairs or (pairs is not None and found is None):
            found = pairs
    if found is None:
        fenced = _FENCE.findall(text)
        found = _text_pairs(unicodedata.normalize("NFKC", "\n".join(fenced) if fenced else text))
        if not found:
            raise InvalidCompletion(f"neither JSON nor 'key: value' in {' '.join(text.split())[:60]!r}")
    attributes = attributes_of(found)
    if len(attributes) > MAX_PAIRS:
        raise InvalidCompletion(f"{len(attributes)} pairs, at most {MAX_PAIRS} are allowed")
    return attributes


def attributes_of(value: Any) -> KeyAttributes:
    """Key attributes of a JSON value or of pairs, in any of the forms that `parse_answer` reads.

    >>> str(attributes_of({"color": ["red", "white"], "size": "unknown (not visible)"}))
    'color: red / white'
    """
    pairs = value if isinstance(value, list) and all(isinstance(one, tuple) for one in value) else _pairs(value) or []
    known = [(key, text) for key, text in pairs if not says_nothing(text)]
    return KeyAttributes.of([pair for pair in known if max(map(len, pair)) <= MAX_VALUE_CHARACTERS])


def _json_values(text: str) -> Iterator[Any]:
    """Every JSON object or list of the text that is not inside another."""
    decoder = json.JSONDecoder(object_pairs_hook=_first_of_each)
    start, unclosed = 0, set[str]()
    for _ in range(MAX_JSON_STARTS):
        match = _BRACKET.search(text, start)
        if match is None:
            return
        try:
            value, start = decoder.raw_decode(text, match.start())
            yield value
        except (ValueError, RecursionError):
            end = None if match[0] in unclosed else _end_of(text, match.start())
            if end is None:
                unclosed.add(match[0])  # and what follows it is not looked at again and again
                start = match.start() + 1
                continue
            # what is inside something that cannot be read is no answer
            value, start = _nearly_json(text[match.start() : end], decoder), end
            if value is not None:
                yield value


def _end_of(text: str, start: int) -> int | None:
    """Behind the bracket that closes the one at `start`; None where none does."""
    depth, opening, closing = 0, text[start], _CLOSED[text[start]]
    for place in range(start, len(text)):
        depth += (text[place] == opening) - (text[place] == closing)
        if depth == 0:
            return place + 1
    return None


def _nearly_json(text: str, decoder: json.JSONDecoder) -> Any:
    """JSON with a trailing comma, or a Python literal; None where it is neither."""
    with suppress(ValueError, RecursionError):
        return decoder.decode(_TRAILING_COMMA.sub(r"\1", text))
    with suppress(ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
        return ast.literal_eval(text)
    return None


def _first_of_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for key, value in pairs:
        kept.setdefault(key, value)
    return kept


def _pairs(value: Any, depth: int = 0) -> list[tuple[str, str]] | None:
    """Pairs of a JSON value; None where it is none of the forms."""
    if isinstance(value, list):
        if not value or not all(isinstance(one, Mapping) for one in value) or depth > 1:
            return None
        pairs: list[tuple[str, str]] = []
        for one in value:
            key = next((one[name] for name in _KEY_NAMES if isinstance(one.get(name), str)), None)
            if key is not None and any(name in one for name in _VALUE_NAMES):
                pairs.append((key, _text(one["value"])))
            else:
                pairs += _pairs(one, depth + 1) or []
        return pairs
    if not isinstance(value, Mapping):
        return None
    pairs = []
    for key, of_key in value.items():
        if isinstance(of_key, Mapping) or (isinstance(of_key, list) and any(isinstance(o, Mapping) for o in of_key)):
            pairs += (_pairs(of_key, depth + 1) or []) if depth < 2 else []
        else:
            pairs.append((str(key), _text(of_key)))  # a Python literal has keys of other kinds
    return pairs


def _text(value: Any) -> str:
    if isinstance(value, list):
        return " / ".join(text for one in value if not says_nothing(text := _text(one)))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or isinstance(value, Mapping):
        return ""
    return str(value)


def _text_pairs(text: str) -> list[tuple[str, str]]:
    lines = [line for line in text.splitlines() if line.strip()]
    pairs = [(match[1], match[2]) for line in lines if (match := _LINE.match(line))]
    if len(pairs) <= 1:
        split = []
        if ";" in text:
            parts = text[text.rfind("\n", 0, max(text.find(";"), 0)) + 1 :].replace("\n", ";").strip("() ").split(";")
            split = [(key, value) for key, found, value in (part.partition(":") for part in parts) if found]
        elif len(lines) == 1:  # the paper's form parts by commas
            parts = _COMMA_BEFORE_KEY.split(lines[0].strip("() "))
            split = [(key, value) for key, found, value in (part.partition(":") for part in parts) if found]
        pairs = split if len(split) > len(pairs) else pairs
    # "Here are the attributes: they follow" is no pair, and neither is an explanation
    cleaned = [(key.strip(" (\"'*"), value.strip(" \"'*")) for key, value in pairs]
    return [(key, value) for key, value in cleaned if value and len(value) <= 200 and not _PROSE.search(key)]
