"""The small generator: how its LoRA weights are learned, how well it writes, and how fast.

    python benchmarks/small_generator.py train --data DIR     # writes src/afmrl/generator/small/adapter_*
    python benchmarks/small_generator.py quality --data DIR   # F1 on val or test titles; Markdown
    python benchmarks/small_generator.py speed --data DIR     # offers a second

`train` takes the training titles of oa_mine and ae110k with their gold values; each twelfth is kept for `quality`
on val. Of the prompts most name the category, some name none, and some ask for keys, fewer or more than the title has.
The loss counts the answer's tokens, and logits are computed for them alone. With `torchrun --nproc_per_node 2` two
processes share each batch.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch.nn import functional

from afmrl.attributes.evidence import Evidence
from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.attributes.schema import AttributeSchema
from afmrl.data.offer import Offer
from afmrl.files import write_json
from afmrl.generator import small
from afmrl.generator.generator import AttributeGenerator
from afmrl.generator.small.build import LEARNED_FILES, PROMPT, read_smollm2
from afmrl.terminal import quiet_libraries
from common import add_data, percent
from distillation import SETS, gold, load, score

VALIDATION = 12
"""Each so many training titles one is kept for validation."""
BATCH = 8
CHUNK = 16
"""Batches that are sorted by length together."""
LEARNING_RATE = 6e-4
WARMUP = 40
NO_CATEGORY, WITH_KEYS = 0.15, 0.2
"""Shares of the prompts that name no category, and that ask for keys."""
RANK, LAYERS = 16, list(range(8, 30))
"""Of LoRA; the first layers stay, which saves their backward pass."""
MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
MAX_NEW_TOKENS = 128


@dataclass(frozen=True)
class Example:
    """Token ids of a prompt and of its answer."""

    prompt: list[int]
    answer: list[int]

    def __len__(self) -> int:
        return len(self.prompt) + len(self.answer)


def splits(data: Path, name: str) -> dict[str, list[Offer]]:
    """Training, validation and test titles of a set."""
    known, test = load(data, name, False)
    return {
        "train": [offer for row, offer in enumerate(known) if row % VALIDATION],
        "val": known[::VALIDATION],
        "test": test,
    }


def keys_of_categories(offers: list[Offer]) -> dict[str, list[str]]:
    """Keys that titles of a category are labeled with."""
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for offer in offers:
        found[offer.category] |= dict.fromkeys(gold(offer).as_dict())
    return {category: list(keys) for category, keys in found.items()}


def vary(offer: Offer, keys: list[str], rng: np.random.Generator) -> tuple[str, KeyAttributes]:
    """One draw of a prompt, and its answer."""
    kind, target = rng.random(), gold(offer)
    if kind < NO_CATEGORY:
        return PROMPT.text(dataclasses.replace(offer, category="")), target
    if kind < NO_CATEGORY + WITH_KEYS:
        asked = [str(key) for key in rng.permutation(keys)[: rng.integers(1, len(keys) + 1)]]
        schema = AttributeSchema.of({offer.category: [{"key": key, "units": False} for key in asked]})
        return dataclasses.replace(PROMPT, schema=schema).text(offer), schema.apply(target, offer.category)
    return PROMPT.text(offer), target


def batches(examples: list[Example], rng: np.random.Generator) -> list[list[Example]]:
    """An epoch in random order, of similar lengths."""
    order = rng.permutation(len(examples))
    made = []
    for start in range(0, len(order), BATCH * CHUNK):
        chunk = sorted((examples[row] for row in order[start : start + BATCH * CHUNK]), key=len)
        made += [chunk[first : first + BATCH] for first in range(0, len(chunk), BATCH)]
    return [made[place] for place in rng.permutation(len(made))]


def loss_of(model: Any, batch: list[Example], pad: int) -> tuple[torch.Tensor, int]:
    """Summed loss of the answers' tokens, and their number."""
    size = max(map(len, batch))
    ids = torch.tensor([[*e.prompt, *e.answer, *[pad] * (size - len(e))] for e in batch])
    mask = torch.tensor([[1] * len(e) + [0] * (size - len(e)) for e in batch])
    inner = model.get_base_model()
    hidden = inner.model(input_ids=ids, attention_mask=mask).last_hidden_state
    rows = [hidden[row, len(e.prompt) - 1 : len(e) - 1] for row, e in enumerate(batch)]
    labels = torch.tensor([token for e in batch for token in e.answer])
    logits = inner.lm_head(torch.cat(rows))
    return functional.cross_entropy(logits, labels, reduction="sum"), len(labels)


def train(data: Path, work: Path, out: Path, epochs: int, seed: int, minutes: float | None) -> None:
    """Learn LoRA weights and write them."""
    from peft import LoraConfig, get_peft_model

    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world > 1:
        dist.init_process_group("gloo")
    rank = dist.get_rank() if world > 1 else 0
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model, tokenizer = read_smollm2()
    lora = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=MODULES, layers_to_transform=LAYERS)
    model = get_peft_model(model, lora)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=LEARNING_RATE, weight_decay=0.0)
    offers = [offer for name in SETS for offer in splits(data, name)["train"]]
    keys = keys_of_categories(offers)
    steps = epochs * math.ceil(len(offers) / BATCH)
    step, start, tokens, done = 0, time.perf_counter(), 0, 0.0
    losses: list[float] = []

    def encode(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    def epoch() -> list[list[Example]]:
        drawn = [vary(offer, keys[offer.category], rng) for offer in offers]
        return batches(
            [Example(encode(text + "\n"), [*encode(str(target)), tokenizer.eos_token_id]) for text, target in drawn],
            rng,
        )

    model.train()
    for batch in (batch for _ in range(epochs) for batch in epoch()):
        if minutes:  # the process that is furthest decides for all
            elapsed = torch.tensor((time.perf_counter() - start) / 60 / minutes)
            if world > 1:
                dist.all_reduce(elapsed, dist.ReduceOp.MAX)
            done = float(elapsed)
        else:
            done = step / steps
        if done >= 1:
            break
        loss, number = loss_of(model, batch[rank::world], tokenizer.eos_token_id)
        (loss / sum(len(example.answer) for example in batch)).backward()
        if world > 1:
            add_gradients(weights)
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        rate = LEARNING_RATE * min((step + 1) / WARMUP, 0.5 * (1 + math.cos(math.pi * done)) + 0.02)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
        optimizer.zero_grad()
        step, tokens = step + 1, tokens + sum(map(len, batch))
        losses.append(loss.item() / number)
        if rank == 0 and step % 10 == 0:
            seconds = time.perf_counter() - start
            print(
                f"step {step}, {done:.0%}, loss {np.mean(losses[-50:]):.3f}, {tokens / seconds:.0f} tokens/s, "
                f"{seconds:.0f} s, of this process {time.process_time():.0f} s of processor time",
                flush=True,
            )
    if rank == 0:
        model.save_pretrained(str(work / "adapter"))
        export(work / "adapter", out)


def add_gradients(weights: list[torch.nn.Parameter]) -> None:
    """Sum gradients over processes."""
    flat = torch.cat([weight.grad.flatten() for weight in weights if weight.grad is not None])
    dist.all_reduce(flat)
    for weight, part in zip(weights, flat.split([weight.numel() for weight in weights]), strict=True):
        assert weight.grad is not None
        weight.grad.copy_(part.view_as(weight))


def export(adapter: Path, out: Path) -> None:
    """Write an adapter in half precision, without paths of this machine."""
    learned = load_file(adapter / LEARNED_FILES[1])
    save_file({name: value.half() for name, value in learned.items()}, out / LEARNED_FILES[1])
    config = json.loads((adapter / LEARNED_FILES[0]).read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = "HuggingFaceTB/SmolLM2-135M-Instruct"
    config["target_modules"] = sorted(config["target_modules"])
    write_json(out / LEARNED_FILES[0], config)
    print(f"{out}: {(out / LEARNED_FILES[1]).stat().st_size:,} bytes")


def quality(data: Path, generator: str, split: str, batch_size: int) -> None:
    """F1 of what the generator writes for titles, told the category; Markdown."""
    writer = AttributeGenerator.from_pretrained(generator)
    print("| set | split | titles | precision | recall | strict F1 [95 %] | annotated F1 [95 %] | evidence | invalid |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in SETS:
        offers = splits(data, name)[split]
        blind = [dataclasses.replace(offer, attributes={}) for offer in offers]
        written = writer.attributes(blind, batch_size=batch_size, max_new_tokens=MAX_NEW_TOKENS)
        found = score(offers, written)
        f1 = [percent(found[of]["micro"]["f1"], *found[of]["micro_f1_interval"]) for of in ("strict", "annotated")]
        micro = found["strict"]["micro"]
        print(
            f"| {name} | {split} | {len(offers)} | {100 * micro['precision']:.1f} | {100 * micro['recall']:.1f} | "
            f"{f1[0]} | {f1[1]} | {Evidence.of(blind, written).share:.1%} | {writer.num_invalid} |",
            flush=True,
        )


def speed(data: Path, generator: str, offers: int, batch_size: int, threads: int) -> None:
    """Offers a second on test titles of both sets, loading left out."""
    torch.set_num_threads(threads)
    writer = AttributeGenerator.from_pretrained(generator)
    titles = [
        dataclasses.replace(offer, attributes={})
        for name in SETS
        for offer in splits(data, name)["test"][: offers // len(SETS)]
    ]
    wall, processor = time.perf_counter(), time.process_time()
    writer.attributes(titles, batch_size=batch_size)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    print(
        f"{len(titles)} offers, {threads} threads, batches of {batch_size}: {len(titles) / wall:.2f} a second, "
        f"{len(titles) / processor:.2f} a second of processor time; {writer.engine.usage}"
    )


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    learn, judge, clock = (commands.add_parser(name) for name in ("train", "quality", "speed"))
    for command in (learn, judge, clock):
        add_data(command)
    learn.add_argument("--work", type=Path, default=Path("runs/small_generator"))
    learn.add_argument("--out", type=Path, default=Path(small.__file__).parent)
    learn.add_argument("--epochs", type=int, default=3)
    learn.add_argument("--seed", type=int, default=0)
    learn.add_argument("--minutes", type=float, help="train so long at most, the learning rate falling with time")
    for command in (judge, clock):
        command.add_argument("--generator", default="small")
        command.add_argument("--batch-size", type=int, default=64)
    clock.add_argument("--offers", type=int, default=256)
    clock.add_argument("--threads", type=int, default=2)
    judge.add_argument("--split", choices=["val", "test"], default="val")
    given = parser.parse_args()
    quiet_libraries()
    if given.command == "train":
        train(given.data, given.work, given.out, given.epochs, given.seed, given.minutes)
    elif given.command == "quality":
        quality(given.data, given.generator, given.split, given.batch_size)
    else:
        speed(given.data, given.generator, given.offers, given.batch_size, given.threads)


if __name__ == "__main__":
    main()
