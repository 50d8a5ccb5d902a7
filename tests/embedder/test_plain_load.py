"""The trained models in a process that never heard of afmrl: plain sentence-transformers, plain transformers."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from afmrl.data.catalog import read_catalog
from afmrl.data.offer import Offer
from afmrl.data.offer_text import offer_text
from afmrl.embedder.embedder import Embedder
from afmrl.embedder.text import embedder_text
from afmrl.generator.generator import AttributeGenerator
from afmrl.generator.prompt import generator_messages

pytestmark = pytest.mark.slow

NO_AFMRL = """
import importlib.abc, json, sys

class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "afmrl":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Refuse())
"""
EMBED = """
import numpy as np
from PIL import Image
from sentence_transformers import SentenceTransformer
given = json.load(open(sys.argv[1]))
model = SentenceTransformer(given["model"])
image = lambda path: Image.open(path).convert("RGB")
rows = {
    "text": model.encode([row["text"] for row in given["rows"]]),
    "image": model.encode([image(row["image"]) for row in given["rows"]]),
    "fused": model.encode([{"image": image(row["image"]), "text": row["text"]} for row in given["rows"]]),
    "one": model.encode(given["rows"][0]["text"])[None],
}
np.savez(given["out"], **rows)
assert "afmrl" not in sys.modules
"""
WRITE = """
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor
given = json.load(open(sys.argv[1]))
processor = AutoProcessor.from_pretrained(given["model"])
model = AutoModelForImageTextToText.from_pretrained(given["model"]).eval()
written = []
for row in given["rows"]:
    text = processor.apply_chat_template(row["messages"], add_generation_prompt=True, tokenize=False)
    images = [Image.open(row["image"]).convert("RGB")] if row["image"] else None
    inputs = processor(text=[text], images=images, return_tensors="pt", add_special_tokens=False)
    with torch.inference_mode():
        tokens = model.generate(**inputs, max_new_tokens=40, do_sample=False)[0, inputs["input_ids"].shape[1]:]
    written.append(processor.decode(tokens, skip_special_tokens=True).strip())
json.dump(written, open(given["out"], "w"))
assert "afmrl" not in sys.modules
"""


def plain(code, given, tmp_path):
    """Run code in a process that cannot import afmrl; with torchvision absent or present, as this environment is."""
    path = tmp_path / "given.json"
    path.write_text(json.dumps(given))
    done = subprocess.run(
        [sys.executable, "-c", NO_AFMRL + code, str(path)],
        capture_output=True, text=True, check=False, cwd=tmp_path,
        env={**{k: v for k, v in os.environ.items() if k != "PYTHONPATH"}, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def offers(quickstart):
    test = [o for o in read_catalog(quickstart / "catalog" / "catalog.jsonl") if o.extra["split"] == "test"]
    return [offer for offer in test if offer.image and offer.title][:6]


def test_the_embedder_gives_the_same_vectors(quickstart, offers, tmp_path):
    embedder = Embedder.from_pretrained(quickstart / "embedder")
    rows = [{"text": embedder_text(offer), "image": offer.image} for offer in offers]
    given = {"model": str(quickstart / "embedder"), "rows": rows, "out": str(tmp_path / "rows.npz")}
    plain(EMBED, given, tmp_path)
    theirs = np.load(tmp_path / "rows.npz")
    for modality in ("text", "image", "fused"):
        ours = embedder.encode(offers, modality=modality)
        np.testing.assert_allclose(theirs[modality], ours, atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(theirs["one"], theirs["text"][:1], atol=1e-5)
    # and they are vectors of what was read, not of nothing
    assert np.abs(theirs["text"] - theirs["image"]).max() > 1e-2
    assert np.abs(theirs["fused"] - theirs["text"]).max() > 1e-2
    assert np.abs(theirs["image"][0] - theirs["image"][1]).max() > 1e-3


def test_the_generator_writes_the_same_text(quickstart, offers, tmp_path):
    lonely = [Offer("words", title=offers[0].title), Offer("image", image=offers[1].image)]
    several = [*offers[:4], *lonely]
    rows = [{"messages": generator_messages(offer), "image": offer.image} for offer in several]
    given = {"model": str(quickstart / "generator"), "rows": rows, "out": str(tmp_path / "texts.json")}
    plain(WRITE, given, tmp_path)
    theirs = json.loads((tmp_path / "texts.json").read_text())
    generator = AttributeGenerator.from_pretrained(quickstart / "generator")
    ours = [completion.text for (completion,) in generator.generate(several, max_new_tokens=40)]
    assert ours == theirs
    assert any(":" in text for text in theirs)


def test_the_order_and_size_of_batches_change_no_answer(quickstart, offers):
    several = [*offers, Offer("words", title=offers[0].title), Offer("image", image=offers[1].image)]
    generator = AttributeGenerator.from_pretrained(quickstart / "generator")
    embedder = Embedder.from_pretrained(quickstart / "embedder")
    whole = [c.text for (c,) in generator.generate(several, max_new_tokens=20)]
    assert [c.text for (c,) in generator.generate(several[::-1], max_new_tokens=20, batch_size=3)] == whole[::-1]
    rows = embedder.encode(several)
    np.testing.assert_allclose(embedder.encode(several[::-1], batch_size=3)[::-1], rows, atol=1e-5)


@pytest.mark.parametrize("name", ["embedder", "generator", "stages/base/model", "stages/base/random"])
def test_no_folder_holds_anything_that_runs_code(quickstart, name):
    endings = {path.suffix for path in (quickstart / name).rglob("*") if path.is_file()}
    assert endings <= {".safetensors", ".json", ".txt", ".md", ".jinja"}, endings
    for path in (quickstart / name).rglob("*.json"):
        assert "auto_map" not in path.read_text(encoding="utf-8"), f"{path} asks for trust_remote_code"
        assert "afmrl" not in path.read_text(encoding="utf-8") or path.name == "afmrl.json", path


def test_the_folders_name_no_place_of_the_machine_they_were_made_on(quickstart):
    for name in ("embedder", "generator"):
        for path in (quickstart / name).rglob("*"):
            if path.suffix in (".json", ".md", ".jinja", ".txt"):
                assert str(quickstart.parent) not in path.read_text(encoding="utf-8"), path


def test_the_plain_prompt_is_what_the_documentation_says(offers):
    assert embedder_text(offers[0]) == offer_text(offers[0]) == " ".join(offers[0].title.split())
