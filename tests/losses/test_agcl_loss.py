import json
import math
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import losses as st_losses
from torch import nn

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.attributes.relations import AttributeBM25, product_codes
from afmrl.errors import InputError
from afmrl.losses.agcl import MISSING, AttributeGuidedContrastiveLoss, LogLossStatistics
from reference_agcl import Options, agcl

VALUES = {"color": ("red", "deep red", "blue"), "size": ("m", "l"), "brand": ("acme", "bolt"), "cut": ("v neck", "a")}
BOTH = ("query_to_doc", "doc_to_query")
VARIANTS = [
    Options(),
    Options(weight_positive=False),
    Options(gain=2.5),
    Options(scaling="row"),
    Options(scaling="corpus", gain=3.0),
    Options(weighting="cosine", gain=9.0),
    Options(weighting="none"),
    Options(temperature=0.02, rules=("margin",)),
    Options(rules=("margin",), margin=0.0),
    Options(rules=("closeness",), margin=0.2),
    Options(rules=("agreement",), agreement_min_shared=1),
    Options(rules=("agreement",), agreement_min_shared=2),
    Options(rules=("label",)),
    Options(rules=("margin", "agreement", "label"), combine="any"),
    Options(rules=("closeness", "agreement"), combine="all", margin=0.5, agreement_min_shared=1),
    Options(top_k_hardest=2),
    Options(top_k_hardest=3, weighting="cosine", rules=("label",)),
    Options(directions=BOTH),
    Options(directions=BOTH, rules=("margin", "agreement"), scaling="row", weight_positive=False, top_k_hardest=4),
]
SEVERAL = [
    Options(num_positives=2),
    Options(num_positives=3, rules=("margin",), margin=0.0),
    Options(num_positives=2, rules=("closeness", "label"), margin=0.2, directions=BOTH),
    Options(num_positives=2, weighting="cosine", gain=9.0, top_k_hardest=2),
    Options(num_positives=2, weighting="none"),
    Options(num_positives=3, directions=BOTH, rules=("agreement",), weight_positive=False, scaling="row"),
    Options(num_positives=2, rules=("margin", "agreement"), combine="all", agreement_min_shared=1, top_k_hardest=3),
]


NO_MODEL = nn.Sequential(nn.Identity())  # hands on the embeddings it is given


class Batch:
    """Random embeddings near their positives, over a table of offers: rows of anchors and candidates differ."""

    def __init__(self, seed, size=6, columns=2, num_offers=14, dim=5):
        draw = np.random.default_rng(seed)
        self.offers = [
            {key: str(draw.choice(values)) for key, values in VALUES.items() if draw.random() < 0.7}
            for _ in range(num_offers)
        ]
        self.products = [str(draw.choice(["p", "q", "r", "s", ""])) for _ in range(num_offers)]
        self.rows = draw.integers(0, num_offers, (size, columns))
        base = draw.normal(size=(size, dim))
        self.columns = [base + draw.normal(size=base.shape) * scale for scale in (0.7, 0.7, 0.9, 0.9, 0.9)[:columns]]
        self.frozen = draw.normal(size=(num_offers, 3))  # of a frozen model, by row number

    def lose(self, num_positives):
        """Leave out some of the positives after the first, and some of the curated negatives."""
        for row in range(len(self.rows)):
            for column in range(2, self.rows.shape[1]):
                if (row + column) % 3 == 0:
                    self.rows[row, column] = MISSING
        assert num_positives == 1 or (self.rows[:, 2 : num_positives + 1] == MISSING).any()

    @property
    def table(self):
        return [KeyAttributes.of(offer) for offer in self.offers]

    def reference(self, options, unknown=(), frozen=False):
        """`unknown`: columns without row numbers; `frozen`: rules look at the frozen model."""
        padded, products = [*self.offers, {}], [*self.products, ""]
        rows = self.rows.copy()
        missing = {(int(column), int(row)) for row, column in zip(*np.nonzero(rows == MISSING), strict=True)}
        rows[rows == MISSING] = -1
        rows[:, list(unknown)] = -1
        embeddings = [*self.frozen, None]
        return agcl(
            self.columns,
            [[padded[row] for row in column] for column in rows.T],
            self.offers,
            options,
            [[products[row] for row in column] for column in rows.T],
            missing,
            [[embeddings[row] for row in column] for column in rows.T] if frozen else None,
        )

    def loss(self, options, *, mini_batch_size=None, labels=None, **more):
        """Loss and gradients of afmrl's implementation, in double precision; in blocks with `mini_batch_size`."""
        loss = make_loss(self, options, mini_batch_size=mini_batch_size, **more)
        return evaluate(loss, self.columns, self.rows if labels is None else labels, cached=mini_batch_size is not None)


def make_loss(batch, options, **more):
    given = {**asdict(options), **more}
    if "label" in options.rules:
        given.setdefault("product_ids", batch.products)
    return AttributeGuidedContrastiveLoss(NO_MODEL, batch.table, **given)


def evaluate(loss, columns, labels, cached=False, pieces=2):
    tensors = [torch.tensor(column, requires_grad=True) for column in columns]
    reps = [list(tensor.split(pieces)) for tensor in tensors]
    value = loss.calculate_loss(reps, None if labels is None else torch.as_tensor(labels), with_backward=cached)
    assert value.requires_grad is not cached
    if not cached:
        value.backward()
    return value.item(), [tensor.grad.numpy() for tensor in tensors]


def assert_equal(found, wanted):
    # BM25 is single precision; the rest is double
    assert found[0] == pytest.approx(wanted[0], rel=1e-5, abs=1e-7)
    for ours, theirs in zip(found[1], wanted[1], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("mini_batch_size", [None, 4])
@pytest.mark.parametrize("columns", [2, 4])
@pytest.mark.parametrize("options", VARIANTS, ids=range(len(VARIANTS)))
def test_value_and_gradients_equal_the_formula(options, columns, mini_batch_size):
    for seed in range(3):
        batch = Batch(seed, columns=columns)
        assert_equal(batch.loss(options, mini_batch_size=mini_batch_size), batch.reference(options))


@pytest.mark.parametrize("mini_batch_size", [None, 4])
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("options", SEVERAL, ids=range(len(SEVERAL)))
def test_several_positives_equal_the_formula(options, frozen, mini_batch_size):
    for seed, columns, lose in [(0, 4, False), (1, 5, True), (2, options.num_positives + 1, True)]:
        batch = Batch(seed, columns=columns)
        if lose:
            batch.lose(options.num_positives)
        more = {"reference": batch.frozen} if frozen else {}
        found = batch.loss(options, mini_batch_size=mini_batch_size, **more)
        assert_equal(found, batch.reference(options, frozen=frozen))


@settings(max_examples=60, deadline=None)
@given(
    st.builds(
        Options,
        temperature=st.sampled_from([0.02, 0.1, 1.0]),
        weighting=st.sampled_from(["bm25", "cosine", "none"]),
        weight_positive=st.booleans(),
        gain=st.floats(0, 4),
        scaling=st.sampled_from(["raw", "row", "corpus"]),
        rules=st.lists(st.sampled_from(["margin", "closeness", "agreement", "label"]), unique=True).map(tuple),
        combine=st.sampled_from(["any", "all"]),
        margin=st.floats(0.01, 0.5),
        agreement_min_shared=st.integers(1, 4),
        top_k_hardest=st.sampled_from([None, 1, 3]),
        directions=st.sampled_from([BOTH[:1], BOTH]),
        num_positives=st.integers(1, 3),
    ),
    st.integers(0, 2**20),
    st.integers(1, 7),
    st.integers(0, 2),
    st.sampled_from([None, 1, 3]),
    st.booleans(),
    st.data(),
)
def test_any_options_equal_the_formula(options, seed, size, curated, mini_batch_size, frozen, data):
    batch = Batch(seed, size=size, columns=min(1 + options.num_positives + curated, 5))
    lost = st.lists(st.booleans(), min_size=batch.rows[:, 2:].size, max_size=batch.rows[:, 2:].size)
    batch.rows[:, 2:][np.array(data.draw(lost), dtype=bool).reshape(size, -1)] = MISSING
    loss = AttributeGuidedContrastiveLoss(
        NO_MODEL,
        batch.table,
        **{**asdict(options), "mini_batch_size": mini_batch_size, "product_ids": batch.products},
        reference=batch.frozen if frozen else None,
    )
    found = evaluate(loss, batch.columns, batch.rows, cached=mini_batch_size is not None)
    assert_equal(found, batch.reference(options, frozen=frozen))
    statistics = json.loads(json.dumps(loss.last_statistics, allow_nan=False))
    assert 0 <= statistics["masked_share"] <= 1


@pytest.mark.parametrize("num_positives", [1, 2])
def test_the_reference_gradient_is_the_slope_of_its_loss(num_positives):
    batch = Batch(1, size=4, columns=3)
    options = Options(temperature=0.2, rules=("agreement",), directions=BOTH, num_positives=num_positives)
    _, gradients = batch.reference(options)
    for column, row, axis in [(0, 1, 2), (1, 3, 0), (2, 0, 4)]:
        values = []
        for step in (1e-6, -2e-6):
            batch.columns[column][row, axis] += step
            values.append(batch.reference(options)[0])
        batch.columns[column][row, axis] += 1e-6
        assert (values[0] - values[1]) / 2e-6 == pytest.approx(gradients[column][row, axis], rel=1e-4, abs=1e-7)


def test_published_weight_by_hand():
    # two queries at right angles to everything: cosines are 0, what is left are the weights
    table = [KeyAttributes.of({"color": "red"}), KeyAttributes.of({"color": "blue"})]
    own = AttributeBM25(table).scores([0], [0])[0, 0]
    loss = AttributeGuidedContrastiveLoss(NO_MODEL, table, rules=())
    columns = [np.tile([[1.0, 0.0]], (2, 1)), np.tile([[0.0, 1.0]], (2, 1))]
    value, _ = evaluate(loss, columns, [0, 1])
    positive, negative = math.exp(1 + math.tanh(own)), math.exp(1 + math.tanh(0))
    assert value == pytest.approx(-math.log(positive / (positive + negative)), rel=1e-6)
    assert loss.last_statistics["mean_offset"] == pytest.approx(-math.tanh(own), rel=1e-5)


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("directions", [BOTH[:1], BOTH])
def test_without_weights_and_rules_it_is_multiple_negatives_ranking(directions, cached):
    batch = Batch(5, columns=4)
    options = Options(weighting="none", directions=directions)
    found = batch.loss(options, mini_batch_size=2 if cached else None)
    assert_equal(found, theirs(batch, directions=directions))


def test_cosine_weighting_is_their_hardness():
    batch = Batch(5, columns=3)
    wanted = theirs(batch, hardness_mode="all_negatives", hardness_strength=9.0)
    assert_equal(batch.loss(Options(weighting="cosine", gain=9.0)), wanted)


def theirs(batch, **options):
    loss = st_losses.MultipleNegativesRankingLoss(NO_MODEL, scale=20.0, partition_mode="per_direction", **options)
    tensors = [torch.tensor(column, requires_grad=True) for column in batch.columns]
    value = loss.compute_loss_from_embeddings(tensors, None)
    value.backward()
    return value.item(), [tensor.grad.numpy() for tensor in tensors]


@pytest.mark.parametrize("mini_batch_size", [None, 2])
@pytest.mark.parametrize("num_positives", [1, 2])
def test_a_permuted_batch_has_permuted_gradients(mini_batch_size, num_positives):
    options = Options(rules=("agreement", "margin"), directions=BOTH, top_k_hardest=3, num_positives=num_positives)
    batch = Batch(7, columns=4)
    batch.lose(num_positives)
    value, gradients = batch.loss(options, mini_batch_size=mini_batch_size)
    order = np.array([3, 0, 5, 1, 4, 2])
    batch.columns, batch.rows = [column[order] for column in batch.columns], batch.rows[order]
    assert_equal(batch.loss(options, mini_batch_size=mini_batch_size), (value, [g[order] for g in gradients]))


@pytest.mark.parametrize("mini_batch_size", [None, 2])
class TestEdges:
    def check(self, batch, options, mini_batch_size):
        found = batch.loss(options, mini_batch_size=mini_batch_size)
        assert_equal(found, batch.reference(options))
        assert all(np.isfinite(gradient).all() for gradient in found[1])
        return found

    def test_no_attributes_at_all(self, mini_batch_size):
        batch = Batch(0)
        batch.offers = [{} for _ in batch.offers]
        plain = batch.loss(Options(weighting="none"))
        for scaling in ("raw", "row", "corpus"):
            # every weight is e, the positive's too: nothing changes
            found = self.check(batch, Options(rules=("agreement",), scaling=scaling), mini_batch_size)
            assert_equal(found, plain)

    def test_every_negative_masked(self, mini_batch_size):
        batch = Batch(0)
        batch.offers = [{"color": "red", "size": "m"} for _ in batch.offers]
        value, gradients = self.check(batch, Options(rules=("agreement",), directions=BOTH), mini_batch_size)
        assert value == pytest.approx(0, abs=1e-12)
        assert not any(gradient.any() for gradient in gradients)

    def test_every_in_batch_negative_masked_leaves_the_curated(self, mini_batch_size):
        batch = Batch(0, columns=3)
        batch.offers = [{"color": "red", "size": "m"} for _ in batch.offers]
        value, _ = self.check(batch, Options(rules=("agreement",)), mini_batch_size)
        assert value > 0

    def test_batch_of_one(self, mini_batch_size):
        value, _ = self.check(Batch(0, size=1), Options(rules=("margin",), top_k_hardest=1), mini_batch_size)
        assert value == pytest.approx(0, abs=1e-12)
        assert self.check(Batch(0, size=1, columns=3), Options(top_k_hardest=1), mini_batch_size)[0] > 0

    def test_duplicate_offers(self, mini_batch_size):
        batch = Batch(3)
        for column in batch.columns:
            column[4] = column[1]
        batch.rows[4] = batch.rows[1] = 2
        batch.offers[2] = {"color": "red", "size": "m", "brand": "acme"}
        weighted, _ = self.check(batch, Options(), mini_batch_size)
        masked, _ = self.check(batch, Options(rules=("agreement",)), mini_batch_size)
        close, _ = self.check(batch, Options(rules=("closeness",), margin=0.01), mini_batch_size)
        assert masked < weighted and close < weighted
        # equal ones at the k-th place all stay, though their cosines are rounded apart: order does not matter
        for factor in (3.0, 0.7, 1.3, 11.0, 1e-3):
            batch.columns[1][4] = batch.columns[1][1] * factor
            for k in (1, 2, 3, 4):
                self.check(batch, Options(top_k_hardest=k), mini_batch_size)

    def test_chinese_and_mixed_attributes(self, mini_batch_size):
        # the reference knows words between spaces only: characters and bigrams are written out for it
        batch, spelled = Batch(4, num_offers=4), Batch(4, num_offers=4)
        batch.offers = [
            {"颜色": "深红", "size": "m"},
            {"颜色": "红", "size": "m"},
            {"颜色": "deep 红", "尺寸": "大"},
            {"颜色": "blue"},
        ]
        spelled.offers = [{**offer} for offer in batch.offers]
        spelled.offers[0]["颜色"] = "深 红 深红"
        for options in (Options(), Options(scaling="row"), Options(rules=("agreement",), agreement_min_shared=1)):
            assert_equal(batch.loss(options, mini_batch_size=mini_batch_size), spelled.reference(options))

    def test_one_very_long_attribute(self, mini_batch_size):
        batch = Batch(2)
        batch.offers[int(batch.rows[0, 1])]["notes"] = " ".join(f"w{i}" for i in range(500))
        self.check(batch, Options(rules=("agreement",)), mini_batch_size)


def test_curated_negatives_stay_and_those_of_others_are_masked():
    batch = Batch(0, size=2, columns=3, num_offers=1)
    batch.offers, batch.rows = [{"color": "red", "size": "m"}], np.zeros((2, 3), dtype=int)
    _, gradients = batch.loss(Options(rules=("agreement",)))
    alone = Batch(0, size=2, columns=3, num_offers=1)
    alone.offers, alone.rows = batch.offers, batch.rows[:1]
    alone.columns = [column[:1] for column in batch.columns]
    value, alone_gradients = alone.loss(Options(rules=("agreement",)))
    assert value > 0
    # with everything of the other query masked, query 0 sees its own curated negative only
    np.testing.assert_allclose(gradients[2][0], alone_gradients[2][0] / 2, rtol=1e-6)


def test_labels_in_three_forms():
    batch = Batch(6, columns=3)
    options = Options(rules=("agreement",), agreement_min_shared=1)
    full = batch.loss(options)
    assert_equal(full, batch.reference(options))
    # without a row of its own a curated negative is an offer without attributes
    assert_equal(batch.loss(options, labels=batch.rows[:, :2]), batch.reference(options, unknown=[2]))
    batch.rows[:, 1] = batch.rows[:, 0]
    assert_equal(batch.loss(options, labels=batch.rows[:, 0]), batch.reference(options, unknown=[2]))
    assert not np.allclose(full[0], batch.reference(options)[0])


def test_two_positives_by_hand():
    # the mean of the two losses in which the other positive is no candidate
    batch = Batch(1, size=5, columns=3)
    both = batch.loss(Options(num_positives=2, weighting="none"))[0]
    terms = []
    for own, other in ((1, 2), (2, 1)):
        anchors, positives, others = (
            column / np.linalg.norm(column, axis=1, keepdims=True)
            for column in (batch.columns[0], batch.columns[own], batch.columns[other])
        )
        logits = np.concatenate([anchors @ positives.T, anchors @ others.T], axis=1) / 0.05
        logits[np.arange(5), 5 + np.arange(5)] = -np.inf
        terms.append(np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(5), np.arange(5)])
    assert both == pytest.approx(np.mean(terms), rel=1e-6)


def test_a_missing_column_changes_nothing_for_anyone():
    options = Options(num_positives=2, directions=BOTH, rules=("margin", "agreement"), scaling="row")
    batch = Batch(4, size=5, columns=4)
    batch.rows[:, 2:] = MISSING
    value, gradients = batch.loss(options)
    batch.columns, batch.rows = batch.columns[:2], batch.rows[:, :2]
    assert_equal((value, gradients[:2]), batch.loss(replace(options, num_positives=1)))
    assert not gradients[2].any() and not gradients[3].any()
    # a label says so even where no row number is asked for
    lacking = Batch(4, size=5, columns=4)
    lacking.rows[:, 2:] = MISSING
    none = Options(weighting="none")
    assert_equal((lacking.loss(none)[0], []), (batch.loss(none)[0], []))


def test_an_offer_of_the_querys_product_is_never_its_negative():
    options = Options(rules=("label",), num_positives=2)
    batch = Batch(0, size=3, columns=4, num_offers=4)
    batch.products, batch.rows = ["p", "p", "q", "r"], np.array([[0, 1, 0, 3], [1, 0, 0, 2], [2, 2, MISSING, 1]])
    _, gradients = batch.loss(options)
    alone = Batch(0, size=3, columns=4, num_offers=4)
    alone.products, alone.rows = batch.products, batch.rows
    alone.columns[1][0] *= -1  # positives of query 0: negatives of query 2 alone, whose loss moves
    assert_equal(alone.loss(options), alone.reference(options))
    assert not gradients[2][2].any()


def test_margin_of_a_frozen_reference():
    batch = Batch(2, columns=3)
    batch.rows[1, 1] = batch.rows[4, 0] = -1  # nothing known: nothing called
    for options in (Options(rules=("margin",), margin=0.0), Options(rules=("closeness",), margin=0.3, directions=BOTH)):
        found = batch.loss(options, reference=batch.frozen)
        assert_equal(found, batch.reference(options, frozen=True))
        assert not np.isclose(found[0], batch.reference(options)[0])
        # it trusts no model that is trained: no warm-up
        assert_equal(batch.loss(options, reference=batch.frozen, warmup_steps=9), found)
        # the length of its rows says nothing
        assert_equal(batch.loss(options, reference=batch.frozen * 7), found)
    halves = {"candidate_attributes": batch.table[7:], "reference": batch.frozen[:7]}
    batch.rows = np.stack([np.arange(6), np.arange(6), np.arange(6)], axis=1)
    options = Options(rules=("margin",), margin=0.0)
    loss = AttributeGuidedContrastiveLoss(
        NO_MODEL, batch.table[:7], candidate_reference=batch.frozen[7:], **{**asdict(options), **halves}
    )
    found = evaluate(loss, batch.columns, batch.rows)
    batch.rows[:, 1:] += 7
    assert_equal(found, batch.reference(options, frozen=True))


def test_candidates_may_have_a_table_of_their_own():
    batch = Batch(8)
    options = Options(rules=("agreement", "label"), agreement_min_shared=1, directions=BOTH)
    half = len(batch.offers) // 2
    wanted_rows = batch.rows.copy()
    batch.rows = np.arange(len(batch.rows))
    found = evaluate(
        AttributeGuidedContrastiveLoss(
            NO_MODEL,
            batch.table[:half],
            candidate_attributes=batch.table[half:],
            product_ids=batch.products[:half],
            candidate_product_ids=batch.products[half:],
            **asdict(options),
        ),
        batch.columns,
        batch.rows,
    )
    batch.rows = np.stack([batch.rows, batch.rows + half], axis=1)
    assert batch.rows.shape == wanted_rows.shape
    assert_equal(found, batch.reference(options))


def test_warm_up_holds_back_the_rules_that_trust_the_model():
    batch = Batch(3)
    loss = make_loss(batch, Options(rules=("closeness",), margin=2.0), warmup_steps=2)
    columns = [{"sentence_embedding": torch.tensor(column, requires_grad=True)} for column in batch.columns]
    values = [loss(columns, torch.tensor(batch.rows)).item() for _ in range(3)]
    assert values[0] == values[1] == pytest.approx(batch.reference(Options())[0], rel=1e-5)
    assert values[2] == pytest.approx(0, abs=1e-12)
    with torch.no_grad():
        loss(columns, torch.tensor(batch.rows))
    assert loss.num_batches == 3
    waiting = make_loss(batch, Options(rules=("agreement", "margin"), combine="all"), warmup_steps=1)
    assert_equal(evaluate(waiting, batch.columns, batch.rows), batch.reference(Options()))


@pytest.mark.parametrize("mini_batch_size", [None, 2])
def test_statistics(mini_batch_size):
    batch = Batch(3, size=4, num_offers=3)
    batch.offers = [{"color": "red", "size": "m"}, {"color": "red", "size": "l"}, {"color": "blue"}]
    batch.products = ["p", "p", ""]
    batch.rows = np.array([[0, 0], [1, 1], [2, 2], [2, 2]])
    loss = make_loss(batch, Options(rules=("label",)), mini_batch_size=mini_batch_size)
    assert loss.last_statistics == {}
    for _ in range(2):  # of the last batch alone
        evaluate(loss, batch.columns, batch.rows, cached=mini_batch_size is not None)
    weights = np.tanh(AttributeBM25(batch.table).scores(batch.rows[:, 0], batch.rows[:, 1]))
    kept = ~np.eye(4, dtype=bool)
    kept[0, 1] = kept[1, 0] = False
    found = loss.last_statistics
    assert found["masked_share"] == pytest.approx(2 / 12)
    assert found["mean_offset"] == pytest.approx(float((weights - np.diag(weights)[:, None])[kept].mean()))
    assert found["num_negatives"] == 12


@pytest.mark.parametrize("mini_batch_size", [None, 2])
def test_statistics_of_each_rule(mini_batch_size):
    batch = Batch(3, size=4, num_offers=4)
    batch.offers = [{"color": "red", "size": "m"}] * 2 + [{"color": "red", "size": "l"}, {"color": "blue"}]
    batch.products = ["p", "q", "p", ""]
    batch.rows = np.array([[0, 0], [1, 1], [2, 2], [3, 3]])
    options = Options(rules=("agreement", "label"))
    loss = make_loss(batch, options, mini_batch_size=mini_batch_size)
    evaluate(loss, batch.columns, batch.rows, cached=mini_batch_size is not None)
    found = loss.last_statistics
    # agreement calls 0-1 (wrongly), the label 0-2; of the pairs with 3 nothing is known
    assert found["masked_share"] == pytest.approx(4 / 12)
    assert found["masked_share_agreement"] == found["masked_share_label"] == pytest.approx(2 / 12)
    assert found["same_product_share"] == pytest.approx(2 / 6)
    assert (found["precision"], found["recall"]) == (0.5, 1.0)
    assert (found["precision_agreement"], found["recall_agreement"]) == (0.0, 0.0)
    assert (found["precision_label"], found["recall_label"]) == (1.0, 1.0)
    # ids alone are enough
    loss = make_loss(batch, replace(options, rules=("agreement",)), product_ids=batch.products)
    evaluate(loss, batch.columns, batch.rows)
    assert (loss.last_statistics["precision"], loss.last_statistics["recall"]) == (0.0, 0.0)
    loss = make_loss(batch, replace(options, rules=()), product_ids=["a", "b", "c", "d"])
    evaluate(loss, batch.columns, batch.rows)
    assert (loss.last_statistics["precision"], loss.last_statistics["recall"]) == (None, None)
    json.dumps(loss.last_statistics, allow_nan=False)


def test_offsets_by_decile():
    batch = Batch(3, size=40, num_offers=30)
    loss = make_loss(batch, Options(gain=2.0))
    evaluate(loss, batch.columns, batch.rows)
    found = loss.last_statistics
    similarity = AttributeBM25(batch.table).scores(batch.rows[:, 0], batch.rows[:, 1])
    moved = 2 * (np.tanh(similarity) - np.tanh(np.diag(similarity))[:, None])
    negatives = ~np.eye(40, dtype=bool)
    top = similarity >= np.quantile(similarity[negatives], 0.9)
    assert found["bm25_by_decile"][-1] == pytest.approx(similarity[top & negatives].mean(), rel=0.05)
    assert found["offset_by_decile"][-1] == pytest.approx(moved[top & negatives].mean(), rel=0.05, abs=0.02)
    lexical = [value for value in found["bm25_by_decile"] if value is not None]
    assert lexical == sorted(lexical) and len(found["bm25_by_decile"]) == len(found["offset_by_decile"]) == 10
    assert found["bm25_by_decile"][0] == 0  # no word in common, in more than a tenth of the pairs
    assert "offset_by_decile" not in _statistics_of(batch, Options(weighting="none"))


def _statistics_of(batch, options):
    loss = make_loss(batch, options)
    evaluate(loss, batch.columns, batch.rows)
    return loss.last_statistics


def test_half_precision_embeddings_are_compared_in_single():
    batch = Batch(3)
    rounded = [torch.tensor(column).bfloat16() for column in batch.columns]
    loss = make_loss(batch, Options())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss.calculate_loss([[column] for column in rounded], torch.tensor(batch.rows))
    batch.columns = [column.double().numpy() for column in rounded]
    assert value.item() == pytest.approx(batch.reference(Options())[0], rel=1e-5)
    assert value.item() > 0.05


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weighting": "tfidf"}, "weighting='tfidf' is unknown; one of bm25, cosine, none"),
        ({"rules": ["agreement", "guess"]}, "rules='guess' is unknown"),
        ({"directions": ("doc_to_query",)}, "must hold 'query_to_doc'"),
        ({"temperature": 0}, "temperature=0 must be above 0"),
        ({"mini_batch_size": 0}, "mini_batch_size=0 must be at least 1"),
        ({"top_k_hardest": 0}, "top_k_hardest=0 must be at least 1"),
        ({"margin": -0.1}, "margin=-0.1 must be at least 0"),
        ({"num_positives": 0}, "num_positives=0 must be at least 1"),
        ({"reference": np.ones((3, 4))}, r"reference of shape \(3, 4\).* each of the 2 rows"),
        (
            {
                "candidate_attributes": [KeyAttributes()],
                "reference": np.ones((2, 4)),
                "candidate_reference": np.ones((2, 4)),
            },
            r"candidate_reference of shape \(2, 4\).* each of the 1 rows",
        ),
        (
            {"candidate_attributes": [KeyAttributes()] * 2, "reference": [[1.0], [1.0]]},
            "reference needs candidate_reference",
        ),
        (
            {"candidate_attributes": [KeyAttributes()] * 2, "product_ids": ["a", "b"]},
            "candidate_product_ids with a table of candidates, one for each row: 2 for 4 rows",
        ),
        ({"candidate_reference": np.ones((2, 4))}, "go with candidate_attributes"),
        ({"product_ids": [["a"], ["b"]]}, r"product_ids: row 0 holds \['a'\]"),
        ({"rules": ["label"]}, "'label' needs product_ids.*0 for 2 rows"),
        ({"rules": ["label"], "product_ids": ["a"]}, "1 for 2 rows"),
        ({"lexical": AttributeBM25([KeyAttributes()])}, "made of 1 offers, the table has 2"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(InputError, match=message):
        AttributeGuidedContrastiveLoss(NO_MODEL, [KeyAttributes(), KeyAttributes()], **options)


@pytest.mark.parametrize("options", [{}, {"weighting": "none"}])
def test_plain_dicts_are_no_attributes(options):
    with pytest.raises(InputError, match="attributes: row 1 is of the type dict; make it with .*KeyAttributes.of"):
        AttributeGuidedContrastiveLoss(NO_MODEL, [KeyAttributes(), {"cm": "10"}], **options)


def test_ids_may_come_from_a_table_with_empty_cells():
    column = np.array([1.0, float("nan"), float("nan"), 1.0, 2.0])
    loss = AttributeGuidedContrastiveLoss(
        NO_MODEL, [KeyAttributes()] * 5, rules=(rule for rule in ["label", "agreement"]), product_ids=column
    )
    same = loss._table.products.against([0, 1, 2, 3, 4])([0, 1, 2])
    assert same.tolist() == [[True, False, False, True, False], [False] * 5, [False] * 5]
    assert loss.rules == ("label", "agreement") and loss._table.agreement is not None
    assert product_codes([0, 1, 0, None, "", "0"]).tolist() == [0, 1, 0, -1, -1, 2]


@pytest.mark.parametrize("mini_batch_size", [None, 2])
def test_under_matryoshka_a_batch_counts_once_and_warms_all_dimensions_alike(text_model, mini_batch_size):
    def under_matryoshka(**options):
        loss = AttributeGuidedContrastiveLoss(text_model, TEXT_TABLE, mini_batch_size=mini_batch_size, **options)
        return loss, st_losses.MatryoshkaLoss(text_model, loss, [32, 16, 8])

    loss, wrapped = under_matryoshka(rules=("closeness",), margin=2.0, warmup_steps=2)
    values = [parameter_gradients(text_model, wrapped)[0] for _ in range(3)]
    cold = parameter_gradients(text_model, under_matryoshka(rules=())[1])[0]
    warm = parameter_gradients(text_model, under_matryoshka(rules=("closeness",), margin=2.0)[1])[0]
    assert values == pytest.approx([cold, cold, warm], rel=1e-5) and warm < cold / 2
    assert loss.num_batches == 3
    log = LogLossStatistics(wrapped)
    state = SimpleNamespace(log_history=[{"loss": 1.0}])
    log.on_log(None, state, None, logs={"loss": 1.0})
    assert "masked_share" in state.log_history[0]


def test_other_callbacks_report_the_statistics_behind_it():
    from transformers import TrainerCallback, TrainerControl
    from transformers.trainer_callback import CallbackHandler

    class Reporter(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **_):
            self.seen = dict(logs)

    reporter = Reporter()
    handler = CallbackHandler([reporter], None, None, None, None)
    found = {"masked_share": 0.25, "offset_by_decile": [0.1, 0.2]}
    log = LogLossStatistics(SimpleNamespace(last_statistics=found))
    handler.add_callback(log)
    log.put_first(SimpleNamespace(callback_handler=handler))
    assert [type(callback) for callback in handler.callbacks].count(LogLossStatistics) == 1
    state = SimpleNamespace(log_history=[{"loss": 1.0}])
    handler.on_log(None, state, TrainerControl(), logs={"loss": 1.0})
    assert reporter.seen == {"loss": 1.0, "masked_share": 0.25}  # numbers: a reporter draws no lists
    assert state.log_history == [{"loss": 1.0, **found}]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "needs a 'label' column"),
        ([0.5, 1.0, 0.0], "whole numbers.*float32"),
        ([0, 1, 2], "row number 2 .* has 2 rows"),
        ([[0], [1], [1]], r"labels of shape \(3, 1\) for 3 rows of 2 columns"),
        ([0, 1], r"labels of shape \(2,\) for 3 rows"),
        ([[0, MISSING], [1, 1], [1, 1]], "row number -2 .* of a candidate|of a candidate.* -2"),
    ],
)
def test_wrong_labels_are_named(labels, message):
    loss = AttributeGuidedContrastiveLoss(NO_MODEL, [KeyAttributes.of({"color": "red"}), KeyAttributes()])
    columns = [{"sentence_embedding": torch.ones(3, 2)}] * 2
    with pytest.raises(InputError, match=message):
        loss(columns, None if labels is None else torch.tensor(labels))
    with pytest.raises(InputError, match="1 input columns"):
        loss(columns[:1], torch.tensor([0, 1, 1]))
    loss = AttributeGuidedContrastiveLoss(NO_MODEL, [KeyAttributes()] * 2, num_positives=2)
    with pytest.raises(InputError, match="num_positives=2, but the data has 2 columns"):
        loss(columns, torch.tensor([0, 1, 1]))


def test_an_embedding_bag_cannot_be_cached():
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer, models

    words = Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    model = SentenceTransformer(modules=[StaticEmbedding(words, embedding_dim=4)], device="cpu")
    AttributeGuidedContrastiveLoss(model, [KeyAttributes()])
    with pytest.raises(InputError, match="StaticEmbedding"):
        AttributeGuidedContrastiveLoss(model, [KeyAttributes()], mini_batch_size=2)


def test_config_is_json_and_holds_no_table():
    loss = AttributeGuidedContrastiveLoss(NO_MODEL, [KeyAttributes.of({"color": "red"})] * 5_000, rules=["margin"])
    written = json.dumps(loss.get_config_dict())
    assert len(written) < 600
    config = json.loads(written)
    assert (config["temperature"], config["rules"], config["fields"]) == (0.02, ["margin"], "values")
    assert "2604.20135" in loss.citation


SENTENCES = ["red silk dress", "dress of blue silk", "long red dress cut straight", "blue dress", "silk scarf", "red"]
LABELS = [0, 1, 2, 3, 4, 0]
TEXT_TABLE = [KeyAttributes.of({"color": color}) for color in ("red", "blue", "red", "blue", "white")]


@pytest.fixture(scope="module")
def text_model(tmp_path_factory):
    return build_text_model(tmp_path_factory.mktemp("text"))


def build_text_model(folder):
    """A random BERT of two layers over the words of SENTENCES."""
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    known = sorted({word for sentence in SENTENCES for word in sentence.split()})
    tokens = Tokenizer(models.WordLevel({w: i for i, w in enumerate(["[PAD]", "[UNK]", *known])}, unk_token="[UNK]"))
    tokens.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokens, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(known) + 2,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    BertModel(config).save_pretrained(folder)
    transformer = Transformer(str(folder))
    return SentenceTransformer(modules=[transformer, Pooling(32, "mean")], device="cpu")


def parameter_gradients(model, loss):
    model.zero_grad()
    columns = [model.preprocess(SENTENCES), model.preprocess(SENTENCES[::-1]), model.preprocess(SENTENCES[1:] + ["of"])]
    value = loss(columns, torch.tensor(LABELS))
    value.backward()
    return value.item(), [p.grad.clone() for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("weighting", ["bm25", "cosine"])
def test_cached_equals_plain_on_a_model(text_model, weighting, wrapped):
    results = []
    for mini_batch_size in (None, 2, 6):
        loss = AttributeGuidedContrastiveLoss(
            text_model,
            TEXT_TABLE,
            mini_batch_size=mini_batch_size,
            weighting=weighting,
            rules=("agreement",),
            agreement_min_shared=1,
            directions=BOTH,
        )
        if wrapped:
            loss = st_losses.MatryoshkaLoss(text_model, loss, [32, 16])
        results.append(parameter_gradients(text_model, loss))
    for value, gradients in results[1:]:
        assert value == pytest.approx(results[0][0], rel=1e-5)
        assert len(gradients) == len(results[0][1]) > 10
        for ours, plain in zip(gradients, results[0][1], strict=True):
            torch.testing.assert_close(ours, plain, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("mini_batch_size", [None, 2])
def test_trainer_trains_and_writes_the_card(text_model, tmp_path, mini_batch_size):
    from datasets import Dataset
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments

    dataset = Dataset.from_dict({"anchor": SENTENCES, "positive": SENTENCES[::-1], "label": LABELS})
    loss = AttributeGuidedContrastiveLoss(text_model, TEXT_TABLE, mini_batch_size=mini_batch_size)
    before = text_model.encode(SENTENCES)
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(tmp_path / "run"),
        max_steps=2,
        per_device_train_batch_size=4,
        learning_rate=1e-2,
        logging_steps=1,
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
        save_strategy="no",
    )
    trainer = SentenceTransformerTrainer(
        model=text_model, args=arguments, train_dataset=dataset, loss=loss, callbacks=[LogLossStatistics(loss)]
    )
    trainer.train()
    logged = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    told = [entry for entry in trainer.state.log_history if "masked_share" in entry]
    assert [entry["step"] for entry in told] == [1, 2]
    assert all({"loss", "masked_share_agreement", "offset_by_decile"} <= entry.keys() for entry in told)
    assert len(logged) == 2 and all(math.isfinite(value) and value > 0 for value in logged)
    assert loss.num_batches == 2
    assert not np.allclose(before, text_model.encode(SENTENCES))
    text_model.save_pretrained(str(tmp_path / "model"))
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert "AttributeGuidedContrastiveLoss" in card and "agreement_min_shared" in card


TWO_PROCESSES = """
import sys
import torch
import torch.distributed as dist
from test_agcl_loss import DISTRIBUTED, distributed_batch, make_loss

rank, port, out = int(sys.argv[1]), sys.argv[2], sys.argv[3]
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
found = []
for number, (options, columns, mini_batch_size) in enumerate(DISTRIBUTED):
    batch = distributed_batch(number, options, columns)
    mine = slice(4 * rank, 4 * rank + 4)
    tensors = [torch.tensor(column[mine], requires_grad=True) for column in batch.columns]
    loss = make_loss(
        batch, options, gather_across_devices=True, mini_batch_size=mini_batch_size
    )
    cached = mini_batch_size is not None
    value = loss.calculate_loss([[t] for t in tensors], torch.tensor(batch.rows[mine]), with_backward=cached)
    if not cached:
        value.backward()
    found.append((value.item(), [tensor.grad.numpy() for tensor in tensors]))
torch.save(found, f"{out}/{rank}.pt")
dist.destroy_process_group()
"""
DISTRIBUTED = [
    (options, columns, mini_batch_size)
    for options in (
        Options(),
        Options(rules=("agreement", "margin", "label"), scaling="row", top_k_hardest=3),
        Options(rules=("agreement",), agreement_min_shared=1, directions=BOTH),
        Options(num_positives=2, rules=("margin", "label"), margin=0.0, directions=BOTH),
    )
    for columns in ((2, 3) if options.num_positives == 1 else (4,))
    for mini_batch_size in (None, 3)
]


def distributed_batch(number, options, columns):
    batch = Batch(number, size=8, columns=columns)
    if options.num_positives > 1:
        batch.lose(options.num_positives)
    return batch


@pytest.mark.slow
def test_two_processes_equal_one_with_the_joined_batch(tmp_path):
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    tests = Path(__file__).parent
    path = os.pathsep.join([str(tests), str(tests.parent), os.environ.get("PYTHONPATH", "")])
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TWO_PROCESSES, str(rank), port, str(tmp_path)],
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        )
        for rank in range(2)
    ]
    assert [process.wait(timeout=240) for process in processes] == [0, 0]
    halves = [torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in range(2)]
    for number, (options, columns, _) in enumerate(DISTRIBUTED):
        wanted = distributed_batch(number, options, columns).reference(options)
        (first, first_gradients), (second, second_gradients) = halves[0][number], halves[1][number]
        # DDP takes the mean over processes, of losses and of gradients
        gradients = [np.concatenate(pair) / 2 for pair in zip(first_gradients, second_gradients, strict=True)]
        assert_equal(((first + second) / 2, gradients), wanted)
