"""The public sets that `afmrl dataset` knows."""

from __future__ import annotations

from afmrl.errors import InputError
from afmrl.public_sets.base import PublicDataset
from afmrl.public_sets.sets.amazon_berkeley_objects import AMAZON_BERKELEY_OBJECTS
from afmrl.public_sets.sets.grocery_store import GROCERY_STORE
from afmrl.public_sets.sets.m5product import M5PRODUCT
from afmrl.public_sets.sets.product1m import PRODUCT1M
from afmrl.public_sets.sets.shopee import SHOPEE
from afmrl.public_sets.sets.stanford_online_products import STANFORD_ONLINE_PRODUCTS
from afmrl.public_sets.sets.two_shops import ABT_BUY, AMAZON_GOOGLE
from afmrl.public_sets.sets.wdc_products import WDC_PRODUCTS

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
