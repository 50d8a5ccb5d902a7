"""Reviewing a match: the queue, the log that only grows, labels for the next match, and the page in a browser."""

from __future__ import annotations

import errno
import json
import os
import shutil
from contextlib import closing

import pytest
from serving_shop import on_loopback

from afmrl.data.pairs import read_pair_rows
from afmrl.errors import InputError
from afmrl.matching.match import match
from afmrl.serving.refusal import Refusal
from afmrl.serving.review import ReviewQueue
from afmrl.serving.verdicts import VerdictLog

pytest_plugins = ["serving_shop"]


@pytest.fixture(scope="module")
def matched(shop_index, tmp_path_factory):
    """The folder of a match in which every pair is doubtful or the same."""
    folder = tmp_path_factory.mktemp("matched")
    match(str(shop_index), out=folder, threshold=0.2)
    pairs = [
        ("mug/24", "mug/28", 0.5, True), ("mug/24", "mug/32", 0.6, True), ("bag/48", "bag/52", 0.9, True),
        ("bag/48", "bag/56", 0.95, True), ("lamp/36", "lamp/40", 0.45, False), ("coat/12", "coat/16", 0.1, False),
        ("dress/00", "gone", 0.5, False),
    ]  # fmt: skip
    reasons = {"agree": {}, "differ": {}, "only_left": {}, "only_right": {}, "veto": [], "text": 1.0}
    lines = [
        {"left": left, "right": right, "left_group": left, "right_group": right, "probability": probability,
         "score": 0.0, "same": same, "reasons": reasons}
        for left, right, probability, same in pairs
    ]  # fmt: skip
    (folder / "pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture
def folder(matched, tmp_path):
    return shutil.copytree(matched, tmp_path / "matched")


@pytest.fixture
def reviewed(served, folder, service):
    queue = ReviewQueue(folder, service.there)
    yield served(review=queue)
    queue.log.close()


def next_pair(client, *skip):
    answer = client.get("/afmrl/v1/review", params={"skip": list(skip)} if skip else None)
    assert answer.status_code == 200, answer.text
    return answer.json()


def judge(client, pair, verdict, **fields):
    return client.post(
        "/afmrl/v1/verdicts",
        json={"left": pair["left"]["id"], "right": pair["right"]["id"], "verdict": verdict, **fields},
    )


def test_the_most_doubtful_pair_comes_first_and_each_once(reviewed):
    seen = []
    while (answer := next_pair(reviewed))["pair"]:
        pair = answer["pair"]
        seen.append(f"{pair['left']['id']} {pair['right']['id']}")
        assert judge(reviewed, pair, "same").status_code == 200
    assert seen[:3] == ["mug/24 mug/28", "lamp/36 lamp/40", "mug/24 mug/32"]
    assert len(set(seen)) == len(seen) == 6  # an offer that is gone cannot be judged
    assert (answer["progress"]["judged"], answer["progress"]["left"]) == (6, 0)


def test_a_pair_that_is_put_off_comes_later(reviewed):
    first = next_pair(reviewed)["pair"]
    second = next_pair(reviewed, first["left"]["id"], first["right"]["id"])["pair"]
    assert (first["right"]["id"], second["right"]["id"]) == ("mug/28", "lamp/40")


def test_two_reviewers_of_one_pair_do_not_overwrite_each_other(reviewed):
    pair = next_pair(reviewed)["pair"]
    assert judge(reviewed, pair, "same", who="ada", after=0).status_code == 200
    late = judge(reviewed, pair, "different", who="bob", after=0)
    assert late.status_code == 409 and "ada said 'same'" in late.json()["error"]["message"]
    assert judge(reviewed, pair, "different", who="bob", after=1).status_code == 200


def test_undo_takes_back_ones_own_last_verdict_and_is_an_entry(reviewed, folder):
    for who, verdict in (("ada", "same"), ("bob", "different")):
        assert judge(reviewed, next_pair(reviewed)["pair"], verdict, who=who).status_code == 200
    assert reviewed.post("/afmrl/v1/verdicts/undo", json={"who": "ada"}).json()["right"] == "mug/28"
    assert next_pair(reviewed)["pair"]["right"]["id"] == "mug/28"
    assert reviewed.post("/afmrl/v1/verdicts/undo", json={"who": "ada"}).status_code == 404
    log = reviewed.get("/afmrl/v1/verdicts").json()["verdicts"]
    assert [entry["verdict"] for entry in log] == ["same", "different", "undone"]
    assert len((folder / "verdicts.jsonl").read_text().splitlines()) == 3


def test_verdicts_are_labels_for_the_next_match(reviewed, folder):
    for verdict in ("same", "different", "unsure"):
        judge(reviewed, next_pair(reviewed)["pair"], verdict)
    rows = [(row.left, row.right, row.is_same) for row in read_pair_rows(folder / "labels.jsonl")]
    assert rows == [("mug/24", "mug/28", True), ("lamp/36", "lamp/40", False)]


def test_verdicts_survive_a_new_start_and_a_line_that_a_crash_cut_off(folder):
    with closing(VerdictLog(folder)) as log:
        log.add("ada", ("b", "a"), "same")
    with open(folder / "verdicts.jsonl", "ab") as file:
        file.write(b'{"number": 2, "when": "2')
    log = VerdictLog(folder)
    assert log.current()["a", "b"].who == "ada"
    with pytest.raises(Refusal, match="ada said 'same'"):
        log.add("bob", ("a", "b"), "different", after=0)
    assert log.add("bob", ("a", "b"), "different", after=1).number == 2
    log.close()
    assert written(folder) == ["same", "different"]
    (folder / "verdicts.jsonl").write_text("no verdict\n")
    with pytest.raises(InputError, match="verdicts.jsonl:1: is no verdict") as refused:
        VerdictLog(folder)
    (folder / "verdicts.jsonl").unlink()
    VerdictLog(folder).close()
    assert refused.value  # kept until here, with all that it holds: the log is free nevertheless


def test_undo_brings_back_what_another_reviewer_said_before(folder):
    with closing(VerdictLog(folder)) as log:
        log.add("ada", ("a", "b"), "same")
        log.add("bob", ("a", "b"), "different")
        log.undo("bob")
        assert (log.current()["a", "b"].who, log.current()["a", "b"].verdict) == ("ada", "same")


def test_a_pair_is_the_same_pair_from_either_side(folder):
    with closing(VerdictLog(folder)) as log:
        log.add("ada", ("a", "b"), "same")
        with pytest.raises(Refusal, match="ada said 'same'"):
            log.add("bob", ("b", "a"), "different", after=0)
        log.add("bob", ("b", "a"), "different")
        assert list(log.current()) == [("a", "b")]


def written(folder):
    return [json.loads(line)["verdict"] for line in (folder / "verdicts.jsonl").read_text().splitlines()]


def test_a_full_disk_takes_one_verdict_and_not_the_log(folder, monkeypatch):
    with closing(VerdictLog(folder)) as log:
        log.add("ada", ("a", "b"), "same")

        def full(file):
            os.truncate(file.name, os.path.getsize(file.name) + 20)
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("afmrl.serving.verdicts.sync_file", full)
        with pytest.raises(Refusal, match="No space left on device"):
            log.add("ada", ("a", "c"), "same")
        monkeypatch.undo()
        assert log.add("ada", ("a", "d"), "different").number == 2
    assert written(folder) == ["same", "different"]
    assert len((folder / "labels.jsonl").read_text().splitlines()) == 2


def test_a_second_server_does_not_write_the_same_verdicts(folder):
    with closing(VerdictLog(folder)), pytest.raises(InputError, match="another process .* is writing"):
        VerdictLog(folder)
    VerdictLog(folder).close()


def test_precision_is_told_by_the_beginning_of_a_random_order_alone(matched, tmp_path):
    """Verdicts on doubtful pairs must not lower it: they count only where the random order has come to them."""
    folder = shutil.copytree(matched, tmp_path / "many")
    line = json.loads((folder / "pairs.jsonl").read_text().splitlines()[0])
    lines = [{**line, "right": f"r{number}", "probability": 0.5 + number / 1000} for number in range(400)]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    queue = ReviewQueue(folder, set)
    for _ in range(200):
        found = queue.next()  # the match is wrong where it doubts, in 160 of 400 pairs
        queue.log.add("ada", (found.left, found.right), "same" if found.probability > 0.66 else "different")
    judged, share = queue.precision()
    assert judged >= 50 and share.low < 0.6 < share.high
    assert sum(one.verdict == "same" for one in queue.log.current().values()) / 200 < 0.35


def test_verdicts_older_than_the_match_say_nothing_of_its_precision(matched, tmp_path):
    folder = shutil.copytree(matched, tmp_path / "again")
    queue = ReviewQueue(folder, set)
    for _ in range(4):
        found = queue.next()
        queue.log.add("ada", found.pair, "same")
    assert queue.precision()[0] > 0
    queue.log.close()
    later = (folder / "pairs.jsonl").stat().st_mtime + 3600  # the match is written again, with the verdicts as labels
    os.utime(folder / "pairs.jsonl", (later, later))
    queue = ReviewQueue(folder, set)
    assert queue.precision()[0] == 0 and len(queue.log.current()) == 4


def test_what_cannot_be_judged_is_refused(reviewed):
    def refused(**body):
        return reviewed.post("/afmrl/v1/verdicts", json=body).status_code

    assert refused(left="mug/24", right="mug/24", verdict="same") == 400
    assert refused(left="mug/24", right="gone", verdict="same") == 404
    assert refused(left="mug/24", right="mug/28", verdict="perhaps") == 422


def test_half_a_pair_cannot_be_put_off(reviewed):
    answer = reviewed.get("/afmrl/v1/review", params={"skip": ["mug/24"]})
    assert answer.status_code == 400 and "give left and right of each pair" in answer.json()["error"]["message"]


def test_reviewing_by_keyboard_with_undo_and_reload(reviewed, folder):
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no chromium is installed")
    with on_loopback(reviewed.app) as address, playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 390, "height": 844})
        page.set_default_timeout(60_000)
        faults = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
        page.goto(f"{address}/review")
        page.wait_for_selector("#right .title")
        for key, progress in (("s", "1 judged"), ("d", "2 judged"), ("z", "1 judged"), ("u", "2 judged")):
            page.keyboard.press(key)
            page.wait_for_function(
                "text => document.getElementById('progress').textContent.includes(text)", arg=progress
            )
        page.reload()
        page.wait_for_function("() => document.getElementById('progress').textContent.includes('2 judged')")
        assert page.locator("#model").is_visible()
        page.keyboard.press("b")
        assert page.locator("#model").is_hidden()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        browser.close()
    assert faults == []
    assert written(folder) == ["same", "different", "undone", "unsure"]
