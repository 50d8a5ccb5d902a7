"""Labeled pairs: JSONL and tables, and which labels there are."""

import json

import pytest

from afmrl.data.offer import Offer
from afmrl.data.pairs import read_pairs
from afmrl.errors import InputError

OFFERS = {name: Offer(name, title=name) for name in ("a", "b", "c\u2028d")}


def read(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return [(pair.left.id, pair.right.id, pair.same, pair.split) for pair in read_pairs(path, OFFERS)]


@pytest.mark.parametrize(
    ("label", "same"), [("0", False), ("1", True), ("true", True), ("false", False), ('"1"', True)]
)
def test_labels(tmp_path, label, same):
    assert read(tmp_path / "p.jsonl", f'{{"left": "a", "right": "b", "label": {label}}}') == [("a", "b", same, "")]


@pytest.mark.parametrize("label", ["-1", "0.9", "2", '"2"', "null", '"yes"', "[1]", "NaN"])
def test_other_labels_are_refused(tmp_path, label):
    with pytest.raises(InputError, match=r"p.jsonl:1: expected .* is none of 0, 1, true, false"):
        read(tmp_path / "p.jsonl", f'{{"left": "a", "right": "b", "label": {label}}}')


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_lines_end_at_ends_of_lines_alone(tmp_path, encoding):
    rows = [
        {"left": "a", "right": "c\u2028d", "label": 1, "pair_split": "x\u0085"},
        {"left": "a", "right": "b", "label": 0},
    ]
    text = "\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\r\n\r\n"
    assert read(tmp_path / "p.jsonl", text, encoding) == [("a", "c\u2028d", True, "x\u0085"), ("a", "b", False, "")]


@pytest.mark.parametrize("name", ["p.csv", "p.tsv"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_tables_of_pairs(tmp_path, name, encoding):
    delimiter = "\t" if name.endswith("tsv") else ","
    rows = [("left", "right", "label", "pair_split"), ("a", "b", "1", "test"), ("b", "a", "false", "")]
    text = "\r\n".join(delimiter.join(row) for row in rows)
    assert read(tmp_path / name, text, encoding) == [("a", "b", True, "test"), ("b", "a", False, "")]
    with pytest.raises(InputError, match=rf"{name}:2: expected .*'0.9' is none of"):
        read(tmp_path / name, text.replace("1", "0.9"))


def test_pairs_that_match_wrote_are_read(tmp_path):
    header = "left,right,left_title,right_title,score,probability,same,agree"
    text = f'{header}\na,b,"A, x",B,1.5,0.9,true,"k: v"\nb,a,B,A,1,0.2,false,\n'
    assert read(tmp_path / "pairs.csv", text) == [("a", "b", True, ""), ("b", "a", False, "")]
    lines = '{"left": "a", "right": "b", "score": 2.0, "probability": 0.9, "same": true, "reasons": {}}'
    assert read(tmp_path / "pairs.jsonl", lines) == [("a", "b", True, "")]
