"""What a server counts, as Prometheus reads it: requests, their time, passes of the models, what waits."""

from __future__ import annotations

import contextlib
import math
import time
from collections import Counter as Counts
from collections.abc import Callable, Collection, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from afmrl.errors import InputError

PATH = "/metrics"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
INPUTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
METHODS = ("GET", "HEAD", "POST", "DELETE", "OPTIONS")
WENT_AWAY = "499"
"""Status of a request whose client did not wait for the answer, as nginx counts it."""


class Metrics:
    """The counts of one server, from its start."""

    def __init__(self) -> None:
        self._all = CollectorRegistry()
        ProcessCollector(registry=self._all)  # memory, processor time, open files
        self.requests = Counter(
            "afmrl_requests", "Answered requests.", ("method", "route", "status"), registry=self._all
        )
        self.request_seconds = Histogram(
            "afmrl_request_seconds", "Time of a request.", ("method", "route"), buckets=SECONDS, registry=self._all
        )
        self.in_progress = Gauge("afmrl_requests_in_progress", "Requests that are being answered.", registry=self._all)
        self.pass_inputs = Histogram(
            "afmrl_pass_inputs", "Inputs that the embedder read in one pass.", buckets=INPUTS, registry=self._all
        )
        self._model_seconds = Histogram(
            "afmrl_model_seconds", "Time of one pass of a model.", ("model",), buckets=SECONDS, registry=self._all
        )

    def watch(self, name: str, meaning: str, value: Callable[[], float]) -> None:
        """Read a value whenever the counts are asked for; where it cannot be read it is no number."""

        def read() -> float:
            try:
                return value()
            except InputError:  # a database that is away must not hide the other counts
                return math.nan

        Gauge(name, meaning, registry=self._all).set_function(read)

    @contextlib.contextmanager
    def model_pass(self, model: str) -> Iterator[None]:
        """Measure the block as one pass of a model, "embedder" or "generator"."""
        with self._model_seconds.labels(model).time():
            yield

    def statuses(self) -> Counts[str]:
        """Answered requests by status."""
        found: Counts[str] = Counts()
        for family in self.requests.collect():
            for sample in family.samples:
                if sample.name.endswith("_total"):
                    found[sample.labels["status"]] += int(sample.value)
        return found

    def model_seconds(self, model: str) -> float:
        """Time of all passes of a model."""
        return self._all.get_sample_value("afmrl_model_seconds_sum", {"model": model}) or 0.0

    def text(self) -> bytes:
        """All of them, in Prometheus' text format."""
        return generate_latest(self._all)


class Measured:
    """ASGI middleware that counts requests and their time, by route.

    Args:
        app: what is behind it.
        paths: of the routes: what is asked for elsewhere is counted as one route, "other".
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, paths: Collection[str]) -> None:
        self._app, self._metrics, self._paths = app, metrics, frozenset(paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, start = WENT_AWAY, time.perf_counter()

        async def noting_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        try:
            with self._metrics.in_progress.track_inprogress():
                await self._app(scope, receive, noting_status)
        except Exception:
            status = "500"  # the answer is sent further out
            raise
        finally:
            method = scope["method"] if scope["method"] in METHODS else "other"
            route = self._route(scope)
            self._metrics.requests.labels(method, route, status).inc()
            self._metrics.request_seconds.labels(method, route).observe(time.perf_counter() - start)

    def _route(self, scope: Scope) -> str:
        path = getattr(scope.get("route"), "path", scope["path"])  # what is refused before the router has no route
        return path if path in self._paths else "other"
