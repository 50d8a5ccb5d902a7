"""Every check of the project: style, types, layers, docs, tests.

`python scripts/check.py [--fast]`; --fast leaves the slow tests out.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ["src", "tests", "benchmarks", "examples", "scripts", "docs"]


def main() -> int:
    """Run the checks in order, all of them even where one fails; 1 if any failed."""
    binaries = Path(sys.executable).parent
    python = [sys.executable, "-m"]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fast", action="store_true", help="leave the slow tests out")
    fast = ["-m", "not slow"] if parser.parse_args().fast else []
    # a worker a core, one thread each; a file's tests stay together, for what they share is made once a worker
    workers = ["-n", "auto", "--maxprocesses", "4", "--dist", "loadfile"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    failed = []
    for name, command in (
        ("ruff", [*python, "ruff", "check", *FOLDERS]),
        ("format", [*python, "ruff", "format", "--check", *FOLDERS]),
        ("types", [*python, "mypy"]),
        ("types of examples", [*python, "mypy", *sorted(map(str, (ROOT / "examples").glob("*.py")))]),
        ("layers", [str(binaries / "lint-imports")]),
        ("docs", [*python, "sphinx", "-q", "-W", "--keep-going", "-b", "html", "docs", "docs/_build"]),
        ("tests", [*python, "pytest", "-q", "--durations=15", *workers, *fast]),
    ):
        print(f"== {name}: {' '.join(command[1:])}", flush=True)
        start = time.perf_counter()
        code = subprocess.run(command, cwd=ROOT, check=False, env=environment).returncode
        print(f"== {name}: {'ok' if code == 0 else 'FAILED'} in {time.perf_counter() - start:.0f} s", flush=True)
        if code:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
