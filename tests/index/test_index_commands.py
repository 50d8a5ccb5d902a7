"""`afmrl index` and `afmrl search INDEX`: what they write, say and refuse."""

from __future__ import annotations

import json
import sys

import pytest

from afmrl.cli import app as cli
from afmrl.errors import InputError
from afmrl.index.address import open_index
from afmrl.index.update import update_index
from afmrl.retrieval.fusion import FusionWeights
from conftest import save_image

COLORS = ("red", "blue", "green", "black")
KINDS = ("dress", "shoe", "mug", "lamp", "bag", "coat", "phone")


@pytest.fixture
def mistake(call):
    """`afmrl …` that must be answered as a mistake of the user's; its message."""

    def run(*arguments):
        code, _, err = call(*arguments)
        assert code == 2 and "Traceback" not in err, err
        assert err.startswith("afmrl: "), err
        return " ".join(err.split())

    return run


def write_offers(path, offers):
    path.write_text("".join(json.dumps(offer) + "\n" for offer in offers))
    return path


def offer(number, prefix="g", **changed):
    title = f"{COLORS[number % 4]} {KINDS[number % 7]} {number}"
    return {
        "id": f"{prefix}{number:02d}", "title": title, "category": KINDS[number % 7], "seller": f"s{number % 2}",
        "image": f"images/{number % 9}.png", **changed,
    }  # fmt: skip


@pytest.fixture(scope="module")
def shop(tmp_path_factory, tiny_model):
    """Thirty offers, six queries, one of which is an offer of the gallery as well; embedded."""
    folder = tmp_path_factory.mktemp("shop")
    for number in range(9):
        save_image(folder / "images" / f"{number}.png", number)
    write_offers(folder / "gallery.jsonl", [offer(number) for number in range(30)])
    queries = [offer(3), *(offer(number, "q", title=f"{COLORS[number % 4]} thing") for number in range(5))]
    write_offers(folder / "queries.jsonl", queries)
    (folder / "qrels.tsv").write_text("".join(f"q{number:02d}\tg{number:02d}\t1\n" for number in range(5)))
    sys_argv, sys.argv = sys.argv, [
        "afmrl", "embed", str(folder / "gallery.jsonl"), "--model", str(tiny_model), "--dtype", "float32",
        "--out", str(folder / "embeddings"),
    ]  # fmt: skip
    try:
        cli.main()
    except SystemExit as stop:
        assert not stop.code
    finally:
        sys.argv = sys_argv
    update_index(folder / "embeddings", str(folder / "index"), dtype="f32")
    return folder


def embed(call, folder, model, offers, out="new"):
    catalog = write_offers(folder / "new.jsonl", offers)
    code, _, err = call("embed", catalog, "--model", model, "--out", folder / out, "--dtype", "float32")
    assert code == 0, err
    return folder / out


def read_hits(path):
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return {line["query"]: {hit["id"]: hit["score"] for hit in line["hits"]} for line in lines}


def test_the_weight_of_bm25_is_learned_given_or_fixed(call, shop, tiny_model, tmp_path):
    arguments = ["search", shop / "index", "--queries", shop / "queries.jsonl", "--k", 8, "--out"]
    FusionWeights(0.6).save(tiny_model)
    try:
        code, out, err = call(*arguments, tmp_path / "learned.jsonl")
        assert code == 0, err
        assert "6 queries, 48 hits" in out
    finally:
        (tiny_model / "fusion.json").unlink()
    learned = read_hits(tmp_path / "learned.jsonl")
    assert call(*arguments, tmp_path / "given.jsonl", "--hybrid-weight", 0.6)[0] == 0
    assert read_hits(tmp_path / "given.jsonl") == learned
    assert call(*arguments, tmp_path / "fixed.jsonl")[0] == 0
    assert read_hits(tmp_path / "fixed.jsonl") != learned
    assert "g03" not in learned["g03"]  # an offer is no hit of itself


@pytest.mark.parametrize("columns", [80, 160])
def test_the_table_tells_every_hit_whole(call, shop, columns):
    code, out, err = call(
        "search", shop / "index", "--text", "red dress", "--image", shop / "images" / "3.png", "--k", 3, columns=columns
    )
    assert code == 0, err
    assert max(map(len, out.splitlines())) <= columns
    assert out.count("│ g") == 3 and "score" in out and "title" in out and "…" not in out


def test_filters(call, shop):
    code, out, err = call("search", shop / "index", "--text", "red", "--category", "mug", "--seller", "s0", "--k", 9)
    assert code == 0, err
    wanted = {f"g{n:02d}" for n in range(30) if n % 7 == 2 and n % 2 == 0}
    assert {f"g{n:02d}" for n in range(30) if f"g{n:02d}" in out} == wanted
    asked = ["search", shop / "index", "--text", "red", "--k", 9, "--seller", " S0 ", "--category"]
    assert call(*asked, "MUG")[1] == out  # the case does not matter
    code, out, err = call(*asked, "mugs")
    assert code == 0 and "no offer passes the filter" in out
    assert "no offer has the category 'mugs'; the nearest is 'mug'" in err
    code, out, err = call(*asked, "mugs", "--category", "Lamp")
    assert "lamp" in out and "'mugs'" in err and "'Lamp'" not in err


def test_queries_are_shown_without_a_file(call, shop):
    code, out, err = call("search", shop / "index", "--queries", shop / "queries.jsonl", "--k", 1)
    assert code == 0, err
    assert out.count("score") == 6 and "q04: red thing" in out


def test_updates_say_what_they_touched(call, shop, tiny_model, tmp_path, monkeypatch):
    index = tmp_path / "index"
    for number in range(9):
        save_image(tmp_path / "images" / f"{number}.png", number)
    first = embed(call, tmp_path, tiny_model, [offer(number) for number in range(10)])
    code, out, err = call("index", first, "--out", index)
    assert code == 0, err
    assert "inserted 10, updated 0, unchanged 0; 10 rows" in out
    again = embed(call, tmp_path, tiny_model, [*(offer(n) for n in range(2, 9)), offer(9, title="changed"), offer(11)])
    assert "inserted 1, updated 1, unchanged 7; 11 rows" in call("index", again, "--out", index)[1]
    assert (
        "inserted 0, updated 0, unchanged 9, deleted 2; 9 rows" in call("index", again, "--out", index, "--mirror")[1]
    )
    half = embed(call, tmp_path, tiny_model, [offer(9, title="changed")])
    monkeypatch.setattr("afmrl.data.bad_rows.LEAST_ROWS", 3)
    code, _, err = call("index", half, "--out", index, "--mirror")
    assert code == 2 and "--mirror would delete 8 of 9 offers of index" in err
    assert "; 9 rows" in call("index", again, "--out", index)[1]  # and nothing was written
    code, out, _ = call("index", index, "--delete", "g02", "--delete", "g77")
    assert code == 0 and "deleted 1; 8 rows" in out and "not found: 1 id: g77" in out
    (tmp_path / "gone.txt").write_text("g03\n\ng04\n")
    assert "deleted 2; 6 rows" in call("index", index, "--remove", tmp_path / "gone.txt")[1]
    with open_index(str(index)) as opened:
        assert sorted(i for rows in opened.scan() for i in rows.ids) == ["g05", "g06", "g07", "g08", "g09", "g11"]
        assert opened.get(["g09"]).offers[0].title == "changed"
    code, out, _ = call("index", index, "--info", "--check")
    assert code == 0 and "every file is as it was written" in out
    assert "rows:          6" in out and "stored as:     f16" in out and str(tiny_model) in out and "exact" in out


def test_ids_to_remove_are_taken_as_they_stand(call, tmp_path, tiny_model):
    ids = ["007", "7", " 7", "7 ", "1e3", "1000", "N/A", "a,b", "ü", '"q"', "x"]
    embedded = embed(call, tmp_path, tiny_model, [{"id": name, "title": f"mug {name}"} for name in ids])
    index = tmp_path / "index"
    assert call("index", embedded, "--out", index)[0] == 0
    with open_index(str(index)) as opened:
        ids = opened.get(ids).ids  # as the catalog's reader keeps them
    gone = ["007", "1e3", "N/A", "a,b", "ü", '"q"', "7 "]
    (tmp_path / "gone.txt").write_bytes(("\ufeff" + "\r\n".join(gone) + "\r\n\r\n").encode())
    code, out, err = call("index", index, "--remove", tmp_path / "gone.txt")
    assert code == 0, err
    with open_index(str(index)) as opened:
        assert set(opened.get(ids).ids) == set(ids) - set(gone)
    assert ("'7 '" in out) == ("7 " not in ids)


def test_an_emptied_index_says_that_it_is_empty(mistake, call, tmp_path, tiny_model):
    index = tmp_path / "index"
    embedded = embed(call, tmp_path, tiny_model, [offer(1, image=""), offer(2, image="")])
    assert call("index", embedded, "--out", index)[0] == 0
    assert "deleted 2; 0 rows" in call("index", index, "--delete", "g01", "--delete", "g02")[1]
    for command in (["search", index, "--text", "red"], ["match", index, "--out", tmp_path / "out"]):
        assert f"index {index}: is empty; fill it with: afmrl index EMBEDDINGS --out {index}" in mistake(*command)


def test_mistakes(mistake, call, shop, tiny_model, tmp_path):
    index = shop / "index"
    assert "give --out INDEX" in mistake("index", shop / "embeddings")
    assert "--delete is for an index" in mistake("index", shop / "embeddings", "--out", index, "--delete", "g01")
    assert "--mirror needs EMBEDDINGS" in mistake("index", index, "--mirror", "--info")
    assert "no such folder; `afmrl embed" in mistake("index", tmp_path / "none", "--out", tmp_path / "i")
    assert "no index is here" in mistake("index", tmp_path / "none", "--info")
    assert "no index is here" in mistake("search", tmp_path / "none", "--text", "red")
    assert "holds no manifest.json" in mistake("index", shop / "images", "--out", tmp_path / "i")
    assert "was made with dtype f32, which cannot be changed to i8" in mistake(
        "index", shop / "embeddings", "--out", index, "--dtype", "i8"
    )
    assert "gone.txt: no such file" in mistake("index", index, "--remove", tmp_path / "gone.txt")
    assert "give a text (--text), an image (--image), or both" in mistake("search", index)
    assert "k=0: at least one hit" in mistake("search", index, "--text", "red", "--k", 0)
    assert "k=0: at least one hit" in mistake("search", index, "--queries", shop / "queries.jsonl", "--k", 0)
    assert "--out needs --queries" in mistake("search", index, "--text", "red", "--out", tmp_path / "h.jsonl")
    assert "--max-bad needs --queries" in mistake("search", index, "--text", "red", "--max-bad", "0.5")
    assert "--split is of a catalog" in mistake("search", index, "--text", "red", "--split", "test")
    assert "give one of them" in mistake("search", index, "--text", "red", "--no-hybrid", "--hybrid-weight", 1)
    assert "0 or more" in mistake("search", index, "--text", "red", "--hybrid-weight", -1)
    assert "give --model" in mistake("search", shop / "gallery.jsonl", "--text", "red")


def test_another_model_is_refused(call, mistake, shop, tiny_model, tmp_path):
    import shutil

    other = tmp_path / "other"
    shutil.copytree(tiny_model, other)
    with open(other / "model.safetensors", "r+b") as file:
        file.seek(-4, 2)
        file.write(b"\0\0\0\0")
    said = mistake("search", shop / "index", "--text", "red", "--model", other)
    assert f"holds embeddings of {tiny_model}" in said and f"{other} is another model now" in said
    with pytest.raises(InputError, match="cosines of two models do not compare"):
        save_image(tmp_path / "images" / "1.png", 1)
        update_index(embed(call, tmp_path, other, [offer(1)]), str(shop / "index"))
