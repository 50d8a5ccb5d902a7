"""RAR's reward against ir_measures, through an embedder that is a table of random vectors."""

import hashlib

import ir_measures
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ir_measures import RR, R, Success, nDCG

from afmrl.attributes.accuracy import attribute_accuracy
from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.data.offer import Offer
from afmrl.errors import InputError
from afmrl.retrieval.frozen import FrozenGallery
from afmrl.rewards.retrieval_reward import RetrievalReward
from afmrl.rewards.truth import pair_f_score, true_pairs

Q, N, D = 12, 40, 6
QUERIES = [Offer(id=f"q{number}", title=f"title {number}") for number in range(Q)]
WORDS = ["color: red", "color: blue; size: m", "none", "cut: wide; color: red", "size: xl"]


def vector(*parts):
    seed = int(hashlib.sha256("/".join(parts).encode()).hexdigest()[:12], 16)
    row = np.random.default_rng(seed).normal(size=D).astype(np.float32)
    return row / np.linalg.norm(row)


class Encoder:
    """A fake frozen embedder: a random unit vector for every (offer, attributes); it keeps what it was asked."""

    def __init__(self):
        self.asked = []

    def __call__(self, offers, attributes):
        assert len(offers) == len(attributes)
        pairs = list(zip([offer.id for offer in offers], map(str, attributes), strict=True))
        self.asked.append(pairs)
        return np.stack([vector(*pair) for pair in pairs])


INVALID = ["", "   ", "red", "color:", ": red", "color: red; color: blue", "color: red;; size: m",
           "color: " + "x" * 201, "; ".join(f"k{n}: v" for n in range(33))]  # fmt: skip
GALLERY = np.stack([vector("gallery", str(number)) for number in range(N)])


def make(kind="recall@k", *, num_relevant=1, encoder=None, **options):
    rng = np.random.default_rng(3)
    relevant = [np.sort(rng.choice(N, num_relevant, replace=False)) for _ in range(Q)]
    return RetrievalReward(encoder or Encoder(), QUERIES, GALLERY, relevant, kind=kind, **options)


def by_ir_measures(reward, rows, completions, measure):
    """The same number from the vectors alone, by an independent library; completion i is query `c{i}`."""
    run, qrels = [], []
    for place, (row, text) in enumerate(zip(rows, completions, strict=True)):
        scores = GALLERY @ vector(QUERIES[row].id, str(KeyAttributes.parse(text)))
        run += [ir_measures.ScoredDoc(f"c{place}", f"d{n}", float(score)) for n, score in enumerate(scores)]
        qrels += [ir_measures.Qrel(f"c{place}", f"d{n}", 1) for n in reward.relevant[row].tolist()]
    found = np.zeros(len(rows))
    for metric in ir_measures.iter_calc([measure], qrels, run):
        found[int(metric.query_id[1:])] = metric.value
    return found


def all_pairs():
    return [row for row in range(Q) for _ in WORDS], WORDS * Q


@pytest.mark.parametrize("num_relevant", [1, 2, 5])
@pytest.mark.parametrize(
    ("kind", "k", "measure"),
    [
        ("recall@k", 1, Success @ 1),
        ("recall@k", 7, Success @ 7),
        ("reciprocal_rank", 7, RR),
        ("ndcg@k", 3, nDCG @ 3),
        ("ndcg@k", 10, nDCG @ 10),
    ],
)
def test_reward_equals_an_independent_library(num_relevant, kind, k, measure):
    reward = make(kind, num_relevant=num_relevant, k=k)
    rows, completions = all_pairs()
    scored = reward.score(rows, completions)
    expected = by_ir_measures(reward, rows, completions, measure)
    np.testing.assert_allclose(scored.reward, expected, atol=1e-9)
    assert len(np.unique(expected)) > 1
    assert scored.valid.all()


def test_with_one_relevant_offer_recall_is_trecs_recall():
    reward = make("recall@k", k=7)
    rows, completions = all_pairs()
    np.testing.assert_array_equal(
        reward.score(rows, completions).reward, by_ir_measures(reward, rows, completions, R @ 7)
    )


def test_rank_gain_by_hand():
    reward = make("rank_gain", num_relevant=2)
    rows, completions = all_pairs()
    with_attributes = by_ir_measures(reward, rows, completions, RR)
    without = by_ir_measures(reward, rows, ["none"] * len(rows), RR)
    scored = reward.score(rows, completions)
    np.testing.assert_allclose(scored.reward, with_attributes - without, atol=1e-9)
    assert scored.reward.min() < 0 < scored.reward.max()
    assert (scored.reward[np.array(completions) == "none"] == 0).all()


def test_margin_by_hand():
    reward = make("margin", num_relevant=2)
    scored = reward.score([4], ["color: red"])
    cosines = GALLERY @ vector("q4", "color: red")
    best = max(cosines[n] for n in reward.relevant[4])
    hardest = max(cosine for n, cosine in enumerate(cosines) if n not in reward.relevant[4])
    assert scored.reward[0] == pytest.approx(best - hardest, abs=1e-6)


@pytest.mark.parametrize("kind", ["recall@k", "reciprocal_rank", "ndcg@k"])
@pytest.mark.parametrize("text", INVALID)
def test_an_invalid_format_earns_minus_a_tenth_whatever_else_counts(kind, text):
    labels = [KeyAttributes.of({"color": "red"})] * Q
    encoder = Encoder()
    reward = make(kind, encoder=encoder, targets=labels, faithfulness_weight=1.0)
    scored = reward.score([0], [text])
    assert (scored.reward[0], scored.valid[0], scored.faithfulness[0], scored.ranks[0]) == (-0.1, False, 0.0, N + 1)
    assert not encoder.asked  # nothing is embedded for it
    assert make(kind, invalid_reward=-0.7).score([0], [text]).reward[0] == -0.7


@pytest.mark.parametrize("length_weight", [0.0, 0.5])
@pytest.mark.parametrize("kind", ["recall@k", "reciprocal_rank", "ndcg@k", "rank_gain", "margin"])
def test_no_valid_completion_earns_less_than_an_invalid_one(kind, length_weight):
    """Else garbage would pay wherever the best answer earns less than -0.1."""
    labels = [KeyAttributes.of({"color": "red"})] * Q
    reward = make(kind, num_relevant=2, targets=labels, faithfulness_weight=0.3, length_weight=length_weight)
    long = "; ".join(f"k{n}: v" for n in range(32))
    rows = [row for row in range(Q) for _ in range(4)]
    texts = [text for row in range(Q) for text in ("color: red", "size: m", f"x: {row}", long)]
    valid = reward.score(rows, texts)
    reward = reward.with_(floors=reward.lowered_floors(rows, valid))  # as RAR's survey does
    invalid = reward.score(range(Q), ["red"] * Q)
    assert valid.valid.all() and not invalid.valid.any()
    for row in range(Q):
        assert invalid.reward[row] <= valid.reward[4 * row : 4 * row + 4].min() - 0.1 + 1e-12
    other = make(kind, num_relevant=2, targets=labels, faithfulness_weight=0.3, length_weight=length_weight)
    other = other.with_(floors=reward.floors())  # of another process
    assert other.score([3], ["red"]).reward[0] == invalid.reward[3]


@pytest.mark.parametrize("kind", ["margin", "rank_gain"])
def test_garbage_is_below_gold_where_gold_earns_less_than_minus_a_tenth(kind):
    relevant = [np.array([row]) for row in range(Q)]
    if kind == "rank_gain":  # found first without attributes: whatever is written, the rank falls
        relevant = [np.argsort(-(GALLERY @ vector(offer.id, "none")))[:1] for offer in QUERIES]
    options = {"targets": [KeyAttributes.of({"color": "red"})] * Q, "faithfulness_weight": 0.3}
    reward = RetrievalReward(Encoder(), QUERIES, GALLERY, relevant, kind=kind, rewarded_pairs="true", **options)
    gold, plain, garbage = (reward.score(range(Q), [text] * Q).reward for text in ("color: red", "none", "red"))
    assert (np.minimum(gold, plain) < -0.1).any()  # where it would have paid
    assert (garbage <= plain - 0.1 + 1e-12).all()
    if kind == "rank_gain":  # its least is known
        assert (garbage < gold - 0.1).all()


def test_a_relevant_row_named_twice_counts_once():
    reward = RetrievalReward(Encoder(), QUERIES[:1], GALLERY, [np.array([1, 1])], kind="ndcg@k", k=N)
    once = RetrievalReward(Encoder(), QUERIES[:1], GALLERY, [np.array([1])], kind="ndcg@k", k=N)
    found = [of.score([0], ["color: red"]).reward[0] for of in (reward, once)]
    assert found[0] == found[1] <= 1


def test_completions_are_read_as_the_generator_reads_them():
    def read(completion, offer):
        return KeyAttributes.of({"color": f"{KeyAttributes.parse(completion).as_dict()['farbe']} {offer.id}"})

    labels = [KeyAttributes.of({"color": f"red q{row}"}) for row in range(Q)]
    scored = make(targets=labels, faithfulness_weight=1.0, read=read).score([0, 3], ["farbe: red"] * 2)
    assert scored.faithfulness.tolist() == [1.0, 1.0]


def test_what_did_not_end_by_itself_is_invalid():
    reward = make("recall@k", k=N)
    scored = reward.score([0, 0], ["color: red", "color: red"], [True, False])
    assert scored.reward.tolist() == [1.0, -0.1]
    assert scored.valid.tolist() == [True, False]


def test_a_k_beyond_the_gallery_does_not_find_what_is_not_there():
    reward = make("recall@k", k=N + 45)
    reward.relevant = [np.array([], dtype=np.int64), *reward.relevant[1:]]
    assert reward.score([0, 1], ["color: red"] * 2).reward.tolist() == [0.0, 1.0]
    for kind in ("recall@k", "ndcg@k"):
        with pytest.raises(InputError, match="k=0 must be at least 1"):
            make(kind, k=0)


def test_nothing_to_say_is_valid_and_retrieves_with_the_offer_alone():
    reward = make("reciprocal_rank")
    scored = reward.score(range(Q), ["none"] * Q)
    assert scored.valid.all()
    np.testing.assert_array_equal(scored.ranks, reward.plain_ranks())
    assert reward.score([0], ["color: unknown"]).reward[0] == scored.reward[0]


def test_faithfulness_is_the_f1_of_pairs():
    labels = [KeyAttributes.of({"color": "red", "size": "m"})] * Q
    reward = make("recall@k", k=N, targets=labels, faithfulness_weight=0.3)
    texts = ["color: red; size: m", "color: red", "color: red; cut: wide", "color: blue", "size: m; color: red", "none"]
    scored = reward.score([0] * len(texts), texts)
    np.testing.assert_allclose(scored.faithfulness, [1, 2 / 3, 1 / 2, 0, 1, 0])
    np.testing.assert_allclose(scored.reward, 1 + 0.3 * scored.faithfulness)
    assert pair_f_score(KeyAttributes(), KeyAttributes()) == 1.0
    # F2: one right and one wrong of two labels is worth more than nothing said
    reward = make("recall@k", k=N, targets=labels, faithfulness_weight=1.0, faithfulness_beta=2.0)
    recall, precision = 1 / 2, 1 / 2
    assert reward.score([0], ["color: red; cut: wide"]).faithfulness[0] == pytest.approx(
        5 * precision * recall / (4 * precision + recall)
    )
    assert reward.score([0], ["color: red"]).faithfulness[0] == pytest.approx(5 * 0.5 / (4 + 0.5))
    # labels alone change nothing
    assert make("recall@k", k=N, targets=labels).score([0], ["color: blue"]).reward[0] == 1.0


def test_labels_are_those_of_the_completions_query():
    labels = [KeyAttributes.of({"color": "red" if row % 2 else "blue"}) for row in range(Q)]
    reward = make("recall@k", k=N, targets=labels, faithfulness_weight=1.0)
    scored = reward.score([5, 4, 5], ["color: red", "color: red", "color: blue"])
    assert scored.faithfulness.tolist() == [1.0, 0.0, 0.0]


def test_length_costs_by_pairs():
    reward = make("recall@k", k=N, length_weight=0.05)
    scored = reward.score([0, 0, 0], ["none", "color: red", "color: red; size: m"])
    np.testing.assert_allclose(scored.reward, [1.0, 0.95, 0.90])


def test_equal_completions_are_embedded_once_and_rewarded_alike():
    encoder = Encoder()
    reward = make("reciprocal_rank", encoder=encoder)
    texts = ["color: red", "Color:  RED", "(color: red)", "color: blue", "bad", "color: red"]
    scored = reward.score([2, 2, 2, 2, 2, 3], texts)
    assert encoder.asked == [[("q2", "color: red"), ("q2", "color: blue"), ("q3", "color: red")]]
    assert scored.reward[0] == scored.reward[1] == scored.reward[2]
    again = reward.score([3, 2], ["color: red", "color: blue"])
    assert again.reward.tolist() == [scored.reward[5], scored.reward[3]]


def test_the_reward_sees_the_query_and_its_attributes_and_nothing_of_the_gallery():
    # a gallery whose texts a completion could copy: the encoder is handed query offers only, and the reward depends on
    # nothing but (query row, attributes)
    encoder = Encoder()
    reward = make("reciprocal_rank", encoder=encoder)
    first = reward.score([1, 7], ["title: title 3", "color: red"])
    assert [name for name, _ in encoder.asked[0]] == ["q1", "q7"]
    shuffled = reward.score([7, 4, 1], ["color: red", "size: m", "title: title 3"])
    assert shuffled.reward[[2, 0]].tolist() == first.reward.tolist()
    prompts = [[{"role": "user", "content": f"gallery {n}"}] for n in range(2)]
    ours = reward(prompts, ["title: title 3", "color: red"], [1, 7])
    theirs = reward(prompts[::-1], ["title: title 3", "color: red"], [1, 7], image=["anything"] * 2, id=["g3", "g4"])
    assert ours == theirs == first.reward.tolist()


def test_as_trls_reward_function():
    logged = {}
    reward = make("recall@k", k=N, targets=[KeyAttributes.of({"color": "red"})] * Q)
    completions = [[{"role": "assistant", "content": "color: red"}], [{"role": "assistant", "content": "oh"}]]
    values = reward([None] * 2, completions, [0, 1], [True, True], logged.__setitem__, trainer_state=None)
    assert values == [1.0, -0.1] and all(type(value) is float for value in values)
    assert logged == {"valid": 0.5, "retrieval": 1.0, "faithfulness": 0.5}  # what is invalid retrieves nothing
    assert reward.__name__ == "retrieval_reward"


def test_trls_token_ids_say_which_completions_were_cut_off():
    reward = make("recall@k", k=N, end_token_ids=[7])
    columns = {"completions": ["color: red"] * 4, "completion_ids": [[1, 7], [1, 2], [], [7, 1]], "query_row": [0] * 4}
    assert reward([None] * 4, **columns) == [1.0, -0.1, -0.1, -0.1]
    with pytest.warns(UserWarning, match="knows no end_token_ids: a completion cut off"):
        assert make("recall@k", k=N)([None] * 4, **columns) == [1.0] * 4


@pytest.mark.parametrize("kind", ["recall@k", "ndcg@k", "margin", "reciprocal_rank", "rank_gain"])
def test_a_query_without_a_relevant_offer_earns_nothing(kind):
    reward = RetrievalReward(Encoder(), QUERIES[:1], GALLERY, [np.array([], dtype=int)], kind=kind, k=N)
    assert reward.score([0], ["color: red"]).reward[0] == 0


def test_equal_scores_are_ranked_in_gallery_order():
    gallery = np.stack([vector("same")] * 5)
    reward = RetrievalReward(Encoder(), QUERIES[:1], gallery, [np.array([2])], kind="reciprocal_rank")
    assert reward.score([0], ["color: red"]).ranks.tolist() == [3]
    reward = RetrievalReward(Encoder(), QUERIES[:1], gallery, [np.array([2, 4])], kind="ndcg@k", k=5)
    expected = (1 / np.log2(4) + 1 / np.log2(6)) / (1 + 1 / np.log2(3))
    assert reward.score([0], ["color: red"]).reward[0] == pytest.approx(expected)


def test_mistakes_are_named():
    with pytest.raises(InputError, match="reward 'recall' is unknown; one of recall@k"):
        make("recall")
    with pytest.raises(InputError, match="1 lists of relevant rows for 12 queries; give one for each"):
        RetrievalReward(Encoder(), QUERIES, GALLERY, [np.array([0])])
    with pytest.raises(InputError, match="faithfulness_beta=0 must be above 0"):
        make(faithfulness_beta=0)
    with pytest.raises(InputError, match="faithfulness_weight needs targets"):
        make(faithfulness_weight=0.3)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=60), min_size=1, max_size=6))
def test_no_completion_breaks_it(texts):
    scored = make("reciprocal_rank").score([0] * len(texts), texts)
    assert np.isfinite(scored.reward).all()
    assert ((scored.reward == -0.1) == ~scored.valid).all()


# only what is true retrieves


def test_with_true_pairs_the_embedder_is_shown_what_labels_confirm():
    encoder = Encoder()
    labels = [KeyAttributes.of({"color": "red", "size": "m"})] * Q
    reward = make("reciprocal_rank", encoder=encoder, targets=labels, rewarded_pairs="true")
    texts = ["color: red", "color: red; secret: 7", "size: l; color: red", "color: blue", "none", "size: m; color: red"]
    scored = reward.score([2] * len(texts), texts)
    assert encoder.asked == [[("q2", "color: red"), ("q2", "none"), ("q2", "size: m; color: red")]]
    assert scored.reward[0] == scored.reward[1] == scored.reward[2]
    assert scored.reward[3] == scored.reward[4] == 1 / reward.plain_ranks()[2]
    assert scored.valid.all()
    # what is false still lowers F1
    reward = make("reciprocal_rank", targets=labels, rewarded_pairs="true", faithfulness_weight=1.0)
    assert reward.score([2, 2], texts[:2]).reward.tolist() == sorted(reward.score([2, 2], texts[:2]).reward)[::-1]


def test_all_pairs_is_the_papers_reward_whatever_the_labels():
    labels = [KeyAttributes.of({"color": "red"})] * Q
    rows, completions = all_pairs()
    with_labels = make("margin", targets=labels).score(rows, completions).reward
    np.testing.assert_array_equal(with_labels, make("margin").score(rows, completions).reward)


def test_mistakes_of_rewarded_pairs_are_named():
    with pytest.raises(InputError, match="rewarded_pairs 'some' is unknown; 'true' or 'all'"):
        make(rewarded_pairs="some")
    with pytest.raises(InputError, match="rewarded_pairs 'true' needs targets"):
        make(rewarded_pairs="true")


# the gallery in blocks


def wide_gallery(num_rows=5003, dimension=96, copies=7, seed=0):
    """Unit rows among which one stands `copies` times, at places that fall into different kernels of BLAS."""
    draw = np.random.default_rng(seed)
    rows = draw.normal(size=(num_rows, dimension)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    places = np.sort(draw.choice(num_rows, copies, replace=False))
    places[-1] = num_rows - 1
    rows[places] = rows[places[0]]
    return rows, places


@pytest.mark.parametrize("block_bytes", [1, 20_000, 10**6, 64 * 10**6])
def test_ranks_of_equal_offers_do_not_depend_on_blocks_or_company(block_bytes):
    rows, places = wide_gallery()
    frozen = FrozenGallery(rows, block_bytes=block_bytes)
    draw = np.random.default_rng(1)
    queries = draw.normal(size=(40, rows.shape[1])).astype(np.float32)
    queries[::2] += 30 * rows[places[0]]  # near the copies, whose scores are then equal and high
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    relevant = [places[[place % len(places)]] for place in range(len(queries))]
    found = frozen.place(queries, relevant, hardest=True)
    scores = (queries.astype(np.float64) @ rows.astype(np.float64).T).astype(np.float32)
    scores[:, places] = scores[:, places[:1]]
    for row, ours in enumerate(relevant):
        score, place = scores[row, ours[0]], ours[0]
        above = int((scores[row] > score).sum()) + int((scores[row, :place] == score).sum())
        assert found.ranks[row] == 1 + above
    # the copies stand in gallery order, and each of a query's answers the same alone as in company
    for size in (1, 3, 17):
        for start in range(0, len(queries) - size, 7):
            part = slice(start, start + size)
            alone = frozen.place(queries[part], relevant[part], hardest=True)
            np.testing.assert_array_equal(alone.ranks, found.ranks[part])
            np.testing.assert_array_equal(alone.best_scores, found.best_scores[part])
            np.testing.assert_array_equal(alone.hardest_scores, found.hardest_scores[part])
    equal = frozen.place(np.repeat(rows[places[:1]], len(places), axis=0), [places[[n]] for n in range(len(places))])
    assert equal.ranks.tolist() == list(range(1, len(places) + 1))


def test_hardest_and_all_ranks_by_brute_force():
    draw = np.random.default_rng(4)
    rows = draw.normal(size=(300, 12)).astype(np.float32)
    queries = draw.normal(size=(25, 12)).astype(np.float32)
    relevant = [np.sort(draw.choice(300, size, replace=False)) for size in draw.integers(0, 5, 25)]
    found = FrozenGallery(rows, block_bytes=5000).place(queries, relevant, all_ranks=True, hardest=True)
    for row, own in enumerate(relevant):
        scores = queries[row].astype(np.float64) @ rows.astype(np.float64).T
        order = np.argsort(-scores)
        assert found.relevant_ranks[row].tolist() == [1 + n for n, offer in enumerate(order) if offer in own]
        assert found.hardest_scores[row] == pytest.approx(np.delete(scores, own).max(), abs=1e-6)
        if len(own):
            assert found.best_scores[row] == pytest.approx(scores[own].max(), abs=1e-6)
        else:
            assert found.ranks[row] == 301 and np.isnan(found.best_scores[row])
    # where the relevant ones fill the top, the hardest other comes after them
    best = np.argsort(-(queries[0].astype(np.float64) @ rows.astype(np.float64).T))
    other = np.argsort(-(queries[1].astype(np.float64) @ rows.astype(np.float64).T))
    found = FrozenGallery(rows).place(queries[:2], [np.sort(best[:3]), other[:2]], hardest=True)
    assert found.hardest_scores[0] == pytest.approx(float(queries[0] @ rows[best[3]]), abs=1e-5)
    assert found.hardest_scores[1] == pytest.approx(float(queries[1] @ rows[other[2]]), abs=1e-5)
    everyone = FrozenGallery(rows[:2]).place(queries[:1], [np.array([0, 1])], hardest=True)
    assert np.isnan(everyone.hardest_scores[0])
    assert not len(FrozenGallery(rows).place(queries[:0], [], hardest=True).hardest_scores)


def test_memory_of_scoring_is_what_the_flag_says():
    import tracemalloc

    draw = np.random.default_rng(0)
    queries = draw.normal(size=(96, 8)).astype(np.float32)
    relevant = [np.array([place]) for place in range(96)]
    peaks = {}
    for size in (20_000, 200_000):
        frozen = FrozenGallery(draw.normal(size=(size, 8)).astype(np.float32), block_bytes=2 * 10**6)
        tracemalloc.start()
        frozen.place(queries, relevant, hardest=True)
        peaks[size] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert max(peaks.values()) < 4 * 10**6 < 96 * 200_000 * 4  # all scores of the larger: 77 MB
    assert peaks[200_000] < 1.5 * peaks[20_000]
    with pytest.raises(InputError, match="blocks of 0 bytes hold nothing"):
        make(score_block_bytes=0)


def test_a_gallery_that_cannot_be_compared_is_refused_at_once():
    broken = GALLERY.copy()
    broken[3, 1] = np.nan
    with pytest.raises(InputError, match="gallery embedding of row 3 is not finite"):
        RetrievalReward(Encoder(), QUERIES, broken, [np.array([0])] * Q)


def test_values_that_are_one_are_right_however_they_are_written():
    """Without a schema nothing brings them to one spelling before they are compared."""
    labels = KeyAttributes.of({"volume": "1500 ml", "颜色": "深红", "重量": "1.5公斤", "cut": "wide"})
    written = KeyAttributes.of({"volume": "1.5 L", "颜色": "深 红", "重量": "1500克", "cut": "slim"})
    assert pair_f_score(written, labels) == 0.75
    assert [key for key, _ in true_pairs(written, labels)] == ["volume", "颜色", "重量"]
    assert attribute_accuracy([written], [labels])["volume"]["recall"] == 1.0
    assert attribute_accuracy([written], [labels])["cut"]["recall"] == 0.0
