"""A full disk: the message names the file, what was complete stays, and the same command goes on once there is room."""

import errno
import os
import subprocess
import sys

import pytest

from afmrl.errors import InputError
from afmrl.files import atomic_write
from afmrl.index.address import open_index
from conftest import afmrl
from hostile.test_damage import SETTINGS, read_index, rows

MOUNT = ["mount", "-t", "tmpfs", "-o"]


@pytest.fixture
def small_disk(tmp_path):
    """Makes a disk of so many kilobytes."""
    made = []

    def make(kilobytes):
        folder = tmp_path / f"disk{len(made)}"
        folder.mkdir()
        done = subprocess.run([*MOUNT, f"size={kilobytes}k", "tmpfs", str(folder)], capture_output=True, check=False)
        if done.returncode:
            pytest.skip("no disk can be mounted here")
        made.append(folder)
        return folder

    yield make
    for folder in made:
        subprocess.run(["umount", "-l", str(folder)], check=False)


def test_an_index_that_has_no_room_is_what_it_was(small_disk):
    for room in (120, 160, 200, 260, 340, 420):
        folder = small_disk(room) / "i"
        code = f"""
import sys
sys.path.insert(0, {str(os.path.dirname(os.path.dirname(__file__)))!r})
from hostile.test_damage import SETTINGS, rows
from afmrl.index.address import open_index
index = open_index({str(folder)!r}, create=True, dimension=8, settings=SETTINGS)
done = 0
try:
    for number in range(60):
        index.upsert(rows(range(40 * number, 40 * number + 40)))
        done = number + 1
except OSError as error:
    print(done, error.errno, error.filename)
"""
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr[-1000:] or ran.returncode  # a signal would be negative
        done, number, name = ran.stdout.split()
        assert int(number) == errno.ENOSPC
        assert name.startswith(str(folder))
        with open_index(str(folder)) as index:
            assert len(index) == 40 * int(done)
            index.check()
        if int(done):
            read_index(folder)


def test_a_file_that_has_no_room_is_named_and_the_old_one_stays(small_disk):
    path = small_disk(64) / "a.txt"
    with atomic_write(path) as file:
        file.write("old")
    with pytest.raises(OSError, match=r"a\.txt"), atomic_write(path) as file:
        file.write("x" * 200_000)
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("command", ["match", "dataset", "evaluate"])
def test_a_command_that_has_no_room_says_where(small_disk, tmp_path, command):
    disk = small_disk(16)
    offers = tmp_path / "offers.jsonl"
    offers.write_text(
        "".join(f'{{"id": "{n}", "title": "dress {n % 40}", "product_id": "{n % 40}"}}\n' for n in range(400))
    )
    arguments = {
        "match": ["match", offers, "--out", disk / "out"],
        "dataset": ["dataset", "split", offers, "--out", disk / "out.jsonl"],
        "evaluate": ["evaluate", "--catalog", offers, "--model", "bm25", "--out", disk / "out"],
    }[command]
    done = afmrl(*arguments)
    assert done.returncode == 2, done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    assert str(disk) in done.stderr
    assert "No space left" in done.stderr


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises((OSError, InputError), match="file"):
        open_index(str(tmp_path / "file" / "i"), create=True, dimension=8, settings=SETTINGS).upsert(rows(range(3)))
