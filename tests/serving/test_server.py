"""`afmrl serve` as a process: it says where it is, drains when it is told to stop, and keeps what it answered."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from http.client import HTTPResponse

import httpx2
import pytest

from afmrl.errors import InputError
from afmrl.index.address import open_index
from afmrl.serving.server import read_groups, serve

pytest_plugins = ["serving_shop"]


@pytest.fixture
def process(own_index):
    """A server in a process of its own, and its address."""
    command = "from afmrl.cli.app import main; main()"
    started = subprocess.Popen(
        [sys.executable, "-c", command, "serve", own_index, "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    line = started.stdout.readline()
    assert "60 offers on http://127.0.0.1:" in line, line + started.stderr.read()
    address = line.split()[-1]
    for _ in range(600):
        try:
            httpx2.get(f"{address}health", timeout=5)
            break
        except httpx2.TransportError:
            time.sleep(0.05)
    yield started, address
    started.kill()
    started.communicate()


def test_what_is_in_work_is_answered_before_the_server_ends(process):
    started, address = process
    port = int(address.rstrip("/").rpartition(":")[2])
    sockets = []
    for number in range(4):
        body = json.dumps({"inputs": [f"red mug {number} {place} " * 20 for place in range(200)]})
        head = (
            f"POST /embed HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        )
        sockets.append(socket.create_connection(("127.0.0.1", port), timeout=120))
        sockets[-1].sendall(f"{head}\r\n\r\n{body}".encode())
    for _ in range(2):  # what was sent before has been read once a later request is answered
        assert httpx2.get(f"{address}info", timeout=60).status_code == 200
    started.send_signal(signal.SIGTERM)
    answers = [HTTPResponse(one) for one in sockets]
    for answer in answers:
        answer.begin()
    assert [(answer.status, len(json.loads(answer.read()))) for answer in answers] == [(200, 200)] * 4
    _, err = started.communicate(timeout=60)
    assert started.returncode == 0 and "Traceback" not in err, err


def test_an_offer_whose_insertion_was_answered_survives_a_kill(process, own_index):
    started, address = process
    answer = httpx2.post(f"{address}afmrl/v1/offers", json={"offers": [{"id": "new", "title": "a sofa"}]}, timeout=60)
    started.send_signal(signal.SIGKILL)
    started.wait()
    assert answer.json()["inserted"] == 1
    with open_index(str(own_index)) as index:
        assert index.get(["new"]).offers[0].title == "a sofa"


def test_a_port_that_is_taken_and_an_index_that_is_not_there_are_one_line(shop_index, tmp_path, call):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, _, err = call("serve", shop_index, "--port", port)
    assert code == 2 and f"cannot listen on 127.0.0.1:{port}" in err and "Traceback" not in err
    code, _, err = call("serve", tmp_path / "none", "--port", 0)
    assert code == 2 and "none" in err and "Traceback" not in err


def test_a_folder_without_groups_is_refused(tmp_path, shop_index):
    with pytest.raises(InputError, match="a folder that `afmrl match` wrote"):
        serve(str(shop_index), port=0, matches=tmp_path)
    (tmp_path / "groups.jsonl").write_text('{"group": "g1", "canonical": "a", "offers": ["a", "b"]}\n')
    assert read_groups(tmp_path) == {"a": "g1", "b": "g1"}
