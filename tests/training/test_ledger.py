import json
import resource

import pytest

from afmrl.files import fingerprint
from afmrl.training.checkpoints import last_checkpoint
from afmrl.training.ledger import Ledger


def test_a_complete_stage_is_not_run_again(tmp_path):
    calls = []
    for _ in range(2):
        ledger = Ledger(tmp_path, say=lambda line: None)
        ledger.run("a", "same", lambda folder: calls.append(folder) or {"value": 1})
    assert len(calls) == 1
    assert ledger.results["a"] == {"value": 1}


def test_that_a_stage_is_complete_is_said_once(tmp_path):
    Ledger(tmp_path, say=lambda line: None).run("a", "same", lambda folder: {})
    said = []
    ledger = Ledger(tmp_path, say=said.append)
    for _ in range(3):
        ledger.run("a", "same", lambda folder: {})
    assert said == ["a: complete, not run again"]


def test_a_stage_made_of_something_else_runs_again_from_nothing(tmp_path):
    ledger = Ledger(tmp_path, say=lambda line: None)
    ledger.run("a", "one", lambda folder: (folder / "left").write_text("x") and {})
    seen = []
    ledger.run("a", "two", lambda folder: seen.append((folder / "left").exists()) or {})
    assert seen == [False]


def test_a_killed_stage_finds_what_it_left_and_is_not_taken_for_whole(tmp_path):
    ledger = Ledger(tmp_path, say=lambda line: None)

    def killed(folder):
        (folder / "checkpoint").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ledger.run("a", "same", killed)
    assert not (tmp_path / "stages" / "a" / "complete.json").exists()
    seen = []
    ledger.run("a", "same", lambda folder: seen.append((folder / "checkpoint").read_text()) or {})
    assert seen == ["half"]


def test_fingerprints_tell_configs_apart():
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})


def test_torn_checkpoints_are_passed_over_and_removed(tmp_path):
    for step, text in ((100, "{}"), (200, '{"half'), (1000, None)):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        if text is not None:
            (folder / "trainer_state.json").write_text(text)
    assert last_checkpoint(tmp_path, 2000) == str(tmp_path / "checkpoint-100")
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-100"]
    assert json.loads((tmp_path / "checkpoint-100" / "trainer_state.json").read_text()) == {}


def test_no_checkpoint(tmp_path):
    assert last_checkpoint(tmp_path, 100) is None


def test_nothing_goes_on_from_the_last_step(tmp_path):
    # transformers would train one step more
    for step in (50, 100):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text("{}")
    assert last_checkpoint(tmp_path, 100) == str(tmp_path / "checkpoint-50")
    assert last_checkpoint(tmp_path, 50) is None
    assert not list(tmp_path.iterdir())


def test_time_before_a_stop_counts(tmp_path):
    import time

    ledger = Ledger(tmp_path, say=lambda line: None)

    def stopped(folder):
        time.sleep(0.05)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ledger.run("a", "same", stopped)
    ledger.run("a", "same", lambda folder: {})
    assert ledger.seconds["a"] >= 0.05


def test_weights_are_told_apart(tmp_path):
    hashes = []
    for number, content in enumerate((b"one", b"one", b"two")):
        ledger = Ledger(tmp_path / str(number), say=lambda line: None)

        def work(folder, content=content):
            (folder / "model").mkdir()
            (folder / "model" / "model.safetensors").write_bytes(content)

        for _ in range(2):  # done, and taken over
            ledger.run("a", "same", work)
            hashes.append(ledger.weights["a"])
    assert hashes[0] == hashes[1] == hashes[2] == hashes[3] != hashes[4] == hashes[5]


def written_by_torch(path):
    import torch

    torch.save(torch.zeros(10_000), path)


def written_by_safetensors(path):
    import torch
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(10_000)}, path)


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda path: path.write_bytes(b"x" * 40_000), "File too large"),
        (written_by_torch, "cannot be written; is the disk full"),
        (written_by_safetensors, "File too large"),
    ],
    ids=["plain", "torch", "safetensors"],
)
def test_where_a_library_has_no_room_the_error_names_the_stages_folder(tmp_path, write, words):
    ledger = Ledger(tmp_path, say=lambda line: None)
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)

    def work(folder):
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, most))  # what a full disk does, for large files alone
        try:
            write(folder / "weights")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    with pytest.raises(OSError, match=words) as raised:
        ledger.run("a", "same", work)
    assert raised.value.filename == str(tmp_path / "stages" / "a")
    assert ledger.run("a", "same", lambda folder: {}).is_dir()


def test_an_error_that_is_no_full_disks_stays_what_it_is(tmp_path):
    def work(folder):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        Ledger(tmp_path, say=lambda line: None).run("a", "same", work)
