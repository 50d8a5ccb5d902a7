"""The reward of completions that describe the gallery's offers, against a plain reading of its definition."""

import numpy as np
import pytest

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.data.offer import Offer
from afmrl.errors import InputError
from afmrl.retrieval.frozen import FrozenGallery
from afmrl.retrieval.scores import pair_scores
from afmrl.rewards.gallery_reward import GalleryRetrievalReward

WORDS = ("none", "color: red", "color: blue", "size: m", "color: red; size: m")
NUM_QUERIES, NUM_GALLERY, DIMENSION = 14, 40, 8


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def encode(offers, attributes):
    """A row of its own for each offer, turned by what is written of it."""
    rows = []
    for offer, written in zip(offers, attributes, strict=True):
        base = np.random.default_rng(int(offer.id)).normal(size=DIMENSION)
        turn = np.random.default_rng([3, *str(written).encode()]).normal(size=DIMENSION) if len(written) else 0.0
        rows.append(base + 0.8 * turn)
    return unit(np.array(rows).reshape(-1, DIMENSION))


@pytest.fixture(scope="module")
def world():
    """Gallery offers 0 … 39, two of a product; a query of every one of the first seven products, and seven more."""
    gallery = [Offer(str(row), f"offer {row}") for row in range(NUM_GALLERY)]
    rows = encode(gallery, [KeyAttributes()] * NUM_GALLERY)
    products = np.arange(NUM_QUERIES) % 7
    noise = np.random.default_rng(5).normal(size=(NUM_QUERIES, DIMENSION))
    queries = unit(rows[2 * products] + 0.4 * noise)
    return gallery, rows, queries, [np.array([2 * p, 2 * p + 1]) for p in products]


def made(world, kind, rows=range(14), **options):
    gallery, embeddings, queries, relevant = world
    described = [gallery[row] for row in rows]
    return GalleryRetrievalReward(encode, described, embeddings, list(rows), queries, relevant, kind=kind, **options)


def by_definition(world, row, written, kind, k):
    """Every query of the product ranks this one offer among the offers of other products."""
    gallery, embeddings, queries, relevant = world
    described = encode([gallery[row]], [KeyAttributes.parse(written)])[0].astype(np.float64)
    plain = embeddings[row].astype(np.float64)
    terms = []
    for query, own in zip(queries.astype(np.float64), relevant, strict=True):
        if row in own:
            others = np.delete(embeddings.astype(np.float64) @ query, own)
            rank = 1 + np.count_nonzero(others >= described @ query)
            before = 1 + np.count_nonzero(others >= plain @ query)
            terms.append(
                {
                    "recall@k": float(rank <= k),
                    "reciprocal_rank": 1 / rank,
                    "ndcg@k": 1 / np.log2(rank + 1) if rank <= k else 0.0,
                    "rank_gain": 1 / rank - 1 / before,
                    "margin": described @ query - others.max(),
                }[kind]
            )
    return float(np.mean(terms))


@pytest.mark.parametrize("kind", ["recall@k", "reciprocal_rank", "ndcg@k", "rank_gain", "margin"])
@pytest.mark.parametrize("block_bytes", [1, 64_000_000])
def test_every_kind_is_what_it_says(world, kind, block_bytes):
    reward = made(world, kind, k=3, score_block_bytes=block_bytes)
    rows = [row for row in range(14) for _ in WORDS]
    scored = reward.score(rows, list(WORDS) * 14)
    expected = [by_definition(world, row, word, kind, 3) for row in range(14) for word in WORDS]
    np.testing.assert_allclose(scored.reward, expected, atol=1e-6)
    assert len(np.unique(np.round(expected, 9))) >= 3


def test_the_offers_own_embedding_and_its_products_do_not_stand_in_its_way(world):
    gallery, embeddings, _, _ = world
    queries = embeddings[[0]]  # exactly the gallery's row 0: nothing scores higher
    reward = GalleryRetrievalReward(
        encode, [gallery[0], gallery[1]], embeddings, [0, 1], queries, [np.array([0, 1])], kind="reciprocal_rank"
    )
    assert reward.score([0], ["none"]).reward.tolist() == [1.0]
    ranks = reward.score([1], ["none"]).ranks.tolist()
    assert ranks == [1 + np.count_nonzero((embeddings @ queries[0])[2:] >= embeddings[1] @ queries[0])]


def test_an_equal_offer_of_another_product_stands_before_it(world):
    gallery, embeddings, _, _ = world
    twins = embeddings.copy()
    twins[30] = twins[0]
    reward = GalleryRetrievalReward(
        encode, [gallery[0]], twins, [0], twins[[0]], [np.array([0])], kind="reciprocal_rank"
    )
    assert reward.score([0], ["none"]).reward.tolist() == [0.5]


def test_what_a_wrong_description_earns_is_the_plain_offers(world):
    labels = [KeyAttributes.of({"color": "red"})] * 14
    reward = made(world, "margin", targets=labels, rewarded_pairs="true", faithfulness_weight=0.3)
    scored = reward.score([4, 4, 4], ["color: blue", "none", "color: red"])
    assert scored.retrieval[0] == scored.retrieval[1] != scored.retrieval[2]
    assert scored.faithfulness.tolist() == [0.0, 0.0, 1.0]


@pytest.mark.parametrize("kind", ["rank_gain", "margin", "recall@k"])
def test_garbage_earns_less_than_any_list_seen(world, kind):
    reward = made(world, kind, k=3)
    rows = [row for row in range(14) for _ in WORDS]
    words = list(WORDS) * 14
    reward = reward.with_(floors=reward.lowered_floors(rows, reward.score(rows, words)))
    valid = reward.score(rows, words).reward.reshape(14, -1).min(axis=1)
    garbage = reward.score(list(range(14)), ["no list"] * 14).reward
    assert (garbage < valid).all()


def test_the_middle_rank_stands_for_its_queries(world):
    reward = made(world, "reciprocal_rank")
    ranks = reward.plain_ranks()
    gallery, embeddings, queries, relevant = world
    for row in range(14):
        each = []
        for query, own in zip(queries, relevant, strict=True):
            if row in own:
                scores = embeddings.astype(np.float64) @ query.astype(np.float64)
                each.append(1 + np.count_nonzero(np.delete(scores, own) >= scores[row]))
        assert ranks[row] == sorted(each)[len(each) // 2]
        assert reward.plain_reciprocal_ranks()[row] == pytest.approx(np.mean([1 / rank for rank in each]))


def test_what_cannot_be_rewarded_is_named(world):
    with pytest.raises(InputError, match="no query looks for the offer '39'"):
        made(world, "margin", rows=[0, 39])
    gallery, embeddings, queries, relevant = world
    with pytest.raises(InputError, match="1 gallery rows for 2 offers"):
        GalleryRetrievalReward(encode, gallery[:2], embeddings, [0], queries, relevant)


@pytest.mark.parametrize("block_bytes", [1, 64_000_000])
def test_reaching_counts_what_scores_as_high(block_bytes):
    draw = np.random.default_rng(0)
    rows, queries = unit(draw.normal(size=(300, 6))), unit(draw.normal(size=(9, 6)))
    rows[200:] = rows[:100]  # ties
    query = np.repeat(np.arange(9), 4)[::-1]
    place = draw.integers(0, 300, len(query))
    scores = pair_scores(queries, rows, query, place)
    found = FrozenGallery(rows, block_bytes=block_bytes).reaching(queries, query, scores)
    every = [pair_scores(queries, rows, np.full(300, q), np.arange(300)) for q in range(9)]
    assert found.tolist() == [int((every[q] >= score).sum()) for q, score in zip(query, scores, strict=True)]
    assert FrozenGallery(rows).reaching(np.zeros((1, 6)), np.zeros(1, int), np.zeros(1, np.float32)).tolist() == [300]
    assert FrozenGallery(rows).reaching(queries, np.empty(0, int), np.empty(0, np.float32)).tolist() == []
