import numpy as np
import pytest

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.attributes.relations import AttributeBM25
from afmrl.errors import InputError
from afmrl.retrieval.mining import (
    NOTHING_FOUND,
    HardNegatives,
    mine_by_attributes,
    mine_by_embeddings,
    mine_hard_negatives,
)
from afmrl.retrieval.permuted_index import PermutedIndex


def catalog(seed, num_offers=300, sizes=(4, 30, 6, 12)):
    """Random offers, two of each product; a third of the ids is unknown."""
    draw = np.random.default_rng(seed)
    keys = ["color", "brand", "size", "cut"]
    table, ids = [], []
    for product in range(num_offers // 2):
        full = {key: f"{key[0]}{draw.integers(size)}" for key, size in zip(keys, sizes, strict=True)}
        for _ in range(2):
            table.append(KeyAttributes.of({key: value for key, value in full.items() if draw.random() < 0.9}))
            ids.append(f"p{product}" if product % 3 else "")
    return table, ids


def is_same(table, ids, left, right, min_shared):
    keys = table[left].compared_with(table[right])
    labeled = ids is not None and ids[left] != "" and ids[left] == ids[right]
    return labeled or (len(keys.agree) >= min_shared and not keys.differ)


def exhaustive(table, ids, similarity, k, min_shared, positive_only):
    """One pair at a time: the k best scores of each offer."""
    best = np.full((len(table), k), -np.inf)
    for row in range(len(table)):
        scores = sorted(
            (
                similarity[row, other]
                for other in range(len(table))
                if other != row
                and (similarity[row, other] > 0 or not positive_only)
                and not is_same(table, ids, row, other, min_shared)
            ),
            reverse=True,
        )[:k]
        best[row, : len(scores)] = scores
    return best


@pytest.mark.parametrize("min_shared", [1, 3])
def test_a_wide_window_finds_what_every_pair_finds(min_shared):
    table, ids = catalog(0, 60)
    lexical = AttributeBM25(table)
    found = mine_by_attributes(table, 5, product_ids=ids, min_shared=min_shared, window=60, lexical=lexical)
    rows = np.arange(len(table))
    similarity = lexical.scores(rows, rows)
    np.testing.assert_allclose(found.scores, exhaustive(table, ids, similarity, 5, min_shared, True), rtol=1e-5)
    told = np.where(found.rows >= 0, np.take_along_axis(similarity, np.maximum(found.rows, 0), axis=1), -np.inf)
    np.testing.assert_allclose(found.scores, told, rtol=1e-5)
    assert all(len(set(row[row >= 0].tolist())) == (row >= 0).sum() for row in found.rows)


def test_a_small_window_finds_nearly_as_hard_ones():
    table, ids = catalog(1, 3_000)
    lexical = AttributeBM25(table)
    found = mine_by_attributes(table, 10, product_ids=ids, lexical=lexical)
    rows = np.arange(0, len(table), 30)
    best = lexical.scores(rows, np.arange(len(table)))
    for place, row in enumerate(rows):
        same = [other for other in range(len(table)) if is_same(table, ids, row, other, 3)]
        best[place, [row, *same]] = -1
    best = np.sort(best, axis=1)[:, -10:]
    mean = np.where(np.isneginf(found.scores[rows]), 0, found.scores[rows]).mean()
    assert mean > 0.95 * best.mean()


@pytest.mark.parametrize("search", ["attributes", "exact", "ann"])
def test_no_offer_of_the_same_product_is_mined(search):
    table, ids = catalog(2, 400)
    draw = np.random.default_rng(0)
    # two offers of a product lie side by side, so that whoever looks at nearness alone takes them
    embeddings = np.repeat(draw.normal(size=(200, 16)), 2, axis=0) + 0.05 * draw.normal(size=(400, 16))
    embeddings = (embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)).astype(np.float32)
    if search == "attributes":
        found = mine_by_attributes(table, 6, product_ids=ids, min_shared=2)
    else:
        found = mine_by_embeddings(embeddings, 6, attributes=table, product_ids=ids, min_shared=2, search=search)
    pairs = [(row, int(other)) for row, others in enumerate(found.rows) for other in others if other >= 0]
    assert len(pairs) > 1_500
    assert not any(row == other or is_same(table, ids, row, other, 2) for row, other in pairs)
    assert np.array_equal(found.rows == NOTHING_FOUND, np.isneginf(found.scores))


def test_exact_embeddings_equal_every_pair(monkeypatch):
    monkeypatch.setattr("afmrl.retrieval.mining.BLOCK_BYTES", 8 * 60 * 7)  # seven rows a block
    table, ids = catalog(3, 60)
    embeddings = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    found = mine_by_embeddings(embeddings, 4, attributes=table, product_ids=ids, min_shared=2)
    wanted = exhaustive(table, ids, embeddings @ embeddings.T, 4, 2, False)
    np.testing.assert_allclose(found.scores, wanted, rtol=1e-5)
    unlabeled = mine_by_embeddings(embeddings, 4)
    assert (unlabeled.scores >= found.scores - 1e-6).all()
    near = mine_by_embeddings(embeddings, 4, attributes=table, product_ids=ids, min_shared=2, search="ann")
    assert (near.rows == found.rows).mean() > 0.95  # of so few rows one thread makes the index: the same every time


def test_both_kinds_by_turns():
    first = HardNegatives(np.array([[1, 2], [0, -1]]), np.zeros((2, 2), np.float32))
    second = HardNegatives(np.array([[2, 3, 4], [0, -1, -1]]), np.zeros((2, 3), np.float32))
    joined = first.joined(second, 4)
    assert joined.rows.tolist() == [[1, 2, 3, 4], [0, -1, -1, -1]]
    assert joined.scores[0].tolist() == pytest.approx([1, 1 / 2, 1 / 3, 1 / 4])
    assert np.isneginf(joined.scores[1, 1:]).all()
    assert first.joined(second).rows.shape == (2, 2)
    with pytest.raises(InputError, match="2 and of 1 offers"):
        first.joined(HardNegatives(first.rows[:1], first.scores[:1]))


def test_one_call_mines_by_attributes_by_embeddings_or_by_both():
    table, ids = catalog(5, 80)
    embeddings = np.random.default_rng(0).normal(size=(80, 8)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    options = {"product_ids": ids, "min_shared": 2}
    by_attributes = mine_by_attributes(table, 4, **options)
    by_embeddings = mine_by_embeddings(embeddings, 4, attributes=table, **options)
    assert (mine_hard_negatives(table, 4, **options).rows == by_attributes.rows).all()
    found = mine_hard_negatives(table, 4, by="embeddings", embeddings=embeddings, **options)
    assert (found.rows == by_embeddings.rows).all()
    both = mine_hard_negatives(table, 4, by="both", embeddings=embeddings, **options)
    assert (both.rows == by_attributes.joined(by_embeddings).rows).all()
    unlabeled = mine_hard_negatives(None, 4, by="embeddings", embeddings=embeddings)
    assert (unlabeled.rows == mine_by_embeddings(embeddings, 4).rows).all()


def test_edges():
    assert mine_by_attributes([], 3).rows.shape == (0, 3)
    nothing = mine_by_attributes([KeyAttributes()] * 3, 2)
    assert (nothing.rows == NOTHING_FOUND).all() and np.isneginf(nothing.scores).all()
    twins = [KeyAttributes.of({"color": "red", "size": "m", "brand": "acme"})] * 4
    assert (mine_by_attributes(twins, 2).rows == NOTHING_FOUND).all()  # they agree on everything
    assert (mine_by_attributes(twins, 2, min_shared=4).rows >= 0).all()
    long = KeyAttributes.of({"notes": " ".join(f"w{i}" for i in range(5_000)), "color": "red"})
    chinese = [KeyAttributes.of({"颜色": "深红"}), KeyAttributes.of({"颜色": "红"}), long, long]
    assert mine_by_attributes(chinese, 1).rows[:, 0].tolist() == [1, 0, 3, 2]


def test_the_list_has_each_neighbor_once():
    table, _ = catalog(4, 500)
    seen = 0
    index = PermutedIndex(AttributeBM25(table).words, max_words=3)
    for start, found in index.neighbors(window=4, at_once=64):
        assert found.shape == (min(64, 500 - start), 3 * 8)
        for place, row in enumerate(found):
            others = row[row >= 0].tolist()
            assert len(set(others)) == len(others) and start + place not in others
            words = {value for _, value in table[start + place]}
            assert all(words & {value for _, value in table[other]} for other in others)
        seen += len(found)
    assert seen == 500


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mine_by_attributes([KeyAttributes()], 0), "k=0 must be at least 1"),
        (lambda: mine_by_attributes([KeyAttributes()], 1, window=0), "window=0"),
        (lambda: mine_by_attributes([KeyAttributes()], 1, min_shared=0), "min_shared=0"),
        (lambda: mine_by_attributes([KeyAttributes()], 1, product_ids=["a", "b"]), "2 product ids for 1 offers"),
        (lambda: mine_by_attributes([KeyAttributes()], 1, lexical=AttributeBM25([])), "made of 0 offers.* has 1"),
        (lambda: mine_hard_negatives([], 1, by="words"), "by='words' is unknown; one of attributes, embeddings, both"),
        (lambda: mine_hard_negatives([KeyAttributes()], 1, by="both"), "by='both' needs embeddings"),
        (lambda: mine_hard_negatives(None, 1), "by='attributes' needs key attributes"),
        (lambda: mine_by_embeddings(np.ones((2, 2)), 1, search="lsh"), "search='lsh' is unknown; one of exact, ann"),
        (lambda: mine_by_embeddings(np.ones((2, 2)), 1, product_ids=["a"]), "1 product_ids for 2 embeddings"),
    ],
)
def test_wrong_options_are_named(call, message):
    with pytest.raises(InputError, match=message):
        call()
