"""`afmrl attributes` and `afmrl embed` with a real (tiny) model."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.bulk.folder import ATTRIBUTES, EMBEDDINGS, BulkFolder, embeddings_of, key_attributes_of, offers_of
from afmrl.cli.app import app
from afmrl.data.catalog import read_catalog
from afmrl.data.offer import Offer
from afmrl.embedder.embedder import Embedder
from afmrl.errors import InputError
from afmrl.generator.engines.base import Completion
from afmrl.generator.generator import AttributeGenerator
from conftest import afmrl, save_image

WORDS = ["red", "silk", "dress", "wide", "cut", "blue", "cotton", "shirt", "small", "large"]


def catalog_of(folder, count=24, images=6):
    """Offers of words, every fourth with an image."""
    rng = random.Random(0)
    for number in range(images):
        save_image(folder / "images" / f"{number}.png", number, (60, 60))
    rows = [
        {
            "id": f"o{number}", "title": " ".join(rng.sample(WORDS, rng.randint(2, 6))), "seller": f"s{number % 3}",
            "image": f"images/{number % images}.png" if number % 4 == 0 else "", "category": "dress",
        }
        for number in range(count)
    ]  # fmt: skip
    return write(folder / "offers.jsonl", rows), rows


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(*arguments):
    """The command in this process; what it prints stays here."""
    app([str(argument) for argument in arguments], result_action="return_value")


def embeddings(out):
    found = {}
    for batch in BulkFolder.open(out, kind=EMBEDDINGS).batches():
        for offer, attributes, vector in zip(
            offers_of(batch), key_attributes_of(batch), embeddings_of(batch), strict=True
        ):
            assert offer.id not in found
            found[offer.id] = (offer, attributes, vector)
    return found


class FixedGenerator(AttributeGenerator):
    """Writes what the offer's title says; opens images as the real one does."""

    calls = 0

    def __init__(self):
        super().__init__(engine=None)

    @classmethod
    def from_pretrained(cls, path, **options):
        return cls()

    def generate(self, offers, **options):
        from afmrl.data.images import open_image

        for offer in offers:
            if offer.image:
                open_image(offer.image)
        type(self).calls += len(offers)
        return [[self._completion_of(offer)] for offer in offers]

    @staticmethod
    def _completion_of(offer):
        text = "no pairs" if "small" in offer.title else f"word: {offer.title.split()[0]}; cut: wide"
        return Completion(text, 5, "large" not in offer.title)


@pytest.fixture
def fixed(monkeypatch):
    FixedGenerator.calls = 0
    monkeypatch.setattr("afmrl.bulk.attributes.open_generator", FixedGenerator.from_pretrained)
    return FixedGenerator


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float16", 1e-3)])
def test_embeddings_are_those_of_the_embedder(tmp_path, tiny_model, dtype, tolerance):
    path, _ = catalog_of(tmp_path)
    run("embed", path, "--model", tiny_model, "--out", tmp_path / "e", "--dtype", dtype, "--batch-size", 4)
    offers = list(read_catalog(path))
    expected = Embedder.from_pretrained(tiny_model).encode(offers)
    found = embeddings(tmp_path / "e")
    assert list(found) == [offer.id for offer in offers]
    np.testing.assert_allclose([vector for *_, vector in found.values()], expected, atol=tolerance)
    assert [offer.image for offer, *_ in found.values()] == [offer.image for offer in offers]
    manifest = BulkFolder.open(tmp_path / "e").manifest
    assert (manifest["dtype"], manifest["dimension"], manifest["generator"]) == (dtype, expected.shape[1], None)
    assert manifest["model"]["path"] == str(tiny_model)


def test_attributes_are_those_of_the_generator(tmp_path, tiny_model, fixed):
    path, rows = catalog_of(tmp_path)
    run("attributes", path, "--generator", tiny_model, "--out", tmp_path / "a")
    columns = {}
    for batch in BulkFolder.open(tmp_path / "a", kind=ATTRIBUTES).batches():
        for row in batch.to_pylist():
            columns[row["id"]] = row
    for row in rows:
        found, words = columns[row["id"]], row["title"].split()
        valid = "small" not in words and "large" not in words
        assert found["valid"] == valid
        assert found["key_attributes"] == ([("word", words[0]), ("cut", "wide")] if valid else [])
        assert found["completion"] == ("no pairs" if "small" in words else f"word: {words[0]}; cut: wide")
        assert found["without_evidence"] == (["cut"] if valid and "wide" not in words else [])
    run("attributes", path, "--generator", tiny_model, "--out", tmp_path / "a")
    assert fixed.calls == len(rows)


def trained(tiny_model, folder, attributes_on):
    """The tiny model as an embedder that was trained with `attributes_on`."""
    embedder = Embedder.from_pretrained(tiny_model)
    embedder.settings["attributes_on"] = attributes_on
    embedder.save(folder)
    return folder


@pytest.mark.parametrize("attributes_on", ["both", "gallery", "query"])
def test_the_embedder_reads_attributes_where_it_was_trained_to(tmp_path, tiny_model, fixed, attributes_on):
    path, rows = catalog_of(tmp_path)
    model = trained(tiny_model, tmp_path / "model", attributes_on)
    run("attributes", path, "--generator", tiny_model, "--out", tmp_path / "a")
    options = ["--model", model, "--dtype", "float32"]
    run("embed", path, *options, "--attributes", tmp_path / "a", "--out", tmp_path / "e")
    run("embed", path, *options, "--generator", tiny_model, "--out", tmp_path / "g")
    offers = list(read_catalog(path))
    attributes = fixed().attributes(offers)
    assert any(attributes) and not all(attributes)
    expected = Embedder.from_pretrained(model).encode(offers, None if attributes_on == "query" else attributes)
    for out in ("e", "g"):
        found = embeddings(tmp_path / out)
        assert [found[row["id"]][1] for row in rows] == attributes  # written in any case
        np.testing.assert_allclose([found[row["id"]][2] for row in rows], expected, atol=1e-5)
        assert BulkFolder.open(tmp_path / out).manifest["attributes_on"] == attributes_on
    other = "both" if attributes_on == "query" else "query"
    run("embed", path, *options, "--attributes", tmp_path / "a", "--out", tmp_path / "e", "--attributes-on", other)
    assert not np.allclose([vector for *_, vector in embeddings(tmp_path / "e").values()], expected, atol=1e-3)


def test_scores_are_those_of_evaluate(tmp_path, tiny_model, fixed):
    from afmrl.retrieval.encoder import OfferEncoder

    path, rows = catalog_of(tmp_path)
    model = trained(tiny_model, tmp_path / "model", "both")
    run("embed", path, "--model", model, "--generator", tiny_model, "--dtype", "float32", "--out", tmp_path / "e")
    encoder = OfferEncoder(Embedder.from_pretrained(model), generator=fixed(), attributes_on="both")
    offers = list(read_catalog(path))
    theirs = encoder.scores(offers[:5], offers).block(0, 5)
    queries = Embedder.from_pretrained(model).encode(offers[:5], fixed().attributes(offers[:5]))
    found = embeddings(tmp_path / "e")
    np.testing.assert_allclose(queries @ np.stack([found[row["id"]][2] for row in rows]).T, theirs, atol=1e-5)


@pytest.mark.parametrize("attributes_on", ["query", "gallery", "both"])
def test_a_search_reads_attributes_as_the_model_was_trained(tmp_path, tiny_model, fixed, monkeypatch, attributes_on):
    from afmrl.index.address import open_index
    from afmrl.matching.search import search
    from afmrl.matching.searchers import IndexSearch

    for module in ("afmrl.retrieval.encoder", "afmrl.generator.generator"):
        monkeypatch.setattr(f"{module}.open_generator", fixed.from_pretrained)
    path, _ = catalog_of(tmp_path)
    model = trained(tiny_model, tmp_path / "model", attributes_on)
    offers, embedder = list(read_catalog(path)), Embedder.from_pretrained(model)
    query = Offer("q", "red wide dress")
    asked = embedder.encode([query], fixed().attributes([query]) if attributes_on != "gallery" else None)
    gallery = embedder.encode(offers, fixed().attributes(offers) if attributes_on != "query" else None)
    expected = np.sort((asked @ gallery.T)[0])[::-1][:3]
    hits = search(path, model=model, text=query.title, generator=tiny_model, k=3, hybrid=False, rerank=False)
    np.testing.assert_allclose([hit.score for hit in hits], expected, atol=1e-5)
    options = ["--model", model, "--dtype", "float32", "--generator", tiny_model]
    run("embed", path, *options, "--out", tmp_path / "e")
    run("index", tmp_path / "e", "--out", tmp_path / "i", "--dtype", "f32")
    found = IndexSearch(open_index(tmp_path / "i"), generator=str(tiny_model), hybrid=False).search([query], 3)
    np.testing.assert_allclose(found.scores[0], expected, atol=1e-5)


def test_attributes_of_another_version_of_a_row_are_not_used(tmp_path, tiny_model, fixed):
    path, rows = catalog_of(tmp_path)
    run("attributes", path, "--generator", tiny_model, "--out", tmp_path / "a")
    embed = ["embed", path, "--model", tiny_model, "--attributes", tmp_path / "a", "--out", tmp_path / "e"]
    rows[1]["title"] += " changed"
    write(path, [*rows, {"id": "new", "title": "red"}])
    run(*embed, "--max-bad", 0.5)
    quarantine = {entry["id"]: entry for entry in BulkFolder.open(tmp_path / "e").quarantine()}
    assert set(quarantine) == {"o1", "new"}
    assert quarantine["new"]["field"] == "key_attributes" and "afmrl attributes" in quarantine["new"]["reason"]
    run("attributes", path, "--generator", tiny_model, "--out", tmp_path / "a")
    run(*embed)
    found = embeddings(tmp_path / "e")
    assert len(found) == 25 and found["new"][1] == KeyAttributes.of({"word": "red", "cut": "wide"})


def test_only_what_a_new_model_or_prompt_changes_is_done_again(tmp_path, tiny_model, fixed, monkeypatch, capsys):
    path, rows = catalog_of(tmp_path)
    model = shutil.copytree(tiny_model, tmp_path / "model")
    command = ["attributes", path, "--generator", model, "--out", tmp_path / "a"]

    def again():
        capsys.readouterr()
        run(*command)
        printed = capsys.readouterr().out
        return "24 done again" in printed, "24 kept" in printed

    run(*command)
    assert again() == (False, True)
    (model / "README.md").write_text("a card changes nothing")
    (model / "fusion.json").write_text("{}")
    assert again() == (False, True)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "extra": 1}))
    assert again() == (True, False)
    command += ["--max-new-tokens", 50]
    assert again() == (True, False)
    from afmrl.generator import prompt as prompts

    original = prompts.generator_messages
    monkeypatch.setattr(
        "afmrl.bulk.fingerprints.generator_messages",
        lambda offer: original(offer, prompts.GeneratorPrompt(description=True)),
    )
    assert again() == (True, False)


def test_unreadable_images_cost_the_image_and_are_tried_again(tmp_path, tiny_model, fixed, capsys):
    path, rows = catalog_of(tmp_path)
    broken = (tmp_path / "images" / "0.png").read_bytes()
    (tmp_path / "images" / "0.png").write_bytes(broken[: len(broken) // 2])  # o0, o12: a good header, torn behind it
    (tmp_path / "images" / "2.png").write_text("<html>")  # o8, o20
    for command in (["attributes", path, "--generator", tiny_model], ["embed", path, "--model", tiny_model]):
        out = tmp_path / command[0]
        run(*command, "--out", out)
        quarantine = list(BulkFolder.open(out).quarantine())
        assert {entry["id"] for entry in quarantine} == {"o0", "o8", "o12", "o20"}
        assert {entry["lost"] for entry in quarantine} == {"image"}
        assert all(entry["field"] == "image" and "images/" in entry["reason"] for entry in quarantine)
        assert len(BulkFolder.open(out)) == 24
    # key attributes that were written without an image are those of the row that is embedded without it
    run("embed", path, "--model", tiny_model, "--attributes", tmp_path / "attributes", "--out", tmp_path / "both")
    assert len(BulkFolder.open(tmp_path / "both")) == 24
    (tmp_path / "images" / "0.png").write_bytes(broken)
    capsys.readouterr()
    run("embed", path, "--model", tiny_model, "--out", tmp_path / "embed")
    assert "20 kept, 0 new, 4 done again, 0 removed, 0 quarantined, 2 without their image" in capsys.readouterr().out
    assert embeddings(tmp_path / "embed")["o0"][0].image == str(tmp_path / "images" / "0.png")


def test_images_in_archives(tmp_path, tiny_model, fixed):
    path, rows = catalog_of(tmp_path)
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for file in (tmp_path / "images").iterdir():
            archive.write(file, f"in/{file.name}")
    packed = [{**row, "image": row["image"].replace("images/", "photos.zip!/in/")} for row in rows]
    write(tmp_path / "packed.jsonl", packed)
    for name in ("offers", "packed"):
        run("embed", tmp_path / f"{name}.jsonl", "--model", tiny_model, "--generator", tiny_model, "--out",
            tmp_path / name)  # fmt: skip
    first, second = embeddings(tmp_path / "offers"), embeddings(tmp_path / "packed")
    assert second["o0"][0].image == str(tmp_path / "photos.zip!/in/0.png")
    np.testing.assert_array_equal([row[2] for row in first.values()], [row[2] for row in second.values()])
    os.utime(tmp_path / "photos.zip", (1, 1))
    run("embed", tmp_path / "packed.jsonl", "--model", tiny_model, "--generator", tiny_model, "--out",
        tmp_path / "packed")  # fmt: skip
    packed[0]["image"] = "photos.zip!/in/none.png"
    write(tmp_path / "packed.jsonl", packed)
    run("embed", tmp_path / "packed.jsonl", "--model", tiny_model, "--out", tmp_path / "packed", "--max-bad", 0.5)
    (entry,) = BulkFolder.open(tmp_path / "packed").quarantine()
    assert (entry["id"], entry["field"]) == ("o0", "image")


def test_a_data_set_with_images_inside(tmp_path, tiny_model):
    import datasets

    path, rows = catalog_of(tmp_path)
    table = [{**row, "image": str(tmp_path / row["image"]) if row["image"] else None} for row in rows]
    features = datasets.Features(
        {"id": datasets.Value("string"), "title": datasets.Value("string"), "seller": datasets.Value("string"),
         "image": datasets.Image(), "category": datasets.Value("string")}
    )  # fmt: skip
    dataset = datasets.Dataset.from_list(table, features=features)
    dataset = dataset.map(lambda row: row, features=features)  # puts the bytes into the rows
    dataset.save_to_disk(tmp_path / "saved")
    run("embed", tmp_path / "saved", "--model", tiny_model, "--out", tmp_path / "d")
    run("embed", path, "--model", tiny_model, "--out", tmp_path / "f")
    inside, outside = embeddings(tmp_path / "d"), embeddings(tmp_path / "f")
    np.testing.assert_array_equal([row[2] for row in inside.values()], [row[2] for row in outside.values()])
    images = [file for file in (tmp_path / "d" / "images").rglob("*") if file.is_file()]
    assert len(images) == 3 and inside["o0"][0].image in map(str, images)  # o0 and o12 share one
    before = BulkFolder.open(tmp_path / "d").manifest["shards"]
    run("embed", tmp_path / "saved", "--model", tiny_model, "--out", tmp_path / "d")
    assert BulkFolder.open(tmp_path / "d").manifest["shards"] == before


def test_what_does_not_go_together_is_refused(tmp_path, tiny_model):
    path, _ = catalog_of(tmp_path)
    base = ["embed", path, "--model", tiny_model, "--out", tmp_path / "e"]
    for options, words in [
        (["--generator", tiny_model, "--attributes", tmp_path], "give one of them"),
        (["--attributes-on", "both"], "there are no key attributes"),
        (["--attributes", tmp_path / "none"], "no such folder"),
        (["--batch-size", 0], "batch_size=0"),
        (["--ray-workers", 2], "--engine ray"),
    ]:
        with pytest.raises(InputError, match=words):
            run(*base, *options)
    with pytest.raises(InputError, match="no such file"):
        run("embed", tmp_path / "none.csv", "--model", tiny_model, "--out", tmp_path / "e")
    assert not (tmp_path / "e").exists() or not list((tmp_path / "e").glob("part-*"))


@pytest.mark.slow
def test_too_many_bad_rows_are_exit_code_3_with_a_summary(tmp_path, tiny_model):
    path, rows = catalog_of(tmp_path)
    write(path, [*rows, {"id": "x"}])
    done = afmrl("embed", path, "--model", tiny_model, "--out", tmp_path / "e", "--max-bad", "0.01")
    assert done.returncode == 3, done.stderr
    assert "1 of the 25 rows read are bad" in done.stderr and "quarantine.jsonl" in done.stderr
    assert "Traceback" not in done.stderr
    done = afmrl("embed", path, "--model", tiny_model, "--out", tmp_path / "e", "--max-bad", "0.04")
    assert done.returncode == 0 and "24 kept, 0 new" in done.stdout, done.stdout + done.stderr


@pytest.mark.slow
def test_a_run_killed_at_random_times_ends_as_an_undisturbed_one(tmp_path, tiny_model):
    path, _ = catalog_of(tmp_path, count=8000)
    program = (
        "import afmrl.bulk.job as job; job.BulkJob.__init__.__kwdefaults__['save_seconds'] = 0.2\n"
        "from afmrl.cli.app import main; main()"
    )
    arguments = [path, "--model", tiny_model, "--dtype", "float32", "--batch-size", "16", "--shard-rows", "1000"]
    command = [sys.executable, "-c", program, "embed", *map(str, arguments), "--out"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, str(tmp_path / "undisturbed")], check=True, env=environment, capture_output=True)
    rng, out, journal = random.Random(0), tmp_path / "killed", tmp_path / "killed" / "journal.json"
    sizes = []
    for _ in range(3):
        before = journal.stat().st_mtime_ns if journal.exists() else 0
        process = subprocess.Popen(
            [*command, str(out)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        while process.poll() is None and (not journal.exists() or journal.stat().st_mtime_ns == before):
            time.sleep(0.01)
        time.sleep(rng.uniform(0.0, 0.5))  # somewhere in one of the next shards
        process.send_signal(signal.SIGKILL)
        process.wait()
        if not journal.exists():
            break  # it was complete before
        sizes.append(sum(shard["rows"] for shard in json.loads(journal.read_text())["shards"]))
    assert sizes and sizes == sorted(set(sizes)) and sizes[0] < 8000  # each went on where the one before was killed
    done = subprocess.run([*command, str(out)], check=True, env=environment, capture_output=True, text=True)
    kept = int(re.search(r"([\d,]+) kept", done.stdout)[1].replace(",", ""))
    assert kept >= sizes[-1]
    theirs, ours = embeddings(tmp_path / "undisturbed"), embeddings(out)
    assert list(ours) == list(theirs)
    np.testing.assert_allclose([row[2] for row in ours.values()], [row[2] for row in theirs.values()], atol=1e-5)
    assert not list(out.glob("*.tmp")) and not (out / "journal.json").exists()


def test_addresses_are_fetched_only_when_asked_and_never_private_ones(tmp_path, tiny_model):
    path, rows = catalog_of(tmp_path)
    rows[0]["image"] = "http://127.0.0.1:9/a.png"
    write(path, rows)
    rows[1] |= {"image": "http://127.0.0.1:9/a.png", "title": ""}
    write(path, rows)
    embed = ("embed", path, "--model", tiny_model, "--out", tmp_path / "e", "--max-bad", 0.1)
    run(*embed)
    (entry,) = BulkFolder.open(tmp_path / "e").quarantine()  # the other offer has a title
    assert (entry["id"], entry["field"]) == ("o1", "title, image") and "not fetched" in entry["reason"]
    run(*embed, "--fetch")
    entries = list(BulkFolder.open(tmp_path / "e").quarantine())
    assert {(entry["id"], entry["lost"]) for entry in entries} == {("o0", "image"), ("o1", "row")}
    assert all(entry["field"] == "image" and "127.0.0.1" in entry["reason"] for entry in entries)


def test_a_floor_has_no_embeddings(tmp_path, call):
    path, _ = catalog_of(tmp_path)
    for name in ("bm25", "tfidf+color"):
        code, _, err = call("embed", path, "--model", name, "--out", tmp_path / "e")
        assert code == 2 and f"{name} learns nothing and has no embeddings" in err
