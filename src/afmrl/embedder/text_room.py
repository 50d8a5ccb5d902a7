"""How much text a model reads: titles are cut, by its own tokens, so that the attributes behind them fit."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from afmrl.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image
    from sentence_transformers import SentenceTransformer

UNBOUNDED = 1_000_000  # tokens: tokenizers without a limit name a huge one
_PROBE = "x"
_MOST_BYTES = 11
"""Of a normalized character that is written in one byte of UTF-8: the longest that NFKC makes of one."""


class TextRoom:
    """Cuts texts to the tokens that a model reads, the title first.

    A model cuts what is too long at its end, where the attributes are: all offers with one long title would be one.
    Most texts are short, which is seen by their bytes alone; only a text that may be too long is tokenized. Without a
    tokenizer or a limit texts stay as they are; titles have at most EMBEDDER_MAX_CHARACTERS.

    Args:
        model: whose tokenizer, limit (`max_seq_length`), chat template and prompt are respected.
    """

    def __init__(self, model: SentenceTransformer) -> None:
        self._model = model

    @property
    def limit(self) -> int | None:
        """Tokens that the model reads, its own marks included; None: no limit is known."""
        limit = getattr(self._model, "max_seq_length", None)
        return int(limit) if limit and limit < UNBOUNDED else None

    def fit(self, title: str, attributes: str, image: Image | np.ndarray | None = None) -> str:
        """Title and attributes as one text that the model reads to its end.

        The title is cut first. A quarter of the room is left to it; attributes beyond the rest lose their end.

        Raises:
            InputError: there is no room for any text.
        """
        text = "\n".join(part for part in (title, attributes) if part)
        limit, count = self.limit, self._count
        if limit is None or count is None:
            return text
        size = len(text) if text.isascii() else _MOST_BYTES * len(text.encode())
        if size + self._most_around(image is not None) <= limit:
            return text
        room = limit - self._around(image)
        if room <= 1:  # what is around a text was cut itself when it was measured
            what, also = ("the image and its marks", " or lower max_pixels") if image is not None else ("marks", "")
            raise InputError(
                f"embedder: max_seq_length={limit} leaves no token for the text, {what} take all; raise it{also}"
            )
        if count(text) <= room:
            return text
        if not attributes:
            return _prefix(title, lambda start: count(start) <= room)
        least = min(count(title), room // 4)
        attributes = _prefix(attributes, lambda start: count(start) <= room - least)
        return _prefix(title, lambda start: count(f"{start}\n{attributes}") <= room) + f"\n{attributes}"

    @functools.cached_property
    def _count(self) -> Callable[[str], int] | None:
        from transformers import PreTrainedTokenizerBase

        tokenizer = getattr(self._model, "tokenizer", None)
        if not isinstance(tokenizer, PreTrainedTokenizerBase):
            tokenizer = getattr(tokenizer, "tokenizer", None)  # of a processor
            if not isinstance(tokenizer, PreTrainedTokenizerBase):
                return None
        # one of our own: threads of the model's may tokenize at the same time, with truncation
        own = copy.deepcopy(tokenizer)
        return lambda text: len(own(text, add_special_tokens=False, truncation=False, verbose=False)["input_ids"])

    def _most_around(self, with_image: bool) -> float:
        """Tokens around a text at most, image included; infinite where the largest image is not known."""
        if not with_image:
            return self._around_text
        return self._around_largest_image

    def _around(self, image: Image | np.ndarray | None) -> int:
        """Tokens around a text, the image's included."""
        return self._around_text if image is None else self._measured({"image": image, "text": _PROBE})

    @functools.cached_property
    def _around_text(self) -> int:
        return self._measured(_PROBE)

    @functools.cached_property
    def _around_largest_image(self) -> float:
        from PIL import Image

        images = getattr(self._model.processor, "image_processor", self._model.processor)
        size = {name: value for name, value in dict(getattr(images, "size", None) or {}).items() if value}
        around = self._measured({"image": Image.new("RGB", (64, 64)), "text": _PROBE})
        if set(size) == {"height", "width"}:  # every image is as large
            return around
        if "longest_edge" in size and hasattr(images, "merge_size"):  # Qwen2-VL and its successors: pixels
            return around + size["longest_edge"] // (images.patch_size * images.merge_size) ** 2
        return float("inf")

    def _measured(self, probe: Any) -> int:
        """Tokens of an input beside those of its text, `_PROBE`."""
        assert self._count is not None
        prompt = self._model.prompts.get(self._model.default_prompt_name or "")
        try:
            features = self._model.preprocess([probe], prompt=prompt)
        except ValueError:  # the image's own tokens are cut
            return self.limit or 0
        mask = features.get("attention_mask")
        tokens = int(mask.sum()) if mask is not None else int(features["input_ids"].numel())
        return tokens - self._count(_PROBE)


def _prefix(text: str, fits: Callable[[str], bool]) -> str:
    """The longest beginning of a text that fits; "" where none does."""
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if fits(text[:middle]):
            low = middle
        else:
            high = middle - 1
    return text[:low].rstrip()
