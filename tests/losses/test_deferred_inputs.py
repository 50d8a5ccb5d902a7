import dataclasses
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.data.offer import Offer
from afmrl.embedder.embedder import Embedder
from afmrl.errors import InputError
from afmrl.losses.agcl import AttributeGuidedContrastiveLoss
from afmrl.losses.deferred_inputs import DeferredPreprocessing, waiting_inputs
from afmrl.losses.packed_pixels import packed

COLORS = ("red", "blue", "green", "black")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    from afmrl.embedder.tiny import build_tiny_model

    folder = tmp_path_factory.mktemp("tiny")
    return build_tiny_model(
        [f"{c} dress" for c in COLORS], folder / "model", hidden_size=32, num_layers=1, vision_size=32, vision_layers=1
    )


@pytest.fixture(scope="module")
def offers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    found = []
    for row in range(12):
        path = folder / f"{row}.png"
        Image.new("RGB", (60 + row, 64), COLORS[row % 4]).save(path)
        found.append(Offer(id=str(row), title=f"{COLORS[row % 4]} dress " * (1 + row % 3), image=str(path)))
    return found


def gradients(tiny, offers, mini_batch_size, **deferred):
    """Loss and gradients of six pairs of offers; preprocessed at once where `deferred` is empty."""
    torch.manual_seed(0)
    embedder = Embedder.from_pretrained(tiny)
    model = embedder.model
    attributes = [KeyAttributes.of({"color": o.title.split()[0]}) for o in offers]
    loss = AttributeGuidedContrastiveLoss(model, attributes, mini_batch_size=mini_batch_size, temperature=0.1)
    opened = []

    def later(offer):
        def one():
            opened.append(offer.id)
            return embedder.input(offer)

        return one

    columns = [offers[:6], offers[6:]]
    if deferred:
        preprocess = DeferredPreprocessing(model.preprocess, **deferred)
        features = [preprocess([later(o) for o in column]) for column in columns]
    else:
        features = [model.preprocess([embedder.input(o) for o in column]) for column in columns]
    labels = torch.arange(12).reshape(2, 6).T
    value = loss(features, labels)
    value.backward()
    return value.item(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}, opened


@pytest.mark.parametrize("mini_batch_size", [None, 2, 4, 6])
@pytest.mark.parametrize("keep_bytes,num_workers", [(0, 0), (1 << 30, 0), (200_000, 2)])
def test_deferred_equals_at_once(tiny, offers, mini_batch_size, keep_bytes, num_workers):
    value, wanted, _ = gradients(tiny, offers, mini_batch_size)
    found, got, opened = gradients(tiny, offers, mini_batch_size, keep_bytes=keep_bytes, num_workers=num_workers)
    assert found == pytest.approx(value, rel=1e-4)
    assert got.keys() == wanted.keys()
    for name, gradient in wanted.items():
        np.testing.assert_allclose(got[name], gradient, rtol=2e-2, atol=2e-4, err_msg=name)
    twice = mini_batch_size is not None and keep_bytes == 0
    assert set(opened) == {o.id for o in offers}
    if keep_bytes != 200_000:
        assert len(opened) == (24 if twice else 12)


def test_only_a_mini_batch_is_open_at_a_time():
    preprocess = DeferredPreprocessing(lambda inputs: {"input_ids": torch.tensor(inputs)}, keep_bytes=0)
    opened = []
    features = preprocess([lambda n=n: opened.append(n) or n for n in range(6)])
    assert opened == []
    waiting = waiting_inputs(features)
    assert waiting.features(2, 4)["input_ids"].tolist() == [2, 3]
    assert opened == [2, 3]
    assert waiting_inputs({"input_ids": torch.zeros(1)}) is None


def test_what_is_kept_is_made_once_within_the_bytes():
    calls = []

    def made(inputs):
        calls.append(list(inputs))
        return {"input_ids": torch.tensor(inputs)}  # eight bytes each

    waiting = waiting_inputs(DeferredPreprocessing(made, keep_bytes=16)(list(range(4))))
    for _ in range(2):
        for begin in (0, 2):
            waiting.features(begin, begin + 2, again=not len(calls) > 1)
    assert calls == [[0, 1], [2, 3], [2, 3]]  # the first two fit
    assert (waiting.num_kept, waiting.kept_bytes) == (2, 0)


def test_the_room_is_of_all_columns_and_of_one_batch():
    preprocess = DeferredPreprocessing(lambda inputs: {"input_ids": torch.tensor(inputs)}, keep_bytes=48)
    for _ in range(2):  # what the first batch kept is no burden on the second, whether it was fetched or not
        first, second = (waiting_inputs(preprocess([1, 2, 3, 4])) for _ in range(2))
        for column in (first, second):
            for begin in (0, 2):
                column.features(begin, begin + 2, again=True)
        assert (first.num_kept, second.num_kept, preprocess.room) == (4, 2, 0)
        del first, second, column


def test_pixels_wait_at_a_byte_a_value_and_come_back_exactly(tiny, offers):
    embedder = Embedder.from_pretrained(tiny)
    inputs = [embedder.input(o) for o in offers]
    pixels = embedder.model.preprocess(inputs)["pixel_values"]
    found = packed(pixels)
    assert found.repeated and found.nbytes < pixels.nbytes / 8 + 4096  # a byte for a float32, one frame for two
    assert torch.equal(found.unpacked(), pixels)
    assert packed(pixels + torch.rand_like(pixels)) is None  # no 8-bit image
    images = torch.arange(2 * 3 * 9 * 7).reshape(2, 3, 9, 7).remainder(256).float() / 255  # as CLIP's are
    assert torch.equal(packed(images).unpacked(), images) and not packed(images).repeated
    waiting = waiting_inputs(DeferredPreprocessing(embedder.model.preprocess)(inputs))
    waiting.features(again=True)
    assert waiting.kept_bytes < pixels.nbytes / 4
    assert torch.equal(waiting.features()["pixel_values"], pixels)


def test_a_batch_is_decoded_once_within_the_budget_and_the_log_says_so(tiny, offers, tmp_path, monkeypatch):
    from afmrl.losses import deferred_inputs
    from afmrl.training import pair_rows
    from afmrl.training.agcl import run_agcl
    from afmrl.training.config import AGCLStage

    products = [dataclasses.replace(o, product_id=f"p{row % 6}") for row, o in enumerate(offers)]
    attributes = [KeyAttributes.of({"color": COLORS[row % 4]}) for row in range(12)]
    make, decoded = pair_rows.PairInputs.make, []
    monkeypatch.setattr(pair_rows.PairInputs, "make", lambda self, *rest: decoded.append(rest) or make(self, *rest))
    config = AGCLStage(max_steps=1, batch_size=6, mini_batch_size=2, warmup_steps=0, similar_group=1, rules=())
    for keep_bytes, times, share in ((deferred_inputs.KEEP_BYTES, 12, 1.0), (0, 24, 0.0)):
        decoded.clear()
        monkeypatch.setattr(deferred_inputs, "KEEP_BYTES", keep_bytes)
        (entry,) = run_agcl(config, tiny, products, attributes, tmp_path / str(keep_bytes))["history"]
        assert len(decoded) == times and entry["kept_share"] == share


def test_threads_work_ahead():
    names = []

    def made(inputs):
        names.append(threading.current_thread().name)
        return {"input_ids": torch.tensor(inputs)}

    waiting = waiting_inputs(DeferredPreprocessing(made, num_workers=1)(list(range(6))))
    found = [waiting.features(begin, begin + 2)["input_ids"].tolist() for begin in (0, 2, 4)]
    assert found == [[0, 1], [2, 3], [4, 5]]
    assert len(names) == 3 and sum(name.startswith("preprocess") for name in names) == 2


def test_a_image_that_breaks_in_a_thread_is_told():
    def made(inputs):
        if 2 in inputs:
            raise InputError("image 2 is damaged")
        return {"input_ids": torch.tensor(inputs)}

    waiting = waiting_inputs(DeferredPreprocessing(made, num_workers=1)(list(range(4))))
    waiting.features(0, 2)
    with pytest.raises(InputError, match="image 2 is damaged"):
        waiting.features(2, 4)


def test_refusals():
    with pytest.raises(InputError, match="keep_bytes=-1 must be at least 0"):
        DeferredPreprocessing(dict, keep_bytes=-1)


MEMORY = """
import sys
from functools import partial
import torch
from PIL import Image
from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.losses.deferred_inputs import DeferredPreprocessing
from afmrl.embedder.embedder import Embedder
from afmrl.losses.agcl import AttributeGuidedContrastiveLoss
from afmrl.data.offer import Offer

torch.set_num_threads(1)
tiny, image, batch, deferred = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4] == "1"
embedder = Embedder.from_pretrained(tiny)
model = embedder.model
loss = AttributeGuidedContrastiveLoss(model, [KeyAttributes.of({"color": "red"})], mini_batch_size=16)
inputs = [partial(embedder.input, Offer(id=str(n), title="red dress", image=image)) for n in range(batch)]
if deferred:
    preprocess = DeferredPreprocessing(model.preprocess, keep_bytes=0)
    features = [preprocess(inputs) for _ in range(2)]
else:
    features = [model.preprocess([one() for one in inputs]) for _ in range(2)]
loss(features, torch.zeros(batch, dtype=torch.long)).backward()
# not getrusage's maximum: a process inherits that of the one that started it
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="peak memory is read from Linux' /proc")
def test_memory_does_not_grow_with_the_batch(tiny, offers):
    def peak(batch, deferred):
        given = [str(tiny), offers[0].image, str(batch), str(int(deferred))]
        done = subprocess.run(
            [sys.executable, "-c", MEMORY, *given], check=True, capture_output=True, text=True, env={**os.environ}
        )
        return int(done.stdout.splitlines()[-1]) / 1024

    small, large, at_once = peak(64, True), peak(768, True), peak(768, False)
    assert large < 1.05 * small
    assert at_once > large + 40  # MiB: what the images' tensors alone take


def test_in_a_loaders_process_it_says_where_it_belongs(monkeypatch):
    monkeypatch.setattr(torch.utils.data, "get_worker_info", lambda: object())
    with pytest.raises(InputError, match="set dataloader_num_workers=0"):
        DeferredPreprocessing(lambda inputs: {})(["a"])


@pytest.mark.parametrize("vision", [False, True])
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("kind", ["qwen2-vl", "qwen3-vl"])
def test_a_frozen_tower_runs_once_an_image_and_changes_no_gradient(
    kind, vision, checkpointing, tiny, offers, tmp_path, monkeypatch
):
    from afmrl.losses import deferred_inputs
    from afmrl.training.config import Lora
    from afmrl.training.lora import add_adapters, lora_config
    from tiny_qwens import qwen3_vl

    folder = tiny if kind == "qwen2-vl" else qwen3_vl([o.title for o in offers], tmp_path / "qwen3")
    monkeypatch.setattr(deferred_inputs, "MUCH", 100)  # images of 3 tokens are small beside their states
    found = {}
    for keep_bytes in (0, 1 << 30):
        torch.manual_seed(0)
        embedder = Embedder.from_pretrained(folder, device="cpu")
        model = embedder.model
        add_adapters(model, lora_config(Lora(r=2, dropout=0.2, vision=vision)))
        generator = torch.Generator().manual_seed(0)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:  # otherwise those of A learn nothing yet
                parameter.data.normal_(std=0.1, generator=generator)
        if checkpointing:
            model.transformers_model.gradient_checkpointing_enable({"use_reentrant": False})
        model.train()
        runs = []
        model.transformers_model.visual.blocks[0].register_forward_hook(lambda *_, runs=runs: runs.append(1))
        attributes = [KeyAttributes.of({"color": o.title.split()[0]}) for o in offers]
        loss = AttributeGuidedContrastiveLoss(model, attributes, mini_batch_size=2, temperature=0.1)
        preprocess = DeferredPreprocessing(model.preprocess, keep_bytes=keep_bytes)
        features = [preprocess([embedder.input(o) for o in column]) for column in (offers[:6], offers[6:])]
        torch.manual_seed(1)
        loss(features, torch.arange(12).reshape(2, 6).T).backward()
        gradients = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
        assert len(runs) == (6 if keep_bytes and not vision else 12)
        assert not preprocess.room < keep_bytes, "what waited is fetched"
        found[keep_bytes] = gradients
    kept, again = found[1 << 30], found[0]
    assert kept.keys() == again.keys() and any(bool(gradient.any()) for gradient in kept.values())
    for name, gradient in again.items():
        np.testing.assert_allclose(kept[name], gradient, atol=1e-6, err_msg=name)
