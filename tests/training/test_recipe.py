from pathlib import Path

import pytest
import yaml

from afmrl.errors import InputError
from afmrl.training.recipe import load_recipe, recipe_of

SMALL = {"catalog": {"sample": {"families": {"train": 4}}}, "tiny": {"hidden_size": 64}}


def written(tmp_path, data):
    path = tmp_path / "recipe.yaml"
    path.write_text(data if isinstance(data, str) else yaml.safe_dump(data))
    return path


def test_fields_and_overrides(tmp_path):
    recipe = load_recipe(written(tmp_path, SMALL), ["agcl.max_steps=7", "agcl.rules=[margin, label]", "seed=3"])
    assert (recipe.agcl.max_steps, recipe.agcl.rules, recipe.seed) == (7, ("margin", "label"), 3)
    assert recipe.tiny.hidden_size == 64


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({**SMALL, "agcl": {"learning_rat": 1}}, "unknown key 'agcl.learning_rat'; did you mean 'learning_rate'"),
        ({**SMALL, "zzz": 1}, "unknown key 'zzz'; known: name"),
        ({**SMALL, "agcl": {"max_steps": "many"}}, "'agcl.max_steps'.*given: 'many'"),
        ({"tiny": {}}, "either 'path'"),
        ({"catalog": {"path": "x"}}, "name either 'base'"),
        ({**SMALL, "catalog": {"path": "x", "positives": {"pairs": "p"}}}, "exactly one of 'column'"),
        ("- a", "holds list"),
        ("a: [", "is not YAML"),
    ],
)
def test_mistakes_are_answered_by_name(tmp_path, data, message):
    with pytest.raises(InputError, match=message):
        load_recipe(written(tmp_path, data))


def test_a_missing_recipe_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.yaml.*cannot be read"):
        load_recipe(tmp_path / "nowhere.yaml")


def test_paths_are_relative_to_the_recipe(tmp_path):
    recipe = load_recipe(written(tmp_path, {"catalog": {"path": "offers.jsonl"}, "base": "some/model"}))
    assert recipe.catalog.path == str(tmp_path / "offers.jsonl")


def test_a_path_on_the_command_line_is_relative_to_the_working_folder(tmp_path, monkeypatch):
    recipe = written(tmp_path, {"catalog": {"path": "offers.jsonl"}, "base": "some/model"})
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert load_recipe(recipe, ["catalog.path=mine.jsonl"]).catalog.path == str(tmp_path / "elsewhere" / "mine.jsonl")


def test_recipes_that_are_shipped_load():
    root = Path(__file__).parent.parent.parent
    paths = [*root.glob("benchmarks/recipes/*.yaml"), *root.glob("src/afmrl/recipes/*.yaml")]
    assert len(paths) >= 3
    for path in paths:
        load_recipe(path)


def test_every_field_says_what_it_is():
    import dataclasses
    import inspect

    from afmrl.training import config, recipe

    for _, kind in inspect.getmembers(config, lambda found: isinstance(found, type)):
        for name, field in getattr(kind, "model_fields", {}).items():
            assert field.description, f"{kind.__name__}.{name}"
    for module in (recipe,):
        for _, kind in inspect.getmembers(module, dataclasses.is_dataclass):
            if kind.__module__ != module.__name__:
                continue
            source = inspect.getsource(kind)
            for field in dataclasses.fields(kind):
                assert f"    {field.name}:" in source
                after = source.split(f"    {field.name}:")[1].split("\n    ")
                assert any(line.lstrip().startswith('"""') for line in after[1:4]), f"{kind.__name__}.{field.name}"


def test_recipe_of_takes_plain_dicts():
    assert recipe_of(SMALL).catalog.sample.families == {"train": 4}
