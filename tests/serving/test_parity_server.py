"""`afmrl parity --server`: our own server agrees, and of a wrong one it says what it does wrong."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

import chat_server
from afmrl.embedder.embedder import Embedder
from afmrl.embedder.parity.golden import write_golden
from afmrl.embedder.parity.offers import golden_offers
from afmrl.embedder.tiny import build_tiny_model

pytest_plugins = ["serving_shop"]
WITH_IMAGE = [one.offer.id for one in golden_offers() if one.image]
ALL = [one.offer.id for one in golden_offers()]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A tiny model as a run publishes it, its weights so large that 16 bits are seen."""
    folder = tmp_path_factory.mktemp("parity")
    texts = [f"red silk dress {number}; color: red; cut: wide; size: m; none" for number in range(50)]
    sizes = {"vocab_size": 400, "hidden_size": 64, "num_layers": 4, "vision_layers": 1}
    build_tiny_model(texts, folder / "base", initializer_range=0.12, **sizes)
    embedder = Embedder.from_pretrained(folder / "base", device="cpu")
    embedder.save(folder / "embedder")
    write_golden(embedder, folder / "embedder")
    return folder / "embedder"


class Served:
    """What a server like vLLM does with a model: messages in, embeddings out; a test makes it wrong."""

    def __init__(self, folder):
        self.model = Embedder.from_pretrained(folder, device="cpu").model
        self.change_image = lambda image: image
        self.change_row = lambda row, number: row
        self.respects_template = True

    def answer(self, body, number):
        messages = body.get("messages")
        inputs = [self.read(messages[0]["content"])] if messages else [self.read_object(one) for one in body["input"]]
        asked = {"chat_template": {"add_generation_prompt": bool(body.get("add_generation_prompt"))}}
        if messages and self.respects_template:
            self.model[0].processing_kwargs = asked
        rows = [self.model.encode([one], show_progress_bar=False, convert_to_tensor=True)[0] for one in inputs]
        rows = [self.change_row(row.float().numpy(), number) for row in rows]
        data = [{"index": place, "embedding": row.tolist()} for place, row in enumerate(rows)]
        return 200, {}, {"object": "list", "data": data}

    def read(self, parts):
        text = "".join(part["text"] for part in parts if part["type"] == "text")
        images = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
        return self.read_object({"text": text, **({"image": images[0]} if images else {})})

    def read_object(self, one):
        image = None
        if "image" in one:
            data = base64.b64decode(one["image"].partition(",")[2])
            image = self.change_image(Image.open(io.BytesIO(data)).convert("RGB"))
        text = one.get("text", "")
        return text if image is None else {"image": image, "text": text} if text else image


@pytest.fixture
def ask(call, model):
    """`afmrl parity --server` of a `Served` that a function made wrong: exit code, and what differs by why."""

    def run(spoil, *options, owned_by="vllm"):
        served = Served(model)
        spoil(served)
        with chat_server.serve(served.answer, owned_by=owned_by) as (url, seen):
            code, out, err = call("parity", model, "--server", url, "--json", *options)
        assert code < 2, err
        why = {}
        for one in json.loads(out)["server"]["offers"]:
            if not one["agrees"]:
                why.setdefault(one["why"], []).append(one["id"])
        assert (code == 1) is bool(why)
        return why, seen

    return run


def set_pooling(mode):
    def spoil(served):
        served.model[1].pooling_mode = mode

    return spoil


# right servers


def test_our_own_server_agrees_in_all_offers(call, tiny_model, address):
    code, out, err = call("parity", tiny_model, "--server", address)
    assert code == 0, out + err
    assert "16 of 16 agree on the server" in out and "asked with objects" in out
    assert "has no golden vectors: the server alone is compared" in out


def test_a_right_server_of_messages_agrees_and_is_asked_for_nothing_else(ask):
    why, seen = ask(lambda served: None)
    assert why == {}
    assert len(seen) == 16 and {one["path"] for one in seen} == {"/v1/embeddings"}
    assert all(one["body"]["model"] == "teacher" for one in seen)


# wrong ones


def test_vectors_that_are_not_normalized(ask):
    why, _ = ask(lambda served: setattr(served, "change_row", lambda row, _: 7 * row))
    assert why == {"is not normalized (its length is 7)": ALL}


@pytest.mark.parametrize(("mode", "words"), [("mean", "the mean of all tokens"), ("cls", "the first token")])
def test_another_pooling(ask, mode, words):
    why, _ = ask(set_pooling(mode))
    [name] = [one for one in why if one.startswith(f"pools {words}, the model the last token")]
    told = why.pop(name)
    # the first token is the same whatever stands behind it, as the states of a causal model are
    assert told == ALL and not why


def test_mean_pooling_without_the_norm_tells_both(ask):
    def spoil(served):
        set_pooling("mean")(served)
        served.change_row = lambda row, _: 3 * row

    why, _ = ask(spoil)
    assert why == {"pools the mean of all tokens, the model the last token; is not normalized (its length is 3)": ALL}


def test_images_that_are_ignored(ask):
    why, _ = ask(lambda served: setattr(served, "change_image", lambda image: None))
    assert why == {"the image is not read": WITH_IMAGE}


def test_images_that_are_resized(ask):
    why, _ = ask(lambda served: setattr(served, "change_image", lambda image: image.resize((224, 224), 3)))
    [name] = why
    assert name == "images are resized otherwise: to 224 × 224 pixels before the model's own processor"
    assert set(why[name]) < set(WITH_IMAGE) and "square" not in why[name], "what is 224 × 224 stays as it is"


def test_the_bound_of_the_folder_that_is_not_read(ask):
    def spoil(served):
        images = served.model.processor.image_processor
        images.size = {"shortest_edge": 56 * 56, "longest_edge": 28 * 28 * 1280}

    why, _ = ask(spoil)
    [name] = why
    assert name == "images are resized otherwise: the folder's bound is not read, but 1,003,520 pixels"
    assert set(why[name]) <= set(WITH_IMAGE)


def test_images_changed_in_a_way_that_nobody_tried(ask):
    why, _ = ask(lambda served: setattr(served, "change_image", lambda image: image.rotate(90, expand=True)))
    [name] = why
    assert name.startswith("no explanation") and set(why[name]) <= set(WITH_IMAGE)


def test_the_turn_of_the_assistant_that_is_not_opened(ask):
    def spoil(served):
        served.respects_template = False
        served.model[0].processing_kwargs = {"chat_template": {"add_generation_prompt": False}}

    why, _ = ask(spoil)
    assert why == {"the assistant's turn is not opened (add_generation_prompt)": ALL}


def test_a_template_that_is_missing(ask):
    def spoil(served):
        kinds = served.model[0].modality_config
        served.model[0].modality_config = {kind: of for kind, of in kinds.items() if kind != "message"}
        read = served.read_object
        served.read_object = lambda one: read(one) if "image" not in one else "no template for images"

    why, _ = ask(spoil)
    texts = [name for name in ALL if name not in WITH_IMAGE]
    assert why["the chat template is missing"] == texts


def test_16_bits(ask):
    why, _ = ask(lambda served: served.model.to(torch.bfloat16))
    [(name, told)] = why.items()
    assert name == "computes in 16 bits (bfloat16); --dtype bfloat16 compares with that" and len(told) > 2
    assert ask(lambda served: served.model.to(torch.bfloat16), "--dtype", "bfloat16")[0] == {}


def test_dimensions_that_are_cut(ask):
    def cut(row, _):
        return row[:32] / np.linalg.norm(row[:32])

    why, _ = ask(lambda served: setattr(served, "change_row", cut))
    assert why == {"has 32 numbers, the model gives 64 (cut)": ALL}


def test_answers_in_another_order(ask):
    """Of a server that reads all at once and numbers its answers anew."""

    def spoil(served):
        answer = served.answer

        def shuffled(body, number):
            status, headers, content = answer(body, number)
            rows = [one["embedding"] for one in content["data"]]
            rows = rows[1:] + rows[:1]
            return status, headers, {"data": [{"index": n, "embedding": row} for n, row in enumerate(rows)]}

        served.answer = shuffled

    why, _ = ask(spoil, owned_by="afmrl")
    assert len(why) == 16 and "is the vector of 'title': the order is another" in why
    assert all(reason.endswith("the order is another") for reason in why)


def test_answers_that_come_in_any_order_are_read_by_their_index(ask):
    def spoil(served):
        answer = served.answer
        served.answer = lambda body, n: (200, {}, {"data": answer(body, n)[2]["data"][::-1]})

    assert ask(spoil, owned_by="afmrl")[0] == {}


def test_one_vector_for_all_is_no_matter_of_order(ask):
    constant = np.random.default_rng(0).normal(size=64)
    constant /= np.linalg.norm(constant)
    why, _ = ask(lambda served: setattr(served, "change_row", lambda row, _: constant))
    assert why == {"no explanation: none of those that were tried gives its vector": ALL}


# what cannot be asked


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda body, n: (500, {}, {"error": "boom"}), "answered 500"),
        (lambda body, n: (401, {}, {"error": "no"}), "OPENAI_API_KEY is not set"),
        (lambda body, n: (200, {}, b"<html>"), "no JSON object"),
        (lambda body, n: (200, {}, {"data": []}), "asked for 1 embeddings and gave 0"),
        (lambda body, n: (200, {}, {"data": [{"index": 0, "embedding": "???"}]}), "cannot be read"),
        (lambda body, n: (200, {}, {"data": [{"index": 0, "embedding": []}]}), "cannot be read"),
        (lambda body, n: (200, {}, {"data": [{"index": 5, "embedding": [1.0]}]}), "are not 0 to 0"),
        (lambda body, n: (302, {"Location": "http://127.0.0.1:1/"}, {}), "answered 302"),
    ],
)
def test_servers_that_do_not_answer_so(call, model, monkeypatch, answer, words):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with chat_server.serve(answer) as (url, seen):
        code, _, err = call("parity", model, "--server", url)
    assert code == 2 and words in err and "Traceback" not in err and len(seen) == 1


def test_a_server_with_several_models_wants_a_name(call, model):
    served = Served(model)
    with chat_server.serve(served.answer, models=("a", "b")) as (url, seen):
        code, _, err = call("parity", model, "--server", url)
        assert code == 2 and "has these models: a, b; name one by --model-name" in err and not seen
        code, out, err = call("parity", model, "--server", url.removesuffix("/v1"), "--model-name", "b")
    assert code == 0, out + err
    assert {one["body"]["model"] for one in seen} == {"b"}


def test_no_password_and_no_key_is_shown(call, model, monkeypatch):
    monkeypatch.setenv("SHOP_KEY", "k3y")
    with chat_server.serve(lambda body, n: (403, {}, {"error": "k3y is wrong"})) as (url, seen):
        code, out, err = call("parity", model, "--server", url, "--api-key-env", "SHOP_KEY")
        assert code == 2 and "the variable SHOP_KEY holds no key it takes" in err and "k3y" not in out + err
        assert seen[0]["authorization"] == "Bearer k3y"
        code, out, err = call("parity", model, "--server", url.replace("http://", "http://shop:s3cret@"))
    assert code == 2 and "://…@127.0.0.1" in err and "s3cret" not in out + err


def test_nobody_is_there(call, model):
    code, _, err = call("parity", model, "--server", "http://127.0.0.1:9")
    assert code == 2 and "http://127.0.0.1:9/v1" in err and "is it there?" in err
    code, _, err = call("parity", model, "--server", "somewhere")
    assert code == 2 and "expected http://host:8000" in err
