"""hits.jsonl: one line a query, with the gallery offers that were found for it, best first."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from afmrl.errors import InputError
from afmrl.files import atomic_write, parse_json, read_lines

Hit = tuple[str, float]
"""A gallery offer's id and its score."""


def write_hits(path: str | Path, hits: Iterable[tuple[str, Iterable[Hit]]]) -> None:
    """Write the hits of each query, atomically; scores have nine decimals.

    Args:
        hits: (query id, its hits, best first).

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "hits.jsonl"
    >>> write_hits(path, [("q1", [("g2", 0.9), ("g7", 0.25)]), ("q2", [])])
    >>> path.read_text().splitlines()[0]
    '{"query": "q1", "hits": [{"id": "g2", "score": 0.9}, {"id": "g7", "score": 0.25}]}'
    >>> read_hits(path)
    {'q1': [('g2', 0.9), ('g7', 0.25)], 'q2': []}
    """
    with atomic_write(path) as file:
        for query, found in hits:
            line = {"query": query, "hits": [{"id": offer, "score": round(score, 9)} for offer, score in found]}
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def read_hits(path: str | Path) -> dict[str, list[Hit]]:
    """Query id -> its hits, best first.

    Raises:
        InputError: no such file, or a line that is not the hits of a query.
    """
    try:
        lines = read_lines(path)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"hits {path}: cannot be read ({error})") from error
    hits: dict[str, list[Hit]] = {}
    for number, line in enumerate(lines, 1):
        try:
            row = parse_json(line)
            hits[str(row["query"])] = [(str(hit["id"]), float(hit["score"])) for hit in row["hits"]]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f'hits {path}:{number}: expected {{"query": id, "hits": [{{"id": …, "score": …}}, …]}} ({error})'
            ) from error
    return hits
