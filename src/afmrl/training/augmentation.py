"""Augmentation: a training offer's image and title as they might also have been, for catalogs of few offers."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import numpy as np

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.attributes.words import tokenize
from afmrl.data.images import open_image
from afmrl.data.offer import Offer
from afmrl.files import content_hash
from afmrl.training.config import Augmentation

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_TURN = 25  # degrees
SYLLABLES = tuple(c + v for c in "bcdfghjklmnprstvwz" for v in ("a", "e", "i", "o", "u", "an", "er", "il", "on"))


def is_active(config: Augmentation) -> bool:
    """Whether anything is changed at all."""
    return config != type(config)(smallest_crop=config.smallest_crop)


def augment(
    offer: Offer,
    target: KeyAttributes,
    config: Augmentation,
    seeds: tuple[int, ...],
    *,
    batch_seeds: tuple[int, ...],
    made_image: Any = None,
) -> tuple[Offer, Any]:
    """An offer with its title changed, and its changed image; the same again for the same seeds.

    Args:
        target: its words are hidden by `hide_values` and never renamed.
        seeds: of what this offer alone goes through.
        batch_seeds: of the invented words.
        made_image: what stands for the image, changed already; None: the offer's own is opened and changed.
    """
    rng = np.random.default_rng(seeds)
    hidden = rng.random() < config.hide_values
    kept = rng.random(64) >= config.word_dropout
    image = made_image
    if image is None and offer.image:
        image = changed_image(open_image(offer.image), config, rng)
    values = {token for _, value in target for token in tokenize(value)}
    words = [
        word for word, keep in zip(offer.title.split(), np.resize(kept, len(offer.title.split())), strict=True) if keep
    ]
    if image is not None and hidden:
        words = _without(words, values)
    if config.rename:
        words = [_renamed(word, values, config.rename, batch_seeds) for word in words]
    return dataclasses.replace(offer, title=" ".join(words)), image


def _without(words: list[str], values: Collection[str]) -> list[str]:
    left = [word for word in words if not (set(tokenize(word)) & set(values))]
    if left:
        left[-1] = left[-1].rstrip(",;:-|/")
    return [word for word in left if word]


def _renamed(word: str, values: Collection[str], share: float, seeds: tuple[int, ...]) -> str:
    plain = word.casefold().strip(".,;:|()")
    if not plain or plain in values:
        return word
    rng = np.random.default_rng(int(content_hash(repr((seeds, plain)))[:16], 16))
    if rng.random() >= share:
        return word
    invented = "".join(rng.choice(SYLLABLES, size=int(rng.integers(1, 5))))
    return re.sub(re.escape(plain), invented, word.casefold())


def _as_another_camera(image: Image, config: Augmentation, rng: np.random.Generator) -> Image:
    """Contrast, saturation, tint, turn, blur and cover, each as its share asks."""
    from PIL import Image, ImageEnhance, ImageFilter

    signs, draws = 2 * rng.random(8) - 1, rng.random(8)
    if config.contrast:
        image = ImageEnhance.Contrast(image).enhance(1 + config.contrast * signs[0])
        image = ImageEnhance.Color(image).enhance(1 + config.contrast * signs[1])
    if config.tint:
        factors = 1 + config.tint * signs[2:5]
        image = Image.fromarray(np.clip(np.asarray(image) * factors, 0, 255).astype(np.uint8))
    if draws[0] < config.rotate:
        mean = tuple(int(value) for value in np.asarray(image).reshape(-1, 3).mean(axis=0))
        image = image.rotate(MAX_TURN * float(signs[5]), Image.Resampling.BILINEAR, fillcolor=mean)
    if draws[1] < config.blur:
        image = image.filter(ImageFilter.GaussianBlur(float(draws[2]) * max(image.size) / 60))
    if draws[3] < config.erase:
        width, height = (max(1, round(side * draw / 2)) for side, draw in zip(image.size, draws[4:6], strict=True))
        corner = round((image.width - width) * draws[6]), round((image.height - height) * draws[7])
        image = image.copy()
        image.paste((128, 128, 128), (*corner, corner[0] + width, corner[1] + height))
    return image


def changed_image(image: Image, config: Augmentation, rng: np.random.Generator) -> Image:
    """An image as it might also have been taken."""
    from PIL import ImageEnhance, ImageOps

    draws = rng.random(8)
    if draws[0] < config.crop:
        share = config.smallest_crop + (1 - config.smallest_crop) * draws[1]
        width, height = max(1, round(image.width * share)), max(1, round(image.height * share))
        left, top = round((image.width - width) * draws[2]), round((image.height - height) * draws[3])
        image = image.crop((left, top, left + width, top + height))
    if config.mirror and draws[4] < 0.5:
        image = ImageOps.mirror(image)
    if config.light:
        image = ImageEnhance.Brightness(image).enhance(1 + config.light * (2 * draws[5] - 1))
    return _as_another_camera(image, config, rng)
