"""What of a run is complete: a stage is done once, resumed if killed, and never taken for whole when it is half."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from afmrl.stages.checkpoints import write_json

COMPLETE, STARTED = "complete.json", "started.json"


def fingerprint(*parts: Any) -> str:
    """A short hash of configs (dataclasses), strings and numbers; the same in every process.

    >>> fingerprint({"a": 1}, "x") == fingerprint({"a": 1}, "x")
    True
    """
    plain = [dataclasses.asdict(p) if dataclasses.is_dataclass(p) and not isinstance(p, type) else p for p in parts]
    return hashlib.sha256(json.dumps(plain, sort_keys=True, default=str).encode()).hexdigest()[:16]


def file_hash(path: str | Path) -> str:
    """SHA-256 of a file's bytes, hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Ledger:
    """The stages of one run folder, each in `DIR/stages/NAME` with what it was made of and how long it took.

    Args:
        folder: the run's folder.
        say: called with one line when a stage is taken over, resumed or done.
    """

    def __init__(self, folder: str | Path, say: Callable[[str], None] = print) -> None:
        self.folder = Path(folder) / "stages"
        self.say = say
        self.seconds: dict[str, float] = {}
        self.results: dict[str, dict[str, Any]] = {}

    def run(self, name: str, made_of: str, work: Callable[[Path], dict[str, Any] | None]) -> Path:
        """Do `work(folder)` unless this stage is complete and made of the same; return its folder.

        A stage that was killed is called again over what it left (its checkpoints), if it is made of the same;
        otherwise its folder is emptied first.
        """
        folder = self.folder / name
        done = _read(folder / COMPLETE)
        if done and done.get("made_of") == made_of:
            self.say(f"{name}: complete, not run again")
            self.seconds[name], self.results[name] = done["seconds"], done["result"]
            return folder
        begun = _read(folder / STARTED)
        if folder.exists() and (done or not begun or begun.get("made_of") != made_of):
            shutil.rmtree(folder)
        elif begun:
            self.say(f"{name}: was interrupted, goes on from what is there")
        folder.mkdir(parents=True, exist_ok=True)
        before = float((begun or {}).get("seconds", 0.0)) if (folder / STARTED).exists() else 0.0
        write_json(folder / STARTED, {"made_of": made_of, "seconds": before})
        start = time.perf_counter()
        result = work(folder) or {}
        self.seconds[name] = round(before + time.perf_counter() - start, 2)
        self.results[name] = result
        write_json(folder / COMPLETE, {"made_of": made_of, "seconds": self.seconds[name], "result": result})
        self.say(f"{name}: done in {self.seconds[name]:.0f} s")
        return folder


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None
