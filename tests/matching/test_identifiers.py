"""Identifiers in a match: an equal GTIN decides, and what says nothing joins and keeps apart nobody."""

from __future__ import annotations

import pytest

from afmrl.data.check_digit import check_digit
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


def of_several_brands() -> list[Offer]:
    gtin = "4006381333931"
    return [Offer(f"{n}", title, attributes={"gtin": gtin, "brand": f"B{n}x"}) for n, title in enumerate(STRANGERS)]


def test_a_gtin_of_many_unlike_offers_of_several_brands_joins_nothing_and_is_reviewed() -> None:
    result = match(of_several_brands())
    assert not result.groups and any("GTIN" in note and "10 offers" in note for note in result.summary["notes"])
    assert len(result.pairs) == 45
    for offer in result.offers:
        assert offer.needs_review and "4006381333931 is shared by 10 unlike offers" in offer.why


@pytest.mark.parametrize("count", [25, 60])
def test_a_gtin_of_very_many_unlike_offers_joins_nothing_whatever_their_brands(count: int) -> None:
    titles = [f"{chr(97 + n % 26) * 4}{chr(97 + n // 26) * 3} {chr(98 + n % 24) * 5}" for n in range(count)]
    result = match([Offer(f"{n:02}", title, attributes={"gtin": "4006381333931"}) for n, title in enumerate(titles)])
    assert not result.groups and all(offer.needs_review for offer in result.offers)


@pytest.mark.parametrize("count", [2, 5, 6, 8])
@pytest.mark.parametrize("brand", [{}, {"brand": "Luma"}])
def test_a_translated_title_is_no_reason_to_distrust_a_gtin(count: int, brand: dict[str, str]) -> None:
    titles = ["Tagesrucksack", "Daypack", "Sac à dos", "Mochila", "Zaino", "Rugzak", "Plecak", "Ryggsäck"][:count]
    result = match([Offer(title, title, attributes={"gtin": "4006381333931", **brand}) for title in titles])
    assert [len(group.ids) for group in result.groups] == [count]


def test_a_gtin_of_more_offers_than_are_compared_with_one_another_joins_them_all() -> None:
    titles = [f"{chr(97 + n % 26) * 4}{chr(97 + n // 26) * 3}" for n in range(60)]
    same = {"gtin": "4006381333931", "brand": "Luma"}
    groups = match([Offer(title, title, attributes=same) for title in titles]).groups
    assert [len(group.ids) for group in groups] == [60]


RESTRICTED = ["2012345678900", "0212345678909", "212345678909", "20123451", "0412345678903", "9912345678904"]


@pytest.mark.parametrize("gtin", RESTRICTED)
def test_a_number_that_each_shop_gives_as_it_likes_decides_nothing_alone(gtin: str) -> None:
    gtin = gtin[:-1] + str(check_digit(gtin[:-1]))
    result = pair({"gtin": gtin}, {"gtin": gtin}, ("Garden hose 25 m", "Fresh salmon fillet"))
    assert not result.groups and not any(found.reasons.same_gtin for found in result.pairs)


@pytest.mark.parametrize("other", ["2012345678917", "4006381333931"])
def test_a_number_that_each_shop_gives_as_it_likes_keeps_nothing_apart(other: str) -> None:
    left, right = ({"gtin": code[:-1] + str(check_digit(code[:-1]))} for code in ("2012345678900", other))
    result = pair(left, right, ("Garden hose AB1234", "Garden hose AB1234"))
    assert [group.ids for group in result.groups] == [["a", "b"]] and not result.pairs[0].veto


def test_one_product_in_many_languages_is_one_by_its_gtin() -> None:
    titles = ["Tagesrucksack", "Daypack", "Sac à dos", "Mochila", "Zaino", "Rugzak", "Plecak", "Ryggsäck"]
    same = {"gtin": "4006381333931", "brand": "Luma"}
    groups = match([Offer(title, title, attributes=same) for title in titles]).groups
    assert [len(group.ids) for group in groups] == [len(titles)]


def test_a_list_of_variants_is_none_of_them() -> None:
    several = {"gtin": ["4006381333931", "4006381333948", "036000291452"]}
    assert not any(pair.reasons.same_gtin for pair in pair(several, {"gtin": "4006381333931"}).pairs)
