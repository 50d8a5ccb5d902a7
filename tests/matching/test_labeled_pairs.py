"""Labeled pairs: what is learned from them, and what is not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from match_catalogs import labeled

from afmrl.data.catalog import write_catalog
from afmrl.errors import InputError
from afmrl.matching.features import feature_names
from afmrl.matching.labeled_pairs import LabeledRows, learn_from_labels
from afmrl.matching.match import match
from afmrl.matching.pair_model import default_model
from afmrl.matching.scorer import Scorer
from afmrl.matching.table import offer_table
from afmrl.report.match_page import write_match_page


@pytest.mark.parametrize("split", ["", "-"])
def test_labels_choose_the_threshold_and_respect_their_splits(split: str) -> None:
    offers, pairs = labeled(split)
    table = offer_table(sorted(offers, key=lambda offer: offer.id))
    rows = LabeledRows.of(pairs, {offer.id: row for row, offer in enumerate(table.offers)})
    scorer = Scorer(table, default_model(feature_names(table), dense=False).model)
    result = learn_from_labels(scorer, rows, 0.95)
    assert result.threshold.reached and result.precision.mean >= 0.9 and result.recall.mean > 0.9
    assert ("test pairs" in result.measured_on) == (split == "")
    if split == "":
        # what test pairs say changes nothing but the measurement
        turned = LabeledRows(rows.left, rows.right, rows.same ^ (rows.split == "test"), rows.split)
        again = learn_from_labels(scorer, turned, 0.95)
        assert again.threshold.logit == result.threshold.logit and again.precision.mean < result.precision.mean


def test_wrong_labels_do_not_put_every_pair_out_of_reach() -> None:
    offers, pairs = labeled()
    table = offer_table(sorted(offers, key=lambda offer: offer.id))
    rows = LabeledRows.of(pairs, {offer.id: row for row, offer in enumerate(table.offers)})
    scorer = Scorer(table, default_model(feature_names(table), dense=False).model)
    assert "precision 0.99 on" in learn_from_labels(scorer, rows, None).threshold.origin
    wrong = rows.same & (rows.split == "validation") & (np.random.default_rng(0).random(len(rows.same)) < 0.06)
    noisy = LabeledRows(rows.left, rows.right, rows.same & ~wrong, rows.split)
    asked, given = learn_from_labels(scorer, noisy, 0.99), learn_from_labels(scorer, noisy, None)
    assert asked.threshold.recall is not None and asked.threshold.recall.mean < 0.25
    assert given.threshold.logit < asked.threshold.logit and "asks for it" in given.threshold.origin
    assert given.threshold.recall is not None and given.threshold.recall.mean > 0.25


def test_pairs_without_a_split_beside_test_pairs_do_not_learn_from_these() -> None:
    offers, pairs = labeled("-")
    table = offer_table(sorted(offers, key=lambda offer: offer.id))
    rows = LabeledRows.of(pairs, {offer.id: row for row, offer in enumerate(table.offers)})
    split = np.where(np.arange(len(pairs)) % 3 == 0, "test", "")
    scorer = Scorer(table, default_model(feature_names(table), dense=False).model)
    found = [
        learn_from_labels(scorer, LabeledRows(rows.left, rows.right, same, split), 0.95)
        for same in (rows.same, rows.same ^ (split == "test"))
    ]
    assert found[0].threshold.logit == found[1].threshold.logit and found[0].measured_on == "test pairs"
    np.testing.assert_array_equal(found[0].model.coefficients, found[1].model.coefficients)


def test_labels_of_one_kind_are_refused(tmp_path: Path) -> None:
    offers, pairs = labeled()
    write_catalog(tmp_path / "c.jsonl", offers)
    with open(tmp_path / "pairs.jsonl", "w", encoding="utf-8") as file:
        for pair in pairs:
            file.write(json.dumps({"left": pair.left.id, "right": pair.right.id, "label": 0}) + "\n")
    with pytest.raises(InputError, match="pairs of both kinds"):
        match(tmp_path / "c.jsonl", out=tmp_path / "out")


def test_pairs_beside_the_catalog_are_used(tmp_path: Path) -> None:
    offers, pairs = labeled()
    write_catalog(tmp_path / "c.jsonl", offers)
    with open(tmp_path / "pairs.jsonl", "w", encoding="utf-8") as file:
        for pair in pairs:
            row = {"left": pair.left.id, "right": pair.right.id, "label": int(pair.same), "pair_split": pair.split}
            file.write(json.dumps(row) + "\n")
    result = match(tmp_path / "c.jsonl", out=tmp_path / "out", precision=0.95)
    summary = result.summary
    assert "validation pairs" in summary["threshold"]["from"] and summary["labels"]["measured_on"] == "test pairs"
    assert "Reliability" in write_match_page(result, tmp_path).read_text(encoding="utf-8")
