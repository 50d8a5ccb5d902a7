"""Colors of the offers' images: what can be compared of images without a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from afmrl.data.offer import Offer
from afmrl.errors import InputError
from afmrl.retrieval.colors import COLORS, color_histogram


def color_histograms(
    offers: Sequence[Offer], *, progress: Callable[[int], None] | None = None
) -> tuple[np.ndarray | None, list[tuple[str, str]]]:
    """Unit color histograms; an image that many offers show is read once, one that cannot be read counts as none.

    Shape:
        returns (N, 216) float32, zeros without an image, or None where no offer has one; (offer id, reason) of the
        images that cannot be read.
    """
    if not any(offer.image for offer in offers):
        return None, []
    histograms = np.zeros((len(offers), COLORS), dtype=np.float32)
    first: dict[str, int] = {}
    unreadable: list[tuple[str, str]] = []
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
            histograms[row] = color_histogram(offer)
        except (InputError, OSError) as error:
            unreadable.append((offer.id, str(error)))
    return histograms, unreadable
