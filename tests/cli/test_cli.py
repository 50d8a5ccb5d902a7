"""What the command line says to a user's mistake: one message on stderr, exit code 2, no traceback."""

import inspect
import json
import os
import shutil
import subprocess
import sys

import pytest
import yaml

from afmrl.cli import app as cli
from conftest import afmrl, png_claiming, save_image

COMMANDS = ("quickstart", "run", "recipe", "evaluate", "compare", "check", "dataset", "index", "search", "parity")


@pytest.fixture
def mistake(call):
    """`afmrl …` that must be answered as a mistake of the user's; its message."""

    def run(*arguments):
        code, _, err = call(*arguments)
        assert code == 2, err
        assert "Traceback" not in err
        message = err.strip()
        assert message.startswith("afmrl: "), message  # one message, and nothing of the libraries before it
        assert len(message) < 2000
        return message

    return run


@pytest.fixture
def shop(tmp_path):
    """A catalog pair with qrels: three products, a query and a gallery offer each."""
    for name in ("queries", "gallery"):
        rows = [
            {"id": f"{name[0]}{number}", "title": f"{color} dress", "image": f"images/{name}{number}.png"}
            for number, color in enumerate(("red", "blue", "green"))
        ]
        for number in range(3):
            save_image(tmp_path / "images" / f"{name}{number}.png", number)
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "qrels.tsv").write_text("q0\tg0\t2\nq1\tg1\t2\nq2\tg2\t2\nq0\tg1\t1\n")
    return tmp_path


def sides(shop, **changed):
    options = {
        "model": "tfidf", "queries": shop / "queries.jsonl", "gallery": shop / "gallery.jsonl",
        "qrels": shop / "qrels.tsv", "out": shop / "out", **changed,
    }  # fmt: skip
    return [part for name, value in options.items() for part in (f"--{name}", value)]


def recipe(folder, **changed):
    data = {"catalog": {"sample": {"families": {"train": 4, "reward": 2, "val": 1, "test": 2}}}, "tiny": {}}
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({**data, **changed}))
    return path


def own_catalog(folder, rows, **catalog):
    (folder / "offers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return recipe(folder, catalog={"path": "offers.jsonl", **catalog})


# what is asked for in the right way


def test_version(call):
    from importlib import metadata

    code, out, _ = call("--version")
    assert (code, out.strip()) == (0, metadata.version("afmrl"))


def test_help_names_every_command(call):
    code, out, _ = call("--help")
    assert code == 0
    for command in COMMANDS:
        assert f" {command} " in out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_of_every_command_is_explained(call, command):
    code, out, _ = call(command, "--help")
    assert code == 0
    function = inspect.unwrap(cli.app[command].default_command)
    assert "--json" in out
    code = function.__code__  # a recipe's fields, which `run` adds to its signature, have a test of their own
    for name in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]:
        if name == "reading":  # options that are shared
            assert all(option in out for option in ("--columns", "--delimiter", "--encoding"))
        else:
            assert f"--{name.replace('_', '-')}" in out
            # a heading of its own: of "a, b" together the help would show neither
            assert f"\n    {name}\n" in function.__doc__


def test_help_and_mistakes_are_answered_fast_without_torch():
    code = (
        "import sys; sys.argv = ['afmrl', 'run', '--help']\n"
        "from afmrl.cli.app import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'transformers', 'datasets'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_importing_the_package_and_its_records_takes_no_torch():
    code = (
        "import sys, afmrl, afmrl.data.catalog, afmrl.data.images, afmrl.attributes.key_attributes\n"
        "import afmrl.generator.prompt\n"
        "assert 'torch' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_installed_command_is_this_one():
    command = os.path.join(os.path.dirname(sys.executable), "afmrl")
    if not os.path.exists(command):
        pytest.skip("the package is not installed into this environment")
    done = subprocess.run([command, "evaluate"], capture_output=True, text=True, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert "--model" in done.stderr


# options and commands


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["evalute"], 'Unknown command "evalute"'),
        (["quickstart", "--fats"], "--fats"),
        (["quickstart", "--seed", "many"], "many"),
        (["evaluate", "--model", "tfidf"], "--queries"),
        (["search", "x.jsonl", "--model", "m", "--k", "many"], "many"),
        (["search"], "--target requires an argument"),
        (["run"], "--recipe requires an argument"),
    ],
)  # fmt: skip
def test_unknown_commands_and_options(call, arguments, words):
    code, _, err = call(*arguments)
    assert code == 2
    assert "Traceback" not in err
    assert words in err


# recipes


def test_recipes_that_cannot_be_read(mistake, tmp_path):
    assert "nowhere.yaml: cannot be read" in mistake("run", tmp_path / "nowhere.yaml")
    assert "cannot be read" in mistake("run", tmp_path)
    (tmp_path / "r.yaml").write_bytes(b"\xff\xfe\x00")
    assert "r.yaml: is not UTF-8" in mistake("run", tmp_path / "r.yaml")
    (tmp_path / "r.yaml").write_text("a: [")
    assert "r.yaml: is not YAML" in mistake("run", tmp_path / "r.yaml")
    (tmp_path / "r.yaml").write_text("")
    assert "'catalog' is missing" in mistake("run", tmp_path / "r.yaml")
    (tmp_path / "offers.jsonl").write_text('{"id": "1", "title": "a"}\n')
    message = mistake("run", tmp_path / "offers.jsonl")
    assert "is a catalog of offers" in message and "afmrl run own_catalog --catalog.path" in message


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("agcl.max-step", "3", "Did you mean --agcl.max-steps?"),
        ("ot", "x", "--ot"),
        ("agcl.weighting", "tfidf", 'Choose from: "bm25", "cosine", "none"'),
        ("rar.reward", "recall", "recall@k"),
        ("evaluation.fuse", "[", "--evaluation.fuse: '[' is not YAML"),
        ("agcl.max-steps", "many", "'agcl.max_steps': 'many' is not allowed; expected a whole number of at least 1"),
        ("agcl.max-steps", "0", "'agcl.max_steps': 0 is not allowed; expected a whole number of at least 1"),
        ("sft.max-steps", "-1", "'sft.max_steps': -1 is not allowed"),
        ("tiny.pretrain.batch-size", "0", "'tiny.pretrain.batch_size': 0 is not allowed"),
        ("rar.num-generations", "1", "'rar.num_generations': 1 is not allowed; expected a whole number of at least 2"),
        ("seed", "-1", "'seed': -1 is not allowed"),
        ("rar.micro-batch-size", "7", "'rar.micro_batch_size': 7 must divide prompts_per_step"),
        ("rar.k", "-1", "'rar.k': -1 is not allowed; expected a whole number of at least 1, or null"),
        ("rar.sft-batch-size", "0", "'rar.sft_batch_size': 0 is not allowed"),
        ("agcl.rules", "margn", "'agcl.rules': 'margn' is not allowed; expected a list of margin, closeness"),
        ("evaluation.rows", "agcl,best", "'evaluation.rows': 'best' is not allowed; expected a list of text, image"),
        ("evaluation.rows", "[]", "'evaluation.rows': is empty"),
        ("evaluation.floors", "[random]", "'evaluation.floors': 'random' is not allowed"),
        ("catalog.sample.families", "{tain: 3}", "unknown split 'tain'"),
    ],
)
def test_fields_that_cannot_work_are_named_before_anything_is_trained(call, tmp_path, option, value, words):
    code, _, err = call("run", recipe(tmp_path), f"--{option}", value, "--out", tmp_path / "out")
    assert (code, "Traceback" in err) == (2, False)
    assert words in " ".join(err.replace("│", " ").split())
    assert not (tmp_path / "out" / "stages" / "base").exists()


def test_an_override_is_written_in_either_way(call, mistake, tmp_path):
    path = recipe(tmp_path)
    for words in (["--agcl.max_steps", "0"], ["--agcl.max_steps=0"], ["--agcl.max-steps=0"], ["--agcl.max-steps", "0"]):
        assert "'agcl.max_steps': 0" in mistake("run", path, *words)
    code, _, err = call("run", path, "--seed")
    assert code == 2 and "--seed requires an argument" in err


def test_run_explains_every_field_of_a_recipe(call):
    from afmrl.training.recipe import Recipe
    from afmrl.training.recipe_help import leaves

    code, out, _ = call("run", "--help")
    assert code == 0
    shown = "".join(out.replace("│", " ").split())  # as if no line were broken
    for field in leaves(Recipe):
        assert f"--{field.name.replace('_', '-')}" in shown
        assert "".join(field.meaning.replace("`", "").split())[:60] in shown, field.name
    assert "default: 0.02" in " ".join(out.split())
    assert "Recipe: agcl" in out and "Embedder, contrastive." in out


def test_shipped_recipes_are_listed_printed_and_run_from_any_folder(call, mistake, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = call("recipe")
    assert code == 0 and "own_catalog  " in out and "afmrl run own_catalog --catalog.path" in out
    code, out, _ = call("recipe", "own_catalog")
    assert code == 0
    (tmp_path / "my.yaml").write_text(out, encoding="utf-8")
    assert f"{tmp_path / 'offers.jsonl'}: no such file" in mistake("run", "my.yaml")
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    assert f"{tmp_path / 'offers.jsonl'}: no such file" in mistake("run", "../my.yaml")
    assert f"{tmp_path / 'sub' / 'a.jsonl'}: no such file" in mistake("run", "own_catalog", "--catalog.path", "a.jsonl")
    assert "afmrl run own_catalog --catalog.path" in mistake("run", "own_catalog")
    assert "no such recipe; did you mean 'own_catalog'" in mistake("recipe", "own_catalogue")
    tiny = mistake("run", "own_catalog", "--size", "tiny", "--agcl.max-steps", "many")
    assert "recipe own_catalog-tiny" in tiny
    assert "--size is of the recipe own_catalog" in mistake("run", "own_text", "--size", "tiny")


def test_a_catalog_that_says_nothing_of_sameness_is_refused(mistake, tmp_path):
    rows = [{"id": str(n), "title": f"dress {n}", "attributes": {"color": "red"}, "split": "train"} for n in range(8)]
    message = mistake("run", own_catalog(tmp_path, rows), "--out", tmp_path / "out")
    assert "nothing says which offers are the same product" in message
    assert "catalog.positives.column" in message and "catalog.positives.pairs" in message
    message = mistake("run", own_catalog(tmp_path, rows, positives={"column": "gtin"}), "--out", tmp_path / "out")
    assert "no two offers share a value of 'gtin'" in message
    path = own_catalog(tmp_path, rows, positives={"column": None, "pairs": "pairs.jsonl"})
    assert "pairs.jsonl: cannot be read" in mistake("run", path, "--out", tmp_path / "out")
    for line, words in (
        ("left,right", 'pairs.jsonl:1: expected {"left": id, "right": id'),
        ('{"left": "1"}', "pairs.jsonl:1: expected"),
        ("[1, 2]", "pairs.jsonl:1: expected"),
        ('{"left": "1", "right": "99"}', "pairs.jsonl:1: unknown offer id '99'"),
        ('{"left": "1", "right": "2", "label": 0}', "names no two offers of the same product"),
        ("\xff", "pairs.jsonl: cannot be read"),
    ):
        (tmp_path / "pairs.jsonl").write_bytes(line.encode("latin-1"))
        assert words in mistake("run", path, "--out", tmp_path / "out")


def products(count, split, **fields):
    return [
        {"id": f"{split}{n}{side}", "title": f"dress {n}", "product_id": f"{split}{n}", "split": split,
         "attributes": {"color": "red"}, **fields}
        for n in range(count) for side in "ab"
    ]  # fmt: skip


def test_an_empty_split_is_refused_before_anything_is_trained(mistake, tmp_path):
    train, reward, test = (products(4, split) for split in ("train", "reward", "test"))
    out = tmp_path / "out"
    assert "the split 'reward' holds no query" in mistake("run", own_catalog(tmp_path, train + test), "--out", out)
    message = mistake("run", own_catalog(tmp_path, train + reward), "--out", out)
    assert "neither the split 'test' nor 'val' holds a query" in message
    message = mistake("run", own_catalog(tmp_path, reward + test), "--out", out)
    assert "no offer belongs to the split 'train' (column 'split')" in message
    lonely = [row for row in reward if row["id"].endswith("a")]
    path = own_catalog(tmp_path, train + test + lonely)
    assert "the split 'reward' holds no query" in mistake("run", path, "--out", out)
    assert not (out / "stages").exists()


def test_products_in_two_splits_and_labels_that_are_none(mistake, tmp_path):
    rows = products(4, "train") + products(4, "reward") + products(4, "test")
    leak = [*rows, {**rows[0], "id": "leak", "split": "test"}]
    assert "product 'train0' is in the splits" in mistake("run", own_catalog(tmp_path, leak))
    path = own_catalog(tmp_path, rows, targets={"column": "labels"})
    assert "no offer has key attributes in the column 'labels'" in mistake("run", path)
    for value, words in (("red, silk", "is not 'key: value'"), (7, "is int"), (["red"], "is list")):
        path = own_catalog(tmp_path, [{**row, "labels": value} for row in rows], targets={"column": "labels"})
        message = mistake("run", path)
        assert "offer 'train0a': the column 'labels'" in message and words in message
    path = own_catalog(tmp_path, rows, split={"by": "style"})
    assert "catalog.split.by: no offer has a value in the column 'style'" in mistake("run", path)
    path = own_catalog(tmp_path, rows, split={"by": "product_id", "fractions": {"train": 1, "tset": 1}})
    assert "'catalog.split.fractions': 'tset' is not allowed" in mistake("run", path)


def test_an_own_catalog_that_is_missing_or_full_of_errors(mistake, tmp_path):
    path = own_catalog(tmp_path, [])
    assert "offers.jsonl: the catalog is empty" in mistake("run", path)
    (tmp_path / "offers.jsonl").unlink()
    assert "offers.jsonl: no such file" in mistake("run", path)
    path = own_catalog(tmp_path, [{"id": "a", "title": "t"}, *({"id": f"b{n}", "title": ""} for n in range(30))])
    assert "30 of 31 rows cannot be used" in mistake("run", path)


def test_an_out_that_cannot_be_a_folder(mistake, tmp_path, shop):
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "below", "/proc/nowhere"):
        for arguments in (["quickstart", "--fast"], ["run", recipe(tmp_path)]):
            assert f"{out}: " in mistake(*arguments, "--out", out)
        assert f"{out}: " in mistake("evaluate", *sides(shop, out=out))


def test_a_folder_without_permission(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    (tmp_path / "locked").mkdir(mode=0o500)
    done = afmrl("run", recipe(tmp_path), "--out", tmp_path / "locked" / "out")
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert "Permission denied" in done.stderr


# evaluate


def test_evaluate_says_what_it_counted(call, shop):
    code, out, err = call("evaluate", *sides(shop))
    assert code == 0, err
    assert "3 queries, 3 gallery offers" in out
    assert "100.0" in out


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("q9\tg1\t1", "qrels.tsv:5: query id 'q9' is not in the query catalog"),
        ("q1\tg9\t1", "qrels.tsv:5: gallery id 'g9' is not in the gallery catalog"),
        ("q1 g1 1", "qrels.tsv:5: 'q1 g1 1' is not 'query id, gallery id, grade' separated by tabs"),
        ("q1\tg1", "qrels.tsv:5:"),
        ("q1\tg1\tyes", "qrels.tsv:5:"),
        ("q1\t0\tg1\t1", "qrels.tsv:5:"),
    ],
)
def test_qrels_that_are_wrong_are_answered_by_line(mistake, shop, line, words):
    with open(shop / "qrels.tsv", "a") as file:
        file.write(line + "\n")
    assert words in mistake("evaluate", *sides(shop))


def test_qrels_that_are_missing_empty_or_without_a_match(mistake, shop):
    assert "qrels cannot be read" in mistake("evaluate", *sides(shop, qrels=shop / "nothing.tsv"))
    assert "no pair has a grade of at least 5; lower --min-grade" in mistake(
        "evaluate", *sides(shop, **{"min-grade": 5})
    )
    (shop / "qrels.tsv").write_text("\n")
    assert "holds no qrels" in mistake("evaluate", *sides(shop))
    (shop / "qrels.tsv").write_bytes(b"\xff\xfe")
    assert "qrels cannot be read" in mistake("evaluate", *sides(shop))
    (shop / "qrels.tsv").write_text("".join(f"x{n}\tg0\t1\n" for n in range(50)))
    message = mistake("evaluate", *sides(shop))
    assert "\nafmrl: 50 qrels name unknown ids" in message and "… and 45 more" in message


def test_evaluate_with_catalogs_and_options_that_cannot_be(mistake, shop):
    assert "nothing.jsonl: no such file" in mistake("evaluate", *sides(shop, queries=shop / "nothing.jsonl"))
    assert "k=0: at least one hit" in mistake("evaluate", *sides(shop, k=0))
    assert "batch_size=0" in mistake("evaluate", *sides(shop, **{"batch-size": 0}))
    assert "the floor 'tfidf' reads no generated attributes" in mistake("evaluate", *sides(shop, generator=shop))
    assert "the floor 'tfidf'" in mistake("evaluate", *sides(shop), "--fuse")
    (shop / "images" / "gallery1.png").write_text("no image")
    assert "gallery.jsonl:2: image: " in mistake("evaluate", *sides(shop, **{"max-bad": 0}))
    assert "a share between 0" in mistake("evaluate", *sides(shop, **{"max-bad": "nan"}))


def test_skipped_rows_that_are_tolerated_are_counted_and_listed(call, shop):
    (shop / "images" / "gallery2.png").unlink()
    rows = [json.loads(line) for line in (shop / "gallery.jsonl").read_text().splitlines()]
    rows[1] |= {"title": "", "image": ""}
    (shop / "gallery.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, out, _ = call("evaluate", *sides(shop))
    assert code == 0
    assert "1 row was left out, the first: " in out and "1 image cannot be read" in out
    (row, lost) = [json.loads(line) for line in (shop / "out" / "skipped.jsonl").read_text().splitlines()]
    assert (row["row"], row["field"], row["id"], row["lost"]) == (2, "title, image", "g1", "row")
    assert (lost["row"], lost["field"], lost["id"], lost["lost"]) == (3, "image", "g2", "image")
    metrics = json.loads((shop / "out" / "metrics.json").read_text())
    assert (metrics["skipped"], metrics["num_queries"], metrics["queries_without_match"]) == (1, 2, 1)


@pytest.mark.parametrize("kind", ["absent", "empty", "torn"])
def test_models_that_do_not_load_are_named(mistake, shop, tiny_model, kind):
    folder = shop / "model"
    if kind == "empty":
        folder.mkdir()
    elif kind == "torn":
        shutil.copytree(tiny_model, folder)
        weights = folder / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:5000])
    assert f"embedder {folder}" in mistake("evaluate", *sides(shop, model=folder))
    assert f"embedder {folder}" in mistake("search", shop / "gallery.jsonl", "--model", folder, "--text", "red")
    assert f"generator {folder}" in mistake("evaluate", *sides(shop, model=tiny_model, generator=folder))


def test_a_misspelled_floor_is_answered_with_those_that_there_are(mistake, shop):
    message = mistake("evaluate", "--model", "tfdif", "--catalog", shop / "gallery.jsonl")
    assert "did you mean 'tfidf'? Known by name: tfidf, bm25, color, tfidf+color, minilm" in message


def test_fusing_needs_weights(mistake, shop, tiny_model):
    assert "has no weights of its own (fusion.json)" in mistake("evaluate", *sides(shop, model=tiny_model), "--fuse")


# search


def test_search_without_or_with_a_query_that_cannot_be_read(mistake, shop):
    gallery = shop / "gallery.jsonl"
    assert "give a text (--text), an image (--image), or both" in mistake("search", gallery, "--model", "m")
    assert "nothing.jpg: no such file" in mistake("search", gallery, "--model", "m", "--image", shop / "nothing.jpg")
    (shop / "page.jpg").write_text("<html>")
    assert "page.jpg: not an image" in mistake("search", gallery, "--model", "m", "--image", shop / "page.jpg")
    (shop / "bomb.png").write_bytes(png_claiming(20_000, 20_000))
    assert "bomb.png" in mistake("search", gallery, "--model", "m", "--image", shop / "bomb.png")
    assert "k=0: at least one hit" in mistake("search", gallery, "--model", "m", "--text", "a", "--k", 0)
    assert "no offer whose column 'split' says 'tset'" in mistake(
        "search", gallery, "--model", "m", "--text", "a", "--split", "tset"
    )


def test_search_finds_by_text_by_image_and_by_both(call, shop, tiny_model):
    image = shop / "images" / "gallery2.png"
    for query in (["--text", "green dress"], ["--image", image], ["--text", "green dress", "--image", image]):
        code, out, err = call("search", shop / "gallery.jsonl", "--model", tiny_model, "--k", 2, *query)
        assert code == 0, err
        assert "score" in out
        assert sum(f"g{number}" in out for number in range(3)) == 2
        assert ("agree: color" in out) == ("--text" in query)  # nothing is said of an image alone
    asked = ["search", shop / "gallery.jsonl", "--model", tiny_model, "--no-rerank", *query]
    out = call(*asked)[1]
    assert "g2" in out and "2.000" in out  # the offer itself: cosine 1 and the highest BM25
    assert "1.000" in call(*asked, "--no-hybrid")[1]


def test_search_shows_what_keeps_a_hit_apart(call, shop, tiny_model):
    code, out, err = call("search", shop / "gallery.jsonl", "--model", tiny_model, "--text", "red dress", "--k", 3)
    assert code == 0, err
    assert "color: red | green" in out and "veto" in out


def test_two_evaluations_are_compared(call, mistake, shop, tmp_path):
    misread = (shop / "queries.jsonl").read_text().replace("red dress", "blue dress")
    (shop / "misread.jsonl").write_text(misread)
    for name, queries in (("a", "queries"), ("b", "misread")):
        assert call("evaluate", *sides(shop, queries=shop / f"{queries}.jsonl", out=tmp_path / name))[0] == 0
    code, out, err = call(
        "compare", tmp_path / "a", tmp_path / "b", "--out", tmp_path / "c", "--catalog", shop / "queries.jsonl",
        "--catalog", shop / "gallery.jsonl", "--metric", "recall@1",
    )  # fmt: skip
    assert code == 0, err
    assert "R@1" in out and "3 queries" in out and "1 lost" in out
    assert json.loads((tmp_path / "c" / "compare.json").read_text())
    assert "red dress" in (tmp_path / "c" / "compare.html").read_text()
    assert "writes it" in mistake("compare", tmp_path / "a", tmp_path / "nowhere")


def test_public_sets_are_listed_described_and_asked_for_by_name(call, mistake, tmp_path):
    code, out, _ = call("dataset")
    assert code == 0 and "abo" in out and "CC BY 4.0" in out
    code, out, _ = call("dataset", "grocery-store")
    assert code == 0 and "classes.csv" in out
    assert "classes.csv" in mistake("dataset", "grocery-store", tmp_path, "--out", tmp_path / "out")
    assert "known are" in mistake("dataset", "grocery")


def test_a_catalog_is_dealt_out_and_checked_for_leaks(call, mistake, tmp_path):
    rows = [{"id": f"o{n}", "title": f"t {n}", "product_id": f"p{n // 2}"} for n in range(40)]
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, out, err = call("dataset", "split", tmp_path / "c.jsonl", "--out", tmp_path / "s.jsonl", "--test", 0.3)
    assert code == 0, err
    dealt = [json.loads(line) for line in (tmp_path / "s.jsonl").read_text().splitlines()]
    assert {row["split"] for row in dealt} == {"train", "val", "test"}
    assert call("dataset", "check", tmp_path / "s.jsonl")[0] == 0
    first, other = dealt[0], next(row for row in dealt if row["split"] != dealt[0]["split"])
    other["product_id"] = first["product_id"]
    (tmp_path / "s.jsonl").write_text("".join(json.dumps(row) + "\n" for row in dealt))
    assert first["id"] in mistake("dataset", "check", tmp_path / "s.jsonl")


@pytest.mark.parametrize(
    "title", ["<|image_pad|>", "red <|im_end|> dress", "<|vision_start|><|image_pad|><|vision_end|>"]
)
def test_titles_with_the_models_own_marks_are_no_accident(call, shop, tiny_model, title):
    code, _, err = call("search", shop / "gallery.jsonl", "--model", tiny_model, "--text", title + " x")
    assert code == 0, err
    image = shop / "images" / "gallery2.png"
    code, _, err = call(
        "search", shop / "gallery.jsonl", "--model", tiny_model, "--text", title + " x", "--image", image,
        "--generator", tiny_model,
    )  # fmt: skip
    assert code == 0, err
