"""The terminal: where tables are printed, and the progress of long work is shown."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

LOG_WIDTH = 160  # columns; rich takes 80 where it finds no terminal, and breaks every table's cells


def output_console() -> Console:
    """rich's console of the standard output; COLUMNS in the environment sets its width."""
    from rich.console import Console

    unknown = not sys.stdout.isatty() and not os.environ.get("COLUMNS")
    return Console(width=LOG_WIDTH) if unknown else Console()


def quiet_libraries() -> None:
    """Silence the bars and notices of the libraries below; errors stay."""
    import logging
    import os
    import warnings

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import datasets
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    logging.getLogger("sentence_transformers").setLevel(logging.ERROR)
    for category in (FutureWarning, UserWarning, DeprecationWarning):
        warnings.filterwarnings("ignore", category=category, module=r"(transformers|trl|torch|peft|accelerate)\b.*")


class Timeline:
    """Estimates the time left of a whole run from what its stages are expected to take.

    What stands before a stage that is reported is over, whether or not it was measured: a run that was stopped finds
    stages complete.

    Args:
        expected: seconds a stage on a reference machine, in order; the estimate is scaled by how this machine
            compares on what is done so far.

    >>> timeline = Timeline({"a": 10.0, "unmeasured": 5.0, "b": 30.0, "c": 10.0})
    >>> timeline.done("a", 20.0)
    >>> timeline.remaining()
    90.0
    >>> timeline.remaining("b", 0.5, 30.0)
    50.0
    """

    def __init__(self, expected: Mapping[str, float]) -> None:
        self.expected = dict(expected)
        self.measured: dict[str, float] = {}

    def done(self, stage: str, seconds: float) -> None:
        """A stage took `seconds` here."""
        self.measured[stage] = seconds

    def remaining(self, stage: str | None = None, share: float = 0.0, seconds: float = 0.0) -> float:
        """Seconds left, when `share` of `stage` is done and took `seconds` so far."""
        known = {name: value for name, value in self.measured.items() if name in self.expected}
        spent, planned = sum(known.values()), sum(self.expected[name] for name in known)
        if stage in self.expected and share > 0.05:
            spent, planned = spent + seconds, planned + share * self.expected[stage]
        factor = spent / planned if planned > 0 else 1.0
        order = list(self.expected)
        reached = [order.index(name) for name in (*known, stage) if name in self.expected]
        over = max(reached, default=-1) + (stage not in self.expected)
        left = sum(self.expected[name] for name in order[over:])
        if stage in self.expected:
            left -= share * self.expected[stage]
        return factor * left


class StageProgress:
    """Makes the trainer callbacks that draw a stage's bar.

    Args:
        timeline: adds the time left of the whole run; None shows the stage's alone.
    """

    def __init__(self, timeline: Timeline | None = None) -> None:
        self.timeline = timeline

    def __call__(self, stage: str, title: str, max_steps: int) -> list[Any]:
        """Callbacks of one stage."""
        return [_bar_callback(stage, title, max_steps, self.timeline)]


def _bar_callback(stage: str, title: str, max_steps: int, timeline: Timeline | None) -> Any:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from transformers import TrainerCallback

    class BarCallback(TrainerCallback):
        """One bar for one `trainer.train()`."""

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.started = time.perf_counter()
            self.first = state.global_step
            self.progress = Progress(
                TextColumn("{task.description:32}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("left:"),
                TimeRemainingColumn(compact=True),
                TextColumn("{task.fields[whole]}"),
            )
            self.task = self.progress.add_task(title, total=max_steps, completed=state.global_step, whole="")
            self.progress.start()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            whole = ""
            if timeline is not None:
                left = timeline.remaining(stage, state.global_step / max_steps, time.perf_counter() - self.started)
                whole = f"(whole run: {left / 60:.0f} min)" if left >= 90 else f"(whole run: {left:.0f} s)"
            self.progress.update(self.task, completed=state.global_step, whole=whole)

        def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.progress.stop()
            if timeline is not None:
                timeline.done(stage, time.perf_counter() - self.started)

    return BarCallback()


class Stages:
    """Shows a bar for each stage, or none.

    >>> with Stages(False)("comparing", 3) as advance:
    ...     advance(3)
    """

    def __init__(self, shown: bool) -> None:
        self.shown = shown

    @contextlib.contextmanager
    def __call__(self, title: str, total: int) -> Iterator[Callable[[int], None]]:
        """One stage of `total` steps; gives the function that says how many more are done."""
        if not self.shown:
            yield lambda _steps: None
            return
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description:24}"), BarColumn(), MofNCompleteColumn(), TextColumn("left:"),
            TimeRemainingColumn(compact=True),
        )  # fmt: skip
        with Progress(*columns) as progress:
            task = progress.add_task(title, total=total)
            yield lambda steps: progress.advance(task, steps)
