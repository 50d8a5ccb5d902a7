"""Deal a catalogue out to train, val and test by product or family."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from afmrl.datasets.leaks import LeakReport, cell, check_leaks, joined_by_picture, split_counts
from afmrl.errors import InputError
from afmrl.offers import Offer, SkippedRow, read_catalogue, write_catalogue

FRACTIONS = {"train": 0.7, "val": 0.1, "test": 0.2}


@dataclass(frozen=True)
class SplitReport:
    """A catalogue that was dealt out."""

    groups: int
    """Products or families (joined ones count once)."""
    largest_group: int
    """Offers of the largest."""
    counts: Mapping[str, int]
    """Offers a split."""
    leaks: LeakReport
    skipped: tuple[SkippedRow, ...]


def split_catalogue(
    file: str | Path,
    out: str | Path,
    *,
    by: str = "product_id",
    fractions: Mapping[str, float] = FRACTIONS,
    seed: int = 0,
    join_pictures: bool = False,
    near: bool = True,
    max_bad: float = 0.01,
) -> SplitReport:
    """Write a catalogue's offers with a column `split`, dealt out by product or family and checked for leaks.

    Args:
        file: catalogue (.jsonl, .csv, .tsv, .parquet).
        out: JSONL file to write; pictures stay where they are.
        by: column whose values are kept together: `product_id`, or a family of siblings (`style_id`, `family_id`).
        join_pictures: also keep offers together that share a picture file.
        near: also count near-identical pictures across the splits.

    Raises:
        InputError: no such column, an empty split, or the same picture in two splits.
    """
    if Path(out).suffix.lower() not in (".jsonl", ".ndjson"):
        raise InputError(f"{out}: the split catalogue is written as .jsonl")
    catalogue = read_catalogue(file, max_bad=max_bad)
    groups = product_groups(catalogue.offers, by, join_pictures=join_pictures)
    offers = deal_out(catalogue.offers, groups, fractions, seed)
    leaks = check_leaks(offers, near=near)
    write_catalogue(out, offers)
    sizes = np.unique(groups, return_counts=True)[1]
    return SplitReport(len(sizes), int(sizes.max()), split_counts(offers), leaks, catalogue.skipped)


def product_groups(offers: Sequence[Offer], by: str = "product_id", *, join_pictures: bool = False) -> list[str]:
    """For each offer, the name of the group that must stay in one split.

    An offer without a value in `by` is grouped by its product, and without that stands alone. Offers of one product
    stay together even where `by` differs, and so do, if asked, those that share a picture's bytes.

    Raises:
        InputError: no offer has a value in the column `by`.
    """
    from scipy.cluster.hierarchy import DisjointSet

    if not any(cell(offer, by) for offer in offers):
        raise InputError(f"split by {by!r}: no offer has a value in this column")
    own = [cell(offer, by) or offer.product_id or offer.id for offer in offers]
    same: Any = DisjointSet(range(len(offers)))
    first: dict[tuple[str, str], int] = {}
    for row, offer in enumerate(offers):
        for kind, value in (("group", own[row]), ("product", offer.product_id)):
            if value:
                same.merge(first.setdefault((kind, value), row), row)
    for left, right in joined_by_picture(offers) if join_pictures else ():
        same.merge(left, right)
    return [own[same[row]] for row in range(len(offers))]


def deal_out(
    offers: Sequence[Offer], groups: Sequence[str], fractions: Mapping[str, float] = FRACTIONS, seed: int = 0
) -> list[Offer]:
    """The offers with `split` set, group by group. Fractions are of the groups, not of the offers.

    The same seed deals the same groups out in the same way, whatever the order of the offers, and as a recipe's
    `catalogue.split.by` does.

    Raises:
        InputError: fractions that are none, or a split that would be empty.
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
