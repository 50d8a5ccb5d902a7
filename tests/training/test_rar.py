"""RAR: the traps of GRPO in trl, on a model small enough to train in seconds."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.data.offer import Offer
from afmrl.embedder.embedder import Embedder
from afmrl.generator.generator import AttributeGenerator
from afmrl.rewards.retrieval_reward import RetrievalReward
from afmrl.training import survey
from afmrl.training.completions import PART, forget_completions
from afmrl.training.config import Hardware, Lora, RARStage, SFTStage
from afmrl.training.rar import run_rar
from afmrl.training.recipe import CatalogSection, SplitSection
from afmrl.training.sft import run_sft
from afmrl.training.split_reward import gallery_reward, query_reward
from afmrl.training.splits import split_offers
from conftest import save_image

COLORS = ["red", "blue", "green", "white"]
LABELS = [KeyAttributes.of({"color": COLORS[number % 4]}) for number in range(8)]
SMALL = {"prompts_per_step": 2, "num_generations": 4, "max_new_tokens": 12, "warmup_steps": 0,
         "teachable_only": False, "faithfulness_weight": 1.0}  # fmt: skip


@pytest.fixture(scope="module")
def offers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    return [Offer(f"o{n}", f"{COLORS[n % 4]} dress", image=str(save_image(folder / f"{n}.png", n))) for n in range(8)]


@pytest.fixture(scope="module")
def policy(tiny_model, offers, tmp_path_factory):
    """A generator after a few steps of SFT: it has learned to end, but not always what to say."""
    folder = tmp_path_factory.mktemp("policy") / "model"
    run_sft(
        SFTStage(max_steps=25, batch_size=8, learning_rate=3e-3, warmup_steps=2), tiny_model, offers, LABELS, folder
    )
    return folder


RELEVANT = [np.array([row]) for row in range(4)]


def reward_of(config, policy, model, offers, targets=LABELS[:4]):
    """Of the first four offers as queries, in a gallery of the other four."""
    embedder = Embedder.from_pretrained(model)
    return query_reward(config, policy, embedder, offers[:4], offers[4:], RELEVANT, targets=targets)


def trained(policy, tiny_model, offers, out, config, **options):
    return run_rar(config, policy, reward_of(config, policy, tiny_model, offers), out, **options)


# what is asked of trl


class Stop(Exception):
    pass


@pytest.fixture
def asked(monkeypatch, policy, tiny_model, offers, tmp_path):
    """What GRPOTrainer is called with, for a config."""

    def of(config, **options):
        caught = {}

        def trainer(**arguments):
            caught.update(arguments)
            raise Stop

        import trl

        monkeypatch.setattr(trl, "GRPOTrainer", trainer)
        reward = options.pop("reward", None) or reward_of(config, policy, tiny_model, offers)
        with pytest.raises(Stop):
            run_rar(config, policy, reward, tmp_path, **options)
        return caught

    return of


def test_defaults_are_the_papers_and_not_trls(asked, policy):
    call = asked(RARStage(**SMALL))
    arguments = call["args"]
    assert arguments.beta == 0.04  # trl's default is 0: no KL at all
    assert arguments.loss_type == "grpo"  # trl's is "dapo"
    assert arguments.scale_rewards == "group"
    assert arguments.epsilon == 0.2
    assert arguments.num_iterations == 1 and arguments.temperature == 1.0
    # and ours that are not: without them attributes drift from the truth
    assert (RARStage().rewarded_pairs, RARStage().sft_weight) == ("true", 1.0)
    # by its path: trl loads the KL reference anew from there
    assert call["model"] == str(policy)
    assert (policy / "model.safetensors").is_file()


def test_only_true_pairs_are_rewarded_where_there_are_targets(policy, tiny_model, offers):
    rewards = [reward_of(RARStage(**SMALL), policy, tiny_model, offers, targets) for targets in (LABELS[:4], None)]
    assert [reward.rewarded_pairs for reward in rewards] == ["true", "all"]
    assert [reward.faithfulness_weight for reward in rewards] == [SMALL["faithfulness_weight"], 0.0]
    assert [reward.holds_to_targets for reward in rewards] == [True, False]


def test_a_completion_ends_where_the_generator_ends_it(policy, tiny_model, offers):
    from transformers import AutoTokenizer

    end = AutoTokenizer.from_pretrained(policy).eos_token_id
    reward = reward_of(RARStage(**SMALL), policy, tiny_model, offers)
    columns = {"completions": ["color: red"] * 2, "completion_ids": [[5, end], [5, 6]], "query_row": [0, 0]}
    ended, cut_off = reward([None] * 2, **columns)
    assert ended > 0 > cut_off


def test_every_option_reaches_trl(asked):
    config = RARStage(
        **SMALL, loss_type="dr_grpo", scale_rewards="none", beta=0.1, learning_rate=2e-5, max_steps=9,
        micro_batch_size=4,
    )  # fmt: skip
    arguments = asked(config, hardware=Hardware(save_steps=3), seed=5)["args"]
    assert (arguments.loss_type, arguments.scale_rewards) == ("dr_grpo", "none")
    assert (arguments.beta, arguments.learning_rate, arguments.max_steps) == (0.1, 2e-5, 9)
    assert (arguments.per_device_train_batch_size, arguments.gradient_accumulation_steps) == (4, 2)
    assert (arguments.seed, arguments.save_steps) == (5, 3)
    assert (arguments.num_generations, arguments.max_completion_length) == (4, 12)


def test_with_attributes_on_the_gallery_its_offers_are_described(asked, policy, offers, tiny_model):
    config, embedder = RARStage(**SMALL, attributes_on="gallery", reward="margin"), Embedder.from_pretrained(tiny_model)
    targets = [LABELS[5], LABELS[7]]
    reward = gallery_reward(config, policy, embedder, [1, 3], offers[4:], offers[:4], RELEVANT, targets=targets)
    row = asked(config, reward=reward)["train_dataset"][1]
    assert "white dress" in str(row["prompt"])
    # what its targets confirm goes into the offer's text, and the product's query ranks it there
    queries = embedder.encode(offers[:4])  # without attributes
    shown = embedder.encode([offers[5]], [LABELS[5]])[0]
    others = np.delete(embedder.encode(offers[4:]), 1, axis=0)
    expected = queries[1] @ shown - (others @ queries[1]).max()
    assert reward.score([0], [str(LABELS[5])]).retrieval[0] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_scale_rewards_is_what_trl_makes_of_it(asked, scale):
    assert asked(RARStage(**SMALL, scale_rewards=scale))["args"].scale_rewards == scale


def test_rows_carry_the_query_and_its_image_only(asked):
    row = asked(RARStage(**SMALL))["train_dataset"][1]
    assert set(row) == {"prompt", "query_row", "images"}
    assert row["query_row"] == 1
    text = json.dumps(row["prompt"])
    assert "blue dress" in text and "green" not in text


# what it does


def test_the_kl_to_the_reference_is_zero_at_the_first_step(policy, tiny_model, offers, tmp_path):
    result = trained(policy, tiny_model, offers, tmp_path / "out", RARStage(**SMALL, max_steps=6, learning_rate=3e-3))
    first, *later = result["history"]
    assert abs(first["kl"]) < 1e-6
    assert max(abs(entry["kl"]) for entry in later) > 1e-4  # and the policy does move away from it
    assert [entry["step"] for entry in result["history"]] == [1, 2, 3, 4, 5, 6]
    for entry in result["history"]:
        assert 0 <= entry["zero_variance_share"] <= 1
        assert {"reward", "kl", "length", "valid", "retrieval", "faithfulness"} <= set(entry)
    assert 0 <= result["zero_variance_share"] <= 1
    assert (result["num_queries"], set(result["baseline"])) == (4, {"reward", "retrieval", "valid", "faithfulness"})
    # an ordinary folder, other weights, no checkpoints
    assert not list((tmp_path / "out").glob("checkpoint-*"))
    assert json.loads((tmp_path / "out" / "history.json").read_text()) == result["history"]
    before, after = (AttributeGenerator.from_pretrained(path) for path in (policy, tmp_path / "out"))
    pairs = zip(before.model.parameters(), after.model.parameters(), strict=True)
    assert any(not bool((one == two).all()) for one, two in pairs)


def dtypes_of(path):
    from safetensors import safe_open

    with safe_open(path / "model.safetensors", "pt") as file:
        return {str(file.get_tensor(name).dtype) for name in file.keys()}  # noqa: SIM118


@pytest.mark.parametrize("lora", [None, Lora(r=2, stages=("sft", "rar"))], ids=["all", "lora"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_one_precision_for_policy_reference_rollouts_and_files(
    precision, lora, tiny_model, offers, tmp_path, monkeypatch
):
    import trl

    from afmrl.generator.engines.local import LocalEngine

    hardware, wanted, seen = Hardware(precision=precision, lora=lora), f"torch.{precision}", {}
    sft = SFTStage(max_steps=2, batch_size=4, warmup_steps=1)
    run_sft(sft, tiny_model, offers, LABELS, tmp_path / "sft", hardware=hardware)
    assert dtypes_of(tmp_path / "sft") == {wanted}

    def types(model, trained):
        return {str(p.dtype) for p in model.parameters() if p.requires_grad is trained}

    complete, train = LocalEngine.complete, trl.GRPOTrainer.train
    rollout = trl.GRPOTrainer._generate_single_turn

    def completed(self, *rest, **options):
        seen["survey"] = {str(p.dtype) for p in self.model.parameters()}
        return complete(self, *rest, **options)

    def trains(self, *rest, **options):
        seen["trained"], seen["frozen"] = types(self.model, True), types(self.model, False)
        seen["reference"] = self.ref_model and {str(p.dtype) for p in self.ref_model.parameters()}
        return train(self, *rest, **options)

    def rolls(self, *rest, **options):
        computed = set()
        layers = [m for n, m in self.model.named_modules() if n.endswith(("q_proj", "q_proj.base_layer"))]
        hooks = [layer.register_forward_hook(lambda _, __, out: computed.add(str(out.dtype))) for layer in layers]
        written = rollout(self, *rest, **options)
        for hook in hooks:
            hook.remove()
        seen["rollouts"] = computed
        return written

    monkeypatch.setattr(LocalEngine, "complete", completed)
    monkeypatch.setattr(trl.GRPOTrainer, "train", trains)
    monkeypatch.setattr(trl.GRPOTrainer, "_generate_single_turn", rolls)
    config = RARStage(**SMALL, max_steps=1, beta=0.04)
    result = trained(tmp_path / "sft", tiny_model, offers, tmp_path / "rar", config, hardware=hardware)
    assert seen["survey"] == seen["rollouts"] == {wanted}
    assert seen["trained"] == {"torch.float32"}  # small updates would be lost in bfloat16
    assert (seen["frozen"] == {wanted} and seen["reference"] is None) if lora else seen["reference"] == {wanted}
    assert dtypes_of(tmp_path / "rar") == {wanted}
    assert abs(result["history"][0]["kl"]) < (1e-6 if precision == "float32" else 1e-3)


@pytest.mark.slow
def test_it_raises_the_reward(policy, tiny_model, offers, tmp_path):
    config = RARStage(**{**SMALL, "prompts_per_step": 4, "num_generations": 8}, max_steps=25, learning_rate=1e-3)
    result = trained(policy, tiny_model, offers, tmp_path / "out", config)
    rewards = [entry["reward"] for entry in result["history"]]
    assert np.mean(rewards[-5:]) > np.mean(rewards[:5]) + 0.1
    assert result["baseline"]["reward"] == pytest.approx(np.mean(rewards[:3]), abs=0.35)


def test_text_alone_and_a_wrong_micro_batch(policy, tiny_model, offers, tmp_path):
    words = [Offer(offer.id, offer.title) for offer in offers]
    assert len(trained(policy, tiny_model, words, tmp_path / "a", RARStage(**SMALL, max_steps=1))["history"]) == 1
    with pytest.raises(ValueError, match="3 must divide prompts_per_step × num_generations = 8"):
        RARStage(**SMALL, micro_batch_size=3)


def test_groups_without_variance_are_counted_whatever_scales_the_rewards(policy, tiny_model, offers, tmp_path):
    """trl's own share is the batch's deviation where `scale_rewards` is "batch": never 0 here, so its share is."""

    class Constant(RetrievalReward):
        def score(self, rows, completions, ended=None):
            scored = super().score(rows, completions, ended)
            scored.reward[:] = [row + (row == 1) * (place % 2) for place, row in enumerate(rows)]
            return scored

    embedder = Embedder.from_pretrained(tiny_model)
    reward = Constant(embedder.encode, offers[:4], embedder.encode(offers[4:]), RELEVANT)
    for scale in ("group", "batch", "none"):
        config = RARStage(**{**SMALL, "prompts_per_step": 4}, max_steps=1, scale_rewards=scale)
        result = run_rar(config, policy, reward, tmp_path / scale)
        assert result["history"][0]["zero_variance_share"] == 3 / 4


# several processes

TWO_PROCESSES = """
import json, sys
from pathlib import Path
import numpy as np
from afmrl.training.processes import join_processes, leave_processes, rank
join_processes()
import trl
from test_rar import LABELS, SMALL, trained
from afmrl.data.offer import Offer
from afmrl.rewards.retrieval_reward import RetrievalReward
from afmrl.training.config import RARStage

policy, model, out = sys.argv[1:]
seen = {"rank": rank(), "steps": []}
make = trl.GRPOTrainer._generate_and_score_completions

def generate(self, inputs):
    output = make(self, inputs)
    seen["steps"][-1]["advantages"] = output["advantages"].tolist()
    return output

trl.GRPOTrainer._generate_and_score_completions = generate
call = RetrievalReward.__call__

def rewarded(self, prompts, completions, query_row, *rest, **more):
    rewards = call(self, prompts, completions, query_row, *rest, **more)
    if len(seen["steps"]) < 2:  # the processes earn differently, so that a mean of one is not the group's
        rewards = [reward + rank() / 2 + place / 8 for place, reward in enumerate(rewards)]
    seen["gallery"] = [self.gallery.rows.shape[0], float(np.abs(self.gallery.rows).sum())]
    seen["steps"].append({"rows": list(query_row), "rewards": rewards})
    return rewards

RetrievalReward.__call__ = rewarded
colors = ["red", "blue", "green", "white"]
offers = [Offer(f"o{n}", f"{colors[n % 4]} dress") for n in range(8)]
config = RARStage(**{**SMALL, "prompts_per_step": 1}, max_steps=3, scale_rewards="none", reward="margin")
result = trained(policy, model, offers, Path(out) / "model", config)
seen["zero"] = [entry["zero_variance_share"] for entry in result["history"]]
(Path(out) / f"{rank()}.json").write_text(json.dumps(seen))
leave_processes()
"""


SHARED = """
import json, sys
from pathlib import Path
from afmrl.training.processes import join_processes, leave_processes, rank
join_processes()
from afmrl.data.offer import Offer
from afmrl.generator.generator import AttributeGenerator
from afmrl.training.completions import PART, forget_completions, shared_completions

policy, out = sys.argv[1], Path(sys.argv[2])
generate, own = AttributeGenerator.generate, []
AttributeGenerator.generate = lambda self, offers, **o: own.extend(x.id for x in offers) or generate(self, offers, **o)
offers = [Offer(f"o{n}", f"{c} dress") for n, c in enumerate(["red", "blue", "green", "white", "red"])]
generator = AttributeGenerator.from_pretrained(policy)
ask = dict(num_completions=2, temperature=1.0, max_new_tokens=12, batch_size=4)
written = shared_completions(generator, offers, out, **ask)
texts = [[one.text for one in of_offer] for of_offer in written]
kept = sorted(path.name for path in out.glob(f"*{PART}"))
(out / f"{rank()}.json").write_text(json.dumps([own, texts, kept]))
leave_processes()
"""


@pytest.mark.slow
def test_two_processes_share_the_survey(policy, tmp_path):
    (ours, texts, kept), (theirs, other_texts, _) = in_two_processes(SHARED, policy, tmp_path, out=tmp_path)
    assert (ours[:2], theirs[:3]) == (["o0", "o1"], ["o2", "o3", "o4"])
    assert texts == other_texts and [len(of_offer) for of_offer in texts] == [2] * 5
    assert kept == [f"0-of-2.{PART}", f"1-of-2.{PART}"]
    forget_completions(tmp_path)
    assert not list(tmp_path.glob(f"*{PART}"))


def in_two_processes(script, *arguments, out):
    """Run a script in two processes; what each wrote to OUT/RANK.json."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    tests = Path(__file__).parent
    path = os.pathsep.join([str(tests), str(tests.parent), os.environ.get("PYTHONPATH", "")])
    processes = []
    for number in range(2):
        place = {"RANK": str(number), "LOCAL_RANK": str(number), "WORLD_SIZE": "2"}
        where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
        env = {**os.environ, **place, **where, "PYTHONPATH": path}
        processes.append(subprocess.Popen([sys.executable, "-c", script, *map(str, arguments)], env=env))
    assert [process.wait(timeout=300) for process in processes] == [0, 0]
    return [json.loads((out / f"{number}.json").read_text()) for number in range(2)]


@pytest.mark.slow
def test_two_processes_share_a_group_and_its_statistics(policy, tiny_model, tmp_path):
    """One group of four is dealt out to two processes, two completions each (PEERS: rewards of one process alone)."""
    first, second = in_two_processes(TWO_PROCESSES, policy, tiny_model, tmp_path, out=tmp_path)
    assert first["gallery"] == second["gallery"] and first["gallery"][0] == 4  # the same frozen gallery, whole
    assert first["zero"] == second["zero"] and len(first["zero"]) == 3
    differed = 0
    for ours, theirs, zero in zip(first["steps"], second["steps"], first["zero"], strict=True):
        assert len(ours["rewards"]) == len(theirs["rewards"]) == 2
        assert len(set(ours["rows"] + theirs["rows"])) == 1  # one group
        rewards = np.array(ours["rewards"] + theirs["rewards"])
        np.testing.assert_allclose(ours["advantages"] + theirs["advantages"], rewards - rewards.mean(), atol=1e-5)
        differed += abs(np.mean(ours["rewards"]) - rewards.mean()) > 1e-3
        assert zero == float(np.ptp(rewards) < 1e-6)
    assert differed  # or the mean of one process would have passed for the group's


def test_rar_goes_on_with_the_survey_and_the_weights_of_its_checkpoint(
    policy, tiny_model, offers, tmp_path, monkeypatch
):
    import torch
    from transformers import AutoModelForImageTextToText, TrainerCallback

    class Stop(TrainerCallback):
        def on_step_end(self, args, state, control, **_):
            if state.global_step == 3:
                raise KeyboardInterrupt

    class Begun(TrainerCallback):
        def on_train_begin(self, args, state, control, model=None, **_):
            begun.update({name: value.clone() for name, value in model.state_dict().items()})

    begun = {}
    config = RARStage(**SMALL, max_steps=4, learning_rate=1e-2, eval_steps=0)
    hardware = Hardware(save_steps=2)
    with pytest.raises(KeyboardInterrupt):
        trained(policy, tiny_model, offers, tmp_path, config, hardware=hardware, callbacks=[Stop()])
    kept = AutoModelForImageTextToText.from_pretrained(tmp_path / "checkpoint-2").state_dict()
    first = AutoModelForImageTextToText.from_pretrained(policy).state_dict()
    surveyed = json.loads((tmp_path / survey.SURVEY).read_text())
    monkeypatch.setattr(survey, "take_survey", None)  # what was sampled is taken over
    result = trained(policy, tiny_model, offers, tmp_path, config, hardware=hardware, callbacks=[Begun()])
    assert result["k"] == surveyed["k"] and result["baseline"] == surveyed["summary"]["baseline"]
    assert not (tmp_path / survey.SURVEY).exists() and not (tmp_path / PART).exists()
    assert all(torch.equal(begun[name], kept[name]) for name in kept)
    assert any(not torch.equal(begun[name], first[name]) for name in kept)


# the environment is not one that the embedder has learned by heart


@pytest.mark.parametrize("own_column", [True, False])
def test_reward_families_are_not_those_of_training(tmp_path, own_column):
    from afmrl.data.catalog import read_catalog
    from afmrl.sample.catalog import write_sample_catalog

    path = write_sample_catalog(tmp_path, families={"train": 12, "reward": 6, "val": 3, "test": 6}, num_siblings=3)
    split = SplitSection() if own_column else SplitSection(by="family_id")
    section = CatalogSection(path=str(path), split=split)
    splits = split_offers(read_catalog(path).offers, section, targets_optional=True)
    assert all(split.queries for split in splits.values())
    for column in ("family_id", "true_product_id"):
        held = {name: {offer.extra[column] for offer in split.offers} for name, split in splits.items()}
        for one in held:
            for other in held:
                assert one == other or not held[one] & held[other]


# what SFT taught stays


def test_the_anchor_adds_sfts_gradient_to_the_step(policy, tiny_model, offers, tmp_path, monkeypatch):
    """With advantages of 0 and no KL, GRPO's gradient is none: what is left is the anchor's."""
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor
    from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

    from afmrl.data.images import open_image
    from afmrl.generator.prompt import generator_messages
    from afmrl.training.anchor import Anchor

    found = []
    step = torch.optim.AdamW.step

    def remembered(self, *rest, **more):
        found.append(
            [None if p.grad is None else p.grad.clone() for group in self.param_groups for p in group["params"]]
        )
        return step(self, *rest, **more)

    monkeypatch.setattr(torch.optim.AdamW, "step", remembered)
    monkeypatch.setattr(RetrievalReward, "__call__", lambda self, prompts, *rest, **more: [0.0] * len(prompts))
    texts = [Offer(offer.id, offer.title) for offer in offers]
    cases = ((8, 8), (4, 8), (1, 4))  # micro-batch, anchor: in the last half of the backward passes have no offer
    norms = {}
    for micro, size in cases:
        config = RARStage(**SMALL, max_steps=1, micro_batch_size=micro, beta=0.0, sft_weight=0.01, sft_batch_size=size)
        result = trained(policy, tiny_model, texts, tmp_path / str(micro), config, anchor=(texts, LABELS))
        assert result["history"][0]["sft_loss"] > 0
        norms[micro] = torch.sqrt(sum((g**2).sum() for g in found.pop() if g is not None)).item()
    # by hand: the loss of the anchor's offers and its gradient, so small that the trainer does not clip it
    processor = AutoProcessor.from_pretrained(str(policy))
    collate = DataCollatorForVisionLanguageModeling(processor, completion_only_loss=True)

    def loss_of(model, rows):
        return model(**collate([
            {"prompt": processor.apply_chat_template(generator_messages(texts[row]), add_generation_prompt=True,
                                                     tokenize=False),
             "completion": str(LABELS[row]) + processor.tokenizer.eos_token,
             "images": [open_image(texts[row].image)] if texts[row].image else []}
            for row in rows
        ])).loss  # fmt: skip

    for micro, size in cases:
        anchor = Anchor(texts, LABELS, 0.01, size, 0)
        assert len(set(anchor.rows(0, 0, 1))) == size
        model = AutoModelForImageTextToText.from_pretrained(str(policy))
        parts = [rows for part in range(8 // micro) if (rows := anchor.rows(0, part, 8 // micro))]
        sum(0.01 * len(rows) / size * loss_of(model, rows) for rows in parts).backward()
        wanted = torch.sqrt(sum((p.grad**2).sum() for p in model.parameters() if p.grad is not None)).item()
        assert wanted < 0.9
        assert norms[micro] == pytest.approx(wanted, rel=1e-3)


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_anchors_loss_makes_logits_of_completions_alone(policy, offers, side):
    import torch
    from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

    from afmrl.data.images import open_image
    from afmrl.generator.local_model import load_model, load_processor
    from afmrl.generator.prompt import GeneratorPrompt
    from afmrl.training.anchor import completion_loss
    from afmrl.training.sft import sft_example

    processor, model = load_processor(policy), load_model(policy)
    processor.tokenizer.padding_side = side
    shown = [Offer("a", "red dress with a belt and pockets", image=offers[0].image), offers[1]]
    examples = [sft_example(o, LABELS[row], [open_image(o.image)], GeneratorPrompt(), processor)
                for row, o in enumerate(shown)]  # fmt: skip
    batch = DataCollatorForVisionLanguageModeling(processor, completion_only_loss=True)(examples)
    sizes = []
    model.lm_head.register_forward_pre_hook(lambda _, inputs: sizes.append(inputs[0].shape[1]))
    gradients = []
    for loss in (model(**batch).loss, completion_loss(model, batch)):
        loss.backward()
        gradients.append([loss.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)])
        model.zero_grad()
    for whole, few in zip(*gradients, strict=True):
        torch.testing.assert_close(few, whole, atol=1e-6, rtol=1e-4)
    length = batch["labels"].shape[1]
    assert sizes[0] == length and sizes[1] == (batch["labels"] != -100).any(0).sum() < length / 2


def test_the_anchors_offers_are_those_of_the_step():
    from afmrl.training.anchor import Anchor

    anchor = Anchor([Offer(str(n), "t") for n in range(50)], [KeyAttributes()] * 50, 1.0, 8, seed=3)
    whole = anchor.rows(4, 0, 1)
    assert len(set(whole)) == 8 and whole == anchor.rows(4, 0, 1) != anchor.rows(5, 0, 1)
    assert sorted(anchor.rows(4, 0, 2) + anchor.rows(4, 1, 2)) == sorted(whole)
    assert len(Anchor([Offer("a", "t")], [KeyAttributes()], 1.0, 4, 0).rows(0, 0, 1)) == 4
