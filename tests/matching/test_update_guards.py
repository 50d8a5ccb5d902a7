"""What `match --update` follows and what it refuses: verdicts, half files, changed files, feeds of every night."""

from __future__ import annotations

import dataclasses
import json

import pytest
from match_catalogs import catalog

from afmrl.data.bad_rows import check_deleted
from afmrl.data.catalog import write_catalog
from afmrl.data.offer import Offer
from afmrl.errors import InputError
from afmrl.files import one_writer
from afmrl.matching.group_ids import read_group_ids
from afmrl.matching.match import match
from afmrl.matching.update import update_match
from afmrl.matching.verdicts import read_verdicts

UNLIKE = [Offer("a", "bosta drill zx400"), Offer("b", "silk evening dress"), Offer("c", "cordless kettle")]


def log(path, *verdicts):
    lines = [
        {"number": number, "when": "2030-01-01T00:00:00+00:00", "who": "ada", "left": left, "right": right,
         "verdict": verdict, "note": ""}
        for number, (left, right, verdict) in enumerate(verdicts, 1)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def joined(out):
    groups = read_group_ids(out)
    return groups["a"] == groups["b"]


def state(out):
    return {path.name: path.read_bytes() for path in out.iterdir()}


@pytest.mark.parametrize("undo", ["undone", "no verdicts"])
def test_verdicts_of_the_first_run_that_no_longer_hold_let_go(undo, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    log(out / "verdicts.jsonl", ("a", "b", "same"))
    match(UNLIKE, out=out, labels=False)
    assert joined(out)
    before = state(out)
    assert not update_match(out, UNLIKE).changed
    assert state(out) == before
    if undo == "undone":
        log(out / "verdicts.jsonl", ("a", "b", "same"), ("a", "b", "undone"))
    done = update_match(out, verdicts=False if undo == "no verdicts" else None)
    assert done.changed
    assert not joined(out)
    events = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    assert {event["why"] for event in events} == {"verdicts"}


def test_a_log_that_was_given_to_the_first_run_binds_on(tmp_path):
    out, given = tmp_path / "out", log(tmp_path / "log.jsonl", ("a", "b", "same"))
    match(UNLIKE, out=out, labels=False, verdicts=given)
    update_match(out, [Offer("d", "garden hose")])
    assert joined(out)
    given.unlink()
    with pytest.raises(InputError, match=r"they bound the match before and are gone; give them with --verdicts, or"):
        update_match(out, [Offer("e", "wall clock")])
    update_match(out, [Offer("e", "wall clock")], verdicts=False)
    assert not joined(out)


@pytest.fixture
def shop(tmp_path):
    """Forty offers and their match."""
    offers = catalog(families=8)[0][:40]
    match(offers, out=tmp_path / "out", labels=False)
    return offers, tmp_path / "out"


def test_half_a_file_deletes_nothing(shop):
    offers, out = shop
    before = state(out)
    with pytest.raises(InputError, match=r"--mirror would delete 30 of 40 offers of the match .*--max-deleted 1"):
        update_match(out, offers[:10], mirror=True)
    assert state(out) == before
    assert update_match(out, offers[:10], mirror=True, max_deleted=1.0).summary["offers"] == 10
    check_deleted([str(n) for n in range(20)], 25, 0.2, "x")  # few may always go
    check_deleted([str(n) for n in range(200)], 1000, 0.2, "x")
    for share in (float("nan"), 1.5, True):
        with pytest.raises(InputError, match="a share between 0 and 1"):
            check_deleted([], 1, share, "x")


def test_rows_without_an_id_stop_a_mirror_and_are_told_otherwise(shop, tmp_path, call):
    offers, out = shop
    path = tmp_path / "catalog.jsonl"
    write_catalog(path, offers)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:-1], lines[-1][:20]]) + "\n")
    code, _, err = call("match", path, "--update", out, "--mirror")
    assert code == 2
    assert "1 row of" in err and "whose ids could not be read" in err
    code, said, err = call("match", path, "--update", out)
    assert code == 0, err
    assert "Note: 1 row" in said
    assert f"Nothing to do: {out} stays as it is." in said


@pytest.mark.parametrize("name", ["offers.csv", "groups.csv", "pairs.csv", "kept.bin"])
def test_files_that_were_changed_are_not_copied(name, shop):
    offers, out = shop
    content = (out / name).read_bytes()
    (out / name).write_bytes(content.replace(b'"', b"") if name != "kept.bin" else content[:-9] + b"x" + content[-8:])
    with pytest.raises(InputError, match=rf"{name} .*put them back, or make the match again"):
        update_match(out, [Offer("new", "garden hose")])


def test_a_match_that_reads_an_earlier_one_waits_for_its_update(shop, tmp_path):
    offers, out = shop
    with one_writer(out):
        with pytest.raises(InputError, match="another process is writing"):
            match(offers, out=tmp_path / "next", previous=out, labels=False)
        with pytest.raises(InputError, match="another process is writing"):
            update_match(out, offers[:1])
    match(offers, out=tmp_path / "next", previous=out, labels=False)


def test_what_a_nightly_feed_changes_besides_the_offers_changes_nothing(tmp_path):
    def night(number):
        folder = tmp_path / f"night{number}"
        folder.mkdir()
        rows = [{"id": of.id, "title": of.title, "stock": number, "updated_at": f"2030-01-0{number}",
                 "image": str(folder / f"{of.id}.png")} for of in UNLIKE]  # fmt: skip
        for row in rows:
            (folder / f"{row['id']}.png").write_bytes(b"no image")
        path = folder / "feed.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    match(night(1), out=tmp_path / "out", labels=False, max_bad=1.0)
    done = update_match(tmp_path / "out", night(2), max_bad=1.0)
    assert not done.changed
    assert done.summary["update"]["unchanged"] == 3
    changed = [dataclasses.replace(UNLIKE[0], attributes={"color": "red"}), *UNLIKE[1:]]
    assert update_match(tmp_path / "out", changed).summary["update"]["changed"] >= 1


def test_offers_of_a_kind_that_the_first_run_did_not_know_are_refused(shop, monkeypatch):
    _, out = shop
    monkeypatch.setattr("afmrl.matching.new_candidates.LEAST", 10)
    monkeypatch.setattr("afmrl.matching.new_candidates.MAX_EACH", 2)
    new = [Offer(f"new{number:02}", "quantum flux capacitor mk2") for number in range(12)]
    with pytest.raises(InputError, match=r"more than 24 pairs by what the first run learned.*--previous"):
        update_match(out, new)


def test_a_match_with_a_model_or_of_another_release_says_so(shop):
    offers, out = shop
    path = out / "summary.json"
    stored = json.loads(path.read_text())
    stored.pop("checksum")
    path.write_text(json.dumps({**stored, "model": "small"}))
    with pytest.raises(InputError, match=r"^--update .*only a match of one catalog's file without a model can be"):
        update_match(out, offers)
    path.write_text(json.dumps({**stored, "version": 99}))
    with pytest.raises(InputError, match=r"is of format 99.*keeps the ids"):
        update_match(out, offers)


@pytest.mark.parametrize(
    ("options", "text"),
    [(["--confidence", "0.95"], "--confidence is of a whole match"),
     (["--verdicts", "x.jsonl", "--no-verdicts"], "exclude each other")],
)  # fmt: skip
def test_options_that_an_update_cannot_follow_are_refused(options, text, shop, call):
    code, _, err = call("match", "--update", shop[1], *options)
    assert code == 2
    assert text in err


def test_an_id_that_is_a_number_is_no_verdict(tmp_path):
    path = log(tmp_path / "verdicts.jsonl", (5, "a", "same"))
    with pytest.raises(InputError, match="1: is no verdict"):
        read_verdicts(path)
