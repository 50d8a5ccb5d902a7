"""offers.csv and the other tables for people: a row for every offer, safe in spreadsheets, read back exactly."""

from __future__ import annotations

import codecs
import csv
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from match_catalogs import catalog

from afmrl.data.catalog import write_catalog
from afmrl.data.delimited import DelimitedFile, detect_dialect
from afmrl.data.offer import Offer
from afmrl.data.pairs import read_pairs
from afmrl.errors import InputError
from afmrl.matching.match import match, match_result
from afmrl.matching.matched_table import match_table
from afmrl.matching.output import SheetWriter
from afmrl.matching.table import offer_table

ODD = [
    "=1+1",
    "+49 30",
    "-x",
    "@cmd",
    "\tx",
    "\rx",
    "'=1",
    "''@",
    "'tis",
    "-5",
    "- 5",
    "0401234567890",
    'a"b',
    "a;b\nc",
    "",
]


def rows_of(path: Path) -> list[dict[str, str]]:
    return [row for _, row in DelimitedFile(path, detect_dialect(path)).rows() if isinstance(row, dict)]


def test_every_offer_has_a_row_and_groups_share_an_id_and_a_canonical_offer(tmp_path: Path) -> None:
    offers, _ = catalog(seed=2, families=8)
    offers = [replace(offer, description="All about it" if n % 3 == 0 else "") for n, offer in enumerate(offers)]
    result = match(offers, out=tmp_path)
    rows = {row["id"]: row for row in rows_of(tmp_path / "offers.csv")}
    assert rows.keys() == {offer.id for offer in offers} and len(rows) == len(result.offers)
    assert len({row["group_id"] for row in rows.values()}) == len(result.groups) + sum(
        row["why"].startswith(("nearest", "no offer")) or row["canonical_id"] == identifier and identifier not in
        {member for group in result.groups for member in group.ids} for identifier, row in rows.items()
    )  # fmt: skip
    for group in result.groups:
        ours = [rows[identifier] for identifier in group.ids]
        assert {row["group_id"] for row in ours} == {group.id}
        assert {row["canonical_id"] for row in ours} == {group.canonical.id}
        assert group.canonical.description or not any(offer.description for offer in group.offers)
    for row in rows.values():
        assert 0 <= float(row["confidence"]) <= 1 and row["needs_review"] in ("yes", "no") and row["why"]
    lines = [json.loads(line) for line in (tmp_path / "groups.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["group"] for line in lines] == [group.id for group in result.groups]


def test_siblings_need_no_review_and_an_equal_gtin_of_siblings_does() -> None:
    red, navy = "Maison Lune silk dress V-neck, red, M", "Maison Lune silk dress V-neck, navy, M"
    hose = Offer("c", "Garden hose 20 m with reel")
    of = {row.offer.id: row for row in match([Offer("a", red), Offer("b", navy), hose]).offers}
    assert not any(row.needs_review for row in of.values())
    assert of["a"].why == "like b but for color" and of["b"].why == "like a but for color"
    assert of["c"].confidence > 0.85 and of["c"].canonical_id == "c"
    code = {"gtin": "4006381333931"}
    of = {
        r.offer.id: r for r in match([Offer("a", red, attributes=code), Offer("b", navy, attributes=code), hose]).offers
    }
    assert of["a"].needs_review and of["a"].why == "the GTIN of b, but another color" and not of["c"].needs_review


def test_a_pair_above_the_threshold_in_two_groups_says_what_keeps_it_apart(tmp_path: Path) -> None:
    table = offer_table([Offer(f"{number:03}", "Drill Makita hr2470 blue") for number in range(3)])
    matched = replace(match_table(table), groups=np.array([0, 0, 2]))
    result = match_result(matched, {"catalog": "c"}, tmp_path)
    apart = [pair for pair in result.pairs if not pair.same]
    assert len(apart) == 2 and all("kept apart: their groups are unlike on average" in str(pair) for pair in apart)
    assert result.summary["pairs_kept_apart"] == 2
    rows = rows_of(tmp_path / "pairs.csv")
    assert [bool(row["kept_apart"]) for row in rows] == [row["same"] == "false" for row in rows]
    assert [pair.reasons.kept_apart for pair in result.pairs] == [not pair.same for pair in result.pairs]
    assert "unlike that one's group" in result.offers[2].why


def test_cells_are_no_formulas_and_are_read_back_exactly(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    with open(path, "w", encoding="utf-8", newline="") as file:
        sheet = SheetWriter(file, ("text", "number"))
        for text in ODD:
            sheet.write(text, -0.5)
    assert path.read_bytes().startswith(codecs.BOM_UTF8)
    with open(path, encoding="utf-8-sig", newline="") as file:
        cells = [row[0] for row in csv.reader(file)][1:]
    assert not [cell for cell in cells if cell[:1] in "=+@\t\r" and cell]
    assert [cell for cell in cells if cell[:1] == "-"] == ["-5"]
    assert [row["text"] for row in rows_of(path)] == ODD
    assert {row["number"] for row in rows_of(path)} == {"-0.5"}
    # texts are in quotes, so that a program that looks at them keeps leading zeros
    assert '"0401234567890",-0.5' in path.read_text(encoding="utf-8-sig")


def test_odd_ids_come_back_from_every_file(tmp_path: Path) -> None:
    ids = ["=1", "-a", "@b", "'=c", "0012", "12"]
    offers = [Offer(identifier, "=Drill Makita hr2470 blue") for identifier in ids]
    out = tmp_path / "out"
    result = match(offers, out=out)
    assert [row["id"] for row in rows_of(out / "offers.csv")] == sorted(ids)
    assert {row["title"] for row in rows_of(out / "offers.csv")} == {"=Drill Makita hr2470 blue"}
    pairs = read_pairs(out / "pairs.csv", {offer.id: offer for offer in offers})
    assert {(pair.left.id, pair.right.id) for pair in pairs} == {(pair.left.id, pair.right.id) for pair in result.pairs}
    again = match(offers, out=out, previous=out)
    assert [group.id for group in again.groups] == [group.id for group in result.groups]
    assert again.summary["changes"] == {"unchanged": 1, "split": 0, "merge": 0, "new": 0, "vanished": 0}


def test_previous_carries_ids_and_lists_what_changed(tmp_path: Path) -> None:
    offers, _ = catalog(seed=5, families=6)
    first = match(offers, out=tmp_path / "one")
    assert not (tmp_path / "one" / "changes.jsonl").exists()
    gone = first.groups[0].ids
    newer = [offer for offer in offers if offer.id not in gone]
    # a smaller id than any: a hash of the first id would change
    more = Offer("!", first.groups[1].offers[0].title)
    second = match([*newer, more], out=tmp_path / "two", previous=tmp_path / "one")
    of = {row.offer.id: row.group_id for row in second.offers}
    before = {row.offer.id: row.group_id for row in first.offers}
    assert all(of[offer.id] == before[offer.id] for offer in newer) and of["!"] == first.groups[1].id
    events = [json.loads(line) for line in (tmp_path / "two" / "changes.jsonl").read_text().splitlines()]
    assert events == [{"change": "vanished", "group": first.groups[0].id}]
    assert second.summary["changes"]["unchanged"] == len(first.groups) - 2


def test_the_command_line_counts_changes_and_says_what_labels_it_used(tmp_path: Path) -> None:
    offers, products = catalog(seed=6, families=6)
    write_catalog(tmp_path / "c.jsonl", [replace(offer, product_id=products[offer.id]) for offer in offers])

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "afmrl", "match", str(tmp_path / "c.jsonl"), "--out", str(tmp_path / "out")]
        return subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)

    first = run()
    assert f"Labels: product_id of {len(offers)} offers in c.jsonl; --no-labels leaves them out." in first.stdout
    second = run("--no-labels", "--previous", str(tmp_path / "out"))
    assert second.returncode == 0 and "Labels:" not in second.stdout
    assert f"Since {tmp_path / 'out'}: " in second.stdout and " as before, 0 split, 0 merged, 0 new" in second.stdout
    wrong = run("--no-labels", "--labels", "x.jsonl")
    assert wrong.returncode == 2 and "exclude each other" in wrong.stderr


def test_one_group_is_one_group(tmp_path: Path) -> None:
    write_catalog(tmp_path / "c.jsonl", [Offer("1", "Drill Makita hr2470"), Offer("2", "Makita drill HR-2470")])
    command = [sys.executable, "-m", "afmrl", "match", str(tmp_path / "c.jsonl"), "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "1 group of 2 of 2 offers" in done.stdout and "1 pair compared" in done.stdout


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("materail", "--veto materail: no offer has this attribute; did you mean material?"),
        ("warranty", "--veto warranty: no offer has this attribute; they have: "),
        ("", "--veto : no offer has this attribute"),
    ],
)
def test_a_veto_that_no_offer_can_meet_is_refused(name: str, message: str) -> None:
    offers = [
        Offer("1", "Desk oak", attributes={"Material": "oak"}),
        Offer("2", "Desk", attributes={"material": "pine"}),
    ]
    with pytest.raises(InputError) as refused:
        match(offers, veto=[name])
    assert message in str(refused.value)
    assert match(offers, veto=["Material"]).summary["offers"] == 2
