"""The public sets that `afmrl dataset` knows."""

from __future__ import annotations

from afmrl.datasets.amazon_berkeley_objects import AMAZON_BERKELEY_OBJECTS
from afmrl.datasets.grocery_store import GROCERY_STORE
from afmrl.datasets.m5product import M5PRODUCT
from afmrl.datasets.product1m import PRODUCT1M
from afmrl.datasets.public_dataset import PublicDataset
from afmrl.datasets.shopee import SHOPEE
from afmrl.datasets.stanford_online_products import STANFORD_ONLINE_PRODUCTS
from afmrl.datasets.two_shops import ABT_BUY, AMAZON_GOOGLE
from afmrl.datasets.wdc_products import WDC_PRODUCTS
from afmrl.errors import InputError

PUBLISHED = (
    M5PRODUCT,
    PRODUCT1M,
    STANFORD_ONLINE_PRODUCTS,
    AMAZON_BERKELEY_OBJECTS,
    SHOPEE,
    WDC_PRODUCTS,
    ABT_BUY,
    AMAZON_GOOGLE,
    GROCERY_STORE,
)


def published(name: str) -> PublicDataset:
    """The set of this name.

    Raises:
        InputError: there is none.
    """
    for dataset in PUBLISHED:
        if dataset.name == name.lower().replace("_", "-"):
            return dataset
    raise InputError(f"data set {name!r} is not known; known are {', '.join(d.name for d in PUBLISHED)}")
