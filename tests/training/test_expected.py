"""How long a run will take is said before it begins."""

from types import SimpleNamespace

from afmrl.data.offer import Offer
from afmrl.training.expected import expected_seconds, say_expected
from afmrl.training.recipe import load_recipe


def run_of(folder, said, **changes):
    recipe = load_recipe("own_catalog", {"catalog.path": "c.jsonl", **changes})
    splits = {name: SimpleNamespace(offers=[Offer(str(i), "t", image="i.png") for i in range(50)])
              for name in ("train", "reward", "val", "test")}  # fmt: skip
    return SimpleNamespace(folder=folder, recipe=recipe, splits=splits, say=said.append)


def test_the_stages_add_up_and_those_left_out_cost_nothing(tmp_path):
    said = []
    say_expected(run_of(tmp_path, said))
    say_expected(run_of(tmp_path, said, **{"rar.max_steps": 0}))
    say_expected(run_of(tmp_path, said, **{"rar.max_steps": 0, "sft.max_steps": 0}))
    assert ["RAR" in line for line in said] == [True, False, False]
    assert ["SFT" in line for line in said] == [True, True, False]
    minutes = [int(line.split("about ")[1].split()[0]) for line in said]
    assert minutes == sorted(minutes, reverse=True) and minutes[0] < 40


def test_a_run_that_goes_on_and_other_bases_say_nothing(tmp_path):
    said = []
    (tmp_path / "stages" / "sft").mkdir(parents=True)
    say_expected(run_of(tmp_path, said))
    say_expected(run_of(tmp_path / "new", said, base="some/model"))
    assert said == []


def test_more_offers_take_longer():
    recipe = load_recipe("own_catalog", {"catalog.path": "c.jsonl"})
    few, many = (expected_seconds(recipe, {"train": n, "reward": n, "test": n}, n) for n in (100, 1000))
    assert many["evaluation"] > few["evaluation"] and many["RAR"] > few["RAR"] and many["AGCL"] > few["AGCL"]
