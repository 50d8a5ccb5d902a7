"""Completions of many offers within a run: kept chunk by chunk, so that a run that was killed resumes there."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from afmrl.data.offer import Offer
from afmrl.files import sync_file
from afmrl.generator.engines.base import Completion
from afmrl.generator.generator import AttributeGenerator
from afmrl.terminal import track
from afmrl.training.processes import gathered, rank, world_size

CHUNK_BATCHES = 16
"""Of a chunk: enough offers to sort by length, few enough to lose."""
PART = "completions.part.jsonl"
SEEDS = 10_000  # between two processes: more than one has chunks


def kept_completions(
    generator: AttributeGenerator,
    offers: Sequence[Offer],
    folder: str | Path,
    *,
    batch_size: int,
    seed: int | None = None,
    part: str = PART,
    **sampling: Any,
) -> list[list[Completion]]:
    """`generator.generate`'s completions of each offer, in order; those that `folder` holds are not made again.

    Chunks are the same whether or not the call was interrupted, and so are the completions. The caller deletes what
    is kept (`forget_completions`) once its own result is written.

    Args:
        seed: of the sampling; each chunk has its own.
        part: name of the file that keeps them.
        sampling: options of `generate`.
    """
    path = Path(folder) / part
    chunk = CHUNK_BATCHES * batch_size
    found = _whole_chunks(path, chunk)[: len(offers)]
    starts = range(len(found), len(offers), chunk)
    several = len(offers) > chunk
    with open(path, "a", encoding="utf-8") as file:
        for start in track(starts, "writing attributes", show=several):
            written = generator.generate(
                offers[start : start + chunk],
                batch_size=batch_size,
                seed=None if seed is None else seed + start // chunk,
                progress=not several,
                **sampling,
            )
            for completions in written:
                kept = [dataclasses.asdict(completion) for completion in completions]
                file.write(json.dumps(kept, ensure_ascii=False) + "\n")
            found += written
            sync_file(file)
    return found


def shared_completions(
    generator: AttributeGenerator, offers: Sequence[Offer], folder: str | Path, *, seed: int = 0, **options: Any
) -> list[list[Completion]]:
    """`kept_completions` of all offers, each process writing its part; every process has to ask at the same time."""
    number, size = rank(), world_size()
    if size == 1:
        return kept_completions(generator, offers, folder, seed=seed, **options)
    own = offers[len(offers) * number // size : len(offers) * (number + 1) // size]
    # by their number too: what another number of processes left is another part
    part = f"{number}-of-{size}.{PART}"
    return gathered(kept_completions(generator, own, folder, seed=seed + SEEDS * number, part=part, **options))


def forget_completions(folder: str | Path) -> None:
    """Delete what `kept_completions` and `shared_completions` kept."""
    for path in Path(folder).glob(f"*{PART}"):
        path.unlink(missing_ok=True)


def _whole_chunks(path: Path, chunk: int) -> list[list[Completion]]:
    """What an earlier process wrote, up to its last whole chunk; the rest is cut off the file."""
    found: list[list[Completion]] = []
    if not path.is_file():
        return found
    ends = [0]
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            completions = [Completion(**completion) for completion in json.loads(line)]
        except (ValueError, TypeError):
            break  # torn
        if not line.endswith(b"\n"):
            break  # torn at its very end: the next line would be appended to it
        found.append(completions)
        ends.append(ends[-1] + len(line))
    whole = len(found) - len(found) % chunk
    os.truncate(path, ends[whole])
    return found[:whole]
