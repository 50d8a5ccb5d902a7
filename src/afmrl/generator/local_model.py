"""A local generator's two parts: a model with eyes or of text alone, and the processor that prepares what it reads."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase, ProcessorMixin

from afmrl.data.offer import Offer
from afmrl.errors import InputError

PLAIN_TEMPLATE = (
    "{% for message in messages %}{% if message.content is string %}{{ message.content }}{% else %}"
    "{% for part in message.content if part.type == 'text' %}{{ part.text }}{% endfor %}{% endif %}{{ '\n' }}"
    "{% endfor %}"
)
"""For a language model that was never a chat model: the words, and a line for the answer."""


class TextProcessor(ProcessorMixin):
    """A tokenizer in the place of a multimodal model's processor: images do not exist for it.

    Args:
        tokenizer: one without a chat template gets `PLAIN_TEMPLATE`; one without a padding token pads with its end.

    Raises:
        InputError: there is no tokenizer, it knows no word, or it names no token that ends an answer.
    """

    def __init__(self, tokenizer: Any) -> None:
        if not isinstance(tokenizer, PreTrainedTokenizerBase):
            raise InputError("it has no tokenizer, and so writes no text; give a language model")
        if len(tokenizer) <= len(tokenizer.all_special_ids):
            raise InputError("its tokenizer's files are missing; get the model again with them")
        if tokenizer.eos_token is None:
            raise InputError("its tokenizer names no end-of-text token (eos_token), so no answer would end")
        tokenizer.chat_template = tokenizer.chat_template or PLAIN_TEMPLATE
        tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
        super().__init__(tokenizer, chat_template=tokenizer.chat_template)

    def __call__(self, images: Any = None, text: Any = None, **options: Any) -> Any:
        """Token ids and their mask."""
        return self.tokenizer(text, return_token_type_ids=False, **options)

    def apply_chat_template(self, conversation: Any, **options: Any) -> Any:
        """One conversation or several, rendered by the tokenizer's own template."""
        several = bool(conversation) and not isinstance(conversation[0], Mapping)
        found = [text_messages(one) for one in conversation] if several else text_messages(conversation)
        return self.tokenizer.apply_chat_template(found, **options)


def text_messages(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Chat messages as language models know them: each content is one text.

    >>> text_messages([{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "red dress"}]}])
    [{'role': 'user', 'content': 'red dress'}]
    """
    return [
        {**message, "content": "\n".join(part["text"] for part in message["content"] if part["type"] == "text")}
        if not isinstance(message["content"], str)
        else dict(message)
        for message in messages
    ]


def load_processor(path: str | Path) -> Any:
    """The processor of a generator's folder or hub name; a `TextProcessor` where the model has no eyes."""
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(str(path))
    return processor if isinstance(processor, ProcessorMixin) else TextProcessor(processor)


def load_model(path: str | Path, *, dtype: Any = "auto") -> Any:
    """The model of a generator's folder or hub name: image and text to text, or a causal language model.

    Args:
        dtype: as transformers takes it; "auto" is that of the file.

    Raises:
        InputError: it is a model of another kind, which writes no text from left to right.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

    config = AutoConfig.from_pretrained(str(path))
    with_eyes = type(config) in AutoModelForImageTextToText._model_mapping
    names = config.architectures or []
    fills_gaps = bool(names) and all(name.endswith("ForMaskedLM") for name in names)
    if not with_eyes and (type(config) not in AutoModelForCausalLM._model_mapping or fills_gaps):
        raise InputError(f"it is no language model that writes on ({', '.join(names) or config.model_type}); give one")
    kind = AutoModelForImageTextToText if with_eyes else AutoModelForCausalLM
    return kind.from_pretrained(str(path), dtype=dtype)


def reads_images(processor: Any) -> bool:
    """Whether the model behind a processor sees images."""
    return not isinstance(processor, TextProcessor)


def visible_offers(offers: Sequence[Offer], processor: Any) -> list[Offer]:
    """The offers as the model behind a processor sees them: without images where it reads text alone."""
    if reads_images(processor):
        return list(offers)
    return [dataclasses.replace(offer, image="") if offer.image else offer for offer in offers]
