"""What a server refuses: strangers, other sites, what is too large or malformed; and that it lives on afterwards."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import random
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from afmrl.data.offer import Offer
from afmrl.errors import InputError
from afmrl.serving.batching import Batcher
from afmrl.serving.decoding import Decoding
from afmrl.serving.keys import Keys
from afmrl.serving.limits import Limits
from afmrl.serving.refusal import Refusal
from afmrl.serving.server import serve
from afmrl.serving.uploads import Uploads
from conftest import png_claiming

pytest_plugins = ["serving_shop"]
READ, WRITE = "r" * 24, "w" * 24
ROUTES = {
    "/v1/embeddings": {"input": "red mug"},
    "/embed": {"inputs": "red mug"},
    "/v2/embed": {"texts": ["red mug"], "input_type": "search_query"},
    "/rerank": {"query": "red", "texts": ["a mug"]},
    "/v1/rerank": {"query": "red", "documents": ["a mug"]},
    "/v2/rerank": {"query": "red", "documents": ["a mug"]},
    "/afmrl/v1/search": {"text": "red mug", "k": 2},
    "/afmrl/v1/match": {"offer": {"title": "red mug"}},
    "/afmrl/v1/attributes": {"offers": [{"title": "red mug"}]},
}


def hashed(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


@pytest.fixture
def keyed(served, tmp_path):
    file = tmp_path / "keys"
    file.write_text(f"# clients\nread sha256:{hashed(READ)} shop\n\nwrite sha256:{hashed(WRITE)}\n")
    return served(keys=Keys.read(file))


def test_with_keys_nothing_is_told_without_one(keyed):
    assert {path: keyed.post(path, json=body).status_code for path, body in ROUTES.items()} == dict.fromkeys(
        ROUTES, 401
    )
    for path in ("/info", "/v1/models", "/afmrl/v1/offers?id=mug/24", "/afmrl/v1/image?id=mug/26", "/afmrl/v1/filters"):
        assert keyed.get(path).status_code == 401
        assert keyed.get(path, headers={"Authorization": f"Bearer {READ}"}).status_code == 200
        assert keyed.get(path, headers={"Authorization": f"Bearer {READ[:-1]}"}).status_code == 401
    for path in ("/", "/health", "/openapi.json", "/static/search.js"):
        assert keyed.get(path).status_code == 200


def test_the_description_says_where_a_key_is_needed(keyed, client):
    described = keyed.get("/openapi.json").json()
    assert described["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"
    needs = {path for path, of in described["paths"].items() if all("security" in one for one in of.values())}
    assert needs == set(described["paths"]) - {"/health"}
    assert "securitySchemes" not in client.get("/openapi.json").json()["components"]


def test_a_key_that_may_read_may_not_write(keyed):
    body = {"offers": [{"id": "a", "title": "x"}]}
    assert keyed.post("/afmrl/v1/offers", json=body, headers={"Authorization": f"Bearer {READ}"}).status_code == 403
    assert keyed.post("/afmrl/v1/offers", json=body, headers={"Authorization": f"bearer {WRITE}"}).status_code == 200
    answer = keyed.request(
        "DELETE", "/afmrl/v1/offers", json={"ids": ["a"]}, headers={"Authorization": f"Bearer {READ}"}
    )
    assert answer.status_code == 403


def test_a_key_that_may_read_may_not_undo_a_verdict(keyed):
    headers = {"Authorization": f"Bearer {READ}"}
    assert keyed.post("/afmrl/v1/verdicts/undo", json={"who": "ada"}, headers=headers).status_code == 403


def test_a_key_is_sent_as_a_bearer_and_the_refusal_says_so(keyed):
    answer = keyed.get("/info", headers={"Authorization": f"Basic {READ}"})
    assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"


def test_with_keys_a_proxy_may_ask_under_any_name(keyed):
    headers = {"Host": "127.0.0.1:8000", "Origin": "https://shop.example", "Authorization": f"Bearer {READ}"}
    assert keyed.post("/embed", json={"inputs": "red mug"}, headers=headers).status_code == 200


def test_keys_of_the_environment(monkeypatch):
    monkeypatch.setenv("AFMRL_KEYS", f"read:{READ}, write:{WRITE}")
    keys = Keys.read()
    assert (keys.scope(READ), keys.scope(WRITE), keys.scope("")) == ("read", "write", None)


@pytest.mark.parametrize("line", ["read a-key-as-it-is-in-clear", "read sha256:12", "admin sha256:" + "0" * 64])
def test_a_file_of_keys_with_anything_else_is_refused_and_not_shown(tmp_path, line):
    (tmp_path / "keys").write_text(line)
    with pytest.raises(InputError, match="keys:1: is not a hashed key") as error:
        Keys.read(tmp_path / "keys")
    assert line.split()[1] not in str(error.value)


def test_a_file_without_a_key_does_not_open_the_server(tmp_path):
    (tmp_path / "keys").write_text("# clients\n\n")
    with pytest.raises(InputError, match="holds no key"):
        Keys.read(tmp_path / "keys")


def test_a_line_of_keys_may_be_in_capitals(tmp_path):
    (tmp_path / "keys").write_text(f"WRITE SHA256:{hashed(WRITE).upper()} SHOP\n")
    assert Keys.read(tmp_path / "keys").scope(WRITE) == "write"


def test_a_short_key_is_refused(monkeypatch):
    monkeypatch.setenv("AFMRL_KEYS", "read:secret")
    with pytest.raises(InputError, match="20 characters") as error:
        Keys.read()
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "shop.example"])
def test_others_are_not_let_in_without_a_key(host, monkeypatch):
    monkeypatch.delenv("AFMRL_KEYS", raising=False)
    with pytest.raises(InputError, match="there is no key"):
        serve("no-such-index", host=host, port=0)


def test_without_keys_only_the_machine_itself_is_answered(client):
    body = ROUTES["/afmrl/v1/search"]
    for host in ("evil.example", "127.0.0.1.evil.example", "evil.example:8000", "", "["):
        assert client.post("/afmrl/v1/search", json=body, headers={"Host": host}).status_code == 403
    for host in ("localhost:8000", "127.0.0.1", "[::1]:80"):
        assert client.post("/afmrl/v1/search", json=body, headers={"Host": host}).status_code == 200


def test_a_page_of_another_site_is_refused(client):
    body = ROUTES["/afmrl/v1/search"]
    for origin, status in (("https://evil.example", 403), ("null", 403), ("http://[", 403), ("http://127.0.0.1", 200)):
        assert client.post("/afmrl/v1/search", json=body, headers={"Origin": origin}).status_code == status


def test_limits_are_named(served):
    limits = Limits(
        body_bytes=20_000, image_bytes=1000, image_pixels=10_000, text_characters=50, hits=5, batch=3, documents=2
    )
    client = served(limits)

    def refused(path, body):
        answer = client.post(path, json=body)
        return answer.status_code, json.dumps(answer.json(), ensure_ascii=False)

    bomb = base64.b64encode(png_claiming(200, 200)).decode()
    for path, body, status, words in (
        ("/v1/embeddings", {"input": "x" * 30_000}, 413, "20,000 bytes"),
        ("/v1/embeddings", {"input": "x" * 51}, 413, "51 characters, at most 50"),
        ("/v1/embeddings", {"input": ["x"] * 4}, 413, "4 are given, at most 3"),
        ("/v1/embeddings", {"input": [{"image": "A" * 2000}]}, 413, "1,000 bytes"),
        ("/v1/embeddings", {"input": [{"image": bomb}]}, 400, "10,000"),
        ("/v2/rerank", {"query": "x", "documents": ["a"] * 3}, 413, "at most 2"),
        ("/afmrl/v1/search", {"text": "x", "k": 6}, 400, "at most 5"),
        ("/afmrl/v1/search", {"text": "x", "k": 0}, 422, "k: "),
    ):
        assert refused(path, body)[0] == status and words in refused(path, body)[1], (path, words)


def test_an_image_of_one_byte_too_many_is_refused():
    image = png_claiming(10, 10)
    encoded = base64.b64encode(image).decode()
    for most, status in ((len(image), None), (len(image) - 1, 413)):
        uploads = Uploads(Limits(image_bytes=most), Decoding())
        if status is None:
            assert uploads.content(encoded, time.monotonic() + 60) == image
        else:
            with pytest.raises(Refusal, match="bytes; send a smaller one"):
                uploads.content(encoded, time.monotonic() + 60)
        uploads.close()


def test_a_data_uri_that_is_not_base64_is_named(client):
    answer = client.post("/afmrl/v1/search", json={"image": "data:image/svg+xml,AAAA"})
    assert answer.status_code == 400 and "the data: URI is not base64" in answer.json()["error"]["message"]


def test_an_image_stays_as_long_as_any_request_needs_it(picture):
    uploads, soon = Uploads(Limits(), Decoding()), time.monotonic() + 60
    content = uploads.content(picture, soon)
    with uploads.held(content, soon) as path:
        with uploads.held(content, soon) as same:
            assert same == path
        assert list(uploads.folder.iterdir())
    assert not list(uploads.folder.iterdir())
    uploads.close()


def test_several_images_in_one_input_are_refused(client, picture):
    content = [{"type": "image_url", "image_url": {"url": picture}}] * 2
    answer = client.post("/v1/embeddings", json={"messages": [{"role": "user", "content": content}]})
    assert answer.status_code == 400 and "holds 2 images" in answer.json()["error"]["message"]


def test_words_that_look_like_half_a_character_are_words(client):
    headers = {"Content-Type": "application/json"}
    for body, status in ((rb'{"inputs": "a \\ud800 b"}', 200), (rb'{"inputs": "a \\\ud800 b"}', 400)):
        assert client.post("/embed", content=body, headers=headers).status_code == status


def test_a_body_without_a_length_is_bounded_too(served):
    client = served(Limits(body_bytes=1000))
    answer = client.post("/embed", content=iter([b"x" * 600] * 5), headers={"Content-Type": "application/json"})
    assert answer.status_code == 413


@pytest.mark.parametrize("image", ["http://127.0.0.1/a.jpg", "https://shop.example/a.jpg", "HTTP://x/a"])
def test_addresses_of_images_are_not_fetched_unless_asked_for(client, image):
    answer = client.post("/v1/embeddings", json={"input": [{"image": image}]})
    assert answer.status_code == 400 and "fetches no addresses" in answer.json()["error"]["message"]


@pytest.mark.parametrize("image", ["http://127.0.0.1:1/a.jpg", "http://[::1]/a.jpg", "http://169.254.169.254/latest"])
def test_fetching_never_reaches_into_ones_own_network(served, image):
    answer = served(fetch=True).post("/v1/embeddings", json={"input": [{"image": image}]})
    assert answer.status_code == 400 and "not a public address" in answer.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/v1/embeddings", "/embed", "/v2/embed", "/afmrl/v1/search", "/rerank"])
@pytest.mark.parametrize("text", ["https://shop.example/a", "images/a.jpg", "data:image/png;base64,AAAA"])
def test_an_address_given_as_text_is_refused_and_not_embedded(client, path, text):
    bodies = {
        "/v1/embeddings": {"input": text}, "/embed": {"inputs": [text]}, "/v2/embed": {"texts": [text]},
        "/afmrl/v1/search": {"text": text}, "/rerank": {"query": "x", "texts": [text]},
    }  # fmt: skip
    answer = client.post(path, json=bodies[path])
    assert answer.status_code == 400 and "would be read as words" in answer.text


def images_of_all_kinds():
    """Images as strangers send them: odd modes, cut off, bombs, other files."""
    pixels = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8))

    def saved(image, kind, **options):
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        return buffer.getvalue()

    frames = [pixels.rotate(90 * turn) for turn in range(3)]
    exif = Image.Exif()
    exif[0x0112] = 6
    good = {
        "cmyk": saved(pixels.convert("CMYK"), "JPEG"),
        "16 bit": saved(Image.fromarray(np.arange(2000, dtype=np.uint16).reshape(40, 50)), "PNG"),
        "animated": saved(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "exif": saved(pixels, "JPEG", exif=exif),
        "palette": saved(pixels.convert("P"), "PNG"),
        "transparent": saved(pixels.convert("RGBA"), "WEBP"),
        "html behind": saved(pixels, "PNG") + b"<script>alert(1)</script>",
    }
    whole = saved(pixels, "JPEG")
    bad = {
        "cut off": whole[: len(whole) // 2],
        "bomb": png_claiming(100_000, 100_000),
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
        "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "empty": b"",
        "html": b"<html>GIF89a",
        "noise": bytes(range(256)) * 9,
        "zip": b"PK\x03\x04" + b"\0" * 60,
    }
    return good, bad


def test_images_of_every_kind_are_read_or_refused(client, service):
    good, bad = images_of_all_kinds()
    statuses = {
        name: client.post("/afmrl/v1/search", json={"image": base64.b64encode(content).decode()}).status_code
        for name, content in (good | bad).items()
    }
    assert statuses == dict.fromkeys(good, 200) | dict.fromkeys(bad, 400) | {"empty": 400}
    assert list(service.uploads.folder.iterdir()) == []


def test_a_damaged_image_does_not_spoil_its_neighbors_batch(client, service, picture):
    whole = bytearray(base64.b64decode(picture.partition(",")[2]))
    answers = {}

    def ask(name, image):
        answers[name] = client.post("/v1/embeddings", json={"input": [{"image": image}]}).status_code

    damaged = base64.b64encode(bytes(whole[:60])).decode()
    threads = [threading.Thread(target=ask, args=(n, damaged if n % 2 else picture)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {n: 400 if n % 2 else 200 for n in range(8)}


def mutated(rng, value):
    """The value with something in it exchanged."""
    odd = (
        None,
        True,
        -1,
        0,
        10**30,
        1.5,
        "",
        "\0",
        "\ud800",
        "😀" * 9,
        "a" * 3000,
        [],
        {},
        [[]],
        {"": ""},
        [None],
        "null",
    )
    if isinstance(value, dict) and value and rng.random() < 0.8:
        key = rng.choice(list(value))
        changed = dict(value)
        if rng.random() < 0.15:
            del changed[key]
        elif rng.random() < 0.2:
            changed[rng.choice(["x", "image", "text", "where", "id"])] = rng.choice(odd)
        else:
            changed[key] = mutated(rng, value[key])
        return changed
    if isinstance(value, list) and value and rng.random() < 0.7:
        place = rng.randrange(len(value))
        return [*value[:place], mutated(rng, value[place]), *value[place + 1 :]]
    return rng.choice(odd)


def test_malformed_bodies_are_refused_in_one_line_and_never_fail(client):
    rng = random.Random(0)
    more = {
        "/afmrl/v1/search": {"text": "red", "k": 3, "where": {"category": ["mug"]}, "rerank": True, "image": "AAAA"},
        "/v1/embeddings": {"messages": [{"role": "user", "content": [{"type": "text", "text": "red"}]}]},
        "/v2/embed": {
            "inputs": [{"content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}],
            "model": "afmrl",
        },
        "/rerank": {"query": {"text": "red"}, "documents": [{"text": "a"}, "b"], "top_n": 1},
        "/afmrl/v1/match": {"offer": {"title": "a", "attributes": {"color": "red"}, "gtin": "1", "id": "x"}, "k": 2},
    }
    for number in range(300):
        path = rng.choice(list(ROUTES))
        body = mutated(rng, rng.choice([ROUTES[path], more.get(path, ROUTES[path])]))
        content = json.dumps(body).encode()
        if number % 10 == 0:
            content = content[: rng.randrange(len(content) + 1)]
        answer = client.post(path, content=content, headers={"Content-Type": "application/json"})
        assert answer.status_code < 500, (path, body, answer.text)
        if answer.status_code != 200:
            said = answer.json()
            message = said.get("message") or said["error"]
            message = message["message"] if isinstance(message, dict) else message
            assert message and "\n" not in message and "Traceback" not in message
    deep = b"[" * 100_000
    assert client.post("/embed", content=deep, headers={"Content-Type": "application/json"}).status_code in (400, 422)
    assert client.get("/no/such/path").json()["error"]["message"] == "there is no such path"
    assert client.get("/embed").headers["allow"] == "POST"
    assert client.put("/afmrl/v1/offers").headers["allow"] == "DELETE, GET, POST"
    assert client.post("/embed", json=ROUTES["/embed"]).status_code == 200


def test_every_answer_forbids_what_the_page_does_not_need(client):
    for answer in (client.get("/"), client.get("/health"), client.post("/embed", json={}), client.get("/static/none")):
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_too_many_requests_are_told_when_to_come_again(served):
    client = served(Limits(requests=0))
    answer = client.post("/embed", json={"inputs": "x"})
    assert answer.status_code == 429 and answer.headers["retry-after"] == "1"
    assert client.get("/health").status_code == 200


class Model:
    """Embeds slowly; remembers its batches."""

    def __init__(self, seconds=0.0):
        self.seconds, self.batches = seconds, []

    def __call__(self, offers, attributes, images):
        time.sleep(self.seconds)
        self.batches.append([offer.title for offer in offers])
        if any(offer.title == "bad" for offer in offers):
            raise InputError("bad")
        return np.array([[len(offer.title)] for offer in offers], dtype=np.float32)


def offers(*titles):
    return [Offer(id=title, title=title) for title in titles]


def together(batcher, *requests, seconds=30.0):
    """Each request's answer or error, all asked at once behind one that is in work."""
    found = [None] * len(requests)

    def ask(place, titles):
        try:
            found[place] = batcher.embed(offers(*titles), None, time.monotonic() + seconds).tolist()
        except Exception as error:
            found[place] = error

    threads = [threading.Thread(target=ask, args=one) for one in enumerate(requests)]
    for place, thread in enumerate(threads):
        thread.start()
        if place == 0:
            time.sleep(0.05)
    for thread in threads:
        thread.join()
    return found


def test_requests_that_come_together_share_a_batch_in_length_order():
    model = Model(0.3)
    batcher = Batcher(model)
    found = together(batcher, ["first"], ["a" * 90], ["b"], ["c" * 40, "dd"])
    batcher.close()
    assert found == [[[5]], [[90]], [[1]], [[40], [2]]]
    assert model.batches[0] == ["first"] and len(model.batches) == 2
    assert [len(title) for title in model.batches[1]][-2:] == [40, 90]


def test_what_the_model_finds_late_is_answered_late(monkeypatch):
    """The clock of the thread that embeds is a minute ahead: it finds the request late before the request does."""
    ahead = SimpleNamespace(monotonic=lambda: time.monotonic() + 60.0 * (threading.current_thread().name == "embed"))
    monkeypatch.setattr("afmrl.serving.batching.time", ahead)
    batcher = Batcher(Model())
    (refused,) = together(batcher, ["a", "b"])
    batcher.close()
    assert isinstance(refused, Refusal) and refused.status == 503 and refused.retry_after


def test_what_cannot_be_embedded_fails_alone():
    batcher = Batcher(Model(0.2))
    found = together(batcher, ["first"], ["good"], ["bad"], ["well"])
    batcher.close()
    assert found[1] == [[4]] and found[3] == [[4]] and isinstance(found[2], InputError)


def test_a_request_of_more_than_may_wait_is_answered_where_none_waits():
    batcher = Batcher(Model(), Limits(waiting=2))
    assert together(batcher, ["a", "bb", "ccc"]) == [[[1], [2], [3]]]
    batcher.close()


def test_a_pass_takes_what_fits_and_a_larger_input_alone():
    model = Model()
    batcher = Batcher(model, Limits(tokens=5))
    (found,) = together(batcher, ["four", "five", "sixx", "x" * 90])  # of two tokens each, and one of 23
    batcher.close()
    assert found == [[4], [4], [4], [90]]
    assert model.batches == [["four", "five"], ["sixx"], ["x" * 90]]


def test_a_server_that_stops_takes_no_more():
    batcher = Batcher(Model())
    batcher.close()
    (refused,) = together(batcher, ["late"], seconds=0.5)
    assert refused.status == 503 and "the server is stopping" in refused.message


def test_a_full_queue_and_a_late_answer_are_refused():
    model = Model(0.5)
    batcher = Batcher(model, Limits(waiting=2))
    found = together(batcher, ["first"], ["a"], ["b"], ["c", "d"])
    refused = [one for one in found if isinstance(one, Refusal)]
    assert [one.status for one in refused] == [429] and refused[0].retry_after
    late = together(batcher, ["slow"], ["never"], seconds=0.1)
    batcher.close()
    assert [one.status for one in late] == [503, 503]
    assert ["never"] not in model.batches  # nobody waits for it any more
