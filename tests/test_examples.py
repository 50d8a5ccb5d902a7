"""Each file in examples/ runs as a user would run it, and prints what its first comment says."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from conftest import ROOT

EXAMPLES = ROOT / "examples"


def printed(name: str) -> list[str]:
    """The lines that an example prints, run in a process of its own."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name)],
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()


def test_there_are_six_of_a_readable_length() -> None:
    names = sorted(path.name for path in EXAMPLES.iterdir() if path.suffix == ".py")
    assert [name[:3] for name in names] == ["01_", "02_", "03_", "04_", "05_", "06_"]
    for name in names:
        text = (EXAMPLES / name).read_text(encoding="utf-8")
        assert 30 <= len(text.splitlines()) <= 70, name
        assert text.startswith('"""'), name


def test_attributes() -> None:
    lines = printed("01_attributes.py")
    assert lines[0] == "rules      1  brand: dymo; model: s0720680; length: 9 mm x 7000 mm; color: black / white"
    assert "generator  2  brand: dymo; width: 12 mm" in lines and "generator  3  none" in lines
    assert any(line.startswith("invalid: {'3':") for line in lines)
    assert "in schema  brand: dymo; width: 9 mm; color: black on white" in lines


def test_match() -> None:
    lines = printed("05_match.py")
    assert lines[0].startswith("['a', 'b'] 0.9")
    assert lines[1].startswith("a = b   0.9") and lines[1].endswith("agree: brand, color, size")
    assert lines[2:4] == ["a ≠ c   veto   color: red | navy", "b ≠ c   veto   color: red | navy"]
    assert "veto=['material']: d ≠ e   veto   material: linen | cotton" in lines
    assert lines[-1] == "from a DataFrame, the same: True"


def test_client_of_a_server() -> None:
    lines = printed("06_serve_client.py")
    assert lines[:2] == ["Maison Lune silk dress navy: color: navy", "Nordwind linen shirt white: color: white"]


@pytest.mark.slow
def test_embed_and_search() -> None:
    lines = printed("02_embed_and_search.py")
    assert any(line.startswith("embeddings: (3, 128)") for line in lines)
    by_text, by_image = (
        [line.split() for line in lines if line.startswith(f"by {kind} ")] for kind in ("text", "image")
    )
    assert len(by_text) == len(by_image) == 3
    assert by_text[0][3] == by_image[0][3]  # the offer whose title and image were searched for


@pytest.mark.slow
def test_train_agcl() -> None:
    lines = printed("03_train_agcl.py")
    before, after = (float(re.findall(r"\d\.\d\d", line)[0]) for line in lines if "before:" in line or "steps:" in line)
    assert 0 < before < after


@pytest.mark.slow
def test_reward_with_trl() -> None:
    lines = printed("04_reward_with_trl.py")
    rewards = [float(line.split()[4].rstrip(",")) for line in lines if line.startswith("step ")]
    assert len(rewards) == 2 and max(rewards) > 0  # some completions are valid and find their product
    assert re.search(r" -> \w+: \w+", lines[-1])


def test_the_block_of_the_readme_is_the_example_of_matching() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert block in (EXAMPLES / "05_match.py").read_text(encoding="utf-8")
    assert len(block.splitlines()) <= 12
