"""Generators of bulk jobs: their addresses, their fingerprints, and offers that got no answer."""

from __future__ import annotations

import pytest

from afmrl.bulk.attribute_writing import AttributeWriter, bulk_generator, generator_fingerprint
from afmrl.bulk.pictures import PictureLoader
from afmrl.errors import InputError
from afmrl.generator import AttributeGenerator, Completion
from afmrl.offers import Offer
from afmrl.prompts import GeneratorPrompt


class Scripted:
    """An engine that answers by the offer's id."""

    def __init__(self, answers):
        self.answers = answers

    def complete(self, requests, sampling, *, batch_size, progress):
        return [[self.answers[request.offer_id]] for request in requests]


def test_an_offer_without_an_answer_is_bad_and_its_neighbours_are_not():
    answers = {
        "a": Completion("color: red", 3, True),
        "b": Completion("", 0, False, failure="the server answered 503 five times"),
        "c": Completion("color", 1, True),
        "d": Completion("color: blue", 3, False),
    }
    writer = AttributeWriter(
        AttributeGenerator(Scripted(answers)), pictures=PictureLoader(), batch_size=2, max_new_tokens=None
    )
    written = writer.write([Offer(id=name, title=name) for name in "abcd"])
    assert written.bad == {1: ("key_attributes", "the server answered 503 five times")}
    assert written.valid == {0: True, 2: False, 3: False}  # no list of key attributes; cut off
    assert {place: str(found) for place, found in written.key_attributes.items()} == {
        0: "color: red",
        2: "none",
        3: "none",
    }


def test_a_server_takes_no_device_and_its_model_and_prompt_are_its_fingerprint():
    with pytest.raises(InputError, match="takes no --device"):
        bulk_generator("openai:http://127.0.0.1:9/v1#m", "cpu")
    generator = AttributeGenerator(Scripted({}))
    ours = generator_fingerprint("openai:http://127.0.0.1:9/v1#m", generator)
    assert ours == generator_fingerprint("openai:http://127.0.0.1:9/v1#m", AttributeGenerator(Scripted({})))
    assert ours != generator_fingerprint("openai:http://127.0.0.1:9/v1#n", generator)
    other = AttributeGenerator(Scripted({}), GeneratorPrompt(category=True))
    assert ours != generator_fingerprint("openai:http://127.0.0.1:9/v1#m", other)
