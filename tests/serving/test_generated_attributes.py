"""With a generator: its attributes enrich what is searched for, are given on their own, and can be left out."""

from __future__ import annotations

import pytest

from afmrl.data.offer import Offer
from afmrl.generator.engines.base import Completion, Usage
from afmrl.generator.engines.recorded import RecordedEngine
from afmrl.generator.generator import AttributeGenerator
from afmrl.matching.search import search

pytest_plugins = ["serving_shop"]
TEXT = "a mug for tea"


class Engine:
    """Calls everything green."""

    def __init__(self):
        self.usage = Usage()

    def complete(self, requests, sampling, *, batch_size, progress):
        return [[Completion("color: green; brand: maison lune", 3, ended=True)] for _ in requests]


@pytest.fixture
def recorded(tmp_path):
    """The address of a recording that knows one text."""
    AttributeGenerator(RecordedEngine(tmp_path / "recording.jsonl", Engine())).attributes([Offer("1", TEXT)])
    return f"recorded:{tmp_path / 'recording.jsonl'}"


def test_a_search_with_and_without_the_generator_is_that_of_the_command(served, own_index, recorded):
    client = served(generator=recorded)

    def scores(**options):
        answer = client.post("/afmrl/v1/search", json={"text": TEXT, "rerank": False, "k": 60, **options}).json()
        return {hit["id"]: hit["score"] for hit in answer["hits"]}

    def expected(generator):
        return {
            hit.offer.id: hit.score for hit in search(own_index, text=TEXT, generator=generator, rerank=False, k=60)
        }

    assert scores() == scores(generator=True) == pytest.approx(expected(recorded), abs=1e-4)
    assert scores(generator=False) == pytest.approx(expected(None), abs=1e-4)
    assert max(abs(scores()[name] - score) for name, score in scores(generator=False).items()) > 1e-3


def test_attributes_and_embeddings_are_the_generators(served, recorded):
    client = served(generator=recorded)
    answer = client.post("/afmrl/v1/attributes", json={"offers": [{"title": TEXT}]}).json()
    assert (answer["from"], answer["attributes"]) == ("generator", [{"color": "green", "brand": "maison lune"}])
    assert client.get("/info").json()["generator"] is True

    def embedding(**options):
        return client.post("/v1/embeddings", json={"input": TEXT, **options}).json()["data"][0]["embedding"]

    assert embedding() == pytest.approx(embedding(generator=True), abs=1e-6)
    assert embedding() != pytest.approx(embedding(generator=False), abs=1e-3)
    # this model was trained with attributes of queries alone
    assert embedding(input_type="document") == pytest.approx(embedding(generator=False), abs=1e-6)
