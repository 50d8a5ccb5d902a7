"""`match`: from offers to groups of the same product, with reasons."""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np

from afmrl.data.bad_rows import MAX_BAD, checked_max_bad
from afmrl.data.offer import SkippedRow
from afmrl.data.pairs import PAIRS_FILE, read_known_pairs
from afmrl.data.reading import ReadOptions
from afmrl.data.rows import is_catalog
from afmrl.errors import InputError, shown_address
from afmrl.files import one_writer
from afmrl.matching.group_ids import group_changes, read_group_ids
from afmrl.matching.kept import KeptMatch
from afmrl.matching.labeled_pairs import LabeledRows
from afmrl.matching.learning import LabeledResult
from afmrl.matching.matched_offers import OfferCollector
from afmrl.matching.matched_table import MatchedTable, match_table
from afmrl.matching.output import (
    FORMAT,
    KEPT_FILE,
    VERSION,
    WrittenPairs,
    clear_output,
    pair_files,
    write_changes,
    write_groups,
    write_offers,
    write_skipped,
    write_summary,
)
from afmrl.matching.result import MatchedPair, MatchResult
from afmrl.matching.review import ReviewCollector
from afmrl.matching.sources import MatchSource, OffersToMatch, offers_of_index, read_offers, with_index
from afmrl.matching.table import OfferTable, offer_table
from afmrl.matching.threshold_aim import CurvePoint, ThresholdAim
from afmrl.matching.update_output import finish_update
from afmrl.matching.verdicts import VERDICTS_FILE, Bindings
from afmrl.matching.vetoes import check_vetoes, veto_keys
from afmrl.retrieval.colors import color_histograms
from afmrl.retrieval.interval import Interval
from afmrl.terminal import Stages, counted

PROGRESS_EVERY = 1024  # pairs


def match(
    offers: OffersToMatch,
    *,
    against: str | None = None,
    model: str | None = None,
    generator: str | None = None,
    labels: str | Path | Literal[False] | None = None,
    precision: float | None = None,
    confidence: float | None = None,
    recall: float | None = None,
    best_f1: bool = False,
    threshold: float | None = None,
    previous: str | Path | None = None,
    verdicts: str | Path | Literal[False] | None = None,
    veto: Collection[str] = (),
    no_veto: Collection[str] = (),
    out: str | Path | None = None,
    max_bad: float = MAX_BAD,
    options: ReadOptions | None = None,
    progress: bool = False,
    write_page: Callable[[MatchResult, Path], object] | None = None,
) -> MatchResult:
    """Find the offers that are the same product: groups, and pairs with their probability and reasons.

    Works on words, attributes and the colors of images; with a model on embeddings too. Offers and the pairs compared
    are in memory. The pairs listed, with their reasons, are in memory too where there is no `out`: about one an offer,
    of some kilobytes each. With `out` they are written one by one, and `result.pairs` reads them from there.

    Args:
        offers: a catalog's file; or offers or dicts in memory; or a pandas DataFrame, a row an offer; or an index,
            whose embeddings are then used.
        against: an index: only pairs of the offers with the index's are looked for.
        model: a trained embedder's folder, or any sentence-transformers model; embeddings are kept in OUT/embeddings.
        generator: with `model`: a generator's folder or address; the key attributes that it writes are compared too.
        labels: labeled pairs (JSONL of left, right, label, or a table) that the scores are fitted to and the threshold
            is chosen by. None: pairs.jsonl beside the catalog's file; without it `product_id` of the offers; without
            either a default threshold, whose precision was about 0.88 on public sets. False: no labels.
        precision, recall, best_f1, threshold: how the threshold is chosen, at most one of them. The share of true pairs
            among the labeled pairs called the same; the share of the true pairs that are found; the best F1 of both; or
            a probability, which needs no labels. None: the best groups of labeled products, or the default threshold
            where labels show none that is better.
        confidence: with `precision`: how sure it is to hold for pairs to come too, such as 0.95.
        previous: `out` of the last run: groups keep its ids, and changes.jsonl lists what was split and merged.
        verdicts: log of what reviewers said, as `afmrl serve` writes it. What they call the same is in one group and
            what they call different is not, whatever the model says. None: verdicts.jsonl in `out`, or else in
            `previous`. False: no verdicts.
        veto, no_veto: keys that veto in addition to the default ones, and keys that no longer do.
        out: folder for offers.csv, groups.jsonl, pairs.jsonl, the same two as .csv, summary.json, and skipped.jsonl
            where rows were skipped; None: nothing is written.
        max_bad: share of the rows that may be skipped, see `afmrl.data.bad_rows`.
        options: columns, delimiter and encoding, where a file does not say them itself; `fetch` fetches images that are
            addresses.
        progress: show bars.
        write_page: called with the result and `out` before summary.json says that all files are there.

    Raises:
        InputError: offers that cannot be read, unknown ids or labels of one kind only, a key to take away that does
            not veto, a precision that is not a share, arguments that do not go together.
    """
    aim = ThresholdAim(precision, recall, best_f1, threshold, confidence)
    if generator is not None and model is None:
        raise InputError("--generator needs --model: the embedder reads its key attributes")
    checked_max_bad(max_bad)
    vetoes = veto_keys(veto, no_veto)
    if out is not None:
        finish_update(Path(out))
    bindings = _bindings(verdicts, out, previous)
    ids_before = None if previous is None else _ids_before(Path(previous), out)
    stages = Stages(progress)
    path = Path(offers) if isinstance(offers, str | Path) else None
    if isinstance(offers, str | Path) and not is_catalog(offers):
        if model is not None or labels or against is not None:
            raise InputError(f"{offers} is an index: --model, --labels and --against need a catalog's file")
        source = offers_of_index(str(offers))
    else:
        with _folder(out) as folder:
            source = read_offers(
                offers,
                folder,
                model=model,
                generator=generator,
                max_bad=max_bad,
                options=options,
                progress=progress,
            )
        if against is not None:
            source = with_index(source, against)
        if labels is None and path is not None:
            labels = _pairs_beside(path)
    table, notes = prepared_table(source, stages)
    check_vetoes(table, veto)
    rows = None
    if labels:
        pairs, num_gone = read_known_pairs(labels, source.by_id, skipped_ids=source.skipped_ids)
        if num_gone:
            notes = [*notes, f"{counted(num_gone, 'labeled pair')} of offers that are not in the catalog left out"]
        rows = LabeledRows.of(pairs, {offer.id: row for row, offer in enumerate(source.offers)})
    matched = match_table(
        table,
        vetoes=vetoes,
        labels=rows,
        product_ids=labels is None,
        aim=aim,
        from_index=source.from_index,
        stages=stages,
        bindings=bindings,
    )
    matched.notes.extend(source.notes + notes)
    request = {
        "catalog": None if path is None else shown_address(str(offers)),
        "against": against and shown_address(against),
        "model": model,
        "generator": generator and shown_address(generator),
        "labels_from": _labels_from(labels, rows, matched, path),
        "asked": dict(aim.asked),
        "previous": None if previous is None else str(previous),
        "verdicts": None if bindings is None else bindings.summary({offer.id for offer in table.offers}),
    }
    out = None if out is None else Path(out)
    return match_result(
        matched,
        request,
        out,
        skipped=source.skipped,
        previous=ids_before,
        verdicts=[] if bindings is None else bindings.as_rows(),
        stages=stages,
        write_page=write_page,
    )


def match_result(
    matched: MatchedTable,
    request: dict[str, Any],
    out: Path | None,
    *,
    skipped: Sequence[SkippedRow] = (),
    previous: Mapping[str, str] | None = None,
    verdicts: Sequence[Sequence[Any]] = (),
    stages: Stages | None = None,
    write_page: Callable[[MatchResult, Path], object] | None = None,
) -> MatchResult:
    """The groups and pairs of a matched table; with `out`, written there.

    Args:
        request: what was asked for; the summary begins with it.
        skipped: rows and images of the catalog that were left out.
        previous: the group's id of every offer of the last run.
        verdicts: those that bind, as `Bindings.as_rows` gives them.
        write_page: as in `match`.
    """
    stages = stages or Stages(False)
    groups, ids = matched.matched_groups(previous)
    offers = matched.scorer.table.offers
    by_offer = {offer.id: identifier for offer, identifier in zip(offers, ids, strict=True)}
    changes = None if previous is None else group_changes(_members(by_offer), previous)
    if out is not None:
        clear_output(out)
        (out / KEPT_FILE).unlink(missing_ok=True)
        write_skipped(out, skipped)
        write_groups(out, groups)
    left, right = matched.listed_rows()
    collector, of_offers = (
        ReviewCollector(matched.threshold.logit),
        OfferCollector(matched.threshold.logit, matched.scorer.table.doubts()),
    )
    vetoes: Counter[str] = Counter()
    num_same = num_vetoed = num_kept_apart = 0
    kept: list[MatchedPair] = []
    with contextlib.ExitStack() as stack:
        pairs = kept if out is None else stack.enter_context(pair_files(out, by_offer))
        advance = stack.enter_context(stages("explaining pairs", len(left)))
        for number, (pair, alike) in enumerate(matched.explained(left, right), 1):
            pairs.append(pair)
            collector.see(pair, alike)
            of_offers.see(pair, alike)
            vetoes.update(pair.veto)
            num_same += pair.same
            num_vetoed += bool(pair.veto)
            num_kept_apart += pair.reasons.kept_apart
            if number % PROGRESS_EVERY == 0:
                advance(PROGRESS_EVERY)
    sizes = [len(group.offers) for group in groups]
    kept_offers = of_offers.offers(offers, groups, ids)
    if matched.from_index is not None:  # of an index, the offers that are in a group of one that is not
        alone = ~np.isin(np.arange(len(offers)), np.concatenate([np.empty(0, int), *matched.group_rows]))
        left_out = matched.from_index & alone
        kept_offers = [of for of, is_out in zip(kept_offers, left_out, strict=True) if not is_out]
    summary = {
        "format": FORMAT,
        "version": VERSION,
        **request,
        "offers": len(offers),
        "pairs_compared": len(matched.left),
        "pairs_listed": len(left),
        "pairs_same": num_same,
        "pairs_vetoed": num_vetoed,
        "vetoes": dict(vetoes.most_common()),
        "pairs_kept_apart": num_kept_apart,
        "offers_to_review": sum(of.needs_review for of in kept_offers),
        "groups": len(groups),
        "offers_in_groups": sum(sizes),
        "largest_group": max(sizes, default=1),
        "changes": None if changes is None else changes.counts,
        "threshold": _threshold(matched),
        "labels": _labels(matched.labeled),
        "model_of_pairs": matched.scorer.model.as_dict(),
        "notes": matched.notes,
    }
    review = collector.review(groups)
    if out is None:
        return MatchResult(groups, kept, summary, review, kept_offers)
    write_offers(out, kept_offers)
    write_changes(out, changes)
    if matched.from_index is None and not matched.scorer.table.dense:
        KeptMatch.of(matched, ids, verdicts).write(out)
    result = MatchResult(groups, WrittenPairs(out, offers, len(left)), summary, review, kept_offers, out)
    if write_page is not None:
        write_page(result, out)
    write_summary(out, summary)
    return result


def _members(by_offer: Mapping[str, str]) -> dict[str, list[str]]:
    """Group's id → ids of its offers."""
    members: dict[str, list[str]] = {}
    for offer, group in by_offer.items():
        members.setdefault(group, []).append(offer)
    return members


def prepared_table(source: MatchSource, stages: Stages) -> tuple[OfferTable, list[str]]:
    """The table of offers with images' colors and embeddings, and what has to be said of it."""
    with stages("reading offers", len(source.offers)) as advance:
        table = offer_table(source.offers, source.generated, progress=advance)
    table.dense = source.dense
    unreadable: list[tuple[str, str]] = []
    if any(offer.image for offer in table.offers):
        with stages("colors of images", len(source.offers)) as advance:
            table.colors = color_histograms(table.offers, unreadable=unreadable, progress=advance)
    if not unreadable:
        return table, table.notes
    identifier, reason = unreadable[0]
    return table, [
        *table.notes,
        f"{len(unreadable)} images cannot be read and are left out, first: offer {identifier}: {reason}",
    ]


@contextlib.contextmanager
def _folder(out: str | Path | None) -> Iterator[Path]:
    """Where embeddings are kept: in `out`, or nowhere."""
    if out is not None:
        yield Path(out)
        return
    with tempfile.TemporaryDirectory(prefix="afmrl-match-") as folder:
        yield Path(folder)


def _pairs_beside(catalog: Path) -> Path | None:
    """The labeled pairs in a catalog's folder."""
    path = catalog.parent / PAIRS_FILE
    return path if path.is_file() else None


def _ids_before(previous: Path, out: str | Path | None) -> dict[str, str]:
    """The group's id of every offer of the last run; read before `out`, which may be the same folder, changes."""
    is_other = previous.is_dir() and (out is None or previous.resolve() != Path(out).resolve())
    with one_writer(previous) if is_other else contextlib.nullcontext():  # an update may be at work there
        if previous.is_dir():
            finish_update(previous)
        return read_group_ids(previous)


def _bindings(
    verdicts: str | Path | Literal[False] | None, out: str | Path | None, previous: str | Path | None
) -> Bindings | None:
    """What the verdicts say that were given, or that are in the folder of the match or of the last run."""
    if verdicts is False:
        return None
    if verdicts is not None:
        return Bindings.read(verdicts)
    found = (Path(folder) / VERDICTS_FILE for folder in (out, previous) if folder is not None)
    return next((Bindings.read(path) for path in found if path.is_file()), None)


def _labels_from(
    labels: str | Path | Literal[False] | None, rows: LabeledRows | None, matched: MatchedTable, catalog: Path | None
) -> str | None:
    """Which labels were used, in words; None: none."""
    if matched.labeled is None:
        return None
    if rows is not None:
        return f"{counted(len(rows.left), 'pair')} of {labels}"
    num_labeled = sum(bool(offer.product_id) for offer in matched.scorer.table.offers)
    return f"product_id of {counted(num_labeled, 'offer')} in {catalog.name if catalog else 'the catalog'}"


def _threshold(matched: MatchedTable) -> dict[str, Any]:
    threshold = matched.threshold
    probability = float(matched.scorer.model.probabilities(np.array([threshold.logit]))[0])
    return {"score": round(threshold.logit, 4), "probability": round(probability, 4), "from": threshold.origin}


def _labels(result: LabeledResult | None) -> dict[str, Any] | None:
    if result is None:
        return None
    return {
        "train_pairs": result.num_train,
        "validation_pairs": result.num_validation,
        "model": "fitted" if result.groups.is_fitted else "default",
        "groups_on_validation": {
            "bcubed_f1": round(result.groups.bcubed_f1, 4),
            "bcubed_f1_without_labels": round(result.groups.default_bcubed_f1, 4),
        },
        "measured_on": result.measured_on,
        "precision": _share(result.precision),
        "recall": _share(result.recall),
        "curve": [_point(result, point) for point in result.curve],
        "chosen": _point(result, result.chosen),
        "reliability": [
            {"from": row.low, "to": row.high, "pairs": row.num_pairs,
             "mean_probability": round(row.mean_probability, 4), "share_same": asdict(row.share_same)}
            for row in result.reliability
        ],
    }  # fmt: skip


def _point(result: LabeledResult, point: CurvePoint) -> dict[str, Any]:
    """A point of the curve of precision and recall, as summary.json keeps it."""
    probability = float(result.model.probabilities(np.array([point.logit]))[0])
    return {
        "score": round(point.logit, 4),
        "probability": round(probability, 4),
        "precision": _share(point.precision),
        "recall": _share(point.recall),
        "found": point.num_found,
    }


def _share(interval: Interval) -> dict[str, float | None]:
    """An interval as summary.json keeps it; a share of nothing is None."""
    return {name: round(of, 4) if math.isfinite(of) else None for name, of in asdict(interval).items()}
