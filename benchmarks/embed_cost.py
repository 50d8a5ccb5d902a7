"""Offers a second of BulkEncoder beside plain sentence-transformers, decoding included; and its memory.

    afmrl quickstart --out RUN
    python benchmarks/embed_cost.py --model RUN/embedder                  # 800 drawn images, 5 rounds
    python benchmarks/embed_cost.py --model RUN/embedder --photographs DIR # cosines of scaled JPEG on real photographs
    python benchmarks/embed_cost.py --model small --offers 128 --rounds 3  # into a part of its own of the results
    python benchmarks/embed_cost.py --memory                              # peak memory at 10,000 and 300,000 offers

By turns in one process, on the same files, which lie in the page cache, with the same threads and the same batch size:

- plain: images opened with Pillow (RGB, upright) just before `SentenceTransformer.encode`, 1,024 offers at a time;
- bulk: `BulkEncoder`, windows of 512 offers;
- scaled: the same with `scaled_jpeg=True`;
- model alone: the inputs of all batches preprocessed before, the model's forward passes timed;
- decoding alone: `BulkEncoder`'s threads reading, decoding and resizing, no model; once more with scaled JPEG.

Images are drawn (smooth colors and grain), their sides 200 to 2,000 pixels, uniform in the logarithm, nine in ten
JPEG (quality 88), the others PNG; titles have 2 to 90 words; nothing twice. A ratio is of one round; stated are its
median and its range over the rounds. `cores_got` says how much of the machine other programs left.
Without --model: the tiny default with random weights. Writes benchmarks/results/embed_cost.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from afmrl.bulk.images.encoder import BulkEncoder, Window
from afmrl.bulk.images.loader import ImageLoader
from afmrl.bulk.images.read_ahead import ReadAhead, num_cores
from afmrl.bulk.images.resizing import Resizing
from afmrl.data.offer import Offer
from afmrl.embedder.embedder import Embedder
from afmrl.embedder.small.build import SMALL
from afmrl.files import write_json
from common import RESULTS, in_own_process, peak_bytes, rounded, versions

OUT = RESULTS / "embed_cost.json"
BATCH, CHUNK, WINDOW = 64, 1024, 512
DIGITS = 6
WORDS = ("red", "blue", "silk", "cotton", "dress", "shirt", "wide", "size", "m", "xl", "500", "ml", "2", "pack", "tea")
MEMORY_SIZES = (10_000, 300_000)


def draw(folder: Path, num_offers: int) -> list[Offer]:
    """Offers with an image each."""
    from PIL import Image

    offers = []
    rng = np.random.default_rng(0)
    for number in range(num_offers):
        width, height = (int(round(side)) for side in np.exp(rng.uniform(np.log(200), np.log(2000), 2)))
        coarse = rng.integers(0, 256, (max(3, height // 48), max(3, width // 48), 3)).astype(np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), np.int16)
        grain = rng.integers(-6, 7, (height, width, 1)).astype(np.int16)
        path = folder / f"{number}.{'png' if number % 10 == 9 else 'jpg'}"
        Image.fromarray(np.clip(smooth + grain, 0, 255).astype(np.uint8)).save(path, quality=88)
        title = " ".join(rng.choice(WORDS, int(rng.integers(2, 91))))
        offers.append(Offer(id=str(number), title=f"{number} {title}", image=str(path)))
    return offers


def enlarged(source: Path, folder: Path, num_offers: int) -> list[Offer]:
    """Offers with real photographs, brought to 1,400 pixels where they are smaller and saved as JPEG."""
    from afmrl.data.images import open_image

    paths = sorted(path for path in source.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    chosen = np.random.default_rng(0).permutation(len(paths))[:num_offers]
    offers = []
    for number, path in enumerate(paths[place] for place in chosen):
        image = open_image(path)
        factor = max(1.0, 1400 / max(image.size))
        large = image.resize((round(image.width * factor), round(image.height * factor)))
        large.save(folder / f"{number}.jpg", quality=90)
        offers.append(Offer(id=str(number), image=str(folder / f"{number}.jpg")))
    return offers


def plain(embedder: Embedder, offers: list[Offer]) -> np.ndarray:
    """As one writes it with sentence-transformers."""
    rows = []
    for start in range(0, len(offers), CHUNK):
        inputs = [embedder.input(offer) for offer in offers[start : start + CHUNK]]
        rows.append(embedder.model.encode(inputs, batch_size=BATCH, normalize_embeddings=True))
    return np.concatenate(rows)


def bulk(embedder: Embedder, offers: list[Offer], *, scaled_jpeg: bool = False) -> np.ndarray:
    """BulkEncoder."""
    encoder = BulkEncoder(embedder, batch_size=BATCH, images=ImageLoader(), scaled_jpeg=scaled_jpeg)
    windows = (Window(offers[start : start + WINDOW]) for start in range(0, len(offers), WINDOW))
    rows = []
    for encoded in encoder.encode(windows):
        if encoded.bad:
            raise SystemExit(f"not embedded: {encoded.bad}")
        rows.append(encoded.embeddings)
    return np.concatenate(rows)


def decoding(embedder: Embedder, offers: list[Offer], *, scaled_jpeg: bool = False) -> None:
    """Images alone."""
    resizing = Resizing.of(embedder.model.processor)
    reader = ReadAhead(ImageLoader(), workers=num_cores(), resizing=resizing, scaled_jpeg=scaled_jpeg)
    asked = [reader.ask(offer.image) for offer in offers]
    for image in asked:
        reader.wait(image)
        reader.release(image)
    reader.close()


def model_alone(embedder: Embedder, offers: list[Offer]) -> Callable[[], None]:
    """The forward passes over batches as plain sorts them, preprocessed here."""
    import torch

    inputs = [embedder.input(offer) for offer in offers]
    order = np.argsort([-len(offer.title) for offer in offers])
    batches = [
        embedder.model.preprocess([inputs[place] for place in order[start : start + BATCH]])
        for start in range(0, len(offers), BATCH)
    ]

    def forward() -> None:
        with torch.inference_mode():
            for batch in batches:
                embedder.model(dict(batch))

    return forward


def timed(work: Callable[[], Any]) -> tuple[dict[str, float], Any]:
    """Seconds, and cores got."""
    cpu, wall = time.process_time(), time.perf_counter()
    result = work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"seconds": wall, "cpu_seconds": cpu, "cores_got": cpu / wall}, result


def cosines(left: np.ndarray, right: np.ndarray) -> dict[str, float]:
    """Of rows with the same rows, and for comparison of each row with the next."""
    same, next_one = (left * right).sum(axis=1), (left * np.roll(left, 1, axis=0)).sum(axis=1)
    return {
        "min": float(same.min()),
        "mean": float(same.mean()),
        "share_from_0.999": float((same >= 0.999).mean()),
        "of_different_offers_mean": float(next_one.mean()),
    }


def measure(model: Path, offers: list[Offer], num_rounds: int) -> dict[str, Any]:
    """All ways, by turns."""
    import torch

    torch.set_num_threads(num_cores())
    embedder = Embedder.from_pretrained(model, device="cpu")
    embedder.model.eval()
    forward = model_alone(embedder, offers)
    ways: dict[str, Callable[[], Any]] = {
        "plain": lambda: plain(embedder, offers),
        "bulk": lambda: bulk(embedder, offers),
        "scaled": lambda: bulk(embedder, offers, scaled_jpeg=True),
        "model_alone": forward,
        "decoding_alone": lambda: decoding(embedder, offers),
        "decoding_scaled_alone": lambda: decoding(embedder, offers, scaled_jpeg=True),
    }
    names, rounds, rows = list(ways), [], {}
    plain(embedder, offers[:BATCH]), bulk(embedder, offers[:BATCH], scaled_jpeg=True)  # libraries are loaded
    for number in range(num_rounds):
        done = {}
        for name in names[number % len(names) :] + names[: number % len(names)]:  # nobody always follows the same one
            done[name], rows[name] = timed(ways[name])
            print(f"round {number + 1}, {name}: {json.dumps(rounded(done[name], DIGITS))}", flush=True)
        rounds.append({name: done[name] for name in names})
    speed = {name: len(offers) / statistics.median(one[name]["seconds"] for one in rounds) for name in names}
    ratios = {}
    for name in ("bulk", "scaled"):
        of_round = [one["plain"]["seconds"] / one[name]["seconds"] for one in rounds]
        of_cpu = [one["plain"]["cpu_seconds"] / one[name]["cpu_seconds"] for one in rounds]
        ratios[name] = {
            "median": statistics.median(of_round),
            "range": [min(of_round), max(of_round)],
            "processor_time_median": statistics.median(of_cpu),
        }
    return {
        "offers_per_second_median": speed,
        "ratio_to_plain": ratios,
        "largest_difference_of_bulk": float(np.abs(rows["plain"] - rows["bulk"]).max()),
        "cosine_of_scaled": cosines(rows["plain"], rows["scaled"]),
        "rounds": rounds,
    }


def memory_of(num_offers: int, model: Path, folder: Path) -> dict[str, Any]:
    """Peak memory of this process over `num_offers` offers: text, and a small image of 50 for every fourth."""
    embedder = Embedder.from_pretrained(model, device="cpu")
    encoder = BulkEncoder(embedder, batch_size=BATCH, images=ImageLoader())

    def windows() -> Iterator[Window]:
        for start in range(0, num_offers, WINDOW):
            yield Window(
                [
                    Offer(
                        id=str(place),
                        title=f"{WORDS[place % len(WORDS)]} {place}",
                        image=str(folder / f"{place % 50}.png") if place % 4 == 0 else "",
                    )
                    for place in range(start, min(start + WINDOW, num_offers))
                ]
            )

    started, count = time.perf_counter(), 0
    for encoded in encoder.encode(windows()):
        count += len(encoded.embeddings) - len(encoded.bad)
    return {"offers": count, "peak_mb": peak_bytes() / 2**20, "seconds": time.perf_counter() - started}


def memory() -> list[dict[str, Any]]:
    """Peak memory by number of offers, each in a process of its own."""
    from PIL import Image

    from afmrl.embedder.tiny import build_tiny_model

    found = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        build_tiny_model(
            [" ".join(WORDS)] * 50, folder / "model", vocab_size=400, hidden_size=64, num_layers=1, vision_layers=1
        )
        for number in range(50):
            Image.new("RGB", (64, 64), (5 * number, 100, 200)).save(folder / f"{number}.png")
        for num_offers in MEMORY_SIZES:
            found.append(in_own_process("embed_cost.py", "--child", num_offers, "--data", temporary))
            print(json.dumps(rounded(found[-1], DIGITS)), flush=True)
    return found


def write(name: str, value: Any) -> None:
    """Put one part into the results; the other parts stay."""
    known = json.loads(OUT.read_text(encoding="utf-8")) if OUT.is_file() else {}
    libraries = versions("torch", "sentence-transformers", "transformers", "pillow")
    settings = {"cores": num_cores(), "python": platform.python_version(), "versions": libraries, "batch_size": BATCH}
    known[name] = {"settings": settings, **rounded(value, DIGITS)}
    write_json(OUT, known)
    print(json.dumps({key: inner for key, inner in known[name].items() if key != "rounds"}, indent=1))


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path)
    parser.add_argument("--offers", type=int, default=800)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--photographs", type=Path)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(memory_of(given.child, given.data / "model", given.data)))
        return
    if given.memory:
        write("memory", {"runs": memory()})
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model = given.model
        if model is None:
            from afmrl.embedder.tiny import build_tiny_model

            model = build_tiny_model([" ".join(WORDS)] * 50, folder / "model")
        if given.photographs:
            offers = enlarged(given.photographs, folder, given.offers)
            embedder = Embedder.from_pretrained(model, device="cpu")
            exact, scaled = bulk(embedder, offers), bulk(embedder, offers, scaled_jpeg=True)
            write("photographs", {"offers": len(offers), "cosine_of_scaled": cosines(exact, scaled)})
            return
        offers = draw(folder, given.offers)
        num_bytes = sum(Path(offer.image).stat().st_size for offer in offers)
        found = measure(model, offers, given.rounds)
    part = "speed_small" if str(given.model) == SMALL else "speed"
    write(part, {"offers": len(offers), "bytes_a_image": num_bytes / len(offers), **found})


if __name__ == "__main__":
    main()
