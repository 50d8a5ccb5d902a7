"""A flipped bit is noticed: what was read is what was written, or there is a message, and no update copies damage."""

import json
import random
import shutil

import numpy as np
import pytest

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.bulk.folder import BulkFolder, embeddings_of, key_attributes_of, offers_of, read_manifest, schema
from afmrl.bulk.shards import ShardWriter
from afmrl.bulk.state import FolderState
from afmrl.data.offer import Offer
from afmrl.errors import InputError
from afmrl.files import write_sealed
from afmrl.index.address import open_index
from afmrl.index.backend import Rows

SETTINGS = {"model": {"path": "m", "fingerprint": "f"}, "attributes_on": "gallery", "exact_below": 40}
FLIPS = 120


def rows(numbers, generation=0):
    embeddings = np.random.default_rng(generation).normal(size=(len(numbers), 8)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    offers = [Offer(str(n), title=f"dress {n}", category="c", attributes={"size": str(n)}) for n in numbers]
    written = [KeyAttributes.of({"color": "red"})] * len(offers)
    return Rows([offer.id for offer in offers], embeddings, offers, written, [f"{n}-{generation}" for n in numbers])


@pytest.fixture(scope="module")
def embeddings(tmp_path_factory):
    """A folder as `afmrl embed` leaves it, of two shards."""
    import pyarrow as pa

    folder = tmp_path_factory.mktemp("bulk") / "e"
    kinds = schema("afmrl-embeddings", dimension=8)
    content = rows(range(60))
    with FolderState(folder, "afmrl-embeddings") as state:
        writer = ShardWriter(folder, kinds, state.names(), shard_rows=30, save_seconds=None, saved=state.add)
        columns = {
            "id": content.ids, "title": [offer.title for offer in content.offers], "category": ["c"] * 60,
            "seller": [""] * 60, "image": [""] * 60, "product_id": [""] * 60, "fingerprint": content.fingerprints,
            "attributes": [list(offer.attributes.items()) for offer in content.offers], "model": ["m"] * 60,
            "key_attributes": [list(found) for found in content.key_attributes],
            "embedding": list(content.embeddings.astype(np.float16)),
        }  # fmt: skip
        writer.add(pa.RecordBatch.from_arrays([pa.array(columns[f.name], f.type) for f in kinds], schema=kinds))
        writer.close()
        state.complete(state.added, {"dimension": 8, "quarantined": 0})
    return folder


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """A local index of two segments, a graph, and dead rows."""
    folder = tmp_path_factory.mktemp("index") / "i"
    with open_index(str(folder), create=True, dimension=8, settings=SETTINGS) as opened:
        opened.upsert(rows(range(60)))
        opened.upsert(rows(range(50, 70), generation=1))
        opened.delete(["3", "55"])
    return folder


def read_folder(folder):
    found = []
    for batch in BulkFolder.open(folder).batches():
        found += zip(
            offers_of(batch), key_attributes_of(batch), embeddings_of(batch).tolist(),
            batch.column("fingerprint").to_pylist(), batch.column("model").to_pylist(), strict=True,
        )  # fmt: skip
    return found


def read_index(folder):
    with open_index(str(folder)) as opened:
        queries = rows(range(5), generation=2).embeddings
        hits = opened.search(queries, 5)
        words = opened.lexical(["dress 12", "red"], 5)
        everything = [row for batch in opened.scan() for row in zip(batch.ids, batch.offers, strict=True)]
        return hits.ids, [s.tolist() for s in hits.scores], words.ids, [s.tolist() for s in words.scores], everything


def flipped(folder, copy, seed):
    """A copy of the folder with one bit of one file turned."""
    draw = random.Random(seed)
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy)
    files = [path for path in sorted(copy.rglob("*")) if path.is_file() and path.stat().st_size]
    path = draw.choices(files, [path.stat().st_size ** 0.5 for path in files])[0]
    content = bytearray(path.read_bytes())
    place = draw.randrange(len(content))
    content[place] ^= 1 << draw.randrange(8)
    path.write_bytes(content)
    return f"{path.relative_to(copy)} at {place}"


@pytest.mark.parametrize(("kind", "read"), [("embeddings", read_folder), ("index", read_index)])
def test_a_flipped_bit_is_noticed_or_changes_nothing(request, tmp_path, kind, read):
    folder = request.getfixturevalue(kind)
    right, noticed = read(folder), 0
    for seed in range(FLIPS):
        where = flipped(folder, tmp_path / "copy", seed)
        try:
            found = read(tmp_path / "copy")
        except InputError as error:
            noticed += 1
            assert str(tmp_path) in str(error), where
            continue
        assert found == right, where
    assert noticed > 0.8 * FLIPS  # the rest: marks of time, locks


@pytest.mark.parametrize("left", [["index.json.tmp"], ["lock"], ["lock", "index.json.tmp"], ["segments"], []])
def test_what_a_killed_creator_left_is_no_obstacle(tmp_path, left):
    folder = tmp_path / "i"
    folder.mkdir()
    for name in left:
        (folder / name).mkdir() if name == "segments" else (folder / name).write_text('{"format": "afm')
    with open_index(str(folder), create=True, dimension=8, settings=SETTINGS) as opened:
        opened.upsert(rows(range(3)))
    with open_index(str(folder)) as opened:
        assert len(opened) == 3
    (folder / "mine.txt").write_text("dear")
    (folder / "index.json").unlink()
    with pytest.raises(InputError, match=r"other files \(mine\.txt"):
        open_index(str(folder), create=True, dimension=8, settings=SETTINGS)


def test_an_update_of_a_damaged_index_stops_and_changes_nothing(index, tmp_path):
    stopped = 0
    for seed in range(20):
        flipped(index, tmp_path / "copy", seed)
        before = {path: path.read_bytes() for path in (tmp_path / "copy").rglob("*") if path.is_file()}
        try:
            with open_index(str(tmp_path / "copy")) as opened:
                opened.upsert(rows(range(100, 104), generation=3))
        except InputError:
            stopped += 1
            assert {path: path.read_bytes() for path in before} == before
    assert stopped > 14


@pytest.mark.parametrize(
    "changes",
    [
        {"shards": None}, {"shards": {}}, {"shards": [1]}, {"shards": [{}]}, {"shards": [{"file": "../../etc/passwd"}]},
        {"shards": [{"file": "part-00000.parquet", "rows": "30", "bytes": 1}]}, {"rows": "60"}, {"rows": None},
        {"generation": []}, {"complete": "yes"}, {"format": []}, {"format": None}, {"version": "1"},
        {"shards": [{"file": "part-00000.parquet", "rows": 30, "bytes": 1, "crc32": "x"}]},
    ],
)  # fmt: skip
def test_a_manifest_with_wrong_fields_is_one_line(embeddings, tmp_path, changes):
    shutil.copytree(embeddings, tmp_path / "e")
    manifest = read_manifest(tmp_path / "e")
    for name, value in changes.items():
        write_sealed(tmp_path / "e" / "manifest.json", {**manifest, name: value})
        for use in (
            lambda: list(BulkFolder.open(tmp_path / "e").batches()),
            lambda: FolderState(tmp_path / "e", "afmrl-embeddings").close(),
        ):
            with pytest.raises(InputError, match=r"manifest\.json: "):
                use()
        write_sealed(tmp_path / "e" / "manifest.json", {key: of for key, of in manifest.items() if key != name})
        with pytest.raises(InputError, match=r"manifest\.json: "):
            BulkFolder.open(tmp_path / "e")


@pytest.mark.parametrize("journal", ["", "[]", "{}", '{"begun_on": 1}', '{"begun_on": 1, "shards": [{}]}', "[" * 9999])
def test_a_damaged_journal_is_one_line(embeddings, tmp_path, journal):
    shutil.copytree(embeddings, tmp_path / "e")
    (tmp_path / "e" / "journal.json").write_text(journal)
    with pytest.raises(InputError, match=r"journal\.json: cannot be read"):
        FolderState(tmp_path / "e", "afmrl-embeddings")


@pytest.mark.parametrize(
    "changes",
    [
        {"dimension": "8"}, {"settings": []}, {"segments": None}, {"segments": [{}]},
        {"segments": [{"name": "../../x"}]},
        {"segments": [{"name": "000001-0001", "rows": 1, "files": {"../x.npy": {"bytes": 1, "crc32": 1}}}]},
        {"segments": [{"name": "000001-0001", "rows": 1, "files": {}}]}, {"graph": {}}, {"rows": -1}, {"more": 1},
        {"graph": {"file": "../../x", "bytes": 1, "crc32": 1, "width": 1, "recall": 1.0}}, {"sequence": None},
    ],
)  # fmt: skip
def test_a_pointer_with_wrong_fields_is_one_line(index, tmp_path, changes):
    shutil.copytree(index, tmp_path / "i")
    pointer = tmp_path / "i" / "index.json"
    content = json.loads(pointer.read_text())
    del content["checksum"]
    write_sealed(pointer, {**content, **changes})
    with pytest.raises(InputError, match=r"is damaged|is missing"):
        read_index(tmp_path / "i")
