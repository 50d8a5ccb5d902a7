"""The sample catalog: what its drawing and its words say, and nothing else."""

import json
import re
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest

from afmrl.data.catalog import read_catalog
from afmrl.embedder.text import embedder_text
from afmrl.errors import InputError
from afmrl.retrieval.words import seller_words
from afmrl.sample import catalog as sample
from afmrl.sample.catalog import (
    CHANGES,
    IMAGE_KEYS,
    KEYS,
    TEXT_KEYS,
    UNLABELED,
    describe_sample,
    make_family,
    reader_ceiling,
    reader_recall,
    write_sample_catalog,
)
from afmrl.sample.drawing import FABRIC_COLORS, PATTERNS, View, draw_product
from afmrl.sample.shapes import CUTS
from afmrl.sample.titles import make_title, surface_forms

FAMILIES = {"train": 50, "reward": 6, "val": 3, "test": 25}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sample")
    write_sample_catalog(folder, families=FAMILIES)
    return folder


@pytest.fixture(scope="module")
def offers(folder):
    return list(read_catalog(folder / "catalog.jsonl"))


def by(offers, column):
    groups = defaultdict(list)
    for offer in offers:
        groups[offer.extra.get(column) or getattr(offer, column, "")].append(offer)
    return groups


def all_bytes(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(Path(folder).rglob("*")) if path.is_file()}


def test_the_same_seed_gives_the_same_bytes_and_another_gives_others(tmp_path):
    few = {"train": 3, "test": 2}
    for name, seed in (("one", 7), ("two", 7), ("other", 8)):
        write_sample_catalog(tmp_path / name, families=few, seed=seed, num_siblings=3)
    one, two, other = (all_bytes(tmp_path / name) for name in ("one", "two", "other"))
    assert one == two
    assert len(one) > 30
    assert not set(one.values()) & set(other.values())


def test_more_families_change_nothing_in_those_before(tmp_path, folder):
    write_sample_catalog(tmp_path, families={"train": 3, "test": 2})
    small, large = all_bytes(tmp_path), all_bytes(folder)
    assert all(large[path] == content for path, content in small.items() if path.suffix == ".jpg")
    rows = set((folder / "catalog.jsonl").read_text().splitlines())
    assert set((tmp_path / "catalog.jsonl").read_text().splitlines()) < rows


def test_every_row_reads_and_every_image_is_its_own(folder, offers):
    assert not read_catalog(folder / "catalog.jsonl").skipped
    images = [Path(offer.image).read_bytes() for offer in offers if offer.image]
    assert len(images) == len(set(images)) == len(list((folder / "images").iterdir()))
    titles = Counter(offer.title for offer in offers if offer.title)
    assert titles.most_common(1)[0][1] <= 3  # two sellers may happen to write the same few words
    assert {name: len(group) for name, group in by(offers, "split").items()}.keys() == FAMILIES.keys()
    for offer in offers:
        assert offer.title or offer.image


def test_splits_share_no_family_no_product_and_no_image(offers):
    held = {}
    for split, group in by(offers, "split").items():
        held[split] = {
            *(offer.extra["family_id"] for offer in group),
            *(offer.extra["true_product_id"] for offer in group),
            *(offer.product_id for offer in group),
            *(offer.id for offer in group),
            *(Path(offer.image).read_bytes() for offer in group if offer.image),
        }
        assert len({offer.extra["family_id"] for offer in group}) == FAMILIES[split]
    for one in held:
        for other in held:
            assert one == other or not held[one] & held[other]


def test_ids_say_nothing_of_what_they_name(offers):
    for offer in offers:
        for name in (offer.id, offer.product_id, offer.extra["family_id"], Path(offer.image).stem):
            assert not any(value in name for value in offer.extra["true_attributes"].values() if len(value) > 3)
            assert offer.extra["split"] not in name


def test_siblings_differ_in_one_or_two_details(offers):
    singles = 0
    for family in by(offers, "family_id").values():
        products = {o.extra["true_product_id"]: o.extra["true_attributes"] for o in family}
        values = [tuple(attributes.items()) for attributes in products.values()]
        assert len(values) == len(set(values)) == 5
        first = make_first(family)
        for attributes in products.values():
            changed = [key for key in KEYS if attributes[key] != first[key]]
            assert len(changed) <= 2 and set(changed) <= set(CHANGES)
            singles += len(changed) == 1
    assert singles > 0


def make_first(family):
    """The values from which no sibling is further than two details."""
    products = list({o.extra["true_product_id"]: o.extra["true_attributes"] for o in family}.values())
    return next(one for one in products if all(sum(one[key] != other[key] for key in KEYS) <= 2 for other in products))


# what can be seen, and what can be read


def test_labels_are_true_and_hold_only_what_is_there_to_see_or_read(offers):
    for offer in offers:
        visible, true = offer.extra["visible_attributes"], offer.extra["true_attributes"]
        assert set(true) == set(KEYS)
        assert all(true[key] == value for key, value in visible.items())
        if not offer.image:
            assert set(IMAGE_KEYS) & set(visible) <= written_keys(offer)
        if not offer.title:
            assert not set(TEXT_KEYS) & set(visible)
        for key in TEXT_KEYS:  # which no image shows
            assert (key in visible) == (key in written_keys(offer)), (offer.title, key, visible)


def written_keys(offer):
    """Keys whose value stands in the title, letter for letter or with one letter lost or two swapped."""
    title, true = offer.title.lower(), offer.extra["true_attributes"]
    found = set()
    for key in KEYS:
        forms = [form.lower() for form in surface_forms(true["category"], key, true[key])]
        patterns = [r"(?<!\w)" + r"\s".join(misspellings(word) for word in form.split()) + r"(?!\w)" for form in forms]
        if any(re.search(pattern, title) for pattern in patterns):
            found.add(key)
    return found


def misspellings(word):
    if len(word) < 5 or not word.isalpha():
        return re.escape(word)
    forms = {word}
    for place in range(1, len(word) - 1):
        forms |= {word[:place] + word[place + 1 :], word[:place] + word[place + 1] + word[place] + word[place + 2 :]}
    return "(?:" + "|".join(map(re.escape, forms)) + ")"


def test_a_closeup_shows_its_fabric_and_no_cut(tmp_path):
    shown = Counter()
    for number in range(300):
        rng = np.random.default_rng(number)
        values = make_family("test", number, num_siblings=1)[0].values
        seen = sample._image(values, tmp_path / "a.jpg", 32, rng)
        shown[frozenset(seen)] += 1
    fabric, everything = frozenset({"color", "pattern"}), frozenset({"category", "color", "pattern", "cut"})
    assert set(shown) == {fabric, everything}
    assert 0.04 < shown[fabric] / 300 < 0.13


def test_a_closeup_of_another_cut_is_the_same_image_and_of_another_color_is_not():
    def drawn(**changed):
        values = {"category": "dress", "cut": list(CUTS["dress"])[0], "color": "red", "pattern": "plain", **changed}
        return np.asarray(draw_product(**values, view=View(closeup=True), rng=np.random.default_rng(0), side=56))

    plain = drawn()
    assert (drawn(cut=list(CUTS["dress"])[1]) == plain).all()
    assert (drawn(category="mug", cut=list(CUTS["mug"])[0]) == plain).all()
    for changed in [{"color": color} for color in FABRIC_COLORS if color != "red"] + [
        {"pattern": p} for p in PATTERNS if p != "plain"
    ]:
        assert np.abs(drawn(**changed).astype(int) - plain).max() > 60


@pytest.mark.parametrize("category", list(CUTS))
def test_every_detail_of_a_image_can_be_seen(category):
    """Two images from one view differ clearly where color, pattern or cut differ."""

    def drawn(cut, color, pattern):
        return np.asarray(
            draw_product(category, cut, color, pattern, View(), np.random.default_rng(0), 56), dtype=float
        )

    cuts = list(CUTS[category])
    assert len(cuts) >= 3
    # measured: cuts of one category change at least this many of the 3,136 pixels by 40 levels or more
    for place, one in enumerate(cuts):
        for other in cuts[:place]:
            changed = np.abs(drawn(one, "red", "plain") - drawn(other, "red", "plain")).max(axis=2) > 40
            assert changed.sum() > 20, (one, other)
    for cut, color in zip(cuts * 4, FABRIC_COLORS, strict=False):
        images = [drawn(cut, color, pattern) for pattern in PATTERNS]
        for place, one in enumerate(images):
            for other in images[:place]:
                assert (np.abs(one - other).max(axis=2) > 25).sum() > 20, (cut, color)
    images = [drawn(cuts[0], color, "plain") for color in FABRIC_COLORS]
    for place, one in enumerate(images):
        for other in images[:place]:
            assert (np.abs(one - other).max(axis=2) > 15).sum() > 60


def test_titles_say_what_they_are_said_to_say():
    said = Counter()
    for number in range(800):
        rng = np.random.default_rng(number)
        values = make_family("test", number % 50, num_siblings=1)[0].values
        title, keys = make_title(values, rng)
        assert title.strip() and "category" in keys
        said.update(keys)
    for key, share in {"brand": 0.8, "series": 0.7, "material": 0.75, "size": 0.75, "color": 0.12}.items():
        assert said[key] / 800 == pytest.approx(share, abs=0.06)


# duplicates


def test_some_duplicates_of_training_are_not_labeled_and_none_elsewhere(offers):
    for split, group in by(offers, "split").items():
        products = by(group, "true_product_id")
        torn = [rows for rows in products.values() if len({offer.product_id for offer in rows}) > 1]
        if split == "train":
            assert len(torn) / len(products) == pytest.approx(UNLABELED, abs=0.06)
            for rows in torn:  # two labeled pairs: either is drawn, and the other is its false negative
                assert sorted(Counter(offer.product_id for offer in rows).values()) == [2, 2]
        else:
            assert not torn
            assert all(len(rows) == 2 for rows in products.values())


def test_every_query_has_its_match_in_the_gallery(offers):
    for group in by(offers, "split").values():
        roles = by(group, "product_id")
        for rows in roles.values():
            assert Counter(offer.extra["role"] for offer in rows)["query"] == 1
            assert len(rows) >= 2


# what a perfect reader could do


def test_neither_image_nor_title_suffices_and_both_are_far_better(offers):
    test = [offer for offer in offers if offer.extra["split"] == "test"]
    both = reader_recall(test)
    text, image = (reader_recall(test, ("category", *keys)) for keys in (TEXT_KEYS, IMAGE_KEYS))
    assert both > 0.6
    assert both > text + 0.3 and both > image + 0.1  # of 125 products in 25 families; of more, more
    certain = reader_ceiling(test)
    assert certain > reader_ceiling(test, ("category", *TEXT_KEYS)) + 0.1
    assert certain > reader_ceiling(test, ("category", *IMAGE_KEYS)) + 0.1
    assert certain <= both
    described = describe_sample(offers)["test"]
    assert (described["families"], described["products"], described["offers"]) == (25, 125, 250)
    assert described["reader_recall"] == round(both, 3)
    # the whole truth on both sides would tell every product from every other
    for offer in test:
        offer.extra["visible_attributes"], kept = offer.extra["true_attributes"], offer.extra["visible_attributes"]
        offer.extra["kept"] = kept
    full = reader_recall(test)
    for offer in test:
        offer.extra["visible_attributes"] = offer.extra.pop("kept")
    assert full > 0.99 > both


def test_what_cannot_be_drawn_is_refused(tmp_path):
    for options, words in (
        ({"families": {"tain": 1}}, "unknown split 'tain'"),
        ({"families": {"train": -1}}, "-1 families"),
        ({"families": {}}, "no split has a family"),
        ({"image_size": 8}, "image_size: 8 is out of range"),
        ({"num_siblings": 0}, "num_siblings: 0 is out of range"),
    ):
        with pytest.raises(InputError, match=words):
            write_sample_catalog(tmp_path / "sample", **options)
    assert not (tmp_path / "sample").exists()


def test_the_file_is_one_offer_a_line_with_relative_images(folder):
    for line in (folder / "catalog.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        assert not row["image"] or row["image"].startswith("images/")


def test_its_attributes_are_prices_so_that_the_text_is_the_title_whatever_is_read_of_sellers(folder):
    offers = read_catalog(folder / "catalog.jsonl").offers
    assert any(offer.attributes for offer in offers)
    for offer in offers:
        for which in ("identifying", "all"):
            assert embedder_text(offer, seller_attributes=which) == embedder_text(offer)
            assert seller_words(offer, which) == []
