"""Search finds what `afmrl evaluate` finds, with the same scores: in an index, in a database, in a catalog."""

from __future__ import annotations

import itertools
import json
import shutil

import numpy as np
import pytest

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.bulk.embeddings import EmbedWork
from afmrl.bulk.fingerprints import model_fingerprint
from afmrl.bulk.folder import MANIFEST, read_manifest
from afmrl.bulk.job import BulkJob
from afmrl.bulk.work import EmbedOptions
from afmrl.data.catalog import read_catalog
from afmrl.data.offer import Offer
from afmrl.data.rows import CatalogFile
from afmrl.embedder.embedder import SETTINGS_FILE
from afmrl.errors import InputError
from afmrl.evaluation.evaluate import evaluate
from afmrl.files import write_sealed
from afmrl.generator.engines.base import Completion, Usage
from afmrl.generator.engines.recorded import RecordedEngine
from afmrl.generator.generator import AttributeGenerator
from afmrl.index.address import open_index
from afmrl.index.backend import Rows
from afmrl.index.update import update_index
from afmrl.matching.match import match
from afmrl.matching.search import search
from afmrl.retrieval.encoder import OfferEncoder
from afmrl.retrieval.fusion import FusionWeights
from conftest import save_image

pytest_plugins = ["index_servers"]
COLORS = ("red", "blue", "green", "black")
KINDS = ("dress", "shoe", "mug", "lamp", "bag", "coat", "phone")
NUM_GALLERY, NUM_QUERIES, K = 230, 7, 12
numbers = itertools.count(20_000)


class ColorEngine:
    """Writes the color that a title names."""

    def __init__(self):
        self.usage = Usage()

    def complete(self, requests, sampling, *, batch_size, progress):
        texts = [json.dumps(request.messages) for request in requests]
        colors = [next((color for color in COLORS if color in text), "") for text in texts]
        return [[Completion(f"color: {color}; cut: wide" if color else "none", 3, ended=True)] for color in colors]


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A gallery whose ids are not in order, with twins that only their ids tell apart; queries, one of them an offer
    of the gallery; a recorded generator."""
    folder = tmp_path_factory.mktemp("shop")
    for number in range(9):
        save_image(folder / "images" / f"{number}.png", number)
    order = np.random.default_rng(0).permutation(NUM_GALLERY)
    rows = [
        {
            "id": f"g{order[number]:03d}",
            "title": f"{COLORS[twin % 4]} {KINDS[twin % 7]} LDS-{twin}WW" + (" 1.5 m cable" if twin % 5 == 0 else ""),
            "category": KINDS[twin % 7],
            "seller": f"s{twin % 2}",
            "attributes": {"size": str(30 + twin % 9), "MPN": f"LDS-{twin}WW", "price": "12.99"},
            "image": f"images/{twin % 9}.png",
        }
        for number in range(NUM_GALLERY)
        for twin in [number % (NUM_GALLERY - 15)]
    ]
    queries = [
        {
            "id": f"q{number}",
            "title": f"{COLORS[number % 4]} LDS{30 * number}WW 150 cm",
            "image": f"images/{number}.png",
            "attributes": {"size": str(30 + number), "part number": f"LDS{number} WW"},
        }
        for number in range(NUM_QUERIES - 1)
    ]
    queries.append(rows[3])
    for name, some in (("gallery", rows), ("queries", queries)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))
    (folder / "qrels.tsv").write_text("".join(f"q{number}\tg{number:03d}\t1\n" for number in range(NUM_QUERIES - 1)))
    recording = RecordedEngine(folder / "recording.jsonl", ColorEngine())
    offers = {offer.id: offer for name in ("gallery", "queries") for offer in read_catalog(folder / f"{name}.jsonl")}
    AttributeGenerator(recording).attributes(list(offers.values()))
    return folder


def model_with(tiny_model, folder, weights, attributes_on, **settings):
    shutil.copytree(tiny_model, folder)
    (folder / SETTINGS_FILE).write_text(json.dumps({"attributes_on": attributes_on, **settings}))
    if weights is not None:
        weights.save(folder)
    return folder


def read_hits(path):
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return {line["query"]: {hit["id"]: hit["score"] for hit in line["hits"]} for line in lines}


def same_hits(theirs, ours, num_queries=NUM_QUERIES):
    """Fail unless both name the same offers with the same scores; offers of (nearly) equal score may change places."""
    assert list(theirs) == list(ours) and len(ours) == num_queries
    for query, hits in theirs.items():
        found = ours[query]
        assert len(found) == len(hits) == K
        np.testing.assert_allclose(list(found.values()), list(hits.values()), atol=1e-5)
        least = min(hits.values()) + 2e-5
        assert {name for name, score in hits.items() if score > least} <= set(found)
        for name in found.keys() & hits.keys():
            assert found[name] == pytest.approx(hits[name], abs=1e-5)


@pytest.mark.parametrize(
    ("attributes_on", "weights", "settings"),
    [
        ("both", FusionWeights(0.6, 0.3, extracted=True, color=0.4), {}),
        ("query", FusionWeights(0.05, 0.2), {"seller_attributes": "identifying"}),
        ("gallery", None, {"seller_attributes": "none"}),
    ],
    ids=["everything", "query", "unlearned"],
)
def test_evaluate_index_and_catalog_agree(call, shop, tiny_model, tmp_path, attributes_on, weights, settings):
    model = model_with(tiny_model, tmp_path / "model", weights, attributes_on, **settings)
    generator = f"recorded:{shop / 'recording.jsonl'}"
    files = ["--queries", shop / "queries.jsonl"]

    def hits_of(name, *arguments):
        code, _, err = call(*arguments)
        assert code == 0, err
        return read_hits(tmp_path / name)

    def evaluated(name, *options):
        return hits_of(
            f"{name}/hits.jsonl", "evaluate", "--model", model, "--generator", generator, *files, "--gallery",
            shop / "gallery.jsonl", "--qrels", shop / "qrels.tsv", "--out", tmp_path / name, "--k", K, "--no-slices",
            *options,
        )  # fmt: skip

    def searched(name, target, *options):
        arguments = ["--model", model, "--generator", generator, *files, "--k", K, "--out", tmp_path / name]
        return hits_of(name, "search", target, *arguments, *options)

    code, _, err = call(
        "embed", shop / "gallery.jsonl", "--model", model, "--generator", generator, "--dtype", "float32", "--out",
        tmp_path / "embeddings",
    )  # fmt: skip
    assert code == 0, err
    assert call("index", tmp_path / "embeddings", "--out", tmp_path / "index", "--dtype", "f32")[0] == 0
    exact = evaluated("exact")
    same_hits(exact, searched("a.jsonl", tmp_path / "index", "--no-hybrid", "--no-rerank"))
    same_hits(exact, searched("b.jsonl", shop / "gallery.jsonl", "--no-hybrid", "--no-rerank"))
    hybrid = searched("c.jsonl", tmp_path / "index", "--no-rerank")
    same_hits(hybrid, searched("d.jsonl", shop / "gallery.jsonl", "--no-rerank"))
    assert hybrid != exact
    reranked = searched("g.jsonl", tmp_path / "index")
    same_hits(reranked, searched("h.jsonl", shop / "gallery.jsonl"))
    assert reranked != hybrid
    if weights is None:
        weights = FusionWeights(1.0)  # what a search takes where the model learned nothing
        weights.save(model)
    same_hits(evaluated("fused", "--fuse"), hybrid)
    same_hits(evaluated("reranked", "--fuse", "--rerank"), reranked)
    wanted = ["--category", "mug", "--category", "bag", "--seller", "s1"]
    filtered = searched("e.jsonl", tmp_path / "index", *wanted)
    same_hits(filtered, searched("f.jsonl", shop / "gallery.jsonl", *wanted))
    kinds = {row["id"]: row["category"] for row in map(json.loads, (shop / "gallery.jsonl").read_text().splitlines())}
    assert {kinds[name] for hits in filtered.values() for name in hits} == {"mug", "bag"}


def filled(address, shop, model, batches=1, **settings):
    """An index of the gallery, made of the very embeddings that a search of the catalog computes."""
    offers = list(read_catalog(shop / "gallery.jsonl"))
    embeddings = OfferEncoder.load(model).embed(offers)
    identity = {"path": str(model), "fingerprint": model_fingerprint(model)}
    settings = {"model": identity, "dtype": "f32", "attributes_on": "query", **settings}
    with open_index(address, create=True, dimension=embeddings.shape[1], settings=settings) as index:
        ids = [offer.id for offer in offers]
        rows = Rows(ids, embeddings, offers, [KeyAttributes()] * len(offers), ["1"] * len(offers))
        for part in np.array_split(np.arange(len(offers)), batches):
            index.upsert(rows.take(part))
    return address


@pytest.fixture
def address_of(tmp_path, request):
    def make(kind):
        if kind == "postgresql":
            server = request.getfixturevalue("server")
            return f"{server}{'&' if '?' in server else '?'}table=offers_{next(numbers)}"
        if kind != "local":
            pytest.importorskip({"qdrant": "qdrant_client", "lancedb": "lancedb"}[kind])
        return f"{'' if kind == 'local' else kind + ':'}{tmp_path / kind}"

    return make


@pytest.mark.parametrize("kind", ["local", "postgresql", "qdrant", "lancedb"])
def test_every_kind_of_index_gives_the_hits_of_the_catalog(shop, tiny_model, tmp_path, address_of, kind):
    weights = FusionWeights(0.5, color=0.3)
    model = model_with(tiny_model, tmp_path / "model", weights, "query")
    address = filled(address_of(kind), shop, model)
    queries = shop / "queries.jsonl"
    for hybrid in (False, True):
        ours = search(address, queries=queries, k=K, hybrid=hybrid, rerank=False)
        theirs = search(shop / "gallery.jsonl", queries=queries, model=model, k=K, hybrid=hybrid, rerank=False)
        # LanceDB's BM25 saturates counts earlier
        tolerance = 0.02 if hybrid and kind == "lancedb" else 1e-5
        for found, expected in zip(ours, theirs, strict=True):
            if tolerance < 1e-4:
                assert [hit.score for hit in found] == pytest.approx([hit.score for hit in expected], abs=tolerance)
            known = {hit.offer.id: hit.score for hit in expected}
            common = [hit for hit in found if hit.offer.id in known]
            assert len(common) >= (K // 2 if kind == "lancedb" else K - 2)
            for hit in common:
                assert hit.score == pytest.approx(known[hit.offer.id], abs=tolerance)
            if kind == "local" and not hybrid:
                assert [hit.offer.id for hit in found] == [hit.offer.id for hit in expected]  # ties by id


@pytest.mark.parametrize(("hybrid", "rerank"), [(True, True), (True, False), (False, False)])
def test_equal_scores_stand_in_the_order_of_ids(tiny_model, tmp_path, hybrid, rerank):
    ids = [f"o{number:02d}" for number in np.random.default_rng(1).permutation(40)]
    lines = [json.dumps({"id": name, "title": "red dress" if name < "o30" else "blue mug"}) for name in ids]
    (tmp_path / "gallery.jsonl").write_text("\n".join(lines) + "\n")
    address = filled(str(tmp_path / "index"), tmp_path, tiny_model)
    for target in (address, tmp_path / "gallery.jsonl"):
        hits = search(target, text="red dress", model=tiny_model, k=7, hybrid=hybrid, rerank=rerank)
        assert [hit.offer.id for hit in hits] == [f"o{number:02d}" for number in range(7)]
        assert len({hit.score for hit in hits}) == 1


def test_hits_carry_their_offers(shop, tiny_model, tmp_path):
    address = filled(str(tmp_path / "index"), shop, tiny_model)
    for target in (address, shop / "gallery.jsonl"):
        hits = search(target, text="green lamp", model=tiny_model, k=3, where={"category": ["lamp"]})
        assert [hit.offer.category for hit in hits] == ["lamp"] * 3
        assert hits[0].offer.title.startswith("green lamp") and hits[0].score >= hits[1].score
        assert hits[0].attributes == KeyAttributes()
        assert search(target, text="lamp", model=tiny_model, where={"category": ["nothing"]}) == []


def test_a_local_index_keeps_the_colors_of_images_that_are_gone(shop, tiny_model, tmp_path, caplog):
    folder = tmp_path / "shop"
    shutil.copytree(shop, folder)
    model = model_with(tiny_model, tmp_path / "model", FusionWeights(0.5, color=0.4), "query")
    asked = {"text": "blue shoe", "image": shop / "images" / "3.png", "k": K, "rerank": False}
    expected = [(hit.offer.id, hit.score) for hit in search(folder / "gallery.jsonl", model=model, **asked)]
    keeping = filled(str(tmp_path / "keeping"), folder, model, batches=12, colors=True)
    forgetting = filled(str(tmp_path / "forgetting"), folder, model)
    for address in (keeping, forgetting):
        found = [(hit.offer.id, hit.score) for hit in search(address, **asked)]
        assert [name for name, _ in found] == [name for name, _ in expected]
        assert [score for _, score in found] == pytest.approx([score for _, score in expected], abs=1e-5)
    shutil.rmtree(folder / "images")
    assert search(keeping, **asked)[0].score == pytest.approx(expected[0][1], abs=1e-5)
    assert "count as none" not in caplog.text
    assert search(forgetting, **asked)[0].score < expected[0][1] - 0.1
    assert "count as none" in caplog.text


def test_mistakes(shop, tiny_model, tmp_path):
    gallery = shop / "gallery.jsonl"
    for options, message in (
        ({}, "give a text"),
        ({"text": "red", "queries": gallery}, "give --queries, or --text and --image"),
        ({"text": "red"}, "give --model"),
        ({"text": "red", "model": tiny_model, "k": 0}, "at least one hit"),
        ({"text": "red", "model": tiny_model, "where": {"title": ["a"]}}, "cannot filter by 'title'"),
        ({"text": "red", "model": tiny_model, "hybrid": False, "hybrid_weight": 1.0}, "give one of them"),
    ):
        with pytest.raises(InputError, match=message):
            search(gallery, **options)
    with pytest.raises(InputError, match="no index is here"):
        search(tmp_path / "nothing", text="red")
    with pytest.raises(InputError, match="nothing.jsonl: no such file"):
        search(tmp_path / "nothing.jsonl", text="red")


@pytest.mark.parametrize("of_run", [True, False])
def test_a_generator_is_no_embedder(shop, tiny_model, tmp_path, of_run):
    folder = tmp_path / "run" / ("generator" if of_run else "model")
    shutil.copytree(tiny_model, folder)
    (folder.parent / "run.json" if of_run else folder / "generator_prompt.json").write_text("{}")
    with pytest.raises(InputError, match=f"{folder}: is a generator"):
        search(shop / "gallery.jsonl", text="red", model=folder)
    with pytest.raises(InputError, match=f"{folder}: is a generator"):
        evaluate(folder, queries=shop / "queries.jsonl", gallery=shop / "gallery.jsonl", qrels=shop / "qrels.tsv")
    with pytest.raises(InputError, match=f"{folder}: is a generator"):
        match(shop / "gallery.jsonl", model=str(folder))


def test_an_index_made_for_other_fusion_weights_is_refused(shop, tiny_model, tmp_path):
    model = model_with(tiny_model, tmp_path / "model", FusionWeights(0.5), "query")
    address = filled(str(tmp_path / "index"), shop, model)
    FusionWeights(0.5, extracted=True).save(model)
    with pytest.raises(InputError, match="make the index again"):
        search(address, text="red")
    assert len(search(address, text="red", hybrid=False, k=3)) == 3


def embedded(shop, model, folder, *, seller_attributes=None):
    """A folder of `afmrl embed`; of an older version where `seller_attributes` is ""."""
    work = EmbedWork(EmbedOptions(model=str(model), dtype="float32", seller_attributes=seller_attributes or None))
    BulkJob(CatalogFile(shop / "gallery.jsonl"), work, folder).run()
    if seller_attributes == "":
        manifest = read_manifest(folder)
        del manifest["seller_attributes"]
        write_sealed(folder / MANIFEST, manifest)
    return folder


def test_a_model_number_that_only_the_seller_states_finds_its_offer(shop, tiny_model, tmp_path):
    folder = embedded(shop, tiny_model, tmp_path / "e", seller_attributes="identifying")
    update_index(folder, str(tmp_path / "index"))
    asked = Offer("q", "something else", attributes={"Herstellernummer": "LDS5WW"})
    hits = search(tmp_path / "index", queries=[asked], k=3)[0]
    assert {hit.offer.attributes["MPN"] for hit in hits[:2]} == {"LDS-5WW"}
    with open_index(str(tmp_path / "index")) as index:
        assert index.settings["seller_attributes"] == "identifying"


def test_an_index_that_was_made_before_there_was_a_choice_is_searched_as_it_was(shop, tiny_model, tmp_path):
    folder = embedded(shop, tiny_model, tmp_path / "e", seller_attributes="")
    update_index(folder, str(tmp_path / "index"))
    plain = Offer("q", "red mug")
    stating = Offer("q", "red mug", attributes={"mpn": "LDS-5WW", "size": "30"})
    ours, theirs = (search(tmp_path / "index", queries=[one], k=5, rerank=False)[0] for one in (plain, stating))
    assert [(hit.offer.id, hit.score) for hit in ours] == [(hit.offer.id, hit.score) for hit in theirs]
    with open_index(str(tmp_path / "index")) as index:
        (found,) = index.lexical(["12.99"], 3).ids  # every value of its rows is a word
        assert len(found) == 3


def test_embeddings_of_another_text_are_not_added_to_an_index(shop, tiny_model, tmp_path):
    update_index(embedded(shop, tiny_model, tmp_path / "none", seller_attributes="none"), str(tmp_path / "index"))
    other = embedded(shop, tiny_model, tmp_path / "other", seller_attributes="identifying")
    with pytest.raises(InputError, match="with seller attributes 'none', these were made with 'identifying'"):
        update_index(other, str(tmp_path / "index"))
