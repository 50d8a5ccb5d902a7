"""Windows of offers to embeddings, with the images read and the inputs preprocessed ahead of the model."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.bulk.images.loader import ImageLoader
from afmrl.bulk.images.read_ahead import MEMORY_BYTES, PendingImage, ReadAhead, num_cores
from afmrl.bulk.images.resizing import Resizing
from afmrl.data.offer import Offer
from afmrl.embedder.embedder import Embedder
from afmrl.errors import InputError

POOL_BATCHES = 16
"""Offers of so many batches are sorted by length together."""
FIRST_POOL_BATCHES = 2  # doubled from pool to pool: the model need not wait for so many images at the start
AHEAD = 2  # batches that are preprocessed and wait for the model
FETCHING_THREADS = 32  # they wait for the network


@dataclass(frozen=True)
class Window:
    """Some offers that are handed in, and back, together.

    Args:
        offers: in the order of the result.
        attributes: one KeyAttributes an offer, written after its text; None: none.
        payload: the caller's own, handed back.
    """

    offers: Sequence[Offer]
    attributes: Sequence[KeyAttributes] | None = None
    payload: Any = None


@dataclass(frozen=True)
class EncodedWindow:
    """A window and its embeddings.

    Shape:
        embeddings: (n, D) float32, rows of unit length; zeros at the places of `bad`.
    """

    window: Window
    embeddings: np.ndarray
    bad: dict[int, str] = field(default_factory=dict)
    """Reasons by place in the window."""
    lost_images: dict[int, str] = field(default_factory=dict)
    """Reasons, of offers that are embedded without their image."""


class BulkEncoder:
    """Embeds windows of offers as `Embedder.encode` does, reading ahead of the model.

    Threads read, decode and resize the images; one more sorts offers by their number of tokens, makes batches and
    preprocesses the next ones; the model runs in the caller's thread.

    Args:
        embedder: the model. One without images embeds the text alone.
        batch_size: offers a batch.
        workers: threads that read images; None: one a core, and more where images are fetched.
        images: opens them.
        scaled_jpeg: decode JPEG at 1/2, 1/4 or 1/8 of its size as far as the model's own resizing allows: faster, and
            the embeddings differ a little.
        memory_bytes: bound of the images in memory.

    Raises:
        InputError: an option below 1.
    """

    def __init__(
        self,
        embedder: Embedder,
        *,
        batch_size: int = 64,
        workers: int | None = None,
        images: ImageLoader,
        scaled_jpeg: bool = False,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        if workers is None:
            workers = max(num_cores(), FETCHING_THREADS) if images.fetcher else num_cores()
        for name, value in (("batch_size", batch_size), ("workers", workers), ("memory_bytes", memory_bytes)):
            if value < 1:
                raise InputError(f"embedding: {name}={value} must be at least 1")
        self.embedder, self.batch_size, self.images = embedder, batch_size, images
        self.workers, self.scaled_jpeg, self.memory_bytes = workers, scaled_jpeg, memory_bytes
        self.reads_text = bool(embedder.model.supports("text"))
        self.reads_images = bool(embedder.model.supports("image"))
        self._resizing = Resizing.of(embedder.model.processor) if self.reads_images else None
        self._prompt = embedder.model.prompts.get(embedder.model.default_prompt_name or "")

    def encode(self, windows: Iterable[Window]) -> Iterator[EncodedWindow]:
        """The windows with their embeddings, in order.

        Windows are taken from the iterable in the caller's thread, some batches ahead of the model. A row that cannot
        be embedded is in `EncodedWindow.bad` and costs no other row anything. One whose image cannot be read
        is embedded by its text, where it has a title.

        Raises:
            InputError: a window with another number of key attributes than offers, a processor that takes
                none of the offers of the first batch.
        """
        import torch

        model = self.embedder.model
        was_training, num_threads = model.training, torch.get_num_threads()
        model.eval()
        run = _Run(self, num_threads)
        source, exhausted = iter(windows), False
        under_way: deque[_WindowInWork] = deque()
        try:
            while True:
                # enough that sorting has a whole pool and reading continues into the next one
                while not exhausted and sum(one.num_left for one in under_way) < 2 * run.pool_size:
                    window = next(source, None)
                    if window is None:
                        exhausted = True
                        run.inbox.put(None)
                    else:
                        under_way.append(run.start(window))
                while under_way and not under_way[0].num_left:
                    yield under_way.popleft().result()
                if under_way:
                    run.compute_next()
                elif exhausted:
                    return
        finally:
            run.stop()
            model.train(was_training)
            torch.set_num_threads(num_threads)


class _WindowInWork:
    def __init__(self, window: Window, dimension: int) -> None:
        if window.attributes is not None and len(window.attributes) != len(window.offers):
            raise InputError(
                f"{len(window.attributes)} key attributes for {len(window.offers)} offers: one an offer is needed"
            )
        self.window, self.num_left = window, len(window.offers)
        self.embeddings = np.zeros((len(window.offers), dimension), dtype=np.float32)
        self.bad: dict[int, str] = {}
        self.lost_images: dict[int, str] = {}

    def result(self) -> EncodedWindow:
        return EncodedWindow(
            self.window, self.embeddings, dict(sorted(self.bad.items())), dict(sorted(self.lost_images.items()))
        )


@dataclass
class _Row:
    work: _WindowInWork
    place: int
    image: PendingImage | None
    input: Any = None
    kind: int = 0  # rows of one kind (text, image, both) share batches: not every model takes them mixed
    num_tokens: int = 0

    @property
    def offer(self) -> Offer:
        return self.work.window.offers[self.place]


@dataclass
class _Batch:
    rows: list[_Row]
    features: dict[str, Any]
    bad: list[tuple[_Row, str]]


class _Run:
    """One call of `encode`: the threads, and what goes between them."""

    def __init__(self, encoder: BulkEncoder, num_threads: int) -> None:
        self._encoder, self._model, self._num_threads = encoder, encoder.embedder.model, num_threads
        self.pool_size = POOL_BATCHES * encoder.batch_size
        self.inbox: queue.SimpleQueue[list[_Row] | None] = queue.SimpleQueue()
        self._outbox: queue.Queue[_Batch | BaseException] = queue.Queue(AHEAD)
        self._stopped = threading.Event()
        self._took_any = False
        self._reader = ReadAhead(
            encoder.images,
            workers=encoder.workers,
            resizing=encoder._resizing,
            scaled_jpeg=encoder.scaled_jpeg,
            memory_bytes=encoder.memory_bytes,
        )
        self._feeder = threading.Thread(target=self._feed, name="preprocess", daemon=True)
        self._feeder.start()

    # the caller's thread

    def start(self, window: Window) -> _WindowInWork:
        work = _WindowInWork(window, self._encoder.embedder.dimension)
        reads = self._encoder.reads_images
        self.inbox.put(
            [
                _Row(work, place, self._reader.ask(offer.image) if reads and offer.image else None)
                for place, offer in enumerate(window.offers)
            ]
        )
        return work

    def compute_next(self) -> None:
        import torch
        from sentence_transformers.util import batch_to_device

        batch = self._outbox.get()
        if isinstance(batch, BaseException):
            raise batch
        for row, reason in batch.bad:
            row.work.bad[row.place] = reason
            row.work.num_left -= 1
        if not batch.rows:
            return
        # threads of one model that share cores with others wait for each other more than they compute
        torch.set_num_threads(max(1, self._num_threads - self._reader.num_busy))
        with torch.inference_mode():
            embeddings = self._model(batch_to_device(batch.features, self._model.device))["sentence_embedding"]
            if self._model.truncate_dim:
                embeddings = embeddings[:, : self._model.truncate_dim]
            unit = torch.nn.functional.normalize(embeddings.float(), dim=1).cpu().numpy()
        finite = np.isfinite(unit).all(axis=1)
        for row, embedding, good in zip(batch.rows, unit, finite, strict=True):
            if good:
                row.work.embeddings[row.place] = embedding
            else:
                row.work.bad[row.place] = "embedding: the model's numbers are not finite"
            row.work.num_left -= 1

    def stop(self) -> None:
        self._stopped.set()
        self.inbox.put(None)
        self._reader.close()
        while self._feeder.is_alive():  # it may wait for room
            try:
                self._outbox.get(timeout=0.01)
            except queue.Empty:
                continue
        self._feeder.join()

    # the feeder's thread

    def _feed(self) -> None:
        try:
            for pool, bad in self._pools():
                for place, rows in enumerate(self._batches(pool)):
                    self._send(self._preprocessed(rows, bad if place == 0 else []))
                if not pool:
                    self._send(_Batch([], {}, bad))
        except BaseException as error:  # the caller's thread raises it
            self._send(error)

    def _send(self, batch: _Batch | BaseException) -> None:
        if not self._stopped.is_set():
            self._outbox.put(batch)

    def _pools(self) -> Iterator[tuple[list[_Row], list[tuple[_Row, str]]]]:
        """Rows with their inputs, as many as a pool or half the memory holds, and those that have none."""
        pool: list[_Row] = []
        bad: list[tuple[_Row, str]] = []
        num_bytes, size = 0, FIRST_POOL_BATCHES * self._encoder.batch_size
        while (rows := self.inbox.get()) is not None and not self._stopped.is_set():
            for row in rows:
                try:
                    num_bytes += self._fill(row)
                    pool.append(row)
                except InputError as error:
                    self._let_go(row)
                    bad.append((row, str(error)))
                if len(pool) + len(bad) >= size or 2 * num_bytes >= self._encoder.memory_bytes:
                    yield pool, bad
                    pool, bad, num_bytes = [], [], 0
                    size = min(2 * size, self.pool_size)
        if pool or bad:
            yield pool, bad

    def _fill(self, row: _Row) -> int:
        """Make a row's input; returns the bytes of its image."""
        attributes = row.work.window.attributes
        own = attributes[row.place] if attributes else None
        ready = None
        if row.image is not None:
            try:
                ready = self._reader.wait(row.image)
            except InputError as error:
                if not (self._encoder.reads_text and row.offer.title.strip()):
                    raise
                self._let_go(row)
                row.work.lost_images[row.place] = str(error).removeprefix("image ")
        if ready is None:
            row.input = self._encoder.embedder.input(row.offer, own, "text")
            if row.offer.image and not row.input:
                raise InputError("title: is empty, and the model reads no images")
            row.num_tokens = _text_tokens(row.input)
            return 0
        row.input = self._encoder.embedder.input(row.offer, own, opened=ready.image)
        row.kind = 2 if isinstance(row.input, dict) else 1
        resizing = self._encoder._resizing
        row.num_tokens = resizing.num_tokens(ready.image.size) if resizing else 0
        row.num_tokens += _text_tokens(row.input["text"]) if row.kind == 2 else 0
        return ready.num_bytes

    def _batches(self, pool: list[_Row]) -> Iterator[list[_Row]]:
        pool.sort(key=lambda row: (row.kind, row.num_tokens), reverse=True)  # stable; the largest first, as memory goes
        start = 0
        while start < len(pool):
            stop = start + 1
            while stop < len(pool) and stop - start < self._encoder.batch_size and pool[stop].kind == pool[start].kind:
                stop += 1
            yield pool[start:stop]
            start = stop

    def _preprocessed(self, rows: list[_Row], bad: list[tuple[_Row, str]]) -> _Batch:
        try:
            batch = _Batch(rows, self._features(rows), bad)
        except Exception as error:  # a processor that does not like one image refuses the batch
            good = []
            for row in rows:
                try:
                    self._features([row])
                    good.append(row)
                except Exception as reason:
                    bad.append((row, f"image, title: the model's processor refuses them ({reason})"))
            if not good and len(rows) > 1 and not self._took_any:  # no fault of the images
                raise InputError(f"the model's processor takes none of {len(rows)} offers ({error})") from error
            batch = _Batch(good, self._features(good) if good else {}, bad)
        self._took_any = self._took_any or bool(batch.rows)
        for row in rows:
            self._let_go(row)
        return batch

    def _features(self, rows: list[_Row]) -> dict[str, Any]:
        return self._model.preprocess([row.input for row in rows], prompt=self._encoder._prompt)

    def _let_go(self, row: _Row) -> None:
        if row.image is not None:
            self._reader.release(row.image)
            row.image, row.input = None, None


def _text_tokens(text: str) -> int:
    return len(text.encode()) // 4
