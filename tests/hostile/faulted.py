"""The process that tries commands with faults, as tests start it."""

import json
import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("faulted_commands.py")


def lines_of(quickstart, folder, **options):
    """What the trials came to, one dict a trial."""
    options = {"quickstart": str(quickstart), "folder": str(folder), **options}
    path = os.pathsep.join([str(SCRIPT.parents[1]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, SCRIPT, json.dumps(options)],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines() if '"faults"' in line]
