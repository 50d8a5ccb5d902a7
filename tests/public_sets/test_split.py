"""Catalogs are dealt out by product or family, and what stands on both sides is refused."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from afmrl.cli.dataset import check, split
from afmrl.data.catalog import read_catalog, write_catalog
from afmrl.data.offer import Offer
from afmrl.errors import InputError
from afmrl.public_sets.image_signature import MAX_DISTANCE, image_signature, near_identical
from afmrl.public_sets.leaks import check_leaks
from afmrl.public_sets.split import FRACTIONS, deal_out, product_groups, split_catalog
from afmrl.training.recipe import CatalogSection, SplitSection
from afmrl.training.splits import split_offers
from conftest import save_image, shared_data

SETS = ["grocery_store", "wdc_products", "abt_buy", "amazon_google"]


def offer(identifier: str, product: str = "", split: str = "", image: Path | str = "", **extra: str) -> Offer:
    return Offer(id=identifier, title=identifier, image=str(image), product_id=product, extra={"split": split, **extra})


def photograph(path: Path, seed: int, *, quality: int = 95, size: int = 96) -> Path:
    """An image with structure: smooth blobs, as JPEG."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 255, (6, 6, 3), dtype=np.uint8))
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse.resize((96, 96), Image.Resampling.BICUBIC).resize((size, size)).save(path, quality=quality)
    return path


# leaks


def test_product_in_two_splits_is_refused_with_both_offers():
    offers = [offer("a", "p", "train"), offer("b", "p", "test"), offer("c", "q", "test")]
    with pytest.raises(InputError, match=r"(?s)product_id is in two splits 1 times.*'p': offer 'a' in train.*'b'"):
        check_leaks(offers)


def test_family_in_two_splits_is_refused_when_asked():
    offers = [offer("a", "p", "train", family_id="f"), offer("b", "q", "test", family_id="f")]
    assert check_leaks(offers).offers == {"train": 1, "test": 1}
    with pytest.raises(InputError, match="family_id"):
        check_leaks(offers, by="family_id")


def test_same_bytes_under_another_name_are_refused(tmp_path):
    first = photograph(tmp_path / "a.jpg", 1)
    shutil.copy(first, tmp_path / "b.jpg")
    other = photograph(tmp_path / "c.jpg", 2)
    offers = [
        offer("a", "p", "train", first),
        offer("b", "q", "test", tmp_path / "b.jpg"),
        offer("c", "r", "test", other),
    ]
    with pytest.raises(InputError, match=r"(?s)same image.*'a' in train.*'b' in test"):
        check_leaks(offers)
    assert check_leaks([offers[0], offers[2]]).images == 2


def test_same_image_twice_in_one_split_is_no_leak(tmp_path):
    image = photograph(tmp_path / "a.jpg", 1)
    offers = [offer("a", "p", "train", image), offer("b", "q", "train", image)]
    offers.append(offer("c", "r", "test", photograph(tmp_path / "c.jpg", 2)))
    assert check_leaks(offers).near_identical == ()


def test_gallery_that_all_splits_share_is_no_leak(tmp_path):
    image = photograph(tmp_path / "a.jpg", 1)
    offers = [offer("g", "p", "gallery", image), offer("a", "p", "train", image), offer("b", "q", "test")]
    assert check_leaks(offers, shared=["gallery"]).offers == {"train": 1, "test": 1}
    with pytest.raises(InputError, match="two splits"):
        check_leaks(offers)


def test_offers_of_no_split_are_not_looked_at_and_one_split_is_none():
    offers = [offer("a", "p", "train"), offer("b", "p", "")]
    with pytest.raises(InputError, match="at least two are needed"):
        check_leaks(offers)
    assert check_leaks([*offers, offer("c", "q", "test")]).offers == {"train": 1, "test": 1}


def test_recompressed_and_scaled_photographs_are_near_identical_and_others_are_not(tmp_path):
    folder = shared_data("grocery_store")
    photographs = [o.image for o in read_catalog(folder / "products.jsonl") if o.extra["split"] == "train"][:120]
    offers = [offer(f"t{n}", split="train", image=path) for n, path in enumerate(photographs[:80])]
    for n, path in enumerate(photographs[40:], start=40):
        image = Image.open(path).convert("RGB")
        image = image.resize((image.width // 2, image.height // 2)) if n % 2 else image
        image.save(tmp_path / f"{n}.jpg", quality=60)
        offers.append(offer(f"e{n}", split="test", image=tmp_path / f"{n}.jpg"))
    found = check_leaks(offers).near_identical
    assert sorted(found) == sorted((f"t{n}", f"e{n}") for n in range(40, 80))
    assert check_leaks(offers, near=False).near_identical == ()


def test_another_color_is_not_near_identical(tmp_path):
    red = photograph(tmp_path / "red.jpg", 1)
    pixels = np.asarray(Image.open(red))
    Image.fromarray(pixels[:, :, ::-1]).save(tmp_path / "blue.jpg", quality=95)
    assert (
        check_leaks([offer("r", "r", "train", red), offer("b", "b", "test", tmp_path / "blue.jpg")]).near_identical
        == ()
    )


def test_bands_miss_no_pair_within_the_distance():
    """Against every pair compared: the banded search finds a partner exactly where there is one."""
    rng = np.random.default_rng(0)
    right = rng.integers(0, 2**63, 300, dtype=np.uint64)
    flips = [rng.choice(64, rng.integers(0, 7), replace=False) for _ in right]
    masks = np.array([sum(1 << int(bit) for bit in bits) for bits in flips], dtype=np.uint64)
    left = np.concatenate([right ^ masks, rng.integers(0, 2**63, 100, dtype=np.uint64)])
    thumbnails = np.zeros((len(left), 8, 8, 3), dtype=np.uint8)
    distances = np.bitwise_count(left[:, None] ^ right[None, :])
    expected = set(np.flatnonzero((distances <= MAX_DISTANCE).any(axis=1)).tolist())
    found = near_identical((left, thumbnails), (right, thumbnails[: len(right)]))
    assert {row for row, _ in found} == expected
    assert all(distances[row, other] <= MAX_DISTANCE for row, other in found)
    assert 100 < len(expected) < 300


def test_signature_of_a_broken_image_is_an_input_error(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"a\.jpg"):
        image_signature(tmp_path / "a.jpg")


# splitting


def catalog(count: int = 60) -> list[Offer]:
    return [
        offer(f"o{n}", f"p{n // 2}", family_id=f"f{n // 6}", role="query" if n % 2 else "gallery") for n in range(count)
    ]


def test_groups_never_straddle_splits_and_shares_are_met():
    offers = catalog()
    for by, groups in (("product_id", 30), ("family_id", 10)):
        names = product_groups(offers, by)
        assert len(set(names)) == groups
        dealt = deal_out(offers, names)
        for column in ("product_id", by):
            of_value: dict[str, set[str]] = {}
            for o in dealt:
                value = o.product_id if column == "product_id" else o.extra[column]
                of_value.setdefault(value, set()).add(o.extra["split"])
            assert {len(splits) for splits in of_value.values()} == {1}
        counts = {s: len({n for n, o in zip(names, dealt, strict=True) if o.extra["split"] == s}) for s in FRACTIONS}
        assert counts == {split: round(share * groups) for split, share in FRACTIONS.items()}


def test_the_same_seed_deals_alike_whatever_the_order():
    offers = catalog()
    splits = {o.id: o.extra["split"] for o in deal_out(offers, product_groups(offers), seed=3)}
    backwards = offers[::-1]
    assert {o.id: o.extra["split"] for o in deal_out(backwards, product_groups(backwards), seed=3)} == splits
    assert {o.id: o.extra["split"] for o in deal_out(offers, product_groups(offers), seed=4)} != splits


def test_it_deals_as_a_recipe_does():
    offers = [dataclasses.replace(o, attributes={"color": "red"}) for o in catalog()]
    fractions = {"train": 0.6, "reward": 0.2, "val": 0.1, "test": 0.1}
    section = CatalogSection(path="x", split=SplitSection(by="family_id", fractions=fractions))
    mine = deal_out(offers, product_groups(offers, "family_id"), fractions, seed=0)
    for name, theirs in split_offers(offers, section).items():
        assert {o.id for o in theirs.offers} == {o.id for o in mine if o.extra["split"] == name}


def test_a_product_of_two_families_stays_whole():
    offers = [
        offer("a", "p", family_id="f"),
        offer("b", "p", family_id="g"),
        offer("c", "q", family_id="g"),
        offer("d"),
    ]
    groups = product_groups(offers, "family_id")
    assert groups[0] == groups[1] == groups[2] != groups[3]


def test_joined_images_stay_together(tmp_path):
    image = photograph(tmp_path / "a.jpg", 1)
    offers = [offer(f"o{n}", f"p{n}", image=image if n < 2 else "") for n in range(6)]
    assert len(set(product_groups(offers))) == 6
    joined = product_groups(offers, join_images=True)
    assert joined[0] == joined[1]
    assert len(set(joined)) == 5


def test_split_of_the_same_image_is_refused_until_joined(tmp_path):
    image = save_image(tmp_path / "a.png")
    offers = [offer(f"o{n}", f"p{n}", image=image) for n in range(2)] + [offer(f"x{n}", f"x{n}") for n in range(8)]
    write_catalog(tmp_path / "in.jsonl", offers)
    refused = False
    for seed in range(10):  # some seed deals the two apart
        try:
            split_catalog(tmp_path / "in.jsonl", tmp_path / "out.jsonl", seed=seed)
        except InputError as error:
            refused = True
            assert "--join-images" in str(error)
        report = split_catalog(tmp_path / "in.jsonl", tmp_path / "joined.jsonl", seed=seed, join_images=True)
        assert (report.groups, report.largest_group) == (9, 2)
    assert refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"by": "style"}, "no offer has a value"),
        ({"fractions": {"train": -1.0, "test": 2.0}}, "shares of at least 0"),
        ({"fractions": {"train": 1.0, "test": 0.001}}, "'test' would be empty"),
    ],
)
def test_wrong_options(tmp_path, options, message):
    write_catalog(tmp_path / "in.jsonl", catalog())
    with pytest.raises(InputError, match=message):
        split_catalog(tmp_path / "in.jsonl", tmp_path / "out.jsonl", **options)
    assert not (tmp_path / "out.jsonl").exists()


def test_other_columns_and_images_stay(tmp_path):
    image = save_image(tmp_path / "in" / "a.png")
    write_catalog(tmp_path / "in" / "in.jsonl", [*catalog(), offer("z", "z", image=image, color="red")])
    split_catalog(tmp_path / "in" / "in.jsonl", tmp_path / "out.jsonl")
    written = read_catalog(tmp_path / "out.jsonl").by_id
    assert written["z"].image == str(image)
    assert written["z"].extra["color"] == "red"
    assert {o.extra["role"] for o in written.values() if "role" in o.extra} == {"query", "gallery"}


# the real sets


@pytest.mark.parametrize("name", SETS)
def test_real_set_is_dealt_out_without_leaks(tmp_path, name, capsys):
    path = shared_data(name) / "products.jsonl"
    report = split_catalog(path, tmp_path / "split.jsonl", max_bad=0.05)
    offers = read_catalog(tmp_path / "split.jsonl", max_bad=0).offers
    assert sum(report.counts.values()) == len(offers)
    assert len(offers) == len(read_catalog(path, max_bad=0.05).offers)
    assert set(report.counts) == set(FRACTIONS)
    assert check_leaks(offers).offers == report.leaks.offers
    split(path, out=tmp_path / "again.jsonl", near=False, max_bad=0.05)
    assert "no product_id is in two splits" in capsys.readouterr().out
    assert (tmp_path / "again.jsonl").read_bytes() == (tmp_path / "split.jsonl").read_bytes()  # one default each


@pytest.mark.parametrize("name", ["wdc_products", "abt_buy", "amazon_google"])
def test_real_split_shares_no_product(name):
    report = check_leaks(read_catalog(shared_data(name) / "products.jsonl").offers)
    assert len(report.offers) >= 2


def test_grocery_photographs_are_new_and_its_classes_are_not():
    path = shared_data("grocery_store") / "products.jsonl"
    report = check_leaks(read_catalog(path).offers, by="", shared=["gallery"])
    assert report.images == sum(report.offers.values()) > 1000
    offers = [o for o in read_catalog(path) if o.extra["split"] != "gallery"]
    both = {o.product_id for o in offers if o.extra["split"] == "train"}
    both &= {o.product_id for o in offers if o.extra["split"] == "val"}
    with pytest.raises(InputError, match=f"product_id is in two splits {len(both)} times"):
        check(path, shared="gallery", near=False)


def test_views_of_a_product_stay_together(tmp_path):
    path = shared_data("abo_mini") / "products.jsonl"
    report = split_catalog(path, tmp_path / "out.jsonl", fractions={"train": 0.5, "test": 0.5})
    assert report.groups == 3
    splits = {}
    for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        splits.setdefault(row["product_id"], set()).add(row["split"])
    assert [len(s) for s in splits.values()] == [1, 1, 1]


def test_a_check_that_compared_nothing_says_so(tmp_path, capsys):
    rows = [{"id": f"o{n}", "title": "t", "split": ("train", "test", "")[n % 3]} for n in range(9)]
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    check(tmp_path / "c.jsonl")
    said = capsys.readouterr().out
    assert "no offer has a product_id: products were not compared" in said
    assert "3 offers without a split were not checked" in said
    with pytest.raises(InputError, match="no offer has a value in the column 'style'"):
        check(tmp_path / "c.jsonl", by="style")
    with pytest.raises(InputError, match="--shared 'shelf': no offer has it"):
        check(tmp_path / "c.jsonl", shared="shelf")
