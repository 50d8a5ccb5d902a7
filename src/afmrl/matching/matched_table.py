"""A matched table: which offers are in one group, which pairs are worth listing, and why."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import numpy as np

from afmrl.errors import InputError
from afmrl.matching.candidates import candidate_pairs
from afmrl.matching.features import feature_names
from afmrl.matching.group_ids import group_ids
from afmrl.matching.groups import group_offers
from afmrl.matching.labeled_pairs import LabeledRows
from afmrl.matching.learning import LabeledResult, learn_from_labels
from afmrl.matching.pair_model import PairModel, Threshold, default_model
from afmrl.matching.reasons import Explainer
from afmrl.matching.result import MatchedGroup, MatchedPair
from afmrl.matching.scorer import AT_ONCE, PairScores, Scorer
from afmrl.matching.table import OfferTable
from afmrl.matching.threshold_aim import ThresholdAim, logit_of
from afmrl.matching.verdicts import Bindings, Constraints
from afmrl.matching.vetoes import DEFAULT_VETOES, paired, public_key
from afmrl.terminal import Stages

LISTED_FROM = 0.05
"""Probability from which a pair is listed; so are those in one group, and those that only a veto keeps apart."""

MAX_EXAMPLES = 3
_VERDICTS: Mapping[int, Literal["same", "different"] | None] = {1: "same", -1: "different", 0: None}


@dataclass
class MatchedTable:
    """A table's offers in groups, and the pairs that were compared.

    Shape:
        left, right (P,) rows of the pairs; groups (N,) the number of each offer's group; from_index (N,) bool: which
        offers are an index's, where only pairs across are asked for; None: all pairs are.
    """

    scorer: Scorer
    threshold: Threshold
    max_vetoed_probability: float
    left: np.ndarray
    right: np.ndarray
    scores: PairScores
    groups: np.ndarray
    from_index: np.ndarray | None = None
    labeled: LabeledResult | None = None
    notes: list[str] = field(default_factory=list)
    constraints: Constraints | None = None
    """What verdicts say of the rows; None: nothing."""

    def probabilities(self, logits: np.ndarray, vetoed: np.ndarray) -> np.ndarray:
        """(P,) calibrated; a vetoed pair's is at most what vetoed pairs were seen to be."""
        found = self.scorer.model.probabilities(logits)
        return np.where(vetoed, np.minimum(found, self.max_vetoed_probability), found)

    @cached_property
    def group_rows(self) -> list[np.ndarray]:
        """Rows of each group of two or more, by first row."""
        order = np.argsort(self.groups, kind="stable")
        starts = np.flatnonzero(np.append(True, np.diff(self.groups[order]) != 0))
        return [rows for rows in np.split(order, starts[1:]) if len(rows) > 1]

    def matched_groups(
        self, previous: Mapping[str, str] | None = None, others: Collection[str] = ()
    ) -> tuple[list[MatchedGroup], list[str]]:
        """The groups of two or more, by first row; and the group's id of every offer, also of those that are alone.

        Args:
            previous: the group's id of every offer of the last run.
            others: ids that groups of other offers have.
        """
        weakest = np.full(len(self.groups), np.inf)
        inside = self.groups[self.left] == self.groups[self.right]
        np.minimum.at(weakest, self.groups[self.left[inside]], self.scores.logits[inside])
        numbers = np.array([self.groups[rows[0]] for rows in self.group_rows], dtype=np.int64)
        probabilities = self.scorer.model.probabilities(weakest[numbers])
        offers = self.scorer.table.offers
        alone = np.ones(len(offers), dtype=bool)
        for rows in self.group_rows:
            alone[rows] = False
        every = [*self.group_rows, *np.flatnonzero(alone)[:, None]]
        found = group_ids([[offers[row].id for row in rows] for rows in every], previous, others)
        ids = [""] * len(offers)
        for identifier, rows in zip(found, every, strict=True):
            for row in rows.tolist():
                ids[row] = identifier
        groups = [
            MatchedGroup(tuple(offers[row] for row in rows), float(probability), identifier)
            for rows, probability, identifier in zip(self.group_rows, probabilities, found, strict=False)
        ]
        return groups, ids

    def worth_listing(self, left: np.ndarray, right: np.ndarray, scores: PairScores) -> np.ndarray:
        """(P,) bool: pairs of rows that are likely, or of one distrusted GTIN, or that only a veto keeps apart."""
        worth = self.probabilities(scores.logits, scores.vetoed) >= LISTED_FROM
        worth |= scores.vetoed & (scores.alike >= self.threshold.logit)
        distrusted = self.scorer.table.distrusted
        worth |= paired(distrusted, distrusted, left, right) > 0
        return worth

    def listed_rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the pairs worth listing.

        Likely ones, those of one group or of one distrusted GTIN, those that only a veto keeps apart, and those that
        have a verdict.
        """
        count = np.int64(len(self.groups))
        left, right = self.left, self.right
        listed = self.worth_listing(left, right, self.scores) | (self.groups[left] == self.groups[right])
        codes = [left[listed].astype(np.int64) * count + right[listed]]
        for rows in self.group_rows:
            ours, theirs = np.triu_indices(len(rows), 1)
            codes.append(rows[ours].astype(np.int64) * count + rows[theirs])
        if self.constraints is not None and self.constraints.judged:
            judged = np.array(self.constraints.judged, dtype=np.int64)
            codes.append(judged[:, 0] * count + judged[:, 1])
        pairs = np.unique(np.concatenate(codes))
        return _across(pairs // count, pairs % count, self.from_index)

    def explained(self, left: np.ndarray, right: np.ndarray) -> Iterator[tuple[MatchedPair, float]]:
        """Pairs of rows with their reasons, and the logit that each would have without a veto.

        Only a block of them is in memory at a time. Of two offers, the index's is the right one.
        """
        offers, explainer = self.scorer.table.offers, Explainer(self.scorer)
        for start in range(0, len(left), AT_ONCE // 4):
            ours, theirs = left[start : start + AT_ONCE // 4], right[start : start + AT_ONCE // 4]
            features = self.scorer.compare(ours, theirs)
            logits, vetoed, alike = self.scorer.of_features(features)
            probabilities = self.probabilities(logits, vetoed)
            same = self.groups[ours] == self.groups[theirs]
            verdicts = np.zeros(len(ours), np.int8) if self.constraints is None else self.constraints.of(ours, theirs)
            kept_apart = ~same & ~vetoed & (verdicts == 0) & (logits >= self.threshold.logit)
            if self.from_index is not None:
                turned = self.from_index[ours]
                ours, theirs = np.where(turned, theirs, ours), np.where(turned, ours, theirs)
            for place, reasons in enumerate(explainer.reasons(ours, theirs, features)):
                pair = MatchedPair(
                    offers[int(ours[place])],
                    offers[int(theirs[place])],
                    round(float(logits[place]), 4),
                    round(float(probabilities[place]), 6),
                    bool(same[place]),
                    replace(reasons, kept_apart=bool(kept_apart[place]), verdict=_VERDICTS[int(verdicts[place])]),
                )
                yield pair, float(alike[place])


def match_table(
    table: OfferTable,
    *,
    vetoes: Collection[str] = DEFAULT_VETOES,
    labels: LabeledRows | None = None,
    product_ids: bool = False,
    aim: ThresholdAim | None = None,
    from_index: np.ndarray | None = None,
    model: PairModel | None = None,
    threshold: float | None = None,
    bindings: Bindings | None = None,
    stages: Stages | None = None,
) -> MatchedTable:
    """Match the offers of a table.

    Args:
        vetoes: keys whose conflict keeps two offers apart.
        labels: None: the default model and threshold are used.
        product_ids: without `labels`: whether the offers' `product_id` is what is learned from, if it says enough.
        aim: how the threshold is chosen; None: see `learn_from_labels`.
        from_index: (N,) bool: only pairs of an offer of an index with one that is not are compared; None: all.
        model: in place of the default one.
        threshold: a logit to use whatever the labels or the default say.
        bindings: what verdicts join and keep apart.
    """
    stages = stages or Stages(False)
    aim = aim or ThresholdAim()
    default = default_model(feature_names(table), dense=bool(table.dense))
    scorer = Scorer(table, model or default.model, vetoes)
    chosen, result, notes = default.threshold, None, []
    with stages("looking for candidates", len(table)) as advance:
        left, right = candidate_pairs(table, progress=advance)
    if labels is None and product_ids:
        labels = LabeledRows.of_products(table.offers, left, right)
        if not labels.says_enough:
            if labels.products is not None and (labels.products >= 0).any():
                notes = ["product_id joins too few offers that are alike to learn from, so it is not used as labels"]
            labels = None
    if labels is not None:
        with stages("learning from labels", 1) as advance:
            result = learn_from_labels(scorer, labels, (left, right), default, aim)
            advance(1)
        scorer, chosen, notes = scorer.with_model(result.model), result.threshold, result.notes
    elif aim.needs_labels:
        raise InputError(
            f"{next(iter(aim.asked))} needs labels: --labels FILE, pairs.jsonl beside the catalog, or product_id of "
            "its offers"
        )
    elif aim.probability is not None:
        chosen = Threshold(logit_of(scorer.model, aim.probability), f"--threshold {aim.probability:g}")
    if threshold is not None:
        chosen = Threshold(threshold, "given")
    left, right = _across(left, right, from_index)
    with stages("comparing pairs", len(left)) as advance:
        scores = scorer.score(left, right, progress=advance)

    def score(ours: np.ndarray, theirs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        of_pairs = scorer.score(ours, theirs)
        return of_pairs.logits, of_pairs.vetoed

    constraints = None if bindings is None else bindings.of_offers([offer.id for offer in table.offers])
    with stages("grouping", 1) as advance:
        groups = group_offers(
            len(table), left, right, scores.logits, scores.vetoed, threshold=chosen.logit, score=score,
            constraints=constraints,
        )  # fmt: skip
        advance(1)
    return MatchedTable(
        scorer, chosen, default.max_vetoed_probability, left, right, scores, groups, from_index, result,
        notes + doubtful_gtins(scorer, left[scores.vetoed], right[scores.vetoed]), constraints,
    )  # fmt: skip


def doubtful_gtins(scorer: Scorer, left: np.ndarray, right: np.ndarray) -> list[str]:
    """A note on the GTINs that offers share which a veto keeps apart; nothing where there are none.

    Shape:
        left, right (P,) rows of vetoed pairs.
    """
    conflicts = scorer.comparer.conflicts
    rows = np.flatnonzero(conflicts.same_gtin(left, right))
    if not len(rows):
        return []
    offers, features = scorer.table.offers, scorer.compare(left[rows], right[rows])
    first: dict[str, str] = {}
    for place, row in enumerate(rows):
        keys = {public_key(key) for key in scorer.vetoes if features.differ[place, features.keys.index(key)]}
        for gtin in conflicts.shared_gtins(int(left[row]), int(right[row])):
            pair = f"{offers[left[row]].id} ≠ {offers[right[row]].id} ({', '.join(sorted(keys))})"
            first.setdefault(gtin, f"{gtin}: {pair}")
    count = "1 GTIN is" if len(first) == 1 else f"{len(first):,} GTINs are"
    examples = "; ".join(list(first.values())[:MAX_EXAMPLES])
    return [
        f"{count} doubtful, shared by offers that a veto keeps apart: {examples}{'; …' * (len(first) > MAX_EXAMPLES)}"
    ]


def _across(left: np.ndarray, right: np.ndarray, from_index: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """The pairs of an index's offer with another; without an index, all."""
    if from_index is None:
        return left, right
    across = from_index[left] != from_index[right]
    return left[across], right[across]
