"""Weights in training: LoRA's small layers beside the base's, added to them at the end, and the type of both."""

from __future__ import annotations

from typing import Any

from afmrl.training.config import Lora, Precision

VISION = r"(.*\.)?(visual|vision_tower|vision_model|vision_encoder|image_tower|image_model)\..*"
"""Layers of a model's eyes, by the names that transformers' models and ours have for them."""


def lora_config(lora: Lora) -> Any:
    """peft's config: all linear layers of the language model, and where `vision` says so of the vision tower."""
    from peft import LoraConfig

    return LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha or 2 * lora.r,
        lora_dropout=lora.dropout,
        target_modules="all-linear",
        exclude_modules=None if lora.vision else VISION,
    )


def add_adapters(model: Any, config: Any) -> None:
    """Inject LoRA layers into a sentence-transformers model; they are float32, whatever the base is."""
    model.add_adapter(config)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def merge_adapters(model: Any) -> None:
    """Add the products of injected LoRA layers to the weights they belong to, so that the folder loads without peft.

    There is no PeftModel around the model that could merge itself.

    Args:
        model: a sentence-transformers model that `add_adapters` had.
    """
    model = model.transformers_model
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, layer in list(model.named_modules()):
        if isinstance(layer, BaseTunerLayer):
            layer.merge()
            model.set_submodule(name, layer.get_base_layer())
    model._hf_peft_config_loaded = False  # save_pretrained would write the adapter alone
    del model.peft_config


def cast_weights(model: Any, dtype: Precision) -> Any:
    """The model with all its weights in `dtype`: as it is saved, or as it only writes."""
    import torch

    return model.to(getattr(torch, dtype))
