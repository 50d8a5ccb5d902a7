"""How several processes of one run end."""

import os
import subprocess
import sys

import pytest

from afmrl.training.processes import leave_processes

ENDING = """
import atexit, os, sys
from pathlib import Path
from afmrl.training.processes import join_processes, leave_processes, on_first, rank
out, code = Path(sys.argv[1]), int(sys.argv[2])
join_processes()

class Last:  # the end is reached, where gloo's threads abort the process
    def __del__(self, create=os.mknod, path=str(out / f"interpreter-{rank()}")):
        create(path)

last = Last()
last.itself = last
atexit.register((out / f"exit-{rank()}").write_text, "functions registered for the end ran")
print("said before the end", on_first(lambda: code))
leave_processes(code)
(out / f"after-{rank()}").write_text("went on")
"""


@pytest.mark.parametrize("code", [0, 2])
def test_a_process_of_several_ends_with_its_code_and_without_the_interpreters_end(code, tmp_path):
    (tmp_path / "ending.py").write_text(ENDING)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += ["--redirects", "3", "--log-dir", tmp_path / "logs", tmp_path / "ending.py", tmp_path, str(code)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=env, check=False)
    assert (done.returncode != 0) == bool(code), done.stderr[-3000:]
    left = {path.name for path in tmp_path.iterdir() if "-" in path.name}
    assert left <= {"exit-0", "exit-1"} and left  # torchrun may end the second one when the first one failed
    if code == 0:
        assert left == {"exit-0", "exit-1"}
        said = [path.read_text() for path in (tmp_path / "logs").rglob("stdout.log")]
        assert said == [f"said before the end {code}\n"] * 2


def test_a_process_alone_continues():
    assert leave_processes() is None  # among others it would have ended here
