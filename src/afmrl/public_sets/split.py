"""Deal a catalog out to train, val and test by product or family."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from afmrl.data.bad_rows import MAX_BAD
from afmrl.data.catalog import read_catalog, write_catalog
from afmrl.data.offer import Offer, SkippedRow
from afmrl.errors import InputError
from afmrl.public_sets.leaks import LeakReport, check_leaks, joined_by_image, split_counts

FRACTIONS = {"train": 0.7, "val": 0.1, "test": 0.2}


@dataclass(frozen=True)
class SplitReport:
    """A catalog that was dealt out."""

    groups: int
    """Products or families (joined ones count once)."""
    largest_group: int
    """Offers of the largest."""
    counts: Mapping[str, int]
    """Offers a split."""
    leaks: LeakReport
    skipped: tuple[SkippedRow, ...]


def split_catalog(
    file: str | Path,
    out: str | Path,
    *,
    by: str = "product_id",
    fractions: Mapping[str, float] = FRACTIONS,
    seed: int = 0,
    join_images: bool = False,
    near: bool = True,
    max_bad: float = MAX_BAD,
) -> SplitReport:
    """Write a catalog's offers with a column `split`, dealt out by product or family and checked for leaks.

    Args:
        file: catalog (.jsonl, .csv, .tsv, .parquet).
        out: JSONL file to write; images stay where they are.
        by: column whose values are kept together: `product_id`, or a family of siblings (`style_id`, `family_id`).
        join_images: also keep offers together that share an image file.
        near: also count near-identical images across the splits.

    Raises:
        InputError: no such column, an empty split, or the same image in two splits.
    """
    if Path(out).suffix.lower() not in (".jsonl", ".ndjson"):
        raise InputError(f"{out}: the split catalog is written as .jsonl")
    catalog = read_catalog(file, max_bad=max_bad)
    groups = product_groups(catalog.offers, by, join_images=join_images)
    offers = deal_out(catalog.offers, groups, fractions, seed)
    leaks = check_leaks(offers, near=near)
    write_catalog(out, offers)
    sizes = np.unique(groups, return_counts=True)[1]
    return SplitReport(len(sizes), int(sizes.max()), split_counts(offers), leaks, tuple(catalog.faults))


def product_groups(offers: Sequence[Offer], by: str = "product_id", *, join_images: bool = False) -> list[str]:
    """For each offer, the name of the group that must stay in one split.

    An offer without a value in `by` is grouped by its product, and without a product it is a group of its own.
    Offers of one product stay together even where `by` differs, and so do, if asked, those that share an image's bytes.

    Raises:
        InputError: no offer has a value in the column `by`.
    """
    from scipy.cluster.hierarchy import DisjointSet

    if not any(offer.column(by) for offer in offers):
        raise InputError(f"split by {by!r}: no offer has a value in this column")
    own = [offer.column(by) or offer.product_id or offer.id for offer in offers]
    same: Any = DisjointSet(range(len(offers)))
    first: dict[tuple[str, str], int] = {}
    for row, offer in enumerate(offers):
        for kind, value in (("group", own[row]), ("product", offer.product_id)):
            if value:
                same.merge(first.setdefault((kind, value), row), row)
    for left, right in joined_by_image(offers) if join_images else ():
        same.merge(left, right)
    return [own[same[row]] for row in range(len(offers))]


def deal_out(
    offers: Sequence[Offer], groups: Sequence[str], fractions: Mapping[str, float] = FRACTIONS, seed: int = 0
) -> list[Offer]:
    """The offers with `split` set, group by group. Fractions are of the groups, not of the offers.

    The same seed deals the same groups out in the same way, whatever the order of the offers, and as a recipe's
    `catalog.split.by` does.

    Raises:
        InputError: invalid fractions, or a split that would be empty.
    """
    if not fractions or min(fractions.values()) < 0 or not sum(fractions.values()):
        raise InputError(f"fractions {dict(fractions)}: shares of at least 0, not all of them 0")
    names = sorted(set(groups))
    order = np.random.default_rng(seed).permutation(len(names))
    splits = [split for split, share in fractions.items() if share > 0]
    bounds = np.cumsum([fractions[split] for split in splits])
    places = (np.arange(len(names)) + 0.5) / len(names) * bounds[-1]
    of_group = {names[int(g)]: splits[int(np.searchsorted(bounds, p))] for g, p in zip(order, places, strict=True)}
    if empty := set(splits) - set(of_group.values()):
        raise InputError(f"split: {len(names)} groups are too few, {sorted(empty)[0]!r} would be empty")
    return [
        dataclasses.replace(offer, extra={**offer.extra, "split": of_group[group]})
        for offer, group in zip(offers, groups, strict=True)
    ]
