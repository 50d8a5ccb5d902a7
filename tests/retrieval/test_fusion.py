import numpy as np
import pytest
from PIL import Image

from afmrl.data.offer import Offer
from afmrl.retrieval.colors import color_scores
from afmrl.retrieval.fusion import GRID, FusionWeights, learn_fusion_weights, lexical_scores


def test_of_a_plateau_the_middle_is_taken():
    # the dense score errs by 0.15, words are right: every weight above that is as good as another
    dense = np.array([[0.5, 0.65], [0.65, 0.5]], dtype=np.float32)
    words = np.eye(2, dtype=np.float32)
    found = learn_fusion_weights(dense, words, np.zeros((2, 2)), [np.array([0]), np.array([1])])
    plateau = [weight for weight in GRID if weight > 0.15]
    assert plateau[1] < found.bm25 < plateau[-2]


def test_words_that_mislead_get_no_weight():
    dense = np.array([[0.65, 0.5], [0.5, 0.65]], dtype=np.float32)
    words = 1 - np.eye(2, dtype=np.float32)
    found = learn_fusion_weights(dense, words, np.zeros((2, 2)), [np.array([0]), np.array([1])])
    assert found.bm25 < 0.15
    assert (found.fuse(dense, words, np.zeros((2, 2))).argmax(axis=1) == [0, 1]).all()


def test_weights_read_back(tmp_path):
    FusionWeights(0.7, 0.1).save(tmp_path)
    assert FusionWeights.load(tmp_path) == FusionWeights(0.7, 0.1)


def test_extracted_values_are_words_of_either_side(tmp_path):
    queries = [Offer(id="q", title="LDS-4821WW dishwasher"), Offer(id="r", title="disk 1 TB")]
    gallery = [
        Offer(id=name, title=title) for name, title in (("a", "lg lds4821ww"), ("b", "ssd 1000gb"), ("c", "lamp"))
    ]
    plain, _ = lexical_scores(queries, gallery, None, None)
    assert not plain.any()  # not one word in common
    words, values = lexical_scores(queries, gallery, None, None, extracted=True)
    assert words.argmax(axis=1).tolist() == [0, 1]
    assert (words > 0).sum(axis=1).tolist() == [1, 1]
    assert not values.any()
    FusionWeights(0.7, extracted=True).save(tmp_path)
    assert FusionWeights.load(tmp_path).extracted
    (tmp_path / "fusion.json").write_text('{"bm25": 0.7, "attributes": 0.1}')  # of a model that was saved before
    assert FusionWeights.load(tmp_path) == FusionWeights(0.7, 0.1)


def imaged(folder, name, color, title=""):
    Image.new("RGB", (8, 8), color).save(folder / f"{name}.png")
    return Offer(id=name, title=title, image=str(folder / f"{name}.png"))


def test_colors_weigh_where_they_tell_offers_apart(tmp_path):
    queries = [imaged(tmp_path, "q0", "red"), imaged(tmp_path, "q1", "blue")]
    gallery = [imaged(tmp_path, "g0", "red"), imaged(tmp_path, "g1", "blue"), Offer(id="g2", title="no image")]
    dense = np.array([[0.5, 0.55, 0.1], [0.55, 0.5, 0.1]], dtype=np.float32)  # errs by 0.05
    words, right = np.zeros_like(dense), [np.array([0]), np.array([1])]
    colors = color_scores(queries, gallery)
    assert colors[0] == pytest.approx([1, 0, 0])
    found = learn_fusion_weights(dense, words, words, right, colors)
    assert found.color > 0.05
    assert found.attributes == 0.0  # nothing was written
    assert found.fuse_offers(dense, queries, gallery, None, None).argmax(axis=1).tolist() == [0, 1]
    assert learn_fusion_weights(dense, words, words, right).color == 0.0
    found.save(tmp_path)
    assert FusionWeights.load(tmp_path) == found


def test_colors_that_mislead_get_no_weight():
    dense = np.array([[0.6, 0.5], [0.5, 0.6]], dtype=np.float32)
    colors = np.array([[0.0, 1.0], [1.0, 0.0]], dtype=np.float32)
    nothing = np.zeros_like(dense)
    assert learn_fusion_weights(dense, nothing, nothing, [np.array([0]), np.array([1])], colors).color == 0.0
