"""The whole way in processes of its own: what a run leaves, what a second one does, what a kill does to it."""

import html
import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import yaml

from conftest import ROOT, afmrl, save_image

pytestmark = pytest.mark.slow

ROWS = ["text", "image", "untrained", "agcl", "sft", "rar", "perfect"]
STAGES = [
    "catalog",
    "base",
    "sft",
    "agcl",
    "ceiling",
    "attributes-sft-reward",
    "rar",
    "attributes-sft-val",
    "attributes-rar-val",
    "attributes-sft-test",
    "attributes-rar-test",
]
KILLED = """
import os, signal, sys
from afmrl.cli.app import main

def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)

{patch}
main()
"""


@pytest.fixture
def copy(quickstart, tmp_path):
    """A copy of the run, to change."""
    return shutil.copytree(quickstart, tmp_path / "run")


def ran(stdout):
    """The stages that were done, and those that were taken over."""
    lines = [line for line in stdout.splitlines() if ": done in " in line or ": complete, not run again" in line]
    done = {line.split(":")[0] for line in lines if ": done in " in line}
    return done, {line.split(":")[0] for line in lines} - done


def again(folder, *overrides):
    """The quickstart's own recipe once more into a folder, with overrides."""
    done = afmrl("run", ROOT / "src/afmrl/recipes/quickstart-fast.yaml", "--out", folder, *overrides)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def metrics_of(folder):
    return json.loads((folder / "metrics.json").read_text())


# what it leaves


def test_layout(quickstart):
    assert {path.name for path in quickstart.iterdir()} - {"stdout.txt", "stderr.txt"} == {
        "catalog", "embedder", "embeddings", "generator", "index", "matches", "metrics.json", "real_offers.jsonl",
        "report.html", "run.json", "stages",
    }  # fmt: skip
    assert {path.name for path in (quickstart / "stages").iterdir()} == set(STAGES)
    for name in STAGES:
        assert (quickstart / "stages" / name / "complete.json").is_file()
    assert not list(quickstart.rglob("checkpoint-*")) and not list(quickstart.rglob("*.tmp"))


def test_metrics_hold_every_row_with_its_interval(quickstart):
    metrics = metrics_of(quickstart)
    assert metrics["split"] == "test"
    assert (metrics["num_queries"], metrics["num_families"]) == (40, 8)
    assert set(ROWS) <= set(metrics["rows"])
    assert {f"{row}:{side}" for row in ("sft", "rar", "perfect") for side in ("query", "gallery", "both")} <= set(
        metrics["rows"]
    )
    for row in metrics["rows"].values():
        assert set(row) == {"recall@1", "recall@5", "recall@10", "mrr"}
        for mean, low, high in row.values():
            assert 0 <= low <= mean <= high <= 1
        assert row["recall@1"][0] <= row["recall@5"][0] <= row["recall@10"][0]
        assert row["recall@1"][0] <= row["mrr"][0]
    assert set(metrics["attribute_accuracy"]) == {"sft", "rar"}


def test_the_run_record_says_how_to_do_it_again(quickstart):
    record = json.loads((quickstart / "run.json").read_text())
    assert {"recipe", "seed", "versions", "fingerprints", "stage_seconds", "total_seconds", "skipped_rows"} <= set(
        record
    )
    assert record["versions"]["torch"] and record["versions"]["afmrl"] and record["versions"]["python"]
    assert set(record["fingerprints"]) == {"data", "base", "sft", "agcl", "rar"}
    assert set(STAGES) <= set(record["stage_seconds"])
    assert record["recipe"]["agcl"]["max_steps"] == 12


def test_the_terminal_shows_every_row_the_ceiling_and_what_to_type_next(quickstart):
    out = (quickstart / "stdout.txt").read_text()
    for words in ("title only", "image only", "untrained", "AGCL + SFT", "AGCL + RAR", "perfect reader",
                  "What attributes can win", "on both sides", "afmrl search", "afmrl run own_catalog --catalog.path",
                  "report.html"):  # fmt: skip
        assert words in out, words
    # the verdict comes before the table, the same on the page, in the numbers, in the record and on the card
    verdict = metrics_of(quickstart)["verdict"]
    assert verdict["conclusion"] in ("better", "no difference", "worse")
    assert set(verdict["floors"]) >= {"tfidf", "bm25", "color", "tfidf+color"}
    assert out.index(f"Verdict: {verdict['text']}") < out.index("40 test queries")
    assert verdict["text"] in html.unescape((quickstart / "report.html").read_text())
    assert verdict["text"] in (quickstart / "embedder" / "README.md").read_text()
    assert json.loads((quickstart / "run.json").read_text())["result"]["verdict"] == verdict["text"]
    assert "Traceback" not in (quickstart / "stderr.txt").read_text()
    # the ceiling is told before RAR is trained
    assert out.index("What attributes can win") < out.index("rar: done") < out.index("Next:")
    # why RAR's row may be SFT's, in the terminal as in the report
    (kept,) = [line for line in out.splitlines() if "validation split" in line and line.startswith("rar: ")]
    assert f"RAR: {kept.removeprefix('rar: ')}." in html.unescape((quickstart / "report.html").read_text())


def test_what_is_published_is_what_won_on_val(quickstart):
    published = metrics_of(quickstart)["published"]
    mrr = published["val_mrr"]
    assert set(mrr) == {"with generated attributes", "alone"}
    settings = json.loads((quickstart / "embedder" / "afmrl.json").read_text())
    assert settings["attributes_on"] == published["attributes_on"]
    attributed = mrr["with generated attributes"] > mrr["alone"]  # of equals the one that needs least
    assert published["attributes_on"] == ("both" if attributed else "none")
    assert json.loads((quickstart / "generator" / "evidence.json").read_text())["written"] > 0


def test_what_it_says_to_type_next_works(quickstart):
    import shlex

    lines = (quickstart / "stdout.txt").read_text().splitlines()
    commands = [line.strip() for line in lines if line.strip().startswith("afmrl search")]
    found = [afmrl(*shlex.split(command)[1:]) for command in commands]
    assert [done.returncode for done in found] == [0] * len(found), [done.stderr for done in found]
    assert all("score" in done.stdout for done in found)
    assert sum("real_offers" in command for command in commands) == len(commands) - 1
    assert "o-" in found[-1].stdout  # the sample's


def test_the_report_is_one_file(quickstart):
    report = (quickstart / "report.html").read_text(encoding="utf-8")
    assert "data:image" in report
    assert 'src="http' not in report and 'href="http' not in report.replace('href="https://arxiv', "")


# a second run


def test_nothing_is_run_again_and_the_numbers_stay_byte_for_byte(copy):
    before = (copy / "metrics.json").read_bytes()
    weights = (copy / "embedder" / "model.safetensors").read_bytes()
    done = afmrl("quickstart", "--fast", "--out", copy)
    assert done.returncode == 0, done.stderr
    # what was written for the ceiling is asked for by the ceiling alone
    assert ran(done.stdout) == (set(), set(STAGES) - {"attributes-sft-val"})
    assert (copy / "metrics.json").read_bytes() == before
    assert (copy / "embedder" / "model.safetensors").read_bytes() == weights


def test_a_stage_that_was_deleted_runs_again_and_only_what_depends_on_it(copy):
    before = (copy / "metrics.json").read_bytes()
    for name in ("rar", "attributes-rar-test"):
        shutil.rmtree(copy / "stages" / name)
    done, taken = ran(again(copy))
    assert (done, taken) == ({"rar", "attributes-rar-test"}, set(STAGES) - {*done, "attributes-sft-val"})
    assert (copy / "metrics.json").read_bytes() == before  # the same seeds, the same numbers

    # its catalog and its published models are made again, too
    shutil.rmtree(copy / "catalog")
    shutil.rmtree(copy / "embedder")
    assert ran(again(copy))[0] == {"catalog"}
    assert (copy / "metrics.json").read_bytes() == before
    assert (copy / "embedder" / "modules.json").is_file()


def test_an_override_runs_what_it_changes_and_nothing_before(copy):
    before = json.loads((copy / "run.json").read_text())["fingerprints"]
    done, taken = ran(again(copy, "--rar.max_steps", "1"))
    assert done == {"rar", "attributes-rar-val", "attributes-rar-test"}
    assert {"catalog", "base", "sft", "agcl"} <= taken
    after = json.loads((copy / "run.json").read_text())
    assert after["recipe"]["rar"]["max_steps"] == 1
    assert {name for name in before if before[name] != after["fingerprints"][name]} == {"rar"}
    # without RAR the generator is SFT's
    out = again(copy, "--rar.max_steps=0", "--evaluation.rows=[agcl, sft]")
    assert "rar" not in ran(out)[0]
    assert set(metrics_of(copy)["rows"]) == {"agcl", "sft", "sft:query", "sft:gallery", "sft:both"}
    sft = (copy / "stages" / "sft" / "model" / "model.safetensors").read_bytes()
    assert (copy / "generator" / "model.safetensors").read_bytes() == sft


def test_the_text_may_show_what_the_generator_writes(copy):
    options = ("--rar.max_steps=0", "--evaluation.rows=[agcl, sft]")
    before = (copy / "embedder" / "model.safetensors").read_bytes()
    out = again(copy, *options, "--agcl.text_attributes", "generated")
    assert {"attributes-sft-train", "agcl"} <= ran(out)[0] and "sft" in ran(out)[1]
    generated = (copy / "embedder" / "model.safetensors").read_bytes()
    assert generated != before
    out = again(copy, *options, "--agcl.directions", "[query_to_doc, doc_to_query]")
    assert "agcl" in ran(out)[0] and "attributes-sft-train" not in ran(out)[0]
    assert (copy / "embedder" / "model.safetensors").read_bytes() not in (before, generated)


def test_attributes_may_stand_on_the_gallery_alone(copy):
    out = again(copy, "--agcl.attributes_on", "gallery", "--rar.max_steps", "2", "--evaluation.rows=[agcl, sft, rar]")
    assert {"agcl", "rar"} <= ran(out)[0]
    metrics = metrics_of(copy)
    assert metrics["attributes_on"] == "gallery"
    assert all(metrics["rows"][row] == metrics["rows"][f"{row}:gallery"] for row in ("sft", "rar"))
    # eighty offers that the forty queries look for are described, in place of the queries
    assert metrics["rar"]["num_queries"] > 0 and metrics["rar"]["baseline"]["valid"] > 0
    published = metrics["published"]["attributes_on"]  # what was best on val: with them, or without
    assert json.loads((copy / "embedder" / "afmrl.json").read_text())["attributes_on"] == published
    assert published in ("gallery", "none")


# killed


def killed(folder, patch, *overrides):
    """The same run, in a process that `patch` lets kill itself without a chance to tidy up."""
    arguments = ["afmrl", "run", ROOT / "src/afmrl/recipes/quickstart-fast.yaml", "--out", folder, *overrides]
    done = subprocess.run(
        [sys.executable, "-c", KILLED.format(patch=patch), *map(str, arguments[1:])],
        capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


SAVES_OFTEN = ("--hardware.save_steps", "1")
TORN_AT_THE_SECOND_CHECKPOINT = """
import transformers
saved = []
save = transformers.Trainer._save_rng_state
transformers.Trainer._save_rng_state = lambda self, out: die() if saved else saved.append(save(self, out))
"""
IN_RAR_AFTER_ITS_FIRST_CHECKPOINT = """
import transformers
save = transformers.Trainer._save_checkpoint
def last(self, *rest):
    save(self, *rest)
    if any(kind.__name__ == "GRPOTrainer" for kind in type(self).__mro__):
        die()
transformers.Trainer._save_checkpoint = last
"""
HALF_OF_THE_WEIGHTS = """
import pathlib
import afmrl.training.rar
def half(model, base, out_dir, dtype):
    model.save_pretrained(str(out_dir))
    weights = pathlib.Path(out_dir) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100_000])
    die()
afmrl.training.rar.save_generator = half
"""
IN_SFT_AFTER_ITS_FIRST_CHECKPOINT = IN_RAR_AFTER_ITS_FIRST_CHECKPOINT.replace("GRPOTrainer", "SFTTrainer")
WHILE_IT_WRITES = """
import afmrl.training.completions as completions
completions.CHUNK_BATCHES = 1
generate = completions.AttributeGenerator.generate
calls = []
def written(self, *offers, **options):
    if "max_new_tokens" in options and len(calls) == 2:
        die()
    calls.append(1)
    return generate(self, *offers, **options)
completions.AttributeGenerator.generate = written
"""


@pytest.mark.slow
def test_killed_in_sft_and_while_it_writes_attributes_it_goes_on_from_there(quickstart, copy):
    for name in ("sft", "attributes-sft-test", "attributes-sft-val", "attributes-sft-reward", "ceiling"):
        shutil.rmtree(copy / "stages" / name)
    options = (
        "--hardware.save_steps=8",
        "--evaluation.batch_size=8",
        "--rar.max_steps=0",
        "--evaluation.rows=[agcl, sft]",
    )
    killed(copy, IN_SFT_AFTER_ITS_FIRST_CHECKPOINT, *options)
    assert (copy / "stages" / "sft" / "model" / "checkpoint-8" / "trainer_state.json").is_file()
    out = killed(copy, WHILE_IT_WRITES, *options)
    assert "sft: was interrupted, resumes from what is there" in out
    assert (copy / "stages" / "sft" / "complete.json").is_file()
    models = [folder / "stages" / "sft" / "model" / "model.safetensors" for folder in (copy, quickstart)]
    assert models[0].read_bytes() == models[1].read_bytes()
    (part,) = (copy / "stages").glob("attributes-*/completions.part.jsonl")
    stage = part.parent.name
    assert len(part.read_text().splitlines()) == 2 * 8
    out = again(copy, *options)
    assert f"{stage}: was interrupted, resumes from what is there" in out and not part.exists()
    written = [(folder / "stages" / stage / "attributes.jsonl").read_text() for folder in (copy, quickstart)]
    assert stage == "attributes-sft-val" and written[0] == written[1]


def test_killed_in_agcl_and_in_rar_it_ends_whole_with_the_same_numbers(quickstart, copy):
    for name in ("agcl", "ceiling", "rar", "attributes-sft-val", "attributes-sft-test", "attributes-rar-test"):
        shutil.rmtree(copy / "stages" / name)
    for name in ("embedder", "generator"):
        shutil.rmtree(copy / name)
    for name in ("metrics.json", "report.html", "run.json"):
        (copy / name).unlink()

    killed(copy, TORN_AT_THE_SECOND_CHECKPOINT, *SAVES_OFTEN)
    model = copy / "stages" / "agcl" / "model"
    assert sorted(path.name for path in model.glob("checkpoint-*")) == ["checkpoint-1", "checkpoint-2"]
    assert not (model / "checkpoint-2" / "trainer_state.json").exists()  # the second is torn

    out = killed(copy, IN_RAR_AFTER_ITS_FIRST_CHECKPOINT, *SAVES_OFTEN)
    assert "agcl: was interrupted, resumes from what is there" in out and "agcl: done" in out
    assert (copy / "stages" / "rar" / "model" / "checkpoint-1" / "trainer_state.json").is_file()

    killed(copy, HALF_OF_THE_WEIGHTS, *SAVES_OFTEN)
    weights = copy / "stages" / "rar" / "model" / "model.safetensors"
    assert weights.stat().st_size == 100_000
    assert not (copy / "stages" / "rar" / "complete.json").exists()
    assert not (copy / "generator").exists() and not (copy / "embedder").exists()  # only whole models are published

    out = again(copy, *SAVES_OFTEN)
    assert "rar: was interrupted, resumes from what is there" in out
    # AGCL goes on to the very same weights; RAR samples its completions anew, so it ends near, not equal
    embedders = [(folder / "embedder" / "model.safetensors").read_bytes() for folder in (copy, quickstart)]
    assert embedders[0] == embedders[1]
    ours, theirs = metrics_of(copy)["rows"], metrics_of(quickstart)["rows"]
    assert ours.keys() == theirs.keys()
    for row, metrics in theirs.items():
        if row.partition(":")[0] != "rar":
            assert ours[row] == metrics
        else:
            _, low, high = metrics["mrr"]
            assert low <= ours[row]["mrr"][0] <= high


def test_a_run_stops_after_the_stage_that_it_is_asked_to(copy):
    for name in ("agcl", "rar"):
        shutil.rmtree(copy / "stages" / name)
    shutil.rmtree(copy / "generator")
    before = (copy / "metrics.json").read_bytes()
    out = again(copy, "--until", "sft")
    assert ran(out) == (set(), {"catalog", "base", "sft"})
    assert f"stopped after sft, as asked: {copy / 'stages' / 'sft' / 'model'}" in out and "Report:" not in out
    assert not (copy / "stages" / "agcl").exists() and not (copy / "generator").exists()
    assert (copy / "metrics.json").read_bytes() == before
    refused = afmrl("run", ROOT / "src/afmrl/recipes/quickstart-fast.yaml", "--out", copy, "--until", "tea")
    assert refused.returncode and "--until" in refused.stdout + refused.stderr


IN_THE_WATCH_AFTER_ITS_FIRST_MEASURE = """
import os
import afmrl.training.watch as watch
replace, saved = os.replace, []
def last(source, target):
    if str(target).endswith(watch.BEST):
        saved.append(target)
        if len(saved) == 2:
            die()
    replace(source, target)
os.replace = last
# every measure is a new best one
best_of = watch.Watch.best_of
watch.Watch.best_of = staticmethod(lambda measured: measured[-1])
"""
WATCHED = ("--rar.eval_steps", "1", "--hardware.save_steps", "1")


@pytest.mark.parametrize("patch", [IN_THE_WATCH_AFTER_ITS_FIRST_MEASURE, IN_RAR_AFTER_ITS_FIRST_CHECKPOINT])
def test_killed_while_rar_is_watched_every_step_is_measured_once_and_the_best_is_kept(copy, patch):
    shutil.rmtree(copy / "stages" / "rar")
    killed(copy, patch, *WATCHED)
    model = copy / "stages" / "rar" / "model"
    before = json.loads((model / "validation.json").read_text())
    assert before[0]["step"] == 0
    assert "rar: was interrupted, resumes from what is there" in again(copy, *WATCHED)
    result = json.loads((copy / "stages" / "rar" / "complete.json").read_text())["result"]["validation"]
    history = [e for e in json.loads((model / "history.json").read_text()) if "val_mrr" in e]
    assert [entry["step"] for entry in history] == [0, 1, 2, 3]
    assert history[0]["val_mrr"] == pytest.approx(before[0]["mrr"], abs=1e-3)  # taken over
    best = max(history, key=lambda entry: (entry["val_mrr"], -entry["step"]))
    assert result["step"] == best["step"]
    assert not list(model.glob("best.safetensors*")) and not list(model.glob("checkpoint-*"))


# one's own catalog


def own_offers(folder, images):
    """30 products in 10 families, three offers each, by hand: nothing of the sample's columns."""
    rows = []
    for number in range(30):
        for shop in range(3):
            row = {
                "id": f"{number}-{shop}", "title": f"{'fine ' * shop}mug no {number + 100} acme",
                "gtin": 4_000_000 + number, "line": f"line {number // 3}",
                "attributes": {"number": str(number), "brand": "acme"},
            }  # fmt: skip
            if images and shop != 1:
                row["image"] = f"{number}-{shop}.png"
                save_image(folder / row["image"], number)
            rows.append(row)
    rows.append({"id": "empty", "title": ""})
    (folder / "offers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pairs = [{"left": f"{n}-0", "right": f"{n}-{shop}"} for n in range(30) for shop in (1, 2)]
    pairs.append({"left": "0-0", "right": "empty"})  # a row that was skipped is no unknown one
    (folder / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))


@pytest.mark.parametrize("named", ["gtin", "pairs"])
def test_a_catalog_of_ones_own(quickstart, tmp_path, named):
    own_offers(tmp_path, images=named == "gtin")
    positives = {"column": "gtin"} if named == "gtin" else {"column": None, "pairs": "pairs.jsonl"}
    short = {"max_steps": 3, "batch_size": 8}
    recipe = {
        "name": "Mugs", "base": str(quickstart / "stages" / "base" / "model"),
        "catalog": {"path": "offers.jsonl", "positives": positives, "max_bad": 0.02, "family_column": "line",
                      "split": {"by": "line", "fractions": {"train": 0.5, "reward": 0.2, "test": 0.3}}},
        "sft": short, "agcl": short,
        "rar": {"max_steps": 2, "prompts_per_step": 2, "num_generations": 2, "teachable_only": False,
                "max_new_tokens": 8},
        "evaluation": {"floors": ["tfidf", "tfidf+color"], "fuse": True},
    }  # fmt: skip
    (tmp_path / "mugs.yaml").write_text(yaml.safe_dump(recipe))
    done = afmrl("run", tmp_path / "mugs.yaml", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    out = tmp_path / "out"
    for name in ("embedder", "generator", "metrics.json", "report.html", "run.json", "skipped.json"):
        assert (out / name).exists(), name
    metrics = metrics_of(out)
    assert (metrics["num_queries"], metrics["num_gallery"], metrics["num_families"]) == (9, 18, 3)
    assert set(metrics["floors"]) == {
        "tfidf",
        *(["tfidf+color"] if named == "gtin" else []),
    }  # as far as there are images
    assert metrics["floors"]["tfidf"]["recall@1"][0] == 1.0  # every title tells its number
    (skipped,) = json.loads((out / "skipped.json").read_text())
    assert (skipped["id"], skipped["row"]) == ("empty", 91)
    assert "1 row was left out" in done.stdout
    assert json.loads((out / "run.json").read_text())["skipped_rows"] == 1

    # and what it left can be used: evaluate with the weights it learned
    offers = [json.loads(line) for line in (tmp_path / "offers.jsonl").read_text().splitlines()[:-1]]
    for name, shop in (("q", "0"), ("g", "1")):
        rows = [row for row in offers if row["id"].endswith(f"-{shop}")]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "qrels.tsv").write_text("".join(f"{n}-0\t{n}-1\t1\n" for n in range(30)))
    done = afmrl(
        "evaluate", "--model", out / "embedder", "--generator", out / "generator", "--fuse", "--queries",
        tmp_path / "q.jsonl", "--gallery", tmp_path / "g.jsonl", "--qrels", tmp_path / "qrels.tsv", "--out",
        tmp_path / "evaluation",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert metrics_of(tmp_path / "evaluation")["num_queries"] == 30


def test_no_row_of_a_generator_that_nothing_reinforced():
    from types import SimpleNamespace

    from afmrl.training.recipe import recipe_of
    from afmrl.training.run_evaluation import table_rows

    base = {"catalog": {"path": "c"}, "base": "m"}
    rows = [
        table_rows(SimpleNamespace(recipe=recipe_of({**base, **more}), cit={}))
        for more in ({}, {"rar": {"max_steps": 0}}, {"rar": {"max_steps": 0}, "evaluation": {"rows": ["rar"]}})
    ]
    assert "rar" in rows[0] and [row for row in rows[0] if row != "rar"] == rows[1] and rows[2] == ["rar"]


@pytest.mark.parametrize(
    ("section", "name"),
    [
        ({"sft": {"batch_size": 33}}, "sft.batch_size: 33"),
        ({"agcl": {"batch_size": 33}}, "agcl.batch_size: 33"),
        ({"rar": {"prompts_per_step": 3, "num_generations": 3}}, "rar.micro_batch_size: 9"),
        ({"rar": {"sft_batch_size": 5}}, "rar.sft_batch_size: 5"),
    ],
)
def test_batches_that_do_not_divide_are_refused_before_anything_is_trained(monkeypatch, tmp_path, section, name):
    from afmrl.errors import InputError
    from afmrl.training import processes
    from afmrl.training import run as pipeline
    from afmrl.training.recipe import recipe_of

    monkeypatch.setattr(pipeline, "join_processes", lambda: 2)
    monkeypatch.setattr(processes, "world_size", lambda: 2)
    recipe = recipe_of({"catalog": {"path": "c"}, "base": "m", **section})
    with pytest.raises(InputError, match=f"{name} does not divide among 2 processes"):
        pipeline.run(recipe, tmp_path)


def test_a_half_copied_model_is_never_published(quickstart, tmp_path):
    from afmrl.training.run_files import publish_model

    target = tmp_path / "embedder"
    half = tmp_path / "embedder.new"
    half.mkdir()
    (half / "model.safetensors").write_bytes(b"half")
    publish_model(quickstart / "stages" / "agcl" / "model", target)
    assert not half.exists()
    whole = (quickstart / "embedder" / "model.safetensors").read_bytes()
    assert (target / "model.safetensors").read_bytes() == whole
    published = {path.name for path in (quickstart / "embedder").iterdir()}
    assert {path.name for path in target.iterdir()} | {"parity.json"} == published  # which the run adds at its end


def test_what_has_no_category_is_left_out_of_the_alignment_tax_and_told():
    from types import SimpleNamespace

    from afmrl.data.offer import Offer
    from afmrl.evaluation.alignment_tax import general_quality
    from afmrl.training.ladder import Encoded, general_quality_of
    from afmrl.training.run_report import _tax_notes
    from afmrl.training.splits import Split

    draw = np.random.default_rng(0)
    categories = ["dress", "coat", ""] * 20
    offers = [Offer(f"o{n}", "t", category=categories[n % 60]) for n in range(120)]
    split = Split(offers, [], list(range(60)), list(range(60, 120)), [], [f"f{n // 2}" for n in range(60)])
    queries, gallery = draw.normal(size=(2, 60, 5)).astype(np.float32)
    run = SimpleNamespace(recipe=SimpleNamespace(seed=0))
    found = general_quality_of(run, split, Encoded(queries, gallery))
    kept = [n for n in range(60) if categories[n]]
    of = [categories[n] for n in kept]
    expected = general_quality(
        queries[kept], gallery[kept], of, of, [split.families[n] for n in kept], num_resamples=500
    )
    assert {name: i.mean for name, i in found.items()} == {name: i.mean for name, i in expected.items()}
    assert "By category: of the 40 of 60 queries that have one." in _tax_notes(
        {"agcl": {"nmi": [0.1, 0.0, 0.2]}}, split
    )
    alone = Split([Offer("a", "t", category="dress")] * 4, [], [0, 1], [2, 3], [], ["f", "g"])
    assert general_quality_of(run, alone, Encoded(queries[:2], gallery[:2])) == {}
    assert "was not measured: the queries have no two categories" in _tax_notes({}, alone)[0]
