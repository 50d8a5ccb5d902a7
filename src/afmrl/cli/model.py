"""`afmrl model`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from afmrl.cli.summary import Summary


def model(name: Literal["small"], *, out: Path, kind: Literal["embedder", "generator"] = "embedder") -> Summary:
    """Write a model's folder, made of pretrained weights that lie in installed packages.

    `--model small` and `--generator small` take it by its name and need no folder; the folder is for other programs and
    for changes.

    Parameters
    ----------
    name
        "small": as an embedder MiniLM for text and EfficientNet-Lite0 for images, as a generator SmolLM2.
    out
        Folder to write; its README.md names licenses, sizes, checksums and sources.
    kind
        Which of the two: the embedder, or the generator of key attributes.
    """
    from afmrl.embedder.small.build import write_small_model
    from afmrl.generator.small.build import write_small_generator
    from afmrl.terminal import quiet_libraries

    quiet_libraries()
    folder = write_small_model(out) if kind == "embedder" else write_small_generator(out)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{name} {kind}: {folder} ({size / 1e6:.0f} MB); its README.md names licenses, checksums and sources")
    return {"folder": str(folder), "bytes": size}
