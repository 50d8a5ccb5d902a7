"""Any model of sentence-transformers or transformers as a SentenceTransformer that reads offers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from afmrl.embedder.names import has_own_modules, is_joined, model_folder
from afmrl.errors import InputError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


def load_model(path: str | Path, *, device: str | None = None, dtype: str | None = None) -> SentenceTransformer:
    """A model by its folder or name, with the head that it was trained with, or else the one that suits it.

    Raises:
        InputError: it cannot be loaded.
    """
    if is_joined(path):
        raise InputError(
            f"embedder {path}: two models are one only after training; give this name as a recipe's base, and here the "
            "run's embedder"
        )
    path = model_folder(path)
    folder = Path(path)
    kwargs: dict[str, Any] = {"model_kwargs": {"dtype": dtype}} if dtype else {}
    if not folder.is_dir() and (folder.is_absolute() or str(path).startswith(".")):
        raise InputError(f"embedder {path}: no such folder; give a model's folder or its name on the hub")
    try:
        if has_own_modules(folder):
            kwargs["trust_remote_code"] = True
        model = _load(str(path), device, kwargs)
        _complete_tokenizer(model)
        return model
    except Exception as error:  # the libraries below answer a torn or foreign folder with whatever comes first
        reason = str(error).strip().splitlines()[:1] or [type(error).__name__]
        where = "" if folder.is_dir() else " (and there is no folder of that name here)"
        raise InputError(f"embedder {path} does not load{where}: {reason[0]}") from error


def _load(path: str, device: str | None, kwargs: dict[str, Any]) -> SentenceTransformer:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.util import is_sentence_transformer_model
    from transformers import AutoConfig

    if is_sentence_transformer_model(path) or not hasattr(AutoConfig.from_pretrained(path), "vision_config"):
        return SentenceTransformer(path, device=device, **kwargs)
    asked = {"chat_template": {"add_generation_prompt": True}}
    transformer = Transformer(path, processing_kwargs=asked, **kwargs)
    modules = [transformer] if has_two_encoders(transformer) else _last_token_modules(transformer)
    return SentenceTransformer(modules=modules, device=device)


def _complete_tokenizer(model: SentenceTransformer) -> None:
    """Give a tokenizer without a padding token its end, and refuse one that the library made up: it knows no word."""
    from transformers import PreTrainedTokenizerBase

    tokenizer = model.tokenizer
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        return
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        raise InputError("its tokenizer's files are missing; get the model again with them")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token


def has_two_encoders(model: Any) -> bool:
    """Whether it reads texts and images, and no input of both, as CLIP and SigLIP do."""
    kinds = set(model.modalities)
    return {"text", "image"} <= kinds and not kinds & {("image", "text"), ("text", "image"), "message"}


def _last_token_modules(transformer: Any) -> list[Any]:
    from sentence_transformers.base.modules import Normalize
    from sentence_transformers.sentence_transformer.modules import Pooling

    if transformer.tokenizer is not None:
        transformer.tokenizer.padding_side = "left"  # the last position is then every row's last token
    return [transformer, Pooling(transformer.get_embedding_dimension(), "lasttoken"), Normalize()]
