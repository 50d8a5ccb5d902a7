"""`afmrl check`, and the line that every command says of its catalog."""

import json
import sys

import pytest

from afmrl.cli.app import main


def command(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["afmrl", *map(str, arguments)])
    main()


@pytest.fixture
def offers(tmp_path):
    rows = ["SKU;Name;Marke;EAN;zzz"]
    rows += [f"s{number};Mug {number};Stelton;;{gtin}" for number, gtin in enumerate(["4006381333931", "036000291452"])]
    path = tmp_path / "offers.csv"
    path.write_text("\n".join([*rows, "s9;;B;;", "s0;again;;;", "short", ""]), encoding="cp1252")
    return path


def test_check_says_all_kinds_of_faults_at_once(monkeypatch, capsys, offers):
    with pytest.raises(SystemExit) as end:
        command(monkeypatch, "check", offers)
    assert end.value.code == 0  # every command takes the file, without these rows
    with pytest.raises(SystemExit) as end:
        command(monkeypatch, "check", offers, "--max-bad", "0")
    assert end.value.code == 1
    out = capsys.readouterr().out
    for words in (
        "2 offers of 5 rows", "CSV, ';', UTF-8", "id ← SKU", "title ← Name", "brand ← Marke", "gtin ← EAN",
        "columns not used: zzz", "column 'zzz' looks like gtin", "rows left out: 3",
        "row 4: title, image: are both empty",
        "row 5: id: 's0' is already in row 2", "row 6: line: has another number of cells", "title: Mug 0",
        "brand: Stelton",
    ):  # fmt: skip
        assert words in out, words


def test_columns_can_be_named_and_a_sound_file_ends_well(monkeypatch, capsys, tmp_path):
    (tmp_path / "o.txt").write_text("nr~what\n1~Mug\n")
    with pytest.raises(SystemExit) as end:
        command(monkeypatch, "check", tmp_path / "o.txt", "--delimiter", "~", "--columns", "id=nr,title=what")
    assert end.value.code == 0
    assert "title: Mug" in capsys.readouterr().out


def test_a_command_says_what_it_read_in_one_line(monkeypatch, capsys, offers, tmp_path):
    with pytest.raises(SystemExit) as end:
        command(monkeypatch, "match", offers, "--out", tmp_path / "m", "--columns", "gtin=zzz")
    assert end.value.code == 0
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "offers of" in line]
    assert "2 offers of 5 rows (CSV, ';', UTF-8); read: id (SKU), title (Name), gtin (zzz), brand (Marke)" in line
    assert "not used: EAN" in line and "3 rows left out" in line
    assert json.loads((tmp_path / "m" / "summary.json").read_text())["offers"] == 2
    skipped = [json.loads(line) for line in (tmp_path / "m" / "skipped.jsonl").read_text().splitlines()]
    assert [(row["row"], row["field"]) for row in skipped] == [(4, "title, image"), (5, "id"), (6, "line")]


def test_wrong_columns_are_refused(monkeypatch, capsys, offers):
    for given, words in (("title", "expected NAME=COLUMN"), ("title=Nowhere", "there is no such column")):
        with pytest.raises(SystemExit) as end:
            command(monkeypatch, "check", offers, "--columns", given)
        assert end.value.code == 2
        assert words in capsys.readouterr().err
