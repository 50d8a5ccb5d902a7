"""RAR watched on the validation split: what is kept, when it stops, what a kill leaves."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.data.offer import Offer
from afmrl.embedder.embedder import Embedder
from afmrl.generator.engines.base import Completion
from afmrl.generator.generator import AttributeGenerator
from afmrl.training.best_weights import BEST, kept_entry, load_weights, save_weights
from afmrl.training.config import Hardware, Lora, RARStage, SFTStage
from afmrl.training.rar import run_rar, with_validation
from afmrl.training.sft import run_sft
from afmrl.training.split_reward import query_reward
from afmrl.training.splits import Split
from afmrl.training.watch import RECORD, Validation, Watch

COLORS = ["red", "blue", "green", "white"]
OFFERS = [Offer(f"o{n}", f"{COLORS[n % 4]} dress", product_id=str(n % 4)) for n in range(8)]
LABELS = [KeyAttributes.of({"color": COLORS[n % 4]}) for n in range(8)]
SPLIT = Split(OFFERS, LABELS, [0, 1, 2, 3], [4, 5, 6, 7], [np.array([n]) for n in range(4)], ["a", "a", "b", "b"])


def watch_of(mrrs, tmp_path, patience=3):
    watch = Watch(tmp_path, patience)
    best = [watch.add({"step": 10 * place, "mrr": mrr}) for place, mrr in enumerate(mrrs)]
    return watch, best


RISING = [(step, 0.01 * step) for step in range(1, 100)]
FALLING = [(step, -0.01 * step) for step in range(1, 100)]


def test_it_stops_when_validation_falls_while_the_reward_rises(tmp_path):
    fell = [0.5, 0.6, 0.55, 0.5, 0.4]
    assert watch_of(fell, tmp_path)[0].should_stop(RISING[:40])
    assert not watch_of(fell, tmp_path)[0].should_stop(FALLING[:40])  # both fall: no sign of cheating
    assert not watch_of(fell[:-1], tmp_path)[0].should_stop(RISING[:30])  # twice is not three times
    assert not watch_of([0.5, 0.4, 0.3, 0.2, 0.6], tmp_path)[0].should_stop(RISING[:40])  # it came back
    assert not watch_of([0.5, 0.6, 0.6, 0.6, 0.6], tmp_path)[0].should_stop(RISING[:40])  # it did not fall
    assert not watch_of(fell, tmp_path, patience=0)[0].should_stop(RISING[:40])
    assert watch_of([0.6, 0.5, 0.4, 0.3], tmp_path)[0].should_stop(RISING[:30])  # worse than SFT from the start


def test_the_best_step_is_the_earliest_of_the_highest(tmp_path):
    watch, best = watch_of([0.5, 0.7, 0.7, 0.6], tmp_path)
    assert best == [True, True, False, False]
    assert watch.best_of(watch.measured)["step"] == 10


def test_a_killed_run_takes_over_what_was_measured(tmp_path):
    weights = torch.nn.Linear(1, 1, bias=False)
    watch = Watch(tmp_path, 3)
    for number, mrr in enumerate((0.5, 0.6, 0.9, 0.2)):
        entry = {"step": 10 * number, "mrr": mrr}
        torch.nn.init.constant_(weights.weight, 10.0 * number)
        if watch.add(entry):
            save_weights(weights, tmp_path / BEST, entry)
    watch.keep()
    again = Watch(tmp_path, 3)
    again.restore(10)  # the checkpoint; the best weights are of step 20, and stay
    assert [entry["step"] for entry in again.measured] == [0, 10, 20]
    # done again that step comes out lower: what was measured stays that of the weights in the file
    assert not again.add({"step": 20, "mrr": 0.55})
    assert not again.add({"step": 30, "mrr": 0.6})
    assert again.best_of(again.measured) == {"step": 20, "mrr": 0.9} == kept_entry(tmp_path / BEST)
    load_weights(weights, tmp_path / BEST)
    assert weights.weight.item() == 20
    assert again.add({"step": 40, "mrr": 0.95})
    # killed between the weights and the record
    torn = Watch(tmp_path, 3)
    save_weights(weights, tmp_path / BEST, {"step": 30, "mrr": 0.97})
    torn.restore(10)
    assert torn.best_of(torn.measured)["step"] == 30
    (tmp_path / RECORD).write_text("{torn")
    empty = Watch(tmp_path, 3)
    empty.restore(10)
    assert empty.measured == []


def test_before_is_the_first_policys_also_where_it_is_the_best_and_was_killed(tmp_path):
    weights = torch.nn.Linear(1, 1, bias=False)
    watch = Watch(tmp_path, 3)
    for step, mrr in ((0, 0.5), (10, 0.3)):
        if watch.add({"step": step, "mrr": mrr}):
            save_weights(weights, tmp_path / BEST, {"step": step, "mrr": mrr})
    watch.keep()
    again = Watch(tmp_path, 3)
    again.restore(10)
    again.add({"step": 20, "mrr": 0.4})
    assert [entry["step"] for entry in again.measured] == [0, 10, 20]
    assert again.summary()["before"] == {"step": 0, "mrr": 0.5}


def test_measures_by_hand(tiny_model):
    """Of eight offers six are written right, one wrong, one is cut off."""

    class Scripted:
        def generate(self, offers, **_):
            texts = {offer.id: f"color: {COLORS[int(offer.id[1:]) % 4]}" for offer in offers}
            texts["o1"] = "color: mauve"
            return [[Completion(texts[o.id], 3, o.id != "o2")] for o in offers]

        read = AttributeGenerator(None).read  # no engine: it is given what was written

    seen = []

    class Table:
        """Finds by the color written: query and gallery agree or not."""

        def encode(self, offers, attributes=None):
            seen.append([str(a) for a in attributes] if attributes else None)
            words = [a.as_dict().get("color", "") for a in attributes] if attributes else [o.title for o in offers]
            rows = np.zeros((len(offers), 5), dtype=np.float32)
            for row, word in enumerate(words):
                rows[row, next((n for n, color in enumerate(COLORS) if color in word), 4)] = 1.0
            return rows

    measured = Validation(SPLIT, Table(), attributes_on="both").measure(Scripted())
    assert measured["valid"] == 7 / 8 and measured["length"] == 3
    assert measured["recall@1"] == 0.5  # the wrong one and the one cut off find nothing of their own
    assert measured["mrr"] == pytest.approx((1 + 1 + 1 / 2 + 1 / 3) / 4)
    assert measured["faithfulness"] == 6 / 8
    assert measured["accuracy"] == {"color": {"precision": round(6 / 7, 4), "recall": 6 / 8, "labeled": 8}}
    # of offers without labels nobody knows what is true
    halved = replace(SPLIT, targets=[target if row % 2 else KeyAttributes() for row, target in enumerate(LABELS)])
    some = Validation(halved, Table(), attributes_on="both").measure(Scripted())
    assert some["accuracy"] == {"color": {"precision": 0.75, "recall": 0.75, "labeled": 4}}
    assert some["faithfulness"] == 3 / 4
    seen.clear()
    query_only = Validation(SPLIT, Table(), attributes_on="query").measure(Scripted())
    assert seen[1] is None and len(seen[0]) == 4
    assert query_only["faithfulness"] == 2 / 4
    seen.clear()
    gallery_only = Validation(SPLIT, Table(), attributes_on="gallery").measure(Scripted())
    assert seen[0] is None and len(seen[1]) == len(SPLIT.gallery)
    assert gallery_only["faithfulness"] == 4 / 4


@pytest.mark.parametrize(("hold", "kept"), [(False, 10), (True, 20)])
def test_a_step_that_is_less_true_than_sft_is_not_kept_where_truth_is_held(tmp_path, hold, kept):
    watch = Watch(tmp_path, 3, hold_truth=hold)
    measures = [(0, 0.5, 0.80), (10, 0.9, 0.79), (20, 0.7, 0.80), (30, 0.6, 0.9)]
    saved = [watch.add({"step": step, "mrr": mrr, "faithfulness": true}) for step, mrr, true in measures]
    assert watch.best()["step"] == kept
    assert saved == [True, not hold, hold, False]
    false = Watch(tmp_path, 3, hold_truth=hold)
    false.add({"step": 0, "mrr": 0.5, "faithfulness": 0.8})
    assert false.add({"step": 5, "mrr": 0.9, "faithfulness": 0.7}) == (not hold)


def test_the_curve_tells_both():
    curve = with_validation(
        [{"step": 1, "reward": 0.1}, {"step": 2, "reward": 0.2}],
        [{"step": 0, "mrr": 0.3, "accuracy": {}}, {"step": 2, "mrr": 0.4, "accuracy": {}}],
    )
    assert curve == [
        {"step": 0, "val_mrr": 0.3},
        {"step": 1, "reward": 0.1},
        {"step": 2, "reward": 0.2, "val_mrr": 0.4},
    ]


# in training


@pytest.fixture(scope="module")
def policy(tiny_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("policy") / "model"
    stage = SFTStage(max_steps=25, batch_size=8, learning_rate=3e-3, warmup_steps=2)
    run_sft(stage, tiny_model, OFFERS, LABELS, folder)
    return folder


def reinforced(policy, tiny_model, out, monkeypatch, mrrs, true=(), hardware=None, **options):
    """A run whose validation is told: what was kept, and the weights at every measure."""
    weights = {}
    steps = iter(range(100))

    def measure(self, generator):
        step = next(steps)
        assert not generator.model.training
        weights[step] = {name: p.detach().clone() for name, p in generator.model.named_parameters()}
        faithfulness = true[step] if true else 1.0
        rest = {"recall@1": 0.0, "valid": 1.0, "length": 3.0, "accuracy": {}}
        return {"mrr": mrrs[step], "faithfulness": faithfulness, **rest}

    monkeypatch.setattr(Validation, "measure", measure)
    config = RARStage(
        prompts_per_step=2, num_generations=4, max_new_tokens=12, warmup_steps=0, teachable_only=False,
        learning_rate=3e-3, **{"eval_steps": 1, **options},
    )  # fmt: skip
    embedder = Embedder.from_pretrained(tiny_model)
    reward = query_reward(config, policy, embedder, OFFERS[:4], OFFERS[4:], SPLIT.relevant, targets=LABELS[:4])
    validation = Validation(SPLIT, embedder, attributes_on="query")
    result = run_rar(config, policy, reward, out, validation=validation, hardware=hardware)
    return result, weights


def same(folder, weights):
    kept = dict(AttributeGenerator.from_pretrained(folder).model.named_parameters())
    assert kept.keys() == weights.keys()
    return all(bool((kept[name] == weights[name]).all()) for name in kept)


def test_by_default_a_run_is_watched_at_every_eighth_of_it(policy, tiny_model, tmp_path, monkeypatch):
    result, _ = reinforced(
        policy, tiny_model, tmp_path, monkeypatch, [0.1] * 20, max_steps=16, patience=0, eval_steps=None, sft_weight=0.0
    )
    assert [entry["step"] for entry in result["history"] if "val_mrr" in entry] == list(range(0, 17, 2))


@pytest.mark.parametrize(
    ("options", "step"),
    [({}, 2), ({"rewarded_pairs": "all"}, 2), ({"rewarded_pairs": "all", "faithfulness_weight": 0.0}, 1)],
)
def test_a_reward_that_holds_to_labels_keeps_no_step_that_is_less_true(
    policy, tiny_model, tmp_path, monkeypatch, options, step
):
    told, weights = reinforced(
        policy, tiny_model, tmp_path, monkeypatch, [0.1, 0.9, 0.5], [0.8, 0.7, 0.8], max_steps=2, **options
    )
    assert told["validation"]["step"] == step and same(tmp_path, weights[step])


@pytest.mark.parametrize(("mrrs", "best"), [([0.1, 0.2, 0.9, 0.3, 0.4], 2), ([0.9, 0.1, 0.2, 0.3, 0.4], 0)])
def test_the_best_step_on_validation_is_what_is_saved(policy, tiny_model, tmp_path, monkeypatch, mrrs, best):
    result, weights = reinforced(policy, tiny_model, tmp_path, monkeypatch, mrrs, max_steps=4, patience=0)
    assert sorted(weights) == [0, 1, 2, 3, 4]
    assert same(tmp_path, weights[best]) and not same(tmp_path, weights[4])
    assert same(policy, weights[0])
    told = result["validation"]
    assert (told["step"], told["before"]["mrr"], told["after"]["mrr"]) == (best, mrrs[0], mrrs[best])
    assert told["stopped_at"] is None
    assert [entry.get("val_mrr") for entry in result["history"]] == mrrs
    assert json.loads((tmp_path / "history.json").read_text()) == result["history"]
    # nothing of the watch is left behind
    assert not (tmp_path / BEST).exists() and not (tmp_path / RECORD).exists()


def test_it_stops_early_and_keeps_the_best(policy, tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr(Watch, "should_stop", lambda self, rewards: len(rewards) >= 2)
    mrrs = [0.1, 0.9] + [0.2] * 20
    result, weights = reinforced(policy, tiny_model, tmp_path, monkeypatch, mrrs, max_steps=20)
    assert result["validation"]["stopped_at"] == max(weights) < 20
    assert result["validation"]["step"] == 1 and same(tmp_path, weights[1])


def test_lora_keeps_the_best_step_too(policy, tiny_model, tmp_path, monkeypatch):
    mrrs, lora = [0.1, 0.9, 0.2], Hardware(lora=Lora(r=2, stages=("rar",)))
    result, weights = reinforced(policy, tiny_model, tmp_path, monkeypatch, mrrs, max_steps=2, hardware=lora)
    assert result["validation"]["step"] == 1
    base = dict(AttributeGenerator.from_pretrained(policy).model.named_parameters())
    kept = dict(AttributeGenerator.from_pretrained(tmp_path).model.named_parameters())
    name = "model.language_model.layers.0.self_attn.q_proj"
    change = (kept[f"{name}.weight"] - base[f"{name}.weight"]).detach()
    products = {}
    for step, of in weights.items():
        first, second = (of[f"base_model.model.{name}.lora_{side}.default.weight"] for side in "BA")
        products[step] = 2 * first @ second  # lora_alpha / r
    assert not products[0].any()
    np.testing.assert_allclose(change, products[1], atol=1e-7)
    assert float((products[2] - products[1]).abs().max()) > 1e-5
