"""What is found out before RAR: which offers can teach, k and floors of the reward."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afmrl.data.offer import Offer
from afmrl.errors import InputError
from afmrl.generator.engines.base import Completion
from afmrl.generator.generator import AttributeGenerator
from afmrl.rewards.retrieval_reward import RetrievalReward
from afmrl.training.completions import PART
from afmrl.training.config import RARStage
from afmrl.training.survey import kept_survey, rows_of_one_kind, smallest_k, take_survey


class Scripted:
    """A generator that writes what it is told: G completions for every query."""

    def __init__(self, texts, temperature=None):
        self.texts, self.temperature = texts, temperature

    def generate(self, offers, *, num_completions, temperature, **_):
        assert self.temperature in (None, temperature)
        assert all(len(of_query) == num_completions for of_query in self.texts)
        return [[Completion(text, 3, text != "cut") for text in of_query] for of_query in self.texts]


def reward_by_text(queries, kind="recall@k", k=1, **options):
    """A gallery of three offers; "hit: N" retrieves the relevant one at rank N."""

    def encode(offers, attributes):
        rank = [int(a.as_dict().get("hit", "3")) for a in attributes]
        orders = {1: [1.0, 0.5, 0.2], 2: [0.5, 1.0, 0.2], 3: [0.2, 1.0, 0.5]}
        return np.array([orders[r] for r in rank], dtype=np.float32)

    relevant = [np.array([0])] * len(queries)
    return RetrievalReward(encode, queries, np.eye(3, dtype=np.float32), relevant, kind=kind, k=k, **options)


def test_groups_that_agree_are_left_out_and_reported(tmp_path):
    queries = [Offer(str(n), "t") for n in range(4)]
    texts = [["hit: 1", "hit: 1"], ["hit: 1", "hit: 3"], ["hit: 3", "hit: 2"], ["cut", "hit: 1"]]
    config = RARStage(num_generations=2, prompts_per_step=2, k=1, reward="recall@k")
    found = take_survey(config, reward_by_text(queries), Scripted(texts), tmp_path)
    summary = found.summary
    assert found.rows == [1, 3]
    assert (summary["num_queries"], summary["num_teachable"], summary["zero_variance_share"]) == (4, 2, 0.5)
    assert summary["baseline"]["reward"] == pytest.approx((1 + 1 + 1 + 0 + 0 + 0 - 0.1 + 1) / 8)
    assert summary["baseline"]["valid"] == 7 / 8
    config = config.model_copy(update={"teachable_only": False})
    assert take_survey(config, reward_by_text(queries), Scripted(texts), tmp_path).rows == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("imaged", "kept"), [((0, 2), [0, 2]), ((1,), [0, 2]), ((), [0, 1, 2]), ((0, 1, 2), [0, 1, 2])]
)
def test_of_queries_with_and_without_an_image_the_larger_kind_teaches(imaged, kept, tmp_path):
    queries = [Offer(str(row), "t", image="x.png" if row in imaged else "") for row in range(3)]
    config = RARStage(num_generations=2, prompts_per_step=1, k=1, reward="recall@k")
    found = take_survey(config, reward_by_text(queries), Scripted([["hit: 1", "hit: 3"]] * 3), tmp_path)
    summary = found.summary
    assert found.rows == kept
    assert (summary["zero_variance_share"], summary["num_teachable"]) == (0.0, len(kept))
    assert summary["num_left_out"] == 3 - len(kept) and summary["num_trained_on"] == len(kept)
    if len(kept) == 2:
        assert summary["left_out"] == ("without an image" if imaged == (0, 2) else "with an image")
        config = config.model_copy(update={"prompts_per_step": 3})
        with pytest.raises(InputError, match=rf"2 of 3 .*the 1 {summary['left_out']} are left out"):
            take_survey(config, reward_by_text(queries), Scripted([["hit: 1", "hit: 3"]] * 3), tmp_path)


def test_of_as_many_with_as_without_an_image_those_with_one_teach():
    offers = [Offer(str(row), "t", image="x.png" if row % 2 else "") for row in range(4)]
    assert rows_of_one_kind(RARStage(prompts_per_step=2), offers, "queries") == ([1, 3], "without an image")


def test_where_no_completion_is_valid_the_queries_alone_say_k(tmp_path):
    queries = [Offer(str(n), "t") for n in range(4)]
    config = RARStage(num_generations=2, prompts_per_step=1, reward="recall@k", k=None)
    found = take_survey(config, reward_by_text(queries), Scripted([["cut", "cut"]] * 4), tmp_path)
    assert found.k == 3 and found.summary["baseline"]["valid"] == 0


def test_k_is_the_smallest_at_which_half_are_found(tmp_path):
    queries = [Offer(str(n), "t") for n in range(4)]
    texts = [["hit: 1", "hit: 2"], ["hit: 2", "hit: 2"], ["hit: 3", "hit: 3"], ["hit: 3", "hit: 2"]]
    reward = reward_by_text(queries)
    config = RARStage(num_generations=2, prompts_per_step=1, reward="recall@k", k=None)
    found = take_survey(config, reward, Scripted(texts), tmp_path)
    assert found.k == 2 and reward.k == 1  # the reward that was given is as it was
    assert found.rows == [3]  # measured with this k, not with the one before it was known
    assert found.summary["baseline"]["retrieval"] == 5 / 8


def test_a_survey_is_taken_over_with_its_k_and_floors(tmp_path, monkeypatch):
    queries = [Offer(str(n), "t") for n in range(4)]
    texts = [["hit: 1", "hit: 2"], ["hit: 2", "hit: 2"], ["hit: 3", "hit: 3"], ["hit: 3", "hit: 2"]]
    config = RARStage(num_generations=2, prompts_per_step=1, reward="ndcg@k", k=None)
    reward, opened = reward_by_text(queries, kind="ndcg@k", length_weight=0.1), []
    monkeypatch.setattr(
        AttributeGenerator,
        "from_pretrained",
        lambda path, dtype: opened.append(path) or Scripted(texts, temperature=1.0),
    )
    first = kept_survey(config, reward, "policy", tmp_path)
    assert opened == ["policy"] and first.k == 2 and not (tmp_path / PART).exists()
    assert (first.floors < 0).all()  # the longest list costs
    again = kept_survey(config, reward_by_text(queries, kind="ndcg@k"), "policy", tmp_path)
    assert opened == ["policy"]
    assert (again.rows, again.k, again.summary) == (first.rows, first.k, first.summary)
    np.testing.assert_array_equal(again.floors, first.floors)


def test_others_fill_up_a_step_that_too_few_can_teach(tmp_path):
    queries = [Offer(str(n), "t") for n in range(4)]
    config = RARStage(num_generations=2, prompts_per_step=3, k=1, reward="recall@k")
    completions = [["hit: 1", "hit: 1"], ["hit: 1", "hit: 1"], ["hit: 1", "hit: 3"], ["hit: 1", "hit: 1"]]
    survey = take_survey(config, reward_by_text(queries), Scripted(completions), tmp_path)
    assert survey.rows == [2, 0, 1]
    assert (survey.summary["num_teachable"], survey.summary["num_trained_on"]) == (1, 3)


def test_fewer_queries_than_a_step_takes_are_named(tmp_path):
    queries = [Offer(str(n), "t") for n in range(3)]
    config = RARStage(num_generations=2, prompts_per_step=4, k=1, reward="recall@k")
    with pytest.raises(InputError, match=r"3 of 3 reward queries can be trained on.*prompts_per_step=4"):
        take_survey(config, reward_by_text(queries), Scripted([["hit: 1", "hit: 3"]] * 3), tmp_path)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=40), st.sampled_from([0.1, 0.5, 0.9]))
def test_smallest_k_is_the_smallest(ranks, target):
    ranks = np.array(ranks)
    k = smallest_k(ranks, target)
    assert (ranks <= k).mean() >= target
    assert k == 1 or (ranks <= k - 1).mean() < target
