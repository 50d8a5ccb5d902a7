"""`afmrl check`."""

from __future__ import annotations

from pathlib import Path

from afmrl.cli.reading import Reading, read_options
from afmrl.cli.summary import Ended, Summary
from afmrl.data.bad_rows import MAX_BAD


def check(catalog: Path, *, max_bad: float = MAX_BAD, reading: Reading | None = None) -> Summary:
    """Say what is read of a catalog: its format, its columns, every kind of fault, and the first offers.

    Nothing is written. Exit code 0: every command takes the file, without the rows that are listed. 1: every command
    refuses it, because more rows than --max-bad allows cannot be used, or all. 2: it cannot be read at all.

    Parameters
    ----------
    catalog
        Offers: .jsonl, .csv, .tsv, .parquet, .json, .xml, and what shops export: Google Merchant, Shopify, WooCommerce,
        schema.org.
    max_bad
        Share of rows that may be left out, counted of at least 20; 0 allows none, and no image that cannot be read.
    """
    from afmrl.data.bad_rows import checked_max_bad, too_many_bad
    from afmrl.data.catalog import read_report

    checked_max_bad(max_bad)
    options = read_options(reading)
    report = read_report(catalog, options)
    if options.fetch and report.offers:
        from afmrl.bulk.images.catalog import catalog_with_images

        read = catalog_with_images(catalog, max_bad=1.0, options=options, progress=True)
        report = read.reading or report
    print(report.report())
    left_out = sum(report.left_out.values())
    if not report.offers or too_many_bad(left_out, report.rows, max_bad, lost_images=len(report.lost_images)):
        raise Ended(1, {**report.as_dict(), "is_taken": False})
    return {**report.as_dict(), "is_taken": True}
