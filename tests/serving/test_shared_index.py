"""One index for many threads: no image is opened in anybody's turn, and no turn is waited for without an end."""

from __future__ import annotations

import contextlib
import json
import shutil
import threading
import time

import pytest
from fastapi.testclient import TestClient

from afmrl.index.address import open_index
from afmrl.matching.search import search
from afmrl.retrieval import colors
from afmrl.serving.app import create_app
from afmrl.serving.decoding import Decoding
from afmrl.serving.limits import Limits
from afmrl.serving.refusal import Refusal
from afmrl.serving.service import Service
from afmrl.serving.shared_index import SharedIndex

pytest_plugins = ["serving_shop"]


@contextlib.contextmanager
def another_turn(index):
    """Another thread has its turn while the block runs."""
    has, ends = threading.Event(), threading.Event()

    def hold():
        with index.lock:
            has.set()
            ends.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    has.wait(5)
    try:
        yield
    finally:
        ends.set()
        thread.join()


def is_free(index):
    """Whether another thread would get its turn now."""
    found = []

    def look():
        found.append(index.lock.acquire(blocking=False))
        if found[0]:
            index.lock.release()

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    return found[0]


@pytest.fixture
def colored_model(tiny_model, tmp_path):
    """The model as one that learned a weight of colors, after the shop's index was made without keeping any."""
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    (folder / "fusion.json").write_text(json.dumps({"bm25": 0.5, "attributes": 0.0, "color": 0.4}))
    return folder


def test_no_image_is_opened_in_a_turn_and_the_hits_are_those_of_the_command(
    own_index, colored_model, picture, tmp_path, monkeypatch
):
    opened = []
    title = "Maison Lune mug, red, size m"
    with open_index(str(own_index)) as inner:
        service = Service(inner, str(own_index), colored_model)
        assert service.encoder.weights.color == 0.4 and not service.index.settings.get("colors")
        client = TestClient(create_app(service), base_url="http://127.0.0.1")
        open_image = colors.open_image

        def noting(path, **options):
            opened.append((path, is_free(service.index)))
            return open_image(path, **options)

        monkeypatch.setattr(colors, "open_image", noting)
        body = {"text": title, "image": picture, "k": 5}
        found = client.post("/afmrl/v1/search", json=body).json()["hits"]
        plain = client.post("/afmrl/v1/search", json={**body, "rerank": False}).json()["hits"]
        assert client.post("/afmrl/v1/match", json={"offer": {"title": title, "image": picture}}).json()["matches"]
        monkeypatch.setattr(colors, "open_image", open_image)
        service.close()
    assert len(opened) > 100 and all(free for _, free in opened)  # gallery images too, since the index keeps none
    options = {"model": colored_model, "text": title, "image": tmp_path / "picture.png", "k": 5}
    for hits, rerank in ((found, True), (plain, False)):
        wanted = search(str(own_index), rerank=rerank, **options)
        assert [(hit["id"], hit["score"]) for hit in hits] == [
            (hit.offer.id, pytest.approx(hit.score, abs=1e-5)) for hit in wanted
        ]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/afmrl/v1/search", {"text": "red mug"}),
        ("POST", "/afmrl/v1/search", {"offer_id": "mug/24"}),
        ("POST", "/afmrl/v1/match", {"offer": {"title": "red mug"}}),
        ("POST", "/afmrl/v1/offers", {"offers": [{"id": "a", "title": "x"}]}),
        ("DELETE", "/afmrl/v1/offers", {"ids": ["mug/24"]}),
        ("GET", "/afmrl/v1/offers?id=mug/24", None),
        ("GET", "/afmrl/v1/image?id=mug/26", None),
        ("GET", "/afmrl/v1/filters", None),
    ],
)
def test_who_does_not_get_its_turn_in_time_is_answered_late(own_index, method, path, body):
    with open_index(str(own_index)) as inner:
        service = Service(inner, str(own_index), limits=Limits(seconds=1.0))
        client = TestClient(create_app(service), base_url="http://127.0.0.1", raise_server_exceptions=False)
        start = time.monotonic()
        with another_turn(service.index):
            answer = client.request(method, path, json=body)
        assert answer.status_code == 503 and answer.headers["retry-after"] == "1" and time.monotonic() - start < 4
        assert len(service.index) == 60
        service.close()


def test_a_call_waits_for_its_turn_until_the_deadline_of_its_own_block(own_index):
    with open_index(str(own_index)) as inner:
        index = SharedIndex(inner, Decoding(), seconds=0.05)
        with another_turn(index):
            for deadline in (time.monotonic() - 1, time.monotonic() + 0.05, None):
                with pytest.raises(Refusal, match="took too long"), index.until(deadline):
                    index.get(["mug/24"])
        with index.until(time.monotonic() + 5), index.until(None):
            assert index.get(["mug/24"]).ids == ["mug/24"]
        assert [len(rows) for rows in index.scan(40)] == [40, 20]
