"""Text and image joined: what an offer's missing part counts as."""

import numpy as np
import pytest
import torch

from afmrl.embedder.small.join import LIKE_IMAGE, LIKE_TEXT, MISSING_IMAGE, MISSING_TEXT, JoinParts

TEXT, IMAGE, BOTH = "text", "image", "both"
WEIGHT = 0.6


@pytest.fixture
def join():
    torch.manual_seed(0)
    return JoinParts(16, 40, 16, text_weight=WEIGHT).eval()


def at_cosine(first, cosine, seed):
    """A unit vector at a cosine with another."""
    other = np.random.default_rng(seed).standard_normal(len(first))
    other -= other @ first * first
    return cosine * first + (1 - cosine**2) ** 0.5 * other / np.linalg.norm(other)


def embed(join, *offers):
    """Offers as (kind, cosine of the text with the first axis, cosine of the projected image with the first)."""
    rows = []
    for number, (kind, of_text, of_image) in enumerate(offers):
        text = at_cosine(np.eye(16)[0], of_text, number)
        image = at_cosine(np.eye(13)[0], of_image, 100 + number) @ join.image_projection.weight.detach().numpy()
        rows.append((text, image, kind != IMAGE, kind != TEXT))
    features = {
        "text_state": torch.tensor(np.array([row[0] for row in rows]), dtype=torch.float32),
        "image_state": torch.tensor(np.array([row[1] for row in rows]), dtype=torch.float32),
        "has_text": torch.tensor([row[2] for row in rows]),
        "has_image": torch.tensor([row[3] for row in rows]),
    }
    with torch.no_grad():
        return join(features)["sentence_embedding"].numpy()


def test_embeddings_have_unit_length_and_kinds_are_no_likeness(join):
    rows = embed(join, (BOTH, 1, 1), (TEXT, 1, 1), (IMAGE, 1, 1))
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    assert abs(rows[1] @ rows[2]) < 1e-6


def test_a_missing_image_is_neither_better_than_a_like_one_nor_worse_than_an_unlike_one(join):
    query = embed(join, (BOTH, 1, 1))
    alike, unlike, without = embed(join, (BOTH, LIKE_TEXT, LIKE_IMAGE), (BOTH, LIKE_TEXT, 0), (TEXT, LIKE_TEXT, 1))
    assert query[0] @ without < query[0] @ alike
    asked = join.as_queries(query)[0]
    assert asked @ unlike < asked @ without < asked @ alike


@pytest.mark.parametrize(
    ("query", "lacking", "there", "counts_as"),
    [(BOTH, TEXT, LIKE_TEXT, (LIKE_TEXT, MISSING_IMAGE)), (BOTH, IMAGE, LIKE_IMAGE, (MISSING_TEXT, LIKE_IMAGE))],
)
def test_a_missing_part_counts_as_it_would_usually_be(join, query, lacking, there, counts_as):
    asked = join.as_queries(embed(join, (query, 1, 1)))[0]
    (without,) = embed(join, (lacking, there, there))
    (whole,) = embed(join, (BOTH, *counts_as))
    # the constants leave aside that marks take a hundredth of the parts
    np.testing.assert_allclose(asked @ without, asked @ whole, atol=0.015)


def test_a_text_ranks_much_alike_offers_the_same_whether_they_have_an_image(join):
    query = embed(join, (TEXT, 1, 1))
    plain, pictured = embed(join, (TEXT, LIKE_TEXT, 0), (BOTH, LIKE_TEXT, 0))
    assert query[0] @ plain - query[0] @ pictured > 0.1
    asked = join.as_queries(query)[0]
    np.testing.assert_allclose(asked @ plain, asked @ pictured, atol=0.015)


def test_an_image_ranks_much_alike_offers_the_same_whether_they_have_a_text(join):
    query = embed(join, (IMAGE, 1, 1))
    plain, titled = embed(join, (IMAGE, 0, LIKE_IMAGE), (BOTH, 0, LIKE_IMAGE))
    assert query[0] @ plain - query[0] @ titled > 0.1
    asked = join.as_queries(query)[0]
    np.testing.assert_allclose(asked @ plain, asked @ titled, atol=0.015)


def test_training_hides_one_part_of_some_offers_and_inference_none(join):
    offers = [(BOTH, 1, 1)] * 300
    rows = embed(join, *offers)
    np.testing.assert_allclose(rows, rows[:1].repeat(300, axis=0), atol=1e-6)
    torch.manual_seed(0)
    hidden = embed(join.train(), *offers)
    np.testing.assert_allclose(np.linalg.norm(hidden, axis=1), 1, atol=1e-6)  # never both
    shares = (hidden[:, -5::2] > 0.05).mean(axis=0)
    assert shares.tolist() == pytest.approx([0.05, 0.05, 0.9], abs=0.04)


def test_asking_leaves_the_embeddings_as_they_were(join):
    rows = embed(join, (BOTH, 1, 1), (TEXT, 1, 1))
    before = rows.copy()
    assert np.abs(join.as_queries(rows) - before).max() > 0.1
    np.testing.assert_array_equal(rows, before)


def test_within_a_kind_a_query_ranks_as_before(join):
    for kind in (TEXT, IMAGE, BOTH):
        rows = embed(join, *((kind, cosine, cosine) for cosine in (1, 0.9, 0.5, 0.1)))
        differences = join.as_queries(rows[:1])[0] @ rows.T - rows[0] @ rows.T
        np.testing.assert_allclose(differences, differences[0], atol=1e-6)


def test_cut_embeddings_ask_as_they_are(join):
    rows = embed(join, (BOTH, 1, 1), (TEXT, 1, 1))[:, :20]
    np.testing.assert_array_equal(join.as_queries(rows), rows)
