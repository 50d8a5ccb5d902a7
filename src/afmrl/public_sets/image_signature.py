"""What tells near-identical images: a perceptual hash, and a thumbnail that confirms it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from afmrl.data.images import open_image
from afmrl.terminal import track

HASH_SIDE, REDUCED_SIDE, THUMBNAIL_SIDE = 8, 32, 8
PROGRESS_FROM = 1_000  # images
MAX_DISTANCE = 3
"""Bits of 64. With 4 bands of 16 bits, two hashes at most 3 apart agree in at least one band.

Measured on 300 shop and phone photographs: the same image as JPEG of quality 30, or at half its size, is 2 apart at
most; one cropped by 2 % on each side only in a third of the cases 3 or less, so crops are mostly not seen.
"""
MAX_COLOR_DIFFERENCE = 4.0
"""Mean difference of thumbnails, of 255: on the same photographs 2.4 at most. The hash alone takes a garment in another
color for the same image."""


def image_signature(path: str | Path) -> tuple[np.uint64, np.ndarray]:
    """Perceptual hash (pHash: signs of the lowest 8 × 8 cosine coefficients about their median) and thumbnail.

    Shape:
        returns uint64 and (8, 8, 3) uint8.

    Raises:
        InputError: an image that cannot be read.
    """
    from PIL import Image
    from scipy.fft import dctn

    image = open_image(path, max_side=4 * REDUCED_SIDE)
    grey = image.convert("L").resize((REDUCED_SIDE, REDUCED_SIDE), Image.Resampling.LANCZOS)
    low = dctn(np.asarray(grey, dtype=np.float64), norm="ortho")[:HASH_SIDE, :HASH_SIDE].ravel()
    bits = low > np.median(low[1:])  # the first coefficient is the mean brightness
    thumbnail = image.resize((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.BOX)
    return np.packbits(bits).view(np.uint64)[0], np.asarray(thumbnail, dtype=np.uint8)


def near_identical(left: tuple[np.ndarray, np.ndarray], right: tuple[np.ndarray, np.ndarray]) -> list[tuple[int, int]]:
    """For each image of `left` that has one, a near-identical image of `right`: their rows.

    Shape:
        each side: hashes (N,) uint64 and thumbnails (N, 8, 8, 3) uint8.
    """
    bands_left, bands_right = (hashes.view(np.uint16).reshape(-1, 4) for hashes, _ in (left, right))
    found: dict[int, int] = {}
    for band in range(4):
        order = np.argsort(bands_right[:, band], kind="stable")
        values = bands_right[order, band]
        starts = np.searchsorted(values, bands_left[:, band], side="left")
        stops = np.searchsorted(values, bands_left[:, band], side="right")
        for row in np.flatnonzero(stops > starts):
            if int(row) in found:
                continue
            candidates = order[starts[row] : stops[row]]
            match = _first_match(left, right, int(row), candidates)
            if match is not None:
                found[int(row)] = match
    return sorted(found.items())


def _first_match(
    left: tuple[np.ndarray, np.ndarray], right: tuple[np.ndarray, np.ndarray], row: int, candidates: np.ndarray
) -> int | None:
    near = candidates[np.bitwise_count(right[0][candidates] ^ left[0][row]) <= MAX_DISTANCE]
    if not len(near):
        return None
    differences = np.abs(right[1][near].astype(np.int16) - left[1][row].astype(np.int16)).mean(axis=(1, 2, 3))
    best = int(np.argmin(differences))
    return int(near[best]) if differences[best] <= MAX_COLOR_DIFFERENCE else None


def signatures(paths: Sequence[str | Path], *, description: str = "") -> tuple[np.ndarray, np.ndarray]:
    """Signatures of images, with a bar where there are many.

    Shape:
        returns (N,) uint64 and (N, 8, 8, 3) uint8.
    """
    hashes = np.empty(len(paths), dtype=np.uint64)
    thumbnails = np.empty((len(paths), THUMBNAIL_SIDE, THUMBNAIL_SIDE, 3), dtype=np.uint8)
    for row, path in enumerate(track(paths, description, unit="images", show=len(paths) >= PROGRESS_FROM)):
        hashes[row], thumbnails[row] = image_signature(path)
    return hashes, thumbnails
