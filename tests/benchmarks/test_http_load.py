"""The client that measures a server: it asks as often as it says, and times what it got."""

from __future__ import annotations

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from http_load import load, request


@pytest.fixture
def server():
    """Answers after 20 ms, every tenth request with 429; closes what is idle for 0.3 seconds."""
    seen, lock = [], threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version, timeout = "HTTP/1.1", 0.3

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            with lock:
                seen.append(body)
                number = len(seen)
            time.sleep(0.02)
            self.send_response(429 if number % 10 == 0 else 200)
            self.send_header("Content-Length", "70000")
            self.end_headers()
            self.wfile.write(b"x" * 70000)

        def log_message(self, *_):
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 64

    started = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=started.serve_forever, daemon=True).start()
    yield started.server_address[1], seen
    started.shutdown()
    started.server_close()


def test_each_client_asks_again_when_it_has_its_answer(server):
    port, seen = server
    large = request("/embed", b"b" * 3_000_000)  # more than a socket takes at once
    found = load(port, [request("/embed", b"a"), large], clients=4, seconds=0.5)
    assert len(found.latencies) == len(seen) == sum(found.statuses.values()) > 4
    assert {len(body) for body in seen} == {1, 3_000_000} and found.statuses[429] == len(seen) // 10
    assert min(found.latencies) >= 0.02 and 0.5 <= found.seconds < 30 and found.processor_seconds > 0
    assert found.per_second == pytest.approx(len(seen) / found.seconds)


def test_a_rate_is_kept_and_connections_that_were_closed_are_opened_again(server):
    port, seen = server
    found = load(port, [request("/embed", b"a")], clients=8, seconds=2, rate=5)
    assert len(seen) == len(found.latencies) == pytest.approx(10, abs=1)
