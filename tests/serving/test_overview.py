"""The overview: what the server says of itself and of its match; all pages in a browser, and what axe says of them."""

from __future__ import annotations

import json
import shutil

import pytest
from serving_shop import on_loopback

from afmrl.errors import InputError
from afmrl.matching.match import match
from afmrl.serving.overview import MatchFolder
from afmrl.serving.review import ReviewQueue

pytest_plugins = ["serving_shop"]
EVENTS = [
    {"when": "2026-01-02T03:04:05+00:00", "change": "added", "offer": "mug/99", "group": "g1", "why": "it is new"},
    {"when": "2026-01-02T03:04:05+00:00", "change": "moved", "offer": "mug/24", "from": "g1", "to": "g2", "why": "<b>"},
    {"when": "2026-01-03T03:04:05+00:00", "change": "merge", "groups": ["g1", "g2"], "into": "g1", "why": "verdicts"},
]


def write_summary(folder, **changed):
    """Write the match's summary again, as the next match does."""
    path = folder / "summary.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))


def write_events(folder):
    """What `afmrl match --update` leaves."""
    (folder / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in EVENTS))
    write_summary(folder, notes=[])


@pytest.fixture(scope="module")
def matched(shop_index, tmp_path_factory):
    """The folder of a match of the shop, made twice, with rows that were left out."""
    folder = tmp_path_factory.mktemp("matched")
    match(str(shop_index), out=folder)
    write_summary(folder, changes={"unchanged": 2, "split": 1, "merge": 0, "new": 0, "vanished": 0})
    (folder / "changes.jsonl").write_text('{"change": "split", "group": "g1", "into": ["g1", "g2"]}\n')
    rows = [{"file": "offers.jsonl", "row": row, "field": "id", "reason": "is missing"} for row in (3, 9)]
    rows.append({"file": "offers.jsonl", "row": 4, "field": "image", "reason": "no such file", "lost": "image"})
    (folder / "skipped.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def folder(matched, tmp_path):
    return shutil.copytree(matched, tmp_path / "matched")


@pytest.fixture
def overviewed(served, folder, service):
    queue = ReviewQueue(folder, service.there)
    yield served(review=queue, match=MatchFolder(folder))
    queue.log.close()


def overview(client):
    answer = client.get("/afmrl/v1/overview")
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_it_says_what_is_served_how_it_does_and_what_the_match_says(overviewed, folder):
    for body in ({"inputs": ["red dress", "mug"]}, {"inputs": ""}):
        overviewed.post("/embed", json=body)
    found = overview(overviewed)
    served, load, of_match = found["served"], found["load"], found["match"]
    assert (served["index"], served["rows"], served["dimension"], served["generator"]) == ("local", 60, 64, False)
    assert (load["requests"], load["refused"], load["failed"], load["inputs"], load["passes"]) == (2, 0, 0, 2, 1)
    assert 0 < load["model_seconds"] < load["seconds"] + 1
    summary = json.loads((folder / "summary.json").read_text())
    assert {name: of_match[name] for name in ("offers", "groups", "pairs_vetoed", "changes")} == {
        name: summary[name] for name in ("offers", "groups", "pairs_vetoed", "changes")
    }
    assert of_match["events"] == [{"when": "", "change": "split", "about": ["g1"], "into": ["g1", "g2"], "why": ""}]
    assert of_match["left_out"][0] == {"reason": "id: is missing", "lost": "row", "number": 2}
    assert of_match["num_left_out"] == 3


def test_events_of_updates_are_told_newest_first_and_a_match_that_is_written_again_is_read_again(overviewed, folder):
    write_events(folder)
    write_summary(folder, groups=7)
    found = overview(overviewed)["match"]
    assert found["groups"] == 7
    told = [(event["change"], event["about"], event["into"]) for event in found["events"]]
    assert told == [("merge", ["g1", "g2"], ["g1"]), ("moved", ["mug/24"], ["g2"]), ("added", ["mug/99"], ["g1"])]
    (folder / "summary.json").unlink()  # a match that is being written
    assert overview(overviewed)["match"]["groups"] == 7


def test_a_server_without_a_match_says_so_and_a_folder_that_is_none_is_refused(client, tmp_path):
    assert overview(client)["match"] is None
    with pytest.raises(InputError, match="give a folder that `afmrl match` wrote"):
        MatchFolder(tmp_path)


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no chromium is installed")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield opened
        opened.close()


READY = {
    "/?text=Maison+Lune+mug,+red": "() => document.querySelector('.found-hit .reasons li')",
    "/review": "() => document.querySelector('#right .title')",
    "/overview": "() => !document.getElementById('overview').hidden",
}
"""Address of each page -> what it shows once it is done."""


@pytest.mark.parametrize("path", READY)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_and_nothing_foreign_is_asked(overviewed, folder, browser, path, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    write_events(folder)
    with on_loopback(overviewed.app) as address:
        for width in (390, 1280):
            page = browser.new_page(viewport={"width": width, "height": 844}, color_scheme=scheme)
            page.set_default_timeout(60_000)
            faults, asked = [], []
            page.on("pageerror", lambda error, faults=faults: faults.append(str(error)))
            page.on("console", lambda said, faults=faults: faults.append(said.text) if said.type == "error" else None)
            page.on("request", lambda one, asked=asked: asked.append(one.url))
            page.goto(address + path)
            page.wait_for_function(READY[path])
            found = axe.Axe().run(page).response["violations"]
            grave = [
                (one["id"], [node["target"] for node in one["nodes"]])
                for one in found
                if one["impact"] in ("serious", "critical")
            ]
            assert grave == [] and faults == []
            assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            page.close()


def test_the_overview_shows_events_as_text_and_numbers(overviewed, folder, browser):
    write_events(folder)
    with on_loopback(overviewed.app) as address:
        page = browser.new_page()
        page.set_default_timeout(60_000)
        page.goto(f"{address}/overview")
        page.wait_for_function(READY["/overview"])
        events = page.locator("#events li").all_text_contents()
        assert events[0].startswith("merge g1, g2 → g1 verdicts") and "<b>" in events[1]
        assert page.locator("#left-out li").first.text_content() == "2 id: is missing the row"
        assert "60 offers" in page.locator("#versions").text_content()
        page.close()
