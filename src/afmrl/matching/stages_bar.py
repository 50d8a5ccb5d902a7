"""Progress of a match: one bar a stage."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator


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
