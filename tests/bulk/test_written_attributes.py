"""Key attributes come back as they were written: from a folder of `afmrl attributes`, and from a JSONL file."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from afmrl.bulk.written_attributes import read_key_attributes
from afmrl.errors import InputError


def jsonl(path, *rows):
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def attributes_folder(path, rows, *, complete=True, **manifest):
    """As `afmrl attributes` writes it."""
    path.mkdir()
    shards = []
    for number, row in enumerate(rows):
        kinds = pa.schema([("id", pa.string()), ("key_attributes", pa.map_(pa.string(), pa.string())),
                           ("valid", pa.bool_()), ("completion", pa.string())])  # fmt: skip
        pq.write_table(pa.Table.from_pylist([row], kinds), path / f"part-{number:05d}.parquet")
        size = (path / f"part-{number:05d}.parquet").stat().st_size
        shards.append({"file": f"part-{number:05d}.parquet", "rows": 1, "bytes": size})
    pq.write_table(pa.table({"id": ["superseded"]}), path / "part-99999.parquet")  # no manifest names it
    data = {"format": "afmrl-attributes", "version": 1, "complete": complete, "generation": 1, "rows": len(rows),
            "shards": shards, **manifest}  # fmt: skip
    (path / "manifest.json").write_text(json.dumps(data))
    return path


def test_a_file(tmp_path):
    path = jsonl(
        tmp_path / "t.jsonl",
        {"id": "1", "key_attributes": {"Colour": "Red", "cut": None, "size": "unknown"}},
        "",
        {"id": 2, "attributes": {"fit": "loose"}},
        {"id": "3", "completion": '```json\n{"colour": "blue"}\n```'},
        {"id": "4", "completion": "I cannot."},
        {"id": "1", "key_attributes": {"colour": "other"}},
    )
    assert {key: str(each) for key, each in read_key_attributes(path).items()} == {
        "1": "colour: red", "2": "fit: loose", "3": "colour: blue",
    }  # fmt: skip


@pytest.mark.parametrize(
    "line", ["{", '{"key_attributes": {}}', '{"id": "1"}', '{"id": "1", "attributes": "red"}', "[]"]
)
def test_a_line_that_cannot_be_read_is_named(tmp_path, line):
    path = jsonl(tmp_path / "t.jsonl", {"id": "0", "attributes": {}}, line)
    with pytest.raises(InputError, match=r"t.jsonl:2: expected"):
        read_key_attributes(path)


def test_a_folder(tmp_path):
    rows = [
        {"id": "1", "key_attributes": [("colour", "red"), ("size", "m")], "valid": True, "completion": "x"},
        {"id": "2", "key_attributes": [("fit", "loose")], "valid": False, "completion": "x"},
        {"id": "3", "key_attributes": None, "valid": True, "completion": "none"},
    ]
    found = read_key_attributes(attributes_folder(tmp_path / "a", rows))
    assert {key: str(each) for key, each in found.items()} == {"1": "colour: red; size: m", "3": "none"}
    with pytest.raises(InputError, match="not complete"):
        read_key_attributes(attributes_folder(tmp_path / "b", rows, complete=False))
    with pytest.raises(InputError, match="was written by `afmrl embed`"):
        read_key_attributes(attributes_folder(tmp_path / "c", rows, format="afmrl-embeddings"))
    (tmp_path / "a" / "part-00000.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match="part-00000.parquet: is torn"):
        read_key_attributes(tmp_path / "a")
    with pytest.raises(InputError, match="no such file or folder"):
        read_key_attributes(tmp_path / "no")
