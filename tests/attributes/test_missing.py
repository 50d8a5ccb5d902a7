"""Values that say nothing."""

from __future__ import annotations

import pytest

from afmrl.attributes.missing import says_nothing

NOTHING = [
    None,
    float("nan"),
    "nan",
    "NaN",
    "<NA>",
    "",
    "  ",
    "N/A",
    "n.a.",
    "n. a.",
    "(N/A)",
    "#N/A",
    "None",
    "NULL",
    "unknown",
    "Unknown (not visible)",
    "-",
    "--",
    "—",
    "?",
    "...",
    "…",
    "***",
    "Does not apply",
    "doesn’t apply",
    "Not Specified",
    "see description",
    "See Description.",
    "Unbranded",
    "No brand",
    "k.A.",
    "k. A.",
    "keine Angabe",
    "Nicht zutreffend",
    "Does not apply / N/A",
    "not available, unknown",
    "未知",
    "不详",
    "不适用",
    [],
    [None, "N/A"],
    {"a": float("nan")},
]
SOMETHING = [
    0,
    "0",
    "0%",
    "no",
    "no sugar",
    "red",
    "+",
    "½",
    "👍",
    "A",
    "-5",
    False,
    ["N/A", "red"],
    "none of these",
    "N/A, red",
    "red/none",
    "generic",
]


@pytest.mark.parametrize("value", NOTHING, ids=repr)
def test_placeholders_say_nothing(value: object) -> None:
    assert says_nothing(value) and says_nothing(value, identifier=True)


@pytest.mark.parametrize("value", SOMETHING, ids=repr)
def test_values_say_something(value: object) -> None:
    assert not says_nothing(value)


@pytest.mark.parametrize("value", ["0", "000000", 0, 0.0, "0.0", "00-00", "Generic", "Other", "xxx"])
def test_zeros_and_generic_identify_nothing(value: object) -> None:
    assert says_nothing(value, identifier=True)


def test_pandas_missing_values_say_nothing() -> None:
    pandas = pytest.importorskip("pandas")
    assert says_nothing(pandas.NA) and says_nothing(pandas.NaT)
