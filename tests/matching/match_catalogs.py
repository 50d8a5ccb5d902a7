"""Catalogs and labeled pairs that the tests of matching share."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from afmrl.data.offer import Offer
from afmrl.data.pairs import LabeledPair
from afmrl.matching.candidates import candidate_pairs
from afmrl.matching.table import OfferTable, offer_table


def table_of(*titles: str) -> OfferTable:
    return offer_table([Offer(f"{number:03}", title) for number, title in enumerate(titles)])


def catalog(seed: int = 0, families: int = 30) -> tuple[list[Offer], dict[str, str]]:
    """Siblings that differ in model, color or size; two or three offers each."""
    draw = np.random.default_rng(seed)
    offers, products = [], {}
    for family in range(families):
        brand = f"brand{family % 7}"
        series = "".join(chr(97 + i) for i in draw.integers(26, size=6))
        for sibling in range(3):
            model = f"{series[:2]}{1000 + 10 * family + sibling}"
            for number in range(int(draw.integers(2, 4))):
                words = [brand, series, "cordless drill", model, ["red", "blue", "green"][sibling]]
                if number:
                    words = [words[i] for i in draw.permutation(5)] + ["new"][: number - 1]
                identifier = f"{draw.integers(10**9)}-{family}-{sibling}-{number}"
                offers.append(Offer(identifier, " ".join(words)))
                products[identifier] = f"{family}-{sibling}"
    return offers, products


def labeled(split: str = "", families: int = 25) -> tuple[list[Offer], list[LabeledPair]]:
    offers, products = catalog(seed=4, families=families)
    table = offer_table(sorted(offers, key=lambda offer: offer.id))
    left, right = candidate_pairs(table)
    names = ("train", "train", "valid", "test")
    pairs = [
        LabeledPair(
            table.offers[a], table.offers[b], products[table.offers[a].id] == products[table.offers[b].id],
            split or names[number % 4] if split != "-" else "",
        )
        for number, (a, b) in enumerate(zip(left.tolist(), right.tolist(), strict=True))
    ]  # fmt: skip
    return offers, pairs


def index_of(folder: Path, offers: list[Offer]) -> None:
    from afmrl.attributes.key_attributes import KeyAttributes
    from afmrl.index.address import open_index
    from afmrl.index.backend import Rows

    rows = np.random.default_rng(0).normal(size=(len(offers), 8)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    settings = {"model": {"path": "m", "fingerprint": "f"}, "dtype": "f16"}
    ids = [offer.id for offer in offers]
    with open_index(str(folder), create=True, dimension=8, settings=settings) as index:
        index.upsert(Rows(ids, rows, offers, [KeyAttributes()] * len(offers), ["f"] * len(offers)))
