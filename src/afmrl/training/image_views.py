"""Features of offers' images, computed once: what a frozen image tower sees never changes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from afmrl.data.images import open_image
from afmrl.data.offer import Offer
from afmrl.files import atomic_path, file_hash, fingerprint
from afmrl.terminal import track
from afmrl.training.augmentation import changed_image, is_active
from afmrl.training.config import Augmentation

BATCH = 16  # images at a time
NUM_VIEWS = 4
"""Versions of each image that a training draws from."""


class ImageViews:
    """One or several versions of each offer's image, as features.

    Args:
        path: what `write_image_views` wrote of the same offers; it stays on disk and is read as it is drawn from.
        offers: the offers.
    """

    def __init__(self, path: Path, offers: Sequence[Offer]) -> None:
        self._features = np.load(path, mmap_mode="r")
        number = {image: place for place, image in enumerate(_images(offers))}
        self._place = [number.get(offer.image, -1) for offer in offers]

    def draw(self, row: int, seeds: tuple[int, ...]) -> np.ndarray | None:
        """(F,) features of one version of an offer's image; None where it has no image."""
        if (image := self._place[row]) < 0:
            return None
        view = int(np.random.default_rng(seeds).integers(len(self._features)))
        return np.asarray(self._features[view, image], dtype=np.float32)


def write_image_views(
    towers: Any,
    offers: Sequence[Offer],
    folder: Path,
    *,
    num_views: int = 1,
    augmentation: Augmentation | None = None,
    seed: int = 0,
    made_by: str = "",
) -> Path:
    """Compute features of all images of offers and write them to a file, unless it is there.

    Args:
        towers: the model's first module, a `TwoTowers`.
        folder: of the file.
        num_views: versions of each image, the first one as it is; without augmentation there is one.
        augmentation: of the other versions.
        made_by: names the towers' weights: features of others are not taken.

    Raises:
        InputError: an image that cannot be opened.

    Shape:
        the file holds (V, U, F) float16 of U different images.
    """
    augmentation = augmentation or Augmentation()
    num_views = num_views if is_active(augmentation) else 1
    images = _images(offers)
    made_of = fingerprint(made_by, [file_hash(image) for image in images], augmentation, num_views, seed)
    path = folder / f"image_views-{made_of[:16]}.npy"
    if path.is_file():
        return path
    with atomic_path(path) as temporary:
        shape = num_views, len(images), towers.image_dimension
        found = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float16, shape=shape)
        for start in track(range(0, len(images), BATCH), "image features"):
            opened = [open_image(image) for image in images[start : start + BATCH]]
            for view in range(num_views):
                if view:
                    draws = [np.random.default_rng((seed, start + i, view)) for i in range(len(opened))]
                    versions = [changed_image(one, augmentation, draw) for one, draw in zip(opened, draws, strict=True)]
                else:
                    versions = opened
                found[view, start : start + len(opened)] = towers.image_features(versions)
        found.flush()
        del found
    return path


def remove_image_views(folder: Path) -> None:
    """Delete the features of a finished stage."""
    for path in folder.glob("image_views-*.npy"):
        path.unlink()


def _images(offers: Sequence[Offer]) -> list[str]:
    return list(dict.fromkeys(offer.image for offer in offers if offer.image))
