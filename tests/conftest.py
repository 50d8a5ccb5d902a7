"""What several tests share: the data beside the project, small catalogs, the one run that the slow tests look at."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before any library looks: no test may need a network
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT.parent / "shared" / "data"


def shared_data(name: str) -> Path:
    """The folder of one real data set beside the project.

    Where it is absent the test is skipped. With CI=true it fails, unless AFMRL_REAL_DATA=no says that none is expected.
    """
    folder = DATA / name
    if not folder.is_dir():
        reason = f"real data {folder} is not here (it is not part of the project)"
        if os.environ.get("CI") == "true" and os.environ.get("AFMRL_REAL_DATA") != "no":
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


def afmrl(*arguments: object, timeout: float = 600, env: dict[str, str] | None = None) -> subprocess.CompletedProcess:
    """Run the command line in a process of its own, one thread."""
    return subprocess.run(
        [sys.executable, "-c", "from afmrl.cli.app import main; main()", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "160", **(env or {})},
        check=False,
    )


def save_image(path: Path, seed: int = 0, size: tuple[int, int] = (24, 24)) -> Path:
    """A small image of noise around one color."""
    from PIL import Image

    rng = np.random.default_rng(seed)
    pixels = np.clip(rng.integers(0, 200, 3) + rng.integers(0, 50, (size[1], size[0], 3)), 0, 255)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


def png_claiming(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header claims width × height pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """One readable image."""
    return save_image(tmp_path / "image.png")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny default model at its smallest, with random weights."""
    from afmrl.embedder.tiny import build_tiny_model

    texts = [f"red silk dress {number}; color: red; cut: wide; size: m; none" for number in range(50)]
    return build_tiny_model(
        texts, tmp_path_factory.mktemp("tiny") / "model", vocab_size=400, hidden_size=64, num_layers=2, vision_layers=1
    )


@pytest.fixture(scope="session")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one `afmrl quickstart --fast`; tests that change something work on a copy."""
    folder = tmp_path_factory.mktemp("quickstart") / "run"
    done = afmrl("quickstart", "--fast", "--out", folder)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (folder / "stdout.txt").write_text(done.stdout, encoding="utf-8")
    (folder / "stderr.txt").write_text(done.stderr, encoding="utf-8")
    return folder


@pytest.fixture
def call(monkeypatch, capsys):
    """`afmrl …` in this process: exit code, stdout, stderr."""
    warnings.filterwarnings("ignore", message="Cyclopts application invoked without tokens")

    from afmrl.cli import app as cli

    def run(*arguments, columns=160):
        monkeypatch.setattr(sys, "argv", ["afmrl", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", str(columns))
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code
        out, err = capsys.readouterr()
        return code or 0, out, err

    return run
