"""Answers of general models (teachers): key attributes out of JSON, code fences and chatter."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from afmrl.attributes import MAX_PAIRS, NOTHING, InvalidCompletion, KeyAttributes, normalise

MAX_ANSWER_CHARACTERS = 50_000
"""Of a longer answer only the beginning is read: nobody's key attributes are that long."""
MAX_JSON_STARTS = 200
"""Brackets that are tried as the start of JSON: an answer of nothing else must not cost time."""
_BRACKET = re.compile(r"[{\[]")
_THOUGHT = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)
_FENCE = re.compile(r"```[\w-]*\n?(.*?)(?:```|\Z)", re.DOTALL)
_LINE = re.compile(r"^\s*(?:[-*•·]|\d{1,2}[.)])?\s*\**\"?([^:：\n*\"]{1,60}?)\"?\**\s*[:：]\s*\**\s*(.+?)\s*\**,?\s*$")
_KEY_NAMES, _VALUE_NAMES = ("key", "name", "attribute"), ("value",)


def parse_answer(answer: str) -> KeyAttributes:
    """Key attributes of a general model's answer, leniently.

    Read are: a JSON object anywhere in the answer (of several the last that holds pairs; an object of objects is
    opened; a list of values is joined by " / "), a JSON list of `{"key": …, "value": …}`, else lines or a list of
    `key: value`. Thoughts and code fences are passed over. The first of a key counts; unknown values are left out.
    `KeyAttributes.parse` is the strict reader, which RAR's reward uses.

    Raises:
        InvalidCompletion: there are no pairs in it, or too many; the message says what there is instead.

    >>> str(parse_answer('Sure! Here it is:\\n```json\\n{"Color": "Deep Red", "Size": null}\\n```'))
    'color: deep red'
    >>> str(parse_answer("**Color**: red\\n**Size**: M"))
    'color: red; size: m'
    """
    text = _THOUGHT.sub(" ", answer[:MAX_ANSWER_CHARACTERS]).strip()
    if not text:
        raise InvalidCompletion("empty answer" if not answer.strip() else "the answer holds thoughts alone")
    if normalise(text).strip(". ") == NOTHING:
        return KeyAttributes()
    found = None
    for value in _json_values(text):
        pairs = _pairs(value)
        if pairs or (pairs is not None and found is None):
            found = pairs
    if found is None:
        fenced = _FENCE.findall(text)
        found = _text_pairs("\n".join(fenced) if fenced else text)
        if not found:
            raise InvalidCompletion(f"neither JSON nor 'key: value' in {' '.join(text.split())[:60]!r}")
    attributes = KeyAttributes.of(found)
    if len(attributes) > MAX_PAIRS:
        raise InvalidCompletion(f"{len(attributes)} pairs, at most {MAX_PAIRS} are allowed")
    return attributes


def _json_values(text: str) -> Iterator[Any]:
    """Every JSON object or list of the text that does not stand inside another."""
    decoder = json.JSONDecoder(object_pairs_hook=_first_of_each)
    start = 0
    for _ in range(MAX_JSON_STARTS):
        match = _BRACKET.search(text, start)
        if match is None:
            return
        try:
            value, start = decoder.raw_decode(text, match.start())
            yield value
        except (ValueError, RecursionError):
            start = match.start() + 1


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
            pairs.append((key, _text(of_key)))
    return pairs


def _text(value: Any) -> str:
    if isinstance(value, list):
        return " / ".join(text for one in value if (text := _text(one)))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or isinstance(value, Mapping):
        return ""
    return str(value)


def _text_pairs(text: str) -> list[tuple[str, str]]:
    lines = [line for line in text.splitlines() if line.strip()]
    pairs = [(match[1], match[2]) for line in lines if (match := _LINE.match(line))]
    if len(pairs) <= 1 and ";" in text:
        parts = text[text.rfind("\n", 0, max(text.find(";"), 0)) + 1 :].replace("\n", ";").strip("() ").split(";")
        split = [(key, value) for key, found, value in (part.partition(":") for part in parts) if found]
        pairs = split if len(split) > len(pairs) else pairs
    # "Here are the attributes: they follow" is no pair, and neither is an explanation
    return [(key.strip(" (\"'*"), value.strip(" \"'*")) for key, value in pairs if len(value) <= 200 and value.strip()]
