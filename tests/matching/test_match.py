"""`match` and `afmrl match`: groups, pairs with reasons, what is written."""

from __future__ import annotations

import csv
import dataclasses
import html
import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from match_catalogs import catalog, index_of, table_of

from afmrl.data.catalog import write_catalog
from afmrl.data.offer import Offer
from afmrl.errors import InputError
from afmrl.index.address import open_index
from afmrl.matching.match import match, match_result
from afmrl.matching.matched_table import match_table
from afmrl.report.match_page import write_match_page
from conftest import save_image


def test_default_match_finds_the_offers_of_one_product_and_no_siblings(tmp_path: Path) -> None:
    offers, products = catalog()
    write_catalog(tmp_path / "c.jsonl", offers)
    result = match(tmp_path / "c.jsonl", out=tmp_path / "out")
    for group in result.groups:
        assert len({products[identifier] for identifier in group.ids}) == 1
    found = {pair for group in result.groups for pair in itertools.combinations(sorted(group.ids), 2)}
    true = {pair for pair in itertools.combinations(sorted(products), 2) if products[pair[0]] == products[pair[1]]}
    assert found <= true and len(found) > 0.95 * len(true)
    assert "no labels" in result.summary["threshold"]["from"]


DRESSES = [
    {"id": "a", "title": "Maison Lune silk dress V-neck, deep red, M"},
    {"id": "b", "title": "Maison Lune dress, silk, v neck (wine red) size M"},
    {"id": "c", "title": "Maison Lune silk dress V-neck, navy, M"},
]


def test_dicts_give_groups_and_pairs_with_reasons_and_no_file(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = match(DRESSES)
    assert [group.ids for group in result.groups] == [["a", "b"]] and result.out is None
    assert result.groups[0].offers[0] == Offer("a", DRESSES[0]["title"])
    same, navy, other_navy = result.pairs
    assert (same.left.id, same.right.id, same.same, same.veto) == ("a", "b", True, ())
    assert 0.9 < same.probability < 1 and {"color", "size"} <= set(same.reasons.agree) and not same.reasons.differ
    assert (navy.left.id, navy.right.id, navy.same, navy.veto) == ("a", "c", False, ("color",))
    assert (navy.reasons.differ["color"].left, navy.reasons.differ["color"].right) == ("red", "navy")
    assert str(same).startswith("a = b   0.9") and "agree: " in str(same)
    assert str(navy) == "a ≠ c   veto   color: red | navy"
    assert other_navy.veto == ("color",) and not list(tmp_path.iterdir())


def test_a_path_offers_dicts_and_a_data_frame_give_the_same(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    offers, _ = catalog(seed=9, families=10)
    offers[0] = Offer(offers[0].id, offers[0].title, attributes={"Color": "red"}, category="drills")
    write_catalog(tmp_path / "c.jsonl", offers)
    rows = [json.loads(line) for line in (tmp_path / "c.jsonl").read_text(encoding="utf-8").splitlines()]
    written = match(tmp_path / "c.jsonl", out=tmp_path / "out")
    assert written.out == tmp_path / "out" and len(written.pairs) > 20
    # read back from the folder: by iteration, by place, by slice
    assert list(written.pairs) == [written.pairs[i] for i in range(len(written.pairs))] == written.pairs[:]
    for given in (str(tmp_path / "c.jsonl"), offers, tuple(rows), iter(rows), pandas.DataFrame(rows)):
        found = match(given)
        assert found.pairs == list(written.pairs) and found.groups == written.groups
        known = {"catalog", "labels_from"}
        assert {k: v for k, v in found.summary.items() if k not in known} == {
            k: v for k, v in written.summary.items() if k not in known
        }


def test_empty_cells_of_a_data_frame_are_empty_fields() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(DRESSES)
    frame["id"] = [10, 11, 12]
    frame["description"] = [float("nan"), None, "Evening dress"]
    frame["category"] = pandas.array(["dresses", pandas.NA, pandas.NA], dtype="string")
    frame["attributes"] = [{"color": "deep red"}, None, float("nan")]
    result = match(frame)
    assert [group.ids for group in result.groups] == [["10", "11"]]
    left, right = result.groups[0].offers
    assert left == Offer("10", DRESSES[0]["title"], category="dresses", attributes={"color": "deep red"})
    assert right == Offer("11", DRESSES[1]["title"])
    assert result.pairs[0].reasons.agree["color"].sources == ("seller", "extracted")


@pytest.mark.parametrize(
    ("offers", "message"),
    [
        (7, "match: offers is int; give a catalog's file, a list of Offers or dicts, or a pandas DataFrame"),
        (DRESSES[0], "match: offers is dict; give"),
        ([DRESSES[0], "b"], "offers: row 2 is str; give each offer as an Offer or a dict"),
        ([{"title": "no id"}], "offers: no column is read as the offers' id (columns: title)"),
        ([], "offers: the catalog is empty"),
    ],
)
def test_what_is_not_offers_is_refused_in_one_line(offers: object, message: str) -> None:
    with pytest.raises(InputError) as refused:
        match(offers)  # type: ignore[arg-type]
    assert message in str(refused.value)


def test_a_bad_row_in_memory_is_skipped_and_noted_as_in_a_file() -> None:
    result = match([*DRESSES, {"id": "d"}, DRESSES[0]])
    assert result.summary["offers"] == 3
    assert "2 rows were left out, the first: offers:4: title, image" in result.summary["notes"][0]


def test_offers_in_memory_need_neither_pandas_nor_torch() -> None:
    code = (
        "import sys\nfrom afmrl.matching.match import match\n"
        "match([{'id': '1', 'title': 'Drill hr2470'}, {'id': '2', 'title': 'drill HR-2470'}])\n"
        "assert not {'pandas', 'torch'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_groups_do_not_depend_on_the_order_of_the_catalog(tmp_path: Path) -> None:
    offers, _ = catalog(seed=1)
    found = []
    for number, order in enumerate((range(len(offers)), np.random.default_rng(5).permutation(len(offers)))):
        path = tmp_path / f"c{number}.jsonl"
        write_catalog(path, [offers[i] for i in order])
        out = tmp_path / f"out{number}"
        match(path, out=out)
        found.append([(out / name).read_bytes() for name in ("groups.jsonl", "pairs.jsonl", "groups.csv")])
    assert found[0] == found[1]


def test_output_is_what_is_promised(tmp_path: Path) -> None:
    offers, _ = catalog(seed=2, families=8)
    offers += [Offer("x1", 'Quote "and", comma drill ab9999 red'), Offer("x2", "quote and comma drill AB-9999 blue 😀")]
    write_catalog(tmp_path / "c.jsonl", offers)
    result = match(tmp_path / "c.jsonl", out=tmp_path / "out")
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir()} == {
        "offers.csv", "groups.jsonl", "pairs.jsonl", "groups.csv", "pairs.csv", "summary.json", "kept.bin",
    }  # fmt: skip
    groups = [json.loads(line) for line in (out / "groups.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [set(group) for group in groups] == [{"group", "canonical", "offers"}] * len(groups)
    assert [group["offers"] for group in groups] == [group.ids for group in result.groups]
    assert all(len(group.offers) > 1 and 0 < group.probability <= 1 for group in result.groups)
    number_of = {identifier: group["group"] for group in groups for identifier in group["offers"]}
    assert len(number_of) == sum(len(group.offers) for group in result.groups)
    pairs = [json.loads(line) for line in (out / "pairs.jsonl").read_text(encoding="utf-8").splitlines()]
    seen = set()
    for pair in pairs:
        assert {
            "left", "right", "left_group", "right_group", "score", "probability", "same", "reasons",
        } == set(pair)  # fmt: skip
        assert pair["same"] is (pair["left_group"] == pair["right_group"])
        assert {"agree", "differ", "only_left", "only_right", "veto", "text"} <= set(pair["reasons"])
        together = pair["left"] in number_of and number_of[pair["left"]] == number_of.get(pair["right"])
        assert pair["same"] is together and 0 <= pair["probability"] <= 1
        assert not (pair["same"] and pair["reasons"]["veto"])
        seen.add((pair["left"], pair["right"]))
    assert len(seen) == len(pairs)
    for group in result.groups:
        assert set(itertools.combinations(group.ids, 2)) <= seen
    vetoed = next(pair for pair in pairs if {pair["left"], pair["right"]} == {"x1", "x2"})
    assert vetoed["reasons"]["veto"] == ["color"]
    assert vetoed["reasons"]["differ"]["color"] == {"left": "red", "right": "blue", "from": ["extracted"] * 2}
    assert vetoed["reasons"]["agree"]["model"]["left"] == "ab9999"
    with open(out / "pairs.csv", encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["left"], row["right"], row["same"]) for row in rows] == [
        (pair["left"], pair["right"], str(pair["same"]).lower()) for pair in pairs
    ]
    page = write_match_page(result, out).read_text(encoding="utf-8")
    assert "Kept apart by a veto" in page and "http://" not in page and "https://" not in page
    assert 'Quote "and"' in html.unescape(page)


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
    result = match(tmp_path / "c.jsonl", out=tmp_path / "out")
    pairs = {
        (p["left"], p["right"]): p for p in map(json.loads, (tmp_path / "out" / "pairs.jsonl").read_text().splitlines())
    }
    alike = pairs["r1", "r2"]
    unlike = pairs.get(("g", "r1"), {"score": -99.0, "reasons": {"image": -99.0}})
    assert alike["score"] > unlike["score"] and alike["reasons"]["image"] > unlike["reasons"]["image"]
    assert any("1 image cannot be read" in note for note in result.summary["notes"])


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
    matched = match_table(table)
    assert matched.groups.tolist() == [0, 0, 0]
    result = match_result(dataclasses.replace(matched, groups=np.array([0, 0, 2])), {"catalog": "c"}, tmp_path)
    pairs = [json.loads(line) for line in (tmp_path / "pairs.jsonl").read_text().splitlines()]
    assert {(pair["left"], pair["right"]): pair["same"] for pair in pairs} == {
        ("000", "001"): True, ("000", "002"): False, ("001", "002"): False,
    }  # fmt: skip
    assert [group.ids for group in result.groups] == [["000", "001"]] and result.summary["pairs_same"] == 1


def test_against_an_index_only_pairs_across_are_looked_for(tmp_path: Path) -> None:
    offers, products = catalog(seed=7, families=12)
    old, new = offers[::2], offers[1::2]
    index_of(tmp_path / "index", old)
    write_catalog(tmp_path / "new.jsonl", [*new, old[0]])  # old[0] comes again: its row in the index is left out
    result = match(tmp_path / "new.jsonl", out=tmp_path / "out", against=str(tmp_path / "index"))
    pairs = [json.loads(line) for line in (tmp_path / "out" / "pairs.jsonl").read_text().splitlines()]
    ours, theirs = {o.id for o in new} | {old[0].id}, {o.id for o in old[1:]}
    assert pairs and all(pair["left"] in ours and pair["right"] in theirs for pair in pairs)
    same = {(pair["left"], pair["right"]) for pair in pairs if pair["same"]}
    true = {(a, b) for a in ours for b in theirs if products[a] == products[b]}
    assert same <= true and len(same) > 0.9 * len(true)
    assert all(len({products[identifier] for identifier in group.ids}) == 1 for group in result.groups)
    whole = match(tmp_path / "index", out=tmp_path / "whole")
    assert whole.summary["offers"] == len(old)
    with pytest.raises(InputError, match="need a catalog's file"):
        match(tmp_path / "index", out=tmp_path / "whole", model="m")


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
        match(tmp_path / "c.jsonl", out=tmp_path / "out", model=str(tiny_model))
        manifest = (tmp_path / "out" / "embeddings" / "manifest.json").read_text()
    assert len(BulkFolder.open(tmp_path / "out" / "embeddings")) == len(offers)
    assert len(BulkFolder.open(tmp_path / "out" / "embeddings-image")) == len(offers)
    pairs = [json.loads(line) for line in (tmp_path / "out" / "pairs.jsonl").read_text().splitlines()]
    assert pairs and all({"text", "image", "embedding"} <= set(pair["reasons"]) for pair in pairs)
    shards = {shard["file"] for shard in json.loads(manifest)["shards"]}
    assert shards and all((tmp_path / "out" / "embeddings" / shard).is_file() for shard in shards)
    # without a folder: the same, and nothing is left behind
    before = sorted(tmp_path.rglob("*"))
    assert match(offers, model=str(tiny_model)).pairs == list(
        match(tmp_path / "c.jsonl", out=tmp_path / "out", model=str(tiny_model)).pairs
    )
    assert sorted(tmp_path.rglob("*")) == before


def test_against_an_index_of_the_same_ids_is_said(tmp_path: Path) -> None:
    offers = [Offer(f"o{number}", f"Acme kettle KX{number}00 red") for number in range(8)]
    index_of(tmp_path / "index", offers)
    with pytest.raises(InputError, match="holds the same offers, first: 'o0'"):
        match(offers, against=str(tmp_path / "index"))
    result = match([offers[0], Offer("new", "Acme kettle KX700, red")], against=str(tmp_path / "index"))
    assert "1 rows of index" in " ".join(result.summary["notes"]) and "older versions" in " ".join(
        result.summary["notes"]
    )
    assert {(pair.left.id, pair.right.id) for pair in result.pairs if pair.same} == {("new", "o7")}


def test_against_an_emptied_index_says_that_it_is_empty(tmp_path: Path) -> None:
    offers = [Offer(f"o{number}", f"Acme kettle KX{number}00 red") for number in range(3)]
    index_of(tmp_path / "index", offers)
    with open_index(str(tmp_path / "index")) as index:
        index.delete([offer.id for offer in offers])
    with pytest.raises(InputError, match="is empty"):
        match([Offer("new", "Acme kettle KX100, red")], against=str(tmp_path / "index"))
