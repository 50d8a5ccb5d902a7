"""The pooled state is the one that the language model's head reads at the last token, whatever stands around it."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.data.offer import Offer
from afmrl.embedder.embedder import Embedder
from afmrl.embedder.tiny import build_tiny_model
from afmrl.errors import InputError
from afmrl.generator.local_model import load_model
from tiny_qwens import qwen2_5_vl, qwen3_vl

TEXTS = ["red dress", "blue dress with pockets and a belt", "shoe"]
LONG = "soft summer dress with pockets and a belt " * 80
BUILD = {
    "qwen2-vl": lambda folder: build_tiny_model(TEXTS, folder, hidden_size=64, num_layers=2, vision_size=64),
    "qwen2.5-vl": lambda folder: qwen2_5_vl(TEXTS, folder),
    "qwen3-vl": lambda folder: qwen3_vl(TEXTS, folder),
}


@pytest.fixture(scope="module", params=list(BUILD))
def folder(request, tmp_path_factory):
    return BUILD[request.param](tmp_path_factory.mktemp("pooling") / request.param)


@pytest.fixture(scope="module")
def offers(tmp_path_factory):
    """With an image, without, an image alone; of unequal lengths."""
    paths = []
    for number, size in enumerate(((60, 64), (150, 90))):
        paths.append(str(tmp_path_factory.mktemp("images") / f"{number}.png"))
        Image.effect_noise(size, 90).convert("RGB").save(paths[-1])
    images = (paths[0], "", paths[1])
    return [Offer(str(n), title, image=image) for n, (title, image) in enumerate(zip(TEXTS, images, strict=True))]


def states_and_logits(folder, inputs, side):
    """Pooled states of a batch, and the whole model's logits at each row's last token."""
    embedder = Embedder.from_pretrained(folder, device="cpu")
    model = embedder.model.eval()
    model[0].tokenizer.padding_side = side
    whole = load_model(folder, dtype="float32").eval()
    features = model.preprocess([embedder.input(one) for one in inputs])
    names = ("input_ids", "attention_mask", "pixel_values", "image_grid_thw", "mm_token_type_ids")
    with torch.no_grad():
        logits = whole(**{name: features[name] for name in names if name in features}).logits
        pooled = model[1](model[0](dict(features)))["sentence_embedding"]
        found = whole.lm_head(pooled)
    last = features["attention_mask"].cumsum(1).argmax(1)
    return found, logits[torch.arange(len(logits)), last], pooled, features


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("together", [True, False], ids=["many", "one"])
def test_the_head_makes_the_models_logits_of_the_pooled_state(folder, offers, side, together):
    for inputs in [offers] if together else [[offer] for offer in offers]:
        found, logits, _, features = states_and_logits(folder, inputs, side)
        assert bool((features["attention_mask"] == 0).any()) is together, "rows of unequal length are padded"
        torch.testing.assert_close(found, logits, atol=1e-4, rtol=1e-4)


def test_an_offer_has_one_embedding_whatever_is_beside_it_and_wherever_its_padding_is(folder, offers):
    pooled = [states_and_logits(folder, offers, side)[2] for side in ("left", "right")]
    alone = torch.cat([states_and_logits(folder, [offer], "left")[2] for offer in offers])
    for batch in pooled:
        torch.testing.assert_close(batch, alone, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("limit", [80, 120])
def test_at_the_bound_the_title_is_cut_and_not_the_end(folder, offers, limit):
    """With an image and without: red and blue differ, and the pooled token is the one that closes every prompt."""
    embedder = Embedder.from_pretrained(folder, device="cpu", max_seq_length=limit)
    short = embedder.model.preprocess([embedder.input(offers[0])])["input_ids"][0]
    for offer in offers[:2]:
        offer = dataclasses.replace(offer, title=LONG)
        colors = [KeyAttributes.of({"color": of}) for of in ("red", "blue")]
        features = embedder.model.preprocess([embedder.input(offer, color) for color in colors])
        assert features["input_ids"].shape[1] <= limit
        for row in features["input_ids"]:
            assert row[-5:].tolist() == short[-5:].tolist()
        red, blue = embedder.encode([offer] * 2, colors)
        assert np.linalg.norm(red - blue) > 1e-4


def test_a_new_bound_acts_on_a_model_that_was_saved_with_another(folder, offers, tmp_path):
    Embedder.from_pretrained(folder, device="cpu", max_seq_length=200).save(tmp_path / "saved")
    long = dataclasses.replace(offers[1], title=LONG)
    counts = []
    for limit in (None, 60, 120):
        embedder = Embedder.from_pretrained(tmp_path / "saved", device="cpu", max_seq_length=limit)
        features = embedder.model.preprocess([embedder.input(long), LONG])  # the second one is cut by the model itself
        counts.append(features["attention_mask"].sum(1).tolist())
    for (ours, theirs), limit in zip(counts, (200, 60, 120), strict=True):
        assert limit - 20 < ours <= limit and theirs == limit


def test_a_bound_that_leaves_no_room_for_a_text_is_refused(folder, offers):
    for limit in (10, 15):  # the image's tokens are cut; those behind it are
        embedder = Embedder.from_pretrained(folder, device="cpu", max_seq_length=limit)
        with pytest.raises(InputError, match=f"max_seq_length={limit} leaves no token for the text, the image and its"):
            embedder.encode(offers[:1])
