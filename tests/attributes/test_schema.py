"""The attribute schema: read, applied to attributes, learned from a catalog."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.attributes.schema import AttributeSchema, normalize_value
from afmrl.attributes.schema_learning import key_discrimination, learn_schema
from afmrl.data.catalog import read_catalog
from afmrl.data.offer import Offer
from afmrl.errors import InputError
from conftest import shared_data

CLOTHES = {
    "Dress": [
        {"key": "colour", "synonyms": ["Color", "颜色"], "values": {"grey": ["gray", "灰色"], "red": []}},
        {"key": "size", "units": False},
        {"key": "fit", "values": ["slim", "regular"]},
        "volume",
    ],
    "*": ["brand"],
}


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("1.5 L", "1500ml"), ("Ｒｅｄ", " red "), ("深 红色", "深红色"), ("0.5 kg", "500 g"), ("2 PCS", "2 pieces"),
        ("STRASSE", "straße"),
    ],
)  # fmt: skip
def test_values_that_are_one(left, right):
    assert normalize_value(left) == normalize_value(right)


@pytest.mark.parametrize(
    ("left", "right"), [("1.5 l", "1.5 kg"), ("red", "dark red"), ("14 m us", "14 us"), ("红", "红色")]
)
def test_values_that_are_two(left, right):
    assert normalize_value(left) != normalize_value(right)


@given(st.text(max_size=30))
def test_normalizing_twice_is_normalizing_once(text):
    assert normalize_value(normalize_value(text)) == normalize_value(text)


def test_keys_order_spelling_and_allowed_values():
    schema = AttributeSchema.of(CLOTHES)
    given = KeyAttributes.of(
        {"volume": "1.5L", "fit": "Baggy", "Size": "14 M", "颜色": "灰色", "mood": "happy", "brand": "acme"}
    )
    assert schema.apply(given, "DRESS").pairs == (("colour", "grey"), ("size", "14 m"), ("volume", "1500 ml"))
    assert schema.apply(KeyAttributes.of({"fit": "Slim", "color": "dark gray"}), "dress").pairs == (
        ("colour", "dark grey"), ("fit", "slim"),
    )  # fmt: skip
    assert schema.apply(given, "shoes").pairs == (("brand", "acme"),)
    assert AttributeSchema.of({"dress": ["size"]}).apply(given, "shoes") == given, "of a category without keys"


def test_the_first_name_of_a_key_counts():
    schema = AttributeSchema.of(CLOTHES)
    assert schema.apply(KeyAttributes.of({"color": "red", "colour": "blue"}), "dress").pairs == (("colour", "blue"),)


@pytest.mark.parametrize("ending", ["json", "yaml"])
def test_what_is_saved_reads_back(tmp_path, ending):
    schema = AttributeSchema.of(CLOTHES)
    schema.save(tmp_path / f"schema.{ending}")
    assert AttributeSchema.load(tmp_path / f"schema.{ending}") == schema
    assert AttributeSchema.of(json.loads(json.dumps(schema.as_dict()))) == schema


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ([], "expected {category"),
        ({"dress": "color"}, "expected a list of keys"),
        ({"dress": [3]}, "is not a key"),
        ({"dress": ["color", "Color"]}, "'color' appears twice"),
        ({"dress": ["size"], "Dress": ["size"]}, "category appears twice"),
        ({"dress": ["color", {"key": "colour", "synonyms": ["color"]}]}, "the key 'color' appears twice"),
        ({"dress": [{"key": "color", "vals": []}]}, "unknown field 'vals'"),
        ({"dress": [{"key": "color", "values": {"red": ["rot"], "crimson": ["rot"]}}]}, "'rot' appears twice"),
        ({"dress": [{"key": "color", "values": ["unknown"]}]}, "cannot be a value"),
        ({"dress": [{"key": "color", "values": "red"}]}, "'values' as a list"),
        ({"dress": [{"key": " : "}]}, "cannot be the name"),
        ({"dress": [{"key": "size", "units": "no"}]}, "'units' is true or false"),
    ],
)
def test_what_is_no_schema_says_where(data, reason):
    with pytest.raises(InputError, match=reason):
        AttributeSchema.of(data)


def test_a_file_that_is_none(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        AttributeSchema.load(tmp_path / "no.yaml")
    (tmp_path / "bad.yaml").write_text("a: [")
    with pytest.raises(InputError, match="bad.yaml: is not YAML"):
        AttributeSchema.load(tmp_path / "bad.yaml")


def test_the_json_schema_holds_answers_to_the_keys():
    schema = AttributeSchema.of(CLOTHES)
    assert schema.json_schema("dress") == {
        "type": "object",
        "properties": {
            "colour": {"type": "string"},
            "size": {"type": "string"},
            "fit": {"type": "string", "enum": ["slim", "regular", "unknown"]},
            "volume": {"type": "string"},
        },
        "required": ["colour", "size", "fit", "volume"],
        "additionalProperties": False,
    }
    anything = AttributeSchema.of({"x": ["y"]}).json_schema("dress")
    assert anything == {"type": "object", "additionalProperties": {"type": "string"}}


# --- learning


def family(name, colors, sizes, category="Dress"):
    """Siblings: a product a color and size, two offers each; the seller's `lot` differs in every offer."""
    offers, attributes = [], []
    for color in colors:
        for size in sizes:
            for copy in range(2):
                offers.append(
                    Offer(f"{name}-{color}-{size}-{copy}", f"{name} {category}", category=category,
                          product_id=f"{name}-{color}-{size}")
                )  # fmt: skip
                attributes.append(
                    KeyAttributes.of(
                        {"lot": f"{len(offers)}", "brand": name, "size": size, "color": color, "material": "silk"}
                    )
                )
    return offers, attributes


def test_the_keys_that_split_siblings_and_not_products_come_first():
    offers, attributes = family("lumo", ["red", "blue", "green", "white"], ["s", "m"])
    schema = learn_schema(offers, attributes, num_siblings=30)
    # by hand: 4 colors split 3/4 of a product's siblings at least, sizes fewer; lot splits every product; brand none
    assert schema.keys("dress") == ["color", "size"]
    found = {one.key: one for one in key_discrimination(offers, attributes, num_siblings=30)["dress"]}
    pairs = 16 * 15 // 2 - 8
    assert (found["lot"].split, found["lot"].same_split, found["lot"].score) == (pairs, 8, 0.0)
    assert found["color"].split == 4 * 3 // 2 * 4 * 4
    assert found["size"].split == 8 * 8 - 0
    assert found["material"].split == found["brand"].split == found["color"].same_split == 0
    assert found["color"].score == pytest.approx(96 / pairs)


def test_categories_have_keys_of_their_own_and_others_the_catalogs():
    dresses, of_dresses = family("lumo", ["red", "blue", "green"], ["s"])
    drinks, of_drinks = family("acqua", ["still"], ["0.5 l", "1 l", "2 l"], category="Water")
    schema = learn_schema([*dresses, *drinks], [*of_dresses, *of_drinks], num_siblings=9)
    assert (schema.keys("dress"), schema.keys("water")) == (["color"], ["size"])
    assert set(schema.keys("anything else")) == {"color", "size"}


def test_spellings_of_one_value_split_nothing():
    offers, attributes = family("acqua", ["still"], ["1 l", "1000 ml", "１Ｌ"], category="Water")
    found = {one.key: one for one in key_discrimination(offers, attributes, num_siblings=9)["water"]}
    assert found["size"].siblings > 0
    assert found["size"].split == 0


def test_siblings_are_near_by_title_in_chinese_too():
    titles = ["深红色真丝连衣裙", "真丝连衣裙长款", "蓝色牛仔裤", "男款蓝色牛仔裤"]
    offers = [Offer(str(i), title, category="衣") for i, title in enumerate(titles)]
    attributes = [KeyAttributes.of({"款": "短" if i % 2 else "长", "类": "裙" if i < 2 else "裤"}) for i in range(4)]
    # nearest title: the other dress, the other trousers; so 款 splits and 类 does not
    assert learn_schema(offers, attributes, num_siblings=1, min_offers=2).keys("衣") == ["款"]


def test_few_values_over_many_offers_become_the_allowed_ones():
    offers, attributes = family("lumo", ["red", "blue"], ["s", "m", "l", "xl"])
    schema = learn_schema(offers, attributes, num_siblings=9, max_values=2)
    of = {key.name: key for key in schema.of_category("dress")}
    assert (of["color"].closed, set(of["color"].values)) == (True, {"red", "blue"})
    assert not of["size"].closed
    offers, attributes = family("acqua", ["red", "blue"], ["1 l", "1000 ml", "１Ｌ"])
    attributes = [
        KeyAttributes.of({"s": of_offer.as_dict()["size"], "x": str(i)}) for i, of_offer in enumerate(attributes)
    ]
    schema = learn_schema(offers, attributes, num_siblings=30, min_score=-1, max_values=2)
    of = {key.name: key for key in schema.of_category("dress")}
    assert (of["s"].closed, list(of["s"].values)) == (True, ["1000 ml"]), "spellings of one value are one"


def test_nothing_to_learn_from_is_said():
    offers = [Offer("1", "a"), Offer("2", "b")]
    with pytest.raises(InputError, match="no offer has any attribute"):
        learn_schema(offers, [KeyAttributes(), KeyAttributes()])
    with pytest.raises(InputError, match="no key splits siblings"):
        learn_schema(offers, [KeyAttributes.of({"a": "x"})] * 2)


def test_real_titles_give_sensible_keys():
    offers = list(read_catalog(shared_data("oa_mine") / "products.jsonl"))
    schema = learn_schema(offers, [KeyAttributes.of(offer.attributes) for offer in offers], max_keys=4)
    # as people would say it: shoes differ by model, color, size, brand; coffee by brand, flavour, content
    assert set(schema.keys("shoes")) == {"brand", "model name", "color", "size"}
    assert {"flavor", "brand", "net content"} <= set(schema.keys("coffee"))
    assert all(len(keys) <= 4 for keys in schema.categories.values())


@pytest.mark.parametrize("values", ["[[a]]", "[yes, no]", "{a: [b], on: []}", "[null]"])
def test_values_that_yaml_does_not_read_as_text_are_named(values, tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text(f'"*": [{{key: vegan, values: {values}}}]\n')
    with pytest.raises(InputError, match="key 'vegan': .* is not text; put it in quotes"):
        AttributeSchema.load(path)
