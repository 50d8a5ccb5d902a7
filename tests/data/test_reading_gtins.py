"""What is said of the GTINs of a catalog: those that are none are counted, and those of several columns are kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from afmrl.data.catalog import read_catalog, read_report
from afmrl.data.gtin import gtin_faults, gtins_in
from afmrl.matching.match import match

GOOD, OTHER, WRONG = "4006381333931", "4006381333948", "4006381333932"
SAID = "2 GTINs rounded by a spreadsheet, 1 with a wrong check digit: not used as GTIN"


def catalog(tmp_path: Path, *rows: str) -> Path:
    path = tmp_path / "offers.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


def test_gtins_that_are_none_are_counted_in_one_part_of_the_line(tmp_path: Path) -> None:
    rows = ["id,title,ean", "a,Pen,5.90123E+12", "b,Cap,5901230000000", f"c,Cup,{WRONG}", f"d,Hat,{GOOD}", "e,Mat,n/a"]
    reading = read_report(catalog(tmp_path, *rows))
    assert SAID in reading.line().split("; ")
    assert SAID in reading.report() and "rounded by a spreadsheet: offer a: 5.90123E+12" in reading.report()
    assert reading.as_dict()["gtins_not_used"] == {"rounded by a spreadsheet": 2, "with a wrong check digit": 1}


def test_a_catalog_of_good_gtins_says_nothing_of_them(tmp_path: Path) -> None:
    reading = read_report(
        catalog(tmp_path, "id,title,ean", f"a,Pen,{GOOD}", "b,Cap,", "c,Cup,0000000000000", "d,Hat,x")
    )
    assert "GTIN" not in reading.line() and "GTIN" not in reading.report()


@pytest.mark.parametrize(
    "value, faults",
    [(GOOD, 0), (WRONG, 1), (f"{GOOD}, {WRONG}", 1), ("5,90123E+12", 1), (f"{GOOD}, 5,90123E+12", 1),
     ("978 0 306 40615 7", 0), ("0-306-40615-2", 0), ("does not apply", 0), ("12345", 0),
     (None, 0), (float("nan"), 0), ([GOOD, WRONG], 1),
     (f"{GOOD} {OTHER}", 0), ("0000000000000", 0), (True, 0)],
)  # fmt: skip
def test_each_number_that_is_none_is_one_fault(value: object, faults: int) -> None:
    assert len(gtin_faults(value)) == faults


@pytest.mark.parametrize("ean, gtin, kept", [
    (GOOD, OTHER, 2), (GOOD, "", 1), ("", OTHER, 1), (GOOD, f"0{GOOD}", 1), (WRONG, GOOD, 1), ("n/a", GOOD, 1),
])  # fmt: skip
def test_gtins_of_two_columns_are_both_kept(tmp_path: Path, ean: str, gtin: str, kept: int) -> None:
    (offer,) = read_catalog(catalog(tmp_path, "id,title,ean,gtin", f"a,Pen,{ean},{gtin}")).offers
    assert len(gtins_in(offer.attributes["gtin"])) == kept


def test_a_gtin_of_the_second_column_joins(tmp_path: Path) -> None:
    rows = ["id,title,ean,gtin", f"a,Fusion Backpack,{GOOD},{OTHER}", f"b,Tagesrucksack,{GOOD},", f"c,Sac,,{OTHER}"]
    offers = read_catalog(catalog(tmp_path, *rows)).offers
    assert [group.ids for group in match([offers[0], offers[1]]).groups] == [["a", "b"]]
    assert [group.ids for group in match([offers[0], offers[2]]).groups] == [["a", "c"]]
