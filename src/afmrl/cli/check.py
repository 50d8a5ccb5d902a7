"""`afmrl check`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from afmrl.cli.reading import Reading, read_options
from afmrl.cli.summary import Ended, Summary
from afmrl.data.bad_rows import MAX_BAD
from afmrl.errors import InputError, printable

if TYPE_CHECKING:
    from afmrl.data.damage import Checked


def check(source: Path, *, max_bad: float = MAX_BAD, reading: Reading | None = None) -> Summary:
    """Say what is read of a catalog: its format, its columns, every kind of fault, and the first offers. Of a folder
    that a command wrote: what each thing in it is, and whether it is as it was written.

    Nothing is written. Exit code 0: every command takes the file, without the rows that are listed; a folder is sound.
    1: every command refuses the file, because more rows than --max-bad allows cannot be used, or all; something in a
    folder is damaged, missing or not complete. 2: it cannot be read at all, or is no folder of ours.

    Parameters
    ----------
    source
        Offers: .jsonl, .csv, .tsv, .parquet, .json, .xml, and what shops export: Google Merchant, Shopify, WooCommerce,
        schema.org. Or a folder: of embed, attributes, index, match, evaluate, run or a public set, a model, or the
        cache of fetched images.
    max_bad
        Share of rows that may be left out, counted of at least 20; 0 allows none, and no image that cannot be read.
    """
    from afmrl.data.bad_rows import checked_max_bad, too_many_bad
    from afmrl.data.catalog import read_report

    checked_max_bad(max_bad)
    if source.is_dir():
        return _check_folder(source)
    options = read_options(reading)
    report = read_report(source, options)
    if options.fetch and report.offers:
        from afmrl.bulk.images.catalog import catalog_with_images

        read = catalog_with_images(source, max_bad=1.0, options=options, progress=True)
        report = read.reading or report
    print(report.report())
    left_out = sum(report.left_out.values())
    if not report.offers or too_many_bad(left_out, report.rows, max_bad, lost_images=len(report.lost_images)):
        raise Ended(1, {**report.as_dict(), "is_taken": False})
    return {**report.as_dict(), "is_taken": True}


def _check_folder(folder: Path) -> Summary:
    checks = {marker: of for marker, of in _CHECKS.items() if any(folder.glob(marker))}
    if not checks:
        raise InputError(
            f"{folder}: is no folder that a command of afmrl wrote: there is no {', '.join(_NAMED)} in it; give one, "
            "or a catalog's file"
        )
    found = list(next(iter(checks.values()))(folder))
    for one in found:
        print(printable(f"DAMAGED  {one.what}: {one.fault}" if one.fault else f"sound    {one.what}"))
    faults = [one for one in found if one.fault]
    print(
        f"{folder}: {len(faults):,} of {len(found):,} things are not as they should be"
        if faults
        else f"{folder}: sound"
    )
    summary: Summary = {"folder": folder, "is_sound": not faults, "things": found}
    if faults:
        raise Ended(1, summary)
    return summary


def _bulk(folder: Path) -> Iterator[Checked]:
    from afmrl.bulk.folder import check_bulk_folder

    return check_bulk_folder(folder)


def _index(folder: Path) -> Iterator[Checked]:
    from afmrl.index.local.index import check_index

    return check_index(folder)


def _match(folder: Path) -> Iterator[Checked]:
    from afmrl.matching.output import check_match_folder

    yield from check_match_folder(folder)
    for kept in sorted(folder.glob("embeddings*/manifest.json")):
        yield from _below(kept.parent, _bulk(kept.parent))


def _run(folder: Path) -> Iterator[Checked]:
    from afmrl.training.run_files import check_run

    return check_run(folder)


def _evaluation(folder: Path) -> Iterator[Checked]:
    from afmrl.evaluation.result import check_evaluation

    return check_evaluation(folder)


def _model(folder: Path) -> Iterator[Checked]:
    from afmrl.embedder.weights import check_weights

    return check_weights(folder)


def _public_set(folder: Path) -> Iterator[Checked]:
    from afmrl.public_sets.convert import check_converted

    return check_converted(folder)


def _images(folder: Path) -> Iterator[Checked]:
    from afmrl.bulk.images.cache import check_cache

    return check_cache(folder)


def _below(folder: Path, found: Iterator[Checked]) -> Iterator[Checked]:
    from dataclasses import replace

    return (replace(one, what=f"{folder.name}/{one.what}") for one in found)


_CHECKS: dict[str, Callable[[Path], Iterator[Checked]]] = {
    "manifest.json": _bulk,
    "index.json": _index,
    "summary.json": _match,
    "groups.jsonl": _match,
    "run.json": _run,
    "stages": _run,
    "metrics.json": _evaluation,
    "queries.jsonl": _evaluation,
    "config.json": _model,
    "modules.json": _model,
    "catalog.jsonl": _public_set,
    "[0-9a-f][0-9a-f]/" + "[0-9a-f]" * 32: _images,
}
"""What is in a folder of ours -> how it is checked; the first that is there says what the folder is."""
_NAMED = [marker for marker in _CHECKS if "[" not in marker]
