"""`match --update`: any order and any batches end in the groups of one run, and groups that stay keep their ids."""

from __future__ import annotations

import csv
import json
import shutil
from collections import defaultdict

import numpy as np
import pytest
from match_catalogs import catalog

from afmrl.data.catalog import read_catalog, write_catalog
from afmrl.data.offer import Offer
from afmrl.errors import InputError
from afmrl.matching.columns import read_columns
from afmrl.matching.group_ids import read_group_ids
from afmrl.matching.match import match
from afmrl.matching.new_candidates import new_candidates
from afmrl.matching.table import offer_table
from afmrl.matching.update import update_match
from afmrl.report.match_page import write_match_page
from afmrl.sample.catalog import write_sample_catalog

SEEDS = range(12)


def shop(seed, families=14):
    """Offers with codes, GTINs that several share, brands and a few equal titles."""
    draw = np.random.default_rng(seed)
    offers, _ = catalog(seed, families)
    found = []
    for number, offer in enumerate(offers):
        attributes = {"gtin": f"{4006381333931 if draw.random() < 0.5 else 5901234123457}"} if number % 9 == 0 else {}
        title = offers[number - 1].title if number % 11 == 10 else offer.title
        found.append(Offer(offer.id, title, attributes=attributes))
    return [found[place] for place in draw.permutation(len(found))]


def partition(out):
    """Groups as offers.csv says them, which the other files must agree with."""
    groups, ids = defaultdict(set), {}
    with open(out / "offers.csv", encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == sorted(row["id"] for row in rows)
    for row in rows:
        groups[row["group_id"]].add(row["id"])
        ids[row["id"]] = row["group_id"]
    assert len(ids) == len(rows)
    lines = [json.loads(line) for line in (out / "groups.jsonl").read_text().splitlines()]
    assert {line["group"]: set(line["offers"]) for line in lines} == {g: of for g, of in groups.items() if len(of) > 1}
    assert [line["offers"][0] for line in lines] == sorted(line["offers"][0] for line in lines)
    pairs = [json.loads(line) for line in (out / "pairs.jsonl").read_text().splitlines()]
    assert [(p["left"], p["right"]) for p in pairs] == sorted({(p["left"], p["right"]) for p in pairs})
    for pair in pairs:
        assert (pair["left_group"], pair["right_group"]) == (ids[pair["left"]], ids[pair["right"]])
        assert pair["same"] == (pair["left_group"] == pair["right_group"])
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["offers"], summary["groups"]) == (len(rows), len(lines))
    assert summary["pairs_listed"] == len(pairs) and summary["pairs_same"] == sum(pair["same"] for pair in pairs)
    assert summary["offers_to_review"] == sum(row["needs_review"] == "yes" for row in rows)
    assert summary["pairs_vetoed"] == sum(bool(pair["reasons"]["veto"]) for pair in pairs)
    return {frozenset(of) for of in groups.values()}, ids


def content(out):
    """All that a reader sees but the ids of groups, which are the history's."""
    lines = map(json.loads, (out / "pairs.jsonl").read_text().splitlines())
    rows = [{name: of for name, of in line.items() if not name.endswith("_group")} for line in lines]
    with open(out / "offers.csv", encoding="utf-8-sig", newline="") as file:
        offers = [{name: of for name, of in row.items() if name != "group_id"} for row in csv.DictReader(file)]
    return rows, offers


def check_ids_stay(before, after):
    """A group with the members of before has the id of before."""
    of_before, of_after = (defaultdict(set) for _ in range(2))
    for ids, groups in ((before, of_before), (after, of_after)):
        for name, group in ids.items():
            groups[group].add(name)
    named = {frozenset(of): group for group, of in of_before.items()}
    for group, of in of_after.items():
        assert named.get(frozenset(of), group) == group


@pytest.mark.parametrize("seed", SEEDS)
def test_any_order_and_any_batches_end_in_the_groups_of_one_run(seed, tmp_path):
    draw = np.random.default_rng(seed)
    offers = shop(seed)
    half = len(offers) * 6 // 10
    first, rest = offers[:half], offers[half:]
    match(first, out=tmp_path / "start", labels=False)
    shutil.copytree(tmp_path / "start", tmp_path / "once")
    gone = [offer.id for offer in first[:4]] + [rest[0].id]
    changed = {offer.id: Offer(offer.id, f"{offer.title} 2nd hand") for offer in first[5:8] + rest[1:3]}
    last = [changed.get(offer.id, offer) for offer in offers if offer.id not in gone]
    # one run: all that is to be in the end, at once
    update_match(tmp_path / "once", last, mirror=True)
    groups, _ = partition(tmp_path / "once")
    # another order, in batches, with detours: changes taken back, offers deleted that come again
    out = tmp_path / "batches"
    shutil.copytree(tmp_path / "start", out)
    _, ids = partition(out)
    detour = [Offer(offer.id, "silk dress red m") for offer in first[10:13]]
    update_match(out, detour)
    steps = [rest[place] for place in draw.permutation(len(rest))]
    while steps:
        count = int(draw.integers(1, len(steps) + 1))
        batch, steps = steps[:count], steps[count:]
        update_match(out, batch)
        _, now = partition(out)
        check_ids_stay(ids, now)
        ids = now
    update_match(out, delete=[*gone, *(offer.id for offer in first[20:22])])
    update_match(out, [*changed.values(), *first[10:13], *first[20:22]])
    found, now = partition(out)
    check_ids_stay(ids, now)
    assert found == groups
    assert content(out) == content(tmp_path / "once")
    # and the whole catalog given again changes nothing
    again = update_match(out, last, mirror=True)
    assert not again.changed and again.summary["update"]["unchanged"] == len(last)


def test_the_first_run_and_an_update_from_nearly_nothing_agree_on_the_first_offers(tmp_path):
    offers = shop(3)
    match(offers, out=tmp_path / "out", labels=False)
    groups, ids = partition(tmp_path / "out")
    before = content(tmp_path / "out")
    update_match(tmp_path / "out", delete=[offer.id for offer in offers[:5]])
    assert partition(tmp_path / "out")[0] != groups
    update_match(tmp_path / "out", offers[:5], write_page=write_match_page)
    assert partition(tmp_path / "out")[0] == groups
    assert content(tmp_path / "out") == before


def test_events_say_what_became_of_offers_and_groups(tmp_path):
    offers = [Offer("a", "bosta drill zx400"), Offer("b", "bosta drill zx400 new"), Offer("c", "silk dress red"),
              Offer("d", "wool coat"), Offer("e", "brass lamp")]  # fmt: skip
    out = tmp_path / "out"
    match(offers, out=out, labels=False)
    _, ids = partition(out)
    assert ids["a"] == ids["b"]
    update_match(out, [Offer("f", "bosta drill zx400 blue")], delete=["b", "nobody"])
    events = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    assert [(event["change"], event["offer"], event["group"]) for event in events[:2]] == [
        ("deleted", "b", ids["a"]), ("added", "f", ids["a"]),
    ]  # fmt: skip
    assert all(event["when"] and event["why"] for event in events)
    update_match(out, delete=["a", "f"])
    more = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    assert more[: len(events)] == events
    assert {"change": "vanished", "group": ids["a"], "why": "a deleted, f deleted"}.items() <= more[-1].items()


def test_verdicts_bind_in_an_update_without_new_offers(tmp_path):
    offers, _ = catalog(families=4)
    out = tmp_path / "out"
    result = match(offers, out=out, labels=False)
    one, other = result.groups[0].ids[0], result.groups[1].ids[0]
    before = partition(out)
    line = {"number": 1, "when": "", "who": "", "left": one, "right": other, "verdict": "same", "note": ""}
    (out / "verdicts.jsonl").write_text(json.dumps(line) + "\n")
    done = update_match(out)
    _, ids = partition(out)
    assert ids[one] == ids[other] and done.summary["verdicts"]["same"] == 1
    assert not update_match(out).changed
    undone = {**line, "number": 2, "verdict": "undone"}
    (out / "verdicts.jsonl").write_text(json.dumps(line) + "\n" + json.dumps(undone) + "\n")
    update_match(out)
    assert partition(out)[0] == before[0]


def test_what_cannot_be_updated_is_refused_in_one_line(tmp_path):
    offers, _ = catalog(families=3)
    with pytest.raises(InputError, match="holds no complete match"):
        update_match(tmp_path, offers)
    match(offers[:5], out=tmp_path / "out", labels=False)
    with pytest.raises(InputError, match="came or changed since the first run of 5"):
        update_match(tmp_path / "out", offers)
    with pytest.raises(InputError, match="also to be deleted"):
        update_match(tmp_path / "out", offers[:2], delete=[offers[0].id])
    with pytest.raises(InputError, match="--mirror needs the catalog"):
        update_match(tmp_path / "out", mirror=True)
    (tmp_path / "out" / "kept.bin").unlink()
    with pytest.raises(InputError, match="has no kept.bin, which an update needs; make it again"):
        update_match(tmp_path / "out", offers[:2])


def test_the_command_says_what_it_did(tmp_path, call):
    offers, _ = catalog(families=4)
    write_catalog(tmp_path / "first.jsonl", offers[:-3])
    write_catalog(tmp_path / "new.jsonl", offers[-3:])
    out = tmp_path / "out"
    assert call("match", tmp_path / "first.jsonl", "--out", out, "--no-labels")[0] == 0
    code, said, _ = call("match", tmp_path / "new.jsonl", "--update", out, "--delete", offers[0].id, "--delete", "x")
    assert code == 0 and said.startswith("3 offers added, 0 changed, 1 deleted, 0 given as before.\n"), said
    assert "1 id to delete not found, first: 'x'" in said and "Events: " in said
    assert (out / "report.html").is_file()
    (tmp_path / "gone.txt").write_text(f"{offers[1].id}\n")
    code, said, _ = call("match", "--update", out, "--remove", tmp_path / "gone.txt")
    assert code == 0 and "1 deleted" in said
    code, said, _ = call("match", tmp_path / "new.jsonl", "--update", out)
    assert code == 0 and "Nothing to do" in said
    write_catalog(tmp_path / "all.jsonl", offers[2:])
    code, said, _ = call("match", tmp_path / "all.jsonl", "--update", out, "--mirror")
    assert code == 0 and f"{len(offers) - 2:,} given as before" in said and "Nothing to do" in said
    assert call("check", out)[0] == 0
    for arguments, error in (
        (["--update", out, "--threshold", "0.5"], "match: --threshold is of a whole match; --update keeps"),
        ([tmp_path / "all.jsonl", "--out", out, "--mirror"], "match: --mirror needs --update MATCHES"),
        ([tmp_path / "all.jsonl"], "match: give CATALOG --out DIR, or --update MATCHES"),
        (["--update", tmp_path / "nowhere"], "no such folder; make a match first"),
    ):
        code, _, said = call("match", *arguments)
        assert code == 2 and error in said and len(said.strip().splitlines()) == 1, said


def test_images_are_compared_by_their_colors_in_updates_too(tmp_path):
    write_sample_catalog(tmp_path / "catalog", families={"train": 5})
    offers = list(read_catalog(tmp_path / "catalog" / "catalog.jsonl"))
    half = len(offers) * 2 // 3
    match(offers[:half], out=tmp_path / "once", labels=False)
    shutil.copytree(tmp_path / "once", tmp_path / "steps")
    update_match(tmp_path / "once", offers[half:])
    for start in range(half, len(offers), 7):
        update_match(tmp_path / "steps", offers[start : start + 7][::-1])
    assert partition(tmp_path / "steps")[0] == partition(tmp_path / "once")[0]
    assert content(tmp_path / "steps") == content(tmp_path / "once")
    assert any("image" in line["reasons"] for line in content(tmp_path / "once")[0])


@pytest.mark.parametrize("seed", range(6))
def test_which_pairs_are_compared_depends_on_the_two_offers_and_the_first_run_alone(seed):
    draw = np.random.default_rng(seed)
    words = [f"word{number}" for number in range(25)]
    offers = [
        Offer(f"{number:04}", " ".join(draw.choice(words, int(draw.integers(3, 7)), replace=False)))
        for number in draw.permutation(400)
    ]
    first, rest = sorted(offers[:240], key=lambda offer: offer.id), offers[240:]
    table = offer_table(first)
    start = {"words": np.full(len(first), np.inf, np.float32)}

    def pairs(batches):
        columns, floors, seen, found = table.columns, start, list(first), set()
        for batch in batches:
            columns = columns.joined(read_columns(batch, table.catalog.extractor, table.catalog.hollow))
            num_kept, seen = len(seen), [*seen, *batch]
            ranks = np.argsort(np.argsort([offer.id for offer in seen]))
            left, right, floors = new_candidates(
                columns, table.catalog, floors, None, ranks, num_first=len(first), num_kept=num_kept
            )
            assert (right >= num_kept).all() and (left < right).all()
            names = [tuple(sorted((seen[a].id, seen[b].id))) for a, b in zip(left, right, strict=True)]
            assert found.isdisjoint(names) and len(set(names)) == len(names)
            found |= set(names)
        return found

    once = pairs([rest])
    cuts = np.sort(draw.choice(np.arange(1, len(rest)), 6, replace=False)).tolist()
    shuffled = [rest[place] for place in draw.permutation(len(rest))]
    batches = [shuffled[a:b] for a, b in zip([0, *cuts], [*cuts, len(rest)], strict=True)]
    assert pairs(batches) == once
    assert len(once) < 0.6 * (400 * 399 - 240 * 239) / 2  # not every pair


def test_ids_and_titles_that_a_table_has_to_quote_come_back(tmp_path):
    out = tmp_path / "out"
    title = 'bosta "drill", zx400\nblue'
    odd = [Offer('=x"1', title), Offer("'tis", title), Offer("ü,2", "bosta saw \u2028 zx9"), Offer("-5", "coat")]
    match([*odd, Offer("a", "silk dress"), Offer("b", "lamp")], out=out, labels=False)
    update_match(out, [Offer('=x"1', 'silk dress "red"'), Offer("+7", title)], delete=["-5"])
    ids = read_group_ids(out)
    assert sorted(ids) == sorted(['=x"1', "'tis", "ü,2", "a", "b", "+7"])
    assert ids["'tis"] == ids["+7"] != ids['=x"1']
    assert (
        len((out / "pairs.jsonl").read_text().splitlines())
        == json.loads((out / "summary.json").read_text())["pairs_listed"]
    )


def test_all_offers_may_go_and_come_again_and_rows_that_cannot_be_read_do_not_go(tmp_path):
    offers, _ = catalog(families=2)
    out = tmp_path / "out"
    match(offers, out=out, labels=False)
    groups = partition(out)[0]
    update_match(out, delete=[offer.id for offer in offers], write_page=write_match_page)
    assert partition(out) == (set(), {})
    update_match(out, offers, write_page=write_match_page)
    assert partition(out)[0] == groups
    rows = [{"id": offer.id, "title": offer.title} for offer in offers]
    rows[3]["title"] = ""
    (tmp_path / "catalog.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = update_match(out, tmp_path / "catalog.jsonl", mirror=True, max_bad=0.5)
    assert done.summary["update"]["deleted"] == 0 and partition(out)[0] == groups
