"""`afmrl dataset`: the public sets, what to download for one, and its conversion to a catalog."""

from __future__ import annotations

from pathlib import Path

from afmrl.data.catalog import read_catalog
from afmrl.errors import InputError
from afmrl.public_sets.convert import Conversion, convert
from afmrl.public_sets.leaks import LeakReport, cell, check_leaks
from afmrl.public_sets.registry import PUBLISHED, published
from afmrl.public_sets.split import FRACTIONS, SplitReport, split_catalog
from afmrl.terminal import output_console

SHOWN = 5


def convert_dataset(
    name: str | None = None,
    folder: Path | None = None,
    *,
    out: Path | None = None,
    max_bad: float = 0.01,
    images: bool = True,
    check_images: bool = True,
) -> Conversion | None:
    """List the sets (no name), say what to download (a name), or convert a downloaded folder (name, folder, out).

    Raises:
        InputError: no such set, no output folder, or a folder that is not the set's.
    """
    if name is None:
        print_datasets()
        return None
    dataset = published(name)
    if folder is None:
        print(describe(dataset.name))
        return None
    if out is None:
        raise InputError(f"dataset {dataset.name}: say where to write the catalog: --out DIR")
    result = convert(dataset, folder, out, max_bad=max_bad, check_images=check_images, images=images)
    print_conversion(dataset.title, result)
    return result


def print_datasets() -> None:
    """A table of the sets: name, what, size, license."""
    from rich.table import Table

    table = Table(title="Public sets", show_lines=True)
    table.add_column("name", no_wrap=True)
    for column in ("what", "size as published", "license"):
        table.add_column(column)
    for dataset in PUBLISHED:
        table.add_row(dataset.name, dataset.what, dataset.size, dataset.license)
    output_console().print(table)
    print("afmrl dataset NAME says what to download; afmrl dataset NAME FOLDER --out DIR writes DIR/catalog.jsonl")


def describe(name: str) -> str:
    """What to download for a set, where, and under which license.

    >>> print(describe("shopee").splitlines()[0])
    Shopee, Price Match Guarantee (Kaggle): marketplace postings, ...

    Raises:
        InputError: no such set.
    """
    dataset = published(name)
    return f"""\
{dataset.title}: {dataset.what}
Size:     {dataset.size}
License:  {dataset.license}
Homepage: {dataset.homepage}
Cite:     {dataset.citation}

{dataset.download}

Then: afmrl dataset {dataset.name} FOLDER --out DIR
File layout known from: {dataset.layout_source}"""


def print_conversion(title: str, result: Conversion) -> None:
    """Counts, notes, the first rows that were left out, and the files."""
    print(f"{title}: {result.offers:,} offers, {result.with_image:,} with an image, {result.products:,} products")
    for (split, role), count in sorted(result.by_split.items()):
        print(f"  split {split or '–':10} role {role or '–':8} {count:>12,}")
    if result.pairs:
        print(f"  {result.pairs:,} labeled pairs")
    if result.matches:
        print(f"  {result.matches:,} matches of queries with several products")
    for note in result.notes:
        print(f"  note: {note}")
    if result.skipped:
        print(f"{len(result.skipped):,} rows were left out or kept without their image:")
        for row in result.skipped[:SHOWN]:
            print(f"  {row}")
        if len(result.skipped) > SHOWN:
            print(f"  … all of them in {next(path for path in result.files if path.name == 'skipped.jsonl')}")
    print("   ".join(str(path) for path in result.files))


def split_dataset(
    file: Path,
    *,
    out: Path,
    by: str = "product_id",
    train: float = FRACTIONS["train"],
    val: float = FRACTIONS["val"],
    test: float = FRACTIONS["test"],
    seed: int = 0,
    join_images: bool = False,
    near: bool = True,
    max_bad: float = 0.01,
) -> SplitReport:
    """`afmrl dataset split`: deal a catalog out by product or family, check it for leaks, write it.

    Raises:
        InputError: see `split_catalog`.
    """
    report = split_catalog(
        file,
        out,
        by=by,
        fractions={"train": train, "val": val, "test": test},
        seed=seed,
        join_images=join_images,
        near=near,
        max_bad=max_bad,
    )
    print(f"{report.groups:,} groups by {by}, the largest of {report.largest_group:,} offers")
    for split, count in report.counts.items():
        print(f"  {split:10} {count:>12,}")
    print_leaks(report.leaks)
    if report.skipped:
        print(
            f"{len(report.skipped)} rows of {file} could not be read and are left out, the first: {report.skipped[0]}"
        )
    print(out)
    return report


def check_dataset(
    file: Path, *, column: str = "split", by: str = "product_id", shared: str = "", near: bool = True
) -> LeakReport:
    """`afmrl dataset check`: refuse a catalog whose splits share a product or an image.

    Raises:
        InputError: see `check_leaks`.
    """
    offers = read_catalog(file).offers
    report = check_leaks(offers, column=column, by=by, shared=[name for name in shared.split(",") if name], near=near)
    for split, count in report.offers.items():
        print(f"  {split:10} {count:>12,}")
    left_out = sum(not cell(offer, column) for offer in offers)
    if left_out:
        print(f"{left_out:,} offers without a split were not checked")
    print_leaks(report)
    return report


def print_leaks(report: LeakReport) -> None:
    """What the leak check saw."""
    unnamed = "no offer has a product_id: products were not compared"
    print(f"no {report.by} stands in two splits" if report.by else unnamed)
    print(f"none of {report.images:,} images stands in two splits")
    if report.near_identical:
        print(f"warning: {len(report.near_identical):,} images are nearly identical to one of another split:")
        for left, right in report.near_identical[:SHOWN]:
            print(f"  {left}   {right}")
