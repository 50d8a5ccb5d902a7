"""Weights in training: LoRA's small layers beside the base's, added to them at the end, and the type of both."""

from __future__ import annotations

from typing import Any

from afmrl.training.config import Lora, Precision


def lora_config(lora: Lora) -> Any:
    """peft's config for all linear layers."""
    from peft import LoraConfig

    alpha = lora.alpha or 2 * lora.r
    return LoraConfig(r=lora.r, lora_alpha=alpha, lora_dropout=lora.dropout, target_modules="all-linear")


def add_adapters(model: Any, config: Any) -> None:
    """Inject LoRA layers into a sentence-transformers model; they are float32, whatever the base is."""
    model.add_adapter(config)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def merge_adapters(model: Any) -> None:
    """Add the products of injected LoRA layers to the weights they belong to, so that the folder loads without peft.

    There is no PeftModel around the model that could merge itself.
    """
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
