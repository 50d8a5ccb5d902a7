"""Verdicts bind: what reviewers call the same is in one group and what they call different is not, in later matches."""

from __future__ import annotations

import json
from itertools import combinations

import numpy as np
import pytest
from match_catalogs import catalog

from afmrl.data.catalog import write_catalog
from afmrl.errors import InputError
from afmrl.matching.groups import group_offers
from afmrl.matching.match import match
from afmrl.matching.verdicts import Bindings, Verdict, bindings_in_words, current_verdicts

SEEDS = range(60)


def said(*verdicts):
    return [Verdict(number, "2030-01-01T00:00:00+00:00", "ada", *of) for number, of in enumerate(verdicts, 1)]


def write_log(path, *verdicts):
    entries = said(*verdicts)
    path.write_text("".join(json.dumps({**vars(entry)}) + "\n" for entry in entries))
    return path


def check(groups, bindings, rows):
    """Every verdict that holds holds in the groups."""
    for verdict in bindings.verdicts:
        if verdict.left in rows and verdict.right in rows:
            together = groups[rows[verdict.left]] == groups[rows[verdict.right]]
            assert together == (verdict.verdict == "same"), str(verdict)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_verdict_holds_unless_a_newer_one_contradicts_it(seed):
    draw = np.random.default_rng(seed)
    count = int(draw.integers(4, 40))
    ids = [f"o{number:02}" for number in range(count)]
    scores = draw.normal(0, 5, size=(count, count))
    vetoes = draw.random((count, count)) < 0.2
    left, right = np.triu_indices(count, 1)
    kept = draw.random(len(left)) < 0.7

    def score(ours, theirs):
        ours, theirs = np.minimum(ours, theirs), np.maximum(ours, theirs)
        return scores[ours, theirs], vetoes[ours, theirs]

    names = [*ids, "gone-1", "gone-2"]
    pairs = [draw.choice(names, 2, replace=False).tolist() for _ in range(int(draw.integers(1, 2 * count)))]
    log = said(*((*pair, str(draw.choice(["same", "different", "variant", "unsure"]))) for pair in pairs))
    bindings = Bindings(current_verdicts(log).values())
    constraints = bindings.of_offers(ids)
    left, right = left[kept], right[kept]
    groups = group_offers(count, left, right, *score(left, right), threshold=1.0, score=score, constraints=constraints)
    rows = {identifier: row for row, identifier in enumerate(ids)}
    check(groups, bindings, rows)
    assert (groups == [np.flatnonzero(groups == group)[0] for group in groups]).all()
    # what is overruled contradicts newer ones: a brute-force closure of them says the opposite
    for verdict in bindings.overruled:
        newer = [other for other in bindings.verdicts if other.number > verdict.number]
        product = {identifier: {identifier} for identifier in names}
        for other in newer:
            if other.verdict == "same":
                joined = product[other.left] | product[other.right]
                for identifier in joined:
                    product[identifier] = joined
        implied = verdict.right in product[verdict.left]
        apart = any(
            {*product[other.left]} & {*product[verdict.left]} and {*product[other.right]} & {*product[verdict.right]}
            or {*product[other.left]} & {*product[verdict.right]} and {*product[other.right]} & {*product[verdict.left]}
            for other in newer if other.verdict in ("different", "variant")
        )  # fmt: skip
        assert apart if verdict.verdict == "same" else implied
    # offers that no verdict reaches are grouped as without any
    alone = group_offers(count, left, right, *score(left, right), threshold=1.0, score=score)
    if not constraints.rows:
        assert (alone == groups).all()


def test_same_is_carried_through_an_offer_that_is_gone():
    bindings = Bindings(said(("a", "gone", "same"), ("gone", "c", "same"), ("a", "x", "different")))
    constraints = bindings.of_offers(["a", "c", "x"])
    assert constraints.of(np.array([0, 0, 1]), np.array([1, 2, 2])).tolist() == [1, -1, -1]
    assert constraints.bound(np.arange(3)).tolist() == [0, 0, 2]


def test_the_newest_of_verdicts_that_contradict_each_other_holds_and_the_other_is_named():
    log = said(("a", "b", "same"), ("b", "c", "same"), ("a", "c", "different"), ("a", "gone", "same"))
    bindings = Bindings(current_verdicts(log).values(), "LOG")
    assert [str(verdict) for verdict in bindings.overruled] == ["a = b (1, ada)"]
    assert bindings_in_words(bindings.summary({"a", "b", "c"})) == (
        "2 verdicts of LOG: 1 same, 1 different; 1 more of offers that are gone; 1 overruled by newer ones: "
        "a = b (1, ada)"
    )
    # taken back, the older one holds again
    log += [Verdict(5, "", "ada", "a", "c", "undone")]
    assert not Bindings(current_verdicts(log).values()).overruled


def groups_of(result):
    return {offer.offer.id: offer.group_id for offer in result.offers}


def test_verdicts_beside_the_match_bind_in_the_next_one(tmp_path):
    offers, _ = catalog(families=4)
    write_catalog(tmp_path / "catalog.jsonl", offers)
    out = tmp_path / "out"
    before = match(tmp_path / "catalog.jsonl", out=out)
    groups = groups_of(before)
    assert before.summary["verdicts"] is None
    one = before.groups[0].ids[:2]
    other = (before.groups[1].ids[0], before.groups[2].ids[0])
    write_log(out / "verdicts.jsonl", (*one, "different"), (*other, "same"), ("gone", one[0], "same"))
    after = match(tmp_path / "catalog.jsonl", out=out, previous=out)
    now = groups_of(after)
    assert now[one[0]] != now[one[1]] and now[other[0]] == now[other[1]]
    # the rest of the two groups comes along
    joined = {identifier for identifier, group in groups.items() if group in {groups[of] for of in other}}
    assert len({now[identifier] for identifier in joined}) == 1
    assert after.summary["verdicts"] | {"from": ""} == {
        "from": "", "same": 1, "different": 1, "of_offers_that_are_gone": 1, "overruled": [],
    }  # fmt: skip
    by_pair = {(pair.left.id, pair.right.id): pair for pair in after.pairs}
    assert by_pair[tuple(sorted(one))].reasons.verdict == "different"
    pair = by_pair[tuple(sorted(other))]
    assert pair.reasons.verdict == "same" and pair.same and "verdict: same" in str(pair)
    changes = (out / "changes.jsonl").read_text()
    assert '"split"' in changes and '"merge"' in changes
    # in another folder those of the last run count, and --no-verdicts is without
    assert groups_of(match(tmp_path / "catalog.jsonl", out=tmp_path / "new", previous=out)) == now
    assert groups_of(match(tmp_path / "catalog.jsonl", out=out, verdicts=False)) == groups


def test_a_judged_pair_needs_no_review(tmp_path):
    offers, _ = catalog(families=2)
    pairs = list(combinations(sorted(offer.id for offer in offers)[:3], 2))
    log = write_log(tmp_path / "log.jsonl", *((*pair, "same") for pair in pairs))
    result = match(offers, verdicts=log)
    named = {identifier for pair in pairs for identifier in pair}
    judged = [offer for offer in result.offers if offer.offer.id in named]
    assert len({offer.group_id for offer in judged}) == 1
    # the others of their groups, which nobody has judged, may be unlike them; they themselves are not
    assert not any(f"unlike {identifier} " in offer.why for offer in judged for identifier in named)


def test_a_log_that_is_none_is_refused_in_one_line(tmp_path):
    offers, _ = catalog(families=1)
    with pytest.raises(InputError, match="verdicts .*nowhere.jsonl: cannot be read"):
        match(offers, verdicts=tmp_path / "nowhere.jsonl")
    (tmp_path / "log.jsonl").write_text('{"left": 1}\n')
    with pytest.raises(InputError, match="log.jsonl:1: is no verdict"):
        match(offers, verdicts=tmp_path / "log.jsonl")
