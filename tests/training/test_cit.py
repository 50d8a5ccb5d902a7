"""CIT: what is written anew, which round is kept, the control, and a kill in the middle."""

import json
import os
import shutil
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.attributes.schema import AttributeSchema
from afmrl.data.offer import Offer
from afmrl.errors import InputError
from afmrl.generator.engines.base import Completion
from afmrl.generator.generator import AttributeGenerator
from afmrl.generator.prompt import GeneratorPrompt
from afmrl.training import cit_rounds
from afmrl.training.cit import Rewritten, rewrite, rows_to_rewrite
from afmrl.training.config import CITStage
from afmrl.training.ledger import Ledger
from afmrl.training.recipe import recipe_of
from conftest import ROOT, afmrl

OFFERS = [Offer(f"o{n}", f"dress {n}", product_id=str(n // 3)) for n in range(30)]
OLD = [KeyAttributes.of({"color": "red"})] * 30
BASE = {"catalog": {"sample": {"families": {"train": 4}}}, "tiny": {"hidden_size": 64}}


class Scripted(AttributeGenerator):
    """Writes what it is told, and keeps what it was asked."""

    def __init__(self, texts, ended=True, prompt=None):
        super().__init__(None, prompt)
        self.texts, self.ended, self.asked = texts, ended, []

    def generate(self, offers, **options):
        self.asked.append(([offer.id for offer in offers], options))
        return [[Completion(self.texts.get(offer.id, "color: blue"), 3, self.ended)] for offer in offers]


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 1.0])
def test_a_share_of_the_offers_product_by_product(share):
    rows = rows_to_rewrite(OFFERS, share, seed=1)
    assert rows == sorted(set(rows)) and abs(len(rows) - 30 * share) <= 2
    products = {OFFERS[row].product_id for row in rows}
    assert len(rows) == 3 * len(products)
    assert rows == rows_to_rewrite(OFFERS, share, seed=1)
    if share < 1:
        assert rows != rows_to_rewrite(OFFERS, share, seed=2)


def test_nothing_for_the_control_and_no_share_beyond_all():
    assert rows_to_rewrite(OFFERS, 0.0, seed=1) == []
    with pytest.raises(InputError, match=r"cit.share: 1.2 is no share"):
        rows_to_rewrite(OFFERS, 1.2, seed=1)


def test_only_the_chosen_are_written_and_an_invalid_one_keeps_what_it_had(tmp_path):
    generator = Scripted({"o3": "color: red", "o4": "nonsense", "o5": "color: green; cut: wide"})
    found = rewrite(generator, OFFERS, OLD, [3, 4, 5, 9], tmp_path, max_new_tokens=7)
    assert generator.asked == [
        (["o3", "o4", "o5", "o9"], {"max_new_tokens": 7, "batch_size": 64, "seed": None, "progress": True})
    ]
    assert [str(found.attributes[row]) for row in (3, 4, 5, 9, 10)] == [
        "color: red", "color: red", "color: green; cut: wide", "color: blue", "color: red",
    ]  # fmt: skip
    assert (found.num_written, found.num_changed, found.num_invalid) == (4, 2, 1)
    assert OLD[5].as_dict() == {"color": "red"}  # what was given stays
    with pytest.raises(InputError, match="none of the generator's 2 completions"):
        (tmp_path / "other").mkdir()
        rewrite(Scripted({}, ended=False), OFFERS, OLD, [1, 2], tmp_path / "other")


def test_what_is_written_anew_is_in_the_schemas_words(tmp_path):
    schema = AttributeSchema.of({"*": [{"key": "color", "synonyms": ["farbe"]}]})
    generator = Scripted({"o3": "farbe: green; mood: gay"}, prompt=GeneratorPrompt(schema=schema))
    assert str(rewrite(generator, OFFERS, OLD, [3], tmp_path).attributes[3]) == "color: green"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"cit": {"init": "warm"}}, "'cit.init': 'warm' is not allowed; expected scratch or continue"),
        ({"cit": {"share": 1.5}}, "'cit.share': 1.5 is not allowed; expected a number between 0 and 1"),
        ({"cit": {"rounds": -1}}, "'cit.rounds': -1 is not allowed; expected a whole number of at least 0"),
        ({"cit": {"rounds": 1}, "rar": {"max_steps": 0}}, "'cit.rounds': needs a generator that RAR trained"),
        ({"agcl": {"similar_share": 1.5}}, "'agcl.similar_share': 1.5 is not allowed"),
        ({"rar": {"faithfulness_weight": -1}}, "'rar.faithfulness_weight': -1 is not allowed; expected a number of at"),
        ({"rar": {"rewarded_pairs": "none"}}, "'rar.rewarded_pairs': 'none' is not allowed; expected true or all"),
        ({"cit": {"guidance": "after"}}, "'cit.guidance': 'after' is not allowed; expected written or before"),
        (
            {"agcl": {"attributes_on": "none"}, "cit": {"guidance": "before"}},
            "'cit.guidance': needs attributes in the text",
        ),
        (
            {"agcl": {"attributes_on": "none", "text_attributes": "generated"}},
            "'agcl.text_attributes': needs attributes",
        ),
        (
            {"agcl": {"attributes_on": "query"}, "rar": {"attributes_on": "gallery"}},
            "'agcl.attributes_on' 'query': the embedder would read attributes where it never saw any",
        ),
        ({"agcl": {"text_attributes": "titles"}}, "'agcl.text_attributes': 'titles' is not allowed"),
        ({"agcl": {"directions": ["doc_to_query"]}}, "'agcl.directions': .* must hold 'query_to_doc'"),
        ({"agcl": {"directions": ["query_to_doc", "back"]}}, "'agcl.directions': 'back' is not allowed"),
    ],
)
def test_mistakes_are_answered_by_name(data, message):
    with pytest.raises(InputError, match=message):
        recipe_of({**BASE, **data})
    assert recipe_of(BASE).cit == CITStage(rounds=0, share=0.3, init="scratch")


class FakeRun:
    """Enough of a run to see which stages are asked for, in which order, on what."""

    def __init__(self, rounds, init="scratch"):
        self.recipe = recipe_of({**BASE, "cit": {"rounds": rounds, "init": init}})
        self.paths = {"agcl": "embedder-0", "rar": "generator-1"}
        self.made_of = {"agcl": "a", "rar": "r"}
        self.cit, self.cit_generator, self.said = {}, "rar", []
        self.say = self.said.append


@pytest.mark.parametrize(
    ("mrrs", "kept", "embedder", "generator"),
    [
        ([0.5, 0.6, 0.4], 1, "cit-1", "rar"),
        ([0.5, 0.4, 0.7], 2, "cit-2", "cit-rar-2"),
        ([0.5, 0.4, 0.3], 0, "agcl", "rar"),
        ([0.5, 0.5, 0.5], 0, "agcl", "rar"),
    ],
)
def test_the_round_that_is_best_on_val_is_kept(monkeypatch, mrrs, kept, embedder, generator):
    run, calls = FakeRun(rounds=2), []

    def rewritten(run, stage, by, number, last):
        assert last == (None if number == 1 else [number - 1])  # every round goes on from the one before
        calls.append((stage, by))
        return [number]

    def train(run, stage, labels, before, number, labels_stage):
        calls.append((stage, labels, before))
        run.paths[stage], run.made_of[stage] = f"path of {stage}", stage

    def reinforce(stage, start, trained):
        calls.append((stage, start, trained))
        run.paths[stage], run.made_of[stage] = f"path of {stage}", stage

    def on_val(run, stage, embedder, generator):
        return mrrs[int(stage[-1])]

    for name, fake in (("_rewritten", rewritten), ("_train", train), ("_on_val", on_val)):
        monkeypatch.setattr(cit_rounds, name, fake)
    cit_rounds.run_rounds(run, reinforce)
    assert calls == [
        ("cit-attributes-1", "rar"),
        ("cit-1", [1], "agcl"),
        ("cit-rar-2", "rar", "cit-1"),  # reinforced again in the embedder of the round before
        ("cit-attributes-2", "cit-rar-2"),
        ("cit-2", [2], "cit-1"),
    ]
    assert run.cit == {"kept_round": kept, "val_mrr": mrrs}
    assert (run.paths["cit"], run.cit_generator) == (run.paths[embedder], generator)


@pytest.mark.parametrize(
    ("text", "guidance", "guiding"),
    [("targets", "written", "new"), ("targets", "before", "old"), ("generated", "written", "old")],
)
def test_what_was_written_is_shown_and_guides_only_where_it_should(monkeypatch, tmp_path, text, guidance, guiding):
    asked = {}

    def run_agcl(config, base, offers, attributes, out_dir, *, text_attributes, **_):
        asked.update(attributes=attributes, text=text_attributes, base=base)
        return {}

    monkeypatch.setattr(cit_rounds, "run_agcl", run_agcl)
    run = SimpleNamespace(
        recipe=recipe_of(
            {**BASE, "agcl": {"text_attributes": text}, "cit": {"rounds": 1, "init": "continue", "guidance": guidance}}
        ),
        splits={"train": SimpleNamespace(offers=OFFERS, targets="old", queries=())},
        paths={"agcl": "embedder-0"},
        made_of={"agcl": "a", "base": "b", "labels": "l"},
        ledger=Ledger(tmp_path),
        callbacks=lambda *_: [],
    )
    cit_rounds._train(run, "cit-1", "new", "agcl", 1, "labels")
    assert asked == {"attributes": guiding, "text": "new", "base": "embedder-0"}


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_what_is_not_written_anew_is_what_the_text_showed_before(monkeypatch, tmp_path, share):
    new, sft = KeyAttributes.of({"color": "new"}), KeyAttributes.of({"color": "sft"})
    run = SimpleNamespace(
        recipe=recipe_of({**BASE, "agcl": {"text_attributes": "generated"}, "cit": {"rounds": 1, "share": share}}),
        splits={"train": SimpleNamespace(offers=OFFERS, targets=OLD)},
        paths={"rar": "generator"},
        made_of={"rar": "r", "sft": "s", "data": "d"},
        ledger=Ledger(tmp_path),
    )

    def rewritten(generator, offers, attributes, rows, folder, **_):
        return Rewritten([new if row in rows else of for row, of in enumerate(attributes)], len(rows), len(rows), 0)

    monkeypatch.setattr(cit_rounds, "training_text_attributes", lambda run: [sft] * len(OFFERS))
    monkeypatch.setattr(cit_rounds, "rewrite", rewritten)
    monkeypatch.setattr(cit_rounds.AttributeGenerator, "from_pretrained", lambda path: path)
    found = cit_rounds._rewritten(run, "cit-attributes-1", "rar", 1)
    assert found.count(new) == share * len(OFFERS) and found.count(sft) == (1 - share) * len(OFFERS)
    before = run.made_of["cit-attributes-1"]
    run.made_of["sft"] = "another"
    cit_rounds._rewritten(run, "cit-attributes-1", "rar", 1)
    assert run.made_of["cit-attributes-1"] != before
    # a second round keeps what the first wrote
    again = cit_rounds._rewritten(run, "cit-attributes-2", "rar", 2, found)
    assert all(second == new for first, second in zip(found, again, strict=True) if first == new)
    of_these = run.made_of["cit-attributes-2"]
    cit_rounds._rewritten(run, "cit-attributes-2", "rar", 2, [new] * len(OFFERS))
    assert run.made_of["cit-attributes-2"] != of_these


# as a run

KILLED = """
import os, signal
import afmrl.training.agcl
import transformers
from afmrl.cli.app import main
save = transformers.Trainer._save_checkpoint
def last(self, *rest):
    save(self, *rest)
    if "cit-1" in self.args.output_dir:
        os.kill(os.getpid(), signal.SIGKILL)
transformers.Trainer._save_checkpoint = last
main()
"""


def run_again(folder, *options):
    done = afmrl("run", ROOT / "src/afmrl/recipes/quickstart-fast.yaml", "--out", folder, *options)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
def test_killed_in_its_second_training_it_ends_with_the_same_numbers(quickstart, tmp_path):
    options = ["--cit.rounds", "1", "--hardware.save_steps", "4"]
    whole, killed = (shutil.copytree(quickstart, tmp_path / name) for name in ("whole", "killed"))
    run_again(whole, *options)
    script = [sys.executable, "-c", KILLED, "run", ROOT / "src/afmrl/recipes/quickstart-fast.yaml", "--out", killed]
    done = subprocess.run(
        [*map(str, script), *options], capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    stages = killed / "stages"
    assert (stages / "cit-attributes-1" / "complete.json").is_file() and not (
        stages / "cit-1" / "complete.json"
    ).exists()
    assert [path.name for path in (stages / "cit-1" / "model").glob("checkpoint-*")] == ["checkpoint-4"]
    out = run_again(killed, *options)
    assert "cit-1: was interrupted, resumes from what is there" in out
    assert "cit-attributes-1: complete, not run again" in out and "rar: complete, not run again" in out
    one, other = (folder / "stages/cit-1/model/model.safetensors" for folder in (whole, killed))
    assert one.read_bytes() == other.read_bytes()
    ours, theirs = (json.loads((folder / "metrics.json").read_text()) for folder in (killed, whole))
    assert ours["rows"] == theirs["rows"] and ours["cit"] == theirs["cit"]
    assert {"cit", "cit:query", "cit:both"} <= set(ours["rows"])

    # what it says it did
    told = json.loads((whole / "stages/cit-attributes-1/complete.json").read_text())["result"]
    train = json.loads((whole / "stages/sft/complete.json").read_text())["result"]["num_offers"]
    assert abs(told["num_written"] - 0.3 * train) <= 4 and told["num_changed"] > 0
    kept = ours["cit"]["kept_round"]
    embedder = whole / "stages" / ("agcl", "cit-1")[kept] / "model" / "model.safetensors"
    assert (whole / "embedder" / "model.safetensors").read_bytes() == embedder.read_bytes()
    assert max(ours["cit"]["val_mrr"]) == ours["cit"]["val_mrr"][kept]
    assert set(ours["alignment_tax"]) == {"agcl", "sft", "rar", "cit"}

    # the control: as many steps from the same start, on the attributes that it had
    run_again(whole, *options, "--cit.share", "0")
    control = (whole / "stages" / "cit-attributes-1" / "attributes.jsonl").read_text().splitlines()
    rewritten = (killed / "stages" / "cit-attributes-1" / "attributes.jsonl").read_text().splitlines()
    changed = sum(one != two for one, two in zip(control, rewritten, strict=True))
    assert changed == told["num_changed"]
    assert one.read_bytes() != other.read_bytes()


@pytest.mark.slow
def test_it_goes_on_from_the_embedder_before(quickstart, tmp_path):
    folder = shutil.copytree(quickstart, tmp_path / "run")
    run_again(folder, "--cit.rounds", "1", "--cit.init", "continue", "--agcl.learning_rate", "1e-9")
    # at this rate AGCL hardly moves: the second training ends where the first did, and not at the base
    from safetensors.numpy import load_file

    first, second, base = (
        load_file(str(folder / "stages" / name / "model" / "model.safetensors")) for name in ("agcl", "cit-1", "base")
    )
    name = next(name for name in first if name.endswith("embed_tokens.weight"))
    assert abs(first[name] - second[name]).max() < 1e-5
    assert set(base) and first[name].shape == second[name].shape


def test_without_a_validation_split_it_is_refused_before_anything_is_trained(tmp_path):
    done = afmrl(
        "run", ROOT / "src/afmrl/recipes/quickstart-fast.yaml", "--out", tmp_path, "--cit.rounds", "1",
        "--catalog.sample.families", "{train: 4, reward: 2, test: 2}",
    )  # fmt: skip
    assert done.returncode == 2
    assert "CIT keeps the round that is best on the split 'val'" in " ".join(done.stderr.split())
    assert not (tmp_path / "stages" / "base").exists()
