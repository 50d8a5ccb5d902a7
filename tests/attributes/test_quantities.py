"""Numbers with units: grouped digits, what is ambiguous, packs."""

from __future__ import annotations

import pytest

from afmrl.attributes.quantities import measures, quantities
from afmrl.attributes.words import normalize

ONE_NUMBER = [
    ("power bank 10.000 mAh", "charge", "10000 mah"),
    ("power bank 10,000 mAh", "charge", "10000 mah"),
    ("power bank 20 000 mAh", "charge", "20000 mah"),
    ("power bank 26 800mAh", "charge", "26800 mah"),
    ("flour 1'000 g", "weight", "1000 g"),
    ("flour 1’000 g", "weight", "1000 g"),
    ("flour 1 000 g", "weight", "1000 g"),
    ("kettle 1.600 W", "power", "1600 w"),
    ("kettle 1,600 W", "power", "1600 w"),
    ("kettle 1.6 kW", "power", "1600 w"),
    ("bell 1.5 kg", "weight", "1500 g"),
    ("bell 1,5 kg", "weight", "1500 g"),
    ("bell 0,750 kg", "weight", "750 g"),
    ("salt 1.234,5 g", "weight", "1234.5 g"),
    ("salt 1,234.5 g", "weight", "1234.5 g"),
    ("sand 1.000.000 g", "weight", "1000000 g"),
    ("fan 12.000 rpm", "speed", "12000 rpm"),
    ("phone 12 256 GB", "memory", "256 gb"),
]
PACKS = [
    ("Cola 6 x 330 ml", 6, "330 ml"),
    ("Cola 6x330ml", 6, "330 ml"),
    ("Cola 6 × 0,33 l", 6, "330 ml"),
    ("Cola 330 ml x 6", 6, "330 ml"),
    ("Cola 330ml x6", 6, "330 ml"),
    ("Cola 330 ml, pack of 6", 6, "330 ml"),
    ("Cola 330 ml 6er Pack", 6, "330 ml"),
    ("Cola 330 ml im 6er-Pack", 6, "330 ml"),
    ("Cola 6-pack 330 ml", 6, "330 ml"),
    ("Cola 6 cans 330 ml", 6, "330 ml"),
    ("Cola 6 Dosen 330 ml", 6, "330 ml"),
    ("6x Cola 330 ml", 6, "330 ml"),
    ("Cola confezione da 6, 330 ml", 6, "330 ml"),
    ("Cola 4 x 6 x 330 ml", 24, "330 ml"),
    ("Cola 1 x 330 ml", 1, "330 ml"),
]


@pytest.mark.parametrize(("text", "key", "value"), ONE_NUMBER)
def test_grouped_digits_are_one_number(text: str, key: str, value: str) -> None:
    assert quantities(normalize(text))[0] == {key: value}


@pytest.mark.parametrize("text", ["bell 1,500 kg", "bell 1.500 kg"])
def test_an_ambiguous_number_has_both_meanings(text: str) -> None:
    read = measures(normalize(text))
    assert {read.found["weight"], *read.others["weight"]} == {"1500 g", "1500000 g"}


@pytest.mark.parametrize(("text", "count", "size"), PACKS)
def test_count_and_unit_size_are_read_apart(text: str, count: int, size: str) -> None:
    read = measures(normalize(text))
    assert (read.count, read.found["volume"], read.found["pack"]) == (count, size, f"{count} pieces")
    assert "zoom" not in read.found


@pytest.mark.parametrize("text", ["3 pz", "3 Stück", "3 pcs", "pack of 3", "3er Set", "3 pezzi", "3 bottles"])
def test_counts_in_several_languages(text: str) -> None:
    assert quantities(normalize(f"soap {text}"))[0] == {"pack": "3 pieces"}


@pytest.mark.parametrize(
    ("text", "count"),
    [("Doppelpack", 2), ("Dreierpack", 3), ("Viererset", 4), ("Sixpack", 6), ("Zwölferpack", 12), ("twin pack", 2)]
    + [("three-pack", 3), ("double pack", 2), ("dubbelpack", 2), ("duopak", 2), ("dwupak", 2), ("pack duo", 2)]
    + [(f"6 {word}", 6) for word in ("szt.", "ks", "stuks", "unidades", "unités", "adet", "kpl", "kom", "шт", "τμχ")]
    + [("6ks", 6), ("(6er)", 6), ("6er Sparpack", 6), ("6'lı paket", 6), ("6 db-os", 6), ("6-pak", 6)]
    + [("doos van 6", 6), ("caja de 12", 12), ("lot de 2", 2), ("lot de deux", 2), ("pack of two", 2)]
    + [("confezione da due", 2), ("förpackning med 6", 6), ("zestaw 6 szt.", 6), ("caixa de 6", 6)],
)
def test_packs_in_words_and_languages(text: str, count: int) -> None:
    assert quantities(normalize(f"soap mira {text}"))[0] == {"pack": f"{count} pieces"}


@pytest.mark.parametrize(
    "text",
    ["noise 6 db", "woman 8 st", "BMW 3er touring", "2er Backpack", "sixpack abs trainer", "set of 5 l", "set of 12cm"]
    + ["caja de 10 x 20 cm", "set of fire tools", "kit de 2.5 mm", "backpack", "lot de neuf"],
)
def test_what_only_looks_like_a_pack(text: str) -> None:
    assert "pack" not in quantities(normalize(text))[0]


def test_what_holds_bottles_and_what_magnifies_is_no_pack() -> None:
    assert "pack" not in quantities("wine rack for 6 bottles")[0]
    assert quantities("camera 6x optical zoom")[0] == {"zoom": "6 x"}
    assert quantities("binoculars 8 x")[0] == {"zoom": "8 x"}
    assert quantities("box 10 x 20 x 30 cm")[0] == {"length": "100 mm x 200 mm x 300 mm"}


def test_a_networks_speed_and_a_switchs_model_are_no_weight_and_no_volume() -> None:
    assert set(quantities("catalyst 2960l 24 port switch, 2 x 10g sfp+")[0]) == {"ports"}
