"""Vetoes: what conflicts, what does not, and the choice of keys."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from match_catalogs import table_of

from afmrl.data.offer import Offer
from afmrl.errors import InputError
from afmrl.matching.features import Comparer
from afmrl.matching.matched_table import match_table
from afmrl.matching.table import offer_table
from afmrl.matching.vetoes import DEFAULT_VETOES, veto_keys

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
    ("charge", "Anker power bank 10.000 mAh", "Anker power bank 20.000 mAh"),
    ("charge", "Anker power bank 10 000 mAh", "Anker power bank 20 000 mAh"),
    ("volume", "Cola Zero 6 x 330 ml", "Cola Zero 330 ml"),
    ("volume", "Cola Zero 330 ml, 6er Pack", "Cola Zero 330 ml"),
    ("volume", "Cola Zero 6 cans 330 ml", "Cola Zero 330 ml can"),
    ("pack", "Spring water 6 x 1 l", "Spring water 2 x 3 l"),
    ("pack", "Spring water 6 x 1 l", "Spring water 1 x 6 l"),
    ("pack", "Soap Mira 3 pz", "Soap Mira 6 pz"),
    ("weight", "Barilla spaghetti 500 g 3 pz", "Barilla spaghetti 500 g"),
    ("pack", "Energizer AA batteries pack of 4", "Energizer AA batteries"),
    ("pack", "Soap Mira 3er Pack", "Soap Mira"),
    ("pack", "Soap Mira Dreierpack", "Soap Mira"),
    ("pack", "Soap Mira doos van 6", "Soap Mira 12 stuks"),
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
    ("Power bank 10.000 mAh", "Power bank 10000 mAh"),
    ("Power bank 20 000 mAh", "Power bank 20000mAh"),
    ("Flour 1'000 g", "Flour 1 kg"),
    ("Kettle 1.600 W", "Kettle 1600 W"),
    ("Kettlebell 1,500 kg", "Kettlebell 1.5 kg"),
    ("Kettlebell 1.500 kg", "Kettlebell 1500 g"),
    ("Pallet truck 1.500 kg", "Pallet truck 1500 kg"),
    ("Pallet truck 1,500 kg", "Pallet truck 1500 kg"),
    ("Flour 1 500 g", "Flour 1.5 kg"),
    ("Spring water 6 x 1 l", "Spring water 6 l"),
    ("Cola 6 x 330 ml", "Cola 330 ml x 6"),
    ("Cola 6 x 330 ml", "Cola pack of 6, 330 ml"),
    ("Cola 6 x 330 ml", "6x Cola 0,33 l"),
    ("Cola 6 x 330 ml (1,98 l)", "Cola 330 ml 6er Pack"),
    ("Screws 100 pieces 500 g", "Screws 500 g"),
    ("Photo paper A3 pack of 20", "Photo paper A3 20 sheets"),
    ("Sony paper SVMF40P 40 pack", "Sony paper SVMF40P"),
    ("Zinc 60 capsules 15 mg", "Zinc 15 mg"),
]


def conflicts_of(left: str, right: str) -> set[str]:
    comparer = Comparer(table_of(left, right))
    found = comparer.compare(np.array([0]), np.array([1]))
    return {key for key, differs in zip(found.keys, found.differ[0], strict=True) if differs}


@pytest.mark.parametrize(("key", "left", "right"), VARIANTS)
def test_variants_conflict_in_what_tells_them_apart(key: str, left: str, right: str) -> None:
    found = {"model" if name in ("series", "variant") else name for name in conflicts_of(left, right)}
    assert key in found
    assert conflicts_of(left, right) == conflicts_of(right, left)
    matched = match_table(table_of(left, right))
    assert matched.groups[0] != matched.groups[1]


@pytest.mark.parametrize(("left", "right"), NO_CONFLICT)
def test_other_spellings_do_not_conflict(left: str, right: str) -> None:
    assert not conflicts_of(left, right) & set(DEFAULT_VETOES)


def test_sellers_attributes_conflict_and_generated_ones_do_not_veto() -> None:
    from afmrl.attributes.key_attributes import KeyAttributes

    offers = [Offer("a", "Silk dress Mira", attributes={"Color": "rot"}), Offer("b", "Silk dress Mira blau")]
    agree, differ = Comparer(offer_table(offers)).conflicts.of_pairs(np.array([0]), np.array([1]))
    keys = Comparer(offer_table(offers)).conflicts.keys
    assert differ[0, keys.index("color")] and not agree[0, keys.index("color")]
    plain = [Offer("a", "Silk dress Mira"), Offer("b", "Silk dress Mira")]
    generated = [KeyAttributes.of({"color": "red"}), KeyAttributes.of({"color": "blue"})]
    matched = match_table(offer_table(plain, generated))
    assert not matched.scores.vetoed.any()


def test_a_single_and_a_multipack_are_told_apart_and_it_is_said() -> None:
    from afmrl.matching.match import match

    pair = match([Offer("a", "Cola Zero 6 x 330 ml"), Offer("b", "Cola Zero 330 ml")]).pairs[0]
    assert pair.veto == ("volume",) and "volume: 1980 ml | 330 ml" in str(pair)
    assert (pair.reasons.only_left["pack"].value, pair.reasons.only_left["unit size"].value) == ("6 pieces", "330 ml")
    batteries = match([Offer("a", "Energizer AA batteries pack of 4"), Offer("b", "Energizer AA batteries")]).pairs[0]
    assert str(batteries) == "a ≠ b   veto   pack: 4 pieces | –"
    stated = Offer("a", "Cola Zero 330 ml", attributes={"multipack": "6"})
    assert match([stated, Offer("b", "Cola Zero 6 x 330 ml")]).groups
    assert not match([stated, Offer("b", "Cola Zero 330 ml")]).groups


@pytest.mark.parametrize(("left", "right", "told"), [("6", "1", "6 pieces | 1 pieces"), (6.0, "", "6 pieces | –")])
def test_a_multipack_column_tells_packs_apart(left: object, right: str, told: str) -> None:
    from afmrl.data.columns import Columns
    from afmrl.matching.match import match

    columns = Columns(["id", "title", "multipack"])
    offers = [
        Offer(name, "Soap Mira", attributes=columns.attributes({"id": name, "multipack": value}))
        for name, value in (("a", left), ("b", right))
    ]
    assert str(match(offers).pairs[0]) == f"a ≠ b   veto   pack: {told}"


@pytest.mark.parametrize("stated", [{"pack": "0"}, {"pack": "large box"}, {"weight": "heavy"}, {"volume": "1.5"}])
def test_a_size_or_pack_without_a_number_and_unit_is_no_pack(stated: dict[str, str]) -> None:
    offers = [Offer("a", "Soap Mira", attributes=stated), Offer("b", "Soap Mira")]
    assert not Comparer(offer_table(offers)).compare(np.array([0]), np.array([1])).differ.any()


def test_a_feeds_quantity_is_stock() -> None:
    stock = [
        Offer(i, "Trainer AB1234 running shoe", attributes={k: v})
        for i, k, v in (("a", "quantity", 5), ("b", "units", 80))
    ]
    found = Comparer(offer_table(stock)).compare(np.array([0]), np.array([1]))
    assert not found.differ.any()


def test_veto_options(tmp_path: Path) -> None:
    assert "color" in veto_keys() and "color" not in veto_keys(no_veto=["Color"])
    assert not {"model", "series", "variant"} & set(veto_keys(no_veto=["model"]))
    with pytest.raises(InputError, match="both name"):
        veto_keys(["color"], ["colour"])
    with pytest.raises(InputError, match="does not veto; these do: model"):
        veto_keys(no_veto=["price"])
    assert veto_keys("wood") == veto_keys(["wood"])  # a key by itself, not its letters
    left = Offer("a", "Oak table Lund 4512ab", attributes={"wood": "oak"})
    right = Offer("b", "Oak table Lund 4512ab", attributes={"wood": "beech"})
    table = offer_table([left, right])
    assert match_table(table).groups.tolist() == [0, 0]
    assert match_table(table, vetoes=veto_keys(["wood"])).groups.tolist() == [0, 1]
    red, blue = table_of("Drill ab4512cd red", "Drill ab4512cd blue"), veto_keys(no_veto=["color"])
    assert match_table(red).scores.vetoed.tolist() == [True]
    assert match_table(red, vetoes=blue).scores.vetoed.tolist() == [False]
