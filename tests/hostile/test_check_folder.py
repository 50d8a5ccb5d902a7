"""`afmrl check FOLDER`: every folder of ours is known, sound as it was written, and a flipped bit in it is named."""

import json
import os
import random
import re
import shutil

import numpy as np
import pytest

from afmrl.data.catalog import write_catalog
from afmrl.data.damage import Checked, checked_files, file_facts
from afmrl.data.image_cache import cached_image
from afmrl.data.offer import Offer
from afmrl.files import write_sealed
from conftest import save_image
from hostile.test_damage import embeddings, flipped, index  # noqa: F401  # fixtures

SEEDS = 12


@pytest.fixture(scope="module")
def offers(tmp_path_factory):
    path = tmp_path_factory.mktemp("catalog") / "catalog.jsonl"
    write_catalog(path, [Offer(str(n), title=f"red dress zx{n // 2}", product_id=str(n // 2)) for n in range(60)])
    return path


@pytest.fixture
def folder(request, offers, tmp_path, call):
    """A folder as a command leaves it."""
    kind, out = request.param, tmp_path / request.param
    if kind in ("embeddings", "index"):
        shutil.copytree(request.getfixturevalue(kind), out)
    elif kind == "match":
        assert call("match", offers, "--out", out)[0] == 0
    elif kind == "evaluation":
        evaluate = ("evaluate", "--catalog", offers, "--model", "bm25", "--split", "all", "--out", out)
        assert call(*evaluate)[0] == 0
    elif kind == "model":
        shutil.copytree(request.getfixturevalue("tiny_model"), out)
    else:
        shutil.copytree(offers.parent, out)
    return out


KINDS = ["embeddings", "index", "match", "evaluation", "model", "catalog"]


@pytest.mark.parametrize("folder", KINDS, indirect=True)
def test_every_folder_of_ours_is_known_and_sound(folder, call):
    code, out, err = call("check", folder)
    assert code == 0, out + err
    assert f"{folder}: sound" in out
    assert "DAMAGED" not in out
    code, out, _ = call("check", folder, "--json")
    summary = json.loads(out)
    assert code == 0
    assert summary["is_sound"]
    assert all(thing["fault"] == "" for thing in summary["things"])


@pytest.mark.parametrize("folder", ["embeddings", "index", "match"], indirect=True)
def test_a_flipped_bit_is_named(folder, tmp_path, call):
    named = 0
    for seed in range(SEEDS):
        where = flipped(folder, tmp_path / "copy", seed).split(" at ")[0]
        if where in ("lock", ".lock", "quarantine.jsonl"):
            continue
        code, out, err = call("check", tmp_path / "copy")
        assert code in (1, 2), (seed, where, out)
        assert where.rpartition("/")[2].partition(".")[0] in out + err, (seed, where, out, err)
        assert "Traceback" not in err
        named += 1
    assert named > SEEDS / 2


@pytest.mark.parametrize("folder", KINDS, indirect=True)
def test_a_file_that_is_cut_or_gone_is_named(folder, call):
    names = {"model": "*.safetensors", "match": "pairs.csv", "evaluation": "queries.jsonl", "catalog": "catalog.jsonl"}
    path = next(folder.rglob(names.get(folder.name, "*.parquet" if folder.name == "embeddings" else "*.npy")))
    path.write_bytes(path.read_bytes()[:-40])
    code, out, _ = call("check", folder)
    assert code == 1
    assert re.search(rf"DAMAGED .*{re.escape(path.name)}", out)
    if folder.name not in ("evaluation", "catalog"):
        path.unlink()
        code, out, _ = call("check", folder)
        assert code == 1
        assert re.search(r"DAMAGED .*missing", out)


@pytest.mark.parametrize("folder", ["embeddings", "index", "match"], indirect=True)
def test_a_later_format_is_said_with_what_to_do(folder, call):
    pointer = folder / {"embeddings": "manifest.json", "index": "index.json", "match": "summary.json"}[folder.name]
    content = json.loads(pointer.read_text())
    content.pop("checksum", None)
    write_sealed(pointer, {**content, "version": 99, "unknown": {"to": "us"}})
    code, out, _ = call("check", folder)
    assert code == 1
    assert "is of format 99" in out
    assert "update afmrl" in out


@pytest.mark.parametrize(
    ("changed", "said"), [({"rows": 61}, "its shards hold another number of rows"), ({"complete": False}, "resumes it")]
)
def test_a_manifest_that_does_not_tell_of_all_rows_is_named(embeddings, tmp_path, changed, said, call):  # noqa: F811
    folder = shutil.copytree(embeddings, tmp_path / "e")
    content = json.loads((folder / "manifest.json").read_text())
    del content["checksum"]
    write_sealed(folder / "manifest.json", {**content, **changed})
    code, out, _ = call("check", folder)
    assert code == 1
    assert re.search(rf"DAMAGED  manifest\.json.*{said}", out)


def test_an_incomplete_match_is_said_to_be_one(offers, tmp_path, call):
    assert call("match", offers, "--out", tmp_path / "m")[0] == 0
    (tmp_path / "m" / "summary.json").unlink()
    code, out, _ = call("check", tmp_path / "m")
    assert code == 1
    assert "not complete; the same command writes it" in out


def test_the_embeddings_that_a_match_keeps_are_read_too(offers, embeddings, tmp_path, call):  # noqa: F811  # a fixture
    assert call("match", offers, "--out", tmp_path / "m")[0] == 0
    kept = shutil.copytree(embeddings, tmp_path / "m" / "embeddings")
    code, out, _ = call("check", tmp_path / "m")
    assert code == 0
    assert "sound    embeddings/manifest.json" in out
    next(kept.glob("*.parquet")).unlink()
    code, out, _ = call("check", tmp_path / "m")
    assert code == 1
    assert "DAMAGED  embeddings/" in out


@pytest.mark.parametrize("facts", [None, {}, ["a.txt"]])
def test_files_without_checksums_are_said_not_to_be_compared(tmp_path, facts):
    (tmp_path / "a.txt").write_text("a")
    assert list(checked_files(tmp_path, facts)) == [
        Checked("no checksums were written of its files: they were not compared")
    ]


def test_what_was_written_down_of_a_file_may_be_damaged_too(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    assert list(checked_files(tmp_path, {"a.txt": file_facts(tmp_path / "a.txt")})) == [Checked("a.txt")]
    for facts in ({}, None, 3):
        (found,) = checked_files(tmp_path, {"a.txt": facts})
        assert found.what == "a.txt" and "cannot be read" in found.fault


def test_a_cache_of_images(tmp_path, monkeypatch, call):
    monkeypatch.setenv("AFMRL_IMAGE_CACHE", str(tmp_path))
    paths = [cached_image(f"https://shop/{n}.jpg") for n in range(5)]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        save_image(tmp_path / "x.png", size=(64, 64)).rename(path)
    code, out, _ = call("check", tmp_path)
    assert (code, "5 fetched images" in out) == (0, True)
    paths[2].write_bytes(paths[2].read_bytes()[:-50])
    code, out, _ = call("check", tmp_path)
    assert code == 1
    assert f"DAMAGED  {paths[2].parent.name}/{paths[2].name}" in out
    assert "4 fetched images" in out


def test_a_name_that_would_steer_the_terminal_is_shown_without_that(tmp_path, call):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "torn\x1b[2J.json").write_text("{")
    code, out, _ = call("check", tmp_path)
    assert code == 1
    assert "DAMAGED  torn" in out and "\x1b[2J" not in out


def test_a_folder_of_others_is_refused_in_one_line(tmp_path, call):
    (tmp_path / "mine.txt").write_text("dear")
    code, _, err = call("check", tmp_path)
    assert code == 2
    assert "no folder that a command of afmrl wrote" in err


@pytest.mark.slow
def test_a_run_is_compared_with_what_its_stages_wrote(quickstart, tmp_path, call):
    code, out, _ = call("check", quickstart)
    assert code == 0, out
    assert "sound    stage agcl" in out
    assert "sound    embedder/model.safetensors" in out
    draw = random.Random(0)
    for name in ("stages/sft/model/model.safetensors", "embedder/model.safetensors", "generator/tokenizer.json"):
        run = shutil.copytree(quickstart, tmp_path / name.replace("/", "-"))
        content = np.fromfile(run / name, dtype=np.uint8)
        content[draw.randrange(len(content))] ^= 4
        content.tofile(run / name)
        code, out, _ = call("check", run)
        assert code == 1
        damaged = [line for line in out.splitlines() if line.startswith("DAMAGED")]
        assert len(damaged) == 1, out
        assert ("stage sft" if "stages" in name else name) in damaged[0]
        if not name.startswith("stages"):
            code, out, _ = call("check", run / name.partition("/")[0])  # the model alone, in its run
            assert code == 1
            assert f"DAMAGED  {name}" in out


@pytest.mark.parametrize("name", ["manifest.json", "index.json", "metrics.json", "config.json", "catalog.jsonl"])
@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_what_is_no_file_is_not_waited_for(name, kind, tmp_path, call):
    (os.mkfifo if kind == "pipe" else os.mkdir)(tmp_path / name)
    code, out, _ = call("check", tmp_path)
    assert code == 1
    assert re.search(r"DAMAGED .*(not a regular file|is missing)", out)


def test_a_run_of_another_program_is_not_sound(tmp_path, call):
    (tmp_path / "run.json").write_text('{"name": "mine"}')
    code, out, _ = call("check", tmp_path)
    assert code == 1
    assert "was not written by `afmrl run`" in out
