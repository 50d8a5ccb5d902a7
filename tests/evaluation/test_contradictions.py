"""Queries beside a look-alike that differs in one key."""

from __future__ import annotations

import json

import pytest

from afmrl.data.catalog import read_catalog
from afmrl.data.offer import Offer
from afmrl.errors import InputError
from afmrl.evaluation.contradictions import contradictions, write_contradictions
from afmrl.evaluation.tasks import RetrievalTask, build_task, choose_split


def product(name: str, title: str, *, copies: int = 2, split: str = "test", **attributes: str) -> list[Offer]:
    words = ("", " new", " now")
    return [Offer(f"{name}{n}", title + words[n], product_id=name, attributes=attributes, extra={"split": split})
            for n in range(copies)]  # fmt: skip


CATALOG = [
    *product("red", "Maison Loire silk evening dress red"),
    *product("navy", "Maison Loire silk evening dress navy"),
    *product("small", "Kingston fury ddr4 desktop memory kit 8 gb"),
    *product("large", "Kingston fury ddr4 desktop memory kit 16 gb"),
    # two keys differ
    *product("a", "Tefal expertise frying pan black 28 cm"),
    *product("b", "Tefal expertise frying pan blue 32 cm"),
    *product("alone", "Stanley claw hammer"),
    *product("elsewhere", "Stanley rubber mallet green", split="train"),
]


def task_of(offers: list[Offer]) -> RetrievalTask:
    task = build_task("fine", choose_split(offers, "test", ["all"]))
    assert isinstance(task, RetrievalTask)
    return task


def test_look_alikes_that_differ_in_one_key_are_found():
    found = contradictions(task_of(CATALOG))
    assert {query: (one.key, one.by[:-1]) for query, one in found.items()} == {
        "red0": ("color", "navy"), "navy0": ("color", "red"),
        "small0": ("memory", "large"), "large0": ("memory", "small"),
    }  # fmt: skip


def test_labels_are_not_read():
    swapped = [
        *product("red 16 gb", "Maison Loire silk evening dress"),
        *product("navy", "Maison Loire silk evening dress"),
    ]
    assert contradictions(task_of(swapped)) == {}


def test_attributes_of_another_column_count():
    offers = [
        Offer(f"{color}{n}", "silk evening dress " + "ab"[n], product_id=color,
              extra={"split": "test", "true": {"color": color}})
        for color in ("red", "navy") for n in range(2)
    ]  # fmt: skip
    assert contradictions(task_of(offers)) == {}
    assert {one.key for one in contradictions(task_of(offers), attributes="true").values()} == {"color"}
    with pytest.raises(InputError, match="--attributes truth: no offer has such a column"):
        contradictions(task_of(offers), attributes="truth")


@pytest.mark.parametrize(("splits", "gallery"), [([], 7), (["--gallery-splits", "all"], 9)])
def test_the_command_writes_a_catalog_that_evaluate_reports_by_key(splits, gallery, tmp_path, call):
    path, out = tmp_path / "catalog.jsonl", tmp_path / "hard.jsonl"
    rows = [{"id": o.id, "title": o.title, "product_id": o.product_id, **o.extra} for o in CATALOG]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, printed, _ = call("dataset", "contradictions", path, "--out", out, "--split", "test", *splits)
    assert code == 0, printed
    assert f"4 of 7 queries (test) have a look-alike that differs in one key; {gallery} gallery offers" in printed
    assert "color                       2" in printed
    written = read_catalog(out).by_id
    assert len(written) == 4 + gallery
    assert written["red0"].extra["contradicts_by"].startswith("navy")
    code, printed, err = call("evaluate", "--catalog", out, "--model", "bm25", "--out", tmp_path / "found")
    assert code == 0, err
    fine = next(iter(json.loads((tmp_path / "found" / "metrics.json").read_text())["tasks"].values()))
    assert {name: of["num_queries"] for name, of in fine["slices"]["contradicts"].items()} == {"color": 2, "memory": 2}


@pytest.mark.parametrize(
    ("offers", "out", "text"),
    [
        (CATALOG[-4:-2], "o.jsonl", "no query has a look-alike"),
        (CATALOG[:1], "o.jsonl", "no queries"),
        (CATALOG, "o.csv", "is written as .jsonl"),
    ],
)
def test_a_catalog_without_any_is_said_so(offers, out, text, tmp_path):
    path = tmp_path / "catalog.jsonl"
    rows = [{"id": o.id, "title": o.title, "product_id": o.product_id, **o.extra} for o in offers]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(InputError, match=text):
        write_contradictions(path, tmp_path / out)


def test_an_unlabeled_offer_is_no_other_product():
    offers = [Offer(o.id, o.title, product_id="" if o.id.startswith("navy") else o.product_id, extra=o.extra)
              for o in CATALOG[:4]]  # fmt: skip
    assert contradictions(task_of(offers)) == {}


def test_the_catalog_itself_is_not_written_over(tmp_path):
    path = tmp_path / "catalog.jsonl"
    rows = [{"id": o.id, "title": o.title, "product_id": o.product_id, **o.extra} for o in CATALOG]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(InputError, match="is the catalog itself"):
        write_contradictions(path, path)
