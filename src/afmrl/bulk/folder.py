"""A folder of embeddings or key attributes: Parquet shards and the manifest that lists them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.data.damage import Checked, damage, other_format
from afmrl.data.offer import Offer
from afmrl.errors import InputError
from afmrl.files import parse_json, read_lines, read_object, unsealed

if TYPE_CHECKING:
    import pyarrow

EMBEDDINGS = "afmrl-embeddings"
ATTRIBUTES = "afmrl-attributes"
VERSION = 1
MANIFEST = "manifest.json"
SHARD = re.compile(r"part-(\d+)\.parquet")
QUARANTINE = "quarantine.jsonl"
COMMAND = {EMBEDDINGS: "afmrl embed", ATTRIBUTES: "afmrl attributes"}
OFFER_COLUMNS = ("id", "title", "category", "seller", "image", "attributes", "product_id")


def schema(kind: str, *, dimension: int = 0, dtype: str = "float16") -> pyarrow.Schema:
    """The columns of a shard: the offer's, `key_attributes`, the two fingerprints, and what the run made.

    Args:
        kind: EMBEDDINGS or ATTRIBUTES.
        dimension: D of the embeddings.
        dtype: "float16" or "float32".
    """
    import pyarrow as pa

    pairs = pa.map_(pa.string(), pa.string())
    columns = [(name, pairs if name == "attributes" else pa.string()) for name in OFFER_COLUMNS]
    columns += [("key_attributes", pairs), ("fingerprint", pa.string()), ("model", pa.string())]
    if kind == ATTRIBUTES:
        columns += [("valid", pa.bool_()), ("completion", pa.string()), ("without_evidence", pa.list_(pa.string()))]
    else:
        columns += [("embedding", pa.list_(pa.float16() if dtype == "float16" else pa.float32(), dimension))]
    return pa.schema(columns)


class BulkFolder:
    """Reads what `afmrl embed` or `afmrl attributes` wrote: the last complete run, each live row exactly once.

    Args:
        path: the folder.
        manifest: its manifest, as `open` checked it.
    """

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self.path, self.manifest = path, manifest

    @classmethod
    def open(cls, path: str | Path, *, kind: str | None = None) -> BulkFolder:
        """Open a complete folder.

        Args:
            kind: EMBEDDINGS or ATTRIBUTES, where only one will do.

        Raises:
            InputError: no such folder, not one of ours, not complete yet, or a shard that is missing or torn.
        """
        path = Path(path)
        manifest = read_manifest(path)
        made_by = COMMAND[manifest["format"]]
        if kind is not None and manifest["format"] != kind:
            raise InputError(f"{path}: was written by `{made_by}`; here a folder of `{COMMAND[kind]}` is needed")
        if not manifest["complete"]:
            raise InputError(f"{path}: the run that writes it is not complete; the same `{made_by}` command resumes it")
        try:
            for shard in manifest["shards"]:
                check_shard(path, shard)
        except InputError:
            if read_manifest(path)["generation"] == manifest["generation"]:
                raise
            return cls.open(path, kind=kind)  # a run was completed meanwhile, and removed what it had replaced
        return cls(path, manifest)

    def __len__(self) -> int:
        return int(self.manifest["rows"])

    @property
    def dimension(self) -> int:
        """D of the embeddings; 0 in a folder of key attributes."""
        return int(self.manifest.get("dimension") or 0)

    def batches(self, columns: Sequence[str] | None = None, batch_rows: int = 8192) -> Iterator[pyarrow.RecordBatch]:
        """The rows, shard by shard in the manifest's order.

        Args:
            columns: which are read; None: all.
            batch_rows: at most so many rows at a time.

        Raises:
            InputError: a column that does not exist, or a shard that is damaged or gone since `open`.
        """
        for shard in self.manifest["shards"]:
            yield from shard_batches(self.path, shard, columns, batch_rows)

    def quarantine(self) -> Iterator[dict[str, Any]]:
        """The rows that the run left out: `id`, `row`, `field`, `reason`."""
        path = self.path / QUARANTINE
        if path.is_file():
            with open(path, encoding="utf-8") as file:
                for line in file:
                    yield json.loads(line)


def check_bulk_folder(path: Path) -> Iterator[Checked]:
    """Read all of a folder, and say of each thing what it is and what is wrong with it."""
    try:
        manifest = read_manifest(path)
    except InputError as error:
        yield Checked(MANIFEST, str(error))
        return
    made_by, rows = COMMAND[manifest["format"]], manifest["rows"]
    if not manifest["complete"]:
        yield Checked(f"{MANIFEST} of `{made_by}`", "the run is not complete; the same command resumes it")
        return
    yield Checked(f"{MANIFEST} of `{made_by}`: {rows:,} rows, {manifest.get('quarantined', 0):,} in quarantine")
    for shard in manifest["shards"]:
        try:
            check_shard(path, shard)
            count = sum(batch.num_rows for batch in shard_batches(path, shard))
            fault = "" if count == shard["rows"] else f"holds {count:,} rows, {shard['rows']:,} were written"
        except InputError as error:
            fault = str(error)
        yield Checked(f"{shard['file']}: {shard['rows']:,} rows", fault)
    if sum(shard["rows"] for shard in manifest["shards"]) != rows:
        yield Checked(MANIFEST, "its shards hold another number of rows; rewrite the folder")
    if (path / QUARANTINE).is_file():
        try:
            count = sum(bool(parse_json(line)) for line in read_lines(path / QUARANTINE))
            yield Checked(f"{QUARANTINE}: {count:,} rows and images of the last run")
        except (OSError, ValueError) as error:
            yield Checked(QUARANTINE, f"cannot be read ({error}); the same command writes it again")


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a folder, complete or not.

    Raises:
        InputError: there is none, or it is damaged or of another version.
    """
    if not path.is_dir():
        raise InputError(f"{path}: no such folder; `afmrl embed CATALOG --model M --out {path}` writes it")
    try:
        manifest = read_object(path / MANIFEST)
    except FileNotFoundError as error:
        raise InputError(
            f"{path}: holds no {MANIFEST}; it is not a folder of `afmrl embed` or `afmrl attributes`"
        ) from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path / MANIFEST}: cannot be read ({error})") from error
    if not isinstance(manifest.get("format"), str) or manifest["format"] not in COMMAND:
        raise InputError(f"{path / MANIFEST}: is not a manifest of `afmrl embed` or `afmrl attributes`")
    if manifest.get("version") != VERSION:
        raise InputError(f"{path / MANIFEST}: {other_format(manifest.get('version'), VERSION)}")
    try:
        manifest = unsealed(manifest)
        if faults := manifest_faults(manifest):
            raise ValueError(faults[0])
    except ValueError as error:
        raise InputError(f"{path / MANIFEST}: is damaged ({error}); rewrite the folder") from error
    return manifest


def manifest_faults(manifest: Mapping[str, Any]) -> list[str]:
    """What a manifest lacks or says wrongly."""
    kinds: dict[str, type] = {"complete": bool, "generation": int, "rows": int, "shards": list}
    faults = [f"{name} is no {kind.__name__}" for name, kind in kinds.items() if type(manifest.get(name)) is not kind]
    return faults or shard_faults(manifest["shards"])


def shard_faults(shards: Any) -> list[str]:
    """What is wrong with the entries of shards, as manifests and journals list them."""
    if not isinstance(shards, list):
        return ["shards is no list"]
    faults = []
    for number, shard in enumerate(shards):
        named = isinstance(shard, Mapping) and isinstance(shard.get("file"), str) and SHARD.fullmatch(shard["file"])
        if not named:
            faults.append(f"shard {number} names no file part-….parquet")
        elif any(type(shard.get(name)) is not int or shard[name] < 0 for name in ("rows", "bytes")):
            faults.append(f"{shard['file']} has no number of rows and bytes")
        elif type(shard.get("crc32", 0)) is not int:
            faults.append(f"{shard['file']} has no checksum")
    return faults


def check_shard(folder: Path, shard: dict[str, Any]) -> None:
    """Compare a shard's size with what the manifest says.

    Raises:
        InputError: it is missing or torn.
    """
    path = folder / shard["file"]
    try:
        size = path.stat().st_size
    except FileNotFoundError as error:
        raise InputError(f"{path}: the manifest lists it and it is missing; rewrite the folder") from error
    if size != shard["bytes"]:
        raise InputError(f"{path}: is torn ({size:,} bytes, the manifest says {shard['bytes']:,}); rewrite the folder")


def shard_batches(
    folder: Path, shard: Mapping[str, Any], columns: Sequence[str] | None = None, batch_rows: int = 8192
) -> Iterator[pyarrow.RecordBatch]:
    """The rows of one shard, whose checksum is compared first.

    Args:
        shard: its entry of the manifest.

    Raises:
        InputError: it is missing, damaged, or has no such column.
    """
    import pyarrow
    import pyarrow.parquet

    if batch_rows < 1:
        raise InputError(f"batch_rows={batch_rows}: at least one row")
    path = folder / shard["file"]
    try:
        if found := damage(path, shard):
            raise InputError(f"{path}: {found}; rewrite the folder")
        with pyarrow.parquet.ParquetFile(path) as file:
            missing = set(columns or ()) - set(file.schema_arrow.names)
            if missing:
                raise InputError(
                    f"{path}: has no column {sorted(missing)[0]!r} (columns: {', '.join(file.schema_arrow.names)})"
                )
            yield from file.iter_batches(batch_rows, columns=None if columns is None else list(columns))
    except FileNotFoundError as error:
        raise InputError(f"{path}: is gone; the folder was rewritten meanwhile, open it again") from error
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{path}: is damaged ({error}); rewrite the folder") from error


def offers_of(batch: pyarrow.RecordBatch) -> list[Offer]:
    """The offers of a batch; the seller is `extra["seller"]`, the description is not kept."""
    columns = {name: batch.column(name).to_pylist() for name in OFFER_COLUMNS}
    return [
        Offer(
            id=identifier,
            title=title,
            image=image,
            category=category,
            attributes=dict(attributes or ()),
            product_id=product_id,
            extra={"seller": seller} if seller else {},
        )
        for identifier, title, category, seller, image, attributes, product_id in zip(
            *(columns[name] for name in OFFER_COLUMNS), strict=True
        )
    ]


def key_attributes_of(batch: pyarrow.RecordBatch) -> list[KeyAttributes]:
    """The generated key attributes of a batch's rows; empty where the run had no generator."""
    return [KeyAttributes(tuple(pairs or ())) for pairs in batch.column("key_attributes").to_pylist()]


def embeddings_of(batch: pyarrow.RecordBatch) -> np.ndarray:
    """The embeddings of a batch.

    Shape:
        returns (n, D) float32.
    """
    column = batch.column("embedding")
    return column.flatten().to_numpy().reshape(len(column), column.type.list_size).astype(np.float32)
