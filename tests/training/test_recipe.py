from importlib import resources
from pathlib import Path

import pytest
import yaml

from afmrl.errors import InputError
from afmrl.training.recipe import Recipe, load_recipe, recipe_of
from afmrl.training.recipe_files import PATHS, shipped_recipes, shipped_text
from afmrl.training.recipe_help import leaves, optional_sections

SMALL = {"catalog": {"sample": {"families": {"train": 4}}}, "tiny": {"hidden_size": 64}}
OWN = {"catalog": {"path": "offers.jsonl"}, "base": "some/model"}


def written(tmp_path, data):
    path = tmp_path / "recipe.yaml"
    path.write_text(data if isinstance(data, str) else yaml.safe_dump(data))
    return path


def test_fields_and_overrides(tmp_path):
    overrides = {"agcl.max_steps": 7, "agcl.rules": ["margin", "label"], "seed": 3, "hardware.lora.r": 4}
    recipe = load_recipe(written(tmp_path, SMALL), overrides)
    assert (recipe.agcl.max_steps, recipe.agcl.rules, recipe.seed) == (7, ("margin", "label"), 3)
    assert (recipe.tiny.hidden_size, recipe.hardware.lora.r) == (64, 4)
    assert load_recipe(recipe, {"agcl.max-steps": 8}).agcl.max_steps == 8
    assert load_recipe(SMALL, {"agcl.max_steps": 9}).agcl.max_steps == 9
    assert recipe.agcl.max_steps == 7


def test_sections_that_may_be_left_out_are_set_to_null():
    assert {field.name for field in optional_sections(Recipe)} == {"catalog.sample", "tiny", "hardware.lora"}
    own = load_recipe("own_catalog-tiny", {"catalog.path": "x.jsonl", "tiny": None, "base": "some/model"})
    assert own.tiny is None and own.base == "some/model"


def test_numbers_are_read_as_people_write_them(tmp_path):
    text = "catalog: {path: x.jsonl}\nbase: m\nsft: {learning_rate: 1e-5}\nagcl: {learning_rate: 2, margin: 1.5E-1}\n"
    recipe = load_recipe(written(tmp_path, text))
    assert (recipe.sft.learning_rate, recipe.agcl.learning_rate, recipe.agcl.margin) == (1e-5, 2.0, 0.15)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({**SMALL, "agcl": {"learning_rat": 1}}, "unknown key 'agcl.learning_rat'; did you mean 'learning_rate'"),
        ({**SMALL, "agcl": {"max_pixels": 1}}, "unknown key 'agcl.max_pixels'; did you mean 'hardware.max_pixels'"),
        ({**SMALL, "zzz": 1}, "unknown key 'zzz'; known: name"),
        (
            {**SMALL, "agcl": {"max_steps": "many"}},
            "'agcl.max_steps': 'many' is not allowed; expected a whole number of at least 1",
        ),
        ({**SMALL, "agcl": {"max_steps": True}}, "'agcl.max_steps': True is not allowed; expected a whole number"),
        ({**SMALL, "agcl": {"max_steps": 2.5}}, "'agcl.max_steps': 2.5 is not allowed; expected a whole number"),
        (
            {**SMALL, "agcl": {"temperature": "0.1"}},
            "'agcl.temperature': '0.1' is not allowed; expected a number above",
        ),
        ({**SMALL, "agcl": {"self_pairs": 1}}, "'agcl.self_pairs': 1 is not allowed; expected true or false"),
        ({**SMALL, "agcl": 3}, "'agcl': 3 is not allowed; expected a section of fields: max_steps"),
        ({**SMALL, "name": 3}, "'name': 3 is not allowed; expected text"),
        ({**SMALL, "augment": {"crop": 3}}, "'augment.crop': 3 is not allowed; expected a number between 0 and 1"),
        ({**SMALL, "agcl": {"rules": "margin"}}, "'agcl.rules': 'margin' is not allowed; expected a list of margin"),
        ({**SMALL, "agcl": {"directions": ["doc_to_query"]}}, "'agcl.directions': .* must hold 'query_to_doc'"),
        ({**SMALL, "agcl": {"reference": True}}, "'agcl.reference': is for the rules margin and closeness"),
        (
            {**SMALL, "agcl": {"rules": ["margin"], "reference": True, "margin_warmup_steps": 5}},
            "'agcl.reference': needs no 'agcl.margin_warmup_steps'",
        ),
        (
            {**SMALL, "agcl": {"attributes_on": "query"}, "rar": {"attributes_on": "both"}},
            "'rar.attributes_on': is 'both', and 'agcl.attributes_on' 'query'",
        ),
        ({"tiny": {}}, "'catalog' is missing"),
        ({"catalog": {}, "tiny": {}}, "'catalog': needs either 'path'"),
        ({"catalog": {"path": "x"}}, "name either 'base'"),
        ({**SMALL, "catalog": {"path": "x", "positives": {"pairs": "p"}}}, "exactly one of 'column'"),
        (
            {**SMALL, "catalog": {"path": "x", "split": {"fractions": {"tset": 1}}}},
            "'catalog.split.fractions': 'tset' is not allowed; expected a mapping of train, reward, val or test",
        ),
        ({**SMALL, "catalog": {"path": "x", "split": {"fractions": {"train": 0}}}}, "deals out nothing"),
        ("- a", "holds list"),
        ("a: [", "is not YAML"),
    ],
)
def test_mistakes_are_answered_by_name(tmp_path, data, message):
    with pytest.raises(InputError, match=message):
        load_recipe(written(tmp_path, data))


def test_all_mistakes_of_a_recipe_are_said_at_once(tmp_path):
    data = {
        **SMALL,
        "agcl": {"max_steps": 0, "weighting": "tfidf", "gian": 1.0},
        "hardware": {"precision": "fp8"},
        "rar": {"micro_batch_size": 7},
    }
    with pytest.raises(InputError) as error:
        load_recipe(written(tmp_path, data))
    first, *lines = str(error.value).splitlines()
    assert first.endswith("5 things are wrong:")
    assert sorted(lines) == [
        "  - 'agcl.max_steps': 0 is not allowed; expected a whole number of at least 1",
        "  - 'agcl.weighting': 'tfidf' is not allowed; expected bm25, cosine or none",
        "  - 'hardware.precision': 'fp8' is not allowed; expected float32 or bfloat16",
        "  - 'rar.micro_batch_size': 7 must divide prompts_per_step × num_generations = 96",
        "  - unknown key 'agcl.gian'; did you mean 'gain'?",
    ]


def test_a_missing_recipe_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.yaml.*cannot be read.*own_catalog"):
        load_recipe(tmp_path / "nowhere.yaml")
    with pytest.raises(InputError, match="'own_catalogue': no such recipe; did you mean 'own_catalog'"):
        load_recipe("own_catalogue")


def test_paths_are_relative_to_the_recipe(tmp_path):
    recipe = load_recipe(written(tmp_path, OWN))
    assert recipe.catalog.path == str(tmp_path / "offers.jsonl")


def test_a_path_on_the_command_line_is_relative_to_the_working_folder(tmp_path, monkeypatch):
    recipe = written(tmp_path, OWN)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    mine = {"catalog.path": "mine.jsonl"}
    assert load_recipe(recipe, mine).catalog.path == str(tmp_path / "elsewhere" / "mine.jsonl")
    assert load_recipe("own_catalog", mine).catalog.path == str(tmp_path / "elsewhere" / "mine.jsonl")


def test_recipes_of_the_benchmarks_load():
    paths = [*(Path(__file__).parents[2] / "benchmarks/recipes").glob("*.yaml")]
    assert paths
    for path in paths:
        load_recipe(path)


@pytest.mark.parametrize("name", shipped_recipes())
def test_shipped_recipes_load_by_name_and_as_copies(name, tmp_path):
    copy = tmp_path / "my.yaml"
    copy.write_text(shipped_text(name), encoding="utf-8")
    data = yaml.safe_load(copy.read_text(encoding="utf-8"))
    files = {"catalog.path": "x.jsonl", "sft.teacher": "labels"}
    given = {
        path: file for path, file in files.items() if path.partition(".")[2] in data.get(path.partition(".")[0], {})
    }
    by_name, copied = load_recipe(name, given), load_recipe(copy, given)
    assert by_name == copied
    if given:
        with pytest.raises(InputError, match=rf"afmrl run {name} --catalog\.path .*afmrl recipe {name} > my\.yaml"):
            load_recipe(name)


def test_shipped_recipes_say_what_they_are_in_one_line():
    files = [file.name for file in resources.files("afmrl.recipes").iterdir() if file.name.endswith(".yaml")]
    assert {f"{name}.yaml" for name in shipped_recipes()} == set(files)
    for about in shipped_recipes().values():
        assert 20 < len(about) < 100 and about.endswith(".")


def test_a_recipe_has_at_most_122_fields_and_each_says_what_it_is():
    fields = list(leaves(Recipe))
    assert len(fields) <= 122  # the 122nd, hardware.lora.vision: half of the cost of a step of AGCL
    assert len({field.name for field in fields}) == len(fields)
    assert set(PATHS) <= {field.name for field in fields}
    for field in fields:
        assert len(field.meaning) > 5 and field.allowed, field.name


def test_defaults_are_allowed_values():
    recipe = recipe_of(OWN)
    assert recipe_of(recipe.model_dump()) == recipe
    assert recipe_of(recipe.model_dump(mode="json")) == recipe  # as run.json keeps it


def test_recipe_of_takes_plain_dicts():
    assert recipe_of(SMALL).catalog.sample.families == {"train": 4}
