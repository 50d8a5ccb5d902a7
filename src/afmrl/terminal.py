"""The terminal: where tables are printed, and how long work reports its progress."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

if TYPE_CHECKING:
    from rich.console import Console

T = TypeVar("T")
LOG_WIDTH = 160  # columns; rich takes 80 where it finds no terminal, and breaks every table's cells
LOG_SECONDS = 30.0
"""Between two lines of progress where there is no terminal to draw a bar on."""


def counted(number: int, noun: str) -> str:
    """A number and what it counts.

    >>> counted(1, "group"), counted(1200, "pair"), counted(0, "offer")
    ('1 group', '1,200 pairs', '0 offers')
    """
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def output_console() -> Console:
    """rich's console of the standard output; COLUMNS in the environment sets its width."""
    from rich.console import Console

    unknown = not sys.stdout.isatty() and not os.environ.get("COLUMNS")
    return Console(width=LOG_WIDTH) if unknown else Console()


@functools.cache
def _progress_console() -> Console:
    """One for all bars, which share a terminal; not the standard output's, where results go."""
    from rich.console import Console

    return Console(stderr=True)


def quiet_libraries() -> None:
    """Silence the bars and notices of the libraries below; errors stay."""
    import logging
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


class Progress:
    """How far some work is: a bar on a terminal, and elsewhere (a log, a pipe) a line every LOG_SECONDS, with the time.

    Either goes to the standard error. Work that is done sooner leaves no line. Work that ends well ends at its total.

    Args:
        title: what is done.
        total: how much there is to do; a function is asked whenever progress is shown; None: unknown.
        done: returns how much is done, for work that reports nothing; by default `advance` counts.
        unit: what is counted, as "offers"; the rate is then shown too.
        show: False shows nothing.

    >>> with Progress("comparing", 3, show=False) as progress:
    ...     progress.advance(2)
    >>> progress.completed
    2
    """

    def __init__(
        self,
        title: str,
        total: int | Callable[[], int | None] | None = None,
        *,
        done: Callable[[], int] | None = None,
        unit: str = "",
        show: bool = True,
    ) -> None:
        self.title, self.unit, self.show = title, unit, show
        self.completed = 0
        self.note = ""
        """Shown after the rest."""
        self.total = total
        self._done = done
        self._is_over = False
        self._started = 0.0
        self._first = 0
        self._over = threading.Event()
        self._log: threading.Thread | None = None
        self._bar: Any = None

    def advance(self, steps: int = 1) -> None:
        """So many more are done."""
        self.completed += steps

    def __enter__(self) -> Self:
        self._started = time.monotonic()
        self._first, _ = self._numbers()
        if self.show:
            console = _progress_console()
            if console.is_terminal or console.is_jupyter:
                self._bar = _live_bar(self, console)
                self._bar.start()
            else:
                self._log = threading.Thread(target=self._write_lines, name="progress", daemon=True)
                self._log.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over = kind is None
        if self._bar is not None:
            self._bar.stop()
        if self._log is not None:
            self._over.set()
            self._log.join()

    def line(self) -> str:
        """The state in one line of text."""
        done, total = self._numbers()
        rate = self._rate(done)
        parts = [f"{done:,}" + ("" if total is None else f" of {total:,}") + (f" {self.unit}" if self.unit else "")]
        if self.unit:
            parts.append(f"{rate:,.0f} a second" if rate >= 1 or not rate else f"{60 * rate:,.1f} a minute")
        if self._is_over:
            parts.append(f"{_clock(time.monotonic() - self._started)} in all")
        elif total is not None and rate:
            parts.append(f"{_clock((total - done) / rate)} left")
        return f"{self.title}: {', '.join(parts)}" + (f" {self.note}" if self.note else "")

    def _numbers(self) -> tuple[int, int | None]:
        done = self.completed if self._done is None else self._done()
        total = self.total() if callable(self.total) else self.total
        if self._is_over and total is not None:  # a total that is asked for may be an estimate, and steps may be coarse
            done = done if callable(self.total) else max(total, done)
            return done, done
        return done, None if total is None else max(total, done)

    def _rate(self, done: int) -> float:
        return (done - self._first) / max(time.monotonic() - self._started, 1e-3)

    def _write_lines(self) -> None:
        written = False
        while not self._over.wait(LOG_SECONDS):
            self._write_line()
            written = True
        if written:
            self._write_line()

    def _write_line(self) -> None:
        print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {self.line()}", file=sys.stderr, flush=True)


def _clock(seconds: float) -> str:
    """
    >>> _clock(75), _clock(3 * 3600 + 5)
    ('1:15', '3:00:05')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _live_bar(progress: Progress, console: Console) -> Any:
    from rich import progress as rich

    class LiveBar(rich.Progress):
        """Asks for the numbers itself whenever it is drawn, so that work that counts fast costs nothing."""

        row: rich.TaskID | None = None  # drawn once before there is one

        def __init__(self) -> None:
            super().__init__(
                rich.TextColumn("{task.description:24}", markup=False),
                rich.BarColumn(),
                rich.TextColumn("{task.fields[count]}", markup=False),
                rich.TextColumn("left:"),
                rich.TimeRemainingColumn(compact=True),
                rich.TextColumn("{task.fields[note]}", markup=False),
                console=console,
            )
            self.row = self.add_task(progress.title, total=None, count="", note="")

        def get_renderables(self) -> Any:
            done, total = progress._numbers()
            count = f"{done:,}" + ("" if total is None else f" of {total:,}")
            if progress.unit:
                count += f"  {progress._rate(done):,.0f} {progress.unit}/s"
            if self.row is not None:
                self.update(self.row, completed=done, total=total, count=count, note=progress.note)
            yield from super().get_renderables()

    return LiveBar()


def track(
    items: Iterable[T], title: str, total: int | None = None, *, unit: str = "", show: bool = True
) -> Iterator[T]:
    """The items, with progress while they are taken.

    Args:
        total: how many there are; None: their length, where they have one.

    >>> list(track(range(3), "counting", show=False))
    [0, 1, 2]
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    with Progress(title, total, unit=unit, show=show) as progress:
        for item in items:
            yield item
            progress.advance()


class Stages:
    """Progress of work in stages, one after the other.

    Args:
        show: False shows nothing.

    >>> with Stages(False)("comparing", 3) as advance:
    ...     advance(3)
    """

    def __init__(self, show: bool) -> None:
        self.show = show

    @contextlib.contextmanager
    def __call__(self, title: str, total: int) -> Iterator[Callable[[int], None]]:
        """One stage of `total` steps; gives the function that reports how many more are done."""
        with Progress(title, total, show=self.show) as progress:
            yield progress.advance


class Timeline:
    """Estimates the time left of a whole run from what its stages are expected to take.

    All stages before one that is reported are over, whether or not they were measured: a run that was stopped finds
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
    """Makes the trainer callbacks that show a stage's progress.

    Args:
        timeline: adds the time left of the whole run; None shows the stage's alone.
    """

    def __init__(self, timeline: Timeline | None = None) -> None:
        self.timeline = timeline

    def __call__(self, stage: str, title: str, max_steps: int) -> list[Any]:
        """Callbacks of one stage."""
        return [_progress_callback(stage, title, max_steps, self.timeline)]


def _progress_callback(stage: str, title: str, max_steps: int, timeline: Timeline | None) -> Any:
    from transformers import TrainerCallback

    class ProgressCallback(TrainerCallback):
        """Progress of one `trainer.train()`."""

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.started = time.perf_counter()
            self.progress = Progress(title, max_steps)
            self.progress.completed = state.global_step
            self.progress.__enter__()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if timeline is not None:
                left = timeline.remaining(stage, state.global_step / max_steps, time.perf_counter() - self.started)
                self.progress.note = f"(whole run: {left / 60:.0f} min)" if left >= 90 else f"(whole run: {left:.0f} s)"
            self.progress.completed = state.global_step

        def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.progress.total = state.global_step  # it may have stopped early
            self.progress.__exit__(None, None, None)
            if timeline is not None:
                timeline.done(stage, time.perf_counter() - self.started)

    return ProgressCallback()
