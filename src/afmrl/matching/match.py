"""`afmrl match`: from a catalog to groups of offers that are the same product, with reasons."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from afmrl.data.pairs import PAIRS_FILE, read_pairs
from afmrl.errors import InputError
from afmrl.matching.candidates import candidate_pairs
from afmrl.matching.features import feature_names
from afmrl.matching.groups import group_offers
from afmrl.matching.images import color_histograms
from afmrl.matching.labeled_pairs import LabeledResult, LabeledRows, learn_from_labels
from afmrl.matching.output import group_lists, pair_files, whole_file, write_groups
from afmrl.matching.pair_model import PairModel, Threshold, default_model
from afmrl.matching.reasons import Reasons
from afmrl.matching.review import PairToReview, Review, ReviewCollector, least_sure_groups
from afmrl.matching.scorer import AT_ONCE, Scorer, Scores
from afmrl.matching.sources import MatchSource, is_index, offers_of_catalog, offers_of_index, with_index
from afmrl.matching.table import OfferTable, offer_table
from afmrl.matching.vetoes import DEFAULT_VETOES, veto_keys
from afmrl.terminal import Stages

LISTED_FROM = 0.05
"""Probability from which a pair is listed; so are those in one group, and those that only a veto keeps apart."""
FORMAT = "afmrl-match"


@dataclass(frozen=True)
class MatchResult:
    """What a match found; `summary` is OUT/summary.json."""

    out: Path
    groups: list[list[str]]
    summary: dict[str, Any]
    review: Review
    """The pairs and groups that a reader should look at first."""


@dataclass
class Matched:
    """A matched table: everything that the output is written from."""

    scorer: Scorer
    threshold: Threshold
    vetoed_probability: float
    left: np.ndarray
    right: np.ndarray
    scores: Scores
    groups: np.ndarray
    """(N,) the number of each offer's group."""
    labeled: LabeledResult | None = None
    notes: list[str] = field(default_factory=list)

    def probabilities(self, logits: np.ndarray, vetoed: np.ndarray) -> np.ndarray:
        """(P,) calibrated; a vetoed pair's is at most what vetoed pairs were seen to be."""
        found = self.scorer.model.probabilities(logits)
        return np.where(vetoed, np.minimum(found, self.vetoed_probability), found)


def match_offers(
    table: OfferTable,
    *,
    vetoes: Collection[str] = DEFAULT_VETOES,
    labels: LabeledRows | None = None,
    precision: float | None = None,
    side: np.ndarray | None = None,
    model: PairModel | None = None,
    threshold: float | None = None,
    stages: Stages | None = None,
) -> Matched:
    """Match the offers of a table.

    Args:
        vetoes: keys whose conflict keeps two offers apart.
        labels: None: the shipped default model and threshold are used.
        precision: what the threshold aims at on the labels; None: see `learn_from_labels`.
        side: (N,) of 0 and 1: only pairs of unlike sides are compared; None: all.
        model: in place of the default one.
        threshold: a logit to use whatever labels or the default say.
    """
    stages = stages or Stages(False)
    default = default_model(feature_names(table), dense=bool(table.dense))
    scorer = Scorer(table, model or default.model, vetoes)
    found, result = default.threshold, None
    if labels is not None:
        result = learn_from_labels(scorer, labels, precision)
        scorer = Scorer(table, result.model, vetoes)
        found = result.threshold
    if threshold is not None:
        found = Threshold(threshold, "given")
    with stages("looking for candidates", len(table)) as advance:
        left, right = candidate_pairs(table, progress=advance)
    if side is not None:
        across = side[left] != side[right]
        left, right = left[across], right[across]
    with stages("comparing pairs", len(left)) as advance:
        scores = scorer.score(left, right, progress=advance)

    def score(ours: np.ndarray, theirs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        of_pairs = scorer.score(ours, theirs)
        return of_pairs.logits, of_pairs.vetoed

    with stages("grouping", 1) as advance:
        groups = group_offers(len(table), left, right, scores.logits, scores.vetoed, threshold=found.logit, score=score)
        advance(1)
    return Matched(scorer, found, default.max_vetoed_probability, left, right, scores, groups, result)


def listed_pairs(matched: Matched, side: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Pairs that are written: likely ones, those of one group, and those that only a veto keeps apart."""
    count = np.int64(len(matched.groups))
    scores, left, right = matched.scores, matched.left, matched.right
    shown = matched.probabilities(scores.logits, scores.vetoed) >= LISTED_FROM
    shown |= scores.vetoed & (scores.alike >= matched.threshold.logit)
    shown |= matched.groups[left] == matched.groups[right]
    codes = [left[shown].astype(np.int64) * count + right[shown]]
    for members in group_lists(matched.groups):
        ours, theirs = np.triu_indices(len(members), 1)
        codes.append(members[ours].astype(np.int64) * count + members[theirs])
    pairs = np.unique(np.concatenate(codes))
    left, right = pairs // count, pairs % count
    if side is not None:
        across = side[left] != side[right]
        left, right = left[across], right[across]
    return left, right


def write_match(
    matched: Matched, out: Path, *, side: np.ndarray | None = None, source: dict[str, Any], stages: Stages | None = None
) -> MatchResult:
    """Write groups, pairs and summary."""
    stages = stages or Stages(False)
    out.mkdir(parents=True, exist_ok=True)
    # of a run that is stopped while it writes, files of this and of an earlier match lie side by side
    for name in ("summary.json", "report.html"):
        (out / name).unlink(missing_ok=True)
    table, scorer = matched.scorer.table, matched.scorer
    offers = table.offers
    lists = group_lists(matched.groups)
    write_groups(out, lists, offers)
    left, right = listed_pairs(matched, side)
    reasons, collector = Reasons(scorer), ReviewCollector(matched.threshold.logit)
    vetoes: Counter[str] = Counter()
    num_same = num_vetoed = 0
    with pair_files(out) as writer, stages("writing pairs", len(left)) as advance:
        for start in range(0, len(left), AT_ONCE // 4):
            ours, theirs = left[start : start + AT_ONCE // 4], right[start : start + AT_ONCE // 4]
            features = scorer.compare(ours, theirs)
            logits, vetoed, alike = scorer.of_features(features)
            probabilities = matched.probabilities(logits, vetoed)
            same = matched.groups[ours] == matched.groups[theirs]
            ordered = ours, theirs
            if side is not None:  # the catalog's offer stands left
                turned = side[ours] == 1
                ordered = np.where(turned, theirs, ours), np.where(turned, ours, theirs)
            for place, of_pair in enumerate(reasons.of_pairs(*ordered, features)):
                pair = (offers[int(ordered[0][place])], offers[int(ordered[1][place])])
                logit, probability, is_same = float(logits[place]), float(probabilities[place]), bool(same[place])
                writer.write(*pair, logit, probability, is_same, of_pair)
                vetoes.update(of_pair["veto"])
                collector.see(PairToReview(*pair, logit, probability, is_same, of_pair), float(alike[place]))
            num_same += int(same.sum())
            num_vetoed += int(vetoed.sum())
            advance(len(ours))
    sizes = [len(members) for members in lists]
    summary = {
        "format": FORMAT,
        "version": 1,
        **source,
        "offers": len(offers),
        "pairs_compared": len(matched.left),
        "pairs_listed": len(left),
        "pairs_same": num_same,
        "pairs_vetoed": num_vetoed,
        "vetoes": dict(vetoes.most_common()),
        "groups": len(lists),
        "offers_in_groups": sum(sizes),
        "largest_group": max(sizes, default=1),
        "threshold": _threshold(matched),
        "labels": _labels(matched.labeled),
        "model_of_pairs": scorer.model.as_dict(),
        "notes": matched.notes,
    }
    # last: whoever finds it finds the rest
    with whole_file(out / "summary.json") as file:
        file.write(json.dumps(summary, ensure_ascii=False, indent=2) + "\n")
    groups = [[offers[row].id for row in members] for members in lists]
    return MatchResult(out, groups, summary, collector.review(least_sure_groups(matched, lists)))


def _threshold(matched: Matched) -> dict[str, Any]:
    threshold = matched.threshold
    probability = float(matched.scorer.model.probabilities(np.array([threshold.logit]))[0])
    return {"score": round(threshold.logit, 4), "probability": round(probability, 4), "from": threshold.origin}


def _labels(result: LabeledResult | None) -> dict[str, Any] | None:
    if result is None:
        return None
    return {
        "train_pairs": result.num_train,
        "validation_pairs": result.num_validation,
        "measured_on": result.measured_on,
        "precision": asdict(result.precision),
        "recall": asdict(result.recall),
        "reliability": [
            {"from": row.low, "to": row.high, "pairs": row.num_pairs,
             "mean_probability": round(row.mean_probability, 4), "share_same": asdict(row.share_same)}
            for row in result.reliability
        ],
    }  # fmt: skip


def match_catalog(
    catalog: str | Path,
    out: str | Path,
    *,
    against: str | None = None,
    model: str | None = None,
    generator: str | None = None,
    labels: str | Path | None = None,
    precision: float | None = None,
    veto: Collection[str] = (),
    no_veto: Collection[str] = (),
    max_bad: float = 0.01,
    progress: bool = False,
) -> MatchResult:
    """Find the offers of a catalog that are the same product, and write OUT.

    Args:
        catalog: a catalog's file, or an index.
        against: an index: only pairs of the catalog's offers with the index's.
        labels: labeled pairs; None: pairs.jsonl beside the catalog, if it is there.
        precision: which share of the pairs called the same shall be so, on the labels; None: 0.99, or less where that
            finds next to nothing.
        veto, no_veto: keys that veto beside the default ones, or not.

    Raises:
        InputError: what `read_catalog`, `read_pairs` and `veto_keys` refuse; a precision that is no share.
    """
    if precision is not None and not 0 < precision <= 1:
        raise InputError(f"--precision {precision:g}: a share above 0, up to 1")
    if generator is not None and model is None:
        raise InputError("--generator goes with --model: its key attributes are read by the embedder too")
    vetoes = veto_keys(veto, no_veto)
    catalog, out = str(catalog), Path(out)
    stages = Stages(progress)
    if is_index(catalog):
        if model is not None or labels is not None or against is not None:
            raise InputError(f"{catalog} is an index: --model, --labels and --against go with a catalog's file")
        source = offers_of_index(catalog)
    else:
        source = offers_of_catalog(
            Path(catalog), out, model=model, generator=generator, max_bad=max_bad, progress=progress
        )
        if against is not None:
            source = with_index(source, against)
        labels = labels or beside(Path(catalog))
    table, notes = prepared_table(source, stages)
    rows = None
    if labels is not None:
        pairs = read_pairs(labels, source.read, skipped_ids=source.skipped_ids)
        rows = LabeledRows.of(pairs, {offer.id: row for row, offer in enumerate(source.offers)})
    matched = match_offers(table, vetoes=vetoes, labels=rows, precision=precision, side=source.side, stages=stages)
    matched.notes.extend(source.notes + notes)
    told = {
        "catalog": catalog,
        "against": against,
        "model": model,
        "generator": generator,
        "labels_file": None if labels is None else str(labels),
        "precision_asked": precision if labels is not None else None,
    }
    return write_match(matched, out, side=source.side, source=told, stages=stages)


def beside(catalog: Path) -> Path | None:
    """The labeled pairs that lie beside a catalog."""
    path = catalog.parent / PAIRS_FILE
    return path if path.is_file() else None


def prepared_table(source: MatchSource, stages: Stages) -> tuple[OfferTable, list[str]]:
    """The table of offers with images' colors and embeddings, and what has to be said of it."""
    with stages("reading offers", len(source.offers)) as advance:
        table = offer_table(source.offers, source.generated, progress=advance)
    with stages("colors of images", len(source.offers)) as advance:
        table.colors, unreadable = color_histograms(table.offers, progress=advance)
    table.dense = source.dense
    notes = []
    if unreadable:
        identifier, reason = unreadable[0]
        notes.append(f"{len(unreadable)} images cannot be read and count as none, first: offer {identifier}: {reason}")
    return table, notes
