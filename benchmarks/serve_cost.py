"""Requests a second and latencies of `afmrl serve`, beside the same server without batches and beside bulk embedding.

    python benchmarks/serve_cost.py run --work DIR                 # tiny and small, texts and texts with images
    python benchmarks/serve_cost.py run --work DIR --models tiny --content text --rounds 3
    python benchmarks/serve_cost.py table
    python benchmarks/serve_cost.py soak --work DIR --minutes 30   # memory at 80 % load

In turns, round by round:

- batched: `afmrl serve` as it is;
- unbatched: the same with `--limits.tokens 1 --limits.window 0`, so that each input is a pass of its own;
- bulk: `BulkEncoder` as `afmrl embed` uses it, batches of 64, over the same offers, the model loaded before.

A request is one input for `/v1/embeddings` with base64, as OpenAI's client asks. `--inputs 16` puts sixteen into one.
Each of 1, 8 and 64 clients asks again as soon as it has its answer. All clients are one thread with plain sockets, on
the same cores; what it costs is in the results. Titles are those of the package's real offers, each with a number of
its own; images are those of embed_cost.py, 200 to 2,000 pixels. Ratios are of one round; stated are median and range.
Latencies are of all rounds together. The tiny model has random weights and the size of the quickstart's.
OMP_NUM_THREADS holds for servers and bulk alike: give 1 where other programs share the cores, since threads of one
model then wait for each other. Writes benchmarks/results/serve_cost.json.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import dataclasses
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from afmrl.bulk.embeddings import EmbedWork
from afmrl.bulk.images.encoder import BulkEncoder
from afmrl.bulk.images.loader import ImageLoader
from afmrl.bulk.images.read_ahead import num_cores
from afmrl.bulk.job import BulkJob
from afmrl.bulk.work import EmbedOptions
from afmrl.data.offer import Offer
from afmrl.data.rows import CatalogFile
from afmrl.embedder.embedder import Embedder
from afmrl.files import write_json
from afmrl.index.update import update_index
from afmrl.sample.real_offers import NAME as REAL_OFFERS
from common import RESULTS, rounded, versions
from embed_cost import BATCH, WINDOW, WORDS, Window, draw
from http_load import Answers, load, request

OUT = RESULTS / "serve_cost.json"
CLIENTS = (1, 8, 64)
CONTENT = ("text", "image")
MODES = {"batched": (), "unbatched": ("--limits.tokens", "1", "--limits.window", "0")}
NUM_OFFERS = {("tiny", "text"): 1024, ("small", "text"): 512, ("tiny", "image"): 256, ("small", "image"): 192}
DIGITS = 4
WARM_UP_SECONDS = 20.0
LOAD = 0.8


def prepare(model: str, work: Path) -> tuple[str, Path]:
    """The model's folder or name, and an index of some of the offers."""
    from afmrl.embedder.tiny import build_tiny_model

    name = model
    if model == "tiny":
        name = str(work / "tiny")
        if not Path(name).is_dir():
            build_tiny_model([" ".join(WORDS)] * 50, Path(name))
    index = work / f"index-{model}"
    if not index.is_dir():
        rows = [{"id": str(number), "title": f"{WORDS[number % len(WORDS)]} {number}"} for number in range(500)]
        catalog = work / "offers.jsonl"
        catalog.write_text("".join(json.dumps(row) + "\n" for row in rows))
        BulkJob(CatalogFile(catalog), EmbedWork(EmbedOptions(model=name)), work / f"embeddings-{model}").run()
        update_index(work / f"embeddings-{model}", str(index))
    return name, index


def drawn_offers(model: str, content: str, work: Path) -> list[Offer]:
    """Offers that are asked for: texts alone, or with an image each."""
    texts = resources.files("afmrl.sample").joinpath(REAL_OFFERS).read_text(encoding="utf-8").splitlines()
    titles = [str(json.loads(line)["title"]) for line in texts]
    number = NUM_OFFERS[model, content]
    images = [""] * number
    if content == "image":
        folder = work / "images"
        folder.mkdir(exist_ok=True)
        images = [offer.image for offer in draw(folder, number)]
    # a number behind it: no text is asked for twice
    return [Offer(str(place), f"{titles[place % len(titles)]} {place}", image=images[place]) for place in range(number)]


def requests_of(offers: Sequence[Offer], inputs: int) -> list[bytes]:
    """Requests of so many offers each."""

    def body(offer: Offer) -> Any:
        if not offer.image:
            return offer.title
        return {"text": offer.title, "image": base64.b64encode(Path(offer.image).read_bytes()).decode()}

    bodies = [[body(offer) for offer in offers[start : start + inputs]] for start in range(0, len(offers), inputs)]
    return [
        request("/v1/embeddings", json.dumps({"model": "afmrl", "input": one, "encoding_format": "base64"}).encode())
        for one in bodies
    ]


@dataclasses.dataclass(frozen=True)
class Served:
    """A running server."""

    pid: int
    port: int

    @property
    def processor_seconds(self) -> float:
        """That it has used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def resident_bytes(self) -> int:
        """Its memory."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@contextlib.contextmanager
def served(index: Path, *options: str) -> Iterator[Served]:
    """`afmrl serve` in a process of its own."""
    command = [sys.executable, "-c", "from afmrl.cli.app import main; main()", "serve", str(index), "--port", "0"]
    process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if "http://" not in line:
            raise SystemExit(f"the server did not start: {line}")
        yield Served(process.pid, int(line.rstrip("/\n").rpartition(":")[2]))
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(90)


def asked(server: Served, requests: Sequence[bytes], clients: int, seconds: float, inputs: int) -> dict[str, Any]:
    """One measurement."""
    before = server.processor_seconds
    found = load(server.port, requests, clients=clients, seconds=seconds)
    if set(found.statuses) != {200}:
        raise SystemExit(f"answers other than 200: {found.statuses}")
    number = len(found.latencies)
    return {
        "inputs_per_second": inputs * found.per_second,
        "server_ms_an_input": 1000 * (server.processor_seconds - before) / number / inputs,
        "client_ms_an_input": 1000 * found.processor_seconds / number / inputs,
        "latencies": found.latencies,
    }


def bulk(embedder: Embedder, offers: Sequence[Offer]) -> dict[str, float]:
    """As `afmrl embed` embeds the same offers."""
    wall, cpu = time.perf_counter(), time.process_time()
    encoder = BulkEncoder(embedder, batch_size=BATCH, images=ImageLoader())
    done = 0
    for encoded in encoder.encode(Window(offers[start : start + WINDOW]) for start in range(0, len(offers), WINDOW)):
        done += len(encoded.embeddings) - len(encoded.bad)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"inputs_per_second": done / wall, "ms_an_input": 1000 * cpu / done, "cores_got": cpu / wall}


def measure(model: str, content: str, work: Path, num_rounds: int, seconds: float, inputs: int) -> dict[str, Any]:
    """All ways with one model and one kind of input, in turns."""
    import torch

    threads = torch.get_num_threads()
    name, index = prepare(model, work)
    offers = drawn_offers(model, content, work)
    requests = requests_of(offers, inputs)
    embedder = Embedder.from_pretrained(name, device="cpu")
    bulk(embedder, offers[:BATCH])
    cells = [(mode, clients) for clients in CLIENTS for mode in MODES]
    rounds: list[dict[str, Any]] = []
    with contextlib.ExitStack() as held:
        servers = {mode: held.enter_context(served(index, *options)) for mode, options in MODES.items()}
        for server in servers.values():
            load(server.port, requests[:64], clients=8, seconds=1)
        for number in range(num_rounds):
            done: dict[str, Any] = {}
            for mode, clients in cells if number % 2 == 0 else cells[::-1]:
                done[f"{mode} {clients}"] = asked(servers[mode], requests, clients, seconds, inputs)
            done["bulk"] = bulk(embedder, offers)
            rounds.append(done)
            shown = {key: round(one["inputs_per_second"], 1) for key, one in done.items()}
            print(f"{model}, {content}, round {number + 1}: {json.dumps(shown)}", flush=True)
    return summary(rounds) | {"offers": len(offers), "seconds": seconds, "inputs_a_request": inputs, "threads": threads}


def summary(rounds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Medians, ratios within a round, and latencies of all rounds together."""
    ways: dict[str, Any] = {}
    for way in rounds[0]:
        numbers = [name for name in rounds[0][way] if name != "latencies"]
        ways[way] = {name: statistics.median(one[way][name] for one in rounds) for name in numbers}
        if "latencies" in rounds[0][way]:
            pooled = np.concatenate([one[way]["latencies"] for one in rounds])
            ways[way] |= {
                "requests": len(pooled),
                "p50_ms": 1000 * float(np.quantile(pooled, 0.5)),
                "p99_ms": 1000 * float(np.quantile(pooled, 0.99)),
            }

    def ratio(over: str, under: str) -> list[float]:
        found = [one[over]["inputs_per_second"] / one[under]["inputs_per_second"] for one in rounds]
        return [statistics.median(found), min(found), max(found)]

    most = CLIENTS[-1]
    return {
        "ways": ways,
        "ratios": {
            "of_unbatched": ratio(f"batched {most}", f"unbatched {most}"),
            "of_bulk": ratio(f"batched {most}", "bulk"),
            "p99_at_one_client": ways["batched 1"]["p99_ms"] / ways["unbatched 1"]["p99_ms"],
            "p50_at_one_client": ways["batched 1"]["p50_ms"] / ways["unbatched 1"]["p50_ms"],
        },
    }


def soak(model: str, content: str, work: Path, minutes: float, inputs: int) -> dict[str, Any]:
    """Memory of a server under a load of 80 % of what it can do."""
    _, index = prepare(model, work)
    requests = requests_of(drawn_offers(model, content, work), inputs)
    with served(index) as server:
        load(server.port, requests, clients=CLIENTS[-1], seconds=WARM_UP_SECONDS)
        rate = LOAD * load(server.port, requests, clients=CLIENTS[-1], seconds=WARM_UP_SECONDS).per_second
        memory, statuses, latencies = [server.resident_bytes], dict[int, int](), list[float]()
        for minute in range(max(1, round(minutes))):
            found: Answers = load(server.port, requests, clients=CLIENTS[-1], seconds=60, rate=rate)
            memory.append(server.resident_bytes)
            latencies += found.latencies
            for status, count in found.statuses.items():
                statuses[status] = statuses.get(status, 0) + count
            print(f"minute {minute + 1}: {memory[-1] / 2**20:.1f} MB, {found.per_second:.1f} requests/s", flush=True)
    return {
        "requests_per_second": rate,
        "minutes": len(memory) - 1,
        "statuses": {str(status): count for status, count in sorted(statuses.items())},
        "p50_ms": 1000 * float(np.quantile(latencies, 0.5)),
        "p99_ms": 1000 * float(np.quantile(latencies, 0.99)),
        "memory_mb": [one / 2**20 for one in memory],
        "end_to_start": memory[-1] / memory[0],
    }


def write(part: str, value: dict[str, Any]) -> None:
    """Put one part into the results; the other parts stay."""
    known = json.loads(OUT.read_text(encoding="utf-8")) if OUT.is_file() else {}
    libraries = versions("torch", "sentence-transformers", "transformers", "fastapi", "uvicorn")
    known[part] = {"cores": num_cores(), "python": platform.python_version(), "versions": libraries, **value}
    write_json(OUT, rounded(known, DIGITS))


def table() -> None:
    """Print the results as a page has them."""
    known = json.loads(OUT.read_text(encoding="utf-8"))
    for name, part in known.items():
        if "ways" not in part:
            print(f"{name}: {json.dumps({key: part[key] for key in part if key not in ('versions', 'python')})}\n")
            continue
        print(f"{name}\n\n| clients | batched/s | unbatched/s | p50, ms | p99, ms |\n|---|---|---|---|---|")
        ways = part["ways"]
        for clients in CLIENTS:
            ours, theirs = ways[f"batched {clients}"], ways[f"unbatched {clients}"]
            print(
                f"| {clients} | {ours['inputs_per_second']:.0f} | {theirs['inputs_per_second']:.0f} "
                f"| {ours['p50_ms']:.1f} / {theirs['p50_ms']:.1f} | {ours['p99_ms']:.1f} / {theirs['p99_ms']:.1f} |"
            )
        busiest = ways[f"batched {CLIENTS[-1]}"]
        print(
            f"\nbulk {ways['bulk']['inputs_per_second']:.0f}/s, {ways['bulk']['ms_an_input']:.2f} ms; server "
            f"{busiest['server_ms_an_input']:.2f} ms, client {busiest['client_ms_an_input']:.2f} ms an input\n"
            f"{json.dumps(part['ratios'])}\n"
        )


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="measure")
    run.add_argument("--rounds", type=int, default=5)
    run.add_argument("--seconds", type=float, default=4.0, help="of one measurement")
    run.add_argument("--models", nargs="+", default=["tiny", "small"], choices=["tiny", "small"])
    run.add_argument("--content", nargs="+", default=list(CONTENT), choices=CONTENT)
    soaking = commands.add_parser("soak", help="memory under load")
    soaking.add_argument("--minutes", type=float, default=30.0)
    soaking.add_argument("--model", default="tiny", choices=["tiny", "small"])
    soaking.add_argument("--content", default="image", choices=CONTENT)
    for one in (run, soaking):
        one.add_argument("--work", type=Path, required=True, help="folder for models, images and indexes")
        one.add_argument("--inputs", type=int, default=1, help="of one request")
    commands.add_parser("table", help="print the results")
    given = parser.parse_args()
    if given.command == "table":
        table()
        return
    given.work.mkdir(parents=True, exist_ok=True)
    suffix = f" {given.inputs} inputs" if given.inputs > 1 else ""
    if given.command == "soak":
        found = soak(given.model, given.content, given.work, given.minutes, given.inputs)
        write(f"soak {given.model} {given.content}{suffix}", found)
        print(json.dumps(found))
        return
    for model in given.models:
        for content in given.content:
            found = measure(model, content, given.work, given.rounds, given.seconds, given.inputs)
            write(f"{model} {content}{suffix}", found)
            print(json.dumps(found["ratios"]), flush=True)


if __name__ == "__main__":
    main()
