"""What is asked often, health, counts and overview, is answered while the index is in use."""

from __future__ import annotations

import contextlib
import threading
from types import SimpleNamespace

import pytest
from serving_shop import on_loopback

from afmrl.index.address import open_index
from afmrl.serving import row_count
from afmrl.serving.app import create_app
from afmrl.serving.row_count import RowCount
from afmrl.serving.service import Service

pytest_plugins = ["serving_shop"]


class Index(list):
    """Its rows, and how often they were counted."""

    counted = 0

    def __len__(self):
        self.counted += 1
        return super().__len__()


@contextlib.contextmanager
def in_use(lock):
    """Hold a lock in another thread."""
    has, ends = threading.Event(), threading.Event()

    def hold():
        with lock:
            has.set()
            ends.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    has.wait(5)
    yield
    ends.set()
    thread.join()


@pytest.fixture
def clock(monkeypatch):
    """The time that a count reads, in a list to change it."""
    seconds = [0.0]
    monkeypatch.setattr(row_count, "time", SimpleNamespace(monotonic=lambda: seconds[0]))
    return seconds


def test_rows_are_counted_once_a_minute_and_after_a_write(clock):
    index, lock = Index("abc"), threading.RLock()
    rows = RowCount(index, lock)
    assert [rows.now() for _ in range(9)] == [3] * 9 and index.counted == 1
    index.append("d")
    clock[0] = 59.9
    assert rows.now() == 3
    clock[0] = 60.0
    assert rows.now() == 4
    index.append("e")
    rows.forget()
    assert rows.now() == 5 and index.counted == 3


def test_while_the_index_is_in_use_the_last_count_is_given(clock):
    index, lock = Index("abc"), threading.RLock()
    rows = RowCount(index, lock)
    index.append("d")
    clock[0] = 1000.0
    with in_use(lock):
        assert rows.now() == 3 and index.counted == 1
    assert rows.now() == 4


def test_what_is_asked_often_is_answered_while_the_index_is_in_use(own_index):
    """Each by a client of its own with a short limit: a server that waits for the index fails the test."""
    import httpx2

    with open_index(str(own_index)) as index:
        service = Service(index, str(own_index))
        service.index.rows.forget()
        with on_loopback(create_app(service)) as address, in_use(service.index.lock):
            answers = {
                path: httpx2.get(address + path, timeout=5)
                for path in ("/health", "/metrics", "/info", "/afmrl/v1/overview")
            }
        service.close()
    assert {path: answer.status_code for path, answer in answers.items()} == dict.fromkeys(answers, 200)
    assert "afmrl_index_rows 60.0" in answers["/metrics"].text and answers["/info"].json()["rows"] == 60


def test_health_is_answered_while_every_thread_waits(own_index):
    import anyio.to_thread
    import httpx2

    with open_index(str(own_index)) as index:
        service = Service(index, str(own_index))
        app = create_app(service)
        busy = threading.Semaphore(0)
        ends = threading.Event()

        @app.get("/takes-a-thread")
        async def takes_a_thread() -> str:
            limiter = anyio.to_thread.current_default_thread_limiter()
            limiter.total_tokens = 1

            def wait():
                busy.release()
                ends.wait(20)

            await anyio.to_thread.run_sync(wait)
            return ""

        with on_loopback(app) as address:
            waits = threading.Thread(target=httpx2.get, args=[address + "/takes-a-thread"], kwargs={"timeout": 20})
            waits.start()
            busy.acquire(timeout=5)
            try:
                assert httpx2.get(address + "/health", timeout=5).status_code == 200
            finally:
                ends.set()
                waits.join()
        service.close()
