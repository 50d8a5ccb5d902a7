"""GTINs: one code, however it is written; what is none is not taken for one."""

from __future__ import annotations

import pytest

from afmrl.data.gtin import gtins_in, is_destroyed_gtin, is_gtin_key, normalize_gtin

SPELLINGS = [
    ("4006381333931", "04006381333931"),
    ("4006381333931.0", "04006381333931"),
    (4006381333931, "04006381333931"),
    (4006381333931.0, "04006381333931"),
    ("04006381333931", "04006381333931"),
    (" 4006381 333931 ", "04006381333931"),
    ("4-006381-333931", "04006381333931"),
    ("EAN: 4006381333931", "04006381333931"),
    ("'4006381333931", "04006381333931"),
    ('="4006381333931"', "04006381333931"),
    ("GTIN 4006381333931", "04006381333931"),
    ("(01)04006381333931", "04006381333931"),
    ("４００６３８１３３３９３１", "04006381333931"),
    ("4.006381333931E+12", "04006381333931"),
    ("036000291452", "00036000291452"),
    ("36000291452", "00036000291452"),
    ("0036000291452", "00036000291452"),
    (36000291452, "00036000291452"),
    ("73513537", "00000073513537"),
    ("EAN-8 73513537", "00000073513537"),
    ("0-306-40615-2", "09780306406157"),
    ("978-0-306-40615-7", "09780306406157"),
    ("978 0 306 40615 7", "09780306406157"),
    ("ISBN-13: 978-0-306-40615-7", "09780306406157"),
    ("0-8044-2957-X", "09780804429573"),
    ("080442957x", "09780804429573"),
    ("04252614", "00042100005264"),  # a UPC-E, of each of its five rules
    ("UPC-E 0 425261 4", "00042100005264"),
    ("01234531", "00012300000451"),
    ("01234543", "00012340000053"),
    ("01234565", "00012345000065"),
    ("1234565", "00012345000065"),
    ("01234505", "00012000003455"),
    ("12345670", "00000012345670"),  # an EAN-8 of the GS1 prefix 123
]
NONE = [
    "",
    None,
    float("nan"),
    "N/A",
    "does not apply",
    "0",
    "0000000000000",
    0,
    "4006381333932",
    "12345",
    "5.90123E+12",
    "5,90123E+12",
    5901230000000.0,
    "5901230000000",
    "abc4006381333931",
    "0-306-40615-3",
    True,
    -4006381333931,
    "12.99",
]


@pytest.mark.parametrize(("value", "gtin"), SPELLINGS, ids=repr)
def test_every_spelling_is_one_code(value: object, gtin: str) -> None:
    assert normalize_gtin(value) == gtin


@pytest.mark.parametrize("value", NONE, ids=repr)
def test_what_is_no_gtin_is_not_used(value: object) -> None:
    assert normalize_gtin(value) is None


def test_rounded_numbers_are_recognized_as_destroyed() -> None:
    assert all(is_destroyed_gtin(value) for value in ("5.90123E+12", "5,90123E+12", "5.90123e12", 5901230000000.0))
    assert not any(is_destroyed_gtin(v) for v in ("4006381333931", "4.006381333931E+12", None, "N/A", "000000000000"))
    assert not is_destroyed_gtin("1E5")


@pytest.mark.parametrize(
    "key",
    [
        "gtin",
        "GTIN",
        "g:gtin",
        "gtin13",
        "GTIN-14",
        "EAN",
        "EAN code",
        "EAN-Nr.",
        "ean_code",
        "GTIN/EAN",
        "UPC",
        "upc-a",
        "Barcode",
        "Variant Barcode",
        "GTIN, UPC, EAN, or ISBN",
        "ISBN",
        "isbn_10",
        "Bar code",
        "Code-barres",
        "条形码",
        "Product EAN",
    ],
)
def test_names_of_gtin_columns(key: str) -> None:
    assert is_gtin_key(key)


@pytest.mark.parametrize(
    "key", ["mpn", "id", "code", "product id", "mean", "ocean", "clean", "has ean", "identifier_exists", "no"]
)
def test_names_of_other_columns(key: str) -> None:
    assert not is_gtin_key(key)


def test_several_codes_in_one_value() -> None:
    assert gtins_in("4006381333931; 036000291452") == ["04006381333931", "00036000291452"]
    assert gtins_in(["4006381333931", "04006381333931", "N/A"]) == ["04006381333931"]
    assert gtins_in("4006381333931 4006381333948") == ["04006381333931", "04006381333948"]
