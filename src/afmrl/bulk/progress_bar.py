"""The bar of a bulk job: offers done, offers a second, time left."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self

from rich.console import RenderableType
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from afmrl.bulk.folder import COMMAND
from afmrl.data.rows import CatalogRows


class RowsBar(Progress):
    """Asks for the numbers itself, whenever it is drawn: rows that are kept pass without an event.

    Args:
        kind: EMBEDDINGS or ATTRIBUTES.
        rows: the catalog; its total may be an estimate that grows better.
        done: how many of its rows are done.
    """

    def __init__(self, kind: str, rows: CatalogRows, done: Callable[[], int]) -> None:
        self._source, self._done, self._begun = rows, done, time.monotonic()
        self._row_task: TaskID | None = None
        super().__init__(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:,.0f} of {task.fields[whole]}"),
            TextColumn("{task.fields[rate]:,.0f} offers/s  left:"),
            TimeRemainingColumn(compact=True),
        )
        self._row_task = self.add_task(COMMAND[kind], total=None, whole="?", rate=0.0)

    def __enter__(self) -> Self:
        super().__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._look()
        super().__exit__(kind, error, trace)

    def get_renderables(self) -> Iterable[RenderableType]:
        """The bar with the numbers of now."""
        self._look()
        yield from super().get_renderables()

    def _look(self) -> None:
        if self._row_task is None:
            return
        done, total = self._done(), self._source.total()
        whole = "?" if total is None else f"{max(total, done):,}"
        seconds = max(time.monotonic() - self._begun, 1e-3)
        self.update(
            self._row_task,
            total=None if total is None else max(total, done),
            completed=done,
            whole=whole,
            rate=done / seconds,
        )
