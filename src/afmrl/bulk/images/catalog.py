"""Catalogs whose images are addresses: fetched before the offers are used, where that is asked for."""

from __future__ import annotations

import dataclasses
import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from afmrl.bulk.images.cache import ImageCache
from afmrl.data.bad_rows import MAX_BAD
from afmrl.data.catalog import Catalog, open_catalog, read_catalog, refuse_bad
from afmrl.data.image_cache import cache_folder, is_address
from afmrl.data.images import verify_image
from afmrl.data.offer import Offer, SkippedRow
from afmrl.data.reading import ReadOptions
from afmrl.data.rows import CatalogRows
from afmrl.errors import InputError
from afmrl.terminal import track

FETCHING_THREADS = 32  # they wait for the network
_LOGGER = logging.getLogger("afmrl.reading")


def catalog_with_images(
    source: str | Path | CatalogRows | Catalog | Sequence[Offer],
    *,
    max_bad: float = MAX_BAD,
    options: ReadOptions | None = None,
    progress: bool = False,
) -> Catalog:
    """The catalog of a file or of offers at hand, its images fetched where `options.fetch` says so.

    An image that cannot be fetched costs its offer the image: the next one that the row names leads, and a row without
    a title is skipped if none is left.

    Args:
        max_bad, options: as in `read_catalog`.

    Raises:
        InputError: what `read_catalog` refuses.
    """
    if isinstance(source, CatalogRows):
        catalog = read_catalog(source, max_bad=max_bad)
    else:
        catalog = open_catalog(source, max_bad=max_bad, options=options)
    if not (options and options.fetch):
        return catalog
    with ImageCache() as cache:
        return fetch_images(catalog, cache, max_bad=max_bad, progress=progress)


def fetch_images(catalog: Catalog, cache: ImageCache, *, max_bad: float = MAX_BAD, progress: bool = False) -> Catalog:
    """The catalog with every leading image that is an address in the cache.

    The offers still name the addresses; what opens images finds them there.

    Raises:
        InputError: more than `max_bad` rows are left without title and image, or the folder cannot be written.
    """
    wanted = {offer.image: None for offer in catalog if is_address(offer.image)}
    if not wanted:
        return catalog
    faults = fetch_addresses(wanted, cache, progress=progress)
    offers: list[Offer] = []
    lost, skipped = list(catalog.lost_images), list(catalog.skipped)
    for offer in catalog:
        if offer.image not in faults:
            offers.append(offer)
            continue
        image, reasons = _first_readable(offer, faults, cache)
        row = catalog.row_numbers.get(offer.id, 0)
        if not image and not offer.title.strip():
            skipped.append(SkippedRow(catalog.path, row, "image", reasons[0], offer.id))
            continue
        lost += [SkippedRow(catalog.path, row, "image", reason, offer.id, "image") for reason in reasons]
        extra = dict(offer.extra)
        if isinstance(extra.get("images"), list):
            extra["images"] = [name for name in extra["images"] if name not in faults]
        offers.append(dataclasses.replace(offer, image=image, extra=extra))
    _announce(catalog.path, cache, faults)
    if catalog.reading is not None:
        reading = catalog.reading
        for left_out in skipped[len(catalog.skipped) :]:
            reading.skipped(left_out)
        reading.lost_images, reading.offers = lost, len(offers)
        refuse_bad(reading, skipped, max_bad)
    return dataclasses.replace(catalog, offers=tuple(offers), skipped=tuple(skipped), lost_images=tuple(lost))


def fetch_addresses(addresses: Iterable[str], cache: ImageCache, *, progress: bool = False) -> dict[str, str]:
    """Bring images into the cache; the reasons of those that cannot be fetched, by address.

    Raises:
        InputError: the folder cannot be written.
    """

    def fault(address: str) -> str:
        try:
            cache.keep(address)
        except InputError as error:
            if not str(error).startswith("image "):
                raise  # the folder's
            return str(error).removeprefix("image ")
        return ""

    addresses = list(addresses)
    with ThreadPoolExecutor(FETCHING_THREADS, thread_name_prefix="fetch") as threads:
        found = track(threads.map(fault, addresses), "fetching images", len(addresses), unit="images", show=progress)
        return {address: reason for address, reason in zip(addresses, found, strict=True) if reason}


def _first_readable(offer: Offer, faults: dict[str, str], cache: ImageCache) -> tuple[str, list[str]]:
    """The first image of an offer that can be read, and why those before it cannot."""
    reasons = [faults[offer.image]]
    others = [name for name in offer.extra.get("images") or () if isinstance(name, str) and name != offer.image]
    for name in others:
        try:
            if name in faults:
                raise InputError(faults[name])
            if is_address(name):
                cache.keep(name)
            else:
                verify_image(name)
        except InputError as error:
            faults[name] = str(error).removeprefix("image ")
            reasons.append(faults[name])
        else:
            return name, reasons
    return "", reasons


def _announce(path: str, cache: ImageCache, faults: dict[str, str]) -> None:
    line = f"{path}: {cache.num_fetched:,} images fetched, {cache.num_known:,} were in {cache_folder()}"
    if faults:
        kinds = Counter(SkippedRow(path, 0, "image", reason).kind for reason in faults.values())
        listed = ", ".join(f"{count:,} × {kind}" for kind, count in kinds.most_common())
        line += f", {len(faults):,} cannot be fetched: {listed}"
    _LOGGER.info(line)
