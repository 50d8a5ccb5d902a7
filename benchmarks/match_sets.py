"""The labelled sets of `match.py`, as tables to match."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from afmrl.evaluation.pairs import LabelledPair, read_pairs
from afmrl.matching.pictures import colour_histograms
from afmrl.matching.table import OfferTable, offer_table
from afmrl.offers import Offer, read_catalogue

SETS = ("wdc_products", "abt_buy", "amazon_google", "magento_luma")
Encode = Callable[[list[Offer]], np.ndarray]


@dataclass
class LabelledSet:
    """Offers of some splits of one set, as one catalogue."""

    name: str
    table: OfferTable
    products: np.ndarray
    """(N,) product numbers."""
    splits: list[str]
    pairs: list[LabelledPair]
    """Labelled pairs of offers that are both here."""

    @property
    def rows(self) -> dict[str, int]:
        """Row by id."""
        return {offer.id: row for row, offer in enumerate(self.table.offers)}

    @property
    def num_true_pairs(self) -> int:
        """Pairs of one product."""
        sizes = np.bincount(self.products)
        return int((sizes * (sizes - 1) // 2).sum())


def load_set(data: Path, name: str, splits: Collection[str] | None = None, encode: Encode | None = None) -> LabelledSet:
    """A set, or the offers of some of its splits alone."""
    folder = data / name
    catalogue = read_catalogue(folder / "products.jsonl")
    offers = [o for o in catalogue.offers if splits is None or o.extra["split"] in splits]
    offers.sort(key=lambda offer: offer.id)
    table = offer_table(offers)
    table.colours, _ = colour_histograms(offers)
    if encode is not None:
        table.dense = {"fused": encode(offers)}
    products = np.unique([offer.product_id for offer in offers], return_inverse=True)[1]
    pairs: list[LabelledPair] = []
    if (folder / "pairs.jsonl").is_file():
        here = {offer.id for offer in offers}
        pairs = [p for p in read_pairs(folder / "pairs.jsonl", catalogue.by_id) if {p.left.id, p.right.id} <= here]
    return LabelledSet(name, table, products, [str(o.extra["split"]) for o in offers], pairs)


def write_json(path: Path, content: object) -> None:
    """Results, atomically."""
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    temporary.replace(path)
