"""What do loss, reward and training cost on one GPU, and are their numbers right there?

    python benchmarks/gpu.py --parts exact agcl grpo reward      # on a GPU, each part under ten minutes
    python benchmarks/gpu.py --small                              # tiny sizes: the script on a CPU, not the speed

Parts:

- exact: the AGCL loss and its gradients in float32 on the device, and the reward's ranks, against float64 on the CPU;
- agcl: one step of full-size Qwen2-VL-2B with random weights, LoRA in the language model, GradCache: pairs a second,
  peak memory, the share of the device's bfloat16 peak (`--peak-tflops`), beside sentence-transformers'
  CachedMultipleNegativesRankingLoss on the same model and batch, and beside our loss with the vision tower run in both
  passes (no image waits), and with LoRA in the tower too;
- grpo: a step of RAR of Qwen2.5-VL-3B by LoRA, with its survey;
- reward: the margin reward of a step's 128 completions in 200,000 × 1,536, as a share of the time that reading the
  gallery once takes (numpy, on the CPU: the reward leaves the GPU to the models).

Work of a step is counted: 2 operations a parameter and token for a forward pass, of the tower for 4 patches a token,
as much for a backward pass, since frozen weights have no gradients, and one forward pass more for checkpointing. Writes
benchmarks/results/gpu.json, or with --small prints alone.
"""

from __future__ import annotations

import argparse
import copy
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from afmrl.files import write_json
from common import RESULTS, versions
from real_model_configs import GB, QWEN2_5_VL_3B, QWEN2_VL_2B, build, parameters

PARTS = ("exact", "agcl", "grpo", "reward")


def small(model: dict[str, Any], width: int, layers: int) -> dict[str, Any]:
    """A model of the same kind whose towers are `width` wide and `layers` deep."""
    found = copy.deepcopy(model)
    heads, kv = width // 64, max(width // 128, 1)
    found["text"] |= {
        "hidden_size": width, "intermediate_size": 3 * width, "num_hidden_layers": layers,
        "num_attention_heads": heads, "num_key_value_heads": kv, "vocab_size": 2048,
    }  # fmt: skip
    found["text"]["rope_parameters"] = {**found["text"]["rope_parameters"], "mrope_section": [8, 12, 12]}
    vision = found["vision"]
    vision |= {"depth": layers, "num_heads": heads}
    if "embed_dim" in vision:
        vision |= {"embed_dim": width, "hidden_size": width}
    else:
        vision |= {"hidden_size": width, "out_hidden_size": width, "intermediate_size": 2 * width}
        vision["fullatt_block_indexes"] = [layers - 1]
    return found


def device() -> Any:
    """The GPU, or the CPU."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def timed(work: Callable[[], Any], times: int) -> dict[str, float]:
    """Seconds of the fastest of some runs after one that is not counted, and the peak memory of the device."""
    import torch

    def wait() -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    work()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    seconds = []
    for _ in range(times):
        wait()
        started = time.perf_counter()
        work()
        wait()
        seconds.append(time.perf_counter() - started)
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    return {"seconds": round(min(seconds), 4), "peak_gb": round(peak / GB, 2)}


def exact(is_small: bool) -> dict[str, Any]:
    """The largest differences from float64."""
    import torch

    from afmrl.attributes.key_attributes import KeyAttributes
    from afmrl.data.offer import Offer
    from afmrl.losses.agcl import AttributeGuidedContrastiveLoss
    from afmrl.rewards.retrieval_reward import RetrievalReward

    batch, dimension = (64, 64) if is_small else (1024, 1536)
    draw = np.random.default_rng(0)
    attributes = [
        KeyAttributes.of({"color": str(draw.integers(5)), "size": str(draw.integers(3))}) for _ in range(batch)
    ]
    loss = AttributeGuidedContrastiveLoss(
        torch.nn.Sequential(torch.nn.Linear(1, 1)), attributes, rules=("agreement", "margin"), agreement_min_shared=2,
        mini_batch_size=32,
    )  # fmt: skip
    columns = [torch.from_numpy(draw.standard_normal((batch, dimension))) for _ in range(2)]
    found = []
    for kind, where in ((torch.float64, torch.device("cpu")), (torch.float32, device())):
        reps = [[column.to(where, kind, copy=True).requires_grad_()] for column in columns]
        value = loss.calculate_loss(reps, torch.arange(batch, device=where), with_backward=True)
        found.append([value.double().cpu(), *(piece[0].grad.double().cpu() for piece in reps)])
    (truth, *gradients), (ours, *our_gradients) = found
    both = zip(gradients, our_gradients, strict=True)
    largest = max(float((one - other).abs().max() / one.abs().max()) for one, other in both)
    gallery = draw.standard_normal((20 * batch, dimension)).astype(np.float32)
    gallery /= np.linalg.norm(gallery, axis=1, keepdims=True)
    queries = gallery[:batch] + 0.5 * draw.standard_normal((batch, dimension)).astype(np.float32) / dimension**0.5
    relevant = [np.array([row]) for row in range(batch)]
    offers = [Offer(str(row), "an offer") for row in range(batch)]
    reward = RetrievalReward(
        lambda chosen, _: queries[: len(chosen)], offers, gallery, relevant, kind="reciprocal_rank"
    )
    placed = reward.gallery.place(queries, relevant, hardest=True)
    scores = queries.astype(np.float64) @ gallery.T.astype(np.float64)
    ranks = 1 + (scores > scores[np.arange(batch), np.arange(batch)][:, None]).sum(axis=1)
    return {
        "loss_relative": abs(float((ours - truth) / truth)),
        "gradient_relative": largest,
        "ranks_that_differ": int((placed.ranks != ranks).sum()),
    }


def embedder(folder: Path, model: dict[str, Any], side: int) -> Any:
    """A model of random weights as an embedder in bfloat16, its images bounded."""
    from afmrl.data.images import bound_pixels
    from afmrl.embedder.embedder import Embedder

    if not (folder / "config.json").is_file():
        build(model, folder)
    found = Embedder.from_pretrained(folder, dtype="bfloat16", device=str(device()), max_seq_length=1024)
    bound_pixels(found.model[0].processor, side**2)
    return found


def images(count: int, side: int) -> list[Any]:
    """Noise in colors, as JPEG would not store it smaller."""
    from PIL import Image

    draw = np.random.default_rng(0)
    return [Image.fromarray(draw.integers(0, 255, (side, side, 3), dtype=np.uint8)) for _ in range(count)]


def agcl(is_small: bool, peak_tflops: float, work: Path) -> dict[str, Any]:
    """A step of each kind."""
    import torch
    from sentence_transformers.sentence_transformer.losses import CachedMultipleNegativesRankingLoss

    from afmrl.attributes.key_attributes import KeyAttributes
    from afmrl.losses.agcl import AttributeGuidedContrastiveLoss
    from afmrl.losses.deferred_inputs import KEEP_BYTES, DeferredPreprocessing
    from afmrl.training.config import Lora
    from afmrl.training.lora import add_adapters, lora_config

    model = small(QWEN2_VL_2B, 256, 3) if is_small else QWEN2_VL_2B
    batch, side, mini = (8, 112, 2) if is_small else (1024, 560, 16)
    shown, words = images(2 * batch, side), "silk dress with a belt and pockets, deep red, size m " * 4
    inputs = [{"image": image, "text": f"{words}{row}"} for row, image in enumerate(shown)]
    attributes = [KeyAttributes.of({"color": str(row % 7)}) for row in range(batch)]
    tower = parameters(model, "visual")
    language = parameters(model) - tower - model["text"]["vocab_size"] * model["text"]["hidden_size"]
    found: dict[str, Any] = {}
    for kind in ("ours", "tower in both passes", "LoRA in the tower too", "sentence-transformers"):
        embeds = embedder(work / "embedder", model, side)
        one = embeds.model
        add_adapters(one, lora_config(Lora(r=16, vision=kind == "LoRA in the tower too")))
        one.transformers_model.gradient_checkpointing_enable({"use_reentrant": False})
        one.train()
        keep = 0 if kind == "tower in both passes" else KEEP_BYTES
        theirs = kind == "sentence-transformers"
        preprocess: Any = one.preprocess if theirs else DeferredPreprocessing(one.preprocess, keep_bytes=keep)
        loss: Any
        if theirs:
            loss = CachedMultipleNegativesRankingLoss(one, mini_batch_size=mini, scale=50.0)
        else:
            loss = AttributeGuidedContrastiveLoss(one, attributes, mini_batch_size=mini)
        optimizer = torch.optim.AdamW([p for p in one.parameters() if p.requires_grad])
        step = partial(_step, loss, optimizer, preprocess, [inputs[:batch], inputs[batch:]], labeled=not theirs)
        measured = timed(step, 1)
        tokens = sum(int(x["attention_mask"].sum()) for x in (one.preprocess(inputs[:2]),)) * batch
        patches = 4 * (side // (2 * model["patch"])) ** 2 * 2 * batch
        passes = {"ours": 1, "LoRA in the tower too": 2 + 1 + 1}.get(kind, 2)
        operations = 2 * language * tokens * (2 + 1 + 1) + 2 * tower * patches * passes
        measured["pairs_per_second"] = round(batch / measured["seconds"], 2)
        measured["share_of_peak"] = round(operations / measured["seconds"] / (peak_tflops * 1e12), 4)
        if not theirs:
            measured["kept_share"] = loss.last_statistics["kept_share"]
        found[kind] = measured
        print(f"agcl, {kind}: {measured}", flush=True)
        del embeds, one, loss, optimizer, step
    return {"batch": batch, "pixels": side**2, **found}


def _step(loss: Any, optimizer: Any, preprocess: Any, columns: Sequence[list[Any]], *, labeled: bool) -> None:
    """Preprocessing, both passes and the optimizer's step."""
    import torch
    from sentence_transformers.util import batch_to_device

    features = [preprocess(column) for column in columns]
    if not labeled:
        features = [batch_to_device(column, device()) for column in features]
    with torch.autocast(device().type, torch.bfloat16):
        value = loss(features, torch.arange(len(columns[0]), device=device()) if labeled else None)
    value.backward()
    optimizer.step()
    optimizer.zero_grad()


def grpo(is_small: bool, work: Path) -> dict[str, Any]:
    """Seconds of a step of RAR, its rollouts and the reward included."""
    from afmrl.attributes.key_attributes import KeyAttributes
    from afmrl.data.offer import Offer
    from afmrl.embedder.embedder import Embedder
    from afmrl.training.config import Hardware, Lora, RARStage
    from afmrl.training.rar import run_rar
    from afmrl.training.split_reward import query_reward

    base, writer = QWEN2_VL_2B, QWEN2_5_VL_3B
    if is_small:
        base, writer = small(base, 256, 2), small(writer, 256, 2)
    side, queries, new = (112, 2, 6) if is_small else (560, 16, 64)
    for name, model in (("embedder", base), ("generator", writer)):
        if not (work / name / "config.json").is_file():
            build(model, work / name)
    paths = []
    for row, image in enumerate(images(2 * queries, side)):
        paths.append(str(work / f"{row}.png"))
        image.save(paths[-1])
    offers = [Offer(str(row), f"silk dress {row}", image=path) for row, path in enumerate(paths)]
    targets = [KeyAttributes.of({"color": "red"})] * queries
    config = RARStage(
        max_steps=2, num_generations=2 if is_small else 8, prompts_per_step=queries, max_new_tokens=new, warmup_steps=0,
        micro_batch_size=2 if is_small else 32, teachable_only=False, reward="margin", sft_weight=0.0,
    )  # fmt: skip
    hardware = Hardware(
        precision="bfloat16", gradient_checkpointing=True, max_pixels=side**2, lora=Lora(r=16, stages=("rar",))
    )
    relevant = [np.array([row]) for row in range(queries)]
    embeds = Embedder.from_pretrained(work / "embedder", dtype="bfloat16")
    reward = query_reward(
        config, work / "generator", embeds, offers[:queries], offers[queries:], relevant, targets=targets
    )
    clock = _Clock()
    with tempfile.TemporaryDirectory() as out:
        train = partial(run_rar, config, work / "generator", reward, out, hardware=hardware)
        measured = timed_once(lambda: train(callbacks=[clock.callback()]))
    return {**measured, "step_seconds": clock.seconds(), "completions": queries * config.num_generations}


class _Clock:
    """When steps end."""

    def __init__(self) -> None:
        self._ends: list[float] = []

    def callback(self) -> Any:
        """A trainer's."""
        from transformers import TrainerCallback

        ends = self._ends

        class Callback(TrainerCallback):
            def on_step_end(self, *_: Any, **__: Any) -> None:
                ends.append(time.perf_counter())

        return Callback()

    def seconds(self) -> float:
        """Of the last step."""
        return round(self._ends[-1] - self._ends[-2], 3)


def timed_once(work: Callable[[], Any]) -> dict[str, float]:
    """Seconds of one run, and the peak memory of the device."""
    import torch

    if torch.cuda.is_available():  # what ran before is not counted
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    work()
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    return {"seconds": round(time.perf_counter() - started, 2), "peak_gb": round(peak / GB, 2)}


def reward(is_small: bool) -> dict[str, Any]:
    """Scoring beside reading the gallery once."""
    from afmrl.retrieval.frozen import FrozenGallery

    size, dimension, completions = (2_000, 64, 16) if is_small else (200_000, 1536, 128)
    draw = np.random.default_rng(0)
    gallery = draw.standard_normal((size, dimension), dtype=np.float32)
    gallery /= np.linalg.norm(gallery, axis=1, keepdims=True)
    step = gallery[:completions].copy()
    relevant = [np.array([row]) for row in range(completions)]
    frozen = FrozenGallery(gallery)

    def fastest(work: Callable[[], Any]) -> float:
        seconds: Sequence[float] = [_seconds(work) for _ in range(5)]
        return min(seconds)

    scored = fastest(lambda: frozen.place(step, relevant, hardest=True))
    read = fastest(lambda: gallery.sum())
    product = fastest(lambda: step @ gallery.T)
    return {
        "milliseconds": round(1000 * scored, 2), "share_of_bandwidth": round(read / scored, 4),
        "share_of_the_bare_product": round(product / scored, 3),
    }  # fmt: skip


def _seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--small", action="store_true", help="tiny sizes, to try the script on a CPU")
    parser.add_argument("--peak-tflops", type=float, default=989.0, help="of the device in bfloat16, dense")
    parser.add_argument("--work", type=Path, default=Path("runs/gpu"), help="models of random weights")
    parser.add_argument("--out", type=Path, default=RESULTS / "gpu.json")
    given = parser.parse_args()
    from afmrl.terminal import quiet_libraries

    quiet_libraries()
    work = given.work / ("small" if given.small else "full")
    work.mkdir(parents=True, exist_ok=True)
    works: dict[str, Callable[[], dict[str, Any]]] = {
        "exact": lambda: exact(given.small),
        "agcl": lambda: agcl(given.small, given.peak_tflops, work),
        "grpo": lambda: grpo(given.small, work),
        "reward": lambda: reward(given.small),
    }
    known = json.loads(given.out.read_text(encoding="utf-8")) if given.out.is_file() else {}
    for part in given.parts:
        known[part] = works[part]()
        print(part, json.dumps(known[part]), flush=True)
        if not given.small:
            write_json(
                given.out, {**known, "versions": versions("torch", "transformers", "trl", "sentence-transformers")}
            )


if __name__ == "__main__":
    main()
