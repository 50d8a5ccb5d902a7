"""Images of requests and of the index are decoded a few at a time, and not after the time of their request is over."""

from __future__ import annotations

import contextlib
import time

import numpy as np
import pytest
from fastapi.testclient import TestClient
from serving_shop import data_uri

from afmrl.data.offer import Offer
from afmrl.index.address import open_index
from afmrl.retrieval import colors
from afmrl.retrieval.colors import readable_color_histograms
from afmrl.serving import images_ahead, offer_routes, uploads
from afmrl.serving.app import create_app
from afmrl.serving.decoding import Decoding
from afmrl.serving.limits import Limits
from afmrl.serving.refusal import Refusal
from afmrl.serving.service import Service
from conftest import save_image

pytest_plugins = ["serving_shop"]
IMAGE = "the image"
ROUTES = {
    "embeddings": ("POST", "/v1/embeddings", {"input": [{"image": IMAGE}]}),
    "cohere": ("POST", "/v2/embed", {"images": [IMAGE], "input_type": "image"}),
    "search": ("POST", "/afmrl/v1/search", {"text": "red mug", "image": IMAGE}),
    "search by an offer": ("POST", "/afmrl/v1/search", {"offer_id": "mug/26"}),
    "match": ("POST", "/afmrl/v1/match", {"offer": {"title": "red mug", "image": IMAGE}}),
    "rerank": (
        "POST",
        "/rerank",
        {"query": {"text": "red", "image": IMAGE}, "documents": [{"text": "mug", "image": IMAGE}]},
    ),
    "attributes": ("POST", "/afmrl/v1/attributes", {"offers": [{"title": "red mug", "image": IMAGE}]}),
    "insert": ("POST", "/afmrl/v1/offers", {"offers": [{"id": "a", "title": "red mug", "image": IMAGE}]}),
    "image": ("GET", "/afmrl/v1/image?id=mug/26", None),
}


def with_image(value, image):
    """The value with an image where IMAGE is."""
    if isinstance(value, dict):
        return {name: with_image(one, image) for name, one in value.items()}
    if isinstance(value, list):
        return [with_image(one, image) for one in value]
    return image if value == IMAGE else value


@pytest.fixture
def started(own_index):
    """`started(limits)`: a service of its own, and a client of it."""
    with contextlib.ExitStack() as held:

        def start(limits):
            service = Service(held.enter_context(open_index(str(own_index))), str(own_index), limits=limits)
            held.callback(service.close)
            app = create_app(service)
            return service, TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)

        yield start


@pytest.mark.parametrize("route", ROUTES)
def test_who_gets_no_turn_to_decode_in_time_is_answered_late(started, picture, route):
    method, path, body = ROUTES[route]
    service, client = started(Limits(seconds=1.0))
    with contextlib.ExitStack() as taken:
        for _ in range(service.decoding.places):
            taken.enter_context(service.decoding.turn(time.monotonic() + 1))
        start = time.monotonic()
        answer = client.request(method, path, json=with_image(body, picture))
        assert time.monotonic() - start < 4
    assert answer.status_code == 503 and answer.headers["retry-after"] == "1"
    assert "took too long" in answer.text
    assert list(service.uploads.folder.iterdir()) == []


@pytest.mark.parametrize("route", ROUTES)
def test_every_image_is_decoded_in_a_turn(started, picture, route, monkeypatch):
    method, path, body = ROUTES[route]
    service, client = started(Limits())
    free = []

    def noting(function):
        def call(*args, **options):
            free.append(service.decoding._free._value)
            return function(*args, **options)

        return call

    for module, name in (
        (images_ahead, "open_image"),
        (colors, "open_image"),
        (offer_routes, "open_image"),
        (uploads, "verify_image"),
    ):
        monkeypatch.setattr(module, name, noting(getattr(module, name)))
    assert client.request(method, path, json=with_image(body, picture)).status_code == 200
    assert free and set(free) == {service.decoding.places - 1}
    assert service.decoding._free._value == service.decoding.places


def test_an_image_after_the_deadline_is_not_decoded_though_there_is_room(tmp_path):
    decoding, opened = Decoding(1), []
    offers = [Offer(str(n), image=str(save_image(tmp_path / f"{n}.png", n))) for n in range(4)]
    deadline = time.monotonic() + 0.5

    @contextlib.contextmanager
    def turn():
        with decoding.turn(deadline):
            opened.append(1)
            time.sleep(0.3)
            yield

    with pytest.raises(Refusal, match="took too long"):
        readable_color_histograms(offers, turn=turn)
    assert 1 <= len(opened) <= 2
    assert np.any(readable_color_histograms(offers[:1], turn=lambda: decoding.turn(time.monotonic() + 9)))


def test_a_shown_image_has_no_more_pixels_than_one_of_a_request(started, tmp_path):
    _, client = started(Limits())
    large = {"id": "large", "title": "x", "image": data_uri(save_image(tmp_path / "large.png", 1, (200, 200)))}
    assert client.post("/afmrl/v1/offers", json={"offers": [large]}).status_code == 200
    assert client.get("/afmrl/v1/image", params={"id": "large"}).status_code == 200
    _, bounded = started(Limits(image_pixels=200 * 200 - 1))
    assert bounded.get("/afmrl/v1/image", params={"id": "large"}).status_code == 404
    assert bounded.get("/afmrl/v1/image", params={"id": "mug/26"}).status_code == 200
