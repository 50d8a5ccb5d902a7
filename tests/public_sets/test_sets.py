"""Public sets, each as a small folder of its own layout, become catalogs that read back."""

from __future__ import annotations

import csv
import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest

from afmrl.cli.dataset import dataset, description
from afmrl.data.catalog import read_catalog
from afmrl.data.offer import Offer
from afmrl.errors import InputError
from afmrl.public_sets.convert import convert
from afmrl.public_sets.registry import PUBLISHED, published
from afmrl.public_sets.sets.m5product import parse_properties
from afmrl.public_sets.source_files import decode, find_file, json_object_items
from conftest import save_image, shared_data


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path


def write_gzip(path: Path, rows: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    return path


def write_csv(path: Path, rows: list[dict[str, str]], encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding=encoding, newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def converted(name: str, folder: Path, out: Path, **options: Any) -> dict[str, Offer]:
    """Convert, read the catalog back with every check, and return its offers by id."""
    convert(published(name), folder, out, **options)
    return read_catalog(out / "catalog.jsonl", max_bad=0).by_id


def refused(name: str, folder: Path, out: Path, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        convert(published(name), folder, out, **options)
    assert not list(out.glob("*.tmp")), "a torn file is left behind"
    return str(caught.value)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


# M5Product


def m5product(folder: Path) -> Path:
    train = {
        f"1{n}": {"title": f"口红 {n}", "label": "口红", "url": "//a.jpg", "pv": "品牌#:#AHC#;#颜色#:#红"}
        for n in range(3)
    }
    test = {
        "20": {"title": "AHC 面霜", "label": "AHC 黄金面霜", "url": "", "pv": "#"},
        "21": {"title": "AHC 黄金", "label": "AHC 黄金面霜", "url": "", "pv": ""},
        "22": {"title": "连衣裙", "label": "连衣裙", "url": "", "pv": ""},
    }
    for name, records in (("train", train), ("test", test)):
        # indented, as the authors' write_json does
        text = json.dumps(records, indent=2, ensure_ascii=False)
        write(folder / f"product1m_product5m_{name}_id_label.json", text)
        for identifier in records:
            save_image(folder / "images" / f"{identifier}.jpg", seed=int(identifier))
    for name, ids in (("query_fg", ["20"]), ("gallery_fg", ["20", "21"]), ("gallery_c", ["22"]), ("query_c", ["22"])):
        write(folder / f"{name}_image_ids.json", json.dumps(ids))
    return folder


def test_m5product_tells_products_from_categories_by_the_id_lists(tmp_path):
    offers = converted("m5product", m5product(tmp_path / "in"), tmp_path / "out")
    assert offers["20"].product_id == offers["21"].product_id == "AHC 黄金面霜"
    assert offers["20"].category == ""
    assert offers["22"].category == "连衣裙"
    assert offers["22"].product_id == ""
    assert [offers[i].extra["role"] for i in ("20", "21", "22", "10")] == ["both", "gallery", "both", ""]
    assert [offers[i].extra["split"] for i in ("10", "20")] == ["train", "test"]
    assert offers["10"].attributes == {"品牌": "AHC", "颜色": "红"}
    assert Path(offers["10"].image).is_absolute()


def test_m5product_without_lists_says_that_no_product_is_known(tmp_path):
    folder = m5product(tmp_path / "in")
    (folder / "query_fg_image_ids.json").unlink()
    (folder / "gallery_fg_image_ids.json").unlink()
    result = convert(published("m5product"), folder, tmp_path / "out")
    assert result.products == 0
    assert any("no product_id" in note for note in result.notes)


def test_m5product_cut_off_file_names_the_last_good_record(tmp_path):
    folder = m5product(tmp_path / "in")
    path = folder / "product1m_product5m_test_id_label.json"
    path.write_bytes(path.read_bytes()[:-60])
    message = refused("m5product", folder, tmp_path / "out")
    assert "after record 2" in message
    assert "download" in message
    assert not (tmp_path / "out" / "catalog.jsonl").exists()


def test_json_object_items_equals_json_load_whatever_the_chunk(tmp_path, monkeypatch):
    records = {f"k{n}": {"t": 'a "}{" \\ ' + "x" * n, "n": [n, {"m": None}]} for n in range(60)}
    for indent in (None, 2):
        path = write(tmp_path / "o.json", json.dumps(records, indent=indent))
        for chunk in (1, 7, 64, 1 << 20):
            monkeypatch.setattr("afmrl.public_sets.source_files.READ_CHARACTERS", chunk)
            assert {key: value for _, key, value in json_object_items(path)} == records


def test_a_property_without_key_or_value_is_left_out():
    assert parse_properties("a#:##;##:#b#;#c#:#d") == {"c": "d"}


# Product1M


def product1m(folder: Path) -> Path:
    def line(identifier: str, title: str, *labels: str) -> str:
        save_image(folder / "images" / f"{identifier}.jpg", seed=int(identifier))
        parts = [identifier, title, "https://x/a.jpg", f"http://y/images/{identifier}.jpg"]
        return "#####".join(parts + (["#;#".join(labels)] if labels else [])) + "\n"

    write(folder / "product1m_train_ossurl_v2.txt", line("1", "套装 a") + line("2", "套装 b"))
    write(folder / "product1m_dev_ossurl_v2.txt", line("3", "AHC 套盒", "AHC 水", "AHC 面霜", "AHC 水"))
    write(folder / "product1m_test_ossurl_v2.txt", line("4", "AHC 面霜", "AHC 面霜"))
    gallery = line("5", "面霜", "AHC 面霜") + line("6", "水", "AHC 水") + line("7", "其他", "X 水")
    write(folder / "product1m_gallery_ossurl_v2.txt", gallery)
    return folder


def test_product1m_query_of_several_products_matches_each_of_them(tmp_path):
    offers = converted("product1m", product1m(tmp_path / "in"), tmp_path / "out")
    matches = [line.split("\t") for line in (tmp_path / "out" / "qrels.tsv").read_text().splitlines()]
    assert sorted((q, o) for q, o, _ in matches) == [("3", "5"), ("3", "6"), ("4", "5")]
    assert offers["4"].product_id == offers["5"].product_id == "AHC 面霜"
    assert offers["3"].product_id not in {offers["5"].product_id, offers["6"].product_id}
    assert offers["3"].extra["products"] == ["AHC 水", "AHC 面霜"]
    assert offers["1"].product_id == ""
    assert {(o.extra["split"], o.extra["role"]) for o in offers.values()} == {
        ("train", ""),
        ("val", "query"),
        ("test", "query"),
        ("gallery", "gallery"),
    }


def test_product1m_image_missing_keeps_the_title_and_is_listed(tmp_path):
    folder = product1m(tmp_path / "in")
    (folder / "images" / "5.jpg").unlink()
    message = refused("product1m", folder, tmp_path / "out")
    assert "5.jpg" in message
    assert "--max-bad" in message
    offers = converted("product1m", folder, tmp_path / "out", max_bad=0.2)
    assert offers["5"].image == ""
    assert offers["5"].title == "面霜"
    (row,) = lines(tmp_path / "out" / "skipped.jsonl")
    assert (row["id"], row["field"]) == ("5", "image")
    assert "kept without image" in row["reason"]


# Stanford Online Products


def stanford(folder: Path) -> Path:
    header = "image_id class_id super_class_id path\n"
    rows = {
        "train": "1 1 1 bicycle_final/111_0.JPG\n2 1 1 bicycle_final/111_1.JPG\n",
        "test": "3 2 2 coffee_maker_final/222_0.JPG\n4 2 2 coffee_maker_final/222_1.JPG\n",
    }
    for split, text in rows.items():
        write(folder / f"Ebay_{split}.txt", header + text)
        for line in text.splitlines():
            number, _, _, path = line.split()
            save_image(folder / path, seed=int(number))
    return folder


def test_stanford_online_products(tmp_path):
    offers = converted("stanford-online-products", stanford(tmp_path / "in"), tmp_path / "out")
    assert [(o.extra["split"], o.product_id, o.category) for o in offers.values()] == [
        ("train", "1", "bicycle"),
        ("train", "1", "bicycle"),
        ("test", "2", "coffee_maker"),
        ("test", "2", "coffee_maker"),
    ]


def test_stanford_photograph_without_title_is_left_out_when_its_image_is_missing(tmp_path):
    folder = stanford(tmp_path / "in")
    (folder / "bicycle_final" / "111_1.JPG").unlink()
    offers = converted("stanford-online-products", folder, tmp_path / "out", max_bad=0.5)
    assert list(offers) == ["1", "3", "4"]


def test_stanford_other_header_is_no_stanford(tmp_path):
    folder = stanford(tmp_path / "in")
    write(folder / "Ebay_test.txt", "path class\n1 1\n")
    assert "the header is 'path class'" in refused("stanford-online-products", folder, tmp_path / "out")


# ABO


def abo(folder: Path) -> Path:
    def texts(*pairs: tuple[str, str]) -> list[dict[str, str]]:
        return [{"language_tag": tag, "value": value} for tag, value in pairs]

    write_gzip(
        folder / "listings" / "metadata" / "listings_0.json.gz",
        [
            {
                "item_id": "B01",
                "domain_name": "amazon.de",
                "item_name": texts(("de_DE", "Stuhl"), ("en_GB", 'Chair 22" "oak"')),
                "bullet_point": texts(("de_DE", "schön"), ("en_GB", "solid"), ("en_GB", "oak")),
                "brand": texts(("de_DE", "Rivet")),
                "model_year": [{"value": 2018}],
                "product_type": [{"value": "CHAIR"}],
                "main_image_id": "m1",
                "other_image_id": ["m1", "v1", "v1", "gone"],
            },
            {"item_id": "B01", "domain_name": "amazon.com", "item_name": texts(("en_US", "Oak chair"))},
        ],
    )
    table = [{"image_id": name, "height": "9", "width": "9", "path": f"14/{name}.jpg"} for name in ("m1", "v1")]
    write_csv(folder / "images.csv", table)
    (folder / "images" / "metadata").mkdir(parents=True)
    (folder / "images" / "metadata" / "images.csv.gz").write_bytes(gzip.compress((folder / "images.csv").read_bytes()))
    for name in ("m1", "v1"):
        save_image(folder / "images" / "small" / "14" / f"{name}.jpg", seed=ord(name[0]))
    return folder


def test_abo_listing_is_one_offer_a_image_and_speaks_english_where_it_can(tmp_path):
    offers = converted("abo", abo(tmp_path / "in"), tmp_path / "out", max_bad=0.5)
    main, view, other = offers["B01-amazon.de-main"], offers["B01-amazon.de-v1"], offers["B01-amazon.com-main"]
    assert len(offers) == 3
    assert main.title == 'Chair 22" "oak"'
    assert main.description == "solid oak"
    assert main.attributes == {"brand": "Rivet", "model_year": "2018"}
    assert main.category == view.category == "CHAIR"
    assert (view.title, view.attributes, view.extra["role"]) == ("", {}, "query")
    assert main.product_id == view.product_id == other.product_id == "B01"
    assert other.image == ""
    assert [row["field"] for row in lines(tmp_path / "out" / "skipped.jsonl")] == ["other_image_id"]


def test_abo_half_downloaded_archive_is_named(tmp_path):
    folder = abo(tmp_path / "in")
    path = folder / "listings" / "metadata" / "listings_0.json.gz"
    path.write_bytes(path.read_bytes()[:-20])
    assert re.search(r"listings_0\.json\.gz: is not a complete gzip file", refused("abo", folder, tmp_path / "out"))


# Shopee


def shopee(folder: Path) -> Path:
    rows = [
        {"posting_id": f"train_{n}", "image": f"{n % 3}.jpg", "image_phash": "94974f", "title": title, "label_group": g}
        for n, (title, g) in enumerate([('Tape 3M, 12"', "1"), ("Tape\n3M", "1"), ("Kaos", "2"), ("Baju café", "2")])
    ]
    write_csv(folder / "train.csv", rows)
    for n in range(3):
        save_image(folder / "train_images" / f"{n}.jpg", seed=n)
    return folder


def test_shopee_reads_quotes_commas_and_line_breaks(tmp_path):
    offers = converted("shopee", shopee(tmp_path / "in"), tmp_path / "out")
    assert [o.title for o in offers.values()] == ['Tape 3M, 12"', "Tape\n3M", "Kaos", "Baju café"]
    assert [o.product_id for o in offers.values()] == ["1", "1", "2", "2"]


def test_duplicate_id_keeps_the_first_row_and_lists_the_other(tmp_path):
    folder = shopee(tmp_path / "in")
    with open(folder / "train.csv", "a", encoding="utf-8") as file:
        file.write("train_0,0.jpg,x,another,9\r\n")
    offers = converted("shopee", folder, tmp_path / "out", max_bad=0.5)
    assert offers["train_0"].product_id == "1"
    (row,) = lines(tmp_path / "out" / "skipped.jsonl")
    assert row["row"] == 7  # one title has a line break
    assert "is already" in row["reason"]


def test_quote_that_is_never_closed_is_a_cut_off_file(tmp_path):
    folder = shopee(tmp_path / "in")
    with open(folder / "train.csv", "a", encoding="utf-8") as file:
        file.write('train_9,0.jpg,x,"no end,9\r\n')
    assert re.search(r"train\.csv:7: a quote is opened here", refused("shopee", folder, tmp_path / "out"))


def test_images_can_be_left_out(tmp_path):
    folder = shopee(tmp_path / "in")
    for path in (folder / "train_images").iterdir():
        path.unlink()
    assert "more than the tolerated share" in refused("shopee", folder, tmp_path / "out")
    offers = converted("shopee", folder, tmp_path / "out", images=False)
    assert not any(o.image for o in offers.values())


def test_a_later_conversion_leaves_no_file_of_the_one_before(tmp_path):
    out = tmp_path / "out"
    folder = product1m(tmp_path / "one")
    (folder / "images" / "5.jpg").unlink()
    convert(published("product1m"), folder, out, max_bad=0.5)
    convert(published("shopee"), shopee(tmp_path / "two"), out)
    assert sorted(path.name for path in out.iterdir()) == ["DATASET.md", "catalog.jsonl"]


def test_catalog_in_the_folder_itself_names_images_relatively(tmp_path):
    folder = shopee(tmp_path / "in")
    convert(published("shopee"), folder, folder)
    assert [row["image"] for row in lines(folder / "catalog.jsonl")][:1] == ["train_images/0.jpg"]


# WDC Products


def wdc_pair(left: int, right: int, cluster_left: int, cluster_right: int, **fields: Any) -> dict[str, Any]:
    def offer(identifier: int, cluster: int, side: str) -> dict[str, Any]:
        return {
            f"id_{side}": identifier,
            f"brand_{side}": None,
            f"title_{side}": f"Label tape {identifier}",
            f"description_{side}": None,
            f"price_{side}": "9.91",
            f"priceCurrency_{side}": "GBP",
            f"cluster_id_{side}": cluster,
        }

    both = offer(left, cluster_left, "left") | offer(right, cluster_right, "right")
    return both | {"pair_id": f"{left}#{right}", "label": int(cluster_left == cluster_right), **fields}


def wdc(folder: Path) -> Path:
    name = "wdcproducts80cc20rnd{}"
    write_gzip(folder / f"{name.format('000un_train_small.json.gz')}", [wdc_pair(1, 2, 7, 7), wdc_pair(1, 3, 7, 8)])
    write_gzip(folder / f"{name.format('000un_valid_small.json.gz')}", [wdc_pair(4, 3, 8, 8)])
    write_gzip(folder / f"{name.format('000un_gs.json.gz')}", [wdc_pair(5, 1, 7, 7)])
    write_gzip(folder / f"{name.format('100un_gs.json.gz')}", [wdc_pair(6, 9, 11, 11), wdc_pair(6, 10, 11, 12)])
    return folder


def test_wdc_products_split_is_by_product(tmp_path):
    offers = converted("wdc-products", wdc(tmp_path / "in"), tmp_path / "out")
    assert {o.id: (o.product_id, o.extra["split"], o.extra["subset"]) for o in offers.values()} == {
        "1": ("7", "train", "seen"),
        "2": ("7", "train", "seen"),
        "3": ("8", "train", "seen"),
        "4": ("8", "train", "seen"),
        "5": ("7", "train", "seen"),
        "6": ("11", "test", "unseen"),
        "9": ("11", "test", "unseen"),
        "10": ("12", "test", "unseen"),
    }
    assert offers["1"].attributes == {"price": "9.91 GBP"}
    pairs = lines(tmp_path / "out" / "pairs.jsonl")
    assert {p["pair_split"]: p["label"] for p in pairs if p["label"]} == {
        "train_small": 1,
        "valid_small": 1,
        "gs_000un": 1,
        "gs_100un": 1,
    }
    assert len(pairs) == 6


def test_wdc_products_of_two_ratios_is_refused(tmp_path):
    folder = wdc(tmp_path / "in")
    write_gzip(folder / "wdcproducts20cc80rnd000un_gs.json.gz", [wdc_pair(1, 2, 7, 7)])
    assert "20cc80rnd and 80cc20rnd" in refused("wdc-products", folder, tmp_path / "out")


# Abt-Buy, Amazon-Google


def leipzig(folder: Path, encoding: str = "latin-1") -> Path:
    buy = [
        {"id": "10", "name": "Bose café", "description": 'a "small" set, 3"', "manufacturer": "Bosé", "price": "£9"},
        {"id": "11", "name": "Sony", "description": "", "manufacturer": "", "price": ""},
        {"id": "12", "name": "Sony 2", "description": "", "manufacturer": "", "price": ""},
    ]
    abt = [
        {"id": "1", "name": "Bose Café Set", "description": "é", "price": ""},
        {"id": "2", "name": "Alone", "description": "", "price": "$5.00"},
    ]
    write_csv(folder / "Abt.csv", abt, encoding)
    write_csv(folder / "Buy.csv", buy, encoding)
    mapping = [{"idAbt": "1", "idBuy": "10"}, {"idAbt": "1", "idBuy": "12"}]
    write_csv(folder / "abt_buy_perfectMapping.csv", mapping)
    return folder


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-8"])
def test_leipzig_tables_in_any_encoding(tmp_path, encoding):
    offers = converted("abt-buy", leipzig(tmp_path / "in", encoding), tmp_path / "out")
    assert offers["A-1"].title == "Bose Café Set"
    assert offers["B-10"].description == 'a "small" set, 3"'
    assert offers["B-10"].attributes == {"manufacturer": "Bosé", "price": "£9"}
    assert offers["A-1"].product_id == offers["B-10"].product_id == offers["B-12"].product_id
    assert len({offers[i].product_id for i in ("A-1", "A-2", "B-11")}) == 3
    assert [offers[i].extra["role"] for i in ("A-1", "B-10")] == ["query", "gallery"]
    assert [(p["left"], p["right"], p["label"]) for p in lines(tmp_path / "out" / "pairs.jsonl")] == [
        ("A-1", "B-10", 1),
        ("A-1", "B-12", 1),
    ]


def test_half_of_the_leipzig_distribution_names_the_other_half(tmp_path):
    folder = leipzig(tmp_path / "in")
    (folder / "Buy.csv").unlink()
    message = refused("abt-buy", folder, tmp_path / "out")
    assert "the file Buy.csv is missing" in message
    assert "dbs.uni-leipzig.de" in message


def test_deepmatcher_tables(tmp_path):
    folder = tmp_path / "in" / "exp_data"
    write(folder / "tableA.csv", 'id,title,manufacturer,price\n0,"visio, 2007",microsoft,129.95\n1,flash,,\n')
    write(folder / "tableB.csv", "id,title,manufacturer,price\n0,ms visio,,119\n")
    write(folder / "train.csv", "ltable_id,rtable_id,label\n0,0,1\n")
    write(folder / "valid.csv", "ltable_id,rtable_id,label\n1,0,0\n")
    write(folder / "test.csv", "ltable_id,rtable_id,label\n")
    offers = converted("amazon-google", tmp_path / "in", tmp_path / "out")
    assert offers["A-0"].title == "visio, 2007"
    assert offers["A-0"].product_id == offers["B-0"].product_id != offers["A-1"].product_id
    assert [(p["pair_split"], p["label"]) for p in lines(tmp_path / "out" / "pairs.jsonl")] == [
        ("train", 1),
        ("valid", 0),
    ]


def ditto(folder: Path) -> Path:
    a, b = (
        "COL title VAL visio 2007 COL manufacturer VAL  COL price VAL 129.95 ",
        "COL title VAL ms visio COL price VAL ",
    )
    c = "COL title VAL value COLLINS VALUE pack COL price VAL 5"
    write(folder / "train.txt", f"{a}\t{b}\t1\n{c}\t{b}\t0\n")
    write(folder / "valid.txt", f"{a}\t{c}\t0\n")
    write(folder / "test.txt", f"{c}\t{c}\t1\n")
    return folder


def test_ditto_equal_text_is_one_offer_a_side(tmp_path):
    offers = converted("amazon-google", ditto(tmp_path / "in"), tmp_path / "out")
    assert list(offers) == ["A00000", "B00000", "A00001", "B00001"]
    assert offers["A00000"].attributes == {"price": "129.95"}
    assert offers["A00001"].title == "value COLLINS VALUE pack"
    assert offers["A00001"].product_id == offers["B00001"].product_id != offers["B00000"].product_id
    assert [p["pair_split"] for p in lines(tmp_path / "out" / "pairs.jsonl")] == ["train", "train", "valid", "test"]


@pytest.mark.parametrize("name", ["abt_buy", "amazon_google"])
def test_ditto_of_the_real_offers_gives_their_texts_and_products_back(tmp_path, name):
    """The shared sets were made of ditto's files: written back in its layout, they must come out as they are."""
    folder = shared_data(name)
    known = read_catalog(folder / "products.jsonl", max_bad=0.05).by_id
    columns = ("manufacturer", "price")

    def text(offer: Offer) -> str:
        cells = {"title": offer.title, "description": offer.description} | {
            column: offer.attributes.get(column, "") for column in columns
        }
        return " ".join(f"COL {key} VAL {value}" for key, value in cells.items())

    splits: dict[str, list[str]] = {"train": [], "valid": [], "test": []}
    for pair in lines(folder / "pairs.jsonl"):
        if pair["left"] in known and pair["right"] in known:
            left, right = known[pair["left"]], known[pair["right"]]
            splits[pair["pair_split"]].append(f"{text(left)}\t{text(right)}\t{pair['label']}")
    for split, rows in splits.items():
        write(tmp_path / "in" / f"{split}.txt", "\n".join(rows) + "\n")
    offers = converted(name, tmp_path / "in", tmp_path / "out")
    by_text = {(o.id[0], text(o)): o for o in offers.values()}
    paired = {p[side] for p in lines(folder / "pairs.jsonl") for side in ("left", "right")} & set(known)
    of_product: dict[str, set[str]] = {}
    for identifier in paired:
        found = by_text[identifier[0], text(known[identifier])]
        assert found.title == known[identifier].title
        of_product.setdefault(found.product_id, set()).add(known[identifier].product_id)
    # offers of equal text are one here, so a few of the known products may fall into one
    assert len(of_product) > 0.9 * len({known[i].product_id for i in paired})
    assert len(offers) == len({(i[0], text(known[i])) for i in paired})


# Grocery Store


def grocery(folder: Path) -> Path:
    classes = [
        ("Granny-Smith", "1", "Apple", "/iconic-images-and-descriptions/Fruit/Apple/Granny-Smith/Granny-Smith"),
        ("Avocado", "5", "Avocado", "/iconic-images-and-descriptions/Fruit/Avocado/Avocado"),
    ]
    write_csv(
        folder / "classes.csv",
        [
            {
                "Class Name (str)": name,
                "Class ID (int)": number,
                "Coarse Class Name (str)": coarse,
                "Coarse Class ID (int)": "0",
                "Iconic Image Path (str)": f"{path}_Iconic.jpg",
                # as in the repository: some paths lack the ending
                "Product Description Path (str)": f"{path}_Description",
            }
            for name, number, coarse, path in classes
        ],
    )
    for seed, (_, _, _, path) in enumerate(classes):
        save_image(folder / f"{path[1:]}_Iconic.jpg", seed=seed)
        write(folder / f"{path[1:]}_Description_Swedish.txt", "Grönt", "latin-1")
        write(folder / f"{path[1:]}_Description.txt", "A green fruit.\n")
        text = "Title: Apple Granny Smith Class 1 \nCountry and volume: Italy, ca 180g \nURL: https://x.se/y\n"
        write(folder / f"{path[1:]}_Information.txt", text)
    for split, number in (("train", 3), ("val", 4), ("test", 5)):
        path = f"{split}/Fruit/Apple/Granny-Smith/Granny-Smith_00{number}.jpg"
        save_image(folder / path, seed=number)
        write(folder / f"{split}.txt", f"{path}, 1, 0\n")
    return folder


def test_grocery_store_gives_the_catalog_that_the_project_knows(tmp_path):
    offers = converted("grocery-store", grocery(tmp_path / "repository" / "dataset"), tmp_path / "out")
    known = read_catalog(shared_data("grocery_store") / "products.jsonl", check_images=False).by_id
    photograph = next(i for i in known if re.fullmatch(r"train-Granny-Smith_\d{3}", i))
    for identifier, of_known in (
        ("iconic-Granny-Smith", "iconic-Granny-Smith"),
        ("iconic-Avocado", "iconic-Avocado"),
        ("train-Granny-Smith_003", photograph),
    ):
        mine, theirs = offers[identifier], known[of_known]
        assert (mine.title, mine.product_id, mine.category) == (theirs.title, theirs.product_id, theirs.category)
        assert (mine.extra["split"], mine.extra["role"]) == (theirs.extra["split"], theirs.extra["role"])
    assert offers["iconic-Granny-Smith"].attributes == known["iconic-Granny-Smith"].attributes
    assert offers["iconic-Avocado"].description == "A green fruit."


def test_grocery_store_class_that_no_table_knows(tmp_path):
    folder = grocery(tmp_path / "in")
    write(folder / "val.txt", "val/Fruit/x.jpg, 77, 0\n")
    assert "val.txt:1: class '77'" in refused("grocery-store", folder, tmp_path / "out")


# every set


MAKERS = {
    "m5product": (m5product, "product1m_product5m_id_label.json"),
    "product1m": (product1m, "product1m_dev_ossurl_v2.txt"),
    "stanford-online-products": (stanford, "Ebay_train.txt"),
    "abo": (abo, "listings/metadata/listings_0.json.gz"),
    "shopee": (shopee, "train.csv"),
    "wdc-products": (wdc, "wdcproducts80cc20rnd000un_train_small.json.gz"),
    "abt-buy": (leipzig, "abt_buy_perfectMapping.csv"),
    "amazon-google": (ditto, "Amzon_GoogleProducts_perfectMapping.csv"),
    "grocery-store": (grocery, "classes.csv"),
}


def test_every_set_is_made_here():
    assert set(MAKERS) == {each.name for each in PUBLISHED}


@pytest.mark.parametrize("name", MAKERS)
def test_empty_folder_names_the_missing_file_and_where_it_comes_from(tmp_path, name):
    (tmp_path / "in").mkdir()
    message = refused(name, tmp_path / "in", tmp_path / "out")
    assert MAKERS[name][1] in message
    assert published(name).homepage in message
    assert published(name).download in message
    assert not list((tmp_path / "out").glob("*"))


@pytest.mark.parametrize("name", MAKERS)
def test_folder_that_is_not_there(tmp_path, name):
    assert "no such folder" in refused(name, tmp_path / "nowhere", tmp_path / "out")


@pytest.mark.parametrize("name", MAKERS)
def test_counts_and_license_are_written_and_said(tmp_path, name, capsys):
    folder = MAKERS[name][0](tmp_path / "in")
    result = convert(published(name), folder, tmp_path / "out", max_bad=0.5)
    rows = lines(tmp_path / "out" / "catalog.jsonl")
    assert result.offers == len(rows) == sum(result.by_split.values())
    assert result.with_image == sum(bool(row["image"]) for row in rows)
    assert result.products == len({row["product_id"] for row in rows} - {""})
    about = (tmp_path / "out" / "DATASET.md").read_text(encoding="utf-8")
    assert published(name).license in about
    again = tmp_path / "again"
    dataset(name, folder, out=again, max_bad=0.5)
    assert f"{len(rows)} offers" in capsys.readouterr().out
    assert (again / "catalog.jsonl").read_bytes() == (tmp_path / "out" / "catalog.jsonl").read_bytes()


@pytest.mark.parametrize("name", MAKERS)
def test_description_says_license_homepage_and_files(name):
    text = description(published(name))
    for part in (published(name).license, published(name).homepage, published(name).download, "afmrl dataset"):
        assert part in text


def test_list_of_sets(capsys):
    dataset()
    printed = capsys.readouterr().out
    for each in PUBLISHED:
        assert each.name in printed


def test_unknown_set_and_missing_out(tmp_path):
    with pytest.raises(InputError, match="known are m5product"):
        dataset("imagenet")
    with pytest.raises(InputError, match="--out DIR"):
        dataset("shopee", tmp_path)


# files


def test_a_file_of_two_folders_is_ambiguous(tmp_path):
    write(tmp_path / "a" / "x.csv", "")
    assert find_file(tmp_path, "x.csv") == tmp_path / "a" / "x.csv"
    write(tmp_path / "b" / "x.csv", "")
    with pytest.raises(InputError, match="twice"):
        find_file(tmp_path, "x.csv")


def test_decoding(tmp_path):
    assert decode(write(tmp_path / "a", "\ufeffé–", "utf-8")) == "é–"
    assert decode(write(tmp_path / "b", "é–", "cp1252")) == "é–"
    (tmp_path / "c").write_bytes(b"\xe9\x81")  # 0x81 is no character of Windows-1252
    assert decode(tmp_path / "c") == "é\x81"
