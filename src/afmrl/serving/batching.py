"""Requests that come side by side share one pass of the model."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as WaitedTooLong
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.data.images import MAX_SIDE, bounded_size, open_header
from afmrl.data.offer import Offer
from afmrl.errors import InputError
from afmrl.serving.limits import Limits
from afmrl.serving.metrics import Metrics
from afmrl.serving.refusal import Refusal

if TYPE_CHECKING:
    from PIL.Image import Image

CHARACTERS_A_TOKEN = 4
PIXELS_A_TOKEN = 28 * 28
RETRY_SECONDS = 1.0
Embed = Callable[[Sequence[Offer], Sequence[KeyAttributes], Sequence["Image | None"]], np.ndarray]


@dataclass(eq=False)
class _Waiting:
    offer: Offer
    attributes: KeyAttributes
    image: Image | None
    tokens: int
    deadline: float
    embedding: Future[np.ndarray] = field(default_factory=Future)


class Batcher:
    """One thread that embeds what many threads ask for, as many inputs at a time as fit into one pass.

    While a pass runs, further requests gather and make the next one: an idle server answers at once, a busy one in
    large batches. Inputs whose deadline is over are left out. An input that cannot be embedded fails alone.

    Args:
        embed: offers, their key attributes and their images, where they are open, to (n, D) embeddings.
        metrics: where its passes are counted.
        limits: how many inputs wait at a time, how much one pass takes, and for how long (`window`) it waits for more,
            where the last one held more than one request.
    """

    def __init__(self, embed: Embed, limits: Limits | None = None, metrics: Metrics | None = None) -> None:
        self._embed, self._limits, self._metrics = embed, limits or Limits(), metrics or Metrics()
        self._waiting: deque[_Waiting] = deque()
        self._changed = threading.Condition()
        self._closed = self._is_busy = False
        self.num_batches = self.num_embedded = 0
        self._metrics.watch("afmrl_inputs_waiting", "Inputs that wait for the embedder.", lambda: len(self._waiting))
        self._thread = threading.Thread(target=self._work, name="embed", daemon=True)
        self._thread.start()

    def embed(
        self,
        offers: Sequence[Offer],
        attributes: Sequence[KeyAttributes] | None,
        deadline: float,
        *,
        images: Sequence[Image | None] | None = None,
    ) -> np.ndarray:
        """Embeddings of offers; waits until they are there.

        Args:
            deadline: of `time.monotonic`.
            images: those of the offers that are open already.

        Shape:
            returns (N, D) float32.

        Raises:
            Refusal: too much is waiting (429), or the deadline is over (503).
            InputError: an offer that cannot be embedded.
        """
        given = attributes or [KeyAttributes()] * len(offers)
        items = [
            _Waiting(offer, of, image, cost(offer, of), deadline)
            for offer, of, image in zip(offers, given, images or [None] * len(offers), strict=True)
        ]
        with self._changed:
            if self._closed:
                raise Refusal(503, "the server is stopping; ask again", retry_after=RETRY_SECONDS)
            if self._waiting and len(self._waiting) + len(items) > self._limits.waiting:
                raise Refusal(429, "too many inputs are waiting; ask again later", retry_after=RETRY_SECONDS)
            self._waiting.extend(items)
            self._changed.notify_all()
        try:
            return np.stack([item.embedding.result(max(0.0, deadline - time.monotonic())) for item in items])
        except (WaitedTooLong, CancelledError):  # the thread that embeds cancels what is late, too
            for item in items:
                item.embedding.cancel()
            raise late() from None

    def close(self) -> None:
        """End the thread once what waits is done."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _work(self) -> None:
        while batch := self._take():
            self._run(batch)

    def _take(self) -> list[_Waiting]:
        """The next batch, in the order in which its inputs came; none: the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if self._is_busy and not self._closed:
                self._changed.wait_for(
                    lambda: self._closed or sum(item.tokens for item in self._waiting) >= self._limits.tokens,
                    self._limits.window,
                )
            taken: list[_Waiting] = []
            tokens = 0
            while self._waiting and (not taken or tokens + self._waiting[0].tokens <= self._limits.tokens):
                taken.append(self._waiting.popleft())
                tokens += taken[-1].tokens
            self._is_busy = len({item.deadline for item in taken}) > 1  # a request's inputs share theirs
            return taken

    def _run(self, batch: list[_Waiting]) -> None:
        now = time.monotonic()
        for item in batch:
            if item.deadline <= now:
                item.embedding.cancel()
        batch = [item for item in batch if item.embedding.set_running_or_notify_cancel()]
        batch.sort(key=lambda item: item.tokens)
        if not batch:
            return
        self.num_batches += 1
        self.num_embedded += len(batch)
        self._metrics.pass_inputs.observe(len(batch))
        try:
            embeddings = self._pass(batch)
        except Exception as error:
            if len(batch) == 1:
                batch[0].embedding.set_exception(error)
                return
            for item in batch:  # one of them is at fault, and the others must not suffer for it
                self._run_alone(item)
            return
        for item, embedding in zip(batch, embeddings, strict=True):
            item.embedding.set_result(embedding)

    def _run_alone(self, item: _Waiting) -> None:
        try:
            item.embedding.set_result(self._pass([item])[0])
        except Exception as error:
            item.embedding.set_exception(error)

    def _pass(self, batch: Sequence[_Waiting]) -> np.ndarray:
        with self._metrics.model_pass("embedder"):
            return self._embed(
                [item.offer for item in batch], [item.attributes for item in batch], [item.image for item in batch]
            )


def cost(offer: Offer, attributes: KeyAttributes) -> int:
    """About the tokens that an offer takes in the model.

    >>> cost(Offer("1", "red silk dress"), KeyAttributes())
    4
    """
    characters = len(offer.title) + len(offer.description) + sum(len(k) + len(v) for k, v in attributes)
    tokens = 1 + characters // CHARACTERS_A_TOKEN
    if offer.image:
        try:
            with open_header(offer.image) as image:
                width, height = bounded_size(image.size, MAX_SIDE)
        except InputError:  # embedding it says so
            return tokens
        tokens += width * height // PIXELS_A_TOKEN
    return tokens


def check_time(deadline: float) -> None:
    """Refuse a request whose time is over."""
    if time.monotonic() >= deadline:
        raise late()


def late() -> Refusal:
    """The answer to a request whose time is over."""
    return Refusal(503, "the answer took too long; ask again later", code="timeout", retry_after=RETRY_SECONDS)
