"""The work of a bulk job: tasks of some offers become rows of a shard."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from afmrl.attributes.attributes_on import AttributesOn
from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.attributes.seller_attributes import SellerAttributes
from afmrl.bulk.fingerprints import lost_image_fingerprint, without_image
from afmrl.data.offer import Offer
from afmrl.errors import InputError, shown_address

if TYPE_CHECKING:
    import pyarrow

Precision = Literal["float16", "float32"]
WINDOW_BATCHES = 16
"""Batches of a task: enough offers to sort by length."""


@dataclass(frozen=True)
class Task:
    """Offers that are done together. All lists have n entries."""

    offers: list[Offer]
    fingerprints: list[str]
    rows: list[int]
    """Of the catalog, from 1."""
    known: list[bool]
    """Whether the folder held the id before."""
    key_attributes: list[KeyAttributes] | None = None
    """Those that were written in another run; None: none were."""


@dataclass(frozen=True)
class TaskResult:
    """A task's rows of a shard."""

    task: Task
    rows: pyarrow.RecordBatch
    bad: dict[int, tuple[str, str]] = field(default_factory=dict)
    """Places of the offers that have no row, with field and reason."""
    lost_images: dict[int, str] = field(default_factory=dict)
    """Places of the offers that have a row without their image, with the reason."""


@dataclass(frozen=True)
class WorkDescription:
    """What some work is. Whether an old row is still valid depends on it."""

    kind: str
    """EMBEDDINGS or ATTRIBUTES."""
    fingerprint: str
    """Of models, prompt and options: the column `model`."""
    schema: pyarrow.Schema
    manifest: dict[str, Any]
    """Its part of the manifest."""
    window: int
    """Offers of a task."""
    reads_text: bool = True
    """Whether an offer without its image still says something."""


class Work(Protocol):
    """Makes rows of offers."""

    def describe(self) -> WorkDescription:
        """What this work is."""
        ...

    def run(self, tasks: Iterable[Task]) -> Iterator[TaskResult]:
        """Do the tasks, in their order."""
        ...


@dataclass(frozen=True)
class AttributesOptions:
    """How key attributes are written."""

    generator: str
    schema: str | None = None
    """File of the keys that a general model is asked for."""
    batch_size: int = 64
    max_new_tokens: int | None = None
    device: str | None = None
    fetch: bool = False
    concurrency: int | None = None
    """Requests under way at a time, of a server; None: its default."""
    show_sellers: bool = False
    """Show a general model the sellers' own attributes too."""

    @property
    def generator_folder(self) -> str:
        """The folder of a generator's address: its own, or of one that is served elsewhere."""
        return self.generator.removeprefix("trained:").partition("@")[0]


@dataclass(frozen=True)
class EmbedOptions:
    """How offers are embedded."""

    model: str
    generator: str | None = None
    attributes: str | None = None
    """Folder of the key attributes that tasks carry."""
    attributes_on: AttributesOn | None = None
    """None: what the model was trained for."""
    seller_attributes: SellerAttributes | None = None
    """None: those that the model was trained with."""
    dtype: Precision = "float16"
    batch_size: int = 64
    max_new_tokens: int | None = None
    device: str | None = None
    scaled_jpeg: bool = False
    fetch: bool = False


def imageless(task: Task, places: Collection[int]) -> Task:
    """The task with some offers without their image, whose rows are tried again in the next run."""
    if not places:
        return task
    offers, fingerprints = list(task.offers), list(task.fingerprints)
    for place in places:
        offers[place] = without_image(offers[place])
        fingerprints[place] = lost_image_fingerprint(fingerprints[place])
    return dataclasses.replace(task, offers=offers, fingerprints=fingerprints)


def record_batch(
    shard_schema: pyarrow.Schema,
    task: Task,
    places: Sequence[int],
    work: str,
    key_attributes: Sequence[KeyAttributes] | None,
    columns: dict[str, Any],
) -> pyarrow.RecordBatch:
    """Rows of a shard.

    Args:
        places: of the offers that have a row.
        work: fingerprint of the work.
        key_attributes: one a place; None: the column is null.
        columns: the ones that are not the offer's own.
    """
    import pyarrow as pa

    offers = [task.offers[place] for place in places]
    arrays: dict[str, Any] = {
        "id": [offer.id for offer in offers],
        "title": [offer.title for offer in offers],
        "category": [offer.category for offer in offers],
        "seller": [str(offer.extra.get("seller") or "") for offer in offers],
        "image": [offer.image for offer in offers],
        "attributes": [list(offer.attributes.items()) for offer in offers],
        "product_id": [offer.product_id for offer in offers],
        "key_attributes": [None] * len(offers) if key_attributes is None else [list(each) for each in key_attributes],
        "fingerprint": [task.fingerprints[place] for place in places],
        "model": [work] * len(offers),
        **columns,
    }
    return pa.RecordBatch.from_arrays(
        [
            arrays[column.name]
            if isinstance(arrays[column.name], pa.Array)
            else pa.array(arrays[column.name], column.type)
            for column in shard_schema
        ],
        schema=shard_schema,
    )


def embedding_array(embeddings: np.ndarray, dtype: Precision) -> pyarrow.Array:
    """Embeddings as a column.

    Shape:
        embeddings: (n, D).
    """
    import pyarrow as pa

    flat = pa.array(np.ascontiguousarray(embeddings, dtype=dtype).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, embeddings.shape[1])


def absolute(model: str | None) -> str | None:
    """A model's folder as an absolute path; a hub name as it is; an address without what is secret in it."""
    if not model:
        return model
    return str(Path(model).resolve()) if Path(model).is_dir() else shown_address(model)


def check_positive(name: str, value: int | None) -> None:
    """Refuse a size below 1."""
    if value is not None and value < 1:
        raise InputError(f"{name}={value}: at least 1")
