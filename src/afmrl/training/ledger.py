"""What of a run is complete: a stage is done once, resumed if killed, and never taken for whole when it is half."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from afmrl.data.damage import Checked
from afmrl.files import file_hash, fingerprint, naming, parse_json, write_json
from afmrl.training.processes import on_first, rank

COMPLETE, STARTED = "complete.json", "started.json"
_OS_ERROR = re.compile(r"os error (\d+)")
_NOT_WRITTEN = ("unexpected pos", "iostream error", "PytorchStreamWriter failed")
"""What torch says where it could not write, whatever the reason."""


class Ledger:
    """The stages of one run folder, each in `DIR/stages/NAME` with what it was made of and how long it took.

    Args:
        folder: the run's folder.
        say: called with one line when a stage is reused, resumed or done.
    """

    def __init__(self, folder: str | Path, say: Callable[[str], None] = print) -> None:
        self.folder = Path(folder) / "stages"
        self.say = say
        self.seconds: dict[str, float] = {}
        self.results: dict[str, dict[str, Any]] = {}
        self.weights: dict[str, str] = {}
        """A hash of the weights that each stage left: what was made of others is made again."""

    def run(
        self, name: str, made_of: str, work: Callable[[Path], dict[str, Any] | None], *, together: bool = False
    ) -> Path:
        """Do `work(folder)` unless this stage is complete and made of the same; return its folder.

        A stage that was killed is called again over what it left (its checkpoints), if it is made of the same;
        otherwise its folder is emptied first.

        Args:
            together: all processes of a run do the work; otherwise the first one does and the others wait. Only the
                first one reads and writes the ledger.
        """
        folder = self.folder / name
        if together:
            before = on_first(lambda: self._open(name, made_of))
            if before is not None:
                start = time.perf_counter()
                try:
                    with _room_for(folder):
                        result = work(folder) or {}
                except BaseException:
                    if rank() == 0:
                        self._interrupted(folder, made_of, before + time.perf_counter() - start)
                    raise
                on_first(lambda: self._close(name, made_of, before + time.perf_counter() - start, result))
        else:
            on_first(lambda: self._run_alone(name, made_of, work))
        known = (self.seconds.get(name), self.results.get(name), self.weights.get(name))
        self.seconds[name], self.results[name], self.weights[name] = on_first(lambda: known)
        return folder

    def _run_alone(self, name: str, made_of: str, work: Callable[[Path], dict[str, Any] | None]) -> None:
        folder = self.folder / name
        before = self._open(name, made_of)
        if before is None:
            return
        start = time.perf_counter()
        try:
            with _room_for(folder):
                result = work(folder) or {}
        except BaseException:
            self._interrupted(folder, made_of, before + time.perf_counter() - start)
            raise
        self._close(name, made_of, before + time.perf_counter() - start, result)

    def _open(self, name: str, made_of: str) -> float | None:
        """Make a stage's folder ready; the seconds spent there before, or None where it is complete."""
        folder = self.folder / name
        done = _read(folder / COMPLETE)
        if done and done.get("made_of") == made_of and "weights" in done:
            if name not in self.seconds:  # said once, however often it is asked for
                self.say(f"{name}: complete, not run again")
            self.seconds[name], self.results[name] = done["seconds"], done["result"]
            self.weights[name] = done["weights"]
            return None
        begun = _read(folder / STARTED)
        if folder.exists() and (done or not begun or begun.get("made_of") != made_of):
            if done or begun:
                other = "made with other settings, of other inputs or by another version"
                self.say(f"{name}: {'was' if done else 'was begun,'} {other}; runs from its start")
            shutil.rmtree(folder)
        elif begun:
            self.say(f"{name}: was interrupted, resumes from what is there")
        folder.mkdir(parents=True, exist_ok=True)
        before = float((begun or {}).get("seconds", 0.0)) if (folder / STARTED).exists() else 0.0
        write_json(folder / STARTED, {"made_of": made_of, "seconds": before})
        return before

    @staticmethod
    def _interrupted(folder: Path, made_of: str, seconds: float) -> None:
        """The time spent so far counts, should the stage resume later."""
        with contextlib.suppress(OSError):  # a full disk, which is what ended it
            write_json(folder / STARTED, {"made_of": made_of, "seconds": round(seconds, 2)})

    def _close(self, name: str, made_of: str, seconds: float, result: dict[str, Any]) -> None:
        folder = self.folder / name
        self.seconds[name] = round(seconds, 2)
        self.results[name] = result
        self.weights[name] = _weights_hash(folder)
        record = {"made_of": made_of, "seconds": self.seconds[name], "weights": self.weights[name], "result": result}
        write_json(folder / COMPLETE, record)
        self.say(f"{name}: done in {self.seconds[name]:.0f} s")


def check_stages(folder: Path) -> Iterator[Checked]:
    """Compare the weights of a run's stages with what was written down when each was complete.

    Args:
        folder: RUN/stages.
    """
    for stage in sorted(path for path in folder.glob("*") if path.is_dir()):
        done = _read(stage / COMPLETE)
        what, fault = f"stage {stage.name}", ""
        if done is None and (stage / COMPLETE).exists():
            fault = f"{stage / COMPLETE} cannot be read; the same run does the stage again"
        elif done is None and (stage / STARTED).exists():
            what += ": not complete; the same run resumes it"
        elif done is not None and done.get("weights") != _weights_hash(stage):
            fault = f"its weights are not what was written; remove {stage}, and the same run does it again"
        yield Checked(what, fault)


@contextlib.contextmanager
def _room_for(folder: Path) -> Iterator[None]:
    """Let the error of a full disk be one, and name the folder, whatever library wrote there.

    safetensors and torch write by themselves, and what they raise is no OSError.
    """
    try:
        with naming(folder):
            yield
    except (RuntimeError, SafetensorError) as error:
        if number := _OS_ERROR.search(str(error)):
            raise OSError(int(number[1]), os.strerror(int(number[1])), str(folder)) from error
        if any(words in str(error) for words in _NOT_WRITTEN):
            raise OSError(errno.EIO, "cannot be written; is the disk full?", str(folder)) from error
        raise


def _weights_hash(folder: Path) -> str:
    """Of every weight file below `folder`; checkpoints are gone by then."""
    return fingerprint(*(file_hash(path) for path in sorted(folder.rglob("*.safetensors"))))


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return dict(parse_json(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None
