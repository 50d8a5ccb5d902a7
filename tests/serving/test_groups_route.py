"""A group of a match over HTTP: its offers, and what became of it."""

from __future__ import annotations

import json

import pytest

from afmrl.data.catalog import write_catalog
from afmrl.data.offer import Offer
from afmrl.matching.match import match
from afmrl.matching.update import update_match
from afmrl.serving.overview import MatchFolder
from afmrl.serving.server import read_groups

pytest_plugins = ["serving_shop"]


@pytest.fixture
def updated(tmp_path):
    """A match of four offers, two of one group, that was updated."""
    out = tmp_path / "matches"
    offers = [Offer("mug/24", "bosta drill zx400"), Offer("mug/28", "bosta drill zx400 new"),
              Offer("a", "silk dress"), Offer("b", "wool coat")]  # fmt: skip
    write_catalog(tmp_path / "catalog.jsonl", offers)
    match(tmp_path / "catalog.jsonl", out=out)
    update_match(out, [Offer("mug/32", "bosta drill zx400 blue")])
    return out


def test_a_group_tells_its_offers_and_its_events(served, updated):
    groups = read_groups(updated)
    client = served(groups=groups, match=MatchFolder(updated))
    group = groups["mug/24"]
    answer = client.get(f"/afmrl/v1/groups/{group}")
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found["ids"] == ["mug/24", "mug/28", "mug/32"]
    assert sorted(offer["id"] for offer in found["offers"]) == found["ids"]  # as the index has them
    assert [(event["change"], event["offer"]) for event in found["events"]] == [("added", "mug/32")]
    update_match(updated, delete=["mug/24", "mug/28", "mug/32"])
    gone = served(groups=read_groups(updated), match=MatchFolder(updated)).get(f"/afmrl/v1/groups/{group}").json()
    assert gone["ids"] == gone["offers"] == []
    assert [event["change"] for event in gone["events"]] == ["added", "deleted", "deleted", "deleted", "vanished"]
    last = json.loads((updated / "events.jsonl").read_text().splitlines()[-1])
    assert gone["events"][-1]["why"] == last["why"] == "mug/24 deleted, mug/28 deleted, mug/32 deleted"


def test_a_group_that_is_none_is_not_found(served, updated):
    client = served(groups=read_groups(updated), match=MatchFolder(updated))
    answer = client.get("/afmrl/v1/groups/mug%2F24")
    assert answer.status_code == 404
    assert "no group 'g0'" in client.get("/afmrl/v1/groups/g0").json()["error"]["message"]
    paths = client.get("/openapi.json").json()["paths"]
    assert "/afmrl/v1/groups/{group}" in paths
    assert served().get("/afmrl/v1/groups/g0").status_code == 404


def test_lines_that_are_no_events_are_passed_over(served, updated):
    groups = read_groups(updated)
    group = groups["mug/24"]
    with open(updated / "events.jsonl", "a", encoding="utf-8") as events:
        events.write(f'{{"group": "{group}"\n["{group}"]\n{{"group": "{group}", "change": "changed"}}\n')
    answer = served(groups=groups, match=MatchFolder(updated)).get(f"/afmrl/v1/groups/{group}")
    assert answer.status_code == 200
    assert answer.json()["events"][-1]["change"] == "changed"
