"""Peak memory of `afmrl embed` over catalogs of different sizes: `python benchmarks/bulk_memory.py [--sizes N …]`.

Offers without images, the tiny model with random weights; each size in a process of its own, first into an empty
folder, then once more with nothing to do.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
from pathlib import Path

from afmrl.embedder.tiny import build_tiny_model

WORDS = ["red", "silk", "dress", "wide", "cut", "blue", "cotton", "shirt", "small", "large"]


def write_catalog(path: Path, size: int) -> None:
    """Offers of a few words and a number."""
    rng = random.Random(0)
    with open(path, "w", encoding="utf-8") as file:
        for number in range(size):
            row = {"id": f"o{number}", "title": " ".join([*rng.sample(WORDS, rng.randint(2, 5)), str(number)])}
            file.write(json.dumps({**row, "category": "dress", "attributes": {"color": "red"}}) + "\n")


def run(arguments: list[str]) -> tuple[float, float]:
    """Megabytes at the peak and seconds of one command."""
    started = time.monotonic()
    pid = os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, "-m", "afmrl", *arguments])
    _, status, usage = os.wait4(pid, 0)
    if status:
        raise SystemExit(f"afmrl {' '.join(arguments)} failed")
    return usage.ru_maxrss / 1024, time.monotonic() - started


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 300_000])
    sizes = parser.parse_args().sizes
    os.environ["HF_HUB_OFFLINE"] = "1"
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model = build_tiny_model(WORDS, folder / "model", vocab_size=400, hidden_size=64, num_layers=2, vision_layers=1)
        for size in sizes:
            write_catalog(folder / "offers.jsonl", size)
            arguments = ["embed", str(folder / "offers.jsonl"), "--model", str(model), "--out", str(folder / str(size))]
            for name in ("first run", "nothing to do"):
                megabytes, seconds = run(arguments)
                print(f"{size:>9,} offers, {name:13}: peak {megabytes:,.0f} MB, {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
