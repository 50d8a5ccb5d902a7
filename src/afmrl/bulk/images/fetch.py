"""Images from http(s) addresses that somebody else wrote: bounded, and never from inside one's own network."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as ResolverTimeout
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

import httpcore2

from afmrl.errors import InputError

MAX_BYTES = 20 * 2**20
MAX_ADDRESS_CHARACTERS = 8_192
STEP_SECONDS = 10.0  # for one connection or one read
REDIRECTS = frozenset({301, 302, 303, 307, 308})
TRY_AGAIN = frozenset({429, 500, 502, 503, 504})
GLOBAL_UNICAST = IPv6Network("2000::/3")
SPECIAL_USE = tuple(  # of IANA's registries, where older Pythons' tables lack them
    ip_network(text) for text in ("192.0.0.0/24", "192.88.99.0/24", "2001::/23", "2001:db8::/32", "3fff::/20")
)
TRANSLATED = IPv6Network("64:ff9b::/96")  # NAT64: an IPv4 address in the last four bytes (RFC 6052)


class Fetcher:
    """Fetches images over http(s); threads may share one.

    Addresses of a catalog are a stranger's: they may name the machine itself, a neighbor or a cloud's metadata
    service. A host is resolved once, every address that it has must be public, and the connection goes to the address
    that was looked at; each redirect is looked at again. Proxies of the environment are not used, because they would
    resolve the name themselves.

    Args:
        max_bytes: of one image.
        seconds: for one image with its redirects and repetitions.
        max_redirects: followed for one image.
        per_host: images fetched from one host at a time.
        retries: after 429, 500, 502, 503, 504 and broken connections.
        backoff: seconds before the first repetition, doubled each time; a longer Retry-After counts.
        allow_private: takes addresses that are not public too: for an image server in one's own network, and tests.
    """

    def __init__(
        self,
        *,
        max_bytes: int = MAX_BYTES,
        seconds: float = 30.0,
        max_redirects: int = 3,
        per_host: int = 4,
        retries: int = 2,
        backoff: float = 0.5,
        allow_private: bool = False,
    ) -> None:
        for name, value, least in (
            ("max_bytes", max_bytes, 1),
            ("seconds", seconds, 0.001),
            ("max_redirects", max_redirects, 0),
            ("per_host", per_host, 1),
            ("retries", retries, 0),
            ("backoff", backoff, 0),
        ):
            if value < least:
                raise InputError(f"fetching images: {name}={value} must be at least {least}")
        self.max_bytes, self.seconds, self.max_redirects = max_bytes, seconds, max_redirects
        self.retries, self.backoff = retries, backoff
        self._clock = _Clock()
        self._network = _CheckedNetwork(self._clock, allow_private)
        self._pool = httpcore2.ConnectionPool(
            network_backend=self._network, max_connections=None, max_keepalive_connections=32, keepalive_expiry=10
        )
        self._hosts = _HostTurns(per_host)

    def fetch(self, address: str) -> bytes:
        """The image's file content.

        Raises:
            InputError: the address is invalid or not allowed, the host did not answer in time, or what it sent is not
                an image or too large.
        """
        self._clock.deadline = time.monotonic() + self.seconds
        for attempt in range(self.retries + 1):
            try:
                return self._follow(address)
            except _TryLater as error:
                wait = max(self.backoff * 2**attempt * random.uniform(0.5, 1.0), error.after)
                if attempt == self.retries or wait >= self._clock.left():
                    raise _failure(address, str(error)) from error
                time.sleep(wait)
        raise AssertionError  # the last attempt returns or raises

    def close(self) -> None:
        """Close the connections that wait for a further image."""
        self._pool.close()
        self._network.close()

    def __enter__(self) -> Fetcher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _follow(self, address: str) -> bytes:
        at = address
        for _ in range(self.max_redirects + 1):
            result = self._get(address, at)
            if isinstance(result, bytes):
                return result
            try:
                at = urljoin(at, result)
            except ValueError as error:
                raise _failure(address, f"is redirected to what is no address ({error})") from error
        raise _failure(address, f"is redirected more than {self.max_redirects} times")

    def _get(self, asked: str, at: str) -> bytes | str:
        """The image at `at`, or where it redirects to."""
        url, host = _parsed(asked, at)
        left = self._clock.left()
        seconds = max(0.001, min(STEP_SECONDS, left))
        headers = [("Host", host), ("User-Agent", "afmrl"), ("Accept", "image/*"), ("Accept-Encoding", "identity")]
        timeouts = {"connect": seconds, "read": seconds, "write": seconds, "pool": max(0.001, left)}
        try:
            with (
                self._hosts.turn(host, left),
                self._pool.stream("GET", url, headers=headers, extensions={"timeout": timeouts}) as response,
            ):
                return self._answer(asked, response)
        except _Refused as error:
            raise _failure(asked, str(error)) from error
        except httpcore2.UnsupportedProtocol as error:
            raise _failure(asked, str(error)) from error
        except httpcore2.TimeoutException as error:
            raise _TryLater(f"no answer within {min(seconds, self.seconds):g} s") from error
        except (httpcore2.NetworkError, httpcore2.ProtocolError, OSError) as error:
            raise _TryLater(f"the connection failed ({error or type(error).__name__})") from error

    def _answer(self, asked: str, response: httpcore2.Response) -> bytes | str:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
        if response.status in REDIRECTS:
            if not headers.get("location"):
                raise _failure(asked, f"is redirected (HTTP {response.status}) to nowhere")
            return headers["location"]
        if response.status in TRY_AGAIN:
            after = headers.get("retry-after", "")
            raise _TryLater(f"HTTP {response.status}", float(after) if after.isdecimal() else 0.0)
        if response.status != 200:
            raise _failure(asked, f"HTTP {response.status}")
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if not kind.startswith("image/"):
            raise _failure(asked, f"is of the type {kind or '(none)'!r}, not an image")
        if headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
            raise _failure(asked, f"is sent as {headers['content-encoding']!r}, which was not asked for")
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length) > self.max_bytes:
            raise _failure(asked, f"has {int(length):,} bytes, at most {self.max_bytes:,} are fetched")
        content = bytearray()
        for part in response.iter_stream():
            content += part
            if len(content) > self.max_bytes:
                raise _failure(asked, f"has more than {self.max_bytes:,} bytes; at most so many are fetched")
        return bytes(content)


def public_address(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address is one of the public internet's, also where an IPv4 address is inside an IPv6 one.

    >>> [public_address(ip_address(text)) for text in ("93.184.215.14", "10.0.0.1", "::ffff:127.0.0.1")]
    [True, False, False]
    """
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped:
            return public_address(address.ipv4_mapped)
        if address in TRANSLATED:
            return public_address(IPv4Address(int(address) & 0xFFFFFFFF))
        if address.sixtofour:  # some versions of Python call none of them global
            return public_address(address.sixtofour)
        if address not in GLOBAL_UNICAST:
            return False
    if any(address.version == network.version and address in network for network in SPECIAL_USE):
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


@dataclass
class _TryLater(Exception):
    reason: str
    after: float = 0.0

    def __str__(self) -> str:
        return self.reason


class _Refused(Exception):
    pass


class _Clock(threading.local):
    """When the image that this thread fetches must be there."""

    deadline = 0.0

    def left(self) -> float:
        return self.deadline - time.monotonic()


class _HostTurns:
    def __init__(self, per_host: int) -> None:
        self._per_host, self._busy, self._free = per_host, Counter[str](), threading.Condition()

    @contextlib.contextmanager
    def turn(self, host: str, seconds: float) -> Iterator[None]:
        with self._free:
            if not self._free.wait_for(lambda: self._busy[host] < self._per_host, max(0.0, seconds)):
                raise _TryLater(f"waited too long for {host}")
            self._busy[host] += 1
        try:
            yield
        finally:
            with self._free:
                self._busy[host] -= 1
                if not self._busy[host]:
                    del self._busy[host]
                self._free.notify_all()


class _CheckedNetwork(httpcore2.NetworkBackend):
    """Connects to public addresses only: the one that was looked at is the one connected to, whatever DNS says next."""

    def __init__(self, clock: _Clock, allow_private: bool) -> None:
        self._clock, self._allow_private = clock, allow_private
        self._sockets = httpcore2.SyncBackend()
        self._resolvers = ThreadPoolExecutor(8, thread_name_prefix="resolve")  # the system's resolver has no time limit

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Any = None,
    ) -> httpcore2.NetworkStream:
        addresses = self._resolve(host, port)
        if not self._allow_private:
            for address in addresses:
                if not public_address(address):
                    raise _Refused(f"{host} is at {address}, which is not a public address")
        failure: Exception = httpcore2.ConnectError(f"{host} has no address")
        for address in addresses:
            try:
                stream = self._sockets.connect_tcp(
                    str(address), port, self._clock_bound(timeout), local_address, socket_options
                )
                return _TimedStream(stream, self._clock)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
        raise failure

    def close(self) -> None:
        self._resolvers.shutdown(wait=False)

    def _clock_bound(self, timeout: float | None) -> float:
        return max(0.001, min(timeout or STEP_SECONDS, self._clock.left()))

    def _resolve(self, host: str, port: int) -> list[IPv4Address | IPv6Address]:
        answer = self._resolvers.submit(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        try:
            found = answer.result(timeout=self._clock_bound(None))
        except ResolverTimeout as error:
            raise httpcore2.ConnectTimeout(f"{host} was not found in time") from error
        except (OSError, UnicodeError) as error:
            if isinstance(error, socket.gaierror) and error.errno == socket.EAI_NONAME:
                raise _Refused(f"there is no host {host}") from error
            raise httpcore2.ConnectError(f"{host} was not found ({error})") from error
        return list(dict.fromkeys(ip_address(entry[4][0]) for entry in found))


class _TimedStream(httpcore2.NetworkStream):
    """No read or write goes past the deadline: a host that sends a byte every few seconds gains nothing."""

    def __init__(self, stream: httpcore2.NetworkStream, clock: _Clock) -> None:
        self._stream, self._clock = stream, clock

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._bounded(timeout, httpcore2.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._bounded(timeout, httpcore2.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        bounded = self._bounded(timeout, httpcore2.ConnectTimeout)
        return _TimedStream(self._stream.start_tls(ssl_context, server_hostname, bounded), self._clock)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)

    def _bounded(self, timeout: float | None, late: type[Exception]) -> float:
        left = self._clock.left()
        if left <= 0:
            raise late("out of time")
        return min(timeout or STEP_SECONDS, left)


def _parsed(asked: str, at: str) -> tuple[httpcore2.URL, str]:
    """The request's URL and its Host header."""
    if len(at) > MAX_ADDRESS_CHARACTERS or any(c.isspace() or not c.isprintable() for c in at):
        raise _failure(asked, "is not an address (too long, or with blanks in it)")
    try:
        parts = urlsplit(at)
        host, port = parts.hostname or "", parts.port
        host = host if ":" in host else host.encode("idna").decode("ascii")
    except ValueError as error:
        raise _failure(asked, f"is not an address ({error})") from error
    if parts.scheme not in ("http", "https"):
        raise _failure(asked, f"leads to {parts.scheme or 'nothing'!r}; images are fetched by http and https alone")
    if "@" in parts.netloc:
        raise _failure(asked, "holds a user name or password; such an address is not fetched")
    if not host:
        raise _failure(asked, "names no host")
    target = quote(parts.path or "/", safe="/%:=&~+!$,;'@()*") + (
        "?" + quote(parts.query, safe="/%:=&~+!$,;'@()*?[]") if parts.query else ""
    )
    named = f"[{host}]" if ":" in host else host
    url = httpcore2.URL(scheme=parts.scheme.encode(), host=host.encode(), port=port, target=target.encode())
    return url, named if port is None else f"{named}:{port}"


def _failure(address: str, reason: str) -> InputError:
    return InputError(f"image {address[:200]}: {reason}")
