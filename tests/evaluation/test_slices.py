"""Slices: which queries fall into which, and what is said of few."""

import json

import numpy as np
import pytest

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.data.catalog import read_catalog
from afmrl.data.offer import Offer
from afmrl.errors import InputError
from afmrl.evaluation.significance import bootstrap_interval
from afmrl.evaluation.slices import MIN_CLUSTERS, by_slice, family_of, slices_as_json, slices_of
from conftest import shared_data

NONE = np.array([], dtype=np.int64)


def offer(name: str, product: str = "", family: str = "", **fields: object) -> Offer:
    extra = {"style_id": family} if family else {}
    return Offer(name, **{"title": "t", "product_id": product, "extra": extra, **fields})  # type: ignore[arg-type]


def siblings(queries: list[Offer], gallery: list[Offer], relevant: list[np.ndarray]) -> list[str | None]:
    return [of_query.get("sibling") for of_query in slices_of(queries, gallery, relevant)]


def test_a_sibling_is_another_product_of_the_same_family() -> None:
    gallery = [offer("g0", "red", "dress"), offer("g1", "blue", "dress"), offer("g2", "hat", "hat"), offer("g3", "x")]
    queries = [offer("a", "red", "dress"), offer("b", "hat", "hat"), offer("c", "shoe", "shoe"), offer("d", "x")]
    relevant = [np.array([0]), np.array([2]), NONE, np.array([3])]
    assert siblings(queries, gallery, relevant) == ["yes", "no", "no", None]
    # a second view of the same product is no sibling, though the qrels do not name it
    assert siblings([offer("a", "hat", "hat")], [offer("v", "hat", "hat")], [NONE]) == ["no"]


def test_without_product_ids_a_sibling_is_what_is_not_relevant() -> None:
    gallery = [offer("g0", family="f"), offer("g1", family="f"), offer("q", family="f")]
    assert siblings([offer("q", family="f")], gallery, [np.array([0])]) == ["yes"]
    assert siblings([offer("q", family="f")], gallery, [np.array([0, 1])]) == ["no"]  # the query is none of itself
    # one row of the gallery without a product does not hide what the others say
    mixed = [offer("g0", "red", "f"), offer("g1", "", "f")]
    assert siblings([offer("q", "red", "f")], mixed, [np.array([0, 1])]) == ["no"]
    assert siblings([offer("q", "red", "f")], mixed, [np.array([0])]) == ["yes"]


def test_a_gallery_without_families_says_nothing_of_siblings() -> None:
    assert siblings([offer("q", "red", "f")], [offer("g", "blue")], [NONE]) == [None]


def test_family_columns_in_their_order_and_empty_cells() -> None:
    assert family_of(Offer("1", extra={"family": "c", "style_id": "b", "family_id": "a"})) == "a"
    assert family_of(Offer("1", extra={"family": "c", "style_id": None, "family_id": float("nan")})) == "c"
    assert family_of(Offer("1", extra={"family_id": " "})) == ""
    line = [Offer(name, title="t", product_id=name, extra={"model_line": "x"}) for name in "ab"]
    assert "sibling" not in slices_of(line[:1], line, [NONE])[0]
    assert slices_of(line[:1], line, [NONE], family_columns=["model_line"])[0]["sibling"] == "yes"


def test_missing_parts_and_categories() -> None:
    queries = [
        Offer("1", title="t", image="i", category=" a/b "),
        Offer("2", title="t"),
        Offer("3", title="  ", image="i"),
    ]
    slices = slices_of(queries, [], [NONE] * 3)
    assert slices == [{"category": "a/b", "missing": "none"}, {"missing": "image"}, {"missing": "title"}]


def test_attributes_are_counted_in_bands() -> None:
    def counted(number: int) -> KeyAttributes:
        return KeyAttributes.of({f"k{place}": "v" for place in range(number)})

    queries = [offer(str(number)) for number in range(8)]
    slices = slices_of(queries, [], [NONE] * 8, [counted(number) for number in range(8)])
    bands = [of_query["num_attributes"] for of_query in slices]
    assert bands == ["0", "1-2", "1-2", "3-5", "3-5", "3-5", "6+", "6+"]
    # the seller's own where none are generated; "unknown" is none
    sellers = [offer("a", attributes={"color": "red", "size": "unknown"}), offer("b")]
    assert [of_query["num_attributes"] for of_query in slices_of(sellers, [], [NONE] * 2)] == ["1-2", "0"]
    assert "num_attributes" not in slices_of([offer("b")], [], [NONE])[0]
    # a generator that wrote nothing is told from a catalog without attributes
    assert slices_of([offer("b")], [], [NONE], [KeyAttributes()])[0]["num_attributes"] == "0"


def test_scores_by_slice_are_those_of_its_queries_alone() -> None:
    rng = np.random.default_rng(0)
    per_query = {"recall@1": (rng.random(200) < 0.6).astype(float), "mrr": rng.random(200)}
    slices = [{"missing": "none" if row % 3 else "image", "sibling": "yes"} for row in range(200)]
    clusters = [f"f{row // 4}" for row in range(200)]
    scores = by_slice(per_query, slices, clusters, num_resamples=300)
    assert list(scores) == ["missing"]  # the same for all: no slice
    assert list(scores["missing"]) == ["none", "image"]
    rows = [row for row in range(200) if row % 3 == 0]
    image = scores["missing"]["image"]
    assert (image.num_queries, image.num_clusters) == (67, len({clusters[row] for row in rows}))
    for metric, values in per_query.items():
        expected = bootstrap_interval(values[rows], [clusters[row] for row in rows], num_resamples=300)
        found = image.metrics[metric]
        assert (found.mean, found.low, found.high) == pytest.approx((expected.mean, expected.low, expected.high))


def test_queries_of_which_a_slice_is_unknown_are_in_none_of_its_values() -> None:
    slices = [{"sibling": "yes"}, {}, {"sibling": "yes"}]
    scores = by_slice({"mrr": np.array([1.0, 0.0, 0.5])}, slices)
    assert scores["sibling"]["yes"].num_queries == 2  # kept, though it has one value: not all queries have it


def test_small_categories_are_pooled_and_come_last() -> None:
    sizes = [30, 2, 12, 40, 1]
    slices = [{"category": f"c{number}"} for number, size in enumerate(sizes) for _ in range(size)]
    values = np.concatenate([np.full(size, number / 10) for number, size in enumerate(sizes)])
    scores = by_slice({"mrr": values}, slices, num_resamples=50, max_values=3)["category"]
    assert {value: score.num_queries for value, score in scores.items()} == {
        "c3": 40, "c0": 30, "c2": 12, "other (2 categories)": 3
    }  # fmt: skip
    assert list(scores)[-1] == "other (2 categories)"
    assert scores["other (2 categories)"].metrics["mrr"].mean == pytest.approx((0.1 * 2 + 0.4) / 3)
    assert "other" not in str(list(by_slice({"mrr": values}, slices, num_resamples=50, max_values=5)["category"]))


def test_few_families_have_a_mean_and_no_interval() -> None:
    slices = [{"missing": "none"}] * 40 + [{"missing": "image"}] * 40
    clusters = [f"f{row % (MIN_CLUSTERS - 1)}" for row in range(40)] + [f"g{row % MIN_CLUSTERS}" for row in range(40)]
    values = {"recall@1": np.tile([1.0, 0.0, 1.0, 1.0], 20)}
    scores = by_slice(values, slices, clusters, num_resamples=100)["missing"]
    few, enough = scores["none"].metrics["recall@1"], scores["image"].metrics["recall@1"]
    assert few.mean == 0.75 and np.isnan([few.low, few.high]).all()
    assert enough.low < 0.75 < enough.high
    text = json.dumps(slices_as_json({"missing": scores}), allow_nan=False)  # JSON knows no NaN
    assert json.loads(text)["missing"]["none"] == {
        "num_queries": 40, "num_clusters": MIN_CLUSTERS - 1, "metrics": {"recall@1": [0.75, None, None]}
    }  # fmt: skip


def test_where_all_agree_there_is_no_interval() -> None:
    values = {"recall@1": np.ones(60), "mrr": np.linspace(0.5, 1, 60)}
    scores = by_slice(values, [{"missing": "none"}] * 30 + [{"missing": "image"}] * 30, num_resamples=100)
    metrics = scores["missing"]["none"].metrics
    assert metrics["recall@1"].mean == 1.0 and np.isnan(metrics["recall@1"].low)  # not [1.0, 1.0], which is too sure
    assert metrics["mrr"].low < metrics["mrr"].mean


def test_lengths_that_differ_are_refused() -> None:
    with pytest.raises(InputError, match="1 entries of relevant for 2 queries"):
        slices_of([offer("a"), offer("b")], [], [NONE])
    with pytest.raises(InputError, match=r"of \[2, 3\] queries"):
        by_slice({"mrr": np.zeros(3)}, [{}, {}, {}], ["a", "b"])


def test_magento_styles_have_siblings() -> None:
    offers = read_catalog(shared_data("magento_luma") / "products.jsonl", check_images=False).offers
    gallery = [o for o in offers if o.extra.get("role") == "gallery"]
    queries = [o for o in offers if o.extra.get("role") == "query"]
    assert queries and gallery
    rows = {g.id: row for row, g in enumerate(gallery)}
    relevant = [np.array([rows[g.id] for g in gallery if g.product_id == q.product_id], dtype=int) for q in queries]
    slices = slices_of(queries, gallery, relevant)
    for query, of_query in zip(queries, slices, strict=True):
        styles = {g.product_id for g in gallery if g.extra["style_id"] == query.extra["style_id"]}
        assert of_query["sibling"] == ("yes" if styles - {query.product_id} else "no")
    assert {of_query["sibling"] for of_query in slices} == {"yes", "no"}
