"""Filters find what people mean, and suggest what there is."""

from __future__ import annotations

import pytest

from afmrl.errors import InputError
from afmrl.index.filters import Filters

SHOP = {
    "category": ["Haushalt & Küche", "Shoes", "shoes ", "Straße", "mugs"],
    "seller": [f"shop {number}" for number in range(30)],
    "product_id": ["P1", "p1"],
}
FILTERS = Filters(SHOP.__getitem__)


@pytest.mark.parametrize(
    ("column", "asked", "found"),
    [
        ("category", "SHOES", {"Shoes", "shoes "}),
        ("category", " haushalt  & KÜCHE", {"Haushalt & Küche"}),
        ("category", "STRASSE", {"Straße"}),
        ("category", "boots", {"boots"}),
        ("seller", "Shop 7", {"shop 7"}),
        ("product_id", "P1", {"P1"}),
    ],
)
def test_a_filter_means_the_values_that_are_there(column, asked, found):
    assert FILTERS.existing({column: [asked]}) == {column: found}


def test_no_filter_and_a_filter_of_nothing_stay_so():
    assert FILTERS.existing(None) == {}
    assert FILTERS.existing({"category": []}) == {"category": frozenset()}
    with pytest.raises(InputError, match="cannot filter by 'colour'"):
        FILTERS.existing({"colour": ["red"]})


def test_the_nearest_values_are_suggested():
    assert FILTERS.unknown({"category": ["mug", "shoes"], "product_id": ["P9"]}) == [
        "no offer has the category 'mug'; the nearest is 'mugs'"
    ]
    (said,) = FILTERS.unknown({"seller": ["warehouse"]})
    assert said == "no offer has the seller 'warehouse'; there are 'shop 0', 'shop 1', 'shop 2', …"
    assert Filters(lambda column: [""]).unknown({"seller": ["x"]}) == [
        "no offer has the seller 'x'; none has any seller"
    ]


def test_of_very_many_values_the_first_are_compared(monkeypatch):
    monkeypatch.setattr("afmrl.index.filters.MOST_COMPARED", 2)
    (said,) = Filters(lambda column: ["bags", "lamps", "mugs"]).unknown({"category": ["mug"]})
    assert said == "no offer has the category 'mug'; there are 'bags', 'lamps'"


def test_a_value_that_comes_later_is_found():
    values = ["mugs"]
    filters = Filters(lambda column: values)
    assert filters.unknown({"category": ["Lamps"]})
    values.append("lamps")
    assert filters.existing({"category": ["Lamps"]}) == {"category": {"lamps"}}


def test_of_many_unknown_values_the_first_get_suggestions_and_the_index_is_read_once():
    reads = []
    filters = Filters(lambda column: reads.append(column) or SHOP[column])
    said = filters.unknown({"category": [f"mug {number:02}" for number in range(40)]})
    assert len(said) == 40 and len(reads) == 1
    assert said[5] == "no offer has the category 'mug 05'" and "nearest" in said[4]
