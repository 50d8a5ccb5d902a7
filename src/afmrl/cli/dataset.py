"""`afmrl dataset`: public sets as catalogs, splits by product or family, a check for leaks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from afmrl.cli.summary import Summary, plain, summarized
from afmrl.data.bad_rows import MAX_BAD, MAX_BAD_OF_A_SET
from afmrl.errors import InputError
from afmrl.terminal import counted, output_console

if TYPE_CHECKING:
    from afmrl.public_sets.base import PublicDataset
    from afmrl.public_sets.convert import Conversion
    from afmrl.public_sets.leaks import LeakReport

SHOWN = 5
dataset_app = App(name="dataset", help="Public data sets as catalogs; splits by product or family; a check for leaks.")


@dataset_app.default
@summarized
def dataset(
    name: str | None = None,
    folder: Path | None = None,
    *,
    out: Path | None = None,
    max_bad: float = MAX_BAD_OF_A_SET,
    images: bool = True,
    check_images: bool = True,
) -> Summary:
    """List the public sets; say what to download for one (NAME); write it as a catalog (NAME FOLDER --out DIR).

    Parameters
    ----------
    name
        A set, as `afmrl dataset` lists them.
    folder
        Folder of its downloaded files.
    out
        Folder for catalog.jsonl, and pairs.jsonl, qrels.tsv where the set has them.
    max_bad
        Share of rows that may be skipped as unreadable.
    images
        Name the images; --no-images writes the texts alone.
    check_images
        Read every image's header.
    """
    from afmrl.public_sets.convert import convert
    from afmrl.public_sets.registry import published

    if name is None:
        from afmrl.public_sets.registry import PUBLISHED

        print_datasets()
        return {"sets": [_about(one) for one in PUBLISHED]}
    chosen = published(name)
    if folder is None:
        print(description(chosen))
        return _about(chosen)
    if out is None:
        raise InputError(f"dataset {chosen.name}: say where to write the catalog: --out DIR")
    result = convert(chosen, folder, out, max_bad=max_bad, check_images=check_images, images=images)
    print_conversion(chosen.title, result)
    by_split = [{"split": of[0], "role": of[1], "offers": count} for of, count in sorted(result.by_split.items())]
    return {"set": chosen.name, **{name: of for name, of in plain(result).items() if name != "by_split"},
            "by_split": by_split}  # fmt: skip


def _about(dataset: PublicDataset) -> Summary:
    names = ("name", "title", "what", "size", "license", "homepage", "citation", "download")
    return {name: getattr(dataset, name) for name in names}


@dataset_app.command
@summarized
def split(
    file: Path,
    *,
    out: Path,
    by: str = "product_id",
    train: float = 0.7,
    val: float = 0.1,
    test: float = 0.2,
    seed: int = 0,
    join_images: bool = False,
    near: bool = True,
    max_bad: float = MAX_BAD,
) -> Summary:
    """Split a catalog by product (or family) into train, val and test, and check for leaks.

    Parameters
    ----------
    file
        The catalog.
    out
        The catalog with a column `split`.
    by
        Column whose equal values stay together: product_id, family_id, style_id, …
    train
        Share of the groups that the split `train` gets.
    val
        Share of the groups that the split `val` gets.
    test
        Share of the groups that the split `test` gets.
    seed
        Of the random deal.
    join_images
        Keep offers that share an image together, instead of refusing them.
    near
        Also look for nearly identical images; --no-near saves decoding them.
    max_bad
        Share of rows that may be skipped as unreadable.
    """
    from afmrl.data.offer import skipped_in_words
    from afmrl.public_sets.split import split_catalog

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
    for name, count in report.counts.items():
        print(f"  {name:10} {count:>12,}")
    print_leaks(report.leaks)
    if report.skipped:
        print(skipped_in_words(report.skipped))
    print(out)
    return {"out": out, "by": by, **plain(report)}


@dataset_app.command
@summarized
def contradictions(
    file: Path,
    *,
    out: Path,
    split: str | None = None,
    gallery_splits: Annotated[list[str] | None, Parameter(negative=())] = None,
    attributes: str = "attributes",
    max_bad: float = MAX_BAD,
) -> Summary:
    """Keep the queries beside a look-alike that differs in one key: color, size, memory, model, pack, ….

    `afmrl evaluate` on the new catalog then says how often a model finds the right one, by the key that differs.

    Parameters
    ----------
    file
        The catalog, with `product_id`.
    out
        The new catalog (.jsonl), with the columns `contradicts` and `contradicts_by`.
    split
        Queries of this split alone; "all" for every one. By default test, or val without it, or all.
    gallery_splits
        Splits whose offers are searched as well; "all" for every one.
    attributes
        Column of the attributes that are compared; titles are read too.
    max_bad
        Share of rows that may be skipped as unreadable.
    """
    from afmrl.data.offer import skipped_in_words
    from afmrl.evaluation.contradictions import write_contradictions

    report = write_contradictions(
        file, out, split=split, gallery_splits=gallery_splits or (), attributes=attributes, max_bad=max_bad
    )
    kept, gallery = sum(report.by_key.values()), counted(report.gallery, "gallery offer")
    print(
        f"{kept:,} of {report.queries:,} queries ({report.split}) have a look-alike that differs in one key; {gallery}"
    )
    for key, count in report.by_key.items():
        print(f"  {key:20} {count:>8,}")
    if report.skipped:
        print(skipped_in_words(report.skipped))
    print(f"{out}; afmrl evaluate --catalog {out} --model MODEL reports metrics by contradicted key")
    return {"out": out, **plain(report)}


@dataset_app.command
@summarized
def check(file: Path, *, column: str = "split", by: str = "product_id", shared: str = "", near: bool = True) -> Summary:
    """Refuse a catalog in which a product or an image is in two splits.

    Parameters
    ----------
    file
        The catalog.
    column
        Names the split of each offer.
    by
        Column whose values must not be in two splits.
    shared
        Splits that belong to all others, as a common gallery does; several with commas.
    near
        Also look for nearly identical images; --no-near saves decoding them.
    """
    from afmrl.data.catalog import read_catalog
    from afmrl.public_sets.leaks import check_leaks

    offers = read_catalog(file).offers
    report = check_leaks(offers, column=column, by=by, shared=[name for name in shared.split(",") if name], near=near)
    for name, count in report.offers.items():
        print(f"  {name:10} {count:>12,}")
    unnamed = sum(not offer.column(column) for offer in offers)
    if unnamed:
        print(f"{unnamed:,} offers without a split were not checked")
    print_leaks(report)
    return {"file": file, "offers_without_split": unnamed, **plain(report)}


def print_datasets() -> None:
    """A table of the sets: name, what, size, license."""
    from rich.table import Table

    from afmrl.public_sets.registry import PUBLISHED

    table = Table(title="Public sets", show_lines=True)
    table.add_column("name", no_wrap=True)
    for column in ("what", "size as published", "license"):
        table.add_column(column)
    for dataset in PUBLISHED:
        table.add_row(dataset.name, dataset.what, dataset.size, dataset.license)
    output_console().print(table)
    print("afmrl dataset NAME says what to download; afmrl dataset NAME FOLDER --out DIR writes DIR/catalog.jsonl")


def description(dataset: PublicDataset) -> str:
    """What to download for a set, where, and under which license."""
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


def print_leaks(report: LeakReport) -> None:
    """What the leak check found."""
    unnamed = "no offer has a product_id: products were not compared"
    print(f"no {report.by} is in two splits" if report.by else unnamed)
    print(f"none of {report.images:,} images is in two splits")
    if report.near_identical:
        print(f"warning: {len(report.near_identical):,} images are nearly identical to one of another split:")
        for left, right in report.near_identical[:SHOWN]:
            print(f"  {left}   {right}")
