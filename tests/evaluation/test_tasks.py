"""Who is query, who is gallery, what is relevant; and what is said of a task that is not possible."""

import numpy as np
import pytest

from afmrl.data.catalog import read_catalog
from afmrl.data.offer import Offer
from afmrl.data.splits import split_of
from afmrl.errors import InputError
from afmrl.evaluation.tasks import Impossible, RetrievalTask, build_task, choose_split, cluster_of
from conftest import shared_data


def offer(name, product="", *, split="test", role="", category="", image="", title="dress", **extra):
    extra |= {"split": split, "role": role}
    return Offer(name, title=title, image=image, category=category, product_id=product, extra=extra)


ROLES = [
    offer("g2", "p1", role="gallery", category="tops", image="2.jpg"),
    offer("q1", "p1", role="query", category="tops", image="1.jpg"),
    offer("g1", "p2", role="gallery", category="shoes", title="", image="3.jpg"),
    offer("q2", "p3", role="query", category="shoes", title="", image="4.jpg"),
    offer("v1", "p9", split="val", role="gallery", category="tops"),
    offer("c1", "p1", split="gallery", role="gallery", category="tops"),
    offer("c2", "p3", split="gallery", role="query", category="tops"),
]


def ids(offers):
    return [offer.id for offer in offers]


def matches(task):
    """query id -> ids of its relevant gallery offers."""
    return {q.id: ids(task.gallery[row] for row in rows) for q, rows in zip(task.queries, task.relevant, strict=True)}


def test_the_split_is_test_else_val_else_all():
    assert choose_split(ROLES).name == "test"
    assert choose_split([o for o in ROLES if split_of(o) != "test"]).name == "val"
    assert choose_split([o for o in ROLES if split_of(o) == "gallery"]).name == "all"
    assert ids(choose_split(ROLES, "val").offers) == ["v1"]
    assert ids(choose_split(ROLES, "all").offers) == ids(ROLES)
    with pytest.raises(InputError, match=r"split 'tset': .* there are: gallery \(2\), test \(4\), val \(1\)"):
        choose_split(ROLES, "tset")
    with pytest.raises(InputError, match="split 'tset'"):
        choose_split(ROLES, gallery_splits=["tset"])


def test_the_gallery_is_the_splits_own_and_what_is_asked_for():
    def gallery(*splits):
        return ids(build_task("fine", choose_split(ROLES, "test", splits)).gallery)

    assert gallery() == ["c1", "g1", "g2"]  # sorted by id, so that ties stand in the order of ids
    assert gallery("val") == ["g1", "g2", "v1"]
    assert gallery("all") == ["c1", "g1", "g2", "v1"]


def test_roles_say_who_is_query_and_products_what_is_relevant():
    task = build_task("fine", choose_split(ROLES))
    assert matches(task) == {"q1": ["c1", "g2"], "q2": []}  # q2's product is another query's
    assert task.own_rows.tolist() == [-1, -1]
    assert (task.query_modality, task.gallery_modality) == ("fused", "fused")
    assert matches(build_task("coarse", choose_split(ROLES))) == {"q1": ["c1", "g2"], "q2": ["g1"]}


def test_each_task_asks_for_the_parts_that_it_reads():
    split = choose_split(ROLES)
    task = build_task("text-to-image", split)
    assert (ids(task.queries), ids(task.gallery)) == (["q1"], ["g1", "g2"])  # titles against images
    assert (task.query_modality, task.gallery_modality) == ("text", "image")
    task = build_task("image-to-product", split)
    assert (ids(task.queries), ids(task.gallery)) == (["q1", "q2"], ["c1", "g1", "g2"])
    assert (task.query_modality, task.gallery_modality) == ("image", "fused")
    task = build_task("text-to-product", split)
    assert (ids(task.queries), task.query_modality) == (["q1"], "text")


def test_without_roles_the_first_offer_of_a_product_is_the_query():
    offers = [offer("b", "p1"), offer("a", "p1"), offer("c", "p1"), offer("d", "p2"), offer("e"), offer("f")]
    task = build_task("fine", choose_split(offers))
    assert ids(task.gallery) == ["a", "c", "d", "e", "f"]
    assert matches(task) == {"b": ["a", "c"]}


def test_categories_without_products_are_searched_by_every_offer():
    offers = [offer(name, category=category) for name, category in zip("abcd", ["x", "y", "x", "x"], strict=True)]
    task = build_task("coarse", choose_split(offers))
    assert matches(task) == {"a": ["c", "d"], "b": [], "c": ["a", "d"], "d": ["a", "c"]}
    assert task.own_rows.tolist() == [0, 1, 2, 3]  # the query itself is no hit


def test_what_is_not_possible_is_said():
    def reason(name, offers):
        found = build_task(name, choose_split(offers))
        assert isinstance(found, Impossible) and found.name == name
        return found.reason

    lonely = [offer("a", "p1"), offer("b", "p2")]
    assert "no two share a product_id" in reason("fine", lonely)
    assert reason("coarse", lonely) == "no query has a category"
    pair = [offer("a", "p1", category="x"), offer("b", "p1", category="x")]
    assert "one category" in reason("coarse", pair)
    assert reason("image-to-product", pair) == "no query has an image"
    assert reason("text-to-image", pair) == "no gallery offer has an image"
    untitled = [offer("a", "p1", title="", image="a.jpg"), offer("b", "p1", title="", image="b.jpg")]
    assert reason("text-to-product", untitled) == "no query has a title"
    apart = [offer("a", "p1", role="query"), offer("b", "p2", role="gallery")]
    assert reason("fine", apart) == "no query has its product in the gallery"
    assert "the gallery is empty" in reason("fine", [offer("a", "p1", role="query"), offer("b", "p1", role="query")])
    with pytest.raises(InputError, match="task 'pairs': one of fine, coarse"):
        build_task("pairs", choose_split(pair))


def test_clusters_are_families_then_products_then_offers():
    assert cluster_of(offer("a", "p", style_id="s")) == "s"
    assert cluster_of(offer("a", "p")) == "p"
    assert cluster_of(offer("a")) == "a"


@pytest.mark.parametrize(
    ("name", "split", "expected"),
    [
        ("grocery_store", "val", {"fine": (296, 81), "coarse": (296, 81), "image-to-product": (296, 81)}),
        ("magento_luma", "val", {"fine": (24, 42), "coarse": (24, 42), "text-to-image": (24, 42)}),
        ("abt_buy", "test", {"fine": (321, 308), "text-to-product": (321, 308)}),
        ("wdc_products", "val", {"fine": (242, 363), "text-to-product": (242, 363)}),
        ("ae110k", "test", {"coarse": (524, 524)}),
        ("abo_mini", "all", {"fine": (9, 3)}),
    ],
)  # fmt: skip
def test_real_catalogs(name, split, expected):
    offers = read_catalog(shared_data(name) / "products.jsonl", check_images=False).offers
    chosen = choose_split(offers)
    assert chosen.name == split
    for task, (num_queries, num_gallery) in expected.items():
        built = build_task(task, chosen)
        assert isinstance(built, RetrievalTask)
        assert (len(built.queries), len(built.gallery)) == (num_queries, num_gallery)
        # the labels themselves, offer by offer
        for query, rows in list(zip(built.queries, built.relevant, strict=True))[:20]:
            label = (lambda o: o.category) if task == "coarse" else (lambda o: o.product_id)
            same = {o.id for o in built.gallery if label(o) == label(query) and o.id != query.id}
            assert {built.gallery[row].id for row in np.asarray(rows)} == same


def test_an_offer_of_both_roles_asks_and_is_found_but_not_by_itself():
    offers = [Offer(id=f"o{n}", title=f"title {n}", product_id=f"p{n // 2}", extra={"role": "both"}) for n in range(4)]
    task = build_task("fine", choose_split(offers))
    assert isinstance(task, RetrievalTask)
    assert [offer.id for offer in task.queries] == [offer.id for offer in task.gallery] == ["o0", "o1", "o2", "o3"]
    assert task.own_rows.tolist() == [0, 1, 2, 3]
    assert [rows.tolist() for rows in task.relevant] == [[1], [0], [3], [2]]
