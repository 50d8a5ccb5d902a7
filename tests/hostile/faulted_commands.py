"""Every long command, killed or out of room at the n-th moment, read by others, and given again.

    python tests/hostile/faulted_commands.py '{"quickstart": RUN, "folder": WORK, "trials": {"kill": 100}}'

prints one line of JSON a trial. It imports the libraries once and forks for each trial.
"""

import json
import os
import random
import re
import shutil
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from afmrl.errors import InputError
from hostile.faults import Fault, copied, ended, forked, started

INCOMPLETE = "incomplete"


# what a reader finds


def read_bulk(out):
    from afmrl.bulk.folder import BulkFolder

    rows, count = {}, 0
    folder = BulkFolder.open(out)
    for batch in folder.batches():
        for row in batch.to_pylist():
            rows[row["id"]] = row
            count += 1
    assert count == len(rows) == len(folder), "a row is there twice, or the manifest counts wrongly"
    return sorted(rows.items()), folder.manifest["quarantined"]  # quarantine.jsonl is of the last run, complete or not


def read_index(out):
    from afmrl.index.address import open_index

    with open_index(str(out)) as index:
        while True:  # each call sees the last version: another one may have come between two of them
            version = index.version
            index.check()
            rows = {}
            for batch in index.scan():
                for row in zip(batch.ids, batch.embeddings.tolist(), batch.offers, batch.key_attributes, strict=True):
                    assert row[0] not in rows, "a row is there twice"
                    rows[row[0]] = row[1:]
            count = len(index)
            hits = index.search(batch.embeddings[:3], 3) if rows else None
            words = index.lexical(["bag"], 3)
            if index.version == version:
                break
        assert len(rows) == count
        return sorted(rows.items()), hits and hits.ids, words.ids


def read_files(*last):
    """Reads a folder's files, whole if the `last` one is there."""

    def read(out):
        before = [mark(out / name) for name in last]
        found = {path.name: path.read_bytes() for path in sorted(out.iterdir()) if path.is_file()
                 and not path.name.startswith(".") and path.suffix != ".tmp"}  # fmt: skip
        if None in before or (len(found) > 1 and before != [mark(out / name) for name in last]):
            raise InputError(f"{out}: is not complete, or being written")
        return found

    def mark(path):
        try:
            status = path.stat()
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_mtime_ns

    return read


def read_update(out):
    """The files of a match that was updated; events without their time."""
    found = read_files("summary.json", "report.html")(out)
    found["events.jsonl"] = re.sub(rb'"when": "[^"]*"', b"", found.get("events.jsonl", b""))
    # checksums are of events with their time
    of_events = rb'"events.jsonl": {[^}]*}|"checksum": "[^"]*"'
    found["summary.json"] = re.sub(of_events, b"", found["summary.json"])
    return found


def read_run(out):
    """What a run is for: the published models, and what they were measured to be."""
    from afmrl.files import file_hash

    metrics = read_json(out / "metrics.json")
    record = read_json(out / "run.json")
    if not (out / "report.html").is_file():
        raise InputError(f"{out}: has no report.html")
    weights = file_hash(out / "embedder" / "model.safetensors")
    # RAR samples anew in each process, and what follows from it
    rows = {name: of for name, of in metrics["rows"].items() if not name.startswith(("rar", "cit", "published"))}
    assert len([p for p in out.rglob("*.safetensors") if "best" in p.name]) == 0
    return weights, rows, metrics["floors"], record["recipe"], sorted(metrics["attribute_accuracy"]["sft"])


def read_json(path):
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error


@dataclass
class Command:
    """One long command, with what was there before it."""

    name: str
    arguments: list
    read: object
    start: Path | None = None
    weight: float = 1.0
    """Of its moments, how many are tried beside the other commands'."""
    also: tuple = ()
    """What a reader may find beside the earlier version and the new one."""
    repeats: bool = True
    """Given again after it was complete, it ends the same; otherwise it says what changed since itself."""
    new: str = ""
    old: str = ""
    names: set = field(default_factory=set)
    trail: list = field(default_factory=list)


def found_by(command, out):
    """What a reader finds, as a text that can be compared."""
    while True:
        try:
            return repr(command.read(out))
        except InputError as error:
            if "open it again" not in str(error):
                return INCOMPLETE
        except FileNotFoundError:  # of a folder whose files are replaced one by one
            return INCOMPLETE


def write_catalogs(quickstart, folder):
    lines = (quickstart / "catalog" / "catalog.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    for row in rows:
        row["image"] = str(quickstart / "catalog" / row["image"])
        row = {name: row[name] for name in ("id", "title", "image", "category", "product_id", "split", "role")}
    first = rows[:34] + [{"id": "bad", "title": "", "image": ""}]
    second = [{**row, "title": row["title"] + " new"} if n < 6 else row for n, row in enumerate(rows[4:46])]
    for name, of in (("first", first), ("second", second), ("few", rows[:120] + rows[-60:])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in of))


RECIPE = """
name: killed
catalog: {sample: {families: {train: 8, reward: 4, val: 2, test: 3}}}
tiny: {vocab_size: 400, num_layers: 1, hidden_size: 32, pretrain: {max_steps: 3, batch_size: 8, learning_rate: 3.0e-3}}
sft: {max_steps: 3, batch_size: 8}
agcl: {max_steps: 3, batch_size: 16, temperature: 0.05, agreement_min_shared: 3}
rar: {max_steps: 2, eval_steps: 1, prompts_per_step: 2, num_generations: 2, teachable_only: false, max_new_tokens: 8}
hardware: {save_steps: 1}
evaluation: {fuse: true, floors: [bm25]}
"""


def commands(quickstart, folder):
    embedder, generator = quickstart / "embedder", quickstart / "generator"
    out = folder / "out"
    bulk = ["--batch-size", "1", "--shard-rows", "16", "--max-bad", "0.5"]
    embed = ["embed", "{catalog}", "--model", embedder, "--out", out, *bulk]
    write = ["attributes", "{catalog}", "--generator", generator, "--out", out, *bulk, "--max-new-tokens", "8"]
    made = folder / "made"
    match = ["match", folder / "second.jsonl", "--out", out]
    evaluate = ["evaluate", "--catalog", folder / "few.jsonl", "--split", "all", "--out", out]
    index = ["index", f"{made}/{{embeddings}}", "--out", out, "--exact-below", "8"]

    split = ["dataset", "split", folder / "second.jsonl", "--out", out / "split.jsonl"]

    def with_(arguments, **values):
        return [str(argument).format(**values) for argument in arguments]

    first, second = folder / "first.jsonl", folder / "second.jsonl"
    return [
        Command("embed", with_(embed, catalog=first), read_bulk),
        Command("embed again", with_(embed, catalog=second), read_bulk, made / "embed"),
        Command("attributes", with_(write, catalog=first), read_bulk),
        Command("attributes again", with_(write, catalog=second), read_bulk, made / "attributes"),
        # an index is made empty, and filled in one step
        Command("index", with_(index, embeddings="embed"), read_index, also=("([], None, [[]])",)),
        Command("index again", [*with_(index, embeddings="embed again"), "--mirror"], read_index, made / "index"),
        Command("match", match, read_files("summary.json", "report.html"), also=(INCOMPLETE,)),
        Command(
            "match of first", ["match", folder / "first.jsonl", "--out", out, "--max-bad", "0.5"], read_update,
            also=(INCOMPLETE,),
        ),
        Command(
            "match again", [*match, "--threshold", "0.5", "--previous", out], read_files("summary.json", "report.html"),
            made / "match", also=(INCOMPLETE,), repeats=False,
        ),
        Command(
            "match update", ["match", folder / "second.jsonl", "--update", out, "--mirror"], read_update,
            made / "match of first", also=(INCOMPLETE,),
        ),
        Command(
            "evaluate", [*evaluate, "--model", "bm25"], read_files("metrics.json", "report.html"),
            also=(INCOMPLETE,),
        ),
        Command(
            "evaluate again", [*evaluate, "--model", "tfidf", "--slices"], read_files("metrics.json", "report.html"),
            made / "evaluate", also=(INCOMPLETE,),
        ),
        Command("split", split, read_files("split.jsonl")),
        Command("match otherwise", [*match, "--no-labels"], read_files("summary.json", "report.html")),
        Command("evaluate otherwise", [*evaluate, "--model", "tfidf"], read_files("metrics.json", "report.html")),
        Command("split otherwise", [*split, "--seed", "1"], read_files("split.jsonl")),
        Command("run", ["run", folder / "recipe.yaml", "--out", out], read_run, weight=1.0, also=(INCOMPLETE,)),
        Command(
            "run again", ["run", folder / "recipe.yaml", "--out", out, "--agcl.max_steps=2", "--rar.max_steps=0"],
            read_run, made / "run", weight=0.5, also=(INCOMPLETE,),
        ),
    ]  # fmt: skip


def imported():
    """Import what the commands import, once."""
    os.environ["COLUMNS"] = "300"
    import pandas  # noqa: F401
    import sentence_transformers  # noqa: F401
    import torch
    import transformers  # noqa: F401
    import trl  # noqa: F401
    from PIL import Image
    from transformers import AutoModel, AutoProcessor, Trainer  # noqa: F401
    from trl import GRPOTrainer, SFTTrainer  # noqa: F401

    import afmrl.bulk.attributes
    import afmrl.bulk.embeddings
    import afmrl.bulk.job
    import afmrl.cli.app
    import afmrl.evaluation.evaluate
    import afmrl.index.local.index
    import afmrl.index.update
    import afmrl.matching.match
    import afmrl.matching.update
    import afmrl.report.evaluation_page
    import afmrl.report.match_page
    import afmrl.training.run

    torch.set_num_threads(1)
    Image.init()
    # a shard a task: what a job of hours does between its saves
    afmrl.bulk.job.BulkJob.__init__.__kwdefaults__["save_seconds"] = 0.0


def run_command(arguments, fault=None):
    from afmrl.cli.app import main

    sys.argv = ["afmrl", *map(str, arguments)]
    if fault is not None:
        fault.install()
    main()


def names_of(out):
    """The files of a folder, numbers aside."""
    return {
        re.sub(r"\d+", "#", str(path.relative_to(out))) for path in out.rglob("*")
        if path.is_file() and path.name not in (".lock", "lock")  # they stay
    }  # fmt: skip


class Trials:
    def __init__(self, quickstart, folder):
        self.folder = Path(folder).resolve()
        self.out, self.log = self.folder / "out", self.folder / "log.txt"
        self.folder.mkdir(parents=True, exist_ok=True)
        write_catalogs(Path(quickstart).resolve(), self.folder)
        (self.folder / "recipe.yaml").write_text(RECIPE)
        self.commands = commands(Path(quickstart).resolve(), self.folder)

        self.by_name = {command.name: command for command in self.commands}

    def call(self, command, fault=None):
        return forked(lambda: run_command(command.arguments, fault), self.log)

    def found(self, command, folder=None):
        """What a reader finds, or INCOMPLETE; another process reads, which remembers nothing."""
        result = self.folder / "found.txt"
        code = forked(lambda: result.write_text(found_by(command, folder or self.out)), self.log)
        return result.read_text() if code == 0 else f"reader failed: {self.text()[-2000:]}"

    def text(self):
        return self.log.read_text(errors="replace")

    def prepare(self, command):
        """The result without a fault, and the number of moments."""
        copied(command.start, self.out)
        command.old = self.found(command)
        trail = self.folder / "trail.json"

        def counted():
            fault = Fault(0, "count", self.out)
            try:
                run_command(command.arguments, fault)
            finally:
                trail.write_text(json.dumps(fault.trail))

        code = forked(counted, self.log)
        assert code == 0, (command.name, code, self.text()[-3000:])
        command.trail = json.loads(trail.read_text())
        command.new, command.names = self.found(command), names_of(self.out)
        assert command.new != INCOMPLETE and "reader failed" not in command.new[:20], (command.name, command.new)
        made = self.folder / "made" / command.name
        shutil.rmtree(made, ignore_errors=True)
        shutil.copytree(self.out, made)

    def trial(self, command, kind, moment):
        copied(command.start, self.out)
        faults = []
        code = self.call(command, Fault(moment, kind, self.out))
        text = self.text()
        where = command.trail[moment - 1] if moment <= len(command.trail) else "?"
        if kind == "kill" and code not in (-9, 0):
            faults.append(f"exit code {code}: {text[-1500:]}")
        if kind == "full":
            if "Traceback" in text:
                faults.append(f"traceback: {text[-2500:]}")
            elif code != 0:
                said = [line for line in text.splitlines() if line.startswith("afmrl: ") and "offers of" not in line]
                if code != 2 or len(said) != 1 or str(self.out) not in said[0]:
                    faults.append(f"exit code {code}, said {said}: {text[-1500:]}")
        seen = self.found(command)
        allowed = [command.old, command.new, *command.also]
        if not any(seen == one for one in allowed):
            faults.append(f"a reader found neither the old nor the new: {str(seen)[:1500]}")
        code_of_first = code
        code = self.call(command)
        if code != 0:
            faults.append(f"given again: exit code {code}: {self.text()[-2500:]}")
        else:
            again = self.found(command)
            done = seen == command.new and not command.repeats
            if again != command.new and not done:
                faults.append(f"given again: another result: {difference(again, command.new)}")
            if (names := names_of(self.out)) != command.names:
                faults.append(f"given again: other files: {sorted(names ^ command.names)}")
        return {"command": command.name, "kind": kind, "moment": moment, "where": where, "code": code_of_first,
                "faults": faults}  # fmt: skip

    def race(self, kind, seed):
        """Two writers of one folder at a time, and two readers; what did not hold."""
        first, second = (self.by_name[name] for name in RACES[kind])
        start = None if kind == "index" else self.folder / "made" / RACES[kind][0]
        copied(self.folder / "made" / "index" if kind == "index" else start, self.out)
        old = self.found(first)
        stop, logs = self.folder / "stop", [self.folder / f"log{n}.txt" for n in range(4)]
        stop.unlink(missing_ok=True)

        def write(command, wait):
            time.sleep(wait)
            run_command(command.arguments)

        def read(number):
            seen, count = [], 0
            while not stop.exists() or not count:
                value = found_by(first, self.out)
                count += 1
                if value not in seen:
                    seen.append(value)
            (self.folder / f"seen{number}.json").write_text(json.dumps([count, seen]))

        draw = random.Random(f"{kind} {seed}")
        works = [lambda: write(first, 0.0), lambda: write(second, draw.choice((0.0, 0.05, 0.3))),
                 lambda: read(2), lambda: read(3)]  # fmt: skip
        children = [started(work, log) for work, log in zip(works, logs, strict=True)]
        codes = [ended(child) for child in children[:2]]
        stop.write_text("")
        read_codes = [ended(child) for child in children[2:]]
        texts = [log.read_text(errors="replace") for log in logs]
        faults = [f"a reader failed: {texts[n + 2][-1500:]}" for n, code in enumerate(read_codes) if code]
        for code, text in zip(codes, texts, strict=False):
            said = [line for line in text.splitlines() if line.startswith("afmrl: ") and "offers of" not in line]
            if code not in (0, 2) or (code == 2 and not (len(said) == 1 and "another process" in said[0])):
                faults.append(f"a writer ended with {code}: {text[-1500:]}")
        allowed, reads = [old, first.new, second.new, *first.also], 0
        for number in (2, 3) if not any(read_codes) else ():
            count, seen = json.loads((self.folder / f"seen{number}.json").read_text())
            reads += count
            faults += [f"a reader found what nobody wrote: {str(one)[:800]}" for one in seen if one not in allowed]
        last = self.found(first)
        if last not in (first.new, second.new):
            faults.append(f"what is left is of neither: {difference(last, first.new)}")
        if left := [name for name in names_of(self.out) if name.endswith(".tmp")]:
            faults.append(f"left over: {left}")
        return {"race": kind, "codes": codes, "reads": reads, "faults": faults}


RACES = {
    "embed": ("embed", "embed again"),
    "attributes": ("attributes", "attributes again"),
    "index": ("index again", "index again"),
    "match": ("match", "match otherwise"),
    "evaluate": ("evaluate", "evaluate otherwise"),
    "split": ("split", "split otherwise"),
}
"""Kind of folder -> the commands that write one at a time."""


def difference(one, other):
    """Where two texts begin to differ."""
    place = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return [text[max(0, place - 100) : place + 200] for text in (one, other)]


def drawn(command, count, where, draw):
    """Moments of a command: one of each kind of moment first, then others."""
    order = [n for n, at in enumerate(command.trail, 1) if re.search(where, at)]
    draw.shuffle(order)
    kinds = {}
    for moment in order:
        kinds.setdefault(re.sub(r"\d+", "#", command.trail[moment - 1]), []).append(moment)
    rounds = range(max(map(len, kinds.values()), default=0))
    return sorted([group[n] for n in rounds for group in kinds.values() if n < len(group)][:count])


def main(quickstart, folder, trials=None, seed=0, only=(), moments=(), where="", races=0):
    """See the module; `trials`: kind of fault -> how many."""
    trials = {"kill": 60} if trials is None else trials
    began = time.monotonic()
    imported()
    work = Trials(quickstart, folder)
    if races:
        for name in [one.name for one in work.commands if not one.name.startswith("run")]:
            work.prepare(work.by_name[name])
        for of in only or RACES:
            for number in range(races):
                print(json.dumps(work.race(of, seed + number)), flush=True)
        return
    chosen = []
    needed = set(only)
    for name in only:
        needed |= {name.removesuffix(" again"), *({"match of first"} if name == "match update" else ())}
        if "index" in name:
            needed |= {"embed", "embed again"}
    for command in work.commands:
        if command.name not in needed if only else command.name.endswith("otherwise"):
            continue
        work.prepare(command)
        print(json.dumps({"command": command.name, "moments": len(command.trail)}), flush=True)
        if not only or command.name in only:
            chosen.append(command)
    draw, number = random.Random(seed), 0
    for kind, count in trials.items():
        for command in chosen:
            wanted = max(1, round(count / len(chosen) * command.weight))
            for moment in moments or drawn(command, wanted, where, draw):
                print(json.dumps(work.trial(command, kind, moment)), flush=True)
                number += 1
    used = round(sum(os.times()[:4]))
    print(json.dumps({"trials": number, "seconds": round(time.monotonic() - began), "cpu": used}), flush=True)


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
