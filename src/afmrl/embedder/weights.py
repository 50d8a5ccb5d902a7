"""A model's folder as files: are its weights whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from afmrl.data.damage import Checked, checked_files
from afmrl.files import check_regular, parse_json, read_object

LISTED = "files"
"""In RUN/run.json: the files of RUN/embedder and RUN/generator, as they were written."""


def check_weights(folder: Path) -> Iterator[Checked]:
    """Read a model's files, and say of each what it is and what is wrong with it.

    Weights are compared with their checksums where the folder is in the run that made it; otherwise with what their own
    headers say.
    """
    known = _listed(folder)
    if known:
        yield from checked_files(folder.parent, known)
        return
    for path in sorted(folder.rglob("*.json")):
        try:
            check_regular(path)
            parse_json(path.read_bytes())
            yield Checked(str(path.relative_to(folder)))
        except (OSError, ValueError) as error:
            yield Checked(str(path.relative_to(folder)), f"cannot be read ({error}); get the model again")
    weights = sorted(folder.rglob("*.safetensors"))
    if not weights:
        yield Checked("*.safetensors", "is missing: there are no weights; get the model again")
    for path in weights:
        yield _weights(folder, path)


def _listed(folder: Path) -> dict[str, object]:
    try:
        files = read_object(folder.resolve().parent / "run.json").get(LISTED)
    except (OSError, ValueError):
        return {}
    own = f"{folder.resolve().name}/"
    return {name: of for name, of in files.items() if name.startswith(own)} if isinstance(files, dict) else {}


def _weights(folder: Path, path: Path) -> Checked:
    from safetensors import SafetensorError, safe_open

    name = str(path.relative_to(folder))
    try:
        check_regular(path)
        with safe_open(str(path), "np") as file:
            return Checked(f"{name}: {len(file.keys()):,} tensors, by its header")
    except (OSError, SafetensorError) as error:
        return Checked(name, f"cannot be read ({error}); get the model again")
