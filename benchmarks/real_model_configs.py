"""The published configurations of the recipes' models, and the memory that their stages take, counted."""

from __future__ import annotations

import copy
import functools
import json
from pathlib import Path
from typing import Any

GB = 10**9
GPUS = (24, 48, 80, 141)
VOCABULARY, SMALL_VOCABULARY = 151_936, 32_768
_TEXT = {
    "vocab_size": VOCABULARY, "max_position_embeddings": 32_768, "rms_norm_eps": 1e-6, "tie_word_embeddings": True,
}  # fmt: skip

QWEN2_VL_2B: dict[str, Any] = {
    "kind": "Qwen2VL",
    "text": {
        **_TEXT, "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
    },
    "vision": {"depth": 32, "embed_dim": 1280, "hidden_size": 1536, "num_heads": 16, "mlp_ratio": 4, "patch_size": 14},
    "patch": 14,
}  # fmt: skip
QWEN2_5_VL_3B: dict[str, Any] = {
    "kind": "Qwen2_5_VL",
    "text": {
        **_TEXT, "hidden_size": 2048, "intermediate_size": 11_008, "num_hidden_layers": 36, "num_attention_heads": 16,
        "num_key_value_heads": 2,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
    },
    "vision": {
        "depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "out_hidden_size": 2048,
        "window_size": 112, "fullatt_block_indexes": [7, 15, 23, 31], "patch_size": 14,
    },
    "patch": 14,
}  # fmt: skip
QWEN3_VL_2B: dict[str, Any] = {
    "kind": "Qwen3VL",
    "text": {
        **_TEXT, "hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 28, "num_attention_heads": 16,
        "num_key_value_heads": 8, "head_dim": 128,
        "rope_parameters": {
            "rope_type": "default", "rope_theta": 5e6, "mrope_section": [24, 20, 20], "mrope_interleaved": True,
        },
    },
    "vision": {
        "depth": 24, "hidden_size": 1024, "intermediate_size": 4096, "num_heads": 16, "out_hidden_size": 2048,
        "deepstack_visual_indexes": [5, 11, 17], "num_position_embeddings": 2304, "patch_size": 16,
    },
    "patch": 16,
}  # fmt: skip
MODELS = {
    "qwen2-vl-2b": (QWEN2_VL_2B, QWEN2_5_VL_3B),
    "qwen2.5-vl-3b": (QWEN2_VL_2B, QWEN2_5_VL_3B),
    "qwen3-vl-embedding-2b": (QWEN3_VL_2B, QWEN3_VL_2B),
}
"""Embedder and generator of each recipe."""
TRAINED, FROZEN = 18, 2
"""Bytes of a parameter: float32 weight, gradient, two moments of Adam, and autocast's bfloat16 copy; or bfloat16."""
MARGIN = 4
"""Times the counted activations, for what a library holds beside them: with three layers of Qwen2-VL-2B at full width
and two images of 560 × 560, a step of LoRA took 1.0 GB above its weights on a CPU where 0.24 were counted."""
TEXT_TOKENS = 120  # of an offer, its prompt or attributes
CHUNK = 256 * 4 * 3  # bytes a word of trl's loss: logits of so many tokens, their exponentials and gradients


@functools.cache
def _parameters(kind: str, part: str) -> int:
    named = dict(_empty(json.loads(kind)).named_parameters())  # tied ones once
    return sum(int(value.numel()) for name, value in named.items() if part in name)


def config_of(model: dict[str, Any], ids: dict[str, int] | None = None) -> Any:
    """transformers' config of a model."""
    import transformers

    ids = ids or dict.fromkeys(("image", "video", "vision_start", "vision_end", "start", "end", "pad"), 1)
    text = {**model["text"], "bos_token_id": ids["start"], "eos_token_id": ids["end"], "pad_token_id": ids["pad"]}
    tokens = {f"{name}_token_id": ids[name] for name in ("image", "video", "vision_start", "vision_end")}
    kind = getattr(transformers, f"{model['kind']}Config")
    return kind(
        text_config=text, vision_config={**model["vision"], "spatial_merge_size": 2}, tie_word_embeddings=True, **tokens
    )


def _empty(model: dict[str, Any]) -> Any:
    import torch
    import transformers

    with torch.device("meta"):
        return getattr(transformers, f"{model['kind']}ForConditionalGeneration")(config_of(model))


def parameters(model: dict[str, Any], part: str = "") -> int:
    """Parameters of a model, or of its part of that name ("visual")."""
    return _parameters(json.dumps(model), part)


def fewer_layers(model: dict[str, Any], *, embedder: int, memory: int) -> dict[str, Any]:
    """The model with as many layers as training all of them in `memory` GB allows, an embedder beside it.

    Where not even one layer of each tower fits, the vocabulary is smaller too.
    """
    found = copy.deepcopy(model)
    text, vision = found["text"], found["vision"]
    room = memory * GB - FROZEN * embedder - 1.5 * GB  # RAR's embedder; activations and logits
    for text["vocab_size"] in (VOCABULARY, SMALL_VOCABULARY):
        for share in range(100, 0, -1):
            text["num_hidden_layers"] = max(model["text"]["num_hidden_layers"] * share // 100, 1)
            vision["depth"] = max(model["vision"]["depth"] * share // 100, 1)
            for name in ("fullatt_block_indexes", "deepstack_visual_indexes"):
                if name in vision:
                    kept = [place for place in model["vision"][name] if place < vision["depth"]]
                    vision[name] = kept or [vision["depth"] - 1]
            if (TRAINED + FROZEN) * parameters(found) <= room:
                return found
    raise SystemExit(f"--memory {memory}: not even one layer fits")


def build(model: dict[str, Any], folder: Path) -> None:
    """Write the model with random weights in bfloat16, and a processor that needs no torchvision."""
    import torch
    import transformers

    from afmrl.embedder.tiny import TEMPLATE_WORDS, _write_processor

    folder.mkdir(parents=True, exist_ok=True)
    side = 2 * model["patch"]
    ids = _write_processor(TEMPLATE_WORDS, folder, 600, 2 * side, 20 * side)
    for name in ("preprocessor_config.json", "processor_config.json"):
        data = json.loads((folder / name).read_text(encoding="utf-8"))
        data.get("image_processor", data)["patch_size"] = model["patch"]
        (folder / name).write_text(json.dumps(data), encoding="utf-8")
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    made = getattr(transformers, f"{model['kind']}ForConditionalGeneration")(config_of(model, ids))
    torch.set_default_dtype(torch.float32)
    made.generation_config.eos_token_id, made.generation_config.pad_token_id = ids["end"], ids["pad"]
    made.save_pretrained(folder)


def lora_parameters(model: dict[str, Any], r: int) -> int:
    """Parameters of LoRA's layers in the language model."""
    return _lora_parameters(json.dumps(model), r)


@functools.cache
def _lora_parameters(kind: str, r: int) -> int:
    import torch

    layers = [(n, m) for n, m in _empty(json.loads(kind)).named_modules() if isinstance(m, torch.nn.Linear)]
    return sum(r * (m.in_features + m.out_features) for n, m in layers if "visual" not in n and "lm_head" not in n)


def activations(
    model: dict[str, Any], sequences: int, image_tokens: int, *, trained: str, text_tokens: int = TEXT_TOKENS
) -> int:
    """Bytes of a pass of so many sequences, with checkpointing: each layer's input, the inside of one layer, MARGIN.

    Args:
        trained: "all", "language" (LoRA) or "none".
    """
    text, vision = model["text"], model["vision"]
    tokens, patches = sequences * (image_tokens + text_tokens), sequences * image_tokens * 4
    width = vision.get("embed_dim", vision["hidden_size"])
    inner = vision.get("intermediate_size", 4 * width)
    state = 4 if trained == "all" else 2  # the residual stream is float32 where the weights are
    kept_text = tokens * text["hidden_size"] * text["num_hidden_layers"] * state * (trained != "none")
    kept_vision = patches * width * vision["depth"] * state * (trained == "all")
    gradients = 2 if trained != "none" else 1
    inside_text = tokens * (3 * text["intermediate_size"] + 8 * text["hidden_size"]) * 2 * gradients
    inside_vision = patches * (3 * inner + 8 * width) * 2 * (2 if trained == "all" else 1)
    return MARGIN * int(kept_text + kept_vision + max(inside_text, inside_vision))


def _logits(model: dict[str, Any]) -> int:
    return CHUNK * int(model["text"]["vocab_size"])


def counted(stage: str, base: dict[str, Any], writer: dict[str, Any]) -> int:
    """Bytes of a stage as `smoke` runs it: images of 16 tokens, one or two sequences at once."""
    small = 16
    if stage == "agcl":
        lora = TRAINED * lora_parameters(base, 16)
        return FROZEN * parameters(base) + lora + activations(base, 1, small, trained="language")
    if stage == "sft":
        return TRAINED * parameters(writer) + activations(writer, 1, small, trained="all") + _logits(writer)
    if stage == "rar":
        models = (TRAINED + FROZEN) * parameters(writer) + FROZEN * parameters(base)
        return models + activations(writer, 2, small, trained="all") + _logits(writer)
    if stage == "attributes":
        return FROZEN * parameters(writer) + activations(writer, 2, small, trained="none")
    embedder = FROZEN * parameters(base) + activations(base, 2, small, trained="none")
    return max(embedder, FROZEN * parameters(writer)) if stage == "plain_loading" else embedder


def shipped(name: str) -> Any:
    """A recipe of the package."""
    from afmrl.training.recipe import load_recipe

    teacher = {"sft.teacher": "labels"} if name == "qwen2.5-vl-3b" else {}
    return load_recipe(name, {"catalog.path": "offers.jsonl", **teacher})


def recipe_counts(name: str, at_once: int | None = None) -> dict[str, int]:
    """Bytes of each stage of a recipe on one GPU.

    Args:
        at_once: sequences of a pass of AGCL and SFT, completions of one of RAR; None: the recipe's own.
    """
    recipe, (base, writer) = shipped(name), MODELS[name]
    lora = recipe.hardware.lora
    assert lora is not None and recipe.hardware.max_pixels and recipe.agcl.mini_batch_size
    image = recipe.hardware.max_pixels // (2 * base["patch"]) ** 2
    embedder, generator = parameters(base), parameters(writer)
    adapted = TRAINED * lora_parameters(writer, lora.r)
    agcl = TRAINED * lora_parameters(base, lora.r) + FROZEN * embedder
    agcl += activations(base, at_once or recipe.agcl.mini_batch_size, image, trained="language")
    per_pass = at_once or recipe.sft.micro_batch_size or recipe.sft.batch_size
    rollouts = recipe.rar.prompts_per_step * recipe.rar.num_generations
    text, new = writer["text"], recipe.rar.max_new_tokens
    head = text.get("head_dim", text["hidden_size"] // text["num_attention_heads"])
    tokens = rollouts * (image + TEXT_TOKENS + new)
    cache = tokens * text["num_hidden_layers"] * 2 * text["num_key_value_heads"] * head * 2
    writing = cache + activations(writer, rollouts, image, trained="none")
    micro = at_once or recipe.rar.micro_batch_size or rollouts
    beside = FROZEN * embedder + _logits(writer)
    found = {"agcl": agcl}
    for kind, weights in (("all", TRAINED * generator), ("language", FROZEN * generator + adapted)):
        end = "" if kind == "all" else ", LoRA"
        found[f"sft{end}"] = weights + _logits(writer) + activations(writer, per_pass, image, trained=kind)
        reference = FROZEN * generator if kind == "all" else 0
        step = max(activations(writer, micro, image, trained=kind), writing)
        found[f"rar{end}"] = weights + reference + beside + step
    found["attributes"] = FROZEN * generator + activations(writer, 32, image, trained="none")
    found["embedding"] = FROZEN * embedder + activations(base, 32, image, trained="none")
    return found
