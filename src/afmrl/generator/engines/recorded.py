"""The recorded engine: plays back what another engine answered, for tests and for runs without a server."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from afmrl.data.image_cache import image_file
from afmrl.errors import InputError
from afmrl.files import content_hash, file_hash, parse_json, sync_file
from afmrl.generator.engines.base import Completion, Engine, Request, Sampling, Usage
from afmrl.generator.prompt import GeneratorPrompt

FORMAT = "afmrl-recording"
REQUESTS_AT_ONCE = 64
"""Asked of the source and written down together: what a killed recording loses."""


class RecordedEngine:
    """Completions out of a JSONL file: a line for the format and the prompt, then one a request.

    A record is found by a hash of the messages, the image's bytes, the answer's schema and the sampling (the seed
    only where something is sampled); of the same request asked twice the first record counts.

    Args:
        file: the recording.
        source: asked for what is missing, which is then recorded; None: nothing may be missing.
        prompt: written into a new recording, for those who play it.

    Raises:
        InputError: the recording is not there (without a source) or damaged.
    """

    def __init__(self, file: str | Path, source: Engine | None = None, prompt: GeneratorPrompt | None = None) -> None:
        self.file, self.source = Path(file), source
        self.usage = source.usage if source else Usage()
        self.prompt = prompt or GeneratorPrompt()
        self._records: dict[str, list[Completion]] = {}
        if self.file.is_file():
            self._read()
        elif source is None:
            raise InputError(f"recording {file}: no such file; record one with recorded:{file}@ADDRESS")

    def _read(self) -> None:
        data = self.file.read_bytes()
        whole = data.rfind(b"\n") + 1  # a last line without an end was being written when the recording was killed
        for number, line in enumerate(data[:whole].splitlines(), 1):
            try:
                record = parse_json(line)
                if number == 1:
                    if record["format"] != FORMAT:
                        raise ValueError(f"the first line names no {FORMAT}")
                    self.prompt = GeneratorPrompt.of(record["prompt"])
                    continue
                self._records.setdefault(record["key"], [Completion(**one) for one in record["completions"]])
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(
                    f"recording {self.file}:{number}: is not a record ({error}); remove the line, or record again"
                ) from error
        if self.source is not None and whole < len(data):
            os.truncate(self.file, whole)

    def complete(
        self, requests: Sequence[Request], sampling: Sampling, *, batch_size: int, progress: bool
    ) -> list[list[Completion]]:
        """See `Engine.complete`.

        Raises:
            InputError: a request that was not recorded, without a source to ask.
        """
        keys = [_key(request, sampling) for request in requests]
        missing = [row for row, key in enumerate(keys) if key not in self._records]
        if missing and self.source is None:
            first = requests[missing[0]]
            raise InputError(
                f"recording {self.file}: holds no answer for {len(missing)} of {len(requests)} offers, the first "
                f"{first.offer_id!r}: another prompt, image or sampling than was recorded; record them with "
                f"recorded:{self.file}@ADDRESS"
            )
        for start in range(0, len(missing), REQUESTS_AT_ONCE):
            rows = missing[start : start + REQUESTS_AT_ONCE]
            assert self.source is not None
            answers = self.source.complete(
                [requests[row] for row in rows], sampling, batch_size=batch_size, progress=progress
            )
            self._append([(keys[row], requests[row], answer) for row, answer in zip(rows, answers, strict=True)])
        return [list(self._records[key]) for key in keys]

    def _append(self, answered: Sequence[tuple[str, Request, list[Completion]]]) -> None:
        lines: list[dict[str, Any]] = []
        if not self.file.is_file() or not self.file.stat().st_size:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            lines.append({"format": FORMAT, "version": 1, "prompt": self.prompt.as_dict()})
        for key, request, completions in answered:
            self._records.setdefault(key, completions)
            if any(completion.failure for completion in completions):
                continue  # asked again the next time
            record = [dataclasses.asdict(completion) for completion in completions]
            lines.append({"key": key, "offer": request.offer_id, "completions": record})
        with open(self.file, "a", encoding="utf-8") as file:
            file.write("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
            sync_file(file)


def _key(request: Request, sampling: Sampling) -> str:
    image = file_hash(image_file(request.image)) if request.image else ""
    options = dataclasses.asdict(sampling)
    if sampling.temperature == 0:
        del options["seed"]
    asked = [request.messages, image, request.json_schema, options]
    return content_hash(json.dumps(asked, sort_keys=True, ensure_ascii=True))
