"""Models by name: dual encoders, and a text model joined to an image model; small ones with random weights."""

import json
import shutil

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPModel,
    Dinov2Config,
    Dinov2Model,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipModel,
)
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from afmrl.data.offer import Offer
from afmrl.embedder.embedder import Embedder
from afmrl.embedder.joined import joined_model
from afmrl.embedder.names import is_joined, only_embeds
from afmrl.embedder.small.join import MARK
from afmrl.errors import InputError
from afmrl.training.recipe import recipe_of
from afmrl.training.run import run
from conftest import save_image

SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
TEXT = {**SIZES, "vocab_size": 64, "max_position_embeddings": 32, "eos_token_id": 2}
VISION = {**SIZES, "image_size": 32, "patch_size": 8}
SQUARE = {"height": 32, "width": 32}
CROPPED = {"size": {"shortest_edge": 32}, "crop_size": SQUARE}


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """Folders of small random models of four kinds."""
    root = tmp_path_factory.mktemp("models")
    words = Tokenizer(models.WordLevel(unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    special = trainers.WordLevelTrainer(special_tokens=["<pad>", "<unk>", "</s>"])
    words.train_from_iterator(["red dress blue shoe lamp silk cotton small large a b c"], special)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", unk_token="<unk>", eos_token="</s>", model_max_length=32
    )
    torch.manual_seed(0)
    two = {"text_config": TEXT, "vision_config": VISION}
    made = {
        "siglip": (SiglipModel(SiglipConfig(**two)), SiglipImageProcessorPil(size=SQUARE)),
        "clip": (CLIPModel(CLIPConfig(**two, projection_dim=24)), CLIPImageProcessorPil(**CROPPED)),
        "dinov2": (Dinov2Model(Dinov2Config(**VISION)), BitImageProcessorPil(**CROPPED)),
        "bert": (BertModel(BertConfig(**TEXT)), None),
    }
    for name, (model, images) in made.items():
        model.save_pretrained(root / name)
        if images:
            images.save_pretrained(root / name)
        if name != "dinov2":
            tokenizer.save_pretrained(root / name)
    return {name: str(root / name) for name in made}


def picture(seed):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (50, 40, 3)).astype("uint8"))


@pytest.fixture(scope="module")
def inputs():
    return [
        {"text": "red dress"},
        {"text": "red dress", "image": picture(0)},
        {"image": picture(0)},
        {"text": "blue shoe", "image": picture(1)},
    ]


def check_embedder(embedder, inputs, folder):
    """Rows do not depend on the batch, and a saved folder gives the same."""
    rows = embedder.encode(inputs)
    np.testing.assert_allclose(np.concatenate([embedder.encode([one]) for one in inputs]), rows, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    embedder.save(folder)
    np.testing.assert_allclose(Embedder.from_pretrained(folder).encode(inputs), rows, atol=1e-6)
    return rows


@pytest.mark.parametrize("name", ["siglip", "clip"])
def test_an_offer_with_both_is_the_sum_of_what_two_encoders_say(name, names, inputs, tmp_path):
    embedder = Embedder.from_pretrained(names[name])
    assert embedder.reads_images
    rows = check_embedder(embedder, inputs, tmp_path / "model")
    plain = SentenceTransformer(names[name])
    text = plain.encode(["red dress"], normalize_embeddings=True)[0]
    image = plain.encode([picture(0)], normalize_embeddings=True)[0]
    np.testing.assert_allclose(rows[0], text, atol=1e-5)
    np.testing.assert_allclose(rows[2], image, atol=1e-5)
    np.testing.assert_allclose(rows[1], (text + image) / np.linalg.norm(text + image), atol=1e-5)


@pytest.mark.parametrize("image_model", ["dinov2", "siglip"])
def test_a_text_model_and_an_image_model_are_joined(image_model, names, inputs, tmp_path):
    seen = [picture(seed) for seed in range(20)]
    embedder = Embedder(joined_model(f"{names['bert']} + {names[image_model]}", seen))
    rows = check_embedder(embedder, inputs, tmp_path / "model")
    assert abs(rows[0] @ rows[2]) < 1e-6  # a missing part is neither like nor unlike
    texts = SentenceTransformer(names["bert"]).encode(["red dress", "blue shoe"], normalize_embeddings=True)
    alone = embedder.encode([{"text": "red dress"}, {"text": "blue shoe"}])
    without_mark = (alone[0] @ alone[1] - MARK**2) / (1 - MARK**2)
    assert without_mark == pytest.approx(float(texts[0] @ texts[1]), abs=1e-5)
    images = embedder.encode([{"image": one} for one in seen])
    off_diagonal = (images @ images.T)[~np.eye(len(images), dtype=bool)]
    assert abs(off_diagonal.mean()) < 0.1  # what all images share is taken off


def test_of_a_saved_folder_no_weights_are_read_that_could_run_code(names, tmp_path):
    Embedder(joined_model(f"{names['bert']} + {names['dinov2']}", [picture(0)])).save(tmp_path)
    assert Embedder.from_pretrained(tmp_path).dimension
    for path in list(tmp_path.rglob("image/*.safetensors")):
        torch.save(load_file(path), path.with_name("pytorch_model.bin"))
        path.unlink()
    with pytest.raises(InputError, match="does not load"):
        Embedder.from_pretrained(tmp_path)


def test_a_folder_with_code_of_its_own_runs_none_of_it(tmp_path):
    (tmp_path / "modules.json").write_text(json.dumps([{"idx": 0, "name": "0", "path": "", "type": "own.Module"}]))
    (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Module: pass\n")
    with pytest.raises(InputError, match="does not load"):
        Embedder.from_pretrained(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_what_a_name_cannot_be_is_said_in_one_line(names):
    with pytest.raises(InputError, match="reads no text: train it joined to a text model"):
        Embedder.from_pretrained(names["dinov2"])
    with pytest.raises(InputError, match="reads no image; give a text model and an image model, in this order"):
        joined_model(f"{names['bert']} + {names['bert']}", [picture(0)])
    with pytest.raises(InputError, match="reads no text; give a text model and an image model"):
        joined_model(f"{names['dinov2']} + {names['bert']}", [picture(0)])
    with pytest.raises(InputError, match="the catalog has no images"):
        joined_model(f"{names['bert']} + {names['dinov2']}", [])


@pytest.mark.parametrize("name", [" + b", "a + ", " + ", "a + b + c"])
def test_a_joined_name_has_two_parts(name):
    with pytest.raises(InputError, match="give two models, one of text and one of images"):
        joined_model(name, [picture(0)])


def test_a_folder_with_a_plus_in_its_name_is_one_model(names, tmp_path):
    assert is_joined(f"{tmp_path}/a + b")
    with pytest.raises(InputError, match="two models are one only after training"):
        Embedder.from_pretrained(f"{tmp_path}/a + b")
    shutil.copytree(names["bert"], tmp_path / "a + b")
    assert not is_joined(tmp_path / "a + b")
    assert not only_embeds(tmp_path / "a + b")
    assert Embedder.from_pretrained(tmp_path / "a + b").encode(["red"]).shape == (1, 32)


@pytest.mark.parametrize("name", ["bert", "clip"])
def test_a_model_without_its_tokenizer_is_refused(name, names, tmp_path):
    ours = shutil.ignore_patterns("tokenizer*", "special_tokens*")
    shutil.copytree(names[name], tmp_path / name, ignore=ours)
    with pytest.raises(InputError, match="tokenizer's files are missing"):
        Embedder.from_pretrained(tmp_path / name)


def test_a_tokenizer_without_padding_pads_with_its_end(names, tmp_path):
    shutil.copytree(names["bert"], tmp_path / "m")
    path = tmp_path / "m" / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "pad_token": None}))
    embedder = Embedder.from_pretrained(tmp_path / "m")
    rows = embedder.encode(["red", "red dress blue shoe"])
    np.testing.assert_allclose(embedder.encode(["red"])[0], rows[0], atol=1e-5)


@pytest.mark.parametrize("content", ["{", "[1]", "5", "null"])
def test_a_list_of_modules_that_is_none_is_said_in_one_line(content, names, tmp_path):
    shutil.copytree(names["bert"], tmp_path / "m")
    (tmp_path / "m" / "modules.json").write_text(content)
    with pytest.raises(InputError, match="does not load"):
        Embedder.from_pretrained(tmp_path / "m")


@pytest.mark.parametrize(
    ("base", "agcl"),
    [("siglip", {}), ("bert + dinov2", {"mini_batch_size": 2}), ("bert + clip", {"frozen_towers": ["image"]}),
     ("bert", {})],
)  # fmt: skip
def test_a_run_trains_it(base, agcl, names, tmp_path):
    rows = []
    for product in range(12):
        split = "train" if product < 8 else "test"
        for view in range(2):
            image = save_image(tmp_path / f"{product}-{view}.png", product, (40, 40))
            rows.append({"id": f"{product}-{view}", "title": ["red dress", "blue shoe", "silk lamp"][product % 3],
                         "image": image.name, "product_id": str(product), "split": split})  # fmt: skip
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = recipe_of(
        {
            "catalog": {"path": str(tmp_path / "c.jsonl")},
            "base": " + ".join(names[part] for part in base.split(" + ")),
            "sft": {"targets": "rules", "max_steps": 0},
            "rar": {"max_steps": 0},
            "agcl": {"max_steps": 2, "batch_size": 4, "attributes_on": "none", **agcl},
            "evaluation": {"floors": []},
        }
    )
    done = run(recipe, tmp_path / "run", say=lambda line: None)
    embedder = Embedder.from_pretrained(done.folder / "embedder")
    assert embedder.encode([Offer("1", "red dress", image=str(tmp_path / "0-0.png"))]).shape == (1, embedder.dimension)
    assert json.loads((done.folder / "metrics.json").read_text())
    card = (done.folder / "embedder" / "README.md").read_text()
    assert yaml.safe_load(card.split("---")[1])["base_model"] in (base, base.split(" + "))
    plain = "SentenceTransformer(" in card.split("```")[1]
    assert plain == (base == "bert")
