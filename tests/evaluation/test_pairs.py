"""Pairs against scikit-learn's precision and recall."""

import json

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, precision_recall_curve

from afmrl.data.catalog import read_catalog
from afmrl.data.offer import Offer
from afmrl.data.pairs import LabeledPair, read_pairs
from afmrl.errors import InputError
from afmrl.evaluation.pairs import _Sweep, evaluated_and_validation, score_pairs
from conftest import shared_data


def draw(seed, num=300, ties=True):
    rng = np.random.default_rng(seed)
    same = (rng.random(num) < 0.2).astype(float)
    scores = same * 0.8 + rng.normal(size=num) * 0.5
    return (np.round(scores, 1) if ties else scores), same


@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_metrics_equal_scikit_learns(seed, ties):
    scores, same = draw(seed, ties=ties)
    found = score_pairs(scores, same, num_resamples=20)
    value = {name: interval.mean for name, interval in found.metrics.items()}
    assert value["average_precision"] == pytest.approx(average_precision_score(same, scores), abs=1e-12)
    precision, recall, thresholds = precision_recall_curve(same, scores)
    f1 = [f1_score(same, scores >= threshold) for threshold in thresholds]
    assert value["best_f1"] == pytest.approx(max(f1))
    assert f1_score(same, scores >= found.threshold) == pytest.approx(max(f1))
    assert value["recall@precision=0.99"] == pytest.approx(recall[precision >= 0.99].max())
    assert found.threshold_from == "the same pairs"
    assert (found.num_pairs, found.num_same) == (300, int(same.sum()))
    true_curve = {round(t, 9): (p, r) for t, p, r in zip(thresholds, precision, recall, strict=False)}
    assert len(found.curve) == min(200, len(thresholds))
    for threshold, *point in found.curve:
        assert point == pytest.approx(true_curve[round(threshold, 9)])


def test_resamples_are_weighted_as_scikit_learn_weighs():
    scores, same = draw(0)
    weights = np.random.default_rng(1).integers(0, 4, 300).astype(float)
    ours = _Sweep(scores, same).metrics(weights, None)
    assert ours["average_precision"] == pytest.approx(average_precision_score(same, scores, sample_weight=weights))
    drawn = np.repeat(np.arange(300), weights.astype(int))
    assert ours["best_f1"] == pytest.approx(
        score_pairs(scores[drawn], same[drawn], num_resamples=1).metrics["best_f1"].mean
    )


def test_the_threshold_comes_from_validation_pairs_where_there_are_any():
    scores, same = draw(0)
    validation = draw(1)
    found = score_pairs(scores, same, validation=validation, num_resamples=50)
    thresholds = np.unique(validation[0])
    best = thresholds[np.argmax([f1_score(validation[1], validation[0] >= t) for t in thresholds])]
    assert found.threshold == pytest.approx(best) and found.threshold_from == "validation pairs"
    assert found.metrics["best_f1"].mean == pytest.approx(f1_score(same, scores >= best))
    assert found.metrics["best_f1"].mean < score_pairs(scores, same, num_resamples=1).metrics["best_f1"].mean
    high = score_pairs(scores, same, validation=(np.array([99.0, 0.0]), np.array([1.0, 0.0])), num_resamples=5).metrics
    assert (high["best_f1"].mean, high["recall"].mean, high["precision"].mean) == (0, 0, 1)  # nothing scores that high


def test_intervals_follow_the_left_products():
    scores, same = draw(0, num=30)
    scores, same = np.repeat(scores, 10), np.repeat(same, 10)
    apart = score_pairs(scores, same, num_resamples=300).metrics["average_precision"]
    together = score_pairs(scores, same, [str(n) for n in np.repeat(np.arange(30), 10)], num_resamples=300)
    together = together.metrics["average_precision"]
    assert together.mean == apart.mean
    assert together.low <= together.mean <= together.high
    assert together.high - together.low > 1.5 * (apart.high - apart.low)


def test_no_threshold_is_precise_enough():
    found = score_pairs(np.array([0.9, 0.5, 0.1]), np.array([0, 1, 0]), num_resamples=5)
    assert found.metrics["recall@precision=0.99"].mean == 0


@pytest.mark.parametrize(
    ("names", "scored", "validation"),
    [
        (["train", "valid", "test"], [2], [1]),
        (["train_medium", "valid_large", "gs050"], [2], [1]),
        (["train", "valid", "train"], [1], []),
        (["", "", ""], [0, 1, 2], []),
        (["train", "train", "train"], [0, 1, 2], []),
    ],
)
def test_which_pairs_are_scored(names, scored, validation):
    pairs = [LabeledPair(Offer("a"), Offer("b"), True, name) for name in names]
    assert evaluated_and_validation(pairs) == (scored, validation)


def test_files_that_are_wrong_are_answered_by_line(tmp_path):
    offers = {name: Offer(name, title=name) for name in "ab"}
    path = tmp_path / "pairs.jsonl"

    def message(text, **options):
        path.write_text(text)
        with pytest.raises(InputError) as error:
            read_pairs(path, offers, **options)
        return str(error.value)

    good = json.dumps({"left": "a", "right": "b", "label": 1})
    for line in ('{"left": "a"}', "left,right", '{"left": "a", "right": "b", "label": 2}', "[1]"):
        assert "pairs.jsonl:2: expected" in message(f"{good}\n{line}\n")
    unknown = json.dumps({"left": "a", "right": "x", "label": 0})
    assert "1 pairs name unknown ids" in message(f"{good}\n{unknown}\n")
    assert "holds no pair" in message(f"{unknown}\n", skipped_ids=["x"])
    path.write_text(f"{good}\n{unknown}\n")
    assert len(read_pairs(path, offers, skipped_ids=["x"])) == 1
    with pytest.raises(InputError, match="cannot be read"):
        read_pairs(tmp_path / "none.jsonl", offers)


@pytest.mark.parametrize(("name", "scored", "same"), [("abt_buy", 1916, 206), ("wdc_products", 442, 68)])
def test_real_pairs(name, scored, same):
    folder = shared_data(name)
    catalog = read_catalog(folder / "products.jsonl")
    pairs = read_pairs(folder / "pairs.jsonl", catalog.by_id)
    rows, validation = evaluated_and_validation(pairs)
    assert (len(rows), sum(pairs[row].same for row in rows)) == (scored, same)
    assert validation
