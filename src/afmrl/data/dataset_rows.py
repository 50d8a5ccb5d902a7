"""A data set of the library `datasets` as a catalog, read as a stream."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from afmrl.data.offer import BadRow
from afmrl.data.reading import ReadOptions
from afmrl.errors import InputError
from afmrl.files import atomic_write, digest


class DatasetRows:
    """The rows of a data set: of all its splits, one after the other, each with a column `split`.

    Images inside the rows are written to a folder, each once, named by the hash of their bytes.

    Args:
        address: a folder that `save_to_disk` wrote, another folder that `load_dataset` reads, or `owner/name` on the
            hub, which is then read from there.
        images: folder for the images; made when the first is written.
        options: which column is read as what.

    Raises:
        InputError: `datasets` cannot read it.
    """

    format = "data set"

    def __init__(self, address: str, images: str | Path, options: ReadOptions | None = None) -> None:
        self.options = options or ReadOptions()
        self.path = Path(address)
        self.folder = self.path if self.path.is_dir() else Path.cwd()
        self.images = Path(images).resolve()
        self._splits = _open_splits(address)

    def __iter__(self) -> Iterator[tuple[int, dict[str, Any] | BadRow]]:
        """Each row with its number, from 1, over all splits."""
        number = 0
        for name, split in self._splits.items():
            rows = iter(split)
            while True:
                try:
                    row = next(rows)
                except StopIteration:
                    break
                except (OSError, ValueError, RuntimeError) as error:
                    raise InputError(f"{self.path}: cannot be read after row {number} ({error})") from error
                number += 1
                yield number, {"split": name, **row, "image": self._image(row.get("image"))}

    def total(self) -> int | None:
        """Rows of all splits, where the data set states them."""
        total = 0
        for name, split in self._splits.items():
            stated = (split.info.splits or {}).get(name)
            if hasattr(split, "__len__"):
                total += len(split)
            elif stated is not None and stated.num_examples is not None:
                total += stated.num_examples
            else:
                return None
        return total

    def _image(self, value: Any) -> Any:
        if not isinstance(value, dict) or "bytes" not in value:
            return value
        if value["bytes"] is None:
            return value.get("path") or ""
        content = value["bytes"]
        name = digest(content).hex()
        path = self.images / name[:2] / f"{name}{_ending(content)}"
        if not path.exists():
            with atomic_write(path, "wb") as file:
                file.write(content)
        return str(path)


def _open_splits(address: str) -> dict[str, Any]:
    import datasets

    path = Path(address)
    try:
        if path.is_dir() and any((path / name).is_file() for name in ("state.json", "dataset_dict.json")):
            loaded = datasets.load_from_disk(address)
            splits = dict(loaded) if isinstance(loaded, dict) else {str(loaded.split or "train"): loaded}
        else:
            splits = dict(datasets.load_dataset(address, streaming=True))
    except Exception as error:  # the library and those below it raise whatever comes first
        reason = str(error).strip().splitlines()[:1] or [type(error).__name__]
        raise InputError(f"{address}: `datasets` cannot read it: {reason[0]}") from error
    return {name: _undecoded(split) for name, split in splits.items()}


def _undecoded(split: Any) -> Any:
    """The split with its images as bytes."""
    import datasets

    features = split.features or {}
    if isinstance(features.get("image"), datasets.Image):
        split = split.cast_column("image", datasets.Image(decode=False))
    return split


def _ending(content: bytes) -> str:
    for start, ending in ((b"\xff\xd8", ".jpg"), (b"\x89PNG", ".png"), (b"GIF8", ".gif")):
        if content.startswith(start):
            return ending
    return ".webp" if content[8:12] == b"WEBP" else ".img"
