"""`afmrl match`: facts, vetoes, candidates, groups, probabilities, output, the command."""

from __future__ import annotations

import csv
import html
import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from afmrl.data.catalog import write_catalog
from afmrl.data.offer import Offer
from afmrl.data.pairs import LabeledPair
from afmrl.errors import InputError
from afmrl.matching.bcubed import bcubed, bcubed_f1
from afmrl.matching.candidates import candidate_pairs
from afmrl.matching.conflicts import IDENTIFYING
from afmrl.matching.defaults import default_model
from afmrl.matching.features import FALLING, TEXT_FEATURES, Comparer, feature_names
from afmrl.matching.groups import group_offers
from afmrl.matching.labels import LabeledRows, learn_from_labels
from afmrl.matching.match import match_catalog, match_offers, veto_keys, write_match
from afmrl.matching.pair_model import PairModel, fit_pair_model
from afmrl.matching.probability import calibrated, precision_and_recall, reliability, threshold_for_precision, wilson
from afmrl.matching.scoring import Scorer
from afmrl.matching.table import OfferTable, offer_table
from afmrl.report.match_page import write_match_page
from conftest import save_image

VARIANTS = [
    ("model", "Samsung Galaxy A12 64GB Black", "Samsung Galaxy A12s 64GB Black"),
    ("memory", "Samsung Galaxy A12 64GB Black", "Samsung Galaxy A12 128GB Black"),
    ("color", "Nike Air Zoom Pegasus red", "Nike Air Zoom Pegasus blue"),
    ("model", "Apple iPhone 12 128GB", "Apple iPhone 13 128GB"),
    ("model", "Apple iPhone 12 128GB black", "Apple iPhone 12 Pro 128GB black"),
    ("model", "Sony WH-1000XM4 Headphones", "Sony WH-1000XM5 Headphones"),
    ("length", "Dymo D1 tape 9mm x 7m black on white", "Dymo D1 tape 12mm x 7m black on white"),
    ("volume", "Cola Zero 330 ml", "Cola Zero 500 ml"),
    ("pack", "Energizer AA batteries pack of 4", "Energizer AA batteries pack of 8"),
    ("year", "Microsoft Office 2007 Standard", "Microsoft Office 2010 Standard"),
    ("size", "T-shirt organic cotton size M", "T-shirt organic cotton size L"),
    ("size", "Adidas Superstar shoes EU 42", "Adidas Superstar shoes EU 43"),
    ("model", "MX Master 2S mouse", "MX Master 3 mouse"),
    ("channels", "Jabra Biz 2300 mono headset", "Jabra Biz 2300 duo headset"),
    ("gtin", "Garden hose 4006381333931", "Garden hose 4006381333948"),
]
NO_CONFLICT = [
    ("Cola Zero 1 l", "Cola Zero 1000 ml"),
    ("WD Blue SSD 2TB", "WD Blue SSD 2000 GB"),
    ("Card 4096 MB", "Card 4GB"),
    ("Garden chair black", "Garden chair black/white"),
    ("Toner giallo 106R", "Toner yellow 106R"),
    ("Hose 24 inch", "Hose 61 cm"),
    ("Sony WH-1000XM4", "Sony WH1000XM4"),
    ("Canon SX10IS", "Canon SX10 IS"),
    ("Yamaha RX-V663BK receiver", "Yamaha RXV663 receiver"),
    ("Tape S0720680", "Tape 40913 S-0720680"),
    ("GE antenna TV24746", "GE antenna 24746"),
    ("Toner for LBP5000, LBP5100 and LBP5300", "Toner LBP5100"),
    ("Card RTX 2060 AMP Super 8GB", "Card RTX 2060 SUPER AMP 8GB"),
    ("Photoshop Elements 4.0", "Photoshop Elements 4"),
    ("Tape 9mm x 7m", "Tape 9 mm"),
]


def table_of(*titles: str) -> OfferTable:
    return offer_table([Offer(f"{number:03}", title) for number, title in enumerate(titles)])


def conflicts_of(left: str, right: str) -> set[str]:
    comparer = Comparer(table_of(left, right))
    found = comparer.compare(np.array([0]), np.array([1]))
    return {key for key, differs in zip(found.keys, found.differ[0], strict=True) if differs}


@pytest.mark.parametrize(("key", "left", "right"), VARIANTS)
def test_variants_conflict_in_what_tells_them_apart(key: str, left: str, right: str) -> None:
    found = {"model" if name in ("series", "variant") else name for name in conflicts_of(left, right)}
    assert key in found
    assert conflicts_of(left, right) == conflicts_of(right, left)
    matched = match_offers(table_of(left, right))
    assert matched.groups[0] != matched.groups[1]


@pytest.mark.parametrize(("left", "right"), NO_CONFLICT)
def test_other_spellings_do_not_conflict(left: str, right: str) -> None:
    assert not conflicts_of(left, right) & set(IDENTIFYING)


def test_sellers_attributes_conflict_and_generated_ones_do_not_veto() -> None:
    from afmrl.attributes.key_attributes import KeyAttributes

    offers = [Offer("a", "Silk dress Mira", attributes={"Color": "rot"}), Offer("b", "Silk dress Mira blau")]
    agree, differ = Comparer(offer_table(offers)).conflicts.of_pairs(np.array([0]), np.array([1]))
    keys = Comparer(offer_table(offers)).conflicts.keys
    assert differ[0, keys.index("color")] and not agree[0, keys.index("color")]
    plain = [Offer("a", "Silk dress Mira"), Offer("b", "Silk dress Mira")]
    generated = [KeyAttributes.of({"color": "red"}), KeyAttributes.of({"color": "blue"})]
    matched = match_offers(offer_table(plain, generated))
    assert not matched.scores.vetoed.any()


def catalog(seed: int = 0, families: int = 30) -> tuple[list[Offer], dict[str, str]]:
    """Siblings that differ in model, color or size; two or three offers each."""
    draw = np.random.default_rng(seed)
    offers, products = [], {}
    for family in range(families):
        brand = f"brand{family % 7}"
        series = "".join(chr(97 + i) for i in draw.integers(26, size=6))
        for sibling in range(3):
            model = f"{series[:2]}{1000 + 10 * family + sibling}"
            for number in range(int(draw.integers(2, 4))):
                words = [brand, series, "cordless drill", model, ["red", "blue", "green"][sibling]]
                if number:
                    words = [words[i] for i in draw.permutation(5)] + ["new"][: number - 1]
                identifier = f"{draw.integers(10**9)}-{family}-{sibling}-{number}"
                offers.append(Offer(identifier, " ".join(words)))
                products[identifier] = f"{family}-{sibling}"
    return offers, products


def test_default_match_finds_the_offers_of_one_product_and_no_siblings(tmp_path: Path) -> None:
    offers, products = catalog()
    write_catalog(tmp_path / "c.jsonl", offers)
    result = match_catalog(tmp_path / "c.jsonl", tmp_path / "out")
    for group in result.groups:
        assert len({products[identifier] for identifier in group}) == 1
    named = {identifier: number for number, group in enumerate(result.groups) for identifier in group}
    precision, recall = bcubed([named.get(o.id, o.id) for o in offers], [products[o.id] for o in offers])
    assert precision.mean() == 1.0 and recall.mean() > 0.95
    assert "no labels" in result.summary["threshold"]["from"]


def test_groups_do_not_depend_on_the_order_of_the_catalog(tmp_path: Path) -> None:
    offers, _ = catalog(seed=1)
    found = []
    for number, order in enumerate((range(len(offers)), np.random.default_rng(5).permutation(len(offers)))):
        path = tmp_path / f"c{number}.jsonl"
        write_catalog(path, [offers[i] for i in order])
        out = tmp_path / f"out{number}"
        match_catalog(path, out)
        found.append([(out / name).read_bytes() for name in ("groups.jsonl", "pairs.jsonl", "groups.csv")])
    assert found[0] == found[1]


def test_output_is_what_is_promised(tmp_path: Path) -> None:
    offers, _ = catalog(seed=2, families=8)
    offers += [Offer("x1", 'Quote "and", comma drill ab9999 red'), Offer("x2", "quote and comma drill AB-9999 blue 😀")]
    write_catalog(tmp_path / "c.jsonl", offers)
    result = match_catalog(tmp_path / "c.jsonl", tmp_path / "out")
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir()} == {
        "groups.jsonl", "pairs.jsonl", "groups.csv", "pairs.csv", "summary.json",
    }  # fmt: skip
    groups = [json.loads(line) for line in (out / "groups.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [set(group) for group in groups] == [{"group", "offers"}] * len(groups)
    assert [group["offers"] for group in groups] == result.groups and all(len(g) > 1 for g in result.groups)
    number_of = {identifier: group["group"] for group in groups for identifier in group["offers"]}
    assert len(number_of) == sum(map(len, result.groups))
    pairs = [json.loads(line) for line in (out / "pairs.jsonl").read_text(encoding="utf-8").splitlines()]
    seen = set()
    for pair in pairs:
        assert {"left", "right", "score", "probability", "same", "reasons"} == set(pair)
        assert {"agree", "differ", "only_left", "only_right", "veto", "text"} <= set(pair["reasons"])
        together = pair["left"] in number_of and number_of[pair["left"]] == number_of.get(pair["right"])
        assert pair["same"] is together and 0 <= pair["probability"] <= 1
        assert not (pair["same"] and pair["reasons"]["veto"])
        seen.add((pair["left"], pair["right"]))
    assert len(seen) == len(pairs)
    for group in result.groups:
        assert set(itertools.combinations(group, 2)) <= seen
    vetoed = next(pair for pair in pairs if {pair["left"], pair["right"]} == {"x1", "x2"})
    assert vetoed["reasons"]["veto"] == ["color"]
    assert vetoed["reasons"]["differ"]["color"] == {"left": "red", "right": "blue", "from": ["extracted"] * 2}
    assert vetoed["reasons"]["agree"]["model"]["left"] == "ab9999"
    with open(out / "pairs.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["left"], row["right"], row["same"]) for row in rows] == [
        (pair["left"], pair["right"], str(pair["same"]).lower()) for pair in pairs
    ]
    page = write_match_page(result, out).read_text(encoding="utf-8")
    assert "Kept apart by a veto" in page and "http://" not in page and "https://" not in page
    assert 'Quote "and"' in html.unescape(page)


def test_veto_options(tmp_path: Path) -> None:
    assert "color" in veto_keys() and "color" not in veto_keys(no_veto=["Color"])
    assert not {"model", "series", "variant"} & set(veto_keys(no_veto=["model"]))
    with pytest.raises(InputError, match="both name"):
        veto_keys(["color"], ["colour"])
    with pytest.raises(InputError, match="does not veto; these do: model"):
        veto_keys(no_veto=["price"])
    left = Offer("a", "Oak table Lund 4512ab", attributes={"wood": "oak"})
    right = Offer("b", "Oak table Lund 4512ab", attributes={"wood": "beech"})
    table = offer_table([left, right])
    assert match_offers(table).groups.tolist() == [0, 0]
    assert match_offers(table, vetoes=veto_keys(["wood"])).groups.tolist() == [0, 1]
    red, blue = table_of("Drill ab4512cd red", "Drill ab4512cd blue"), veto_keys(no_veto=["color"])
    assert match_offers(red).scores.vetoed.tolist() == [True]
    assert match_offers(red, vetoes=blue).scores.vetoed.tolist() == [False]


def test_candidates_hold_the_pairs_that_share_a_code_or_words_and_few_others() -> None:
    offers, products = catalog(seed=3, families=60)
    table = offer_table(sorted(offers, key=lambda offer: offer.id))
    left, right = candidate_pairs(table)
    assert (left < right).all() and len(set(zip(left.tolist(), right.tolist(), strict=True))) == len(left)
    found = set(zip(left.tolist(), right.tolist(), strict=True))
    ids = [products[offer.id] for offer in table.offers]
    true = {pair for pair in itertools.combinations(range(len(ids)), 2) if ids[pair[0]] == ids[pair[1]]}
    assert true <= found
    assert len(found) <= 31 * len(ids)
    # nothing in common but the code, spelled in another way
    apart = table_of("zzz s-0720680 aaa", "foo bar S0720680", *(f"filler{i} words{i}" for i in range(50)))
    assert (0, 1) in set(zip(*(side.tolist() for side in candidate_pairs(apart)), strict=True))


def test_embeddings_and_images_bring_candidates_that_words_do_not() -> None:
    table = table_of(*(f"word{i}" for i in range(30)))
    draw = np.random.default_rng(0)
    rows = draw.normal(size=(30, 16)).astype(np.float32)
    rows[7] = rows[3] + 0.01
    table.dense = {"fused": rows / np.linalg.norm(rows, axis=1, keepdims=True)}
    assert (3, 7) in set(zip(*(side.tolist() for side in candidate_pairs(table)), strict=True))


def _grouped(scores: dict[tuple[int, int], float], n: int, threshold: float, veto: set[tuple[int, int]] = frozenset()):
    pairs = np.array(sorted(scores))
    values = np.array([scores[tuple(pair)] for pair in pairs])

    def score(left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        keys = [(min(a, b), max(a, b)) for a, b in zip(left.tolist(), right.tolist(), strict=True)]
        return np.array([scores.get(key, -8.0) for key in keys]), np.array([key in veto for key in keys])

    vetoed = np.array([tuple(pair) in veto for pair in pairs.tolist()])
    return group_offers(n, pairs[:, 0], pairs[:, 1], values, vetoed, threshold=threshold, score=score)


def test_groups_do_not_chain() -> None:
    chain = {(i, i + 1): 4.0 for i in range(9)}
    groups = _grouped(chain, 10, 1.0)
    assert np.bincount(groups).max() == 2
    clique = dict.fromkeys(itertools.combinations(range(5), 2), 4.0)
    assert _grouped(clique, 6, 1.0).tolist() == [0, 0, 0, 0, 0, 5]


def test_a_vetoed_pair_is_in_no_group_and_the_rest_of_it_stays() -> None:
    clique = dict.fromkeys(itertools.combinations(range(4), 2), 6.0)
    groups = _grouped(clique, 4, 1.0, {(0, 3)})
    assert groups[0] != groups[3] and np.bincount(groups).max() >= 2
    pair = _grouped({(0, 1): 9.0}, 2, 1.0, {(0, 1)})
    assert pair.tolist() == [0, 1]


def test_large_components_are_cut_and_hold_no_veto() -> None:
    n = 450
    scores = {(a, b): 5.0 for a in range(n) for b in range(a + 1, min(a + 12, n))}
    groups = _grouped(scores, n, 1.0, {(0, 1)})
    assert groups[0] != groups[1] and np.bincount(groups).max() <= 200


def test_fit_agrees_with_scikit_learn_where_no_sign_binds() -> None:
    from sklearn.linear_model import LogisticRegression

    draw = np.random.default_rng(0)
    values = np.abs(draw.normal(size=(600, 4)))
    truth = np.array([2.0, 1.0, -1.5, 0.5])
    same = draw.random(600) < 1 / (1 + np.exp(-(values @ truth - 1)))
    names = ("a", "b", "c", "d")
    ours = fit_pair_model(values, same, names, falling=("c",), shrinkage=2.0)
    scale = values.std(axis=0)
    theirs = LogisticRegression(C=0.5, tol=1e-8, max_iter=5000).fit((values - values.mean(axis=0)) / scale, same)
    np.testing.assert_allclose(ours.coefficients, theirs.coef_[0] / scale, atol=2e-3)
    wrong = fit_pair_model(values, same, names, falling=("a",))
    assert wrong.coefficients[0] <= 1e-9
    held = fit_pair_model(values, same, names, ours, falling=("c",), shrinkage=1e9)
    np.testing.assert_allclose(held.coefficients, ours.coefficients, atol=1e-3)


def test_shipped_model_has_the_right_signs() -> None:
    for dense in (False, True):
        model = default_model(TEXT_FEATURES, dense=dense).model
        for name, weight in zip(model.features, model.coefficients, strict=True):
            assert weight <= 0 if name in FALLING else weight >= 0
        stored = PairModel.of_dict(json.loads(json.dumps(model.as_dict())), TEXT_FEATURES)
        np.testing.assert_allclose(stored.coefficients, model.coefficients)


def test_threshold_reaches_the_precision_that_was_asked_for_and_no_higher() -> None:
    draw = np.random.default_rng(1)
    logits = draw.normal(size=4000) * 2
    same = draw.random(4000) < 1 / (1 + np.exp(-2 * logits))
    none = np.zeros(4000, bool)
    for target in (0.8, 0.95, 0.99):
        threshold, reached = threshold_for_precision(logits, same, none, target)
        assert reached and same[logits >= threshold].mean() >= target
        lower = np.sort(logits[logits < threshold])
        assert all(same[logits >= value].mean() < target for value in lower[::-1][:50])
    # vetoed pairs are not called the same: those that are wrong do no harm
    wrong = np.append(logits, [99.0] * 500), np.append(same, [False] * 500)
    vetoed = np.append(none, [True] * 500)
    assert threshold_for_precision(*wrong, vetoed, 0.95)[0] == threshold_for_precision(logits, same, none, 0.95)[0]
    assert threshold_for_precision(np.array([2.0, 1.0]), np.array([0, 0]), none[:2], 0.9)[1] is False


def test_calibration_and_intervals() -> None:
    draw = np.random.default_rng(2)
    logits = draw.normal(size=6000) * 3
    same = draw.random(6000) < 1 / (1 + np.exp(-(0.5 * logits - 1)))
    model = calibrated(PairModel(("a",), np.ones(1), 0.0), logits, same)
    assert abs(model.slope - 0.5) < 0.05 and abs(model.offset + 1) < 0.1
    rows = reliability(model.probabilities(logits), same)
    assert sum(row.num_pairs for row in rows) == 6000
    assert all(row.share_same.low - 0.02 <= row.mean_probability <= row.share_same.high + 0.02 for row in rows)
    # Wilson 1927 by another formula
    from scipy.stats import binomtest

    expected = binomtest(37, 40).proportion_ci(method="wilson")
    assert (wilson(37, 40).low, wilson(37, 40).high) == pytest.approx((expected.low, expected.high), abs=1e-6)
    precision, recall = precision_and_recall(np.array([True, True, False]), np.array([1, 0, 1]))
    assert precision.mean == 0.5 and recall.mean == 0.5


def test_bcubed_against_its_definition() -> None:
    draw = np.random.default_rng(3)
    groups, products = draw.integers(6, size=40), draw.integers(6, size=40)
    precision, recall = bcubed(groups, products)
    for i in range(40):
        ours = {j for j in range(40) if groups[j] == groups[i]}
        theirs = {j for j in range(40) if products[j] == products[i]}
        assert precision[i] == pytest.approx(len(ours & theirs) / len(ours))
        assert recall[i] == pytest.approx(len(ours & theirs) / len(theirs))
    assert bcubed_f1(np.ones(3), np.ones(3)) == 1.0


def labeled(split: str = "") -> tuple[list[Offer], list[LabeledPair]]:
    offers, products = catalog(seed=4, families=25)
    table = offer_table(sorted(offers, key=lambda offer: offer.id))
    left, right = candidate_pairs(table)
    names = ("train", "train", "valid", "test")
    pairs = [
        LabeledPair(
            table.offers[a], table.offers[b], products[table.offers[a].id] == products[table.offers[b].id],
            split or names[number % 4] if split != "-" else "",
        )
        for number, (a, b) in enumerate(zip(left.tolist(), right.tolist(), strict=True))
    ]  # fmt: skip
    return offers, pairs


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


def test_labels_of_one_kind_are_refused(tmp_path: Path) -> None:
    offers, pairs = labeled()
    write_catalog(tmp_path / "c.jsonl", offers)
    with open(tmp_path / "pairs.jsonl", "w", encoding="utf-8") as file:
        for pair in pairs:
            file.write(json.dumps({"left": pair.left.id, "right": pair.right.id, "label": 0}) + "\n")
    with pytest.raises(InputError, match="pairs of both kinds"):
        match_catalog(tmp_path / "c.jsonl", tmp_path / "out")


def test_pairs_beside_the_catalog_are_used(tmp_path: Path) -> None:
    offers, pairs = labeled()
    write_catalog(tmp_path / "c.jsonl", offers)
    with open(tmp_path / "pairs.jsonl", "w", encoding="utf-8") as file:
        for pair in pairs:
            row = {"left": pair.left.id, "right": pair.right.id, "label": int(pair.same), "pair_split": pair.split}
            file.write(json.dumps(row) + "\n")
    result = match_catalog(tmp_path / "c.jsonl", tmp_path / "out", precision=0.95)
    summary = result.summary
    assert "validation pairs" in summary["threshold"]["from"] and summary["labels"]["measured_on"] == "test pairs"
    assert "Reliability" in write_match_page(result, tmp_path).read_text(encoding="utf-8")


def test_images_decide_between_titles_that_are_alike(tmp_path: Path) -> None:
    from PIL import Image

    for name, color in (("r1", (200, 20, 30)), ("r2", (202, 22, 32)), ("g", (20, 160, 60))):
        Image.new("RGB", (32, 32), color).save(tmp_path / f"{name}.png")
    titles = [f"Filler{i} thing{i}" for i in range(20)]
    offers = [Offer(name, "Chaz hoodie fleece", image=str(tmp_path / f"{name}.png")) for name in ("r1", "r2", "g")]
    offers += [Offer(f"z{i}", title) for i, title in enumerate(titles)]
    (tmp_path / "bad.png").write_bytes((tmp_path / "r1.png").read_bytes()[:60])
    offers.append(Offer("zz", "Broken image lamp", image=str(tmp_path / "bad.png")))
    write_catalog(tmp_path / "c.jsonl", offers)
    result = match_catalog(tmp_path / "c.jsonl", tmp_path / "out")
    pairs = {
        (p["left"], p["right"]): p for p in map(json.loads, (tmp_path / "out" / "pairs.jsonl").read_text().splitlines())
    }
    alike = pairs["r1", "r2"]
    unlike = pairs.get(("g", "r1"), {"score": -99.0, "reasons": {"image": -99.0}})
    assert alike["score"] > unlike["score"] and alike["reasons"]["image"] > unlike["reasons"]["image"]
    assert any("images cannot be read" in note for note in result.summary["notes"])


def test_command_line(tmp_path: Path) -> None:
    offers, _ = catalog(seed=6, families=4)
    write_catalog(tmp_path / "c.jsonl", offers)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "afmrl", "match", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    done = run(str(tmp_path / "c.jsonl"), "--out", str(tmp_path / "out"), "--no-veto", "color")
    assert done.returncode == 0 and "no labels" in done.stdout and "report.html" in done.stdout
    wrong = run(str(tmp_path / "c.jsonl"), "--out", str(tmp_path / "out"), "--precision", "2")
    assert wrong.returncode == 2 and "--precision 2" in wrong.stderr and "Traceback" not in wrong.stderr
    missing = run(str(tmp_path / "none.jsonl"), "--out", str(tmp_path / "out"))
    assert missing.returncode == 2 and "no such file" in missing.stderr


def test_pairs_follow_the_groups_where_scores_say_otherwise(tmp_path: Path) -> None:
    table = table_of(*["Drill Makita hr2470 blue"] * 3)
    matched = match_offers(table)
    assert matched.groups.tolist() == [0, 0, 0]
    matched.groups = np.array([0, 0, 2])
    result = write_match(matched, tmp_path, source={"catalog": "c"})
    pairs = [json.loads(line) for line in (tmp_path / "pairs.jsonl").read_text().splitlines()]
    assert {(pair["left"], pair["right"]): pair["same"] for pair in pairs} == {
        ("000", "001"): True, ("000", "002"): False, ("001", "002"): False,
    }  # fmt: skip
    assert result.groups == [["000", "001"]] and result.summary["pairs_same"] == 1


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


def index_of(folder: Path, offers: list[Offer]) -> None:
    from afmrl.attributes.key_attributes import KeyAttributes
    from afmrl.index.backend import Rows, open_index

    rows = np.random.default_rng(0).normal(size=(len(offers), 8)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    settings = {"model": {"path": "m", "fingerprint": "f"}, "dtype": "f16"}
    ids = [offer.id for offer in offers]
    with open_index(str(folder), create=True, dimension=8, settings=settings) as index:
        index.upsert(Rows(ids, rows, offers, [KeyAttributes()] * len(offers), ["f"] * len(offers)))


def test_against_an_index_only_pairs_across_are_looked_for(tmp_path: Path) -> None:
    offers, products = catalog(seed=7, families=12)
    old, new = offers[::2], offers[1::2]
    index_of(tmp_path / "index", old)
    write_catalog(tmp_path / "new.jsonl", [*new, old[0]])  # old[0] comes again: its row in the index is left out
    result = match_catalog(tmp_path / "new.jsonl", tmp_path / "out", against=str(tmp_path / "index"))
    pairs = [json.loads(line) for line in (tmp_path / "out" / "pairs.jsonl").read_text().splitlines()]
    ours, theirs = {o.id for o in new} | {old[0].id}, {o.id for o in old[1:]}
    assert pairs and all(pair["left"] in ours and pair["right"] in theirs for pair in pairs)
    same = {(pair["left"], pair["right"]) for pair in pairs if pair["same"]}
    true = {(a, b) for a in ours for b in theirs if products[a] == products[b]}
    assert same <= true and len(same) > 0.9 * len(true)
    assert all(len({products[identifier] for identifier in group}) == 1 for group in result.groups)
    whole = match_catalog(tmp_path / "index", tmp_path / "whole")
    assert whole.summary["offers"] == len(old)
    with pytest.raises(InputError, match="go with a catalog's file"):
        match_catalog(tmp_path / "index", tmp_path / "whole", model="m")


@pytest.mark.slow
def test_embeddings_are_kept_and_compared(tmp_path: Path, tiny_model: Path) -> None:
    from afmrl.bulk.folder import BulkFolder

    offers, _ = catalog(seed=8, families=3)
    offers = [
        Offer(o.id, o.title, image=str(save_image(tmp_path / f"{number}.png", seed=number % 4)))
        for number, o in enumerate(offers)
    ]
    write_catalog(tmp_path / "c.jsonl", offers)
    for _ in range(2):
        match_catalog(tmp_path / "c.jsonl", tmp_path / "out", model=str(tiny_model))
        manifest = (tmp_path / "out" / "embeddings" / "manifest.json").read_text()
    assert len(BulkFolder.open(tmp_path / "out" / "embeddings")) == len(offers)
    assert len(BulkFolder.open(tmp_path / "out" / "embeddings-image")) == len(offers)
    pairs = [json.loads(line) for line in (tmp_path / "out" / "pairs.jsonl").read_text().splitlines()]
    assert pairs and all({"text", "image", "embedding"} <= set(pair["reasons"]) for pair in pairs)
    shards = {shard["file"] for shard in json.loads(manifest)["shards"]}
    assert shards and all((tmp_path / "out" / "embeddings" / shard).is_file() for shard in shards)
