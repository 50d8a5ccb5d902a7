import json

import pytest

from afmrl.data.offer import Offer
from afmrl.errors import InputError
from afmrl.training.recipe import CatalogSection, PositivesSection, SplitSection, TargetsSection
from afmrl.training.splits import read_targets, split_offers, with_positives


def offer(number, product, **extra):
    return Offer(id=f"o{number}", title=f"title {number}", product_id=product, attributes={"color": "red"}, extra=extra)


def test_queries_know_their_gallery_positions_and_families():
    offers = [
        offer(0, "p1", split="train", role="query"),
        offer(1, "p1", split="train", role="gallery"),
        offer(2, "p2", split="test", role="gallery", family_id="f"),
        offer(3, "p2", split="test", role="query", family_id="f"),
        offer(4, "p3", split="test", role="query"),
    ]
    test = split_offers(offers, CatalogSection(path="x"))["test"]
    assert [o.id for o in test.query_offers()] == ["o3"]  # p3 has nothing in the gallery
    assert [o.id for o in test.gallery_offers()] == ["o2"]
    assert test.relevant[0].tolist() == [0]
    assert test.families == ["f"]


def test_roles_are_read_in_any_case_and_others_count_as_none():
    offers = [offer(n, "p", split="test", role=role) for n, role in enumerate(("Gallery", " QUERY ", "both", "querry"))]
    offers += [offer(9, "q", split="train")]
    test = split_offers(offers, CatalogSection(path="x"))["test"]
    assert [o.id for o in test.query_offers()] == ["o1"]
    assert [o.id for o in test.gallery_offers()] == ["o0", "o2", "o3"]


def test_of_offers_that_are_both_a_products_first_is_the_query():
    offers = [offer(n, "p", split="test", role="both") for n in range(3)] + [offer(9, "q", split="train")]
    test = split_offers(offers, CatalogSection(path="x"))["test"]
    assert [o.id for o in test.query_offers()] == ["o0"]
    assert [o.id for o in test.gallery_offers()] == ["o1", "o2"]


def test_a_product_on_both_sides_of_a_split_is_refused():
    offers = [offer(0, "p1", split="train"), offer(1, "p1", split="test")]
    with pytest.raises(InputError, match="p1.*'train' and 'test'"):
        split_offers(offers, CatalogSection(path="x"))


def test_dealing_out_keeps_groups_whole():
    offers = [offer(i, f"p{i // 2}", style=f"s{i // 4}") for i in range(80)]
    section = CatalogSection(
        path="x", split=SplitSection(by="style", fractions={"train": 0.5, "test": 0.5}), family_column="style"
    )
    splits = split_offers(offers, section)
    styles = {name: {o.extra["style"] for o in split.offers} for name, split in splits.items()}
    assert not styles["train"] & styles["test"]
    assert len(styles["train"]) == len(styles["test"]) == 10


def test_no_positives_is_a_clear_refusal():
    with pytest.raises(InputError, match="positives"):
        with_positives([offer(0, ""), offer(1, "")], CatalogSection(path="x"))


def test_positives_from_a_column():
    offers = [offer(0, "", gtin="1"), offer(1, "", gtin="1"), offer(2, "", gtin="")]
    section = CatalogSection(path="x", positives=PositivesSection(column="gtin"))
    assert [o.product_id for o in with_positives(offers, section)] == ["1", "1", ""]


def test_one_gtin_in_six_spellings_is_one_product():
    spelled = [
        "4006381333931",
        "04006381333931",
        "4006381333931.0",
        4006381333931,
        "4 006381 333931",
        "EAN 4006381333931",
    ]
    section = CatalogSection(path="x", positives=PositivesSection(column="EAN code"))
    offers = [offer(n, "", **{"EAN code": value}) for n, value in enumerate(spelled)]
    assert {o.product_id for o in with_positives(offers, section)} == {"04006381333931"}


def test_destroyed_gtins_and_placeholders_are_no_product():
    section = CatalogSection(path="x", positives=PositivesSection(column="gtin"))
    nothing = [
        "5.90123E+12",
        "5.90123E+12",
        5901230000000.0,
        "N/A",
        "n/a",
        float("nan"),
        None,
        "0",
        "0000000000000",
        "-",
    ]
    offers = [offer(n, "", gtin=value) for n, value in enumerate([*nothing, "4006381333931", "4006381333931"])]
    products = [o.product_id for o in with_positives(offers, section)]
    assert set(products[:-2]) == {""} and products[-2:] == ["04006381333931"] * 2
    with pytest.raises(InputError, match=r"3 values were rounded by a spreadsheet.*5.90123E\+12.*as text"):
        with_positives(offers[:-2], section)


def test_placeholders_are_no_product_in_any_column():
    section = CatalogSection(path="x", positives=PositivesSection(column="mpn"))
    offers = [offer(n, "", mpn=value) for n, value in enumerate(["Does not apply", "does not apply", "A1", "A1"])]
    assert [o.product_id for o in with_positives(offers, section)] == ["", "", "A1", "A1"]
    labeled = [offer(n, product) for n, product in enumerate(["unknown", "unknown", "0", "0"])]
    assert [o.product_id for o in with_positives(labeled, CatalogSection(path="x"))] == ["", "", "0", "0"]


def test_an_empty_cell_holds_no_targets():
    offers = [offer(0, "p", said=float("nan")), offer(1, "p", said={"color": "N/A", "size": "M"})]
    assert [str(of) for of in read_targets(offers, TargetsSection(column="said"))] == ["none", "size: m"]


def test_a_gtin_among_the_sellers_attributes_counts():
    offers = [Offer(str(n), "t", attributes={"gtin": "4006381333931"}) for n in range(2)]
    section = CatalogSection(path="x", positives=PositivesSection(column="gtin"))
    assert {o.product_id for o in with_positives(offers, section)} == {"04006381333931"}


def test_positives_from_pairs_are_transitive_and_checked(tmp_path):
    path = tmp_path / "pairs.jsonl"
    rows = [{"left": "o0", "right": "o1"}, {"left": "o1", "right": "o2"}, {"left": "o3", "right": "o0", "label": 0}]
    path.write_text("\n".join(map(json.dumps, rows)))
    section = CatalogSection(path="x", positives=PositivesSection(column=None, pairs=str(path)))
    products = [o.product_id for o in with_positives([offer(i, "") for i in range(4)], section)]
    assert products[0] == products[1] == products[2] != products[3]
    path.write_text(json.dumps({"left": "o0", "right": "nobody"}))
    with pytest.raises(InputError, match=r"pairs.jsonl:1: unknown offer id 'nobody'"):
        with_positives([offer(0, "")], section)


def test_shared_labels_are_taken_over_from_the_same_product():
    offers = [
        Offer(id="a", title="x", product_id="p", attributes={"color": "red", "size": "m"}, extra={"split": "train"}),
        Offer(id="b", title="y", product_id="p", attributes={"cut": "low"}, extra={"split": "train"}),
    ]
    section = CatalogSection(path="x", targets=TargetsSection(keys=["color", "cut"], shared=["color"]))
    labels = split_offers(offers, section)["train"].targets
    assert [str(label) for label in labels] == ["color: red", "color: red; cut: low"]
    section = CatalogSection(path="x", targets=TargetsSection(keys=["colr"]))
    with pytest.raises(InputError, match=r"targets.keys: no offer has 'colr' .* its keys: color, size, cut"):
        split_offers(offers, section)


def photographs():
    shelf = [offer(n, f"p{n}", split="catalog", role="gallery") for n in range(3)]
    taken = [offer(10 + n, f"p{n % 3}", split="train" if n < 6 else "val", role="query") for n in range(9)]
    return [*shelf, *taken]


def test_a_shared_gallery_stands_in_every_split_and_queries_in_one():
    splits = split_offers(photographs(), CatalogSection(path="x", split=SplitSection(shared="catalog")))
    for name, count in (("train", 6), ("val", 3)):
        assert len(splits[name].queries) == count
        assert [o.id for o in splits[name].gallery_offers()] == ["o0", "o1", "o2"]
    assert not {o.id for o in splits["train"].query_offers()} & {o.id for o in splits["val"].query_offers()}
    assert not splits["test"].offers  # nobody asks there


def test_without_the_word_shared_known_products_are_a_leak():
    with pytest.raises(InputError, match="is in the splits"):
        split_offers(photographs(), CatalogSection(path="x"))


def test_a_shared_gallery_that_is_not_there_is_refused():
    with pytest.raises(InputError, match=r"catalog\.split\.shared: no offer says 'shelf' in the column 'split'"):
        split_offers(photographs(), CatalogSection(path="x", split=SplitSection(shared="shelf")))


# splits that the catalog does not name


def test_families_too_few_to_deal_out_are_passed_over_for_products():
    said = []
    offers = [
        Offer(f"{n}", f"dress {n // 2}", product_id=f"{n // 2}", extra={"family_id": f"f{n % 2}"}) for n in range(80)
    ]
    section = CatalogSection(path="x", family_column="family_id")
    splits = split_offers(offers, section, targets_optional=True, say=said.append)
    assert all(splits[name].queries for name in ("train", "val", "test"))
    assert "2 values of 'family_id' are too few to deal out: offers are dealt out by product_id" in said[0]


def test_a_catalog_without_splits_is_dealt_out_by_product_and_says_so():
    offers = [offer(n, f"p{n // 2}") for n in range(80)]
    said = []
    splits = split_offers(offers, CatalogSection(path="x"), say=said.append)
    assert [len(splits[name].offers) for name in ("train", "reward", "val", "test")] == [62, 0, 4, 14]
    assert said == [
        "the column 'split' names no splits: offers are dealt out by product_id: train 78%, val 6%, test 17%"
    ]
    with_reward = split_offers(offers, CatalogSection(path="x"), needs_reward=True)
    assert with_reward["reward"].queries and with_reward["test"].queries
    products = [{o.product_id for o in split.offers} for split in with_reward.values()]
    assert sum(map(len, products)) == len(set.union(*products)) == 40


def test_reward_is_taken_from_train_where_the_catalog_names_no_such_split():
    offers = [offer(n, f"p{n // 2}", split="train" if n < 60 else "test") for n in range(80)]
    said = []
    splits = split_offers(offers, CatalogSection(path="x"), needs_reward=True, say=said.append)
    assert (len(splits["train"].offers), len(splits["reward"].offers), len(splits["test"].offers)) == (52, 8, 20)
    assert said == [
        "the column 'split' names no split 'reward', which RAR needs: 8 of the 60 training offers are dealt to it by "
        "product_id"
    ]
    assert len(split_offers(offers, CatalogSection(path="x"))["train"].offers) == 60  # no RAR, nothing is taken


def test_offers_of_other_splits_are_counted():
    offers = [offer(n, f"p{n // 2}", split="train" if n < 8 else "holdout") for n in range(12)]
    said = []
    split_offers(offers, CatalogSection(path="x"), say=said.append)
    assert said == ["4 offers name none of the splits train, reward, val, test in the column 'split' and are left out"]


def test_equal_gtins_are_products_where_nothing_else_says_so():
    codes = ["4006381333931", "4006381333948", "4006381333955"]
    offers = [
        Offer(f"o{n}", f"pen {n}", attributes={"EAN code": codes[n // 2]}, extra={"split": "train"}) for n in range(6)
    ]
    said = []
    found = with_positives(offers, CatalogSection(path="x"), say=said.append)
    assert [o.product_id for o in found] == [f"0{codes[n // 2]}" for n in range(6)]
    assert said == ["no two offers share a product_id: equal GTINs say which are the same product (3 products)"]


LISTED = {"Farbe": "rot", "EAN-Code": "4006381333931", "Verkaufspreis": "12,99", "SKU": "A-17", "list": "$ 5", "qty": 3}


def test_prices_ids_and_gtins_are_never_targets():
    targets = read_targets([Offer("1", "dress", attributes=LISTED)], TargetsSection())
    assert [str(target) for target in targets] == ["farbe: rot"]


@pytest.mark.parametrize("key", ["gtin", "price", "sku"])
def test_keys_that_no_offer_shows_are_refused_as_targets(key):
    with pytest.raises(InputError, match=f"keys: '{key}' cannot be learned"):
        read_targets([Offer("1", "dress", attributes=LISTED)], TargetsSection(keys=("farbe", key)))
