"""A shop's own export gives the offers and the pairs that the same data gives as clean JSONL, in every shape."""

import numpy as np
import pytest

from conftest import save_image
from feeds import SHAPES, compared

CODES = ("4006381333931", "036000291452", "9780306406157", "96385074")


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Offers of two sellers, some of them variants of one title, with all that is awkward in a cell."""
    folder = tmp_path_factory.mktemp("photos")
    draw = np.random.default_rng(0)
    found = []
    for number in range(24):
        seller, product = number % 2, number // 2
        attributes = {"brand": ("Lune & Co", "Stelton", "Würth")[product % 3], "material": "silk, cotton"}
        if product % 3:
            attributes |= {"color": ("deep red", "navy", "weiß")[product % 4 % 3], "size": str(36 + product % 4)}
        if product % 5 == 0:
            attributes["gtin"] = CODES[product // 5]
        if product % 2:
            attributes |= {"Climate": "Cool, Windy", "Ratio": "16:9", "Form": '10" <long> | wide'}
        words = ("dress, V-neck", 'mug "Hello Kitty"', "12' drill; cordless", "Süße Träume & Co")[product // 3]
        found.append(
            {
                "id": f"s{seller}-{number}",
                "title": f"{words} {('', 'new ')[seller]}{'' if product % 3 else product}".strip(),
                "description": f"Soft & warm <3 {product // 3}; 'best' of 2026" if product % 4 else "",
                "image": str(save_image(folder / f"{product}.png", product)) if draw.random() < 0.5 else "",
                "category": ("Home > Mugs", "Women > Dresses, long", "")[product % 3],
                "attributes": attributes,
            }
        )
    return found


@pytest.mark.parametrize("shape", SHAPES)
def test_a_feed_gives_the_offers_and_pairs_of_clean_jsonl(tmp_path, rows, shape):
    cell = compared(tmp_path, shape, rows)
    assert cell["differently"] == [] and cell["read"] == len(rows)
    assert cell["equal"] and cell["pairs"] > 5
