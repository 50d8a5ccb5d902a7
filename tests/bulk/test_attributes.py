"""Generators of bulk jobs: their addresses, their fingerprints, and offers that got no answer."""

from __future__ import annotations

import json

import pytest

from afmrl.bulk.attributes import AttributeWriter, bulk_generator, generator_fingerprint
from afmrl.bulk.images.loader import ImageLoader
from afmrl.cli.bulk import attributes
from afmrl.data.catalog import read_catalog
from afmrl.data.offer import Offer
from afmrl.errors import InputError
from afmrl.generator.engines.base import Completion
from afmrl.generator.engines.recorded import RecordedEngine
from afmrl.generator.generator import AttributeGenerator
from afmrl.generator.prompt import GeneratorPrompt
from chat_server import said, serve


class Scripted:
    """An engine that answers by the offer's id."""

    def __init__(self, answers):
        self.answers = answers

    def complete(self, requests, sampling, *, batch_size, progress):
        return [[self.answers[request.offer_id]] for request in requests]


def test_an_offer_without_an_answer_is_bad_and_its_neighbors_are_not():
    answers = {
        "a": Completion("color: red", 3, True),
        "b": Completion("", 0, False, failure="the server answered 503 five times"),
        "c": Completion("color", 1, True),
        "d": Completion("color: blue", 3, False),
    }
    writer = AttributeWriter(
        AttributeGenerator(Scripted(answers)), images=ImageLoader(), batch_size=2, max_new_tokens=None
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


def job(catalog, url, out, **options):
    attributes(str(catalog), generator=f"openai:{url}", out=out, max_bad=0.1, **options)
    return json.loads((out / "manifest.json").read_text())


def test_a_job_with_an_offer_that_is_always_refused_goes_through_again_and_again(tmp_path):
    def answer(body, number):
        refused = "bad" in body["messages"][0]["content"][0]["text"]
        return (400, {}, {"error": "policy"}) if refused else (200, {}, said('{"color": "red"}'))

    catalog = tmp_path / "offers.jsonl"
    rows = [{"id": str(row), "title": "bad dress" if row == 3 else f"dress {row}"} for row in range(30)]
    catalog.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with serve(answer) as (url, seen):
        for run in range(3):
            manifest = job(catalog, f"{url}#teacher", tmp_path / "out")
            assert manifest["complete"] and sum(shard["rows"] for shard in manifest["shards"]) == 29
            assert "policy" in (tmp_path / "out" / "quarantine.jsonl").read_text()
            if run:
                assert all("bad" in str(one["body"]) for one in seen)
            seen.clear()


def test_another_model_behind_the_same_address_writes_anew(tmp_path):
    catalog = tmp_path / "offers.jsonl"
    catalog.write_text('{"id": "1", "title": "dress"}\n')
    names = ["small"]
    with serve(lambda body, number: (200, {}, said(f'{{"model": "{body["model"]}"}}')), models=names) as (url, seen):
        job(catalog, url, tmp_path / "out", concurrency=2)
        job(catalog, url, tmp_path / "out")
        assert [one["body"]["model"] for one in seen] == ["small"]
        names[0] = "large"
        job(catalog, url, tmp_path / "out")
        assert [one["body"]["model"] for one in seen] == ["small", "large"]


def test_only_a_server_takes_a_concurrency(tmp_path):
    with pytest.raises(InputError, match="takes no --concurrency"):
        bulk_generator(str(tmp_path), None, None, 4)


def test_a_general_model_may_be_shown_what_the_seller_says(tmp_path):
    catalog = tmp_path / "offers.jsonl"
    catalog.write_text('{"id": "1", "title": "dress", "attributes": {"Color": "wine"}}\n')
    with serve(lambda body, number: (200, {}, said('{"color": "red"}'))) as (url, seen):
        for options in ({}, {"show_sellers": True}):
            job(catalog, f"{url}#m", tmp_path / f"out{len(options)}", **options)
        texts = [one["body"]["messages"][0]["content"][0]["text"] for one in seen]
        assert ["The seller says: color: wine" in text for text in texts] == [False, True]
        # of a trained one the prompt is what it was trained with
        for address in (
            tmp_path / "g",
            f"trained:{tmp_path}@openai:{url}",
            f"recorded:r@trained:{tmp_path}@openai:{url}",
        ):
            (tmp_path / "g").mkdir(exist_ok=True)
            (tmp_path / "g" / "history.json").write_text("[]")
            with pytest.raises(InputError, match="a prompt of its own; leave out --show-sellers"):
                bulk_generator(str(address), None, show_sellers=True)


def test_at_the_end_a_job_says_what_it_cost_and_why_answers_are_not_valid(tmp_path, capsys):
    answers = ['{"color": "red"}', "I cannot say.", "no idea, sorry", '{"color": "blue"}', ""]
    catalog = tmp_path / "offers.jsonl"
    catalog.write_text("".join(json.dumps({"id": f"o{row}", "title": f"dress {row}"}) + "\n" for row in range(5)))

    def answer(body, number):
        text = body["messages"][0]["content"][0]["text"]
        return 200, {}, said(next(answers[row] for row in range(5) if f"dress {row}" in text), read=100, written=7)

    with serve(answer) as (url, _):
        job(catalog, f"{url}#m", tmp_path / "out")
    told = capsys.readouterr().out
    assert "generator: 5 requests (0 tried again), 500 tokens read, 35 written" in told
    assert "no valid list of key attributes: 3 rows (column `valid`)" in told
    assert "  2 like offer o1: neither JSON nor 'key: value' in 'I cannot say.'" in told
    assert "  1 like offer o4: empty answer" in told


def test_it_ends_with_the_share_of_values_that_offers_support_and_warns_of_inventions(tmp_path, call):
    catalog = tmp_path / "boots.jsonl"
    titles = ["Bergfex hiking boot, black, size 42", "Bergfex hiking boot, brown, size 43"]
    catalog.write_text("".join(json.dumps({"id": str(n), "title": title}) + "\n" for n, title in enumerate(titles)))

    class Inventor:
        usage = None

        def complete(self, requests, sampling, **_):
            return [[Completion("brand: bergfex; type: dress; pattern: floral", 9, True)] for _ in requests]

    prompt = GeneratorPrompt()
    writer = AttributeGenerator(RecordedEngine(tmp_path / "answers.jsonl", Inventor(), prompt), prompt)
    writer.attributes(read_catalog(catalog).offers)
    code, out, err = call(
        "attributes", catalog, "--generator", f"recorded:{tmp_path / 'answers.jsonl'}", "--out", tmp_path / "out"
    )
    assert code == 0, err
    assert "warning: this generator seems to invent: 33% of its values have evidence" in out
    assert "evidence: 2 of 6 written values (33%)" in out
    assert "by key: brand 100%, type 0%, pattern 0%" in out
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["evidence"] == {
        "share": 0.3333, "written": 6, "keys": {"brand": [2, 2], "type": [0, 2], "pattern": [0, 2]}
    }  # fmt: skip


def test_a_generator_that_writes_nothing_of_use_is_warned_of(tmp_path, call):
    catalog = tmp_path / "offers.jsonl"
    catalog.write_text("".join(json.dumps({"id": f"o{row}", "title": f"dress {row}"}) + "\n" for row in range(3)))
    with serve(lambda body, number: (200, {}, said("I cannot say."))) as (url, _):
        address = f"openai:{url}#m"
        code, out, _ = call("attributes", catalog, "--generator", address, "--out", tmp_path / "out")
        assert code == 0 and "warning: not one answer is a list of key attributes" in out
        code, out, _ = call("attributes", catalog, "--generator", address, "--out", tmp_path / "json", "--json")
    assert json.loads(out)["invalid"] == 3
