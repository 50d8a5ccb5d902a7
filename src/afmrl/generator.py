"""The attribute generator: offers to key attributes, by a local multimodal language model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from afmrl.attributes import InvalidCompletion, KeyAttributes
from afmrl.errors import InputError
from afmrl.images import open_image
from afmrl.offers import Offer
from afmrl.prompts import generator_messages


@dataclass(frozen=True, slots=True)
class Completion:
    """What a generator wrote for one offer."""

    text: str
    num_tokens: int
    ended: bool
    """Whether it ended by itself; one cut off at the limit is invalid."""


class AttributeGenerator:
    """Writes key attributes of offers with a transformers image-text-to-text model.

    `num_invalid` counts the completions of the last `attributes` call that were no valid list of key attributes.
    """

    def __init__(self, model: Any, processor: Any) -> None:
        self.model, self.processor = model, processor
        self.processor.tokenizer.padding_side = "left"
        self.num_invalid = 0

    @classmethod
    def from_pretrained(
        cls, path: str | Path, *, device: str | None = None, dtype: str | None = None
    ) -> AttributeGenerator:
        """Load a folder or hub name with plain AutoProcessor and AutoModelForImageTextToText.

        Raises:
            InputError: it does not load.
        """
        import torch
        from transformers import AutoModelForImageTextToText, AutoProcessor

        if not Path(path).is_dir() and (Path(path).is_absolute() or str(path).startswith(".")):
            raise InputError(f"generator {path}: no such folder; give a model's folder or its name on the hub")
        try:
            processor = AutoProcessor.from_pretrained(str(path))
            model = AutoModelForImageTextToText.from_pretrained(str(path), dtype=dtype or "auto")
        except Exception as error:  # the libraries below answer a torn or foreign folder with whatever comes first
            reason = str(error).strip().splitlines()[:1] or [type(error).__name__]
            raise InputError(f"generator {path} does not load: {reason[0]}") from error
        return cls(model.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval(), processor)

    def generate(
        self,
        offers: Sequence[Offer],
        *,
        num_completions: int = 1,
        temperature: float = 0.0,
        max_new_tokens: int = 96,
        batch_size: int = 64,
        seed: int | None = None,
        progress: bool = False,
    ) -> list[list[Completion]]:
        """`num_completions` completions of each offer, in the offers' order.

        Args:
            temperature: 0 is greedy; above, samples (from all tokens, as GRPO does).
            batch_size: sequences generated together, of similar prompt length.
            seed: of the sampling.
        """
        import torch
        from rich.progress import track

        if seed is not None:
            torch.manual_seed(seed)
        prompts = [
            self.processor.apply_chat_template(generator_messages(offer), add_generation_prompt=True, tokenize=False)
            for offer in offers
        ]
        # similar lengths pad least; offers without a picture stand apart, their tensors have other fields
        order = sorted(range(len(offers)), key=lambda row: (not offers[row].image, len(prompts[row])))
        rows = max(batch_size // num_completions, 1)
        starts: Any = range(0, len(order), rows)
        written: list[list[Completion]] = [[] for _ in offers]
        for start in track(starts, description="writing attributes") if progress else starts:
            chosen = order[start : start + rows]
            completions = self._generate_batch(
                [offers[row] for row in chosen],
                [prompts[row] for row in chosen],
                num_completions,
                temperature,
                max_new_tokens,
            )
            for place, row in enumerate(chosen):
                written[row] = completions[place * num_completions : (place + 1) * num_completions]
        return written

    def _generate_batch(
        self, offers: list[Offer], prompts: list[str], num_completions: int, temperature: float, max_new_tokens: int
    ) -> list[Completion]:
        import torch

        images = [open_image(offer.image) for offer in offers if offer.image]
        inputs = self.processor(
            text=prompts, images=images or None, return_tensors="pt", padding=True, add_special_tokens=False
        ).to(self.model.device)
        sampling: dict[str, Any] = {"do_sample": False}
        if temperature > 0:
            sampling = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
        with torch.inference_mode():
            output = self.model.generate(
                **inputs, max_new_tokens=max_new_tokens, num_return_sequences=num_completions, **sampling
            )
        tokens = output[:, inputs["input_ids"].shape[1] :]
        end = self.model.generation_config.eos_token_id
        ends = set(end) if isinstance(end, list | tuple) else {end}
        return [self._completion(row.tolist(), ends) for row in tokens]

    def _completion(self, tokens: list[int], ends: set[int]) -> Completion:
        length = next((place for place, token in enumerate(tokens) if token in ends), None)
        kept = tokens if length is None else tokens[:length]
        text = self.processor.tokenizer.decode(kept, skip_special_tokens=True).strip()
        return Completion(text, len(kept), length is not None)

    def attributes(self, offers: Sequence[Offer], **options: Any) -> list[KeyAttributes]:
        """Key attributes of each offer (one greedy completion); an invalid completion counts as none.

        Args:
            options: of `generate`.
        """
        self.num_invalid = 0
        found = []
        for (completion,) in self.generate(offers, **options):
            try:
                if not completion.ended:
                    raise InvalidCompletion("cut off at the limit of tokens")
                found.append(KeyAttributes.parse(completion.text))
            except InvalidCompletion:
                self.num_invalid += 1
                found.append(KeyAttributes())
        return found
