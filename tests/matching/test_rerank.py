"""Reranking: the pair model orders candidates, a veto puts one last, and images alone change nothing."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from afmrl.data.catalog import Catalog
from afmrl.data.offer import Offer
from afmrl.evaluation.evaluate import evaluate
from afmrl.matching.rerank import DEPTH, VETOED, RerankedScores, Reranker
from afmrl.matching.search import search
from afmrl.retrieval.score_matrix import MatrixScores
from conftest import save_image

DRESS = Offer("q", "Maison Lune silk dress V-neck, deep red, M")
CANDIDATES = [
    Offer("navy", "Maison Lune silk dress V-neck, navy, M"),
    Offer("wine", "Maison Lune dress, silk, v neck (wine red) size M"),
    Offer("mug", "Mug with a handle"),
]
FOUND = np.array([0.9, 0.7, 0.1], dtype=np.float32)


def order(compared):
    return np.argsort(-compared.scores).tolist()


def test_a_candidate_with_a_veto_comes_behind_every_other():
    compared = Reranker().compare(DRESS, CANDIDATES, FOUND)
    assert order(compared) == [1, 2, 0]
    assert compared.scores[0] < compared.scores[2] - VETOED / 2
    assert order(Reranker(vetoes=()).compare(DRESS, CANDIDATES, FOUND))[-1] == 2


def test_reasons_are_those_of_query_and_candidate():
    navy, wine = Reranker().compare(DRESS, CANDIDATES, FOUND).reasons(np.array([0, 1]))
    assert navy.veto == ("color",) and str(navy) == "color: red | navy"
    assert wine.veto == () and {"color", "size"} <= set(wine.agree)


def test_the_first_search_decides_where_words_do_not():
    twins = [Offer("a", "blue mug"), Offer("b", "blue mug")]
    compared = Reranker().compare(Offer("q", "blue mug"), twins, np.array([0.2, 0.8], dtype=np.float32))
    assert compared.scores[1] > compared.scores[0]


@pytest.mark.parametrize("found", [[0.0, 0.0, 0.0], [-0.2, -0.5, -0.9], [30.0, 2.0, 1.0]])
def test_scores_of_any_size_are_finite(found):
    assert np.isfinite(Reranker().compare(DRESS, CANDIDATES, np.array(found, dtype=np.float32)).scores).all()


def test_labels_do_not_change_scores():
    labeled = [dataclasses.replace(offer, product_id=str(row)) for row, offer in enumerate([DRESS, *CANDIDATES])]
    theirs = Reranker().compare(labeled[0], labeled[1:], FOUND)
    np.testing.assert_array_equal(theirs.scores, Reranker().compare(DRESS, CANDIDATES, FOUND).scores)


def test_attributes_that_are_labels_are_not_compared():
    mugs = [Offer(name, "mug", attributes={"color": name}) for name in ("red", "blue")]
    query, found = Offer("q", "mug", attributes={"color": "blue"}), np.ones(2, np.float32)
    assert order(Reranker().compare(query, mugs, found)) == [1, 0]
    blind = Reranker(seller_attributes=False).compare(query, mugs, found)
    assert blind.scores[0] == blind.scores[1] and not blind.reasons(np.arange(2))[0].veto


@pytest.mark.parametrize(
    ("query", "candidates"),
    [
        (Offer("q", "", image="q.png"), CANDIDATES),
        (Offer("q", " ", attributes={"brand": "N/A"}, image="q.png"), CANDIDATES),
        (DRESS, [Offer("1", "", image="1.png"), Offer("2", "", image="2.png")]),
    ],
    ids=["image", "nothing said", "gallery of images"],
)
def test_images_alone_are_not_compared(query, candidates):
    assert Reranker().compare(query, candidates, np.ones(len(candidates), np.float32)) is None


def test_only_the_best_are_reranked_and_the_others_stay_behind_in_their_order():
    gallery = [Offer(f"{row:03d}", "red mug" if row in (DEPTH - 1, DEPTH) else "blue mug") for row in range(DEPTH + 9)]
    matrix = np.linspace(1, 0.5, len(gallery), dtype=np.float32)[None]
    row = RerankedScores(
        MatrixScores(matrix), [Offer("q", "red mug")], gallery, np.array([-1]), Reranker()
    ).block(0, 1)[0]  # fmt: skip
    ranked = np.argsort(-row, kind="stable").tolist()
    assert ranked[0] == DEPTH - 1  # the last candidate; the next offer, red too, is none
    assert ranked[DEPTH:] == list(range(DEPTH, len(gallery)))


def test_the_querys_own_offer_is_no_candidate_and_comes_first():
    gallery = [Offer(f"{row:03d}", f"blue mug {row}") for row in range(DEPTH + 2)]
    matrix = np.linspace(1, 0.5, len(gallery), dtype=np.float32)[None]
    row = RerankedScores(MatrixScores(matrix), [gallery[7]], gallery, np.array([7]), Reranker()).block(0, 1)[0]
    assert row.argmax() == 7
    assert sorted(np.argsort(-row)[1 : DEPTH + 1].tolist()) == [r for r in range(DEPTH + 1) if r != 7]


def test_a_filter_that_leaves_nothing_finds_nothing():
    row = RerankedScores(
        MatrixScores(np.full((1, 3), -np.inf)), [DRESS], CANDIDATES, np.array([-1]), Reranker()
    ).block(0, 1)  # fmt: skip
    assert (row == -np.inf).all()


@pytest.mark.parametrize("floor", ["bm25", "tfidf"])
def test_evaluate_reranks_a_floor(floor):
    """Titles of one line of phones: words agree most with the wrong storage."""
    offers = []
    for number in range(12):
        name = f"Acme Nova {number}"
        for role, title, product in (
            ("query", f"{name} phone black 64 GB unlocked", f"{number}"),
            ("gallery", f"{name} 64GB", f"{number}"),
            ("gallery", f"{name} phone black 128 GB unlocked", f"{number} of 128 GB"),
        ):
            offers.append(Offer(f"{product}, {role}", title, product_id=product, extra={"role": role}))
    catalog = Catalog(offers)
    plain, reranked = (
        evaluate(floor, catalog, tasks=["fine"], rerank=rerank, num_resamples=10).metrics["tasks"]["fine"]
        for rerank in (False, True)
    )
    assert plain["recall@1"] < 0.5 and "reranked" not in plain
    assert reranked["recall@1"] == 1 and reranked["reranked"] is True


def test_categories_are_not_reranked():
    offers = [
        Offer(f"{row}", f"{name} mug {row}", category=name)
        for row in range(8)
        for name in ["red" if row % 2 else "blue"]
    ]
    results = [
        evaluate("bm25", Catalog(offers), tasks=["coarse"], rerank=rerank, num_resamples=10).metrics["tasks"]["coarse"]
        for rerank in (False, True)
    ]
    assert results[0] == results[1]


def test_an_image_with_a_short_text_is_compared_by_both(tiny_model, tmp_path):
    for number in range(4):
        save_image(tmp_path / f"{number}.png", number)
    lines = [
        f'{{"id": "{number}", "title": "{color} silk dress", "image": "{number}.png"}}'
        for number, color in enumerate(["blue", "red", "green", "red"])
    ]
    (tmp_path / "offers.jsonl").write_text("\n".join(lines) + "\n")
    asked = {"model": tiny_model, "image": tmp_path / "3.png"}
    hits = search(tmp_path / "offers.jsonl", text="red silk dress", **asked)
    assert hits[0].offer.id == "3" and hits[0].reasons.image is not None
    assert [hit.offer.id for hit in hits[2:]] == [hit.offer.id for hit in hits if hit.reasons.veto]
    by_image, plain = (search(tmp_path / "offers.jsonl", rerank=rerank, **asked) for rerank in (True, False))
    assert by_image == plain and all(hit.reasons is None for hit in by_image)


def test_a_search_may_ask_for_more_hits_than_are_reranked(tiny_model, tmp_path):
    lines = [f'{{"id": "{row:03d}", "title": "{"red" if row % 2 else "blue"} mug {row}"}}' for row in range(DEPTH + 10)]
    (tmp_path / "offers.jsonl").write_text("\n".join(lines) + "\n")
    hits = search(tmp_path / "offers.jsonl", text="red mug", model=tiny_model, k=DEPTH + 5)
    assert len({hit.offer.id for hit in hits}) == DEPTH + 5
    scores = [hit.score for hit in hits]
    assert scores == sorted(scores, reverse=True)
    assert [hit.reasons is None for hit in hits] == [False] * DEPTH + [True] * 5
