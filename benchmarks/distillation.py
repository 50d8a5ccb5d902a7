"""How well a generator learns a teacher's labels: real titles with gold values, train split to test split.

    python benchmarks/distillation.py run [--sets …] [--systems …] [--seeds …]   # what is missing
    python benchmarks/distillation.py table                                      # Markdown

Sets: oa_mine and ae110k (ExtractGPT's subsets), text alone, every gold value is in its title. Systems: `copy`, the
plain baseline: each value of the category's training vocabulary that a title holds, the longest of a key; `copy-sure`:
the same with the values that were labels in at least half of the training titles that hold them; `rules`:
the rule-based extractor, its keys mapped to the set's where one means the same; `tiny-…`: the tiny generator, random
weights, SFT on the training split through `afmrl.training.sft`. All are told the category.

A value is right if it equals the gold one after `normalize_value`. A value for a key that the title is not labeled
with is wrong ("strict"), or passed over where the set does not say that the key is absent ("annotated": ae110k labels
only some of the keys of a title).
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from afmrl.attributes.extractor import AttributeExtractor
from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.attributes.schema import normalize_value
from afmrl.attributes.words import tokenize
from afmrl.data.catalog import read_catalog
from afmrl.data.offer import Offer
from afmrl.generator.prompt import GeneratorPrompt
from afmrl.terminal import quiet_libraries
from afmrl.training.config import Hardware, SFTStage
from cells import Cells
from common import add_data, run_and_table

SHOWN_KEYS = 10
SETS = ("oa_mine", "ae110k")
SCORING = {"oa_mine": "strict", "ae110k": "annotated"}
RULE_KEYS = {  # keys of the extractor by keys of the sets
    "oa_mine": {"brand": "brand", "color": "color", "pack": "pack size", "model": "model name", "volume": "volume"},
    "ae110k": {
        "brand": "brand name", "color": "color", "model": "model number", "weight": "weight", "length": "length",
        "power": "power", "pack": "quantity",
    },
}  # fmt: skip
PROMPT = GeneratorPrompt(category=True)
SFT = SFTStage(max_steps=3000, batch_size=16, warmup_steps=100)
TINY = {"tiny": 0.0, "tiny-invent": 0.7}
"""Share of the training offers with invented values, by system."""
NUM_RESAMPLES = 2000
Write = Callable[[list[Offer]], list[KeyAttributes]]


def load(data: Path, name: str, dev: bool) -> tuple[list[Offer], list[Offer]]:
    """Training and test offers; with `dev` both from the training split, every fifth offer to test."""
    offers = list(read_catalog(data / name / "products.jsonl"))
    train, test = ([offer for offer in offers if offer.extra["split"] == split] for split in ("train", "test"))
    if dev:
        return [offer for row, offer in enumerate(train) if row % 5], train[::5]
    return train, test


def gold(offer: Offer) -> KeyAttributes:
    """The labels, normalized."""
    return KeyAttributes.of(offer.attributes)


def copier(train: list[Offer], *, sure: float = 0.0) -> Write:
    """Values of the training vocabulary that a title holds as whole words, the longest for each key."""
    vocabulary: dict[str, dict[str, set[tuple[str, ...]]]] = defaultdict(lambda: defaultdict(set))
    spelling: dict[tuple[str, ...], str] = {}
    for offer in train:
        for key, value in gold(offer):
            words = tuple(tokenize(value))
            vocabulary[offer.category][key].add(words)
            spelling[words] = value

    def found(offer: Offer) -> dict[str, list[tuple[str, ...]]]:
        words = tokenize(offer.title)
        # the longest first, of equals the first in the title
        grams = [tuple(words[i : i + n]) for n in range(12, 0, -1) for i in range(len(words) - n + 1)]
        return {key: [gram for gram in grams if gram in values] for key, values in vocabulary[offer.category].items()}

    if sure:
        held: Counter[tuple[str, str, tuple[str, ...]]] = Counter()
        meant: Counter[tuple[str, str, tuple[str, ...]]] = Counter()
        for offer in train:
            of_offer = gold(offer).as_dict()
            for key, values in found(offer).items():
                for words in set(values):
                    held[offer.category, key, words] += 1
                    meant[offer.category, key, words] += tuple(tokenize(of_offer.get(key, ""))) == words
        for category, keys in vocabulary.items():
            for key, known in keys.items():
                keys[key] = {v for v in known if meant[category, key, v] >= sure * held[category, key, v]}

    def write(offers: list[Offer]) -> list[KeyAttributes]:
        return [
            KeyAttributes.of([(key, spelling[values[0]]) for key, values in found(offer).items() if values])
            for offer in offers
        ]

    return write


def ruler(train: list[Offer], name: str) -> Write:
    """The rule-based extractor, told the brands of the training split as the others are."""
    keys = RULE_KEYS[name]
    brands = [value for offer in train for key, value in gold(offer) if key == keys["brand"]]
    extractor = AttributeExtractor([*AttributeExtractor.learn(train).brands, *brands])

    def write(offers: list[Offer]) -> list[KeyAttributes]:
        blind = [dataclasses.replace(offer, attributes={}) for offer in offers]  # a seller's brand would be the answer
        return [
            KeyAttributes.of([(keys[key], value) for key, value in extractor.extract(offer) if key in keys])
            for offer in blind
        ]

    return write


def score(offers: list[Offer], written: list[KeyAttributes]) -> dict[str, Any]:
    """Precision, recall and F1, by key, micro and macro, both ways of scoring; intervals over titles."""
    counts: dict[str, dict[str, np.ndarray]] = {}
    keys = sorted({key for offer in offers for key, _ in gold(offer)})
    for scoring in ("strict", "annotated"):
        table = {key: np.zeros((len(offers), 3)) for key in keys}  # right, written, gold
        for row, (offer, attributes) in enumerate(zip(offers, written, strict=True)):
            truth = {key: normalize_value(value) for key, value in gold(offer)}
            absent = set(KeyAttributes.of([(key, "x") for key in offer.extra.get("absent_attributes", ())]).as_dict())
            said = {key: normalize_value(value) for key, value in attributes}
            for key, value in said.items():
                if key in truth or key in absent or scoring == "strict":
                    of_key = table.setdefault(key, np.zeros((len(offers), 3)))
                    of_key[row] += (truth.get(key) == value, 1, 0)
            for key in truth:
                table[key][row, 2] += 1
        counts[scoring] = table
    result: dict[str, Any] = {"num_titles": len(offers)}
    rng = np.random.default_rng(0)
    draws = rng.integers(0, len(offers), (NUM_RESAMPLES, len(offers)))
    for scoring, table in counts.items():
        by_key = {key: _prf(of_key.sum(axis=0)) | {"gold": int(of_key[:, 2].sum())} for key, of_key in table.items()}
        of_titles = np.sum(list(table.values()), axis=0)
        resampled = [_prf(of_titles[draw].sum(axis=0))["f1"] for draw in draws]
        macro = [of["f1"] for of in by_key.values() if of["gold"] >= 10]
        result[scoring] = {
            "micro": _prf(of_titles.sum(axis=0)),
            "micro_f1_interval": np.percentile(resampled, [2.5, 97.5]).round(4).tolist(),
            "macro_f1": round(float(np.mean(macro or [0.0])), 4),
            "macro_keys": len(macro),
            "by_key": dict(sorted(by_key.items(), key=lambda item: -item[1]["gold"])),
        }
    return result


def _prf(counts: np.ndarray) -> dict[str, float]:
    right, said, true = (float(number) for number in counts)
    precision, recall = right / said if said else 0.0, right / true if true else 0.0
    f1 = 2 * right / (said + true) if said + true else 0.0
    return {"precision": round(precision, 4), "recall": round(recall, 4), "f1": round(f1, 4)}


def seen_and_new(train: list[Offer], offers: list[Offer], written: list[KeyAttributes]) -> dict[str, Any]:
    """Recall of values that training held for that category and key, and of the others, which can only be copied."""
    known = {(offer.category, key, normalize_value(value)) for offer in train for key, value in gold(offer)}
    right: dict[bool, list[bool]] = {True: [], False: []}
    for offer, attributes in zip(offers, written, strict=True):
        said = {key: normalize_value(value) for key, value in attributes}
        for key, value in gold(offer):
            plain = normalize_value(value)
            right[(offer.category, key, plain) in known].append(said.get(key) == plain)
    return {
        name: {"gold": len(of), "recall": round(float(np.mean(of)), 4) if of else 0.0}
        for name, of in (("seen", right[True]), ("new", right[False]))
    }


def tiny(name: str, system: str, seed: int, train: list[Offer], work: Path) -> tuple[Write, dict[str, Any]]:
    """The tiny generator, trained."""
    from afmrl.embedder.tiny import build_tiny_model
    from afmrl.generator.generator import AttributeGenerator
    from afmrl.training.sft import run_sft
    from invented_values import draws_with_invented_values

    folder = work / f"{name}-{system}-seed{seed}"
    labels = [gold(offer) for offer in train]
    texts = [*(offer.title for offer in train), *map(str, labels), *(f"Category: {o.category}" for o in train)]
    build_tiny_model(texts, folder / "random", seed=seed)
    start = time.perf_counter()
    if share := TINY[system]:
        num_draws = len(train) * math.ceil(SFT.max_steps * SFT.batch_size / len(train))
        train, labels = draws_with_invented_values(train, labels, share, num_draws, seed)
    done = run_sft(
        SFT, folder / "random", train, labels, folder / "model", prompt=PROMPT,
        hardware=Hardware(save_steps=1000), seed=seed,
    )  # fmt: skip
    record = {
        "seconds": round(time.perf_counter() - start, 1),
        "config": {**SFT.model_dump(mode="json"), "seed": seed, "invented_values": TINY[system]},
        "last_loss": done["history"][-1]["loss"],
    }
    generator = AttributeGenerator.from_pretrained(folder / "model")

    def write(offers: list[Offer]) -> list[KeyAttributes]:
        found = generator.attributes(offers, max_new_tokens=128, batch_size=64)
        record["num_invalid"] = generator.num_invalid
        return found

    return write, record


def run_cell(name: str, system: str, seed: int, data: Path, work: Path, cells: Cells, dev: bool = False) -> None:
    """One system on one set, unless it is there."""
    if cells.get((name, system, seed)) is not None:
        return
    train, test = load(data, name, dev)
    record: dict[str, Any] = {}
    if system.startswith("tiny"):
        write, record = tiny(name, system, seed, train, work)
    elif system == "rules":
        write = ruler(train, name)
    else:
        write = copier(train, sure=0.5 if system == "copy-sure" else 0.0)
    written = write(test)
    metrics = {**score(test, written), "by_value": seen_and_new(train, test, written)}
    cells.put((name, system, seed), {**record, "metrics": metrics})
    of = metrics[SCORING[name]]
    print(
        f"{name} {system} seed {seed}: micro {of['micro']}, macro F1 {of['macro_f1']}, {metrics['by_value']}",
        flush=True,
    )


def table(cells: list[dict[str, Any]]) -> str:
    """Markdown of the cells that are there; seeds as mean."""
    lines = [
        "| set (scoring) | system | seeds | precision | recall | F1 [95 %] | macro F1 | recall, seen | new |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in SETS:
        for system in dict.fromkeys(["copy", "copy-sure", "rules", *TINY]):
            of = [cell for cell in cells if (cell["set"], cell["system"]) == (name, system)]
            if not of:
                continue
            scored = [cell["metrics"][SCORING[name]] for cell in of]

            def mean(values: list[float]) -> str:
                return f"{100 * np.mean(values):.1f}"

            micro = {name: mean([s["micro"][name] for s in scored]) for name in ("precision", "recall", "f1")}
            macro = mean([s["macro_f1"] for s in scored])
            low, high = np.mean([s["micro_f1_interval"] for s in scored], axis=0) * 100
            lines.append(
                f"| {name} ({SCORING[name]}) | {system} | {len(of)} | {micro['precision']} | "
                f"{micro['recall']} | {micro['f1']} [{low:.1f}, {high:.1f}] | {macro} | "
                f"{mean([c['metrics']['by_value']['seen']['recall'] for c in of])} | "
                f"{mean([c['metrics']['by_value']['new']['recall'] for c in of])} |"
            )
    return "\n".join([*lines, *_by_key(cells)])


def _by_key(cells: list[dict[str, Any]]) -> list[str]:
    """Precision, recall and F1 of each set's most frequent keys; seeds as mean."""
    lines = []
    for name in SETS:
        systems = [s for s in ("copy", *TINY) if any((c["set"], c["system"]) == (name, s) for c in cells)]
        of = {s: [c["metrics"][SCORING[name]]["by_key"] for c in cells if (c["set"], c["system"]) == (name, s)]
              for s in systems}  # fmt: skip
        if not systems:
            continue
        gold = {key: found["gold"] for key, found in of[systems[0]][0].items()}
        lines += ["", f"| {name}, P / R / F1 by key | values | " + " | ".join(systems) + " |"]
        lines.append("|---" * (2 + len(systems)) + "|")
        for key in sorted(gold, key=lambda key: (-gold[key], key))[:SHOWN_KEYS]:
            shown = [
                " / ".join(
                    f"{100 * np.mean([found[key][part] for found in of[s] if key in found]):.1f}"
                    for part in ("precision", "recall", "f1")
                )
                for s in systems
            ]
            lines.append(f"| {key} | {gold[key]} | " + " | ".join(shown) + " |")
    return lines


def main() -> None:
    """Parse the command line."""
    parser, _, run, _ = run_and_table(__doc__, "distillation")
    add_data(run)
    run.add_argument("--work", type=Path, default=Path("runs/distillation"), help="models")
    run.add_argument("--sets", nargs="+", choices=SETS, default=SETS)
    systems = ["copy", "copy-sure", "rules", *TINY]
    run.add_argument("--systems", nargs="+", choices=systems, default=systems)
    run.add_argument("--seeds", nargs="+", type=int, default=[0])
    run.add_argument("--dev", action="store_true", help="train and test on parts of the training split, to tune by")
    given = parser.parse_args()
    cells = Cells(given.results, "set", "system", "seed")
    if given.command == "run":
        quiet_libraries()
        for name in given.sets:
            for system in given.systems:
                for seed in given.seeds if system.startswith("tiny") else [0]:
                    run_cell(name, system, seed, given.data, given.work, cells, given.dev)
    print(table(cells.all()))


if __name__ == "__main__":
    main()
