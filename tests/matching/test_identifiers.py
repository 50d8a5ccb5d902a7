"""Identifiers in a match: an equal GTIN decides, and what says nothing joins and keeps apart nobody."""

from __future__ import annotations

import pytest

from afmrl.data.offer import Offer
from afmrl.matching.match import match
from afmrl.matching.result import MatchResult

STRANGERS = [
    "Garden hose 25 m green",
    "Wooden puzzle farm animals",
    "Espresso machine Mira",
    "Yoga mat soft",
    "Desk lamp brass",
    "Running socks merino",
    "Chess set walnut",
    "Bicycle bell loud",
    "Shampoo argan oil",
    "Dog bed large",
]
SPELLINGS = [
    "4006381333931",
    "04006381333931",
    "4006381333931.0",
    "4 006381 333931",
    "EAN: 4006381333931",
    4006381333931,
]


def strangers(**attributes: object) -> MatchResult:
    return match([{"id": f"{n:02}", "title": title, "attributes": attributes} for n, title in enumerate(STRANGERS)])


def pair(left: dict, right: dict, titles: tuple[str, str] = ("Fusion Backpack", "Tagesrucksack")) -> MatchResult:
    return match([Offer("a", titles[0], attributes=left), Offer("b", titles[1], attributes=right)])


@pytest.mark.parametrize(
    "value",
    ["-", "--", "?", "...", "N/A", "Does not apply", "does not apply.", "Unknown", "k.A.", "0", "000000", "nan", None],
)
@pytest.mark.parametrize("key", ["mpn", "gtin", "brand", "model number"])
def test_placeholders_join_no_strangers(key: str, value: object) -> None:
    assert not strangers(**{key: value}).groups


@pytest.mark.parametrize("value", ["TBA-2024", "siehe Karton", "XYZ", "12345678"])
def test_a_part_number_that_strangers_share_says_nothing(value: str) -> None:
    result = strangers(mpn=value)
    assert not result.groups
    assert any("MPN" in note and "unlike titles" in note for note in result.summary["notes"])


def test_a_part_number_of_two_brands_joins_nothing() -> None:
    left, right = {"brand": "Bosch", "mpn": "1234"}, {"brand": "Lego", "mpn": "1234"}
    assert not pair(left, right, ("Cordless drill", "Castle bricks")).groups


@pytest.mark.parametrize("value", ["N/A", "-", "unknown", "nan", float("nan"), "does not apply", "k.A."])
@pytest.mark.parametrize("key", ["color", "size", "memory", "mpn", "pack"])
def test_placeholders_veto_nothing(key: str, value: object) -> None:
    titles = ("Trainer AB1234 running shoe", "Trainer AB1234 running shoe")
    result = pair({key: value}, {key: "white" if key == "color" else "64 GB" if key == "memory" else "44"}, titles)
    assert [group.ids for group in result.groups] == [["a", "b"]] and not result.pairs[0].veto


@pytest.mark.parametrize("key", ["gtin", "EAN code", "GTIN/EAN", "g:gtin", "UPC", "Barcode", "ISBN"])
@pytest.mark.parametrize("spelling", SPELLINGS, ids=repr)
def test_an_equal_gtin_is_the_same_product(key: str, spelling: object) -> None:
    result = pair({"gtin": "4006381333931"}, {key: spelling})
    assert [group.ids for group in result.groups] == [["a", "b"]]
    found = result.pairs[0]
    assert found.probability > 0.95 and found.reasons.same_gtin and "same GTIN" in str(found)
    assert "gtin" in found.reasons.agree and found.reasons.as_dict()["same_gtin"] is True
    assert type(found.reasons).of_dict(found.reasons.as_dict()) == found.reasons


def test_an_isbn_is_one_with_ten_and_with_thirteen_digits() -> None:
    assert pair({"isbn": "0-306-40615-2"}, {"gtin": "9780306406157"}).groups


@pytest.mark.parametrize("value", ["4006381333932", "5.90123E+12", "5901230000000", "12345"])
def test_a_wrong_or_destroyed_gtin_joins_nothing(value: str) -> None:
    assert not pair({"gtin": value}, {"gtin": value}).groups


def test_destroyed_gtins_are_counted() -> None:
    notes = strangers(gtin="5.90123E+12").summary["notes"]
    assert any("10 GTINs are rounded by a spreadsheet" in note and "5.90123E+12" in note for note in notes)


def test_other_gtins_keep_apart() -> None:
    result = pair({"gtin": "4006381333931"}, {"gtin": "4006381333948"}, ("Garden hose AB1234", "Garden hose AB1234"))
    assert not result.groups and result.pairs[0].veto == ("gtin",)


def test_a_gtin_of_offers_that_a_veto_keeps_apart_is_doubtful() -> None:
    gtin = {"gtin": "4006381333931"}
    result = pair(gtin, gtin, ("Fusion Backpack, red", "Fusion Backpack, blue"))
    assert not result.groups and result.pairs[0].veto == ("color",)
    assert any(
        "1 GTIN is doubtful" in n and "a ≠ b (color)" in n and "4006381333931" in n for n in result.summary["notes"]
    )


def test_a_gtin_that_many_strangers_share_joins_nothing() -> None:
    result = strangers(gtin="4006381333931")
    assert not result.groups and any("GTIN" in note and "10 offers" in note for note in result.summary["notes"])


def test_one_product_in_many_languages_is_one_by_its_gtin() -> None:
    titles = ["Tagesrucksack", "Daypack", "Sac à dos", "Mochila", "Zaino", "Rugzak", "Plecak", "Ryggsäck"]
    same = {"gtin": "4006381333931", "brand": "Luma"}
    groups = match([Offer(title, title, attributes=same) for title in titles]).groups
    assert [len(group.ids) for group in groups] == [len(titles)]


def test_a_list_of_variants_is_none_of_them() -> None:
    several = {"gtin": ["4006381333931", "4006381333948", "036000291452"]}
    assert not any(pair.reasons.same_gtin for pair in pair(several, {"gtin": "4006381333931"}).pairs)
