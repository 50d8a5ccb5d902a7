"""A password or key in an address is written nowhere: not to the terminal, not to a file."""

import json
import logging

import pytest

from afmrl.errors import shown_address
from chat_server import said, serve

CANARY = "c4n4ry"
DATABASE = f"postgresql://shop:{CANARY}@127.0.0.1:1/offers?connect_timeout=1&password={CANARY}"
QDRANT = f"qdrant:http://shop:{CANARY}@127.0.0.1:1/offers"


@pytest.fixture
def offers(tmp_path):
    rows = [{"id": str(n), "title": f"{color} silk dress {n}"} for n, color in enumerate(("red", "blue", "red"))]
    path = tmp_path / "offers.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def seen_nowhere(call, tmp_path, caplog, monkeypatch):
    """`afmrl …` after which the canary is in no output, log or file; its exit code."""
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.INFO, "afmrl")

    def run(*arguments):
        code, out, err = call(*arguments)
        written = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "offers.jsonl"]
        assert CANARY not in out + err + caplog.text, out + err
        assert [path for path in written if CANARY.encode() in path.read_bytes()] == []
        assert code == 0 or "afmrl: " in err
        return code

    return run


@pytest.mark.parametrize("address", [DATABASE, QDRANT])
def test_a_database_that_does_not_answer(seen_nowhere, offers, tmp_path, address):
    assert seen_nowhere("index", address, "--info") == 2
    assert seen_nowhere("search", address, "--text", "dress") == 2
    assert seen_nowhere("match", address, "--out", tmp_path / "out") == 2
    assert seen_nowhere("match", offers, "--against", address, "--out", tmp_path / "out2") == 2


@pytest.mark.parametrize("odd", ["", "?", " ", "[", "]:x", "#"])
def test_addresses_that_are_none(seen_nowhere, offers, tmp_path, odd):
    for kind in ("postgresql:", "postgres:", "qdrant:http:", "lancedb:s3:", "mysql:", "redis:"):
        assert seen_nowhere("index", f"{kind}//shop:{CANARY}@{odd}", "--info") == 2
    for generator in (f"openai:http://u:{CANARY}@{odd}#m", f"openai:https://{CANARY}@{odd}", f"trained:{CANARY}@x"):
        if not generator.startswith("trained"):
            assert seen_nowhere("attributes", offers, "--generator", generator, "--out", tmp_path / "out") != 0


def test_a_server_with_a_password_in_its_address(seen_nowhere, offers, tmp_path):
    with serve(lambda body, number: (200, {}, said('{"color": "red"}'))) as (url, _):
        secret = url.replace("http://", f"http://user:{CANARY}@")
        generator = f"openai:{secret}#teacher"
        assert seen_nowhere("attributes", offers, "--generator", generator, "--out", tmp_path / "attributes") == 0
        assert seen_nowhere("attributes", offers, "--generator", generator, "--out", tmp_path / "attributes") == 0
        recorded = f"recorded:{tmp_path / 'r.jsonl'}@{generator}"
        assert seen_nowhere("attributes", offers, "--generator", recorded, "--out", tmp_path / "recorded") == 0


def test_a_server_that_refuses(seen_nowhere, offers, tmp_path):
    with serve(lambda body, number: (401, {}, {"error": "no"})) as (url, _):
        secret = url.replace("http://", f"http://user:{CANARY}@")
        code = seen_nowhere("attributes", offers, "--generator", f"openai:{secret}#m", "--out", tmp_path / "out")
        assert code == 2


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://u:p@ss/w@db/x", "postgresql://…@db/x"), ("postgres://u:p@db", "postgres://…@db"),
        ("http://token@host/v1", "http://…@host/v1"), ("https://cdn/@me/a.jpg?x=1", "https://cdn/@me/a.jpg?x=1"),
        ("qdrant:http://h:6333/c?api_key=k&x=1", "qdrant:http://h:6333/c?api_key=…&x=1"),
        ("host=db password=p port=1", "host=db password=… port=1"), ("a@b.de", "a@b.de"), ("", ""),
        ("openai:http://u:p@h/v1#m is down", "openai:http://…@h/v1#m is down"),
    ],
)  # fmt: skip
def test_what_an_address_is_shown_as(address, shown):
    assert shown_address(address) == shown
