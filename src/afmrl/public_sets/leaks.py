"""Leaks between splits: the same product, the same image, a near-identical image."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from afmrl.data.offer import Offer
from afmrl.errors import InputError
from afmrl.files import file_hash
from afmrl.public_sets.image_signature import near_identical, signatures

SHOWN = 5


@dataclass(frozen=True)
class LeakReport:
    """A split without exact leaks; what remains is worth a look, for siblings may look alike."""

    by: str
    """The column whose values were compared; "" where none was."""
    offers: Mapping[str, int]
    """Offers a split."""
    images: int
    """Images that were compared by their bytes."""
    near_identical: tuple[tuple[str, str], ...]
    """Offer ids of different splits whose images are nearly identical: one pair an offer of the later split."""


def check_leaks(
    offers: Sequence[Offer],
    *,
    column: str = "split",
    by: str = "product_id",
    shared: Collection[str] = (),
    near: bool = True,
) -> LeakReport:
    """Refuse a catalog whose splits share a product or an image.

    Args:
        column: names each offer's split; offers without one are not compared.
        by: column whose values may not be in two splits (`product_id`, `family_id`); "": images alone are compared.
        shared: splits that belong to all others, as a gallery does.
        near: also look for near-identical images (decodes every image, about 5 ms each).

    Raises:
        InputError: a leak, or no two splits to compare.
    """
    of_split: dict[str, list[Offer]] = defaultdict(list)
    if by and by != "product_id" and not any(offer.column(by) for offer in offers):
        raise InputError(f"leak check: no offer has a value in the column {by!r}; name another one with --by")
    known = {offer.column(column) for offer in offers}
    if unknown := [split for split in shared if split not in known]:
        raise InputError(f"leak check: --shared {unknown[0]!r}: no offer has it in the column {column!r}")
    for offer in offers:
        split = offer.column(column)
        if split and split not in shared:
            of_split[split].append(offer)
    if len(of_split) < 2:
        raise InputError(
            f"leak check: the column {column!r} names {len(of_split)} split(s) ({', '.join(of_split) or 'none'}), at "
            "least two are needed; deal offers out with `afmrl dataset split`"
        )
    if by:
        _refuse(shared_products(of_split, by), by, "split by product or family (`afmrl dataset split --by`)")
    _refuse(
        shared_images(of_split),
        "image",
        "keep offers with one image together (`afmrl dataset split --join-images`), or remove one of them",
    )
    pairs = tuple(_near_identical(of_split)) if near else ()
    counts = {split: len(rows) for split, rows in of_split.items()}
    by = by if any(offer.column(by) for offer in offers) else ""  # what was not there was not compared
    return LeakReport(by, counts, sum(bool(o.image) for rows in of_split.values() for o in rows), pairs)


@dataclass(frozen=True)
class _Leak:
    value: str
    ids: tuple[str, str]
    splits: tuple[str, str]


def shared_products(of_split: Mapping[str, Sequence[Offer]], by: str) -> list[_Leak]:
    """Values of the column `by` that are in two splits."""
    first: dict[str, tuple[str, str]] = {}
    leaks: dict[str, _Leak] = {}
    for split, offers in of_split.items():
        for offer in offers:
            value = offer.column(by)
            if value:
                before, identifier = first.setdefault(value, (split, offer.id))
                if before != split:
                    leaks.setdefault(value, _Leak(repr(value), (identifier, offer.id), (before, split)))
    return list(leaks.values())


def shared_images(of_split: Mapping[str, Sequence[Offer]]) -> list[_Leak]:
    """Images of equal bytes in two splits; only files of equal size are read."""
    split_of_size: dict[int, set[str]] = defaultdict(set)
    sizes: dict[str, int] = {}
    for split, offer in _with_image(of_split):
        sizes.setdefault(offer.image, _size(offer))
        split_of_size[sizes[offer.image]].add(split)
    first: dict[str, tuple[str, Offer]] = {}
    hashes: dict[str, str] = {}
    leaks: dict[str, _Leak] = {}
    for split, offer in _with_image(of_split):
        if len(split_of_size[sizes[offer.image]]) < 2:
            continue
        if offer.image not in hashes:
            hashes[offer.image] = file_hash(offer.image)
        digest = hashes[offer.image]
        before, other = first.setdefault(digest, (split, offer))
        if before != split:
            leaks.setdefault(digest, _Leak(Path(offer.image).name, (other.id, offer.id), (before, split)))
    return list(leaks.values())


def _near_identical(of_split: Mapping[str, Sequence[Offer]]) -> Iterator[tuple[str, str]]:
    names = list(of_split)
    with_image = {name: [offer for offer in of_split[name] if offer.image] for name in names}
    known = {name: signatures([o.image for o in with_image[name]], description=f"images of {name}") for name in names}
    for place, later in enumerate(names):
        found: dict[int, tuple[str, int]] = {}
        for earlier in names[:place]:
            for row, other in near_identical(known[later], known[earlier]):
                found.setdefault(row, (earlier, other))
        for row, (earlier, other) in sorted(found.items()):
            yield with_image[earlier][other].id, with_image[later][row].id


def _with_image(of_split: Mapping[str, Sequence[Offer]]) -> Iterator[tuple[str, Offer]]:
    for split, offers in of_split.items():
        for offer in offers:
            if offer.image:
                yield split, offer


def _size(offer: Offer) -> int:
    try:
        return Path(offer.image).stat().st_size
    except OSError as error:
        raise InputError(f"offer {offer.id!r}: image {offer.image}: {error.strerror or error}") from error


def _refuse(leaks: Sequence[_Leak], what: str, remedy: str) -> None:
    if not leaks:
        return
    listed = "\n".join(
        f"  {leak.value}: offer {leak.ids[0]!r} in {leak.splits[0]}, offer {leak.ids[1]!r} in {leak.splits[1]}"
        for leak in leaks[:SHOWN]
    )
    more = f"\n  … and {len(leaks) - SHOWN:,} more" if len(leaks) > SHOWN else ""
    raise InputError(f"leak: the same {what} is in two splits {len(leaks):,} times; {remedy}:\n{listed}{more}")


def joined_by_image(offers: Sequence[Offer]) -> list[tuple[int, int]]:
    """Rows of offers whose images have equal bytes, each with the first such row."""
    rows_of_size: dict[int, list[int]] = defaultdict(list)
    for row, offer in enumerate(offers):
        if offer.image:
            rows_of_size[_size(offer)].append(row)
    first: dict[str, int] = {}
    joined = []
    for rows in rows_of_size.values():
        if len(rows) > 1:
            for row in rows:
                before = first.setdefault(file_hash(offers[row].image), row)
                if before != row:
                    joined.append((before, row))
    return joined


def split_counts(offers: Sequence[Offer], column: str = "split") -> dict[str, int]:
    """Offers a split, in the order of their first row."""
    names = [offer.column(column) for offer in offers]
    values, places, counts = np.unique(names, return_index=True, return_counts=True)
    return {str(values[i]): int(counts[i]) for i in np.argsort(places)}
