"""A stage's training rows: row numbers in a datasets.Dataset, rendered when their batch comes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Render = Callable[[dict[str, list[Any]]], dict[str, list[Any]]]


class _Rendering:
    """A transform that datasets hashes by its name alone; it would pickle the whole catalog otherwise."""

    def __init__(self, render: Render | None = None) -> None:
        self.render = render

    def __call__(self, batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        assert self.render is not None, "a transform does not travel to another process"
        return self.render(batch)

    def __reduce__(self) -> Any:
        return _Rendering, ()


def lazy_rows(columns: Mapping[str, Any], render: Render) -> Any:
    """A Dataset of `columns` (small numbers) whose batches come out as `render` makes them.

    Images are opened when their batch comes, so the catalog's never lie in memory.
    """
    from datasets import Dataset

    rows = Dataset.from_dict(dict(columns))
    rows.set_transform(_Rendering(render))
    return rows
