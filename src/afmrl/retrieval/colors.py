"""Color histograms of offers' images: what can be compared of images without a model."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np

from afmrl.data.color_bins import BACKGROUND, BINS, COLORS
from afmrl.data.images import open_image
from afmrl.data.offer import Offer
from afmrl.errors import InputError

log = logging.getLogger(__name__)


def color_histogram(offer: Offer) -> np.ndarray:
    """(216,) float32 unit vector of an offer's image; zeros where it has none.

    Raises:
        InputError: the image cannot be opened.
    """
    if not offer.image:
        return np.zeros(COLORS, dtype=np.float32)
    pixels = np.asarray(open_image(offer.image, max_side=224)).reshape(-1, 3).astype(np.int64)
    product = pixels[pixels.min(axis=1) < BACKGROUND]
    pixels = (product if len(product) else pixels) * BINS // 256
    counts = np.bincount(pixels @ np.array([BINS * BINS, BINS, 1]), minlength=COLORS).astype(np.float32)
    return np.asarray(counts / np.linalg.norm(counts), dtype=np.float32)


def color_histograms(
    offers: Sequence[Offer],
    *,
    unreadable: list[tuple[str, str]] | None = None,
    progress: Callable[[int], None] | None = None,
    turn: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> np.ndarray:
    """Color histograms of offers' images; an image that several offers show is opened once.

    Args:
        unreadable: gets (offer id, reason) of each image that cannot be opened, which then counts as none; None: such
            an image is refused.
        progress: told of each offer.
        turn: each image is opened within one.

    Shape:
        returns (N, 216) float32.

    Raises:
        InputError: an image cannot be opened, without `unreadable`.
    """
    histograms = np.zeros((len(offers), COLORS), dtype=np.float32)
    first: dict[str, int] = {}
    for row, offer in enumerate(offers):
        if progress is not None:
            progress(1)
        if not offer.image:
            continue
        if offer.image in first:
            histograms[row] = histograms[first[offer.image]]
            continue
        first[offer.image] = row
        try:
            with turn():
                histograms[row] = color_histogram(offer)
        except (InputError, OSError) as error:
            if unreadable is None:
                raise
            unreadable.append((offer.id, str(error)))
    return histograms


def readable_color_histograms(
    offers: Sequence[Offer], *, turn: Callable[[], AbstractContextManager[None]] = nullcontext
) -> np.ndarray:
    """Color histograms of offers' images; one that cannot be opened counts as none, and a warning says so.

    Args:
        turn: each image is opened within one.

    Shape:
        returns (N, 216) float32.
    """
    unreadable: list[tuple[str, str]] = []
    histograms = color_histograms(offers, unreadable=unreadable, turn=turn)
    if unreadable:
        log.warning("colors: %d images count as none, the first: %s", len(unreadable), unreadable[0][1])
    return histograms


def color_scores(queries: Sequence[Offer], gallery: Sequence[Offer]) -> np.ndarray:
    """(Q, N) float32 cosines of color histograms; 0 where an offer has no image."""
    return np.asarray(color_histograms(queries) @ color_histograms(gallery).T, dtype=np.float32)
