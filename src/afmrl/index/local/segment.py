"""A segment of the local index: some rows in a folder of files that are never changed, memory-mapped when read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.data.damage import checksum, damage
from afmrl.data.offer import Offer
from afmrl.errors import InputError
from afmrl.files import hash64, naming
from afmrl.index.backend import FILTER_COLUMNS, Rows, filter_value, offer_words
from afmrl.index.local.codes import NUMPY_TYPE, decode, encode
from afmrl.index.local.postings import Postings
from afmrl.index.local.version import FileFacts, SegmentEntry
from afmrl.retrieval.colors import readable_color_histograms

if TYPE_CHECKING:
    import pyarrow

RECORDS = "records.arrow"
POSTINGS = ("words", "starts", "rows", "counts", "lengths")
COPY_ROWS = 65_536  # rows copied at a time
MAPPED_BYTES = 65_536


class Segment:
    """Rows of the local index, read from their folder.

    Args:
        folder: of the segment.
        entry: what the version's manifest says of it: "name", "rows", "files" with each one's "bytes" and "crc32".

    Raises:
        FileNotFoundError: a file is not there (any more).
        InputError: a file is not as long as the manifest says, or no such file at all.
    """

    def __init__(self, folder: Path, entry: SegmentEntry) -> None:
        import pyarrow
        import pyarrow.ipc

        self.folder, self.entry, self.num_rows = folder, entry, int(entry["rows"])
        for name, facts in entry["files"].items():
            if found := damage(folder / name, facts):
                raise damaged(folder / name, found)
        try:
            self.codes = self._array("embeddings")
            self.scales = self._array("scales") if "scales.npy" in entry["files"] else None
            self.colors = self._array("colors") if "colors.npy" in entry["files"] else None
            self.orders = self._array("orders")
            self.id_hashes, self.id_rows = self._array("id_hashes"), self._array("id_rows")
            self.postings = Postings(*(self._array(name) for name in POSTINGS))
            self.records: pyarrow.Table = pyarrow.ipc.open_file(pyarrow.memory_map(str(folder / RECORDS))).read_all()
        except FileNotFoundError:
            raise
        except (OSError, ValueError, pyarrow.ArrowException) as error:
            raise damaged(folder, str(error)) from error

    def _array(self, name: str) -> np.ndarray:
        path = self.folder / f"{name}.npy"
        mapped = path.stat().st_size > MAPPED_BYTES  # a mapping of nothing is refused, and of little not worth it
        # a plain array: numpy's class for mapped ones takes twice as long to read a few rows
        return np.asarray(np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False))

    @property
    def name(self) -> str:
        """Of its folder."""
        return str(self.entry["name"])

    @property
    def dtype(self) -> str:
        """How its embeddings are stored."""
        return next(name for name, of_numpy in NUMPY_TYPE.items() if self.codes.dtype == of_numpy)

    def embeddings(self, rows: np.ndarray | slice) -> np.ndarray:
        """(n, D) float32 of some rows."""
        return decode(self.codes[rows], None if self.scales is None else self.scales[rows])

    @cached_property
    def filters(self) -> dict[str, tuple[list[str], np.ndarray]]:
        """Of each of FILTER_COLUMNS its values, and each row's number among them."""
        found = {}
        for column in FILTER_COLUMNS:
            encoded = self.records.column(column).combine_chunks()
            if hasattr(encoded, "dictionary_encode"):
                encoded = encoded.dictionary_encode()
            found[column] = (encoded.dictionary.to_pylist(), encoded.indices.to_numpy())
        return found

    def passing(self, where: dict[str, frozenset[str]]) -> np.ndarray:
        """(N,) bool: the rows that pass a filter."""
        passing = np.ones(self.num_rows, dtype=bool)
        for column, wanted in where.items():
            values, numbers = self.filters[column]
            passing &= np.array([value in wanted for value in values], dtype=bool)[numbers] if values else False
        return passing

    def find(self, ids: Sequence[str], hashes: np.ndarray, alive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which of the ids are living rows here: their places among `ids`, and their rows."""
        first = np.searchsorted(self.id_hashes, hashes, "left")
        count = np.searchsorted(self.id_hashes, hashes, "right") - first
        place = np.repeat(np.arange(len(ids)), count)
        within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        rows = self.id_rows[first[place] + within]
        living = alive[rows]
        place, rows = place[living], rows[living]
        same = [ids[i] == found for i, found in zip(place.tolist(), self.texts("id", rows), strict=True)]
        return place[same], rows[same]  # two ids may share 64 bits

    def texts(self, column: str, rows: np.ndarray) -> list[str]:
        """A text column of some rows."""
        return self.records.column(column).take(np.asarray(rows, dtype=np.int64)).to_pylist()

    def read(self, rows: np.ndarray) -> Rows:
        """Some rows, in this order."""
        columns = self.records.take(np.asarray(rows, dtype=np.int64)).to_pydict()
        offers, key_attributes = [], []
        for i, identifier in enumerate(columns["id"]):
            offers.append(
                Offer(
                    id=identifier,
                    title=columns["title"][i],
                    description=columns["description"][i],
                    image=columns["image"][i],
                    category=columns["category"][i],
                    attributes=json.loads(columns["attributes"][i]),
                    product_id=columns["product_id"][i],
                    extra=json.loads(columns["extra"][i]),
                )
            )
            key_attributes.append(KeyAttributes(tuple(json.loads(columns["key_attributes"][i]).items())))
        return Rows(columns["id"], self.embeddings(rows), offers, key_attributes, columns["fingerprint"])

    def check(self) -> None:
        """Read every byte and compare it with the manifest's checksum.

        Raises:
            InputError: a file was changed.
        """
        for name, facts in self.entry["files"].items():
            if checksum(self.folder / name) != facts["crc32"]:
                raise damaged(self.folder / name, "is not what was written (checksum)")


def write_segment(folder: Path, rows: Rows, orders: np.ndarray, settings: Mapping[str, Any]) -> Segment:
    """Write rows as a new segment.

    Args:
        folder: must not exist yet; its name is the segment's.
        orders: (N,) int64 number of each row in the order of insertion.
        settings: of the index: how embeddings are stored, which words are counted, whether colors are kept.
    """
    import pyarrow

    offers = rows.offers
    columns: dict[str, Any] = {
        "id": rows.ids,
        "fingerprint": rows.fingerprints,
        "title": [offer.title for offer in offers],
        "description": [offer.description for offer in offers],
        "image": [offer.image for offer in offers],
        # as JSON: it keeps the order of keys and every type of `extra`
        "attributes": [json.dumps(dict(offer.attributes), ensure_ascii=False) for offer in offers],
        "key_attributes": [json.dumps(found.as_dict(), ensure_ascii=False) for found in rows.key_attributes],
        "extra": [json.dumps(dict(offer.extra), ensure_ascii=False, default=str) for offer in offers],
        **{column: [filter_value(offer, column) for offer in offers] for column in FILTER_COLUMNS},
    }
    table = pyarrow.table({name: pyarrow.array(values, pyarrow.large_string()) for name, values in columns.items()})
    folder.mkdir(parents=True)
    dtype = str(settings["dtype"])
    codes, scales = encode(np.asarray(rows.embeddings, dtype=np.float32), dtype)
    _save(folder, "embeddings", codes)
    if scales is not None:
        _save(folder, "scales", scales)
    if settings.get("colors"):
        colors = readable_color_histograms(offers)
        _save(folder, "colors", colors.astype(np.float32 if dtype == "f32" else np.float16))
    texts = list(map(offer_words(settings).of_gallery, offers, rows.key_attributes))
    return _finish(folder, [table], hash64(rows.ids), orders, Postings.of(texts))


def join_segments(folder: Path, parts: Sequence[Segment], kept: Sequence[np.ndarray]) -> Segment:
    """Write the rows of several segments as one, in their order.

    Args:
        kept: of each part, ascending, the rows that stay.
    """
    folder.mkdir(parents=True)
    num_rows, dimension = sum(map(len, kept)), parts[0].codes.shape[1]
    # piece by piece, so that the memory taken does not grow with the index; a mapping would die of a full disk
    path = folder / "embeddings.npy"
    header = {"descr": np.lib.format.dtype_to_descr(parts[0].codes.dtype), "fortran_order": False}
    with naming(path), open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, {**header, "shape": (num_rows, dimension)})
        for part, rows in zip(parts, kept, strict=True):
            for start in range(0, len(rows), COPY_ROWS):
                file.write(np.ascontiguousarray(part.codes[rows[start : start + COPY_ROWS]]).data)
    if parts[0].scales is not None:
        scales = [part.scales[rows] for part, rows in zip(parts, kept, strict=True) if part.scales is not None]
        _save(folder, "scales", np.concatenate(scales))
    if parts[0].colors is not None:
        colors = [part.colors[rows] for part, rows in zip(parts, kept, strict=True) if part.colors is not None]
        _save(folder, "colors", np.concatenate(colors))
    orders = np.concatenate([part.orders[rows] for part, rows in zip(parts, kept, strict=True)])
    hashes = []
    for part, rows in zip(parts, kept, strict=True):
        of_row = np.empty(part.num_rows, dtype=np.uint64)
        of_row[part.id_rows] = part.id_hashes
        hashes.append(of_row[rows])
    tables = [
        part.records.take(rows[start : start + COPY_ROWS])
        for part, rows in zip(parts, kept, strict=True)
        for start in range(0, len(rows), COPY_ROWS)
    ]
    postings = Postings.joined([part.postings for part in parts], kept)
    return _finish(folder, tables or [parts[0].records[:0]], np.concatenate(hashes), orders, postings)


def _finish(
    folder: Path, tables: Sequence[pyarrow.Table], hashes: np.ndarray, orders: np.ndarray, postings: Postings
) -> Segment:
    import pyarrow
    import pyarrow.ipc

    with (
        naming(folder / RECORDS),
        open(folder / RECORDS, "wb") as sink,
        pyarrow.ipc.new_file(sink, tables[0].schema) as writer,
    ):
        for table in tables:
            writer.write_table(table, max_chunksize=COPY_ROWS)
    by_hash = np.argsort(hashes, kind="stable")
    _save(folder, "orders", orders.astype(np.int64))
    _save(folder, "id_hashes", hashes[by_hash])
    _save(folder, "id_rows", by_hash.astype(np.int32))
    for name in POSTINGS:
        _save(folder, name, getattr(postings, name))
    files: dict[str, FileFacts] = {
        path.name: {"bytes": path.stat().st_size, "crc32": checksum(path)} for path in sorted(folder.iterdir())
    }
    return Segment(folder, {"name": folder.name, "rows": len(orders), "files": files})


def _save(folder: Path, name: str, values: np.ndarray) -> None:
    path = folder / f"{name}.npy"
    with naming(path), open(path, "wb") as file:
        header = np.lib.format.header_data_from_array_1_0(np.ascontiguousarray(values))
        np.lib.format.write_array_header_1_0(file, header)
        file.write(np.ascontiguousarray(values).data)


def damaged(path: Path, reason: str) -> InputError:
    """What to say of a file of an index that cannot be used."""
    return InputError(f"index: {path}: {reason}; the index is damaged, make it again from its embeddings")
