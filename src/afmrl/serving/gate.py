"""What every request passes before a route sees it: host, origin, key, room, size of the body, time."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from afmrl.serving.batching import late
from afmrl.serving.keys import Keys
from afmrl.serving.limits import Limits
from afmrl.serving.metrics import PATH as METRICS
from afmrl.serving.refusal import Refusal

log = logging.getLogger(__name__)

OPEN = ("/", "/review", "/overview", "/health", "/openapi.json")
"""Paths that need no key: they show nothing of the index."""
STATIC = "/static/"
WRITES = ("/afmrl/v1/offers", "/afmrl/v1/verdicts", "/afmrl/v1/verdicts/undo")
"""Paths that change something, unless they are only read (GET)."""
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_HIGH, _LOW = rb"\\u[dD][89abAB][0-9a-fA-F]{2}", rb"\\u[dD][c-fC-F][0-9a-fA-F]{2}"
_HALF = re.compile(rb"%b(?!%b)|(?<!%b)%b" % (_HIGH, _LOW, rb"\\u[dD][89abAB][0-9a-fA-F][0-9a-fA-F]", _LOW))
GRACE_SECONDS = 5.0
"""For which a route may be late, before the gate answers in its place."""


class Gate:
    """ASGI middleware that refuses what must not reach the routes.

    A server on the loopback address is reached by every page that a browser on this machine shows. So without keys a
    request must name the machine itself as its host (no name that a stranger's DNS points here), and a request that
    another site's page makes is refused.

    Args:
        app: what is behind it.
        keys: of the clients; none: everybody who reaches the server may do everything.
        hosts: names by which the server may be asked, if there are no keys.
    """

    def __init__(self, app: ASGIApp, keys: Keys, limits: Limits, hosts: Collection[str]) -> None:
        self._app, self._keys, self._limits = app, keys, limits
        self._hosts = {host.lower() for host in hosts}
        self._requests = self._bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path, answered, is_late = scope["path"], False, False

        async def answer(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = True
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        async def answer_in_time(message: Message) -> None:
            if not is_late:  # otherwise the client has its answer
                await answer(message)

        try:
            self._check(scope, Headers(scope=scope))
            if path in OPEN or path == METRICS or path.startswith(STATIC):
                await self._app(scope, receive, answer)
                return
            async with asyncio.timeout(self._limits.seconds + GRACE_SECONDS):
                await self._admitted(scope, receive, answer_in_time)
        except Refusal as refusal:
            if not answered:
                await refusal.response(path)(scope, receive, answer)
        except TimeoutError:
            is_late = True
            if not answered:
                await late().response(path)(scope, receive, answer)

    async def _admitted(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._requests >= self._limits.requests:
            raise Refusal(429, "too many requests are in work; ask again later", retry_after=1)
        self._requests += 1
        body, work = bytearray(), None
        try:
            self._check_length(Headers(scope=scope))
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return
                part = message.get("body", b"")
                body += part
                self._bytes += len(part)
                if len(body) > self._limits.body_bytes:
                    raise Refusal(413, f"the body has more than {self._limits.body_bytes:,} bytes; send less at a time")
                if self._bytes > self._limits.bodies_bytes:
                    raise Refusal(429, "too much is being sent at a time; ask again later", retry_after=1)
                if not message.get("more_body"):
                    break
            if _has_half_characters(bytes(body)):
                raise Refusal(400, "the body holds half a character (a lone surrogate); send whole ones")
            whole: Message | None = {"type": "http.request", "body": bytes(body), "more_body": False}

            async def replay() -> Message:
                nonlocal whole
                if whole is None:
                    return await receive()
                message, whole = whole, None
                return message

            work = asyncio.ensure_future(self._app(scope, replay, send))
            await asyncio.shield(work)
        finally:

            def release() -> None:
                self._requests -= 1
                self._bytes -= len(body)

            def ended_late(work: asyncio.Future[None]) -> None:
                release()
                if not work.cancelled() and (error := work.exception()) is not None:  # nobody else awaits it any more
                    log.error("%s: failed after it was answered as late", scope["path"], exc_info=error)

            if work is None or work.done():
                release()
            else:  # too late: a thread cannot be stopped, so the request counts until it ends
                work.add_done_callback(ended_late)

    def _check_length(self, headers: Headers) -> None:
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self._limits.body_bytes:
            raise Refusal(413, f"the body has more than {self._limits.body_bytes:,} bytes; send less at a time")

    def _check(self, scope: Scope, headers: Headers) -> None:
        path, method = scope["path"], scope["method"]
        host = headers.get("host", "")
        if not self._keys and _name(host) not in self._hosts:
            raise Refusal(403, f"asked as {host[:100]!r}: a server without keys answers only as the machine itself")
        if path in OPEN or path.startswith(STATIC):
            return
        if not self._keys:
            origin = headers.get("origin")
            if (
                origin is not None
                and method not in ("GET", "HEAD")
                and origin.partition("://")[2].lower() != host.lower()
            ):
                raise Refusal(403, "the request comes from a page of another site")
            return
        kind, _, key = headers.get("authorization", "").partition(" ")
        allowed = self._keys.scope(key.strip()) if kind.lower() == "bearer" else None
        if allowed is None:
            raise Refusal(401, "a key is needed; send it as Authorization: Bearer KEY", code="invalid_api_key")
        if path in WRITES and method not in ("GET", "HEAD") and allowed != "write":
            raise Refusal(403, "this key may only read; ask with one that may write")


def _has_half_characters(body: bytes) -> bool:
    """Whether JSON escapes half of a surrogate pair: no text that holds one can be written, or read by a tokenizer."""
    if b"\\ud" not in body and b"\\uD" not in body:
        return False
    return _HALF.search(body.replace(b"\\\\", b"  ")) is not None


def _name(host: str) -> str:
    """A Host header without its port."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""
