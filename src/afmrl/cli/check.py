"""`afmrl check`."""

from __future__ import annotations

from pathlib import Path

from afmrl.cli.reading import Reading, read_options


def check(catalog: Path, *, reading: Reading | None = None) -> None:
    """Say what is read of a catalog: its format, its columns, every kind of fault, and the first offers.

    Nothing is written. Exit code 1: some rows are left out.

    Parameters
    ----------
    catalog
        Offers: .jsonl, .csv, .tsv, .parquet, .json, .xml, and what shops export: Google Merchant, Shopify, WooCommerce,
        schema.org.
    """
    from afmrl.data.catalog import read_report

    report = read_report(catalog, read_options(reading))
    print(report.report())
    if report.left_out or not report.offers:
        raise SystemExit(1)
