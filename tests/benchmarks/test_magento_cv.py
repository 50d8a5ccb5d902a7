"""Cross-validation over the styles of a shop: how folds are cut, and how their cells are added up."""

import importlib

import pytest

from afmrl.data.catalog import read_catalog
from afmrl.data.offer import Offer
from cells import Cells


@pytest.fixture(scope="module")
def cv():
    return importlib.import_module("magento_cv")


def test_a_fold_keeps_its_styles_out_of_training(cv, tmp_path):
    offers = [
        Offer(
            id=f"s{s}-{c}-{role}",
            title=f"style {s}",
            product_id=f"s{s}-{c}",
            extra={"style_id": f"s{s}", "role": role, "split": "train"},
        )
        for s in range(16)
        for c in "ab"
        for role in ("query", "gallery")
    ]
    fold_of = {f"s{s}": s % 4 for s in range(16)}
    path = cv._write_fold(offers, fold_of, 1, tmp_path)
    training = {o.extra["style_id"]: o.extra["split"] for o in read_catalog(path)}
    assert set(training) == {s for s, fold in fold_of.items() if fold != 1}
    assert sorted(training.values()).count("val") == 1
    assert {o.extra["style_id"] for o in read_catalog(tmp_path / "queries.jsonl")} == {"s1", "s5", "s9", "s13"}
    grades = [line.split("\t") for line in (tmp_path / "qrels.tsv").read_text().splitlines()]
    assert ["s1-a-query", "s1-a-gallery", "2"] in grades
    assert ["s1-a-query", "s1-b-gallery", "1"] in grades
    assert len(grades) == 16


def test_the_table_pools_folds(cv, tmp_path):
    cells = Cells(tmp_path / "cells.parquet", *cv.KEY)
    for fold in range(2):
        systems = {name: {f"S{fold}{i}-Red-back": [1 + (i == 0), 1] for i in range(4)} for name in cv.SYSTEMS}
        cell = {"settings": "x", "systems": systems, "fusion": {"bm25": 1.0, "attributes": 0.0, "color": 0.3}}
        cells.put((2, fold), cell)
    cells.put((5, 0), {"settings": "other", "systems": {}})
    text = cv.table(cells, 2)
    assert "8 queries of 8 unseen styles in 2 of 2 folds" in text
    assert "| embedder alone | 0.750" in text
    assert "by fold: 1/0/0.3, 1/0/0.3." in text
    cells.put((2, 1), {"settings": "y", "systems": {}})
    with pytest.raises(SystemExit, match="different settings"):
        cv.table(cells, 2)
