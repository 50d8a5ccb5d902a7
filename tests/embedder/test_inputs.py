"""What `Embedder.encode` takes, and what it refuses in one line."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.data.offer import Offer
from afmrl.embedder.embedder import Embedder
from afmrl.errors import InputError


@pytest.fixture(scope="module")
def embedder(tiny_model):
    return Embedder.from_pretrained(tiny_model)


def test_every_form_of_an_input_gives_the_embedding_of_its_offer(embedder, image):
    both, text, picture = embedder.encode(
        [Offer("1", "red dress", image=str(image)), Offer("2", "red dress"), Offer("3", image=str(image))]
    )
    forms = {
        "both": ({"text": "red dress", "image": str(image)}, {"title": "red dress", "image": image, "price": 9}),
        "text": ("red dress", {"text": "red dress"}, {"id": "9", "title": "red dress", "image": None}),
        "image": (Image.open(image), {"image": str(image)}, {"image": Image.open(image)}),
    }
    for name, expected in (("both", both), ("text", text), ("image", picture)):
        for given in forms[name]:
            np.testing.assert_allclose(embedder.encode([given])[0], expected, atol=1e-5)
    mixed = embedder.encode([form for some in forms.values() for form in some])
    np.testing.assert_allclose(mixed, np.repeat([both, text, picture], [2, 3, 3], axis=0), atol=1e-5)
    assert np.abs(both - text).max() > 1e-3 and np.abs(both - picture).max() > 1e-3


def test_key_attributes_go_with_any_form(embedder):
    red = KeyAttributes.of({"color": "red"})
    ours, theirs = embedder.encode(["dress", Offer("1", "dress")], [red, red])
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    assert np.abs(ours - embedder.encode(["dress"])[0]).max() > 1e-4


def test_length_and_dimension(embedder):
    whole = embedder.encode(["red dress", "blue mug"])
    np.testing.assert_allclose(np.linalg.norm(whole, axis=1), 1, atol=1e-5)
    short = embedder.encode(["red dress", "blue mug"], truncate_dim=16)
    assert short.shape == (2, 16)
    np.testing.assert_allclose(short, whole[:, :16] / np.linalg.norm(whole[:, :16], axis=1, keepdims=True), atol=1e-5)
    raw = embedder.encode(["red dress"], truncate_dim=16, normalize_embeddings=False)
    np.testing.assert_allclose(raw[0], whole[0, :16], atol=1e-5)
    assert embedder.encode([]).shape == (0, embedder.dimension)
    with pytest.raises(InputError, match="truncate_dim=0"):
        embedder.encode(["red"], truncate_dim=0)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (7, "input 1 is int (7)"),
        (None, "input 1 is NoneType"),
        (b"red", "input 1 is bytes"),
        (["red", "dress"], "input 1 is list"),
        (np.zeros(3), "input 1 is ndarray"),
        ({}, "neither a text nor an image (its keys: none)"),
        ({"name": "red dress"}, "neither a text nor an image (its keys: name)"),
        ({"text": 7}, "text: is int, expected text"),
        ({"title": ["red"]}, "title: is list, expected text"),
        ({"text": "red", "image": b"..."}, "image: is bytes, expected a file or a PIL image"),
        ({"text": "red", "title": "blue"}, "has the key 'text' and others"),
        ({"image": "https://shop.example/1.jpg"}, "download it, give the file"),
        ("https://shop.example/images/1.JPG?size=2", "images are not fetched"),
        ("images/1.png", 'give {"image": FILE}'),
        ({"image": "nowhere.png"}, "nowhere.png: no such file"),
    ],
)
def test_anything_else_is_refused_in_one_line(embedder, given, said):
    with pytest.raises(InputError) as caught:
        embedder.encode(["red dress", given])
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("given", ["red dress", {"text": "red dress"}, Offer("1", "red dress"), 7, None])
def test_one_input_that_is_no_list_is_refused(embedder, given):
    with pytest.raises(InputError, match="give a list of inputs"):
        embedder.encode(given)


def test_words_that_only_end_like_a_file_are_words(embedder):
    assert len(embedder.encode(["print of photo.jpg in a frame", "https://shop.example/dress", {"text": "1.png"}])) == 3
