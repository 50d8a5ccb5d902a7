"""`afmrl match`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from afmrl.cli.reading import Reading, read_options
from afmrl.cli.summary import Summary
from afmrl.data.bad_rows import MAX_BAD, MAX_DELETED
from afmrl.errors import InputError
from afmrl.terminal import counted

if TYPE_CHECKING:
    from afmrl.matching.result import MatchResult
    from afmrl.matching.update import UpdateResult


def match(
    catalog: str | None = None,
    *,
    out: Path | None = None,
    update: Path | None = None,
    mirror: Annotated[bool, Parameter(negative=())] = False,
    max_deleted: float = MAX_DELETED,
    delete: Annotated[list[str] | None, Parameter(negative=())] = None,
    remove: Path | None = None,
    against: str | None = None,
    model: str | None = None,
    generator: str | None = None,
    labels: Path | None = None,
    no_labels: Annotated[bool, Parameter(negative=())] = False,
    precision: float | None = None,
    confidence: float | None = None,
    recall: float | None = None,
    best_f1: Annotated[bool, Parameter(negative=())] = False,
    threshold: float | None = None,
    previous: Path | None = None,
    verdicts: Path | None = None,
    no_verdicts: Annotated[bool, Parameter(negative=())] = False,
    veto: Annotated[list[str] | None, Parameter(negative=())] = None,
    no_veto: Annotated[list[str] | None, Parameter(negative=())] = None,
    max_bad: float = MAX_BAD,
    reading: Reading | None = None,
) -> Summary:
    """Which offers are the same product: groups, and every pair with its probability and reasons.

    Works on words, attributes and the colors of images; with a model on embeddings too.

    Parameters
    ----------
    catalog
        Offers: .jsonl, .csv, .tsv, .parquet; or an index, whose embeddings are then used.
    out
        Folder for offers.csv, groups.jsonl, pairs.jsonl, the same two as .csv, summary.json and report.html.
    update
        In place of --out: the folder of an earlier match, whose groups the catalog's offers enter, new ones and changed
        ones; the others stay. It costs what changed. events.jsonl in it says what became of offers and groups.
    mirror
        With --update: the catalog is the whole one, and offers that are not in it are deleted.
    max_deleted
        With --mirror: share of the offers that may be deleted in one go; more are refused. Twenty always may go.
    delete
        With --update: id of an offer to delete, may be repeated.
    remove
        With --update: file of ids to delete, one a line, as they stand.
    against
        An index: only pairs of the catalog's offers with the index's are looked for.
    model
        A trained embedder's folder, or any sentence-transformers model; embeddings are kept in OUT/embeddings.
    generator
        With --model: a generator's folder or address; the key attributes that it writes are compared too.
    labels
        Labeled pairs (JSONL of left, right, label, or a table) that scores and threshold are learned from. By default
        pairs.jsonl beside the catalog; without it `product_id` of its offers. Without any of them a default threshold
        is used: its precision was about 0.88 on public sets.
    no_labels
        Use neither pairs.jsonl nor `product_id`.
    precision
        Choose the threshold by the labels: this share of the pairs called the same is. By default the threshold of the
        best groups is taken, and the default one where no other is better.
    confidence
        With --precision: how sure the precision is to hold for pairs to come that reach the threshold, such as 0.95.
        Without it the precision is that of the labels, and pairs to come have less about as often as more.
    recall
        Choose the threshold by the labels: this share of the true pairs is found.
    best_f1
        Choose the threshold by the labels: the highest F1 of pairs.
    threshold
        Call two offers the same from this probability on; needs no labels.
    previous
        OUT of the last run: groups keep their ids, and changes.jsonl lists splits, merges, new and vanished groups.
    verdicts
        Verdicts of reviewers, as `afmrl serve` writes them: offers that they call the same are in one group and those
        that they call different are not, whatever the model says. By default verdicts.jsonl in --out, or else in
        --previous.
    no_verdicts
        Use no verdicts.
    veto
        An attribute whose conflict keeps two offers apart, in addition to the default ones; may be repeated.
    no_veto
        A default veto to leave out; may be repeated.
    max_bad
        Share of rows that may be skipped as unreadable.
    """
    from afmrl.files import one_writer
    from afmrl.matching.match import match as match_offers
    from afmrl.report.match_page import write_match_page
    from afmrl.terminal import quiet_libraries

    if no_verdicts and verdicts is not None:
        raise InputError("--verdicts and --no-verdicts exclude each other; give one")
    if update is not None:
        of_match: dict[str, Any] = {
            "--out": out, "--against": against, "--model": model, "--generator": generator, "--labels": labels,
            "--no-labels": no_labels, "--precision": precision, "--confidence": confidence, "--recall": recall,
            "--best-f1": best_f1, "--threshold": threshold, "--previous": previous, "--veto": veto,
            "--no-veto": no_veto,
        }  # fmt: skip
        if named := [name for name, value in of_match.items() if value not in (None, False)]:
            raise InputError(f"match: {named[0]} is of a whole match; --update keeps what that match has, leave it out")
        chosen: Path | Literal[False] | None = False if no_verdicts else verdicts
        return _update(update, catalog, mirror, max_deleted, delete or [], remove, chosen, max_bad, reading)
    if named := [name for name, value in (("--mirror", mirror), ("--delete", delete), ("--remove", remove)) if value]:
        raise InputError(f"match: {named[0]} needs --update MATCHES")
    if catalog is None or out is None:
        raise InputError("match: give CATALOG --out DIR, or --update MATCHES with what changes")
    if model is not None:
        quiet_libraries()
    if no_labels and labels is not None:
        raise InputError("--labels and --no-labels exclude each other; give one")
    with one_writer(out):
        result = match_offers(
            catalog,
            out=out,
            against=against,
            model=model,
            generator=generator,
            labels=False if no_labels else labels,
            precision=precision,
            confidence=confidence,
            recall=recall,
            best_f1=best_f1,
            threshold=threshold,
            previous=previous,
            verdicts=False if no_verdicts else verdicts,
            veto=veto or (),
            no_veto=no_veto or (),
            max_bad=max_bad,
            options=read_options(reading),
            progress=True,
            write_page=write_match_page,
        )
    print_match(result, out)
    return {"out": out, **result.summary}


def _update(
    matches: Path,
    catalog: str | None,
    mirror: bool,
    max_deleted: float,
    delete: list[str],
    remove: Path | None,
    verdicts: Path | Literal[False] | None,
    max_bad: float,
    reading: Reading | None,
) -> Summary:
    from afmrl.index.update import read_ids
    from afmrl.matching.update import update_match
    from afmrl.report.match_page import write_match_page

    ids = [*delete, *(read_ids(remove) if remove else ())]
    done = update_match(
        matches,
        catalog,
        mirror=mirror,
        max_deleted=max_deleted,
        delete=ids,
        verdicts=verdicts,
        max_bad=max_bad,
        options=read_options(reading),
        progress=True,
        write_page=write_match_page,
    )
    print_update(done)
    return {"out": matches, "changed": done.changed, **done.summary}


def print_update(done: UpdateResult) -> None:
    """What an update did, in a few lines."""
    from afmrl.matching.verdicts import bindings_in_words

    summary, out = done.summary, done.out
    update, changes = summary["update"], summary["changes"]
    print(
        f"{counted(update['added'], 'offer')} added, {update['changed']:,} changed, {update['deleted']:,} deleted, "
        f"{update['unchanged']:,} given as before."
    )
    if update["missing"]:
        print(f"{counted(update['missing'], 'id')} to delete not found, first: {update['first_missing'][0]!r}")
    for note in update["notes"]:
        print(f"Note: {note}")
    if not done.changed:
        print(f"Nothing to do: {out} stays as it is.")
        return
    print(
        f"{counted(summary['groups'], 'group')} of {summary['offers_in_groups']:,} of "
        f"{counted(summary['offers'], 'offer')}; {changes['unchanged']:,} as before, {changes['split']:,} split, "
        f"{changes['merge']:,} merged, {changes['new']:,} new, {changes['vanished']:,} vanished."
    )
    if summary["verdicts"] is not None:
        print(f"Verdicts: {bindings_in_words(summary['verdicts'])}; --no-verdicts leaves them out.")
    first = counted(update["first_run"], "offer")
    print(f"Threshold, pair model, brands and word frequencies are those of the first run, of {first}.")
    print(
        f"Events: {out / 'events.jsonl'}   offers: {out / 'offers.csv'}   report of what changed: {out / 'report.html'}"
    )


def print_match(result: MatchResult, out: Path) -> None:
    """What was found, in a few lines."""
    from afmrl.matching.verdicts import bindings_in_words

    summary: dict[str, Any] = result.summary
    threshold, labels = summary["threshold"], summary["labels"]
    print(
        f"{counted(summary['groups'], 'group')} of {summary['offers_in_groups']:,} of "
        f"{counted(summary['offers'], 'offer')}, the largest of {summary['largest_group']:,}; "
        f"{counted(summary['pairs_compared'], 'pair')} compared, {summary['pairs_same']:,} in one group."
    )
    if labels is not None:
        print(f"Labels: {summary['labels_from']}; --no-labels leaves them out.")
    if summary["verdicts"] is not None:
        print(f"Verdicts: {bindings_in_words(summary['verdicts'])}; --no-verdicts leaves them out.")
    print(f"Same product from probability {threshold['probability']:.3f}: {threshold['from']}.")
    if labels is not None:
        print(
            f"On {labels['measured_on']}: precision {_share(labels['precision'])}, recall {_share(labels['recall'])}."
        )
    if summary["changes"] is not None:
        changes = summary["changes"]
        print(
            f"Since {summary['previous']}: {counted(changes['unchanged'], 'group')} as before, "
            f"{changes['split']:,} split, {changes['merge']:,} merged, {changes['new']:,} new, "
            f"{changes['vanished']:,} vanished; see {out / 'changes.jsonl'}"
        )
    if summary["offers_to_review"]:
        print(f"{counted(summary['offers_to_review'], 'offer')} to review: needs_review in {out / 'offers.csv'}")
    for note in summary["notes"]:
        print(f"Note: {note}")
    print(f"Report: {out / 'report.html'}   offers: {out / 'offers.csv'}   pairs: {out / 'pairs.jsonl'}")


def _share(interval: dict[str, float | None]) -> str:
    """A share with its interval."""
    if interval["mean"] is None:
        return "unknown"
    return f"{interval['mean']:.3f} [{interval['low']:.3f}, {interval['high']:.3f}]"
