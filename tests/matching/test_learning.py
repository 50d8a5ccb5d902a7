"""What labels teach: model, threshold and calibration, and what they do not."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from match_catalogs import catalog, labeled

from afmrl.data.catalog import write_catalog
from afmrl.data.offer import Offer
from afmrl.data.pairs import LabeledPair
from afmrl.errors import InputError
from afmrl.matching.candidates import candidate_pairs
from afmrl.matching.features import feature_names
from afmrl.matching.labeled_pairs import LabeledRows
from afmrl.matching.learning import LabeledResult, learn_from_labels
from afmrl.matching.match import match
from afmrl.matching.matched_table import match_table
from afmrl.matching.pair_model import default_model
from afmrl.matching.scorer import Scorer
from afmrl.matching.table import OfferTable, offer_table
from afmrl.matching.threshold_aim import ThresholdAim
from afmrl.matching.validation_groups import ValidationGroups
from afmrl.report.match_page import write_match_page


def learned(table: OfferTable, rows: LabeledRows, aim: ThresholdAim | None = None) -> LabeledResult:
    default = default_model(feature_names(table), dense=False)
    return learn_from_labels(Scorer(table, default.model), rows, candidate_pairs(table), default, aim)


def rows_of(offers: Sequence[Offer], pairs: Sequence[LabeledPair]) -> tuple[OfferTable, LabeledRows]:
    table = offer_table(sorted(offers, key=lambda offer: offer.id))
    return table, LabeledRows.of(pairs, {offer.id: row for row, offer in enumerate(table.offers)})


def write_pairs(path: Path, pairs: Sequence[LabeledPair]) -> Path:
    lines = [
        {"left": pair.left.id, "right": pair.right.id, "label": int(pair.same), "pair_split": pair.split}
        for pair in pairs
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def bcubed_f1(groups: Sequence[Sequence[str]], products: dict[str, str]) -> float:
    """By hand, offer by offer."""
    of = {member: set(members) for members in groups for member in members}
    precision, recall = [], []
    for offer, product in products.items():
        ours = of.get(offer, {offer})
        true = {other for other, its in products.items() if its == product}
        precision.append(len(ours & true) / len(ours))
        recall.append(len(ours & true) / len(true))
    p, r = float(np.mean(precision)), float(np.mean(recall))
    return 2 * p * r / (p + r)


@pytest.mark.parametrize("split", ["", "-"])
def test_labels_respect_their_splits(split: str) -> None:
    table, rows = rows_of(*labeled(split))
    aim = ThresholdAim(precision=0.95)
    result = learned(table, rows, aim)
    assert result.threshold.reached and result.precision.mean >= 0.9 and result.recall.mean > 0.9
    assert ("test pairs" in result.measured_on) == (split == "")
    if split == "":
        # what test pairs say changes nothing but the measurement
        turned = replace(rows, same=rows.same ^ (rows.split == "test"))
        for asked in (aim, None):
            ours, again = learned(table, rows, asked), learned(table, turned, asked)
            assert again.threshold.logit == ours.threshold.logit and again.precision.mean < ours.precision.mean
            np.testing.assert_array_equal(again.model.coefficients, ours.model.coefficients)


def test_each_aim_leads_where_it_says() -> None:
    table, rows = rows_of(*labeled())
    noisy = replace(rows, same=rows.same ^ (np.random.default_rng(0).random(len(rows.same)) < 0.1))
    strict, loose = (learned(table, noisy, ThresholdAim(precision=share)).chosen for share in (0.97, 0.8))
    assert strict.precision.mean >= 0.97 and strict.logit >= loose.logit and loose.precision.mean >= 0.8
    # wrong labels among vetoed pairs are never found
    part = learned(table, noisy, ThresholdAim(recall=0.2)).chosen
    assert 0.2 <= part.recall.mean < 0.3
    best = learned(table, noisy, ThresholdAim(best_f1=True))

    def f1(point) -> float:
        return 2 * point.precision.mean * point.recall.mean / (point.precision.mean + point.recall.mean)

    assert all(f1(best.chosen) >= f1(point) for point in best.curve if point.num_found)
    given = learned(table, noisy, ThresholdAim(probability=0.7))
    assert given.model.probabilities(np.array([given.threshold.logit]))[0] == pytest.approx(0.7)


def test_the_curve_falls_in_threshold_and_rises_in_recall() -> None:
    curve = learned(*rows_of(*labeled())).curve
    assert len(curve) > 5
    assert all(a.logit > b.logit and a.recall.mean < b.recall.mean for a, b in zip(curve, curve[1:], strict=False))
    assert all(point.precision.low < point.precision.mean <= point.precision.high + 1e-9 for point in curve)


def test_a_precision_that_finds_little_says_what_it_costs() -> None:
    table, rows = rows_of(*labeled())
    wrong = rows.same & (np.random.default_rng(0).random(len(rows.same)) < 0.06)
    noisy = replace(rows, same=rows.same & ~wrong)
    asked, free = learned(table, noisy, ThresholdAim(precision=0.99)), learned(table, noisy)
    assert asked.chosen.recall.mean < 0.25 and "--best-f1" in asked.notes[0]
    total = int(noisy.same[noisy.split == "validation"].sum())
    assert f"at precision 0.99: {asked.chosen.num_found} of {total} same-product pairs found" in asked.notes[0]
    assert free.chosen.recall.mean > 0.9 and not free.notes
    matched = match_table(table, labels=noisy, aim=ThresholdAim(precision=0.99))
    assert asked.notes[0] in matched.notes


@pytest.mark.parametrize(
    ("sample", "wrong"), [("all", 0.0), ("all", 0.3), ("hard", 0.1), ("few", 0.0), ("few", 0.3), ("matches", 0.1)]
)
def test_labels_never_make_the_groups_worse(tmp_path: Path, sample: str, wrong: float) -> None:
    offers, products = catalog(seed=4, families=12)
    draw = np.random.default_rng(3)
    _, pairs = labeled("-", families=12)
    chosen = {
        "all": pairs,
        # hard negatives and matches are all that a publisher labels
        "hard": [pair for pair in pairs if pair.same or draw.random() < 0.1],
        "few": [pairs[place] for place in draw.choice(len(pairs), 40, replace=False)],
        "matches": [pair for pair in pairs if pair.same or draw.random() < 0.005],
    }[sample]
    given = [replace(pair, same=pair.same ^ bool(draw.random() < wrong)) for pair in chosen]
    write_catalog(tmp_path / "c.jsonl", offers)
    labels = write_pairs(tmp_path / "labels.jsonl", given)
    without = bcubed_f1([group.ids for group in match(tmp_path / "c.jsonl").groups], products)
    result = match(tmp_path / "c.jsonl", labels=labels)
    assert bcubed_f1([group.ids for group in result.groups], products) >= without - 0.01
    assert without > 0.95


def test_labels_that_tell_apart_what_looks_the_same_do_not_lower_the_threshold() -> None:
    # two shops whose labels call most offers of one title different
    titles = [f"brand{n % 5} cordless drill {chr(97 + n)}{chr(98 + n)}x {1000 + 7 * n}" for n in range(24)]
    offers = [Offer(f"{shop}{n:02}", f"{title} {shop}") for shop in "ab" for n, title in enumerate(titles)]
    pairs = [
        LabeledPair(ours, theirs, ours.id[1:] == theirs.id[1:] and int(ours.id[1:]) % 2 == 0)
        for ours in offers[:24] for theirs in offers[24:] if abs(int(ours.id[1:]) - int(theirs.id[1:])) < 4
    ]  # fmt: skip
    table, rows = rows_of(offers, pairs)
    default = default_model(feature_names(table), dense=False)
    assert learned(table, rows).threshold.logit >= default.threshold.logit


def test_an_equal_gtin_counts_where_labels_are_measured(tmp_path: Path) -> None:
    offers, pairs = labeled()
    codes = ("4006381333931", "5901234123457", "4012345678901", "0012345678905")
    twins = [
        (Offer(f"t{n}a", f"Fusion backpack {word}", attributes={"gtin": code}),
         Offer(f"t{n}b", f"Tagesrucksack {other}", attributes={"gtin": code}))
        for n, (code, word, other) in enumerate(zip(codes, "uvwx", "klmn", strict=True))
    ]  # fmt: skip
    told = [LabeledPair(a, b, True, "test") for a, b in twins]
    table, rows = rows_of(
        [*offers, *(offer for pair in twins for offer in pair)], [*(p for p in pairs if p.split != "test"), *told,
         LabeledPair(twins[0][0], twins[1][1], False, "test")],
    )  # fmt: skip
    result = learned(table, rows)
    assert result.measured_on == "test pairs" and result.recall.mean == result.precision.mean == 1


def test_labels_of_one_kind_are_refused(tmp_path: Path) -> None:
    offers, pairs = labeled()
    write_catalog(tmp_path / "c.jsonl", offers)
    write_pairs(tmp_path / "pairs.jsonl", [replace(pair, same=False) for pair in pairs])
    with pytest.raises(InputError, match="pairs of both kinds"):
        match(tmp_path / "c.jsonl", out=tmp_path / "out")


def test_a_threshold_needs_labels_or_is_a_probability() -> None:
    offers = [Offer("1", "Drill hr2470"), Offer("2", "drill HR-2470")]
    for asked in ({"precision": 0.9}, {"recall": 0.9}, {"best_f1": True}):
        with pytest.raises(InputError, match="needs labels"):
            match(offers, **asked)
    result = match(offers, threshold=0.999)
    assert result.summary["threshold"] == {**result.summary["threshold"], "probability": 0.999}
    assert not result.groups and match(offers, threshold=0.2).groups


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"precision": 1.2}, "--precision 1.2: a share above 0, up to 1"),
        ({"recall": 0}, "--recall 0: a share above 0, up to 1"),
        ({"threshold": 1}, "--threshold 1: a probability above 0 and below 1"),
        ({"threshold": float("nan")}, "--threshold nan"),
        ({"precision": 0.9, "best_f1": True}, "--precision and --best-f1 exclude each other"),
        ({"max_bad": 1.5}, "max_bad (--max-bad) 1.5: a share between 0"),
    ],
)
def test_what_cannot_be_asked_is_refused(asked: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        match([Offer("1", "Drill hr2470")], **asked)


def test_pairs_beside_the_catalog_are_used_before_its_product_ids(tmp_path: Path) -> None:
    offers, pairs = labeled()
    _, products = catalog(seed=4, families=25)
    write_catalog(tmp_path / "c.jsonl", [replace(offer, product_id=products[offer.id]) for offer in offers])
    path = write_pairs(tmp_path / "pairs.jsonl", pairs)
    result = match(tmp_path / "c.jsonl", out=tmp_path / "out", precision=0.95)
    summary = result.summary
    assert summary["labels_from"] == f"{len(pairs):,} pairs of {path}"
    assert "validation pairs" in summary["threshold"]["from"] and summary["labels"]["measured_on"] == "test pairs"
    page = write_match_page(result, tmp_path).read_text(encoding="utf-8")
    assert "Reliability" in page and "Precision over recall" in page and "chosen" in page
    path.unlink()
    assert match(tmp_path / "c.jsonl").summary["labels_from"] == f"product_id of {len(offers)} offers in c.jsonl"
    assert match(tmp_path / "c.jsonl", labels=False).summary["labels"] is None


def test_product_ids_are_labels_by_split_and_test_offers_teach_nothing() -> None:
    offers, products = catalog(seed=4, families=25)
    splits = ("train", "train", "val", "test")
    given = [
        replace(
            offer, product_id=products[offer.id], extra={"split": splits[int(products[offer.id].split("-")[0]) % 4]}
        )
        for offer in offers
    ]
    result = match(given)
    assert result.summary["labels"]["measured_on"] == "test pairs"
    mixed = [replace(o, product_id="x" + o.id) if o.extra["split"] == "test" else o for o in given]
    assert [group.ids for group in match(mixed).groups] == [group.ids for group in result.groups]
    assert match(mixed).summary["labels"]["recall"] != result.summary["labels"]["recall"]


def test_offers_without_a_product_id_are_no_negatives() -> None:
    offers, products = catalog(seed=4, families=25)
    table = offer_table(
        sorted(
            (replace(o, product_id=products[o.id] if n % 2 else "N/A") for n, o in enumerate(offers)),
            key=lambda offer: offer.id,
        )
    )
    rows = LabeledRows.of_products(table.offers, *candidate_pairs(table))
    assert len(rows.left) and all(table.offers[row].product_id != "N/A" for row in (*rows.left, *rows.right))


def test_a_product_id_of_its_own_in_every_row_is_no_label() -> None:
    offers, _ = catalog(seed=4, families=25)
    result = match([replace(offer, product_id=f"row-{number}") for number, offer in enumerate(offers)])
    assert result.summary["labels"] is None and any("product_id joins too few" in n for n in result.summary["notes"])
    assert [g.ids for g in result.groups] == [g.ids for g in match(offers).groups]


def test_learning_does_not_depend_on_the_order_of_the_catalog() -> None:
    offers, products = catalog(seed=4, families=25)
    given = [replace(offer, product_id=products[offer.id]) for offer in offers]
    one, other = match(given), match(given[::-1])
    assert one.summary == other.summary and one.groups == other.groups


def test_a_promise_in_folds_is_made_on_the_scores_that_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    table, rows = rows_of(*labeled("-"))
    monkeypatch.setattr(ValidationGroups, "best", lambda groups: groups.at(True, 0.0))  # the fitted model groups better
    without, promised = (
        learned(table, rows, ThresholdAim(precision=0.8, confidence=confidence)) for confidence in (None, 0.9)
    )
    default = default_model(feature_names(table), dense=False).model
    assert without.groups.is_fitted and not promised.groups.is_fitted
    np.testing.assert_array_equal(promised.model.coefficients, default.coefficients)
