"""Labels of real sets never make the groups worse, by the plain call."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from afmrl.data.catalog import read_catalog
from afmrl.matching.match import match
from conftest import shared_data


def bcubed_f1(catalog: Path, labels: bool | None) -> float:
    result = match(catalog, labels=False if labels is False else None)
    products = {offer.id: offer.product_id for offer in read_catalog(catalog).offers}
    group = np.unique([of.group_id for of in result.offers], return_inverse=True)[1]
    product = np.unique([products[of.offer.id] for of in result.offers], return_inverse=True)[1]
    _, both, shared = np.unique(group * (product.max() + 1) + product, return_inverse=True, return_counts=True)
    precision = (shared[both] / np.bincount(group)[group]).mean()
    recall = (shared[both] / np.bincount(product)[product]).mean()
    return float(2 * precision * recall / (precision + recall))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["amazon_google", "abt_buy", "magento_luma"])
def test_groups_with_labels_are_no_worse_than_without(name: str) -> None:
    catalog = shared_data(name) / "products.jsonl"
    assert bcubed_f1(catalog, None) >= bcubed_f1(catalog, False)
