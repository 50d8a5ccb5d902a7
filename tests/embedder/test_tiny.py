"""The tiny default model: an ordinary folder of an ordinary architecture."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from afmrl.data.offer import Offer
from afmrl.embedder.embedder import Embedder
from afmrl.embedder.tiny import SPECIAL_TOKENS, build_tiny_model
from afmrl.errors import InputError
from afmrl.generator.generator import AttributeGenerator
from afmrl.generator.prompt import generator_messages


@pytest.fixture(scope="module")
def loaded(tiny_model):
    return AutoProcessor.from_pretrained(tiny_model), AutoModelForImageTextToText.from_pretrained(tiny_model)


def inputs_of(processor, side, text="red silk dress"):
    image = Image.fromarray(np.random.default_rng(side).integers(0, 255, (side, side, 3)).astype(np.uint8))
    prompt = processor.apply_chat_template(
        generator_messages(Offer("1", text, image="x.png")), add_generation_prompt=True, tokenize=False
    )
    return processor(text=[prompt], images=[image], return_tensors="pt", add_special_tokens=False)


@pytest.mark.parametrize(("side", "tokens"), [(20, 4), (56, 4), (84, 9), (224, 9)])
def test_a_image_takes_as_many_tokens_as_documented(loaded, side, tokens):
    processor, model = loaded
    inputs = inputs_of(processor, side)
    assert (inputs["input_ids"] == model.config.image_token_id).sum() == tokens
    assert inputs["pixel_values"].shape[0] == 4 * tokens  # patches: a square of two by two makes one token


def test_the_image_and_the_words_both_change_what_it_says(loaded):
    processor, model = loaded
    with torch.inference_mode():
        one = model(**inputs_of(processor, 56)).logits[0, -1]
        other = model(**inputs_of(processor, 57)).logits[0, -1]
        words = model(**inputs_of(processor, 56, "blue silk dress")).logits[0, -1]
    assert (one - other).abs().max() > 1e-3
    assert (one - words).abs().max() > 1e-3


def test_every_id_it_can_write_has_a_token(loaded):
    processor, model = loaded
    assert model.config.text_config.vocab_size == len(processor.tokenizer)
    assert model.lm_head.weight.shape[0] == len(processor.tokenizer)
    for token in SPECIAL_TOKENS.values():
        assert len(processor.tokenizer.encode(token, add_special_tokens=False)) == 1
    assert processor.tokenizer.eos_token_id == model.generation_config.eos_token_id
    assert processor.tokenizer.pad_token_id == model.generation_config.pad_token_id


def test_what_is_tokenised_reads_back(loaded):
    tokenizer = loaded[0].tokenizer
    for text in ("color: red; size: 350 ml; brand: zembarro", "深红色", "a  b", "x" * 300, "none", "☃ 100%!"):
        assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text
    # a pair takes few tokens to write
    assert len(tokenizer.encode("; color: red", add_special_tokens=False)) <= 3


def test_the_same_seed_gives_the_same_files(tmp_path, tiny_model):
    texts = ["red dress", "color: red; size: m"] * 20
    small = {"vocab_size": 320, "hidden_size": 64, "num_layers": 1, "vision_layers": 1, "vision_size": 64}
    state = torch.get_rng_state()
    for name, seed in (("one", 1), ("two", 1), ("other", 2)):
        build_tiny_model(texts, tmp_path / name, seed=seed, **small)
    assert (torch.get_rng_state() == state).all()  # nobody else's random numbers are touched
    one, two, other = ({p.name: p.read_bytes() for p in (tmp_path / n).iterdir()} for n in ("one", "two", "other"))
    assert one == two
    assert {name for name in one if one[name] != other[name]} == {"model.safetensors"}


def test_it_is_an_architecture_of_the_library(tiny_model):
    config = json.loads((tiny_model / "config.json").read_text())
    assert config["model_type"] == "qwen2_vl"
    assert config["architectures"] == ["Qwen2VLForConditionalGeneration"]
    assert {path.suffix for path in tiny_model.iterdir()} <= {".json", ".safetensors", ".jinja", ".txt"}


def test_the_embedder_reads_its_last_token_whatever_the_padding(tiny_model):
    embedder = Embedder.from_pretrained(tiny_model)
    assert embedder.dimension == 64
    short, long = Offer("1", "red"), Offer("2", "red silk dress " * 20)
    together = embedder.encode([short, long])
    np.testing.assert_allclose(together[0], embedder.encode([short])[0], atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    assert np.abs(together[0] - together[1]).max() > 1e-3


@pytest.mark.parametrize(
    ("load", "kind"), [(Embedder.from_pretrained, "embedder"), (AttributeGenerator.from_pretrained, "generator")]
)
def test_a_name_that_no_folder_has_is_said_beside_the_hubs_answer(load, kind, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match=f"{kind} nosuch does not load .and there is no folder of that name"):
        load("nosuch")
    with pytest.raises(InputError, match=f"{kind} ./nosuch: no such folder; give a model's folder"):
        load("./nosuch")
