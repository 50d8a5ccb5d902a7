"""The local engine: a transformers model with eyes or of text alone, batches of similar length, with its KV cache."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from afmrl.data.images import open_image
from afmrl.errors import InputError
from afmrl.generator.engines.base import Completion, Request, Sampling, Usage
from afmrl.generator.engines.greedy import can_write_greedily, write_greedily
from afmrl.terminal import track


class LocalEngine:
    """Completions by a model in this process."""

    def __init__(self, model: Any, processor: Any) -> None:
        self.model, self.processor = model, processor
        self.processor.tokenizer.padding_side = "left"
        self.usage = Usage()

    @classmethod
    def from_pretrained(cls, path: str | Path, *, device: str | None = None, dtype: str | None = None) -> LocalEngine:
        """Load a folder or hub name: any AutoModelForImageTextToText, or any AutoModelForCausalLM, which reads text.

        Raises:
            InputError: it does not load.
        """
        import torch

        from afmrl.generator.local_model import load_model, load_processor

        if not Path(path).is_dir() and (Path(path).is_absolute() or str(path).startswith(".")):
            raise InputError(f"generator {path}: no such folder; give a model's folder or its name on the hub")
        try:
            processor = load_processor(path)
            model = load_model(path, dtype=dtype or "auto")
        except Exception as error:  # the libraries below answer a torn or foreign folder with whatever comes first
            reason = str(error).strip().splitlines()[:1] or [type(error).__name__]
            where = "" if Path(path).is_dir() else " (and there is no folder of that name here)"
            raise InputError(f"generator {path} does not load{where}: {reason[0]}") from error
        return cls(model.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval(), processor)

    @property
    def reads_images(self) -> bool:
        """Whether the model sees images; those of offers are not opened otherwise."""
        from afmrl.generator.local_model import reads_images

        return reads_images(self.processor)

    def complete(
        self, requests: Sequence[Request], sampling: Sampling, *, batch_size: int, progress: bool
    ) -> list[list[Completion]]:
        """See `Engine.complete`; samples from all tokens, as GRPO does."""
        import torch

        if sampling.seed is not None:
            torch.manual_seed(sampling.seed)
        prompts = [
            self.processor.apply_chat_template(request.messages, add_generation_prompt=True, tokenize=False)
            for request in requests
        ]
        # similar lengths pad least; offers without an image are kept apart, their tensors have other fields
        images = [request.image if self.reads_images else "" for request in requests]
        order = sorted(range(len(requests)), key=lambda row: (not images[row], len(prompts[row])))
        rows = max(batch_size // sampling.num_completions, 1)
        starts = range(0, len(order), rows)
        written: list[list[Completion]] = [[] for _ in requests]
        for start in track(starts, "writing attributes", show=progress):
            chosen = order[start : start + rows]
            opened = [open_image(images[row]) for row in chosen if images[row]]
            completions = self._batch([prompts[row] for row in chosen], opened, sampling)
            for place, row in enumerate(chosen):
                first = place * sampling.num_completions
                written[row] = completions[first : first + sampling.num_completions]
        return written

    def _batch(self, prompts: list[str], images: list[Any], sampling: Sampling) -> list[Completion]:
        import torch

        inputs = self.processor(
            text=prompts, images=images or None, return_tensors="pt", padding=True, add_special_tokens=False
        ).to(self.model.device)
        # the model's own distribution, as GRPO samples it: Qwen2.5-VL's folder asks for a penalty of 1.05
        options: dict[str, Any] = {"do_sample": False, "repetition_penalty": 1.0}
        if sampling.temperature > 0:
            options |= {"do_sample": True, "temperature": sampling.temperature, "top_k": 0, "top_p": 1.0}
        end = self.model.generation_config.eos_token_id
        known = (*(end if isinstance(end, list | tuple) else (end,)), self.processor.tokenizer.eos_token_id)
        ends = {token for token in known if token is not None}
        if sampling.temperature == 0 and not self.reads_images and can_write_greedily(self.model):
            found = write_greedily(self.model, inputs, ends=ends, max_new_tokens=sampling.max_new_tokens)
        else:
            with torch.inference_mode():
                output = self.model.generate(
                    **inputs,
                    max_new_tokens=sampling.max_new_tokens,
                    num_return_sequences=sampling.num_completions,
                    **options,
                )
            found = output[:, inputs["input_ids"].shape[1] :].tolist()
        completions = [self._completion(row, ends) for row in found]
        self.usage.requests += len(prompts)
        self.usage.prompt_tokens += int(inputs["attention_mask"].sum())
        self.usage.completion_tokens += sum(completion.num_tokens for completion in completions)
        return completions

    def _completion(self, tokens: list[int], ends: set[int]) -> Completion:
        length = next((place for place, token in enumerate(tokens) if token in ends), None)
        kept = tokens if length is None else tokens[:length]
        text = self.processor.tokenizer.decode(kept, skip_special_tokens=True).strip()
        return Completion(text, len(kept), length is not None)
