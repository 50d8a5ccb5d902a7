"""Completions of many offers within a run: kept chunk by chunk, so that a run that was killed goes on there."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from afmrl.generator import AttributeGenerator, Completion
from afmrl.offers import Offer

CHUNK_BATCHES = 16
"""Of a chunk: enough offers to sort by length, few enough to lose."""
PART = "completions.part.jsonl"


def kept_completions(
    generator: AttributeGenerator, offers: Sequence[Offer], folder: str | Path, *, max_new_tokens: int, batch_size: int
) -> list[Completion]:
    """One greedy completion of each offer, in order; those that `folder` holds of the same call are not made again.

    Chunks are the same whether or not the call was interrupted, and so are the completions. The caller deletes what
    is kept (`forget_completions`) once its own result is written.
    """
    path = Path(folder) / PART
    chunk = CHUNK_BATCHES * batch_size
    found = _whole_chunks(path, chunk)
    starts = range(len(found), len(offers), chunk)
    with open(path, "a", encoding="utf-8") as file:
        for start in _tracked(starts) if len(offers) > chunk else starts:
            written = generator.generate(
                offers[start : start + chunk], max_new_tokens=max_new_tokens, batch_size=batch_size
            )
            for (completion,) in written:
                file.write(json.dumps(dataclasses.asdict(completion), ensure_ascii=False) + "\n")
                found.append(completion)
            file.flush()
            os.fsync(file.fileno())
    return found


def forget_completions(folder: str | Path) -> None:
    """Delete what `kept_completions` kept."""
    (Path(folder) / PART).unlink(missing_ok=True)


def _whole_chunks(path: Path, chunk: int) -> list[Completion]:
    """What an earlier process wrote, up to its last whole chunk; the rest is cut off the file."""
    found: list[Completion] = []
    if not path.is_file():
        return found
    ends = [0]
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            completion = Completion(**json.loads(line))
        except (ValueError, TypeError):
            break  # torn
        if not line.endswith(b"\n"):
            break  # torn at its very end: the next line would be written behind it
        found.append(completion)
        ends.append(ends[-1] + len(line))
    whole = len(found) - len(found) % chunk
    os.truncate(path, ends[whole])
    return found[:whole]


def _tracked(starts: range) -> Iterable[int]:
    from rich.progress import track

    return track(starts, description="writing attributes")
