"""A client that costs little: requests over kept connections from one thread, and the time of each answer."""

from __future__ import annotations

import itertools
import selectors
import socket
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

END_OF_HEAD = b"\r\n\r\n"
TIMEOUT = 120.0


def request(path: str, body: bytes) -> bytes:
    """A whole POST request."""
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return head.encode() + END_OF_HEAD + body


@dataclass
class Answers:
    """What a load got."""

    seconds: float = 0.0
    """From the first request to the last answer."""
    processor_seconds: float = 0.0
    """Of this client itself."""
    latencies: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)

    @property
    def per_second(self) -> float:
        """Answers a second."""
        return len(self.latencies) / self.seconds


RETRIES = 3
"""Of a request on a connection that the server closed as idle just then."""


class _Connection:
    def __init__(self, port: int) -> None:
        self.request = self.unsent = memoryview(b"")
        self.connect(port)
        self.received = bytearray()
        self.length = -1
        self.due = 0.0
        self.is_asking, self.num_again = False, 0

    def connect(self, port: int) -> None:
        """A new connection, on which the request is to be sent from its beginning."""
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.unsent = self.request

    def send(self) -> bool:
        """Send on; whether the request is out."""
        try:
            self.unsent = self.unsent[self.socket.send(self.unsent) :]
        except BlockingIOError:
            return False
        return not self.unsent

    def receive(self) -> int:
        """Read on; the status of the answer once it is whole, 0 before."""
        part = self.socket.recv(1 << 20)
        if not part:
            raise ConnectionError("the server closed a connection")
        self.received += part
        if self.length < 0:
            end = self.received.find(END_OF_HEAD)
            if end < 0:
                return 0
            head = bytes(self.received[:end]).lower()
            of_body = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
            self.length = end + len(END_OF_HEAD) + int(of_body)
        if len(self.received) < self.length:
            return 0
        status = int(self.received[9:12])
        self.received, self.length = bytearray(), -1
        return status


def load(port: int, requests: Sequence[bytes], *, clients: int, seconds: float, rate: float | None = None) -> Answers:
    """Ask for some time, each client its next request when it has its answer.

    Args:
        requests: asked in turn, again and again.
        rate: requests a second of all clients together; a latency then counts from when the request was due. None: as
            fast as answers come.
    """
    answers, turn = Answers(), itertools.cycle(requests)
    connections = [_Connection(port) for _ in range(clients)]
    idle, num_out, num_asked = deque(connections), 0, 0
    with selectors.DefaultSelector() as selector:
        for one in connections:
            selector.register(one.socket, selectors.EVENT_READ, one)
        start, own = time.perf_counter(), time.thread_time()
        while True:
            now = time.perf_counter()
            is_open = now < start + seconds
            while is_open and idle and (rate is None or start + num_asked / rate <= now):
                one = idle.popleft()
                one.due = now if rate is None else start + num_asked / rate
                one.request = one.unsent = memoryview(next(turn))
                num_asked, num_out, one.is_asking, one.num_again = num_asked + 1, num_out + 1, True, 0
                try:
                    is_out = one.send()
                except ConnectionError:
                    is_out = False  # told when it is looked at
                if not is_out:
                    selector.modify(one.socket, selectors.EVENT_WRITE, one)
            if not is_open and not num_out:
                break
            wait = TIMEOUT
            if is_open:
                wait = max(0.0, start + (seconds if rate is None or not idle else num_asked / rate) - now)
            ready = selector.select(wait)
            if not ready and not is_open:
                raise TimeoutError(f"no answer within {TIMEOUT:.0f} s")
            for key, _ in ready:
                one = key.data
                if not one.is_asking:  # the server closes what is idle for long
                    selector.unregister(one.socket)
                    one.socket.close()
                    idle.remove(one)
                    idle.append(_Connection(port))
                    selector.register(idle[-1].socket, selectors.EVENT_READ, idle[-1])
                    continue
                try:
                    status = 0
                    if one.unsent:
                        if one.send():
                            selector.modify(one.socket, selectors.EVENT_READ, one)
                    else:
                        status = one.receive()
                except ConnectionError:
                    if one.received or one.num_again == RETRIES:
                        raise
                    # the server closed it as idle just when it was asked again: ask once more
                    selector.unregister(one.socket)
                    one.socket.close()
                    one.connect(port)
                    one.num_again += 1
                    selector.register(one.socket, selectors.EVENT_WRITE, one)
                    continue
                if status:
                    answers.latencies.append(time.perf_counter() - one.due)
                    answers.statuses[status] = answers.statuses.get(status, 0) + 1
                    num_out, one.is_asking = num_out - 1, False
                    idle.append(one)
        answers.seconds, answers.processor_seconds = time.perf_counter() - start, time.thread_time() - own
    for one in idle:
        one.socket.close()
    return answers
