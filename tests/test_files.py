"""A file is whole or as it was before; one process writes; equal content has equal hashes."""

import errno
import os
import signal
import subprocess
import sys
import zlib
from dataclasses import dataclass

import numpy as np
import pytest

from afmrl import files
from afmrl.data.damage import checksum
from afmrl.errors import InputError
from afmrl.files import (
    PendingFile,
    atomic_path,
    atomic_write,
    content_hash,
    digest,
    exclusive_lock,
    file_hash,
    fingerprint,
    folder_fingerprint,
    hash64,
    one_writer,
    read_lines,
    replace_folder,
    write_json,
    write_lines,
)


def run_python(code, *arguments):
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, text=True)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# atomic writes


def test_a_file_appears_when_the_block_ends(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with atomic_write(path) as file:
        file.write("ä\n")
        file.flush()
        assert not path.exists()
    assert path.read_bytes() == "ä\n".encode()
    assert names(path.parent) == ["a.txt"]


@pytest.mark.parametrize("sync", [True, False])
def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path, sync):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(ValueError, match="in between"), atomic_write(path, sync=sync) as file:
        file.write("half of the new")
        raise ValueError("in between")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_an_interrupt_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), atomic_write(path, "wb") as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.bin"]


def test_a_kill_before_the_end_leaves_the_old_file_and_the_next_writer_wins(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    code = (
        "import os, signal, sys\n"
        "from afmrl.files import atomic_write\n"
        "with atomic_write(sys.argv[1]) as file:\n"
        "    file.write('half of the new'); file.flush()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert run_python(code, path).wait(60) == -signal.SIGKILL
    assert path.read_text() == "old"
    with atomic_write(path) as file:
        file.write("new")
    assert path.read_text() == "new"
    assert names(tmp_path) == ["a.txt"]


def test_a_library_may_write_under_a_temporary_name(tmp_path):
    path = tmp_path / "a" / "values.npy"
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.save(file, np.arange(3))
    assert np.load(path).tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="in between"), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise ValueError("in between")
    assert np.load(path).tolist() == [0, 1, 2]
    assert names(path.parent) == ["values.npy"]


def test_a_pending_file_is_published_or_discarded(tmp_path):
    pending = PendingFile(tmp_path / "a.txt")
    pending.file.write("first")
    pending.publish()
    pending = PendingFile(tmp_path / "a.txt")
    pending.file.write("second")
    pending.discard()
    pending.discard()
    assert (tmp_path / "a.txt").read_text() == "first"
    assert names(tmp_path) == ["a.txt"]


def test_json_keeps_the_order_of_keys_and_other_alphabets(tmp_path):
    write_json(tmp_path / "a.json", {"b": "Größe", "a": [1]})
    assert (tmp_path / "a.json").read_text() == '{\n  "b": "Größe",\n  "a": [\n    1\n  ]\n}\n'


def test_what_cannot_be_json_leaves_the_old_file(tmp_path):
    write_json(tmp_path / "a.json", {"a": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"a": object()})
    assert (tmp_path / "a.json").read_text() == '{\n  "a": 1\n}\n'


def test_lines_are_counted(tmp_path):
    assert write_lines(tmp_path / "a.jsonl", (text for text in ("x", "y"))) == 2
    assert (tmp_path / "a.jsonl").read_text() == "x\ny\n"
    assert write_lines(tmp_path / "a.jsonl", []) == 0
    assert (tmp_path / "a.jsonl").read_text() == ""


def test_a_folder_takes_the_place_of_another(tmp_path):
    for name in ("old", "new", ".old.old"):  # the last of a process that was killed in between
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    replace_folder(tmp_path / "new", tmp_path / "old")
    assert names(tmp_path) == ["old"]
    assert names(tmp_path / "old") == ["new"]


# locks


def test_the_second_writer_is_told_who_holds_the_lock(tmp_path):
    code = (
        "import sys, time\n"
        "from afmrl.files import exclusive_lock\n"
        "with exclusive_lock(sys.argv[1], 'index i'):\n"
        "    print('held', flush=True)\n"
        "    time.sleep(600)\n"
    )
    process = run_python(code, tmp_path / "lock")
    try:
        assert process.stdout.readline() == "held\n"
        with (
            pytest.raises(InputError, match=rf"index i: another process \({process.pid}\) is writing to it"),
            exclusive_lock(tmp_path / "lock", "index i"),
        ):
            pass
    finally:
        process.kill()
        process.wait()
    with exclusive_lock(tmp_path / "lock", "index i"):  # a killed process holds nothing
        assert (tmp_path / "lock").read_text() == str(os.getpid())


def test_a_file_that_another_process_writes_is_refused_and_never_mixed(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    code = (
        "import sys, time\n"
        "from afmrl.files import atomic_write\n"
        "with atomic_write(sys.argv[1]) as file:\n"
        "    file.write('half of the other'); file.flush()\n"
        "    print('held', flush=True)\n"
        "    time.sleep(600)\n"
    )
    process = run_python(code, path)
    try:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(InputError, match=r"a\.txt: another process is writing it; wait"), atomic_write(path):
            pass
        assert (tmp_path / "a.txt.tmp").read_text() == "half of the other"  # it goes on undisturbed
    finally:
        process.kill()
        process.wait()
    assert path.read_text() == "old"
    with atomic_write(path) as file:
        file.write("new")
    assert path.read_text() == "new"


def test_a_file_that_another_process_puts_in_its_place_before_it_is_locked_is_not_emptied(tmp_path, monkeypatch):
    path, temporary, locked = tmp_path / "a.txt", tmp_path / "a.txt.tmp", files._locked
    temporary.write_text("of the other")

    def late(handle):
        if not path.exists():
            temporary.rename(path)
        return locked(handle)

    monkeypatch.setattr(files, "_locked", late)
    pending = PendingFile(path)
    assert path.read_text() == "of the other"
    pending.discard()
    assert path.read_text() == "of the other"
    assert names(tmp_path) == ["a.txt"]


def test_a_file_system_that_knows_no_locks_is_written_without(tmp_path, monkeypatch):
    def flock(code):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("fcntl.flock", lambda *_: flock(errno.ENOLCK))
    with one_writer(tmp_path), atomic_write(tmp_path / "a.txt") as file:
        file.write("new")
    assert (tmp_path / "a.txt").read_text() == "new"
    monkeypatch.setattr("fcntl.flock", lambda *_: flock(errno.EIO))
    with pytest.raises(OSError, match="Input/output error"), one_writer(tmp_path):
        pass


def test_two_processes_that_replace_a_file_again_and_again_leave_it_whole(tmp_path):
    path = tmp_path / "a.txt"
    code = (
        "import sys\n"
        "from afmrl.errors import InputError\n"
        "from afmrl.files import atomic_write\n"
        "won = 0\n"
        "for _ in range(400):\n"
        "    try:\n"
        "        with atomic_write(sys.argv[1], sync=False) as file:\n"
        "            for _ in range(40):\n"
        "                file.write(sys.argv[2] * 500); file.flush()\n"
        "        won += 1\n"
        "    except InputError:\n"
        "        pass\n"
        "print(won)\n"
    )
    path.write_text("a" * 20_000)
    writers = [run_python(code, path, letter) for letter in "ab"]
    while any(writer.poll() is None for writer in writers):
        content = path.read_text()
        assert content in ("a" * 20_000, "b" * 20_000)
    assert [writer.returncode for writer in writers] == [0, 0]
    assert all(int(writer.stdout.read()) > 0 for writer in writers)
    assert names(tmp_path) == ["a.txt"]


def test_a_folder_has_one_writer_and_an_error_leaves_no_new_folder(tmp_path):
    with one_writer(tmp_path / "out"):
        with pytest.raises(InputError, match="out: another process is writing to it"), one_writer(tmp_path / "out"):
            pass
        (tmp_path / "out" / "a.txt").touch()
    assert names(tmp_path / "out") == ["a.txt"]
    with pytest.raises(ValueError, match="wrong"), one_writer(tmp_path / "new"):
        raise ValueError("wrong")
    assert names(tmp_path) == ["out"]


# hashes


@dataclass
class Settings:
    rate: float = 0.5
    names: tuple[str, ...] = ("a",)


def test_fingerprints_of_equal_settings_are_equal():
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint(Settings()) == fingerprint(Settings(0.5)) != fingerprint(Settings(0.25))
    assert fingerprint("a", "b") != fingerprint("ab")
    assert fingerprint("ü", 1, None, [1.5]) == "879ff4fe672efb66d385ef41ca3b6240"  # folders on disk hold such digits


def test_a_folder_is_known_by_what_it_holds(tmp_path):
    (tmp_path / "weights").write_bytes(b"1")
    before = folder_fingerprint(tmp_path)
    (tmp_path / "README.md").write_text("read")
    (tmp_path / ".hidden").write_text("hidden")
    (tmp_path / "history.json").write_text("{}")
    assert folder_fingerprint(tmp_path, without=["history.json"]) == before
    assert folder_fingerprint(tmp_path) != before
    (tmp_path / "weights").write_bytes(b"2")
    assert folder_fingerprint(tmp_path, without=["history.json"]) != before


def test_hashes_of_content(tmp_path):
    (tmp_path / "a").write_bytes("ü".encode())
    assert file_hash(tmp_path / "a") == content_hash("ü") == content_hash("ü".encode())
    assert content_hash("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert checksum(tmp_path / "a") == zlib.crc32("ü".encode())
    assert len(digest("ü")) == 16
    assert hash64(["ü", "a"]).tobytes() == digest("ü", 8) + digest("a", 8)
    assert hash64([]).shape == (0,)


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_lines_end_at_ends_of_lines_alone(tmp_path, mark):
    path = tmp_path / "lines.txt"
    path.write_bytes(mark + "a\u2028b\r\nc\u0085d\n\ne\x0cf".encode())
    assert read_lines(path) == ["a\u2028b", "c\u0085d", "", "e\x0cf"]
