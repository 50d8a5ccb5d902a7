"""Cost of a match from 10,000 to 1,000,000 synthetic offers without images, and of an update with 1,000 new ones."""

from __future__ import annotations

import json
import math
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from afmrl.files import write_json
from afmrl.matching.group_ids import read_group_ids
from common import in_own_process

KINDS_TEXT = "drill saw lamp kettle router camera headset keyboard printer monitor speaker charger blender toaster"
KINDS = KINDS_TEXT.split()
COLORS_TEXT = "black white red blue green silver yellow"
COLORS = COLORS_TEXT.split()
WORDS_TEXT = "cordless compact professional wireless digital portable classic smart eco turbo premium home office"
WORDS = WORDS_TEXT.split()
MORE_TEXT = "new original with warranty fast shipping retail box set edition quality genuine offer"
MORE = MORE_TEXT.split()


def synthetic(path: Path, num_offers: int, seed: int = 0) -> dict[str, int]:
    """Titles in families of siblings: one brand and series, models of one scheme, colors, capacities.

    Half of the products have two offers, a quarter one, a quarter three; shops reorder words, leave some out, add
    others. As a catalog grows so do its brands, series and models. Returns offer id → product.
    """
    draw = np.random.default_rng(seed)
    products: dict[str, int] = {}
    number = product = 0
    with open(path, "w", encoding="utf-8") as file:
        while number < num_offers:
            brand = f"{_word(draw, max(30, num_offers // 400))}co"
            series = _word(draw, 50_000)
            kind = KINDS[draw.integers(len(KINDS))]
            words = [WORDS[i] for i in draw.choice(len(WORDS), 3, replace=False)]
            prefix = "".join(chr(97 + i) for i in draw.integers(26, size=2))
            base = int(draw.integers(1000, 9000))
            for sibling in range(int(draw.integers(2, 9))):
                model = f"{prefix}{base + 10 * sibling}"
                color = COLORS[draw.integers(len(COLORS))]
                size = f"{int(2 ** draw.integers(3, 10))}gb"
                for _ in range(int(draw.choice([1, 2, 2, 3]))):
                    parts = [brand, series, *words, kind]
                    parts = [part for part in parts if draw.random() < 0.9]
                    parts += [model] if draw.random() < 0.85 else []
                    parts += [color] if draw.random() < 0.8 else []
                    parts += [size] if draw.random() < 0.8 else []
                    parts += [MORE[i] for i in draw.integers(len(MORE), size=int(draw.integers(0, 3)))]
                    if draw.random() < 0.5:
                        draw.shuffle(parts)
                    identifier = f"o{number:08}"
                    file.write(json.dumps({"id": identifier, "title": " ".join(parts) or kind}) + "\n")
                    products[identifier] = product
                    number += 1
                    if number == num_offers:
                        return products
                product += 1
    return products


def _word(draw: np.random.Generator, size: int) -> str:
    number = int(draw.integers(size))
    sounds_TEXT = "ba ce di fo gu ha je ki lo mu na pe ri so tu va we xi yo zu"
    sounds = sounds_TEXT.split()
    return "".join(sounds[(number // 20**place) % 20] for place in range(4))


def run_one(num_offers: int) -> None:
    """One size, in this process; prints its measurement as JSON."""
    from afmrl.matching.match import match

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "offers.jsonl"
        products = synthetic(path, num_offers)
        base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started, cpu = time.perf_counter(), time.process_time()
        result = match(path, out=Path(folder) / "out", progress=sys.stderr.isatty())
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
        groups = [group.ids for group in result.groups]
        same = sum(len(group) * (len(group) - 1) // 2 for group in groups)
        true = sum(
            products[a] == products[b] for group in groups for place, a in enumerate(group) for b in group[place + 1 :]
        )
        sizes = np.bincount(np.array(list(products.values())))
        print(
            json.dumps(
                {
                    "offers": num_offers,
                    "seconds": round(seconds, 1),
                    "cpu_seconds": round(cpu, 1),
                    "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
                    "before_mb": round(base / 1024),
                    "pairs_compared": result.summary["pairs_compared"],
                    "pairs_listed": result.summary["pairs_listed"],
                    "largest_group": result.summary["largest_group"],
                    "precision": round(true / max(same, 1), 4),
                    "recall": round(true / int((sizes * (sizes - 1) // 2).sum()), 4),
                }
            )
        )


def run_update(num_offers: int, num_new: int, path: Path) -> None:
    """A match of some offers, an update with new ones, and a match of all: seconds, and how much their groups agree.

    The new offers are drawn at random, so that most of them belong to products that are there.
    """
    from afmrl.matching.match import match
    from afmrl.matching.update import update_match

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        products = synthetic(folder / "all.jsonl", num_offers + num_new)
        lines = (folder / "all.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        is_new = np.zeros(len(lines), dtype=bool)
        is_new[np.random.default_rng(1).choice(len(lines), num_new, replace=False)] = True
        for part, wanted in (("first", False), ("new", True)):
            of_part = (line for line, new in zip(lines, is_new, strict=True) if new == wanted)
            (folder / f"{part}.jsonl").write_text("".join(of_part), encoding="utf-8")
        timings = {}

        def timed(step: str, work: Callable[[], Any]) -> Any:
            started, cpu = time.perf_counter(), time.process_time()
            found = work()
            timings[step] = {
                "seconds": round(time.perf_counter() - started, 1),
                "cpu_seconds": round(time.process_time() - cpu, 1),
            }
            print(step, timings[step], flush=True)
            return found

        timed("first", lambda: match(folder / "first.jsonl", out=folder / "out"))
        done = timed("update", lambda: update_match(folder / "out", folder / "new.jsonl"))
        updated = read_group_ids(folder / "out")
        peak = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        size = sum(file.stat().st_size for file in (folder / "out").iterdir())
        kept = (folder / "out" / "kept.bin").stat().st_size
        timed("all", lambda: match(folder / "all.jsonl", out=folder / "whole"))
        whole = read_group_ids(folder / "whole")
        pairs = [_pairs(groups) for groups in (updated, whole, products)]
        new = {json.loads(line)["id"] for line in (folder / "new.jsonl").read_text(encoding="utf-8").splitlines()}
        of_new = [{pair for pair in found if not new.isdisjoint(pair)} for found in pairs]
        write_json(
            path,
            {
                "machine": platform.processor() or platform.machine(),
                "offers": num_offers,
                "new": num_new,
                **timings,
                "peak_mb": peak,
                "folder_mb": round(size / 1e6),
                "kept_mb": round(kept / 1e6),
                "pairs_compared": done.summary["pairs_compared"],
                "offers_grouped_again": done.summary["update"]["offers_grouped_again"],
                "changes": done.summary["changes"],
                "pairs_of_both": round(len(pairs[0] & pairs[1]) / len(pairs[0] | pairs[1]), 5),
                **{
                    name: {
                        "precision": round(len(found & of_new[2]) / len(found), 4),
                        "recall": round(len(found & of_new[2]) / len(of_new[2]), 4),
                    }
                    for name, found in (("updated_pairs_of_new", of_new[0]), ("whole_pairs_of_new", of_new[1]))
                },
            },
        )
        print(path.read_text(encoding="utf-8"))


def _pairs(groups: Mapping[str, object]) -> set[tuple[str, str]]:
    """Every two offers of one group."""
    members: dict[object, list[str]] = {}
    for name, group in sorted(groups.items()):
        members.setdefault(group, []).append(name)
    return {pair for of in members.values() for pair in combinations(of, 2)}


def run(sizes: list[int], path: Path) -> None:
    """Every size in a process of its own, so that its peak memory is its own; kept beside what was measured before."""
    known = json.loads(path.read_text(encoding="utf-8"))["sizes"] if path.is_file() else []
    by_size = {row["offers"]: row for row in known}
    for size in sizes:
        by_size[size] = in_own_process("match.py", "one", size)
        print(by_size[size], flush=True)
        rows = [by_size[size] for size in sorted(by_size)]
        write_json(path, {"machine": platform.processor() or platform.machine(), "sizes": rows, **_exponents(rows)})


def _exponents(rows: list[dict[str, float]]) -> dict[str, object]:
    if len(rows) < 2:
        return {}
    logs = [(math.log(row["offers"]), math.log(row["cpu_seconds"]), math.log(row["peak_mb"])) for row in rows]
    between = [
        {"from": a["offers"], "to": b["offers"], "time": round((y[1] - x[1]) / (y[0] - x[0]), 3)}
        for a, b, x, y in zip(rows, rows[1:], logs, logs[1:], strict=False)
    ]
    sizes, times, memory = np.array(logs).T
    return {
        "exponent_time": round(float(np.polyfit(sizes, times, 1)[0]), 3),
        "exponent_memory": round(float(np.polyfit(sizes, memory, 1)[0]), 3),
        "between": between,
    }
