"""What a run from the small model has to beat: the small model as it comes, too."""

from types import SimpleNamespace

import numpy as np
import pytest

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.data.offer import Offer
from afmrl.embedder.names import model_folder
from afmrl.embedder.small.build import small_is_installed
from afmrl.training.recipe import load_recipe
from afmrl.training.run_verdict import measure_floors
from afmrl.training.splits import Split

pytestmark = pytest.mark.skipif(not small_is_installed(), reason='needs pip install "afmrl[small]"')


def run_from(base, **changes):
    recipe = load_recipe("own_catalog", {"catalog.path": "c.jsonl", "base": base, **changes})
    titles = ["red dress", "dress, red", "canon eos 80d", "Canon 80D camera"]
    split = Split([Offer(str(i), title) for i, title in enumerate(titles)], [KeyAttributes()] * 4, [0, 2], [1, 3],
                  [np.array([0]), np.array([1])], ["a", "b"])  # fmt: skip
    return SimpleNamespace(recipe=recipe, base=model_folder(base), splits={"test": split})


def test_the_small_model_is_a_floor_of_what_starts_from_it_and_of_nothing_else():
    assert {"tfidf", "bm25", "minilm", "small"} == set(measure_floors(run_from("small"), "test").results)
    assert {"tfidf", "bm25", "minilm"} == set(measure_floors(run_from("minilm"), "test").results)
    assert measure_floors(run_from("small", **{"evaluation.floors": []}), "test").results == {}
