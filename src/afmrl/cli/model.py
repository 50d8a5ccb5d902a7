"""`afmrl model`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from afmrl.cli.summary import Summary


def model(name: Literal["small"], *, out: Path) -> Summary:
    """Write a model's folder, made of pretrained weights that lie in installed packages.

    `--model small` takes it by its name and needs no folder; the folder is for other programs and for changes.

    Parameters
    ----------
    name
        "small": MiniLM for text and EfficientNet-Lite0 for images, as one embedder.
    out
        Folder to write; its README.md names licenses, sizes, checksums and sources.
    """
    from afmrl.embedder.small.build import write_small_model
    from afmrl.terminal import quiet_libraries

    quiet_libraries()
    folder = write_small_model(out)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{name}: {folder} ({size / 1e6:.0f} MB); its README.md names licenses, checksums and sources")
    return {"folder": str(folder), "bytes": size}
