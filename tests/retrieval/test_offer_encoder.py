"""The encoder of offers: whose text carries key attributes, and what is done only once."""

from __future__ import annotations

import numpy as np
import pytest

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.data.offer import Offer
from afmrl.embedder.embedder import Embedder
from afmrl.errors import InputError
from afmrl.generator.engines.base import Completion, Usage
from afmrl.generator.generator import AttributeGenerator
from afmrl.retrieval.encoder import OfferEncoder
from afmrl.retrieval.fusion import FusionWeights
from afmrl.retrieval.scorer import FloorScorer, load_scorer

QUERIES = [Offer("q", "red dress"), Offer("r", "blue mug")]
GALLERY = [Offer("a", "dress"), Offer("b", "mug"), Offer("c", "dress")]


class CountingEngine:
    """Writes `color: red` and counts what it is asked."""

    def __init__(self):
        self.usage, self.num_requests = Usage(), 0

    def complete(self, requests, sampling, *, batch_size, progress):
        self.num_requests += len(requests)
        return [[Completion("color: red", 3, ended=True)] for _ in requests]


@pytest.fixture(scope="module")
def embedder(tiny_model):
    return Embedder.from_pretrained(tiny_model)


@pytest.mark.parametrize("attributes_on", ["query", "gallery", "both", "none", None])
def test_scores_are_those_of_texts_with_the_attributes_that_they_carry(embedder, attributes_on):
    encoder = OfferEncoder(embedder, generator=AttributeGenerator(CountingEngine()), attributes_on=attributes_on)
    red = KeyAttributes.of({"color": "red"})
    on_query, on_gallery = attributes_on in ("query", "both", None), attributes_on in ("gallery", "both")
    queries = embedder.encode(QUERIES, [red] * 2 if on_query else None)
    gallery = embedder.encode(GALLERY, [red] * 3 if on_gallery else None)
    np.testing.assert_allclose(encoder.scores(QUERIES, GALLERY).block(0, 2), queries @ gallery.T, atol=1e-5)
    assert (encoder.query_attributes(QUERIES) is not None) == on_query
    assert (encoder.gallery_attributes(GALLERY) is not None) == on_gallery


def test_nothing_is_written_or_embedded_twice(embedder, monkeypatch):
    engine, embedded = CountingEngine(), []
    plain = Embedder.encode
    monkeypatch.setattr(
        Embedder, "encode", lambda self, offers, *a, **k: embedded.extend(offers) or plain(self, offers, *a, **k)
    )
    encoder = OfferEncoder(embedder, generator=AttributeGenerator(engine), attributes_on="both")
    first = encoder.scores(QUERIES, GALLERY).block(0, 2)
    assert engine.num_requests == 4 and len(embedded) == 4  # two offers read the same
    np.testing.assert_array_equal(encoder.scores(QUERIES, GALLERY).block(0, 2), first)
    assert engine.num_requests == 4 and len(embedded) == 4


def test_a_part_of_the_gallery_scores_by_the_words_of_all_of_it(embedder):
    encoder = OfferEncoder(embedder, weights=FusionWeights(0.5))
    part = encoder.scores(QUERIES[:1], GALLERY, passing=np.array([1, 2])).block(0, 1)
    whole = encoder.scores(QUERIES[:1], GALLERY).block(0, 1)
    np.testing.assert_allclose(part, whole[:, 1:], atol=1e-6)  # the best by words is among them


def test_a_model_that_reads_text_alone_is_not_given_images(tmp_path):
    class TextModel:
        supports = staticmethod(lambda part: part == "text")

    encoder = OfferEncoder(Embedder(TextModel()))
    assert encoder.reads == ("text",)
    assert encoder.readable_part(Offer("1", "red", image="1.jpg")) == Offer("1", "red")
    assert not encoder.can_read(Offer("1", image="1.jpg"))
    assert encoder.can_read(Offer("1", attributes={"brand": "Lune"}))


def test_options_are_refused_before_a_model_is_loaded():
    for options, message in (
        ({"attributes_on": "left"}, "attributes_on 'left': one of query, gallery, both, none"),
        ({"batch_size": 0}, "at least one offer a batch"),
    ):
        with pytest.raises(InputError, match=message):
            OfferEncoder.load("no such model", **options)
        with pytest.raises(InputError, match=message):
            load_scorer("bm25", **options)
    with pytest.raises(InputError, match="is not fused"):
        load_scorer("bm25", fuse=True)


def test_a_floor_scores_without_a_model():
    scorer = load_scorer("bm25")
    assert isinstance(scorer, FloorScorer) and scorer.reads == ("text",)
    scores = scorer.scores(QUERIES, GALLERY).block(0, 2)
    assert (scores > 0).tolist() == [[True, False, True], [False, True, False]]
    assert not scorer.scores(QUERIES, GALLERY, gallery_modality="image").block(0, 2).any()
