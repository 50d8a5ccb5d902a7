import datetime
import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from afmrl.data.catalog import open_catalog, read_catalog, write_catalog
from afmrl.data.offer import Offer
from afmrl.data.reading import ReadOptions
from afmrl.errors import InputError
from conftest import png_claiming, save_image, shared_data

ROW = {"id": "a", "title": "red dress"}


def jsonl(folder, *rows, name="offers.jsonl"):
    path = folder / name
    lines = [row if isinstance(row, bytes) else json.dumps(row, ensure_ascii=False).encode() for row in rows]
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def good(count, **fields):
    return [{"id": f"g{number}", "title": f"title {number}", **fields} for number in range(count)]


def refused(path, **options):
    with pytest.raises(InputError) as caught:
        read_catalog(path, **options)
    return str(caught.value)


# reading


@pytest.mark.parametrize("ending", ["jsonl", "csv", "tsv", "parquet"])
def test_every_format_gives_the_same_offers(tmp_path, ending):
    save_image(tmp_path / "images" / "a.png")
    rows = [
        {"id": "1", "title": 'Kleid, "rot"', "description": "zwei\nZeilen", "image": "images/a.png",
         "category": "dress", "attributes": {"color": "rot"}, "product_id": "p", "family_id": "f"},
        {"id": "2", "title": "深红色 连衣裙", "description": "", "image": "", "category": "", "attributes": {},
         "product_id": "", "family_id": ""},
    ]  # fmt: skip
    path = tmp_path / f"offers.{ending}"
    if ending == "jsonl":
        jsonl(tmp_path, *rows)
    elif ending == "parquet":
        table = pa.Table.from_pylist(rows)
        attributes = pa.array([[("color", "rot")], []], pa.map_(pa.string(), pa.string()))
        pq.write_table(table.set_column(table.schema.get_field_index("attributes"), "attributes", attributes), path)
    else:
        delimiter = "," if ending == "csv" else "\t"
        cells = [[json.dumps(v) if isinstance(v, dict) else v for v in row.values()] for row in rows]
        quoted = [['"' + cell.replace('"', '""') + '"' for cell in row] for row in cells]
        text = "\r\n".join(delimiter.join(row) for row in [list(rows[0]), *quoted])
        path.write_text("\ufeff" + text, encoding="utf-8", newline="")
    catalog = read_catalog(path)
    assert not catalog.skipped
    first, second = catalog
    assert first == Offer(
        id="1", title='Kleid, "rot"', description="zwei\nZeilen", image=str(tmp_path / "images" / "a.png"),
        category="dress", attributes={"color": "rot"}, product_id="p", extra={"family_id": "f"},
    )  # fmt: skip
    assert (second.title, dict(second.attributes), second.image) == ("深红色 连衣裙", {}, "")
    assert catalog.by_id["2"] is second


def test_what_is_written_reads_back_wherever_the_folder_goes(tmp_path):
    image = save_image(tmp_path / "here" / "images" / "a.png")
    elsewhere = save_image(tmp_path / "b.png")
    offers = [
        Offer("1", "red", "long", str(image), "dress", {"color": "red"}, "p1", {"split": "train", "rank": 7}),
        Offer("2", "", "", str(elsewhere)),
        Offer("3", "深红色"),
    ]
    path = tmp_path / "here" / "offers.jsonl"
    write_catalog(path, offers)
    assert list(read_catalog(path)) == offers
    assert not list(path.parent.glob("*.tmp"))
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    moved = read_catalog(tmp_path / "there" / "offers.jsonl").offers
    assert moved[0].image == str(tmp_path / "there" / "images" / "a.png")
    write_catalog(tmp_path / "there" / "again.jsonl", moved)
    assert (tmp_path / "there" / "again.jsonl").read_bytes() == path.read_bytes()


def test_a_column_that_json_does_not_know_is_written_as_text(tmp_path):
    write_catalog(tmp_path / "o.jsonl", [Offer("1", "x", extra={"day": datetime.date(2026, 1, 2)})])
    assert read_catalog(tmp_path / "o.jsonl").offers[0].extra == {"day": "2026-01-02"}


def test_numbers_are_read_as_text_and_empty_cells_of_pandas_as_nothing(tmp_path):
    path = jsonl(
        tmp_path, b'{"id": 7, "title": 501, "product_id": NaN, "category": null, "attributes": {"x": 1, "y": null}}'
    )
    (offer,) = read_catalog(path)
    assert (offer.id, offer.title, offer.product_id, offer.category) == ("7", "501", "", "")
    assert offer.attributes == {"x": "1"}


@pytest.mark.parametrize(
    "attributes",
    [
        {"Color": "red", "size": 36.0, "gtin": None},
        [{"name": "Color", "value": "red"}, {"name": "size", "value": 36}],
        [{"key": "Color", "values": ["red"]}, {"key": "size", "value": {"id": 3, "value": "36"}}],
        [{"id": 5, "name": "Color", "option": "red"}, {"name": "size", "options": ["36"]}],
        [["Color", "red"], ["size", 36]],
    ],
)
def test_attributes_as_shops_interfaces_write_them(tmp_path, attributes):
    path = jsonl(tmp_path, {"id": 1, "title": "t", "attributes": attributes, "brand": {"id": 7, "name": "Stelton"}})
    (offer,) = read_catalog(path)
    assert offer.attributes == {"Color": "red", "size": "36", "brand": "Stelton"}


def test_empty_lines_are_no_rows_but_count_as_lines(tmp_path):
    path = jsonl(tmp_path, *good(99), b"", b"  ", {"id": "x"})
    (row,) = read_catalog(path, max_bad=0.01).skipped
    assert row.row == 102


# mistakes that are one row's


@pytest.mark.parametrize(
    ("row", "field", "reason"),
    [
        ({"id": "x", "title": " ", "image": ""}, "title, image", "both empty"),
        ({"id": "x"}, "title, image", "both empty"),
        ({"title": "no id"}, "id", "missing"),
        ({"id": " ", "title": "t"}, "id", "missing"),
        ({"id": ["x"], "title": "t"}, "id", "missing or not text"),
        ({"id": "x", "title": "t" * 100_000}, "title", "100,000 characters, at most 10,000"),
        ({"id": "x", "title": {"de": "Kleid"}}, "title", "is dict, expected text"),
        ({"id": "x", "title": "t", "attributes": "red"}, "attributes", "not a JSON object"),
        ({"id": "x", "title": "t", "attributes": [1]}, "attributes", "is list"),
        ({"id": "x", "image": "missing.jpg"}, "image", "missing.jpg: no such file"),
        ({"id": "x", "image": "page.jpg"}, "image", "page.jpg: not an image"),
        ({"id": "x", "image": "bomb.png"}, "image", "10000 × 10000 pixels"),
        ({"id": "x", "image": "https://shop/a.jpg"}, "title, image", "--fetch"),
        ({"id": "x", "image": "ftp://shop/a.jpg"}, "image", "only http and https"),
        ({"id": "x", "image": "a\0b"}, "image", "no such file"),
        ({"id": "x\u001b[2J", "title": "t"}, "id", "control character"),
        (b'{"id": "x\\ud83d", "title": "t"}', "id", "half a character"),
        ({"id": "x", "title": "t", "attributes": [[["k"], "v"]]}, "attributes", "keys are not all text"),
        ({"id": "x", "title": "t", "attributes": "[" * 100_000}, "attributes", "not a JSON object"),
        ({"id": "x", "title": "t", "attributes": {"a": "v" * 1_000_001}}, "attributes", "1,000,001 characters"),
        ({"id": "x", "title": "t", "note": list(range(100_001))}, "note", "more than 100,000 entries"),
        (b'{"id": "x", "title": "t", "note": ' + b"[" * 200 + b"]" * 200 + b"}", "note", "over 32 levels"),
        (b'{"id": "x", "title": "t", "note": "' + b"a" * (1 << 24) + b'"}', "line", "more than 16,777,216 bytes"),
        ({"id": "x", "image": "a" * 300 + ".jpg"}, "image", "not an image"),
        (b'{"id": "x", "title": "t"', "line", "is not JSON"),
        (b'{"id": "x", "title": "\xff\xfe"}', "line", "is not UTF-8"),
        (b"[1, 2]", "line", "not a JSON object"),
        (b"[" * 100_000, "line", "is not JSON"),
    ],
)  # fmt: skip
def test_a_bad_row_is_skipped_and_listed_by_file_row_and_field(tmp_path, row, field, reason):
    (tmp_path / "page.jpg").write_text("<html>not found</html>")
    (tmp_path / "bomb.png").write_bytes(png_claiming(10_000, 10_000))
    path = jsonl(tmp_path, *good(150)[:57], row, *good(150)[57:])
    catalog = read_catalog(path)
    assert [offer.id for offer in catalog] == [f"g{number}" for number in range(150)]
    (skipped,) = catalog.skipped
    assert (skipped.file, skipped.row, skipped.field) == (str(path), 58, field)
    assert reason in skipped.reason
    assert skipped.id == ("x" if isinstance(row, dict) and row.get("id") == "x" else skipped.id)
    skipped.reason.encode()
    assert str(skipped).startswith(f"{path}:58: {field}: ")
    assert len(str(skipped)) < 700
    assert catalog.reading.left_out == {skipped.kind: 1}
    # and where no share is tolerated it stops the run, with the same words
    assert str(skipped) in refused(path, max_bad=0.0)


def test_texts_are_made_clean_once(tmp_path):
    row = {
        "id": "x", "title": "red\ud83d dress", "description": "a\u001b[31mb\r\nc", "seller": "s\ud83d",
        "attributes": {"co\udc00lor": ["r\u0007ed"]}, "note": [{"k\u0000": "v\u009b"}],
    }  # fmt: skip
    (offer,) = read_catalog(jsonl(tmp_path, json.dumps(row).encode())).offers
    assert (offer.title, offer.description) == ("red\ufffd dress", "a [31mb\nc")
    assert (offer.attributes, offer.extra["seller"]) == ({"co\ufffdlor": "r ed"}, "s\ufffd")
    assert offer.extra["note"] == [{"k ": "v "}]


@pytest.mark.parametrize(
    ("image", "reason"),
    [("missing.jpg", "no such file"), ("page.jpg", "not an image"), ("ftp://shop/a.jpg", "only http")],
)
def test_an_unreadable_image_costs_the_image_and_not_the_offer(tmp_path, image, reason):
    (tmp_path / "page.jpg").write_text("<html>not found</html>")
    path = jsonl(tmp_path, *good(3), {"id": "x", "title": "t", "image": image})
    catalog = read_catalog(path)
    assert (catalog.by_id["x"].title, catalog.by_id["x"].image) == ("t", "")
    assert not catalog.skipped and not catalog.reading.left_out
    (lost,) = catalog.faults
    assert (lost.row, lost.field, lost.id, lost.lost) == (4, "image", "x", "image") and reason in lost.reason
    assert "1 image cannot be read and left out" in catalog.reading.line()
    assert str(lost) in refused(path, max_bad=0)


def test_the_next_image_that_can_be_read_leads(tmp_path):
    save_image(tmp_path / "b.png")
    path = jsonl(tmp_path, {"id": "x", "image": ["a.png", "b.png", "c.png"]})
    catalog = read_catalog(path)
    assert catalog.offers[0].image == str(tmp_path / "b.png")
    assert [lost.reason for lost in catalog.lost_images] == [f"{tmp_path / 'a.png'}: no such file"]


def test_most_rows_may_not_be_bad_but_some_may(tmp_path):
    bad = [{"id": f"b{number}"} for number in range(60)]
    assert len(read_catalog(jsonl(tmp_path, *good(60), *bad)).skipped) == 60
    assert "60 of 119 rows cannot be used, more than the tolerated share of 0.5" in refused(
        jsonl(tmp_path, *good(59), *bad)
    )
    assert len(read_catalog(jsonl(tmp_path, *good(1), *bad[:5]))) == 1  # a share of six rows says little
    assert "so none is left" in refused(jsonl(tmp_path, *bad[:2]), max_bad=1)
    assert "1 of 1001 rows" in refused(jsonl(tmp_path, *good(1000), *bad[:1]), max_bad=0)


@pytest.mark.parametrize("max_bad", [-0.1, 1.5, 7, float("nan"), float("inf"), True, "0.5", None])
def test_a_max_bad_that_is_no_share_is_refused(tmp_path, max_bad):
    for source in (jsonl(tmp_path, *good(3)), [Offer("1", "a")]):
        with pytest.raises(InputError, match="a share between 0"):
            open_catalog(source, max_bad=max_bad)


def test_skipped_rows_keep_their_id_where_it_can_be_read(tmp_path):
    path = jsonl(tmp_path, *good(99), {"id": "lost", "title": ""}, name="a.jsonl")
    assert read_catalog(path).skipped[0].id == "lost"
    (tmp_path / "a.csv").write_text("id,title\n" + "".join(f"g{n},t\n" for n in range(99)) + "lost,\n")
    assert read_catalog(tmp_path / "a.csv").skipped[0].id == "lost"


def test_the_tolerated_share_is_exact(tmp_path):
    bad = [{"id": f"b{number}", "title": "", "image": ""} for number in range(11)]
    path = jsonl(tmp_path, *good(90), *bad[:10])
    assert len(read_catalog(path, max_bad=0.1).skipped) == 10
    path = jsonl(tmp_path, *good(90), *bad)
    message = refused(path, max_bad=0.1)
    assert "11 of 101 rows cannot be used, more than the tolerated share of 0.1" in message
    assert f"{path}:91: title, image" in message
    assert "… and 1 more" in message
    assert "--max-bad" in message


def test_nothing_left_is_refused_whatever_is_tolerated(tmp_path):
    message = refused(jsonl(tmp_path, {"id": "x"}, {"id": "y"}), max_bad=1.0)
    assert "2 of 2 rows cannot be used, so none is left" in message


def test_images_are_looked_at_only_when_asked(tmp_path):
    path = jsonl(tmp_path, {**ROW, "image": "missing.jpg"})
    assert read_catalog(path, check_images=False).offers[0].image == str(tmp_path / "missing.jpg")


# mistakes that stop the whole catalog


def test_a_missing_catalog_and_an_unknown_ending_are_named(tmp_path):
    assert "nowhere.jsonl: no such file" in refused(tmp_path / "nowhere.jsonl")
    (tmp_path / "offers.xlsx").write_bytes(b"PK")
    assert "unknown ending '.xlsx'; known are .jsonl" in refused(tmp_path / "offers.xlsx")
    assert "no such file" in refused(tmp_path)


@pytest.mark.parametrize("name", ["o.jsonl", "o.csv", "o.tsv"])
def test_an_empty_catalog_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    assert f"{name}: the catalog is empty" in refused(tmp_path / name)
    (tmp_path / name).write_text("\n\n" if name == "o.jsonl" else "id\ttitle\n" if name == "o.tsv" else "id,title\n")
    assert f"{name}: the catalog is empty" in refused(tmp_path / name)


def test_an_empty_parquet_is_refused(tmp_path):
    pq.write_table(pa.table({"id": pa.array([], pa.string())}), tmp_path / "o.parquet")
    assert "the catalog is empty" in refused(tmp_path / "o.parquet")


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
def test_an_id_twice_costs_the_later_row(tmp_path, ending):
    rows = [*good(4), {"id": "g1", "title": "again"}]
    path = tmp_path / f"o.{ending}"
    if ending == "jsonl":
        jsonl(tmp_path, *rows, name=path.name)
    elif ending == "csv":
        path.write_text("id,title\n" + "\n".join(f"{row['id']},{row['title']}" for row in rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    first, second = (3, 6) if ending == "csv" else (2, 5)
    catalog = read_catalog(path, max_bad=0.2)
    assert catalog.by_id["g1"].title == "title 1"
    assert [str(row) for row in catalog.skipped] == [
        f"{path}:{second}: id: 'g1' is already in row {first}; ids must be unique"
    ]
    assert not catalog.skipped_ids  # pairs and qrels that name it mean the first
    assert f"{path}:{second}: id: 'g1' is already in row {first}" in refused(path, max_bad=0)


def test_a_file_without_an_id_is_refused_with_its_columns_and_advice(tmp_path):
    (tmp_path / "o.csv").write_text("number;title\n1;red\n")
    jsonl(tmp_path, {"number": 1, "title": "red"}, name="o.jsonl")
    pq.write_table(pa.table({"number": ["1"], "title": ["red"]}), tmp_path / "o.parquet")
    for name in ("o.csv", "o.jsonl", "o.parquet"):
        message = refused(tmp_path / name)
        assert f"{name}: no column is read as the offers' id (columns: number, title)" in message
        assert "--columns id=COLUMN" in message
        (offer,) = read_catalog(tmp_path / name, options=ReadOptions({"id": "number"}))
        assert offer.id == "1"


def test_csv_that_is_no_utf8_is_no_silent_damage(tmp_path):
    rows = "".join(f"{number},title\n" for number in range(100)).encode()
    (tmp_path / "o.csv").write_bytes(b"id,title\n" + rows + "x,grün\n".encode("latin-1"))
    assert read_catalog(tmp_path / "o.csv").by_id["x"].title == "grün"
    (tmp_path / "o.csv").write_bytes("id,title\ny,grün\n".encode() + rows + "x,grün\n".encode("latin-1"))
    catalog = read_catalog(tmp_path / "o.csv")
    assert [(row.row, row.reason) for row in catalog.skipped] == [(103, "is not UTF-8")]
    assert catalog.by_id["y"].title == "grün"


def test_csv_rows_of_another_width_are_listed(tmp_path):
    (tmp_path / "o.csv").write_text("id,title\na,t\nb\nc,t,t\nd,t\n")
    catalog = read_catalog(tmp_path / "o.csv", max_bad=0.5)
    assert [offer.id for offer in catalog] == ["a", "d"]
    assert [(row.row, row.reason) for row in catalog.skipped] == [
        (3, "has another number of cells than the header"),
        (4, "has another number of cells than the header"),
    ]


@pytest.mark.parametrize("rest", ["", 'z,"another"\n', "z,t\n" * 40_000])
def test_a_quote_that_is_never_closed_swallows_no_rows(tmp_path, rest):
    (tmp_path / "o.csv").write_text('id,title\na,t\nb,"t\nc,t\nd,t\n' + rest)
    assert "o.csv:3: a quote is opened and not closed" in refused(tmp_path / "o.csv", max_bad=0.9)


def test_csv_cells_of_any_length_end_in_an_answer(tmp_path):
    (tmp_path / "o.csv").write_text("id,title\n" + "a,t\n" + "b," + "t" * 100_000 + "\n" + "c," + "t" * 200_000 + "\n")
    catalog = read_catalog(tmp_path / "o.csv", max_bad=0.9)
    assert [(row.row, row.field) for row in catalog.skipped] == [(3, "title"), (4, "title")]


def test_parquet_that_is_torn_or_none(tmp_path):
    path = tmp_path / "o.parquet"
    pq.write_table(pa.Table.from_pylist(good(5000, description="words " * 20)), path, row_group_size=500)
    whole = path.read_bytes()
    for torn in (b"", b"PAR1", whole[: len(whole) // 2], b"id,title\n1,x\n"):
        path.write_bytes(torn)
        assert "o.parquet: is not Parquet" in refused(path)
    middle = bytearray(whole)
    middle[len(whole) // 3 : 2 * len(whole) // 3] = bytes(len(whole) // 3)
    path.write_bytes(middle)
    assert "the file is damaged" in refused(path)


def test_real_offers_all_read():
    folder = shared_data("magento_luma")
    catalog = read_catalog(folder / "products.jsonl")
    assert len(catalog) == len((folder / "products.jsonl").read_text(encoding="utf-8").splitlines()) > 400
    assert not catalog.skipped
    assert all(offer.image.startswith(str(folder.resolve())) for offer in catalog if offer.image)


def test_an_empty_cell_of_attributes_as_pandas_writes_it(tmp_path):
    (tmp_path / "c.jsonl").write_text('{"id": "1", "title": "a", "attributes": NaN}\n')
    assert read_catalog(tmp_path / "c.jsonl").offers[0].attributes == {}
