"""CIT, cyclic iterative training: the reinforced generator writes new attributes, from which AGCL learns again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from afmrl.attributes.key_attributes import InvalidCompletion, KeyAttributes
from afmrl.data.offer import Offer
from afmrl.errors import InputError
from afmrl.generator.generator import AttributeGenerator
from afmrl.training.completions import kept_completions


@dataclass(frozen=True)
class Rewritten:
    """Attributes of all training offers, some of them new."""

    attributes: list[KeyAttributes]
    num_written: int
    num_changed: int
    num_invalid: int
    """Completions that cannot be read as key attributes; those offers keep what they had."""


def rows_to_rewrite(offers: Sequence[Offer], share: float, seed: int) -> list[int]:
    """A share of the offers, in order; those of one product together, since they are compared with each other.

    Raises:
        InputError: the share is not between 0 and 1.

    >>> rows_to_rewrite([Offer("a", product_id="1"), Offer("b", product_id="1"), Offer("c")], 1.0, seed=0)
    [0, 1, 2]
    """
    if not 0 <= share <= 1:
        raise InputError(f"cit.share: {share} is not a share; give 0 (none, the control) to 1 (all)")
    rows_by_product: dict[str, list[int]] = {}
    for row, offer in enumerate(offers):
        rows_by_product.setdefault(offer.product_id or f"\0{offer.id}", []).append(row)
    products = list(rows_by_product.values())
    wanted = round(share * len(offers))
    rows: list[int] = []
    for place in np.random.default_rng(seed).permutation(len(products)):
        if len(rows) >= wanted:
            break
        rows += products[place]
    return sorted(rows)


def rewrite(
    generator: AttributeGenerator,
    offers: Sequence[Offer],
    attributes: Sequence[KeyAttributes],
    rows: Sequence[int],
    folder: str | Path,
    *,
    max_new_tokens: int = 64,
    batch_size: int = 64,
) -> Rewritten:
    """The attributes with those of `rows` written by the generator, greedily.

    Args:
        folder: keeps the completions until all are there, for a run that is killed.

    Raises:
        InputError: not one of the completions is valid.
    """
    written = list(attributes)
    num_changed = num_invalid = 0
    completions = kept_completions(
        generator, [offers[row] for row in rows], folder, max_new_tokens=max_new_tokens, batch_size=batch_size
    )
    for row, (completion,) in zip(rows, completions, strict=True):
        try:
            written[row] = generator.read(completion, offers[row])
        except InvalidCompletion:
            num_invalid += 1
        num_changed += written[row] != attributes[row]
    if rows and num_invalid == len(rows):
        raise InputError(
            f"CIT: none of the generator's {len(rows)} completions is a list of key attributes, so there is nothing to "
            "learn from; look at the generator, or set cit.rounds=0"
        )
    return Rewritten(written, len(rows), num_changed, num_invalid)
