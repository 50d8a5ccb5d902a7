"""Work of bulk jobs without a model, and runs of it that die at a given moment."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas  # noqa: F401  # pyarrow imports it when it first sees an array: before the forks, as it takes longest
import pyarrow.parquet

from afmrl.bulk.folder import EMBEDDINGS, BulkFolder, embeddings_of, schema
from afmrl.bulk.job import BulkJob
from afmrl.bulk.work import TaskResult, WorkDescription, embedding_array, record_batch
from afmrl.data.rows import CatalogFile
from afmrl.files import fingerprint, hash64

DIMENSION = 4


def embedding(title, version="1"):
    """What the fake work makes of a title."""
    return np.random.default_rng(int(hash64([title + version])[0])).normal(size=DIMENSION).astype(np.float32)


@dataclass(frozen=True)
class FakeOptions:
    """Options whose work embeds by hash."""

    version: str = "1"
    window: int = 8
    log: str = ""
    """File that gets the id of each offer that was worked on."""
    dies_once: str = ""
    """The process that first works on the offer of this id kills itself."""

    def load(self):
        return FakeWork(self)


class FakeWork:
    """Embeds by hash; an offer titled "unreadable" is bad."""

    def __init__(self, options=None):
        self.options = options or FakeOptions()

    def describe(self):
        made_by = fingerprint("fake", self.options.version)
        manifest = {"model": {"path": "fake", "fingerprint": made_by}, "dimension": DIMENSION, "dtype": "float32"}
        return WorkDescription(
            EMBEDDINGS, made_by, schema(EMBEDDINGS, dimension=DIMENSION, dtype="float32"), manifest, self.options.window
        )

    def run(self, tasks):
        for task in tasks:
            if self.options.dies_once:
                self._die(task)
            places = [place for place, offer in enumerate(task.offers) if offer.title != "unreadable"]
            if self.options.log:
                with open(self.options.log, "a") as log:
                    log.writelines(f"{task.offers[place].id}\n" for place in places)
            vectors = [embedding(task.offers[place].title, self.options.version) for place in places]
            column = embedding_array(np.array(vectors).reshape(-1, DIMENSION), "float32")
            attributes = task.key_attributes and [task.key_attributes[place] for place in places]
            rows = record_batch(
                self.describe().schema, task, places, self.describe().fingerprint, attributes, {"embedding": column}
            )
            bad = {place: ("image", "unreadable") for place in range(len(task.offers)) if place not in places}
            yield TaskResult(task, rows, bad)

    def _die(self, task):
        marker, identifier = self.options.dies_once.split("=")
        if any(offer.id == identifier for offer in task.offers) and not os.path.exists(marker):
            Path(marker).touch()
            os.kill(os.getpid(), signal.SIGKILL)


def write_rows(path, rows):
    """A catalog of (id, title) pairs."""
    lines = (json.dumps({"id": identifier, "title": title}) + "\n" for identifier, title in rows)
    Path(path).write_text("".join(lines), encoding="utf-8")
    return path


def run_job(catalog, out, *, options=None, **arguments):
    """One run of the fake work."""
    arguments = {"shard_rows": 20, "max_bad": 0.5, **arguments}
    return BulkJob(CatalogFile(catalog), FakeWork(options), out, **arguments).run()


def content(out):
    """What a reader finds: id -> title, fingerprint, model, embedding; and that no id is there twice."""
    folder = BulkFolder.open(out)
    rows = {}
    count = 0
    for batch in folder.batches(batch_rows=7):
        columns = [batch.column(name).to_pylist() for name in ("id", "title", "fingerprint", "model")]
        for identifier, title, print_, model, vector in zip(*columns, embeddings_of(batch), strict=True):
            rows[identifier] = (title, print_, model, vector.tolist())
            count += 1
    assert count == len(rows) == len(folder), "an id is there twice, or the manifest counts wrongly"
    return rows


def die_at(moment, folder, *, lose_power=False):
    """Patch this process to die at the n-th moment that matters to what is on disk.

    `lose_power` also empties every file that was not synced since it was last written.
    """
    synced = {path.stat().st_ino: path.stat().st_size for path in Path(folder).rglob("*")}  # long ago
    count = 0

    def at_a_moment():
        nonlocal count
        count += 1
        if count == moment:
            if lose_power:
                for path in Path(folder).rglob("*"):
                    status = path.stat()
                    if path.is_file() and synced.get(status.st_ino) != status.st_size:
                        os.truncate(path, 0)
            os.kill(os.getpid(), signal.SIGKILL)

    replace, fsync, unlink = os.replace, os.fsync, os.unlink

    def patched_replace(*arguments, **options):
        at_a_moment()
        return replace(*arguments, **options)

    def patched_fsync(handle):
        at_a_moment()
        fsync(handle)
        status = os.fstat(handle)
        synced[status.st_ino] = status.st_size

    def patched_unlink(*arguments, **options):
        at_a_moment()
        return unlink(*arguments, **options)

    os.replace, os.fsync, os.unlink = patched_replace, patched_fsync, patched_unlink
    write = pyarrow.parquet.ParquetWriter.write_table

    def patched_write(self, *arguments, **options):
        at_a_moment()
        result = write(self, *arguments, **options)
        at_a_moment()
        return result

    pyarrow.parquet.ParquetWriter.write_table = patched_write
    return lambda: count


def killed_everywhere(start, catalog, folder, *, lose_power, stride, save_seconds):
    """For every stride-th moment: a run that dies there, what a reader sees then, and the run that goes on.

    Runs in a process of its own, which forks the one that dies. Prints one line of JSON a moment.
    """
    moment = 0
    while True:
        moment += stride
        out = Path(folder) / f"{moment}"
        if start:
            shutil.copytree(start, out)
        child = os.fork()
        if not child:
            with contextlib.suppress(BaseException):
                die_at(moment, out, lose_power=lose_power)
                run_job(catalog, out, save_seconds=save_seconds)
                os._exit(0)
            os._exit(1)
        _, status = os.waitpid(child, 0)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        print(json.dumps({"moment": moment, "killed": killed, "exit": os.waitstatus_to_exitcode(status)}))
        if not killed:
            return


if __name__ == "__main__":
    killed_everywhere(**json.loads(sys.argv[1]))
