"""`afmrl schema`, and `afmrl attributes --schema`."""

from __future__ import annotations

import json
import re

import pytest

from afmrl.attributes.schema import AttributeSchema
from afmrl.bulk.folder import ATTRIBUTES, BulkFolder, key_attributes_of
from afmrl.cli.app import app
from afmrl.data.catalog import write_catalog
from afmrl.data.offer import Offer
from afmrl.errors import InputError
from chat_server import serve


def run(*arguments):
    app([str(argument) for argument in arguments], result_action="return_value")


def cups():
    """Two offers of each of six cups: colour tells them apart, material does not, the article number splits all."""
    return [
        Offer(
            f"{cup}{seller}", f"cup number {cup} of seller {seller}", category="Cup", product_id=f"cup-{cup}",
            attributes={"colour": f"c{cup}", "material": "china", "article": f"{cup}{seller}"},
        )
        for cup in range(6)
        for seller in "ab"
    ]  # fmt: skip


def test_learns_the_keys_that_tell_products_apart_from_sellers_attributes(tmp_path, capsys):
    write_catalog(tmp_path / "cups.jsonl", cups())
    run("schema", tmp_path / "cups.jsonl", "--out", tmp_path / "schema.yaml")
    schema = AttributeSchema.load(tmp_path / "schema.yaml")
    assert schema.keys("cup") == ["colour"]
    printed = capsys.readouterr().out
    assert "colour" in printed and "article" not in printed and "schema.yaml" in printed


def without_attributes(path):
    offers = [Offer(cup.id, cup.title, category="Cup", product_id=cup.product_id) for cup in cups()]
    write_catalog(path, offers)


def answer(body, _):
    """A teacher that tells cups apart by colour."""
    number = re.search(r"cup number (\d)", json.dumps(body["messages"]))[1]
    told = json.dumps({"Colour": f"tone {number}", "Material": "china"})
    return 200, {}, {
        "choices": [{"message": {"content": told}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 3},
    }  # fmt: skip


def test_a_teacher_is_asked_for_the_keys_of_the_schema(tmp_path):
    without_attributes(tmp_path / "cups.jsonl")
    with serve(answer) as (url, seen):
        ask = ("attributes", tmp_path / "cups.jsonl", "--generator", f"openai:{url}#teacher", "--out")
        run(*ask, tmp_path / "free")
        schema = tmp_path / "schema.json"
        schema.write_text(json.dumps({"cup": [{"key": "color", "synonyms": ["colour"]}]}))
        assert all("response_format" in request["body"] for request in seen)
        before = len(seen)
        run(*ask, tmp_path / "held", "--schema", schema)
        assert all("color" in json.dumps(request["body"]) for request in seen[before:])
        format_ = seen[-1]["body"]["response_format"]["json_schema"]["schema"]
        assert list(format_["properties"]) == ["color"]
        again = len(seen)
        run(*ask, tmp_path / "held", "--schema", schema)
        assert len(seen) == again  # nothing has changed
        schema.write_text(json.dumps({"cup": ["colour", "size"]}))
        run(*ask, tmp_path / "held", "--schema", schema)
        assert len(seen) == again + 12  # the schema has
    keys = {
        key
        for batch in BulkFolder.open(tmp_path / "held", kind=ATTRIBUTES).batches()
        for attributes in key_attributes_of(batch)
        for key, _ in attributes
    }
    assert keys == {"colour"}
    with pytest.raises(InputError, match="no offer has attributes of its seller"):
        run("schema", tmp_path / "cups.jsonl", "--out", tmp_path / "learned.json")


def test_learns_from_written_attributes(tmp_path):
    without_attributes(tmp_path / "cups.jsonl")
    with serve(answer) as (url, _):
        run("attributes", tmp_path / "cups.jsonl", "--generator", f"openai:{url}#teacher", "--out", tmp_path / "free")
    run("schema", tmp_path / "cups.jsonl", "--attributes", tmp_path / "free", "--out", tmp_path / "learned.json",
        "--max-values", 3)  # fmt: skip
    assert AttributeSchema.load(tmp_path / "learned.json").keys("cup") == ["colour"]


def test_says_what_is_wrong(tmp_path, tiny_model):
    write_catalog(tmp_path / "cups.jsonl", cups())
    with pytest.raises(InputError, match=r"must end in \.yaml or \.json"):
        run("schema", tmp_path / "cups.jsonl", "--out", tmp_path / "schema.txt")
    (tmp_path / "trained").mkdir()
    (tmp_path / "trained" / "history.json").write_text("{}")
    (tmp_path / "s.yaml").write_text("cup: [colour]\n")
    with pytest.raises(InputError, match="was trained with a prompt of its own"):
        run("attributes", tmp_path / "cups.jsonl", "--generator", tmp_path / "trained", "--schema", tmp_path / "s.yaml",
            "--out", tmp_path / "out")  # fmt: skip
