"""`match --update`: new, changed and deleted offers enter the groups that exist, at the cost of what changed.

What a score depends on catalog-wide (word frequencies, brands, threshold, pair model) stays as the first run found it,
so the score of two offers that did not change does not change either, and the order of updates changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from afmrl.data.bad_rows import MAX_BAD, MAX_DELETED, checked_max_bad
from afmrl.data.offer import SkippedRow
from afmrl.data.reading import ReadOptions
from afmrl.data.rows import is_catalog
from afmrl.errors import InputError, shown_address
from afmrl.files import one_writer
from afmrl.matching.columns import read_columns
from afmrl.matching.delta import Delta, delta_of
from afmrl.matching.events import events_of
from afmrl.matching.group_ids import GroupChanges, group_changes
from afmrl.matching.groups import group_offers
from afmrl.matching.kept import KeptMatch, fingerprints_of, offer_json
from afmrl.matching.matched_offers import OfferCollector
from afmrl.matching.matched_table import MatchedTable
from afmrl.matching.new_candidates import new_candidates
from afmrl.matching.output import write_changes, write_skipped, write_summary
from afmrl.matching.result import MatchedPair, MatchResult
from afmrl.matching.review import ReviewCollector
from afmrl.matching.scorer import PairScores
from afmrl.matching.sources import OffersToMatch, read_offers
from afmrl.matching.updatable import bindings_of, check_unchanged, updatable_summary
from afmrl.matching.update_output import Replaced, finish_update, pending_update, replace_rows, write_events
from afmrl.matching.verdicts import Bindings
from afmrl.retrieval.colors import color_histograms
from afmrl.terminal import Stages

SHOWN_IDS = 20
"""Of ids to delete that are not there."""


@dataclass(frozen=True)
class UpdateResult:
    """What an update did."""

    summary: dict[str, Any]
    """As in summary.json; `update` has the counts of this update."""
    out: Path
    changed: bool
    """False: nothing was to be done, and nothing was written."""
    result: MatchResult | None = None
    """The groups, pairs and offers that the update touched."""


def update_match(
    matches: str | Path,
    offers: OffersToMatch | None = None,
    *,
    mirror: bool = False,
    max_deleted: float = MAX_DELETED,
    delete: Collection[str] = (),
    verdicts: str | Path | Literal[False] | None = None,
    max_bad: float = MAX_BAD,
    options: ReadOptions | None = None,
    progress: bool = False,
    write_page: Callable[[MatchResult, Path], object] | None = None,
) -> UpdateResult:
    """Bring the groups of a match up to date.

    Args:
        matches: `out` of a match without a model; it is changed in one step.
        offers: new and changed offers; the others stay. None: none.
        mirror: `offers` are the whole catalog: offers that are not among them are deleted.
        max_deleted: share of the match's offers that `mirror` may delete in one go; 20 always may go.
        delete: ids of offers to delete.
        verdicts: as in `match`; None: verdicts.jsonl in `matches`, or else the log that bound the match before.
        max_bad, options, progress, write_page: as in `match`.

    Raises:
        InputError: `matches` is no complete match, or one that cannot be updated; offers that cannot be read; more
            offers than the first run had have come since; a mirror that would delete too much; another process writes.
    """
    matches = Path(matches)
    checked_max_bad(max_bad)
    if mirror and offers is None:
        raise InputError("--mirror needs the catalog: afmrl match CATALOG --update MATCHES --mirror")
    if not matches.is_dir():
        raise InputError(f"--update {matches}: no such folder; make a match first: afmrl match CATALOG --out {matches}")
    stages = Stages(progress)
    with one_writer(matches):
        finish_update(matches)
        summary = updatable_summary(matches)
        bindings = bindings_of(matches, summary, verdicts)
        skipped: Sequence[SkippedRow] = ()
        notes: list[str] = []
        if isinstance(offers, str | Path) and not is_catalog(offers):
            raise InputError(f"{offers} is an index: --update takes a catalog's file; match the index with --previous")
        source = "the offers"
        found = None
        if offers is not None:
            read = read_offers(
                offers, matches, model=None, generator=None, max_bad=max_bad, options=options, progress=progress
            )
            found, skipped, notes = read.offers, read.skipped, read.notes
            source = shown_address(str(offers)) if isinstance(offers, str | Path) else source
        with stages("reading the match", 1) as advance:
            kept = KeptMatch.read(matches)
            advance(1)
        delta = delta_of(kept, found, source, delete, mirror=mirror, max_deleted=max_deleted, skipped=skipped)
        said, before = bindings.as_rows(), kept.settings["verdicts"]
        told = {
            **delta.counts,
            "missing": len(delta.missing),
            "first_missing": delta.missing[:SHOWN_IDS],
            "notes": notes,
        }
        if not delta.reasons and said == before:
            return UpdateResult({**summary, "update": told}, matches, False)
        check_unchanged(matches, summary)
        update = _Update(kept, delta, bindings, stages)
        after = update.after
        result, replaced, changes, previous = update.grouped()
        came_or_went = {name for row in (*said, *before) if (row in said) != (row in before) for name in row[:2]}
        events = events_of(changes, previous, update.group_of, delta.reasons, came_or_went)
        with pending_update(matches) as pending:
            counts = replace_rows(matches, pending, replaced)
            after = replace(after, groups=update.groups, settings={**kept.settings, "verdicts": said})
            after.write(pending)
            write_events(matches, pending, events)
            write_skipped(pending, skipped)
            write_changes(pending, changes)
            summary = {
                **{name: value for name, value in summary.items() if name != "files"},
                **_totals(summary, counts, after),
                "verdicts": bindings.summary({after.ids[row] for row in np.flatnonzero(after.alive).tolist()})
                if bindings.verdicts or bindings.overruled
                else None,
                "changes": changes.counts,
                "previous": str(matches),
                "update": {
                    **told,
                    "pairs_compared": update.num_compared,
                    "offers_grouped_again": len(replaced.offers),
                    "first_run": kept.num_first,
                },
            }
            result = replace(result, summary=summary)
            if write_page is not None:
                write_page(result, pending)
            write_summary(pending, summary)
        return UpdateResult(summary, matches, True, result)


def _totals(summary: Mapping[str, Any], counts: Counter[str], after: KeptMatch) -> dict[str, Any]:
    """The counts of summary.json after an update."""
    alive = [after.groups[row] for row in np.flatnonzero(after.alive).tolist()]
    sizes = [size for size in Counter(alive).values() if size > 1]
    vetoes = Counter(summary["vetoes"])
    for name, count in counts.items():
        if name.startswith("veto "):
            vetoes[name.removeprefix("veto ")] += count
    names = ("pairs_listed", "pairs_same", "pairs_vetoed", "pairs_kept_apart", "offers_to_review")
    return {
        "offers": len(alive),
        **{name: summary[name] + counts[name] for name in names},
        "vetoes": dict((+vetoes).most_common()),
        "groups": len(sizes),
        "offers_in_groups": sum(sizes),
        "largest_group": max(sizes, default=1),
    }


class _Update:
    """One update: the pairs that are new, and the groups that may change by them."""

    def __init__(self, kept: KeptMatch, delta: Delta, bindings: Bindings, stages: Stages) -> None:
        self.bindings, self.delta, self.stages = bindings, delta, stages
        self.previous = {kept.ids[row]: kept.groups[row] for row in np.flatnonzero(kept.alive).tolist()}
        alive = kept.alive.copy()
        alive[delta.dead] = False
        alive[delta.again] = True
        gone = ~alive & (np.arange(len(alive)) >= kept.num_first)
        new = int((alive[kept.num_first :]).sum()) + len(delta.offers)
        if new > kept.num_first:
            raise InputError(
                f"{new:,} offers came or changed since the first run of {kept.num_first:,}, so what it learned of the "
                "catalog says too little; match the whole catalog with --previous, which keeps the ids too"
            )
        touched = np.zeros(len(alive), dtype=bool)
        touched[[*delta.dead, *delta.again]] = True
        kept = replace(kept, alive=alive)
        kept = self._with_offers(kept)
        self.num_compared = 0
        if delta.offers:
            kept = self._with_pairs(kept)
        seeds = np.append(touched, np.ones(len(delta.offers), dtype=bool))
        near = seeds[kept.left] | seeds[kept.right]
        seeds[kept.left[near]] = seeds[kept.right[near]] = True
        named = bindings.ids
        is_named = np.array([identifier in named for identifier in kept.ids], dtype=bool)
        seeds |= is_named | kept.judged
        reached = self._reached(kept, is_named, seeds)
        gone = np.append(gone, np.zeros(len(kept.ids) - len(gone), dtype=bool))
        self.died = [kept.ids[row] for row in delta.dead]
        self.after = replace(kept, judged=is_named & kept.alive).without(gone)
        self.affected = np.flatnonzero((reached & kept.alive)[~gone])
        self.groups: list[str] = []
        self.group_of: dict[str, str] = {}

    def _reached(self, kept: KeptMatch, is_named: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        """(N,) bool: offers that links of the model or verdicts join with one of the seeds."""
        from scipy import sparse
        from scipy.sparse.csgraph import connected_components

        linked = ~kept.scores.vetoed & (kept.scores.logits >= kept.settings["threshold"][0])
        linked &= kept.alive[kept.left] & kept.alive[kept.right]
        named = np.flatnonzero(is_named & kept.alive)
        first: dict[str, int] = {}
        leaders = [first.setdefault(self.bindings.product(kept.ids[row]), row) for row in named.tolist()]
        left, right = np.append(kept.left[linked], leaders), np.append(kept.right[linked], named)
        shape = (len(kept.ids), len(kept.ids))
        graph = sparse.coo_matrix((np.ones(len(left), np.int8), (left.astype(int), right.astype(int))), shape=shape)
        _, component = connected_components(graph, directed=False)
        return np.isin(component, component[seeds])

    def _with_offers(self, kept: KeptMatch) -> KeptMatch:
        """With the offers that are to be read."""
        offers = self.delta.offers
        if not offers:
            return kept
        with self.stages("reading offers", len(offers)) as advance:
            columns = read_columns(offers, kept.catalog.extractor, kept.catalog.hollow, progress=advance)
        colors = kept.colors
        if colors is not None or any(offer.image for offer in offers):
            new = color_histograms(offers, unreadable=[])
            colors = np.zeros((len(kept.ids), new.shape[1]), np.float32) if colors is None else colors
            colors = np.concatenate([colors, new])
        texts = [offer_json(offer) for offer in offers]
        ones, none = np.ones(len(offers), dtype=bool), np.zeros(len(offers), dtype=bool)
        return replace(
            kept,
            ids=[*kept.ids, *(offer.id for offer in offers)],
            groups=[*kept.groups, *[""] * len(offers)],
            offers=[*kept.offers, *texts],
            fingerprints=np.concatenate([kept.fingerprints, fingerprints_of(offers)]),
            alive=np.concatenate([kept.alive, ones]),
            judged=np.concatenate([kept.judged, none]),
            columns=kept.columns.joined(columns),
            colors=colors,
        )

    def _with_pairs(self, kept: KeptMatch) -> KeptMatch:
        """With the pairs of the new offers that may count."""
        num_kept = len(kept.ids) - len(self.delta.offers)
        order = sorted(range(len(kept.ids)), key=kept.ids.__getitem__)
        ranks = np.empty(len(order), dtype=np.int64)
        ranks[order] = np.arange(len(order))
        names = np.array(kept.ids, dtype=object)
        with self.stages("looking for candidates", 1) as advance:
            left, right, floors = new_candidates(
                kept.columns, kept.catalog, kept.floors, kept.colors, ranks,
                num_first=kept.num_first, num_kept=num_kept,
            )  # fmt: skip
            advance(1)
        other = names[left] != names[right]  # an offer and its older version
        left, right = left[other], right[other]
        swapped = ranks[left] > ranks[right]
        left, right = np.where(swapped, right, left), np.where(swapped, left, right)
        rows = kept.in_order(np.unique(np.concatenate([left, right])))
        place = np.zeros(len(kept.ids), dtype=np.int64)
        place[rows] = np.arange(len(rows))
        matched = kept.matched(rows)
        with self.stages("comparing pairs", len(left)) as advance:
            scores = matched.scorer.score(place[left], place[right], progress=advance)
        self.num_compared = len(left)
        worth = matched.worth_listing(place[left], place[right], scores)
        worth |= ~scores.vetoed & (scores.logits >= matched.threshold.logit)
        return replace(
            kept,
            floors=floors,
            left=np.concatenate([kept.left, left[worth]]).astype(np.int32),
            right=np.concatenate([kept.right, right[worth]]).astype(np.int32),
            scores=PairScores(
                np.concatenate([kept.scores.logits, scores.logits[worth]]),
                np.concatenate([kept.scores.vetoed, scores.vetoed[worth]]),
                np.concatenate([kept.scores.alike, scores.alike[worth]]),
            ),
        )

    def grouped(self) -> tuple[MatchResult, Replaced, GroupChanges, dict[str, str]]:
        """The groups that may have changed, what is to be written of them, and what became of the earlier ones."""
        after, affected = self.after, self.affected
        is_affected = np.zeros(len(after.ids), dtype=bool)
        is_affected[affected] = True
        alive = after.alive[after.left] & after.alive[after.right]
        told = np.flatnonzero(alive & (is_affected[after.left] | is_affected[after.right]))
        rows = after.in_order(np.unique(np.concatenate([affected, after.left[told], after.right[told]])))
        place = np.zeros(len(after.ids), dtype=np.int64)
        place[rows] = np.arange(len(rows))
        scores = PairScores(*(of[told] for of in (after.scores.logits, after.scores.vetoed, after.scores.alike)))
        matched = replace(
            after.matched(rows), left=place[after.left[told]], right=place[after.right[told]], scores=scores
        )
        ids = [after.ids[row] for row in rows.tolist()]
        matched = self._with_groups(matched, ids)
        inside = is_affected[rows]
        names = {ids[row] for row in np.flatnonzero(inside).tolist()} | set(self.died)
        earlier = {name: self.previous[name] for name in names if name in self.previous}
        touched = set(earlier.values())
        others = set(self.previous.values()) - touched
        groups, found = matched.matched_groups(
            {**earlier, **{name: self.previous[name] for name in ids if name in self.previous}}, others
        )
        self.groups = [group if is_alive else "" for group, is_alive in zip(after.groups, after.alive, strict=True)]
        by_offer: dict[str, str] = {}
        for number, row in enumerate(rows.tolist()):
            if inside[number]:
                self.groups[row] = found[number]
            by_offer[ids[number]] = self.groups[row]
        self.group_of = {name: by_offer[name] for name in names if name in by_offer}
        members: dict[str, list[str]] = {}
        for name, group in self.group_of.items():
            members.setdefault(group, []).append(name)
        changes = group_changes(members, earlier)
        sizes = Counter(self.previous[name] for name in self.previous if self.previous[name] in others)
        changes = GroupChanges(changes.events, changes.num_unchanged + sum(size > 1 for size in sizes.values()))
        replaced = Replaced(names, touched, groups)
        result = self._described(matched, by_offer, found, inside, replaced)
        return result, replaced, changes, earlier

    def _with_groups(self, matched: MatchedTable, ids: list[str]) -> MatchedTable:
        constraints = self.bindings.of_offers(ids) if self.bindings.verdicts else None

        def score(ours: np.ndarray, theirs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            of_pairs = matched.scorer.score(ours, theirs)
            return of_pairs.logits, of_pairs.vetoed

        with self.stages("grouping", 1) as advance:
            groups = group_offers(
                len(ids), matched.left, matched.right, matched.scores.logits, matched.scores.vetoed,
                threshold=matched.threshold.logit, score=score, constraints=constraints,
            )  # fmt: skip
            advance(1)
        return replace(matched, groups=groups, constraints=constraints)

    def _described(
        self, matched: MatchedTable, by_offer: Mapping[str, str], ids: list[str], inside: np.ndarray, replaced: Replaced
    ) -> MatchResult:
        """Fill in what is to be written of the pairs and offers whose groups may have changed."""
        offers = matched.scorer.table.offers
        of_pairs = ReviewCollector(matched.threshold.logit)
        of_offers = OfferCollector(matched.threshold.logit, matched.scorer.table.doubts())
        left, right = matched.listed_rows()
        pairs: list[MatchedPair] = []
        with self.stages("explaining pairs", len(left)) as advance:
            for pair, alike in matched.explained(left, right):
                pairs.append(pair)
                of_pairs.see(pair, alike)
                of_offers.see(pair, alike)
            advance(len(left))
        replaced.add_pairs(pairs, by_offer)
        described = of_offers.offers(offers, replaced.groups, ids)
        replaced.offers += [of for of, is_inside in zip(described, inside, strict=True) if is_inside]
        return MatchResult(replaced.groups, pairs, {}, of_pairs.review(replaced.groups), replaced.offers)
