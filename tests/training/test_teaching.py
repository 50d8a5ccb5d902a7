"""What a generator is taught: catalog's labels, a teacher's, or both; the prompt that goes with them."""

import json

import numpy as np
import pytest
from transformers import TrainerCallback

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.data.offer import Offer
from afmrl.errors import InputError
from afmrl.generator.generator import AttributeGenerator
from afmrl.generator.prompt import GeneratorPrompt
from afmrl.training.config import Hardware, Lora, PromptOptions, RARStage, SFTStage
from afmrl.training.recipe import load_recipe, recipe_of
from afmrl.training.sft import run_sft
from afmrl.training.teaching import teaching_set

OFFERS = [
    Offer("1", "Red silk dress, size M", category="Dress"),
    Offer("2", "Coat", category="Coat"),
    Offer("3", "Blue coat", category="Coat"),
]
OWN = [
    KeyAttributes.of({"colour": "wine", "size": "m", "fit": "slim"}),
    KeyAttributes.of({"fit": "wide"}),
    KeyAttributes(),
]


def jsonl(path, *rows):
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_whose_labels_are_taught(tmp_path):
    path = jsonl(
        tmp_path / "t.jsonl",
        {"id": "1", "key_attributes": {"material": "silk", "colour": "red"}},
        {"id": "3", "key_attributes": {"colour": "blue"}},
    )

    def taught(labels):
        teacher = None if labels == "catalog" else str(path)
        found = teaching_set(SFTStage(targets=labels, teacher=teacher), OFFERS, OWN)
        assert found.prompt is None
        return {offer.id: str(target) for offer, target in zip(found.offers, found.targets, strict=True)}

    # what nobody said anything of teaches nothing, above all not "none"
    assert taught("catalog") == {"1": "colour: wine; size: m; fit: slim", "2": "fit: wide"}
    # what the teacher has no answer for teaches nothing, above all not "none"
    assert taught("teacher") == {"1": "material: silk; colour: red", "3": "colour: blue"}
    # the teacher's colour counts; the title says m, and nothing of slim
    assert taught("both") == {"1": "material: silk; colour: red; size: m", "2": "fit: wide", "3": "colour: blue"}


def test_what_cannot_be_taught_is_refused(tmp_path):
    path = jsonl(tmp_path / "t.jsonl", {"id": "x", "key_attributes": {"a": "b"}})
    with pytest.raises(InputError, match="has attributes for none of the 3 training offers"):
        teaching_set(SFTStage(targets="both", teacher=str(path)), OFFERS, OWN)


def test_a_schema_orders_labels_and_prompt(tmp_path):
    (tmp_path / "schema.yaml").write_text("dress: [size, {key: color, synonyms: [colour]}]\n")
    config = SFTStage(prompt=PromptOptions(attribute_schema=str(tmp_path / "schema.yaml"), category=True))
    found = teaching_set(config, OFFERS, OWN)
    labels, prompt = found.targets, found.prompt
    assert [str(label) for label in labels] == ["size: m; color: wine", "fit: wide"]
    assert (
        prompt.text(OFFERS[0]) == "Category: Dress\nKeys: size, color\nTitle: Red silk dress, size M\nKey attributes:"
    )
    offers = [Offer(str(i), f"Coat {i}", category="Coat") for i in range(6)]
    own = [KeyAttributes.of({"brand": "acme", "fit": f"f{i}"}) for i in range(6)]
    found = teaching_set(SFTStage(prompt=PromptOptions(attribute_schema="learn")), offers, own)
    labels, prompt = found.targets, found.prompt
    assert prompt.schema.keys("coat") == ["fit"]
    assert str(labels[3]) == "fit: f3"


def test_a_teachers_none_is_taught_and_what_the_schema_empties_is_not(tmp_path):
    teacher = jsonl(
        tmp_path / "t.jsonl",
        {"id": "1", "completion": "none"},
        {"id": "2", "key_attributes": {"颜色": "red"}},
        {"id": "3", "key_attributes": {"fit": "wide"}},
    )
    (tmp_path / "schema.yaml").write_text('"*": [fit]\n')
    options = PromptOptions(attribute_schema=str(tmp_path / "schema.yaml"))
    found = teaching_set(SFTStage(targets="teacher", teacher=str(teacher), prompt=options), OFFERS, OWN)
    offers, labels = found.offers, found.targets
    assert {o.id: str(label) for o, label in zip(offers, labels, strict=True)} == {"1": "none", "3": "fit: wide"}
    (tmp_path / "schema.yaml").write_text('"*": [weight]\n')
    with pytest.raises(InputError, match="has none of the targets' keys, which are colour, size, fit"):
        teaching_set(SFTStage(prompt=options), OFFERS, OWN)


def prepared(tmp_path, rows, sft, **more):
    from afmrl.training.data import prepare_data
    from afmrl.training.ledger import Ledger
    from afmrl.training.run_state import Run

    said = []
    more["rar"] = {"prompts_per_step": 1, **more.get("rar", {})}
    recipe = recipe_of({"catalog": {"path": str(jsonl(tmp_path / "c.jsonl", *rows))}, "base": "m", "sft": sft, **more})
    run = Run(tmp_path, recipe, Ledger(tmp_path), said.append, lambda *_: [])
    prepare_data(run)
    run.said = said
    return run


def test_too_few_reward_queries_are_refused_before_anything_is_trained(tmp_path):
    parts = ("train", "reward", "test")
    rows = [
        {"id": f"{part}{k}", "title": f"Coat {k}", "product_id": part, "split": part, "attributes": {"color": "red"}}
        for part in parts
        for k in range(2)
    ]
    with pytest.raises(InputError, match="1 of 1 reward queries can be trained on, fewer than rar.prompts_per_step=2"):
        prepared(tmp_path, rows, {}, rar={"prompts_per_step": 2})
    prepared(tmp_path, rows, {}, rar={"prompts_per_step": 2, "max_steps": 0})


def test_roles_that_are_none_are_told(tmp_path):
    rows = three_splits(attributes={"color": "red"})
    rows[0]["role"], rows[1]["role"] = "querry", "both"
    said = [line for line in prepared(tmp_path, rows, {}).said if line.startswith("role")]
    assert len(said) == 1
    assert "role 'querry' of 1 offers is unknown (there are query, gallery, both) and counts as no role" in said[0]


def test_a_text_that_may_show_labels_is_said_where_the_generator_learns_them_and_nowhere_else(tmp_path):
    rows = three_splits(attributes={"brand": "Acme", "color": "red"})
    teacher = jsonl(tmp_path / "t.jsonl", *({"id": row["id"], "key_attributes": {"color": "red"}} for row in rows))
    of_teacher = {"targets": "teacher", "teacher": str(teacher)}
    untrained = {"rar": {"max_steps": 0}, "cit": {"rounds": 0}, "agcl": {"attributes_on": "none"}}
    for sft, more, is_said in (
        ({}, {}, True),
        (of_teacher, {}, False),
        ({"max_steps": 0}, untrained, False),
        ({}, {"agcl": {"seller_attributes": "none"}}, False),
    ):
        said = " ".join(prepared(tmp_path, rows, sft, **more).said)
        assert ("shows what sellers state in the column 'attributes'" in said) == is_said, (sft, more, said)
    assert "the text of 6 of 6 offers" in " ".join(prepared(tmp_path, rows, {}).said)


def three_splits(**attributes):
    return [
        {"id": f"{split}{number}", "title": "Dress", "product_id": split, "split": split, **attributes}
        for split in ("train", "reward", "test") for number in range(2)
    ]  # fmt: skip


def test_all_that_is_held_to_labels_reads_them_in_the_schemas_words(tmp_path):
    (tmp_path / "s.yaml").write_text('"*": [{key: color, synonyms: [colour]}, volume]\n')
    rows = three_splits(attributes={"Colour": "Red", "Volume": "1.5 L", "Article": "A14"})
    run = prepared(tmp_path, rows, {"prompt": {"attribute_schema": str(tmp_path / "s.yaml")}})
    told = {str(label) for split in run.splits.values() for label in split.targets}
    assert told == {str(label) for label in run.teaching_set.targets} == {"color: red; volume: 1500 ml"}
    without = prepared(tmp_path, rows, {})
    assert without.made_of["data"] != run.made_of["data"]


def test_a_catalog_without_attributes_learns_from_its_teacher(tmp_path):
    rows = three_splits()
    answers = [{"id": row["id"], "key_attributes": {"color": row["split"]}} for row in rows if row["id"] != "test1"]
    teacher = str(jsonl(tmp_path / "t.jsonl", *answers))
    run = prepared(tmp_path, rows, {"targets": "teacher", "teacher": teacher})
    assert [str(label) for label in run.splits["reward"].targets] == ["color: reward"] * 2
    assert [str(label) for label in run.splits["test"].targets] == ["color: test", "none"]
    first = run.made_of["data"]
    answers[0]["key_attributes"] = {"color": "other"}
    teacher = str(jsonl(tmp_path / "t.jsonl", *answers))
    assert prepared(tmp_path, rows, {"targets": "teacher", "teacher": teacher}).made_of["data"] != first


def test_a_catalog_without_attributes_learns_what_rules_read(tmp_path):
    rows = three_splits()
    for row in rows:
        row["title"] = f"Red dress, 1.5 kg, 4006381333931, sold by {row['split']}"
    run = prepared(tmp_path, rows, {})
    assert any(line.startswith("the catalog has no attributes: rules read targets") for line in run.said)
    assert {str(target) for split in run.splits.values() for target in split.targets} == {"weight: 1500 g; color: red"}
    assert list(map(str, run.teaching_set.targets)) == ["weight: 1500 g; color: red"] * 2
    stated = [{**row, "attributes": {"price": "3"}} for row in rows]  # no trait of a product
    assert str(prepared(tmp_path, stated, {}).splits["train"].targets[0]) == "weight: 1500 g; color: red"
    labeled = [{**row, "attributes": {"color": "wine"}} for row in rows]
    assert str(prepared(tmp_path, labeled, {}).splits["train"].targets[0]) == "color: wine"
    assert "weight" in str(prepared(tmp_path, labeled, {"targets": "rules"}).splits["train"].targets[0])


def test_where_titles_say_nothing_either_the_embedder_is_trained_alone(tmp_path):
    run = prepared(tmp_path, three_splits(), {})
    assert any("the embedder is trained alone, no generator" in line for line in run.said)
    assert (run.recipe.sft.max_steps, run.recipe.rar.max_steps, run.recipe.agcl.attributes_on) == (0, 0, "none")


def test_targets_that_the_recipe_names_and_no_offer_has_are_refused(tmp_path):
    path = str(jsonl(tmp_path / "c.jsonl", *three_splits()))
    for targets in ({"column": "seen"}, {"keys": ["color"]}):
        with pytest.raises(InputError, match="no offer has key attributes in the column"):
            prepared(tmp_path, three_splits(), {}, catalog={"path": path, "targets": targets})


class Embeds:
    """A frozen embedder that remembers what it was asked for."""

    def __init__(self):
        self.seen = []

    def encode(self, offers, attributes=None, **_):
        self.seen.append(([offer.id for offer in offers], attributes))
        return np.eye(len(offers), 8, dtype=np.float32)


def asked_of_rar(monkeypatch, run, policy):
    """What RAR of a prepared run is called with, what was embedded for it, and what the run says."""
    from afmrl.training.run import reinforce_generator

    seen, said, embedder = {}, [], Embeds()

    def run_rar(config, path, reward, out_dir, **options):
        seen.update(options, config=config, reward=reward)

    monkeypatch.setattr("afmrl.training.run.run_rar", run_rar)
    monkeypatch.setattr("afmrl.embedder.embedder.Embedder.from_pretrained", lambda path: embedder)
    monkeypatch.setattr("afmrl.training.run.print_ceiling", lambda run: None)
    run.paths.update(sft=policy, agcl=policy)
    run.made_of.update(sft="", agcl="")
    run.say = said.append
    reinforce_generator(run)
    return {**seen, "embedded": embedder.seen}, said


@pytest.mark.parametrize(
    ("rar", "labeled", "asked"),
    [({}, ["p0"], ["p00"]), ({"rewarded_pairs": "all", "faithfulness_weight": 0.0}, ["p0"], ["p00", "p10"]),
     ({}, [], ["p00", "p10"])],
)  # fmt: skip
def test_a_query_that_nothing_is_known_of_is_not_rewarded_for_silence(
    tmp_path, tiny_model, monkeypatch, rar, labeled, asked
):
    rows = three_splits(attributes={"color": "red"})
    rows = [row for row in rows if row["split"] != "reward"] + [
        {"id": f"p{product}{number}", "title": "Dress", "product_id": f"p{product}", "split": "reward",
         "attributes": {"color": "red"} if f"p{product}" in labeled else {}}
        for product in range(2) for number in range(2)
    ]  # fmt: skip
    run = prepared(tmp_path, rows, {}, rar=rar, agcl={"attributes_on": "none"})
    seen, said = asked_of_rar(monkeypatch, run, tiny_model)
    reward = seen["reward"]
    assert [offer.id for offer in reward.offers] == asked and len(reward.relevant) == len(asked)
    assert (reward.targets is None) == (not labeled)
    assert len(said) == (len(asked) == 1 or not labeled)
    if said:
        expected = "1 of 2 queries have no attributes to hold them to" if labeled else "the reward is retrieval alone"
        assert expected in said[0]


@pytest.mark.parametrize(
    ("agcl", "rar", "attributes_on", "described", "gallery"),
    [("gallery", None, "gallery", ["p01"], True), ("both", "gallery", "gallery", ["p01"], True),
     ("both", None, "both", ["p00"], True), ("both", "query", "query", ["p00"], False)],
)  # fmt: skip
def test_rar_describes_what_carries_attributes(
    tmp_path, tiny_model, monkeypatch, agcl, rar, attributes_on, described, gallery
):
    rows = [row for row in three_splits(attributes={"color": "red"}) if row["split"] != "reward"] + [
        {"id": f"p{product}{number}", "title": "Dress", "product_id": f"p{product}", "split": "reward",
         "attributes": {"color": f"{number}"} if product == 0 else {}}
        for product in range(2) for number in range(2)
    ]  # fmt: skip
    rows += [{"id": f"v{number}", "title": "Dress", "product_id": "v", "split": "val"} for number in range(2)]
    run = prepared(
        tmp_path, rows, {}, rar={"gallery_attributes": "targets", "attributes_on": rar}, agcl={"attributes_on": agcl}
    )
    seen, said = asked_of_rar(monkeypatch, run, tiny_model)
    assert seen["config"].attributes_on == attributes_on and seen["validation"].attributes_on == attributes_on
    assert [offer.id for offer in seen["reward"].offers] == described
    # of the product that nothing is known of neither query nor offer is described; its query asks nevertheless
    what, value = ("offers that queries look for", "1") if attributes_on == "gallery" else ("queries", "0")
    assert said == [f"rar: 1 of 2 {what} have no attributes to hold them to and are left out"]
    assert [str(target) for target in seen["reward"].targets] == [f"color: {value}"]
    (galleries, attributes), *others = seen["embedded"]
    assert galleries == ["p01", "p11"] and (attributes is not None) == gallery
    # queries that look for the gallery's offers carry no attributes
    assert others == ([(["p00", "p10"], None)] if attributes_on == "gallery" else [])


def test_the_recipe_says_whose_labels(tmp_path):
    base = {"catalog": {"path": "x.jsonl"}, "base": "m"}
    with pytest.raises(
        InputError, match="'sft.targets': 'sellers' is not allowed; expected catalog, teacher, both or rules"
    ):
        recipe_of({**base, "sft": {"targets": "sellers"}})
    for sft in ({}, {"targets": "both", "teacher": "t.jsonl"}):
        with pytest.raises(InputError, match=r"shows what 'sft.targets' .* and the generator would learn to copy it"):
            recipe_of({**base, "sft": {**sft, "prompt": {"show_sellers_attributes": True}}})
    taught = {"targets": "teacher", "teacher": "t.jsonl", "prompt": {"show_sellers_attributes": True}}
    assert recipe_of({**base, "sft": taught}).sft.prompt.show_sellers_attributes
    read = {"path": "x.jsonl", "targets": {"column": "seen"}}
    assert recipe_of({**base, "catalog": read, "sft": {"prompt": {"show_sellers_attributes": True}}})
    for sft in ({"targets": "teacher"}, {"teacher": "t.jsonl"}):
        with pytest.raises(InputError, match=r"'sft.teacher': names targets and 'sft.targets' says to use them"):
            recipe_of({**base, "sft": sft})
    path = tmp_path / "r.yaml"
    path.write_text(
        json.dumps({**base, "sft": {"targets": "both", "teacher": "t.jsonl", "prompt": {"attribute_schema": "s.yaml"}}})
    )
    recipe = load_recipe(path)
    assert (recipe.sft.teacher, recipe.sft.prompt.attribute_schema) == (
        str(tmp_path / "t.jsonl"),
        str(tmp_path / "s.yaml"),
    )
    assert load_recipe(path, {"sft.prompt.attribute_schema": "learn"}).sft.prompt.attribute_schema == "learn"


def test_a_wrong_teacher_is_told_before_anything_is_trained(tmp_path):
    from afmrl.training.run import run as run_recipe

    rows = [{"id": f"{p}{n}", "title": "dress", "product_id": p, "split": split, "attributes": {"color": "red"}}
            for p, split in (("a", "train"), ("b", "test")) for n in range(2)]  # fmt: skip
    data = {
        "catalog": {"path": str(jsonl(tmp_path / "c.jsonl", *rows))},
        "base": "no/such-model",
        "rar": {"max_steps": 0},
        "sft": {"targets": "both", "teacher": str(jsonl(tmp_path / "t.jsonl", {"id": "x", "completion": "none"}))},
    }
    with pytest.raises(InputError, match="has attributes for none of the 2 training offers"):
        run_recipe(recipe_of(data), tmp_path / "run")


@pytest.fixture(scope="module")
def taught_model(tiny_model, tmp_path_factory):
    """A generator taught with a prompt of its own, and what it was shown."""
    folder = tmp_path_factory.mktemp("taught")
    offers = [Offer(str(i), f"red silk dress {i}", category="Dress", attributes={"mood": "happy"}) for i in range(8)]
    prompt = GeneratorPrompt(category=True)
    config = SFTStage(max_steps=40, batch_size=8, learning_rate=3e-3, warmup_steps=2)
    run_sft(config, tiny_model, offers, [KeyAttributes.of({"color": "red"})] * 8, folder / "model", prompt=prompt)
    return folder / "model", offers


def test_who_loads_it_asks_what_it_was_taught(taught_model, tmp_path):
    folder, offers = taught_model
    generator = AttributeGenerator.from_pretrained(folder)
    assert generator.prompt == GeneratorPrompt(category=True)
    assert generator.requests(offers[:1])[0].messages[0]["content"][0]["text"].splitlines()[0] == "Category: Dress"
    assert str(generator.attributes(offers[:1])[0]) == "color: red"
    # trained on, it keeps its prompt
    config = SFTStage(max_steps=1, batch_size=2)
    run_sft(config, folder, offers, [KeyAttributes.of({"color": "red"})] * 8, tmp_path / "again")
    assert GeneratorPrompt.load(tmp_path / "again") == GeneratorPrompt(category=True)


def test_rar_asks_it_too(taught_model, monkeypatch, tmp_path):
    """RAR's prompts are those of the policy's own training."""
    from afmrl.training.rar import run_rar
    from afmrl.training.split_reward import query_reward

    prompts = []

    class Stop(Exception):
        pass

    def stop(*args, train_dataset, **kwargs):
        prompts.extend(message["content"] for message in train_dataset[0]["prompt"])
        raise Stop

    monkeypatch.setattr("trl.GRPOTrainer", stop)
    folder, offers = taught_model
    config = RARStage(prompts_per_step=1, num_generations=2, teachable_only=False)
    reward = query_reward(config, folder, Embeds(), offers[:1], offers[:2], [[0]])
    with pytest.raises(Stop):
        run_rar(config, folder, reward, tmp_path)
    assert "Category: Dress" in str(prompts)


def test_micro_batches_of_sft_make_the_same_step(tiny_model, tmp_path):
    offers = [Offer(str(i), f"red silk dress {i}" * (1 + i % 3)) for i in range(8)]
    labels = [KeyAttributes.of({"color": "red", **({"number": str(i)} if i % 2 else {})}) for i in range(8)]
    curves = []
    for micro in (None, 2):
        config = SFTStage(max_steps=3, batch_size=8, micro_batch_size=micro, learning_rate=1e-3)
        done = run_sft(config, tiny_model, offers, labels, tmp_path / str(micro))
        curves.append([entry["loss"] for entry in done["history"]])
    assert curves[0] == pytest.approx(curves[1], rel=1e-3) and curves[0][0] > curves[0][-1]
    with pytest.raises(InputError, match="sft.micro_batch_size=3 must divide the 8 offers"):
        run_sft(SFTStage(batch_size=8, micro_batch_size=3), tiny_model, offers, labels, tmp_path / "no")


class StopAt(TrainerCallback):
    """Ends a run as a kill does, behind the step that is told."""

    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **_):
        if state.global_step == self.step:
            raise KeyboardInterrupt


@pytest.mark.parametrize("lora", [None, Lora(r=4, stages=("sft",))])
def test_sft_goes_on_with_the_weights_of_its_checkpoint(tiny_model, tmp_path, lora):
    """transformers' trainer reads a Qwen2-VL checkpoint by other names than it was written under, and only warns."""
    offers = [Offer(str(i), f"red silk dress {i}") for i in range(8)]
    labels = [KeyAttributes.of({"color": "red", "number": str(i)}) for i in range(8)]
    config, hardware = SFTStage(max_steps=6, batch_size=4, learning_rate=3e-3), Hardware(save_steps=3, lora=lora)
    whole = run_sft(config, tiny_model, offers, labels, tmp_path / "whole", hardware=hardware)["history"]
    with pytest.raises(KeyboardInterrupt):
        run_sft(config, tiny_model, offers, labels, tmp_path / "again", hardware=hardware, callbacks=[StopAt(4)])
    again = run_sft(config, tiny_model, offers, labels, tmp_path / "again", hardware=hardware)["history"]
    assert [entry["loss"] for entry in again] == [entry["loss"] for entry in whole]
    models = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "again")]
    assert models[0] == models[1]


def test_sft_learns_pairs_alone(tiny_model, tmp_path):
    with pytest.raises(InputError, match="learns to answer in pairs"):
        run_sft(SFTStage(), tiny_model, OFFERS, OWN, tmp_path, prompt=GeneratorPrompt.for_teacher())
