"""`match` killed while it writes: what is in the folder then, and the run after it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from afmrl.data.catalog import write_catalog
from afmrl.data.offer import Offer
from afmrl.matching.match import match

FILES = ["groups.csv", "groups.jsonl", "kept.bin", "offers.csv", "pairs.csv", "pairs.jsonl", "summary.json"]


def drills(number: int) -> list[Offer]:
    """Two offers of each of some drills, that differ in model number."""
    return [
        Offer(f"{seller}{model}", f"{seller} cordless drill zx{4000 + model} blue")
        for model in range(number)
        for seller in ("bosta", "new bosta")
    ]


def content(out: Path) -> dict[str, bytes]:
    return {name: (out / name).read_bytes() for name in FILES if (out / name).exists()}


@pytest.mark.slow
@pytest.mark.parametrize("lose_power", [False, True])
def test_killed_while_writing_no_file_is_torn_and_no_summary_is_beside_older_files(tmp_path, lose_power):
    versions = []
    for number in (6, 9):
        write_catalog(tmp_path / "catalog.jsonl", drills(number))
        match(tmp_path / "catalog.jsonl", out=tmp_path / "whole")
        versions.append(content(tmp_path / "whole"))
        if len(versions) == 1:
            shutil.copytree(tmp_path / "whole", tmp_path / "before")
            (tmp_path / "before" / "report.html").write_text("the page of the earlier match")
    before, after = versions
    assert sorted(before) == sorted(after) == FILES
    assert all(before[name] != after[name] for name in FILES)
    done = subprocess.run(
        [sys.executable, __file__, json.dumps({"folder": str(tmp_path), "lose_power": lose_power})],
        cwd=Path(__file__).parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    ends = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(ends) > 12 and [end["killed"] for end in ends] == [True] * (len(ends) - 1) + [False], ends
    for end in ends:
        found = content(tmp_path / str(end["moment"]))
        for name, text in found.items():
            assert text in (before[name], after[name]), (end, name)
        if "summary.json" in found:
            assert found in (before, after), end
        if (tmp_path / str(end["moment"]) / "report.html").exists():
            assert all(text == before[name] for name, text in found.items()), end
    assert content(tmp_path / str(ends[-1]["moment"])) == after
    for end in ends[::4]:  # the same command again
        out = tmp_path / str(end["moment"])
        match(tmp_path / "catalog.jsonl", out=out)
        assert content(out) == after
        assert sorted(path.name for path in out.iterdir()) == FILES


@pytest.mark.parametrize("step", ["write_groups", "write_offers", "write_changes", "write_summary"])
def test_a_match_that_was_stopped_still_says_what_changed_since_the_last_complete_one(tmp_path, monkeypatch, step):
    out, other = tmp_path / "out", tmp_path / "other"
    write_catalog(tmp_path / "catalog.jsonl", drills(6))
    for folder in (out, other):
        match(tmp_path / "catalog.jsonl", out=folder)
    write_catalog(tmp_path / "catalog.jsonl", drills(9)[3:])
    match(tmp_path / "catalog.jsonl", out=other, previous=other)
    changes = (other / "changes.jsonl").read_text()
    assert '"new"' in changes

    def stopped(*_):
        raise KeyboardInterrupt

    for _ in range(2):  # and stopped again
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(f"afmrl.matching.match.{step}", stopped)
            match(tmp_path / "catalog.jsonl", out=out, previous=out)
        assert not (out / "summary.json").exists()
    match(tmp_path / "catalog.jsonl", out=out, previous=out)
    assert (out / "changes.jsonl").read_text() == changes
    assert sorted(path.name for path in out.iterdir()) == sorted([*FILES, "changes.jsonl"])
    (out / ".offers-before.csv").write_text("of a process that was killed when all was written")
    match(tmp_path / "catalog.jsonl", out=out, previous=out)
    assert (out / "changes.jsonl").read_text() == ""  # and from here on since this one


def killed_everywhere(folder: str, lose_power: bool) -> None:
    """A match over the output of an earlier one, killed at its first moment, at its second, ... until one ends."""
    sys.path.append(str(Path(__file__).parents[1] / "bulk"))
    from bulk_fakes import die_at

    moment = 0
    while True:
        moment += 1
        out = Path(folder) / str(moment)
        shutil.copytree(Path(folder) / "before", out)
        child = os.fork()
        if not child:
            die_at(moment, out, lose_power=lose_power)
            match(Path(folder) / "catalog.jsonl", out=out)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        print(json.dumps({"moment": moment, "killed": killed}))
        if not killed:
            return


if __name__ == "__main__":
    killed_everywhere(**json.loads(sys.argv[1]))
