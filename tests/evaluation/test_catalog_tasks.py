"""The tasks of a catalog: what is written is what was measured, recomputed from its own files."""

import json
import sys

import ir_measures
import numpy as np
import pytest
from ir_measures import AP, RR, Success
from sklearn.metrics import average_precision_score

from afmrl.cli import app as cli
from afmrl.data.catalog import read_catalog
from afmrl.embedder.embedder import Embedder
from afmrl.errors import InputError
from afmrl.evaluation.evaluate import evaluate
from afmrl.report.evaluation_page import write_evaluation_page
from afmrl.retrieval.fusion import FusionWeights
from conftest import save_image, shared_data

WORDS = ["red", "blue", "green", "silk", "wool", "linen", "wide", "narrow", "long", "new"]
KINDS = ["dress", "shirt", "shoe"]


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    """Two offers of each of 60 products in three categories; a query and a gallery offer of each; labeled pairs."""
    folder = tmp_path_factory.mktemp("catalog")
    rng = np.random.default_rng(0)
    rows, pairs = [], []
    for number in range(60):
        kind = KINDS[number % 3]
        words = list(rng.choice(WORDS, 4, replace=False))
        short = words[:2] if number % 7 == 0 else [*words[:3], kind]
        for role, title in (("query", short), ("gallery", [*words, kind, "shop"])):
            name = f"{role[0]}{number:02d}"
            row = {
                "id": name, "title": " ".join(title), "product_id": f"p{number}", "style_id": f"s{number // 2}",
                "category": kind, "split": "train" if number < 20 else "test", "role": role,
            }  # fmt: skip
            if number % 4:
                row["image"] = f"images/{name}.png"
                save_image(folder / row["image"], number + 500 * (role == "gallery" and number % 2 == 0))
            rows.append(row)
        for other, label in ((number, 1), ((number + 1) % 60, 0)):
            split = ("train", "valid", "test")[number % 3]
            pairs.append({"left": f"q{number:02d}", "right": f"g{other:02d}", "label": label, "pair_split": split})
    rows.append({"id": "lonely", "title": "a red hat", "product_id": "p99", "split": "test", "role": "query"})
    (folder / "offers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))
    return folder / "offers.jsonl"


@pytest.fixture
def call(monkeypatch, capsys):
    """`afmrl evaluate …` in this process: exit code, stdout, stderr."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["afmrl", "evaluate", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "160")
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code
        out, err = capsys.readouterr()
        return code or 0, out, err

    return run


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def run(catalog, out, model="tfidf", **options):
    return evaluate(model, catalog, out=out, **{"num_resamples": 50, "floors": False, **options})


ALL = {"fine", "coarse", "text-to-image", "image-to-product", "text-to-product"}


def test_everything_that_the_data_allows(catalog, tmp_path, tiny_model):
    result = run(catalog, tmp_path, tiny_model)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics == json.loads(json.dumps(result.metrics))
    assert set(metrics["tasks"]) == {*ALL, "classification", "clustering", "pairs"}
    assert (metrics["not_possible"], metrics["split"], metrics["protocol"]) == ({}, "test", "standard")
    assert {path.name for path in tmp_path.iterdir()} == {
        "metrics.json", "queries.jsonl", *(f"hits-{name}.jsonl" for name in ALL)
    }  # fmt: skip
    fine = metrics["tasks"]["fine"]
    assert (fine["num_queries"], fine["num_gallery"], fine["queries_without_match"]) == (40, 40, 1)
    assert fine["num_clusters"] == 20  # two products a style
    assert metrics["tasks"]["text-to-image"]["num_gallery"] == 30  # those with an image
    assert metrics["tasks"]["image-to-product"]["num_queries"] == 30
    for of_task in metrics["tasks"].values():
        for name, (low, high) in of_task["intervals"].items():
            assert low <= of_task[name] <= high
    page = write_evaluation_page(result, tmp_path).read_text(encoding="utf-8")
    assert all(name in page for name in ALL)


@pytest.mark.parametrize("task", ["fine", "coarse"])
def test_metrics_are_those_of_the_hits_that_are_written(catalog, tmp_path, task):
    metrics = run(catalog, tmp_path, tasks=[task]).metrics["tasks"][task]
    offers = read_catalog(catalog).by_id
    label = (lambda o: o.product_id) if task == "fine" else (lambda o: o.category)
    hits = lines(tmp_path / "hits.jsonl")
    run_ = [
        ir_measures.ScoredDoc(row["query"], hit["id"], -float(place))
        for row in hits for place, hit in enumerate(row["hits"])
    ]  # fmt: skip
    qrels = [
        ir_measures.Qrel(row["query"], hit["id"], 1)
        for row in hits for hit in row["hits"] if label(offers[hit["id"]]) == label(offers[row["query"]])
    ]  # fmt: skip
    found = ir_measures.calc_aggregate([Success @ 1, Success @ 10, RR, AP], qrels, run_)
    assert metrics["recall@1"] == pytest.approx(found[Success @ 1], abs=1e-6)
    assert metrics["recall@10"] == pytest.approx(found[Success @ 10], abs=1e-6)
    assert metrics["mrr"] == pytest.approx(found[RR], abs=1e-6)
    assert metrics["map"] == pytest.approx(found[AP], abs=1e-6)
    assert 0 < metrics["mrr"] < 1
    for row in hits:  # best first, and equal scores by id
        order = [(-hit["score"], hit["id"]) for hit in row["hits"]]
        assert order == sorted(order)


def test_queries_are_written_one_a_line(catalog, tmp_path):
    result = run(catalog, tmp_path, tasks=["fine", "text-to-product"])
    rows = lines(tmp_path / "queries.jsonl")
    assert [row["task"] for row in rows] == ["fine"] * 40 + ["text-to-product"] * 40
    hits = {row["query"]: [hit["id"] for hit in row["hits"]] for row in lines(tmp_path / "hits-fine.jsonl")}
    for row in rows[:40]:
        number = row["query"][1:]
        assert set(row) == {
            "task", "query", "cluster", "rank", "num_relevant", "metrics", "slices", "first_hit"
        }  # fmt: skip
        assert row["cluster"] == f"s{int(number) // 2}"
        assert row["rank"] == hits[row["query"]].index(f"g{number}") + 1
        assert row["first_hit"] == hits[row["query"]][0]
        assert row["num_relevant"] == 1
        assert row["metrics"]["recall@1"] == float(row["rank"] == 1)
        assert row["slices"]["category"] == KINDS[int(number) % 3]
        assert row["slices"]["missing"] == ("none" if int(number) % 4 else "image")
        assert row["slices"]["sibling"] == "yes"
    fine = result.metrics["tasks"]["fine"]
    assert fine["mrr"] == pytest.approx(np.mean([row["metrics"]["mrr"] for row in rows[:40]]), abs=1e-6)
    of_slice = fine["slices"]["missing"]["image"]
    blind = [row["metrics"]["mrr"] for row in rows[:40] if row["slices"]["missing"] == "image"]
    assert of_slice["num_queries"] == len(blind)
    assert of_slice["metrics"]["mrr"][0] == pytest.approx(np.mean(blind), abs=1e-6)
    run(catalog, tmp_path / "plain", tasks=["fine"], slices=False)
    assert {str(row["slices"]) for row in lines(tmp_path / "plain" / "queries.jsonl")} == {"{}"}


def test_two_runs_write_the_same_bytes(catalog, tmp_path, tiny_model):
    for name in ("one", "two"):
        run(catalog, tmp_path / name, tiny_model)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name


def test_nothing_of_an_earlier_evaluation_is_left(catalog, tmp_path):
    write_evaluation_page(run(catalog, tmp_path, tasks=["fine", "coarse"]), tmp_path)
    assert (tmp_path / "hits-coarse.jsonl").exists()
    run(catalog, tmp_path, tasks=["fine"])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "hits.jsonl", "metrics.json", "queries.jsonl"
    ]  # fmt: skip


def test_the_order_of_the_catalog_changes_no_number(catalog, tmp_path):
    rows = catalog.read_text().splitlines(keepends=True)
    other = tmp_path / "offers.jsonl"
    text = "".join(rows[int(n)] for n in np.random.default_rng(0).permutation(len(rows)))
    other.write_text(text.replace('"images/', f'"{catalog.parent}/images/'))
    ours, theirs = (run(path, tmp_path / "out", tasks=["fine", "coarse"]).metrics for path in (catalog, other))
    assert ours["tasks"]["fine"]["ties"]["queries"] > 0
    for task in ("fine", "coarse"):
        for metric in ("recall@1", "mrr", "map", "ndcg@10", "ties"):
            assert ours["tasks"][task][metric] == theirs["tasks"][task][metric]


def test_an_offer_is_embedded_once_however_many_tasks_ask(catalog, tmp_path, tiny_model, monkeypatch):
    asked = []
    encode = Embedder.encode

    def counted(self, offers, attributes=None, **options):
        asked.extend((offer.title, offer.image) for offer in offers)
        return encode(self, offers, attributes, **options)

    monkeypatch.setattr(Embedder, "encode", counted)
    run(catalog, tmp_path, tiny_model)
    assert len(asked) == len(set(asked))
    monkeypatch.undo()
    offers = read_catalog(catalog).by_id
    embedder = Embedder.from_pretrained(tiny_model)
    hit = lines(tmp_path / "hits-text-to-image.jsonl")[0]
    image = embedder.encode([offers[hit["hits"][0]["id"]]], modality="image")
    text = embedder.encode([offers[hit["query"]]], modality="text")
    assert hit["hits"][0]["score"] == pytest.approx(float(text[0] @ image[0]), abs=2e-6)
    hit = lines(tmp_path / "hits-image-to-product.jsonl")[0]
    fused = embedder.encode([offers[hit["hits"][0]["id"]]])
    image = embedder.encode([offers[hit["query"]]], modality="image")
    assert hit["hits"][0]["score"] == pytest.approx(float(image[0] @ fused[0]), abs=2e-6)


def test_pairs_are_scored_as_the_model_scores_them(catalog, tmp_path, tiny_model):
    metrics = run(catalog, tmp_path, tiny_model, tasks=["pairs"]).metrics["tasks"]["pairs"]
    offers = read_catalog(catalog).by_id
    pairs = [row for row in lines(catalog.parent / "pairs.jsonl") if row["pair_split"] == "test"]
    embedder = Embedder.from_pretrained(tiny_model)
    left, right = (embedder.encode([offers[row[side]] for row in pairs]) for side in ("left", "right"))
    expected = average_precision_score([row["label"] for row in pairs], (left * right).sum(axis=1))
    assert metrics["average_precision"] == pytest.approx(expected, abs=1e-6)
    assert (metrics["num_pairs"], metrics["num_same"], metrics["threshold_from"]) == (40, 20, "validation pairs")
    assert metrics["num_with_train_offer"] == sum(
        int(row["left"][1:]) < 20 or int(row["right"][1:]) < 20 for row in pairs
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.json"]


def test_fused_pairs_are_scored_as_in_a_ranking(catalog, tmp_path, tiny_model):
    folder = tmp_path / "model"
    embedder = Embedder.from_pretrained(tiny_model)
    embedder.save(folder)
    FusionWeights(bm25=5.0).save(folder)
    fused = run(catalog, tmp_path / "fused", folder, tasks=["pairs", "fine"], fuse=True).metrics["tasks"]
    plain = run(catalog, tmp_path / "plain", folder, tasks=["pairs", "fine"]).metrics["tasks"]
    assert fused["fine"]["mrr"] > plain["fine"]["mrr"] + 0.1  # titles tell, and a random model does not
    offers = read_catalog(catalog).by_id
    pairs = [row for row in lines(catalog.parent / "pairs.jsonl") if row["pair_split"] != "train"]
    left, right = (list({row[side]: offers[row[side]] for row in pairs}.values()) for side in ("left", "right"))
    embedder = Embedder.from_pretrained(folder)
    scores = FusionWeights(bm25=5.0).fuse_offers(
        embedder.encode(left) @ embedder.encode(right).T, left, right, None, None
    )
    score = {(a.id, b.id): scores[i, j] for i, a in enumerate(left) for j, b in enumerate(right)}
    tested = [row for row in pairs if row["pair_split"] == "test"]
    expected = average_precision_score([r["label"] for r in tested], [score[r["left"], r["right"]] for r in tested])
    assert fused["pairs"]["average_precision"] == pytest.approx(expected, abs=1e-6)
    assert fused["pairs"]["average_precision"] > plain["pairs"]["average_precision"]


def test_what_is_not_possible_is_listed_with_its_reason(catalog, tmp_path, call):
    code, out, err = call("--catalog", catalog, "--model", "tfidf", "--out", tmp_path)
    assert code == 0, err
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert set(metrics["not_possible"]) == {"text-to-image", "image-to-product", "classification", "clustering"}
    assert metrics["not_possible"]["image-to-product"] == "the model reads no images"
    for name, reason in metrics["not_possible"].items():
        assert f"not possible: {name}: {reason}" in out
    assert "split 'test'" in out and "fine" in out and "average precision" in out.lower().replace("_", " ")
    code, _, err = call("--catalog", catalog, "--model", "tfidf", "--task", "clustering", "--out", tmp_path)
    assert code == 2 and "none of the tasks is possible" in err and "has no embeddings" in err


def test_a_floor_of_colors_reads_images_alone(catalog, tmp_path):
    metrics = run(catalog, tmp_path, "color", tasks=["fine", "image-to-product", "text-to-product"]).metrics
    assert metrics["tasks"]["image-to-product"]["recall@1"] > 0.3
    assert metrics["not_possible"] == {"text-to-product": "the model reads no text"}
    assert metrics["tasks"]["fine"]["ties"]["queries"] >= 10  # a query without an image ties with everything


def test_robustness_measures_the_queries_that_a_perturbation_changed(catalog, tmp_path):
    metrics = run(catalog, tmp_path, "tfidf+color", tasks=["fine"], robustness=True).metrics["tasks"]["fine"]
    found = metrics["robustness"]
    assert {"words-dropped", "cropped", "no-title", "no-image"} <= set(found)
    assert found["words-dropped"]["num_changed"] == 40
    assert found["no-title"]["num_changed"] == 30  # those that an image is left of
    assert found["no-title"]["metrics"]["mrr"][0] < found["no-title"]["plain"]["mrr"][0]
    assert found["words-dropped"]["plain"]["mrr"][0] == metrics["mrr"]
    assert "robustness" not in run(catalog, tmp_path, tasks=["fine"]).metrics["tasks"]["fine"]


def test_robustness_is_said_on_the_terminal(catalog, tmp_path, call):
    options = ("--catalog", catalog, "--model", "tfidf", "--task", "fine", "--out", tmp_path)
    code, out, err = call(*options, "--robustness")
    assert code == 0, err
    of_words = json.loads((tmp_path / "metrics.json").read_text())["tasks"]["fine"]["robustness"]["words-dropped"]
    (line,) = [line for line in out.splitlines() if line.strip().startswith("words-dropped")]
    before, after = (f"{100 * of_words[side]['recall@1'][0]:.1f}" for side in ("plain", "metrics"))
    assert line.split()[1:4] == [before, "to", after] and line.endswith("40 queries")
    assert "made worse" not in call(*options)[1]


def test_a_role_that_is_none_is_said(catalog, tmp_path, call):
    rows = lines(catalog)
    changed = [row for row in rows if row["split"] == "test"][:3]
    for row in changed:
        row["role"] = "Querry"
    changed[0]["role"] = None
    other = tmp_path / "roles.jsonl"
    other.write_text("".join(json.dumps(row) + "\n" for row in rows))
    if (catalog.parent / "images").is_dir():
        (tmp_path / "images").symlink_to(catalog.parent / "images")
    options = ("--catalog", other, "--model", "tfidf", "--task", "fine", "--out", tmp_path / "out")
    code, out, err = call(*options)
    assert code == 0, err
    note = "ole 'querry' of 2 offer(s) is not one of query, gallery, both and counts as no role"
    assert f"r{note}" in out and f"R{note}." in (tmp_path / "out" / "report.html").read_text().replace("&#39;", "'")


def test_m5product_counts_every_query(catalog, tmp_path):
    metrics = run(catalog, tmp_path, tasks=["fine"], protocol="m5product").metrics["tasks"]["fine"]
    assert (metrics["num_queries"], metrics["queries_without_match"]) == (41, 1)
    assert metrics["map@1"] == metrics["prec@1"] and "recall@1" not in metrics
    assert {len(row["hits"]) for row in lines(tmp_path / "hits.jsonl")} == {10}
    standard = run(catalog, tmp_path, tasks=["fine"]).metrics["tasks"]["fine"]
    assert metrics["hit_rate@10"] == pytest.approx(standard["recall@10"] * 40 / 41, abs=1e-6)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--catalog", "C", "--queries", "C"], "--queries does not go with --catalog"),
        (["--task", "fine"], "--task needs --catalog"),
        ([], "give --catalog FILE, or --queries, --gallery and --qrels together"),
        (["--queries", "C"], "give --catalog FILE, or --queries"),
        (["--catalog", "C", "--task", "best"], "task 'best': one of all, fine, coarse"),
        (["--catalog", "C", "--split", "tset"], "split 'tset': no offer says so"),
        (["--catalog", "C", "--k", "0"], "k=0: at least one hit"),
        (["--catalog", "C", "--pairs", "none.jsonl"], "pairs none.jsonl: cannot be read"),
        (["--catalog", "none.jsonl"], "none.jsonl: no such file"),
    ],
)
def test_mistakes_are_answered(catalog, tmp_path, call, arguments, words):
    arguments = [str(catalog) if word == "C" else word for word in arguments]
    code, _, err = call("--model", "tfidf", "--out", tmp_path, *arguments)
    assert code == 2 and err.startswith("afmrl: ") and "Traceback" not in err
    assert words in err


def test_a_model_whose_embeddings_are_broken_is_named(catalog, tmp_path, tiny_model, monkeypatch):
    monkeypatch.setattr(Embedder, "encode", lambda self, offers, *_, **__: np.full((len(offers), 4), np.nan))
    with pytest.raises(InputError, match="the embedding of offer '.*' is not finite"):
        run(catalog, tmp_path, tiny_model, tasks=["fine"])


def test_skipped_rows_are_listed_and_their_pairs_passed_over(catalog, tmp_path):
    rows = [json.loads(line) for line in catalog.read_text().splitlines()]
    for row in rows:
        if row["id"] == "q33":
            row |= {"title": "", "image": "images/none.png"}
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "offers.jsonl").write_text(text.replace('"images/', f'"{catalog.parent}/images/'))
    (tmp_path / "pairs.jsonl").write_text((catalog.parent / "pairs.jsonl").read_text())
    metrics = run(tmp_path / "offers.jsonl", tmp_path / "out").metrics
    assert metrics["skipped"] == 1
    assert lines(tmp_path / "out" / "skipped.jsonl")[0]["id"] == "q33"
    assert metrics["tasks"]["fine"]["num_queries"] == 39


def test_real_offers_beat_the_published_floor(tmp_path):
    folder = shared_data("wdc_products")
    metrics = evaluate("bm25", folder / "products.jsonl", out=tmp_path, num_resamples=200).metrics
    assert metrics["split"] == "val"
    fine = metrics["tasks"]["fine"]
    assert fine["num_queries"] == 242 and fine["recall@1"] > 0.8
    assert metrics["tasks"]["pairs"]["num_pairs"] == 442
    assert set(metrics["not_possible"]) == {
        "coarse", "text-to-image", "image-to-product", "classification", "clustering"
    }  # fmt: skip


def test_offers_are_evaluated_as_their_file_is(catalog, tmp_path):
    of_file = run(catalog, tmp_path, tasks=["fine", "coarse"])
    result = run(list(read_catalog(catalog)), None, tasks=["fine", "coarse"])
    assert result.metrics == of_file.metrics
    assert result.catalog.name == "catalog" and of_file.catalog.name == "offers"
    # no file, no pairs beside it
    assert "pairs" in run(list(read_catalog(catalog)), None).metrics["not_possible"]


def test_the_command_writes_the_page_too(catalog, tmp_path, call):
    code, out, err = call("--catalog", catalog, "--model", "tfidf", "--task", "fine", "--out", tmp_path)
    assert code == 0, err
    assert str(tmp_path / "report.html") in out
    assert "Results, task by task" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_run_on_a_file_without_splits_is_known_by_its_record(tmp_path):
    import json

    from afmrl.data.catalog import read_catalog
    from afmrl.evaluation.catalog_tasks import CatalogTasks

    rows = [{"id": str(n), "title": f"dress {n // 2}", "product_id": str(n // 2)} for n in range(8)]
    for name in ("ours", "other"):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "run").mkdir()
    record = {"recipe": {"catalog": {"path": str(tmp_path / "ours.jsonl")}}}
    (tmp_path / "run" / "run.json").write_text(json.dumps(record))
    model = str(tmp_path / "run" / "embedder")
    ours, other = (CatalogTasks(read_catalog(tmp_path / f"{name}.jsonl"), tasks=["fine"]) for name in ("ours", "other"))
    assert "trained on offers of this very file" in ours._favored(model)
    assert other._favored(model) == "" == ours._favored(str(tmp_path / "elsewhere" / "embedder"))
