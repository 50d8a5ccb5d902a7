"""Labeled pairs as rows of a table, and what they say of other pairs."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from match_catalogs import catalog

from afmrl.errors import InputError
from afmrl.matching.group_quality import GroupQuality
from afmrl.matching.labeled_pairs import KnownPairs, LabeledRows
from afmrl.matching.match import match


def rows(*pairs: tuple[int, int, int], split: str = "train") -> LabeledRows:
    left, right, same = np.array(pairs).T
    return LabeledRows(left, right, same.astype(bool), np.array([split] * len(pairs)))


def said(known: KnownPairs, *pairs: tuple[int, int]) -> list[float]:
    left, right = np.array(pairs).T
    return known.of(left, right).tolist()


def test_pairs_are_joined_to_products_and_one_different_pair_keeps_two_products_apart() -> None:
    known = KnownPairs(rows((0, 1, 1), (1, 2, 1), (3, 4, 1), (2, 3, 0)), 7)
    assert said(known, (0, 2), (0, 4), (4, 1)) == [1, 0, 0]
    assert np.isnan(said(known, (0, 5), (5, 6))).all() and known.sizes.tolist() == [3, 3, 3, 2, 2, 1, 1]


def test_a_pair_that_somebody_called_different_is_so_inside_a_product_too() -> None:
    assert said(KnownPairs(rows((0, 1, 1), (1, 2, 1), (0, 2, 0)), 3), (2, 0), (0, 1)) == [0, 1]


def test_test_pairs_say_nothing() -> None:
    assert np.isnan(said(KnownPairs(rows((0, 1, 1), (1, 2, 0), split="test"), 3), (0, 1), (1, 2))).all()


def test_offers_of_one_side_are_different_where_labels_compare_two_sides() -> None:
    across = [(a, b, int(b == a + 10 < 14)) for a in range(10) for b in range(10, 20) if (a + b) % 3]
    known = KnownPairs(rows(*across), 22)
    assert said(known, (0, 1), (5, 8), (15, 19)) == [0, 0, 0] and np.isnan(said(known, (0, 21), (20, 21))).all()
    # one pair within a side: they compare whatever is alike, and say nothing of the rest
    within = KnownPairs(rows(*across, (0, 1, 1)), 22)
    assert np.isnan(said(within, (5, 8), (15, 19))).all()
    # too few pairs to tell
    assert np.isnan(said(KnownPairs(rows((0, 2, 0), (1, 2, 0)), 3), (0, 1))).all()


def test_products_say_all_of_their_offers_but_those_of_test() -> None:
    products = np.array([0, 0, 1, -1, 1])
    splits = np.array(["train", "train", "validation", "", "test"])
    none = np.empty(0, np.int64)
    known = KnownPairs(LabeledRows(none, none, none.astype(bool), none.astype(str), products, splits), 5)
    assert said(known, (0, 1), (0, 2)) == [1, 0] and np.isnan(said(known, (0, 3), (2, 4))).all()


@pytest.mark.parametrize("seed", range(5))
def test_expected_bcubed_is_bcubed_where_all_is_known(seed: int) -> None:
    draw = np.random.default_rng(seed)
    products, groups = draw.integers(8, size=40), draw.integers(8, size=40)
    none = np.empty(0, np.int64)
    labels = LabeledRows(none, none, none.astype(bool), none.astype(str), products, np.array([""] * 40))
    left, right = np.triu_indices(40, 1)
    offers = np.flatnonzero(draw.random(40) < 0.5)
    touching = np.isin(left, offers) | np.isin(right, offers)
    quality = GroupQuality(offers, KnownPairs(labels, 40), lambda a, b: np.full(len(a), np.nan), left[touching],
                           right[touching])  # fmt: skip
    for ours, of in zip(quality.of(groups), (groups, products), strict=True):
        shared = [((groups == groups[row]) & (products == products[row])).sum() for row in offers]
        np.testing.assert_allclose(ours, [n / (of == of[row]).sum() for n, row in zip(shared, offers, strict=True)])


def test_a_pair_that_nobody_knows_counts_by_its_probability() -> None:
    none = np.empty(0, np.int64)
    known = KnownPairs(LabeledRows(none, none, none.astype(bool), none.astype(str)), 2)
    quality = GroupQuality(np.array([0]), known, lambda a, b: np.full(len(a), 0.25), np.array([0]), np.array([1]))
    assert [float(of[0]) for of in quality.of(np.array([0, 0]))] == [1.25 / 2, 1]
    assert [float(of[0]) for of in quality.of(np.array([0, 1]))] == [1, 1 / 1.25]


def test_labels_of_offers_that_are_gone_are_left_out_and_counted(tmp_path: Path) -> None:
    offers, products = catalog()
    labels = [
        {"left": left, "right": right, "label": int(products[left] == products[right])}
        for left, right in itertools.combinations(sorted(products)[:60], 2)
    ]
    gone = [{"left": "gone", "right": offers[0].id, "label": 1}] * 3
    (tmp_path / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in labels + gone))
    (tmp_path / "known.jsonl").write_text("".join(json.dumps(row) + "\n" for row in labels))
    ours, theirs = (match(offers, labels=tmp_path / name) for name in ("labels.jsonl", "known.jsonl"))
    assert "3 labeled pairs of offers that are not in the catalog left out" in ours.summary["notes"]
    assert [group.ids for group in ours.groups] == [group.ids for group in theirs.groups]
    (tmp_path / "others.jsonl").write_text("".join(json.dumps(row) + "\n" for row in labels[:2] + gone))
    with pytest.raises(InputError, match="3 pairs name unknown ids; give the catalog they were made for"):
        match(offers, labels=tmp_path / "others.jsonl")
