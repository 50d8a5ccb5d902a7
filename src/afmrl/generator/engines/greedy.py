"""Greedy answers of a language model, a batch that gets smaller: an answer that has ended costs nothing any more."""

from __future__ import annotations

import inspect
from collections.abc import Collection
from typing import Any

MOST_ENDED = 0.125
"""Share of a batch's rows that may have ended before they are taken out, which copies the keys of all others."""
_NEEDED = {"position_ids", "past_key_values", "logits_to_keep"}


def can_write_greedily(model: Any) -> bool:
    """Whether a model's forward pass takes what `write_greedily` needs."""
    return set(inspect.signature(model.forward).parameters) >= _NEEDED


def write_greedily(model: Any, inputs: Any, *, ends: Collection[int], max_new_tokens: int) -> list[list[int]]:
    """The likeliest token after each other, until each row has ended or is at the limit.

    `generate` writes the same, and computes every row until the longest has ended.

    Args:
        inputs: "input_ids" and "attention_mask", padded on the left.
        ends: token ids that end an answer.

    Returns:
        Token ids of each row, the one that ended it included.

    Shape:
        input_ids, attention_mask: (B, T).
    """
    import torch
    from transformers import DynamicCache

    tokens, mask = inputs["input_ids"], inputs["attention_mask"]
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    cache = DynamicCache(config=model.config)
    written: list[list[int]] = [[] for _ in range(len(tokens))]
    rows, alive = list(range(len(tokens))), torch.ones(len(tokens), dtype=torch.bool, device=tokens.device)
    stops = torch.tensor(sorted(ends), device=tokens.device)
    with torch.inference_mode():
        for _ in range(max_new_tokens):
            logits = model(
                input_ids=tokens,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits
            found = logits[:, -1].argmax(dim=-1)
            for row, token, running in zip(rows, found.tolist(), alive.tolist(), strict=True):
                if running:
                    written[row].append(token)
            alive &= ~torch.isin(found, stops)
            if not alive.any():
                break
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
            tokens, positions = found[:, None], positions[:, -1:] + 1
            if float((~alive).float().mean()) > MOST_ENDED:
                kept = alive.nonzero()[:, 0]
                cache.batch_select_indices(kept)
                tokens, mask, positions = tokens[kept], mask[kept], positions[kept]
                rows, alive = [rows[place] for place in kept.tolist()], alive[kept]
    return written
