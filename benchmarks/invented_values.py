"""Training offers with invented words and numbers in title and targets, so that recalling known values does not help.

An augmentation of SFT that gained nothing on the tiny default (distillation.py).
"""

from __future__ import annotations

import dataclasses
import re

import numpy as np

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.attributes.missing import says_nothing
from afmrl.attributes.words import normalize
from afmrl.data.offer import Offer
from afmrl.training.augmentation import SYLLABLES

INVENTED_OF_ALL = 0.5
"""Share of an offer's values that are invented, where any are: the known ones beside them say what is what."""
_WORD_OR_NUMBER = re.compile(r"\d+|[^\W\d_]{3,}")


def draws_with_invented_values(
    offers: list[Offer], targets: list[KeyAttributes], share: float, num_draws: int, seed: int = 0
) -> tuple[list[Offer], list[KeyAttributes]]:
    """`num_draws` draws of offers and targets, in turn, `share` of them with invented values."""
    drawn = [
        with_invented_values(offers[draw % len(offers)], targets[draw % len(offers)], share, (seed, draw))
        for draw in range(num_draws)
    ]
    return [offer for offer, _ in drawn], [target for _, target in drawn]


def with_invented_values(
    offer: Offer, target: KeyAttributes, share: float, seeds: tuple[int, ...]
) -> tuple[Offer, KeyAttributes]:
    """Offer and target with invented values, for `share` of the offers; as they are for the others.

    Numbers take other digits and words of three letters or more other syllables; what stands in several values is
    replaced alike, and values that the title does not hold stay.
    """
    rng = np.random.default_rng(seeds)
    if rng.random() >= share:
        return offer, target
    title = normalize(offer.title)
    invented: dict[str, str] = {}

    def other(match: re.Match[str]) -> str:
        word = match[0]
        if word not in invented:
            if word.isdigit():
                invented[word] = "".join(str(digit) for digit in rng.integers(0, 10, len(word)))
            else:
                drawn = ""
                while says_nothing(drawn, identifier=True):  # "na" would be no value
                    drawn = "".join(rng.choice(SYLLABLES, size=int(rng.integers(1, 4))))
                invented[word] = drawn
        return invented[word]

    for _, value in target:
        if re.search(rf"(?<!\w){re.escape(value)}(?!\w)", title) and rng.random() < INVENTED_OF_ALL:
            _WORD_OR_NUMBER.sub(other, value)
    # the same everywhere, so that title and target still say the same
    title, *values = (
        _WORD_OR_NUMBER.sub(lambda match: invented.get(match[0], match[0]), text)
        for text in (title, *(value for _, value in target))
    )
    changed = [(key, value) for (key, _), value in zip(target, values, strict=True)]
    return dataclasses.replace(offer, title=title), KeyAttributes.of(changed)
