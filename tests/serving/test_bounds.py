"""What large requests cost before they are refused, and what late ones hold."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
import time

import numpy as np
import pytest

from afmrl.data.offer import Offer
from afmrl.errors import InputError
from afmrl.serving.gate import Gate
from afmrl.serving.images_ahead import ImagesAhead
from afmrl.serving.kept_images import KeptImages
from afmrl.serving.keys import Keys
from afmrl.serving.limits import Limits
from conftest import save_image

pytest_plugins = ["serving_shop"]
MANY = 200_000
WRONG = [1] * MANY
NAMES = {f"n{number}": 1 for number in range(MANY)}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/embeddings", {"input": ["a", *WRONG]}),
        ("/v1/embeddings", {"messages": WRONG}),
        ("/v1/embeddings", {"messages": [{"content": WRONG}]}),
        ("/embed", {"inputs": WRONG}),
        ("/v2/embed", {"texts": WRONG}),
        ("/v2/embed", {"images": WRONG}),
        ("/v2/embed", {"inputs": [{"content": WRONG}]}),
        ("/v2/embed", {"texts": ["a"], "embedding_types": WRONG}),
        ("/rerank", {"query": "a", "documents": WRONG}),
        ("/rerank", {"query": "a", "texts": ["a"] * MANY}),
        ("/afmrl/v1/search", {"text": "a", "where": {"seller": WRONG}}),
        ("/afmrl/v1/search", {"text": "a", "where": NAMES}),
        ("/afmrl/v1/search", {"text": "a", "where": {"seller": ["a"] * 51}}),
        ("/afmrl/v1/search", NAMES),
        ("/afmrl/v1/attributes", {"offers": WRONG}),
        ("/afmrl/v1/match", {"offer": {"title": "a", "attributes": NAMES}}),
        ("/afmrl/v1/match", {"offer": NAMES}),
        ("/afmrl/v1/offers", {"offers": WRONG}),
    ],
)
def test_very_many_faults_cost_no_more_than_one(client, path, body):
    content = json.dumps(body).encode()
    start = time.process_time()
    answer = client.post(path, content=content, headers={"Content-Type": "application/json"})
    assert time.process_time() - start < 1.0
    assert answer.status_code in (400, 413, 422) and len(answer.content) < 1000


def test_a_late_request_counts_until_its_work_ends():
    ends = asyncio.Event()

    async def slow(scope, receive, send):
        await ends.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    async def asked():
        said = []

        async def receive():
            return {"type": "http.request", "body": b"{}", "more_body": False}

        async def send(message):
            said.append(message.get("status"))

        await gate({"type": "http", "path": "/embed", "method": "POST", "headers": [(b"host", b"x")]}, receive, send)
        return [status for status in said if status]

    async def run():
        assert await asked() == [503]
        assert await asked() == [429]  # the first one still works
        ends.set()
        await asyncio.sleep(0.01)
        assert await asked() == [200]

    gate = Gate(slow, Keys({}), Limits(requests=1, seconds=-4.9), ["x"])
    asyncio.run(run())


def test_what_fails_after_it_was_answered_as_late_is_logged_once(caplog):
    ends = asyncio.Event()

    async def fails(scope, receive, send):
        await ends.wait()
        raise RuntimeError("too late to tell")

    async def run():
        said = []

        async def receive():
            return {"type": "http.request", "body": b"{}", "more_body": False}

        async def send(message):
            said.append(message.get("status"))

        gate = Gate(fails, Keys({}), Limits(seconds=-4.9), ["x"])
        await gate({"type": "http", "path": "/embed", "method": "POST", "headers": [(b"host", b"x")]}, receive, send)
        ends.set()
        await asyncio.sleep(0.01)
        return said

    assert asyncio.run(run())[0] == 503
    gc.collect()  # a task whose error nobody read says so when it is removed
    assert [record.getMessage() for record in caplog.records] == ["/embed: failed after it was answered as late"]


def test_what_all_requests_send_is_bounded_and_a_late_one_is_answered_once():
    """Bodies of 600 bytes where 1000 may be in work: one at a time, also after the first came too late."""
    ends = asyncio.Event()

    async def slow(scope, receive, send):
        await ends.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    async def ask(said, gate):
        async def receive():
            return {"type": "http.request", "body": b"{" * 600, "more_body": False}

        async def send(message):
            if "status" in message:
                said.append(message["status"])

        await gate({"type": "http", "path": "/embed", "method": "POST", "headers": [(b"host", b"x")]}, receive, send)

    async def run():
        gate = Gate(slow, Keys({}), Limits(bodies_bytes=1000, seconds=-4.9), ["x"])
        first, second, third = [], [], []
        await ask(first, gate)
        await ask(second, gate)
        assert (first, second) == ([503], [429])
        ends.set()
        await asyncio.sleep(0.01)
        await ask(third, gate)
        assert (first, third) == ([503], [200])

    asyncio.run(run())


def test_one_image_that_comes_many_times_at_once_is_kept_once(tmp_path):
    kept, threads, images = [], [], KeptImages(tmp_path)

    def keep():
        with images.keeping() as of_request:
            kept.append(of_request.add(b"x" * 5_000_000))

    for _ in range(8):
        threads.append(threading.Thread(target=keep))
        threads[-1].start()
    for thread in threads:
        thread.join()
    assert len(kept) == 8 and len(set(kept)) == 1


def test_no_answer_names_a_folder_of_the_server(client, service, monkeypatch):
    def fails(*_, **__):
        raise InputError(f"{service.address}/images/ab: is not there, nor /srv/data/x.png; https://a.example/b/c is")

    monkeypatch.setattr(service, "search", fails)
    message = client.post("/afmrl/v1/search", json={"text": "red"}).json()["error"]["message"]
    assert message == "images/ab: is not there, nor x.png; https://a.example/b/c is"


def test_a_search_says_what_a_match_says(client):
    title = "Maison Lune mug, red, size m"
    found = client.post("/afmrl/v1/search", json={"text": title}).json()["hits"]
    assert [hit["same"] for hit in found] == [True] + [False] * 9 and any(hit["reasons"]["veto"] for hit in found)
    plain = client.post("/afmrl/v1/search", json={"text": title, "rerank": False}).json()["hits"]
    assert {hit["same"] for hit in plain} == {None}


def test_an_image_is_asked_for_again_and_not_sent_again(client):
    first = client.get("/afmrl/v1/image", params={"id": "mug/26"})
    assert first.headers["cache-control"] == "private, no-cache"
    again = client.get("/afmrl/v1/image", params={"id": "mug/26"}, headers={"If-None-Match": first.headers["etag"]})
    assert again.status_code == 304 and not again.content


@pytest.mark.parametrize("field", ["seller", "link", "product_id", "attributes"])
def test_every_field_of_an_offer_is_bounded(client, field):
    offer = {"id": "a", "title": "a", field: "x" * 30_000}
    if field == "attributes":
        offer[field] = {"color": offer[field]}
    assert client.post("/afmrl/v1/offers", json={"offers": [offer]}).status_code in (413, 422)


def test_images_are_opened_before_their_pass_as_the_model_would_and_let_go(service, tmp_path):
    paths = [str(save_image(tmp_path / f"{number}.png", number, size=(200 + number, 300))) for number in range(3)]
    asked = [Offer(str(number), "red mug", image=path) for number, path in enumerate([*paths, ""])]
    ahead, soon = ImagesAhead(service.encoder.embedder, service.decoding), time.monotonic() + 60
    with ahead.opened(asked, soon) as images:
        assert [image is None for image in images] == [False, False, False, True] and ahead.num_bytes > 0
        opened = service.encoder.embed(asked, opened=images)
        service.encoder.forget()
    assert ahead.num_bytes == 0
    assert np.array_equal(opened, service.encoder.embed(asked))
    service.encoder.forget()
    with pytest.raises(InputError, match="no such file"), ahead.opened([*asked, Offer("gone", image="gone.png")], soon):
        pass
    assert ahead.num_bytes == 0
