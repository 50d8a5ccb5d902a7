"""Do the recipes of real models run at full size, and what fits which GPU?

    python benchmarks/real_models.py smoke qwen2-vl-2b              # hours on two busy cores; 16 GB of memory
    python benchmarks/real_models.py smoke qwen2-vl-2b --processes 2
    python benchmarks/real_models.py gpus qwen2-vl-2b               # the counting alone, at once

`smoke` builds the published configurations with random weights in bfloat16 and runs every stage of the recipe on a few
small offers, each in a process of its own: AGCL (2 steps), SFT (1 step), RAR (1 step), attributes, embedding, plain
loading. It prints seconds, the peak of the process' resident memory above what it had before
the models, and what `counted` says for the same work. A stage that trains all parameters takes 18 bytes a
parameter; where that is more than `--memory` the generator has fewer layers, and the table says so.

`gpus` counts each stage with the recipe's own batches, images and text, and says how many offers (RAR: completions)
each GPU holds in one pass.

Writes benchmarks/results/real_models.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from afmrl.files import write_json
from common import RESULTS, versions
from real_model_configs import GB, GPUS, MODELS, build, counted, fewer_layers, parameters, recipe_counts, shipped

OFFERS, NEW_TOKENS, SIDE = 12, 6, 112
PAIRS, STEPS = 2, 2
USABLE = 0.92
"""Share of a GPU's memory that tensors may take."""


class Peak:
    """The largest resident memory of this process while it works, in bytes, above what it had before.

    Weights are mapped from their file, and so resident once they were read.
    """

    def __init__(self) -> None:
        self._before = self._most = self._now()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    @staticmethod
    def _now() -> int:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) * 1024

    def _watch(self) -> None:
        while not self._stop.wait(0.05):
            self._most = max(self._most, self._now())

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def bytes(self) -> int:
        """The peak."""
        return self._most - self._before


def material(work: Path) -> tuple[list[Any], list[Any]]:
    """A few offers with images of SIDE pixels, and their targets."""
    from afmrl.data.catalog import read_catalog
    from afmrl.sample.catalog import write_sample_catalog
    from afmrl.training.data import sample_columns
    from afmrl.training.recipe import CatalogSection, SampleSection
    from afmrl.training.splits import split_offers

    path = work / "catalog" / "catalog.jsonl"
    if not path.is_file():
        few = dict.fromkeys(("reward", "val", "test"), 1)
        write_sample_catalog(work / "catalog", families={"train": 4, **few}, image_size=SIDE)
    train = split_offers(read_catalog(path).offers, sample_columns(CatalogSection(sample=SampleSection())))["train"]
    return train.offers, train.targets


def hardware(recipe: str) -> Any:
    """The recipe's, with the images of this benchmark."""
    return shipped(recipe).hardware.model_copy(update={"max_pixels": SIDE**2})


def agcl(recipe: str, work: Path) -> None:
    """Two steps."""
    from afmrl.training.agcl import run_agcl

    offers, targets = material(work)
    few = {"max_steps": STEPS, "batch_size": PAIRS, "mini_batch_size": 1, "warmup_steps": 0, "similar_group": 1}
    config = shipped(recipe).agcl.model_copy(update={**few, "reference": False, "rules": ("agreement",)})
    run_agcl(config, work / "embedder-base", offers, targets, work / "embedder", hardware=hardware(recipe))


def sft(recipe: str, work: Path) -> None:
    """One step."""
    from afmrl.training.config import SFTStage
    from afmrl.training.sft import run_sft

    offers, targets = material(work)
    config = SFTStage(max_steps=1, batch_size=2, micro_batch_size=1, warmup_steps=0)
    run_sft(config, work / "trained-base", offers, targets, work / "generator", hardware=hardware(recipe))


def rar(recipe: str, work: Path) -> None:
    """One step, its survey before it."""
    from afmrl.embedder.embedder import Embedder
    from afmrl.training.config import RARStage
    from afmrl.training.rar import run_rar
    from afmrl.training.split_reward import query_reward

    offers, targets = material(work)
    config = RARStage(
        max_steps=1, num_generations=2, prompts_per_step=2, micro_batch_size=2, max_new_tokens=NEW_TOKENS,
        warmup_steps=0, teachable_only=False, reward="margin", sft_weight=0.0,
    )  # fmt: skip
    import numpy as np

    embedder = Embedder.from_pretrained(work / "embedder")
    relevant = [np.array([0]), np.array([1])]
    queries, gallery = offers[:2], offers[2:6]
    reward = query_reward(config, work / "generator", embedder, queries, gallery, relevant, targets=targets[:2])
    run_rar(config, work / "generator", reward, work / "reinforced", hardware=hardware(recipe))


def attributes(recipe: str, work: Path) -> None:
    """The full generator writes of two offers."""
    from afmrl.generator.generator import AttributeGenerator

    offers, _ = material(work)
    generator = AttributeGenerator.from_pretrained(work / "generator-base")
    generator.generate(offers[:2], max_new_tokens=NEW_TOKENS, batch_size=2)


def embedding(recipe: str, work: Path) -> None:
    """The trained embedder embeds eight offers."""
    import numpy as np

    from afmrl.embedder.embedder import Embedder

    rows = Embedder.from_pretrained(work / "embedder").encode(material(work)[0][:8], batch_size=2)
    assert np.isfinite(rows).all()


def plain_loading(recipe: str, work: Path) -> None:
    """sentence-transformers and transformers load what was saved."""
    from sentence_transformers import SentenceTransformer
    from transformers import AutoModelForImageTextToText

    model = SentenceTransformer(str(work / "embedder"), device="cpu")
    assert model.encode(["red dress"]).shape[1]
    del model
    AutoModelForImageTextToText.from_pretrained(work / "reinforced")


STAGES: dict[str, Callable[[str, Path], None]] = {
    "agcl": agcl, "sft": sft, "rar": rar, "attributes": attributes, "embedding": embedding,
    "plain_loading": plain_loading,
}  # fmt: skip


def child(recipe: str, stage: str, work: Path) -> None:
    """One stage in this process; seconds and memory into WORK/STAGE.json."""
    import datasets  # noqa: F401  what is imported is no memory of the models
    import peft  # noqa: F401
    import sentence_transformers
    import trl

    from afmrl.terminal import quiet_libraries
    from afmrl.training.processes import join_processes, leave_processes, rank, world_size

    quiet_libraries()
    _ = trl.SFTTrainer, trl.GRPOTrainer, sentence_transformers.SentenceTransformerTrainer
    join_processes()
    material(work)
    started = time.perf_counter()
    with Peak() as peak:
        STAGES[stage](recipe, work)
    if rank() == 0:
        seconds = round(time.perf_counter() - started, 1)
        found = {"seconds": seconds, "peak_bytes": peak.bytes, "processes": world_size()}
        write_json(work / f"{stage}.json", found)
    leave_processes()


def in_child(recipe: str, stage: str, work: Path, processes: int) -> dict[str, Any]:
    """`child` in one or several processes."""
    script = [__file__, "child", recipe, "--stage", stage, "--work", str(work)]
    command = [sys.executable, *script]
    if processes > 1 and stage in ("agcl", "sft", "rar"):
        torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
        command = [sys.executable, *torchrun, *script]
    subprocess.run(command, check=True, env={"HF_HUB_OFFLINE": "1", **os.environ, "CUDA_VISIBLE_DEVICES": ""})
    found: dict[str, Any] = json.loads((work / f"{stage}.json").read_text(encoding="utf-8"))
    return found


def smoke(recipe: str, work: Path, memory: int, processes: int, stages: list[str]) -> dict[str, Any]:
    """All stages of a recipe at full size."""
    base, writer = MODELS[recipe]
    trained = fewer_layers(writer, embedder=parameters(base), memory=memory // processes)
    work.mkdir(parents=True, exist_ok=True)
    material(work)
    for name, config in (("embedder-base", base), ("generator-base", writer), ("trained-base", trained)):
        if not (work / name / "config.json").is_file():
            started = time.perf_counter()
            build(config, work / name)
            print(f"{name}: {parameters(config) / 1e9:.2f} billion parameters, {time.perf_counter() - started:.0f} s")
    found: dict[str, Any] = {
        "embedder_parameters": parameters(base), "generator_parameters": parameters(writer),
        "trained_generator_parameters": parameters(trained),
        "layers": [trained["text"]["num_hidden_layers"], writer["text"]["num_hidden_layers"]],
        "vision_layers": [trained["vision"]["depth"], writer["vision"]["depth"]],
        "vocabulary": trained["text"]["vocab_size"],
        "stages": {},
    }  # fmt: skip
    layers, depths = found["layers"], found["vision_layers"]
    print(
        f"SFT and RAR train a generator of {layers[0]} of {layers[1]} text layers, {depths[0]} of {depths[1]} vision "
        f"layers and {found['vocabulary']:,} of {writer['text']['vocab_size']:,} words"
    )
    for stage in stages:
        measured = in_child(recipe, stage, work, processes)
        measured["counted_bytes"] = counted(stage, base, writer if stage == "attributes" else trained)
        found["stages"][stage] = measured
        print(
            f"{stage:14} {measured['seconds']:7.0f} s   peak {measured['peak_bytes'] / GB:5.1f} GB   "
            f"counted {measured['counted_bytes'] / GB:5.1f} GB",
            flush=True,
        )
    return found


def gpus(recipe: str) -> dict[str, Any]:
    """What each stage takes with the recipe's own batches, and how much at once each GPU holds."""
    found = {}
    powers = {number: recipe_counts(recipe, number) for number in (2**power for power in range(11))}
    print(f"{'':14} {'recipe':>9}   at once on a GPU of " + ", ".join(f"{size} GB" for size in GPUS))
    for stage, needed in recipe_counts(recipe).items():
        # the rest of a GPU is CUDA's, and fragments
        held = [max((n for n, of in powers.items() if of[stage] <= USABLE * size * GB), default=0) for size in GPUS]
        found[stage] = {"bytes": needed, "at_once": dict(zip(map(str, GPUS), held, strict=True))}
        fits = ["yes" if stage in ("attributes", "embedding") and number else str(number) for number in held]
        print(f"{stage:14} {needed / GB:6.1f} GB   " + "  ".join(f"{number:>5}" for number in fits))
    return found


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("smoke", "gpus", "child"))
    parser.add_argument("recipe", choices=list(MODELS))
    parser.add_argument("--work", type=Path, help="models and catalog; runs/real_models/RECIPE by default")
    parser.add_argument("--memory", type=int, default=16, help="GB that a stage may take")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--stages", nargs="+", choices=list(STAGES), default=list(STAGES))
    parser.add_argument("--stage", choices=list(STAGES), help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=RESULTS / "real_models.json")
    given = parser.parse_args()
    work = given.work or Path("runs/real_models") / given.recipe
    if given.command == "child":
        child(given.recipe, given.stage, work)
        return
    counts = {"gpus": gpus(given.recipe)}
    if given.command == "gpus":
        return
    measured = smoke(given.recipe, work, given.memory, given.processes, given.stages)
    known = json.loads(given.out.read_text(encoding="utf-8")) if given.out.is_file() else {}
    name = given.recipe if given.processes == 1 else f"{given.recipe}, {given.processes} processes"
    known[name] = {**measured, **counts, "versions": versions("torch", "transformers", "trl", "sentence-transformers")}
    write_json(given.out, known)


if __name__ == "__main__":
    main()
