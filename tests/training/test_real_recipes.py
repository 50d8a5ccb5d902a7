"""Recipes of real models, run with random weights of the same architecture: each flag has to arrive where it acts."""

import json
import os
import subprocess
import sys

import pytest
import yaml

from afmrl.errors import InputError
from afmrl.training.processes import join_processes
from afmrl.training.recipe import load_recipe
from conftest import ROOT
from tiny_qwens import qwen2_5_vl, qwen3_vl

RECIPES = ("qwen2-vl-2b", "qwen2.5-vl-3b", "qwen3-vl-embedding-2b")
OVERRIDES = {  # what a machine without GPUs cannot do: models, catalog, steps, batches, lengths
    "sft.max_steps": 2, "sft.batch_size": 4, "sft.micro_batch_size": 2, "sft.warmup_steps": 1,
    "agcl.max_steps": 3, "agcl.batch_size": 8, "agcl.mini_batch_size": 2, "agcl.warmup_steps": 1,
    "hardware.max_pixels": 3136,
    "rar.max_steps": 1, "rar.num_generations": 2, "rar.prompts_per_step": 2, "rar.micro_batch_size": 2,
    "rar.max_new_tokens": 6, "rar.teachable_only": False,
    "evaluation.rows": ["untrained", "agcl"],
}  # fmt: skip


def write_teachers_labels(catalog, path):
    """A teacher's word on all offers but a few; one key of its own, by which products are told apart."""
    rows = [json.loads(line) for line in catalog.read_text().splitlines()]
    products = sorted({row["product_id"] for row in rows})
    answers = [
        {"id": row["id"], "key_attributes": {**row["attributes"], "made by": f"t{products.index(row['product_id'])}"}}
        for number, row in enumerate(rows)
        if number % 9
    ]
    path.write_text("".join(json.dumps(answer) + "\n" for answer in answers))
    return path


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """A drawn catalog; for each recipe, the models to start from."""
    from afmrl.embedder.embedder import Embedder
    from afmrl.embedder.tiny import build_tiny_model
    from afmrl.sample.catalog import write_sample_catalog

    folder = tmp_path_factory.mktemp("real")
    write_sample_catalog(folder / "catalog", families={"train": 8}, image_size=112, num_siblings=4)
    path = folder / "catalog" / "catalog.jsonl"
    texts = [json.loads(line).get("title") or "" for line in path.read_text().splitlines()]
    qwen2 = build_tiny_model(
        texts, folder / "qwen2", vocab_size=400, hidden_size=64, num_layers=2, vision_layers=1, vision_size=64
    )
    qwen3 = qwen3_vl(texts, folder / "qwen3")
    qwen2_5 = qwen2_5_vl(texts, folder / "qwen2.5")
    write_teachers_labels(path, folder / "teacher.jsonl")
    Embedder.from_pretrained(qwen3, device="cpu").model.save_pretrained(str(folder / "qwen3-embedding"))
    assert (folder / "qwen3-embedding" / "modules.json").is_file()
    return path, {
        "qwen2-vl-2b": (qwen2, qwen2),
        "qwen2.5-vl-3b": (qwen2, qwen2_5),
        "qwen3-vl-embedding-2b": (folder / "qwen3-embedding", qwen3),
    }


def overrides(material, name, **more):
    path, models = material
    base, generator = models[name]
    given = {**OVERRIDES, "catalog.path": str(path), "base": str(base), "generator_base": str(generator)}
    if name == "qwen2.5-vl-3b":
        given["sft.teacher"] = str(path.parent.parent / "teacher.jsonl")
    return {**given, **more}


def typed(given):
    """The same on the command line."""
    return [f"--{key}={json.dumps(value) if not isinstance(value, str) else value}" for key, value in given.items()]


def leaves(data, prefix=""):
    for key, value in data.items():
        if isinstance(value, dict) and key != "fractions":
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_every_flag_of_the_recipe_acts(name, material, tmp_path, monkeypatch):
    import sentence_transformers
    import trl
    from peft.tuners.lora import LoraLayer

    from afmrl.embedder.embedder import Embedder
    from afmrl.losses import agcl as losses
    from afmrl.training import run as pipeline

    seen = {}

    def spy(owner, stage):
        real = owner.train

        def train(self, *args, **kwargs):
            seen[stage] = self
            modules = [m for m in self.model.modules() if isinstance(m, LoraLayer)]
            seen[f"{stage}.lora"] = [
                (m.r["default"], m.lora_alpha["default"], getattr(m.lora_dropout["default"], "p", 0.0)) for m in modules
            ]
            parameters = list(self.model.parameters())
            seen[f"{stage}.dtypes"] = {str(p.dtype) for p in parameters if not p.requires_grad}
            seen[f"{stage}.trained"] = {str(p.dtype) for p in parameters if p.requires_grad}
            seen[f"{stage}.checkpointed"] = lambda: any(getattr(m, "gradient_checkpointing", False)
                                                        for m in self.model.modules())  # fmt: skip
            computed = set()
            for module in modules:
                module.lora_A["default"].register_forward_hook(lambda m, i, o: computed.add(str(o.dtype)))
            done = real(self, *args, **kwargs)
            seen[f"{stage}.computed"] = computed
            seen[f"{stage}.learned"] = {
                name: bool(m.lora_B["default"].weight.any())
                for name, m in self.model.named_modules()
                if isinstance(m, LoraLayer)
            }
            seen[f"{stage}.was_checkpointed"] = seen[f"{stage}.checkpointed"]()
            return done

        monkeypatch.setattr(owner, "train", train)

    for owner, stage in ((sentence_transformers.SentenceTransformerTrainer, "agcl"), (trl.SFTTrainer, "sft"),
                         (trl.GRPOTrainer, "rar")):  # fmt: skip
        spy(owner, stage)
    sizes, texts = [], []
    embed = losses.AttributeGuidedContrastiveLoss.embed_minibatch

    def embed_minibatch(self, sentence_feature, begin, end, *args, **kwargs):
        sizes.append(end - begin)
        return embed(self, sentence_feature, begin, end, *args, **kwargs)

    monkeypatch.setattr(losses.AttributeGuidedContrastiveLoss, "embed_minibatch", embed_minibatch)
    from afmrl.training.pair_rows import PairInputs

    make = PairInputs.make

    def made(self, row, with_attributes, draw, column):
        texts.append(self._some(row, draw, column) if with_attributes else None)
        return make(self, row, with_attributes, draw, column)

    monkeypatch.setattr(PairInputs, "make", made)
    run = pipeline.run(name, tmp_path / "run", overrides(material, name), say=lambda _: None)
    recipe = run.recipe

    loss, a, s, r = seen["agcl"].loss, seen["agcl"].args, seen["sft"].args, seen["rar"].args
    reward = seen["rar"].reward_funcs[0].reward
    (lora,) = set(seen["agcl.lora"])
    processor = Embedder.from_pretrained(tmp_path / "run" / "embedder").model[0].processor
    saved = json.loads((tmp_path / "run" / "generator" / "preprocessor_config.json").read_text())
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    micro = recipe.rar.micro_batch_size
    taught, shown = (
        seen["sft"].train_dataset[0:1],
        seen["rar"].train_dataset[0:1]["prompt"][0][-1]["content"][-1]["text"],
    )
    acted = {
        "name": recipe.name in (tmp_path / "run" / "report.html").read_text(),
        "base": run.base == recipe.base,
        "generator_base": run.generator_base == recipe.generator_base,
        "catalog.path": run.catalog is not None,
        "catalog.positives.column": len(run.splits["train"].offers) > 0,
        "catalog.split.by": not {o.product_id for o in run.splits["train"].offers}
        & {o.product_id for o in run.splits["test"].offers},
        "catalog.split.fractions": all(run.splits[part].offers for part in ("train", "reward", "test")),
        "catalog.targets.column": any(len(label) for label in run.splits["train"].targets),
        "evaluation.batch_size": recipe.evaluation.batch_size == 32,
        "evaluation.fuse": (tmp_path / "run" / "embedder" / "fusion.json").is_file() and bool(metrics),
    }
    acted |= {f"sft.{key}": value for key, value in {
        "max_steps": s.max_steps == 2, "micro_batch_size": s.per_device_train_batch_size == 2,
        "batch_size": s.train_batch_size * s.gradient_accumulation_steps == 4,
        "learning_rate": s.learning_rate == recipe.sft.learning_rate == 1e-5, "warmup_steps": s.warmup_steps == 1,
    }.items()}  # fmt: skip
    acted |= {f"sft.{key}": value for key, value in {
        "targets": "made by: t" in taught["completion"][0], "teacher": "made by: t" in taught["completion"][0],
        "prompt.category": all("Category: " in text for text in (taught["prompt"][0], shown)),
        "prompt.attribute_schema": all(
            "\nKeys: " in text and "made by" in text for text in (taught["prompt"][0], shown)
        ),
    }.items()}  # fmt: skip
    acted |= {f"agcl.{key}": value for key, value in {
        "max_steps": a.max_steps == 3, "batch_size": a.per_device_train_batch_size == 8,
        "mini_batch_size": set(sizes) == {2} and loss.uses_gradient_cache,
        "learning_rate": a.learning_rate == recipe.agcl.learning_rate, "warmup_steps": a.warmup_steps == 1,
        "temperature": loss.temperature == 0.02,
        "weighting": loss.weighting == "bm25", "weight_positive": loss.weight_positive is True, "gain": loss.gain == 1,
        "scaling": loss.scaling == "raw", "rules": set(loss.rules) == set(recipe.agcl.rules) >= {"margin"},
        "margin": loss.margin == 0.1, "margin_warmup_steps": loss.margin_warmup_steps == 200,
        "reference": loss.get_config_dict()["reference"],
        "attributes_on": any(texts) and run.recipe.agcl.attributes_on == "query",
    }.items()}  # fmt: skip
    acted |= {f"rar.{key}": value for key, value in {
        "max_steps": r.max_steps == 1, "num_generations": r.num_generations == 2,
        "prompts_per_step": r.gradient_accumulation_steps * micro == 4,
        "micro_batch_size": r.per_device_train_batch_size == 2, "learning_rate": r.learning_rate == 1e-6,
        "beta": r.beta == 0.04, "reward": reward.kind == "recall@k", "k": reward.k == 50,
        "faithfulness_weight": reward.faithfulness_weight == 0.0,
        "rewarded_pairs": reward.rewarded_pairs == "all", "sft_weight": "sft_loss" not in seen["rar"]._metrics["train"],
    }.items()}  # fmt: skip
    acted |= {f"hardware.{key}": value for key, value in {
        "precision": s.bf16 and a.bf16 and r.bf16 and seen["sft.trained"] == seen["rar.trained"] == {"torch.float32"}
        and seen["agcl.dtypes"] == {"torch.bfloat16"} and seen["agcl.trained"] == {"torch.float32"}
        and seen["agcl.computed"] == {"torch.bfloat16"},
        "gradient_checkpointing": s.gradient_checkpointing and a.gradient_checkpointing and r.gradient_checkpointing
        and all(seen[f"{stage}.was_checkpointed"] for stage in ("sft", "agcl", "rar")),
        "max_pixels": saved["size"]["longest_edge"] == processor.image_processor.size["longest_edge"] == 3136,
        "max_seq_length": seen["agcl"].model.max_seq_length == 1024,
        "lora.r": lora[0] == 16 and all(seen["agcl.learned"].values()),
        "lora.alpha": lora[1] == recipe.hardware.lora.alpha,
        "lora.dropout": lora[2] == recipe.hardware.lora.dropout > 0,
        "lora.stages": recipe.hardware.lora.stages == ("agcl",) and not seen["sft.lora"] and not seen["rar.lora"],
    }.items()}  # fmt: skip
    named = dict(leaves(yaml.safe_load((ROOT / "src/afmrl/recipes" / f"{name}.yaml").read_text())))
    assert not set(named) - set(acted), "fields of the recipe that nothing here looks at"
    assert not {field for field in named if not acted[field]}, "fields of the recipe that did not act"
    from safetensors import safe_open

    with safe_open(tmp_path / "run" / "embedder" / "model.safetensors", "pt") as weights:
        assert not [key for key in weights.keys() if "lora" in key]  # noqa: SIM118


def torchrun(processes, *arguments, out):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes),
               "-m", "afmrl", "run", *map(str, arguments), "--out", str(out)]  # fmt: skip
    env = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(command, capture_output=True, text=True, timeout=600, env=env, cwd=ROOT, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_two_processes_equal_one(name, material, tmp_path):
    exact = {"hardware.precision": "float32", "hardware.lora.dropout": 0.0, "agcl.learning_rate": 1e-3}
    curves = []
    for processes in (1, 2):
        out = tmp_path / str(processes)
        more = {**exact, "hardware.processes": processes}
        done = torchrun(processes, name, *typed(overrides(material, name, **more)), out=out)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        assert done.stdout.count("agcl: done in") == 1
        assert json.loads((out / "run.json").read_text())["processes"] == processes
        history = json.loads((out / "stages/agcl/model/history.json").read_text())
        curves.append([entry["loss"] for entry in history])
    assert len(curves[0]) == 3 and curves[0][0] != curves[0][-1]
    assert curves[1] == pytest.approx(curves[0], abs=2e-3)


@pytest.mark.slow
def test_a_failure_ends_all_processes_and_is_said_once(material, tmp_path):
    odd, three = {"agcl.batch_size": 7}, {"hardware.processes": 3}
    done = torchrun(2, RECIPES[0], *typed(overrides(material, RECIPES[0], **odd)), out=tmp_path / "odd")
    assert done.returncode != 0
    assert done.stderr.count("agcl.batch_size: 7 does not divide among 2 processes") == 1
    done = torchrun(2, RECIPES[0], *typed(overrides(material, RECIPES[0], **three)), out=tmp_path / "three")
    assert done.returncode != 0 and done.stderr.count("the recipe wants 3 processes and there are 2") == 1


def test_a_process_that_finds_no_others_refuses(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(InputError, match="each process would train alone"):
        join_processes()
    monkeypatch.setenv("WORLD_SIZE", "many")
    with pytest.raises(InputError, match="WORLD_SIZE='many'"):
        join_processes()


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_reads(name):
    recipe = load_recipe(ROOT / "src/afmrl/recipes" / f"{name}.yaml")
    assert recipe.agcl.batch_size % 8 == recipe.sft.batch_size % 8 == (recipe.rar.micro_batch_size or 0) % 8 == 0
    assert recipe.sft.micro_batch_size and recipe.rar.micro_batch_size, "a GPU does not hold a whole batch"
    assert (recipe.agcl.batch_size, recipe.agcl.temperature, recipe.hardware.lora.r) == (1024, 0.02, 16)
