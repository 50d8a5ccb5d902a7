import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afmrl.attributes.colors import COLORS
from afmrl.attributes.extractor import AttributeExtractor
from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.attributes.quantities import UNITS, quantities
from afmrl.data.offer import Offer
from afmrl.errors import InputError


def read(title, brands=(), **attributes):
    return AttributeExtractor(brands).extract(Offer(id="1", title=title, attributes=attributes)).as_dict()


@pytest.mark.parametrize(
    "left,right",
    [
        ("LG LDS-4821WW", "lg lds4821ww dishwasher"),
        ("Kingston 1TB SSD", "Kingston SSD 1000 GB"),
        ("tape 9mm x 7m", "tape 0.9 cm x 7 m"),
        ("Nikkor 24-70mm f/2.8", "Nikkor 24-70mm F2.8"),
        ("drive 2.5 inch", 'drive 2.5"'),
        ("pack of 5", "5-pack"),
        ("plate 100x200 mm", "plate 100mm x 20cm"),
        ("grey", "GRAY"),
        ("black cable", "黑色"),
        ("Windows upgrade", "upg win"),
        ("Photoshop 10.0", "photoshop v10"),
        ("sony dvpfx820/w", "SONY DVP-FX820"),
        ('bit 1/4"', "bit 0.25 inch"),
        ('bit ¼"', "bit 6.35 mm"),
        ('pipe 1-1/2"', "pipe 1 1/2 inch"),
        ("pipe 1½ in.", "pipe 1.5 inch"),
        ("wine 0,750 l", "wine 750 ml"),
        ("wine 3/4 l", "wine 75 cl"),
    ],
)
def test_one_value_for_spellings_of_one_thing(left, right):
    found = read(left)
    assert found and found == read(right)


@pytest.mark.parametrize(
    "title,wanted",
    [
        ("Dymo S0720680 label 40913", {"model": "s0720680", "number": "40913"}),
        ("Canon 4006381333931", {"gtin": "4006381333931"}),  # EAN-13 with a right check digit
        ("Canon 4006381333932", {"number": "4006381333932"}),
        ("mp3 player usb3 4k 1st", {}),
        ("Microsoft Visio Standard 2007", {"year": "2007", "edition": "standard"}),
        ("dark blue or stainless steel", {"color": "dark blue / stainless steel"}),
        ("redseal tanager", {}),  # no colors inside words
        ("ram 2,5 kg", {"weight": "2500 g"}),
        ("1,000 sheets", {"pages": "1000 pages"}),
        ("iPad 64GB 9.7 inch", {"memory": "64 gb", "length": "246.38 mm"}),
        ("mac or windows", {"platform": "mac / windows"}),
        ("", {}),
        ("switch 10/100 mbps", {"rate": "12.5 mb/s"}),
        ("ring 5/8 mm", {"length": "8 mm"}),  # two sizes, and no part of one
        ("ram 16/8 gb", {"memory": "8 gb"}),
        ("pipe 24/7 ft", {"length": "2133.6 mm"}),
        ("Galaxy A54 5G 128GB", {"memory": "128 gb"}),
        ("5G smartphone", {}),
        ("saffron 5g", {"weight": "5 g"}),
        ("hdmi cable 3m", {"length": "3000 mm"}),
        ("Ryzen 5 2600X", {"model": "2600x"}),
        ("camcorder 2000x digital zoom", {"zoom": "2000 x"}),
        ("lens 30x", {"zoom": "30 x"}),
        ("1,500 g", {"weight": "1500 g"}),
        ("0/0 inch", {"length": "0 mm"}),
        ("\u3000\uff11\uff12\uff18\uff27\uff22", {"memory": "128 gb"}),  # full-width forms
    ],
)
def test_what_is_read(title, wanted):
    assert read(title) == wanted


def test_brands_are_learned_from_sellers_and_from_titles():
    offers = [
        Offer(id="1", title="Tape 9mm", attributes={"Brand": "Dymo"}, product_id="a"),
        *(Offer(id=f"s{n}", title=f"Sony camera {n}", product_id=f"s{n}") for n in range(3)),
        *(Offer(id=f"c{n}", title=f"camera case {n}", product_id=f"c{n}") for n in range(2)),  # more inside than first
        *(Offer(id=f"b{n}", title=f"black bag {n}", product_id=f"b{n}") for n in range(3)),
        *(Offer(id=f"o{n}", title="Onlyone thing", product_id="o") for n in range(3)),  # one product's word
    ]
    extractor = AttributeExtractor.learn(offers)
    assert extractor.brands == ("dymo", "sony")
    assert extractor.extract(Offer(id="x", title="label for DYMO printers")).as_dict() == {"brand": "dymo"}
    assert read("Western Digital disk", ["digital", "western digital"])["brand"] == "western digital"
    assert read("visio", manufacturer="Microsoft Corporation")["brand"] == "microsoft"
    assert read("sony tape", ["sony"], brand="Dymo")["brand"] == "dymo"  # the seller knows
    assert read("3M Scotch tape 10 m", ["3m"]) == {"brand": "3m", "length": "10000 mm"}
    assert read("tape", brand="3M") == {"brand": "3m"}
    with pytest.raises(InputError, match="min_offers=0 must be at least 1"):
        AttributeExtractor.learn(offers, min_offers=0)


def test_saved_and_loaded(tmp_path):
    AttributeExtractor(["Dymo", "品牌"]).save(tmp_path / "new" / "extractor.json")
    assert AttributeExtractor.load(tmp_path / "new" / "extractor.json").brands == ("dymo", "品牌")
    (tmp_path / "other.json").write_text(json.dumps({"brands": "dymo"}))
    for name in ("other.json", "none.json"):
        with pytest.raises(InputError, match=f"{name}: cannot be read"):
            AttributeExtractor.load(tmp_path / name)


@settings(max_examples=300, deadline=None)
@given(
    st.text(max_size=80),
    st.lists(
        st.sampled_from(["9mm", "x", "7 m", "1,5", "½", "1/", "1-1/2", "5g", "S-072", "黑色", "v2.", "f/", '"', "/b"])
    ),
)
def test_any_title_is_read_the_same_twice_and_parses_back(text, parts):
    extractor = AttributeExtractor(["acme"])
    offer = Offer(id="1", title=text + " ".join(parts))
    found = extractor.extract(offer)
    assert found == extractor.extract(offer)
    assert KeyAttributes.parse(str(found)) == found


@pytest.mark.parametrize("piece", ["a-", "1x", "9 mm x ", "1.", "黑", "pack of ", "f/", "s0-"])
def test_endless_titles_take_no_time(piece):
    started = time.perf_counter()
    read(piece * 30_000, ["acme"])
    assert time.perf_counter() - started < 1


def test_units_are_unique_and_sized():
    spellings = [spelling for _, sizes in UNITS.values() for spelling in sizes]
    assert len(spellings) == len(set(spellings))
    assert all(size > 0 for _, sizes in UNITS.values() for size in sizes.values())
    assert all(sizes.get(unit) == 1 for unit, sizes in UNITS.values())
    assert quantities("nothing here") == ({}, "nothing here")


def test_colors_have_one_name():
    assert set(COLORS.values()) <= set(COLORS)
