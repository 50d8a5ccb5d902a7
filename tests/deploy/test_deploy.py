"""The container recipe and the systemd unit: linted as far as that needs neither docker nor root."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from conftest import ROOT

DEPLOY = ROOT / "deploy"
RECIPE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
UNIT = (DEPLOY / "afmrl.service").read_text(encoding="utf-8")
INSTRUCTIONS = [
    line.split(maxsplit=1)
    for line in re.sub(r"\\\n", " ", re.sub(r"^\s*#.*\n", "", RECIPE, flags=re.MULTILINE)).splitlines()
    if line.strip()
]


def instructions(name: str) -> list[str]:
    return [rest for instruction, rest in INSTRUCTIONS if instruction == name]


def parsed(command: list[str]) -> dict[str, object]:
    """The arguments of `afmrl serve` as the command line reads them; it exits where one does not exist."""
    from afmrl.cli.app import app

    assert command[0] == "serve"
    _, bound, _ = app.parse_args(command, exit_on_error=False, print_error=False)
    return bound.arguments


def test_hadolint_finds_nothing():
    found = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    if found is None:
        pytest.skip("hadolint is not installed")
    done = subprocess.run([found, DEPLOY / "Dockerfile"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_container_is_pinned_runs_as_nobody_special_and_says_whether_it_is_well():
    last = max(place for place, (name, _) in enumerate(INSTRUCTIONS) if name == "FROM")
    users = [rest for name, rest in INSTRUCTIONS[last:] if name == "USER"]
    assert users and re.fullmatch(r"[1-9]\d*:[1-9]\d*", users[-1])
    assert re.search(r'CMD \["python".*/health', instructions("HEALTHCHECK")[0])
    assert not instructions("ADD") and not re.search(r"curl|wget|git clone", RECIPE)
    bases = {rest.split()[0] for rest in instructions("FROM")}
    assert all(re.fullmatch(r"[a-z/]+:\d+\.\d+-slim-\w+", base) for base in bases)


def test_what_the_container_installs_and_copies_is_there():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (extras,) = re.findall(r'"\.\[([\w,]+)\]"', RECIPE)
    assert set(extras.split(",")) <= set(project["optional-dependencies"])
    copied = [name for rest in instructions("COPY") if not rest.startswith("--from") for name in rest.split()[:-1]]
    admitted = re.findall(r"^!(\S+)", (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8"), re.MULTILINE)
    assert copied and set(copied) <= set(admitted) and all((ROOT / name).exists() for name in copied)
    named = {project["readme"], *project["license-files"]}
    assert named <= set(copied)


def test_the_commands_of_both_are_ones_that_there_are():
    assert json.loads(instructions("ENTRYPOINT")[0]) == ["afmrl"]
    of_container = parsed(json.loads(instructions("CMD")[0]))
    assert (of_container["index"], of_container["host"], of_container["port"]) == ("/index", "0.0.0.0", 8000)
    (command,) = re.findall(r"^ExecStart=\S+/afmrl (.*)$", UNIT, re.MULTILINE)
    of_unit = parsed(shlex.split(command))
    assert of_unit["keys"] == Path("%d/keys") and "host" not in of_unit


def test_systemd_takes_the_unit(tmp_path):
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    unit = tmp_path / "afmrl.service"
    unit.write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", UNIT, flags=re.MULTILINE))
    done = subprocess.run([analyze, "verify", unit], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr.strip(), done.stderr


def test_the_unit_waits_for_as_long_as_the_server_drains():
    from afmrl.serving.limits import Limits

    (seconds,) = re.findall(r"^TimeoutStopSec=(\d+)$", UNIT, re.MULTILINE)
    assert int(seconds) > Limits().seconds + 1
