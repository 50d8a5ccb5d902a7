"""The labeled sets of `match.py`, as tables to match."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from afmrl.data.catalog import read_catalog
from afmrl.data.offer import Offer
from afmrl.data.pairs import LabeledPair, read_pairs
from afmrl.matching.table import OfferTable, offer_table
from afmrl.retrieval.colors import color_histograms

SETS = ("wdc_products", "abt_buy", "amazon_google", "magento_luma")
Encode = Callable[[list[Offer]], np.ndarray]


@dataclass
class LabeledSet:
    """Offers of some splits of one set, as one catalog."""

    name: str
    table: OfferTable
    products: np.ndarray
    """(N,) product numbers."""
    splits: list[str]
    pairs: list[LabeledPair]
    """Labeled pairs of offers that are both here."""

    @property
    def rows(self) -> dict[str, int]:
        """Row by id."""
        return {offer.id: row for row, offer in enumerate(self.table.offers)}

    @property
    def num_true_pairs(self) -> int:
        """Pairs of one product."""
        sizes = np.bincount(self.products)
        return int((sizes * (sizes - 1) // 2).sum())


def load_set(data: Path, name: str, splits: Collection[str] | None = None, encode: Encode | None = None) -> LabeledSet:
    """A set, or the offers of some of its splits alone."""
    folder = data / name
    catalog = read_catalog(folder / "products.jsonl")
    offers = [o for o in catalog.offers if splits is None or o.extra["split"] in splits]
    offers.sort(key=lambda offer: offer.id)
    table = offer_table(offers)
    if any(offer.image for offer in offers):
        table.colors = color_histograms(offers, unreadable=[])
    if encode is not None:
        table.dense = {"fused": encode(offers)}
    products = np.unique([offer.product_id for offer in offers], return_inverse=True)[1]
    pairs: list[LabeledPair] = []
    if (folder / "pairs.jsonl").is_file():
        here = {offer.id for offer in offers}
        pairs = [p for p in read_pairs(folder / "pairs.jsonl", catalog.by_id) if {p.left.id, p.right.id} <= here]
    return LabeledSet(name, table, products, [str(o.extra["split"]) for o in offers], pairs)
