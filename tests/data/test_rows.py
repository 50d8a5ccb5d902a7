"""Delimiters, encodings, quotes: files as programs write them."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from afmrl.data.catalog import read_catalog
from afmrl.data.reading import ReadOptions
from afmrl.errors import InputError

HEADER, ROW = ["id", "title", "description", "brand"], ["1", "Größe Łódź 5€", "a, b; c | d", "Süß"]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_delimiters_and_encodings_are_detected(tmp_path, delimiter, encoding, end):
    quoted = [f'"{cell}"' for cell in ROW]
    path = tmp_path / "o.csv"
    path.write_bytes((end.join(delimiter.join(row) for row in (HEADER, quoted)) + end).encode(encoding))
    catalog = read_catalog(path)
    (offer,) = catalog
    assert (offer.title, offer.description, dict(offer.attributes)) == (ROW[1], ROW[2], {"brand": "Süß"})
    assert "UTF-16" in catalog.reading.format if "16" in encoding else "UTF-8" in catalog.reading.format
    assert {"\t": "tab"}.get(delimiter, f"'{delimiter}'") in catalog.reading.format


def test_cp1252_is_detected_and_named(tmp_path):
    (tmp_path / "o.csv").write_bytes("id;title\n1;Größe 5€ – “fein”\n".encode("cp1252"))
    catalog = read_catalog(tmp_path / "o.csv")
    assert catalog.offers[0].title == "Größe 5€ – “fein”"
    assert "cp1252" in catalog.reading.line()


def test_cp1252_is_detected_where_some_lines_look_like_utf_8(tmp_path):
    lines = ["1;CafÃ©", *(f"{number};Größe" for number in range(2, 6))]
    (tmp_path / "o.csv").write_bytes("\n".join(["id;title", *lines]).encode("cp1252"))
    assert [offer.title for offer in read_catalog(tmp_path / "o.csv")] == ["CafÃ©", *["Größe"] * 4]
    # and a file of UTF-8 with one spoiled line stays one
    (tmp_path / "u.csv").write_bytes("id;title\n1;Größe\n2;Süß\n3;".encode() + b"Gr\xf6\xdfe\n")
    catalog = read_catalog(tmp_path / "u.csv")
    assert [offer.title for offer in catalog] == ["Größe", "Süß"] and len(catalog.skipped) == 1


def test_delimiter_and_encoding_can_be_given(tmp_path):
    (tmp_path / "o.csv").write_bytes("id~title\n1~Größe, ;|\n".encode("cp437"))
    (offer,) = read_catalog(tmp_path / "o.csv", options=ReadOptions(delimiter="~", encoding="cp437"))
    assert offer.title == "Größe, ;|"
    with pytest.raises(InputError, match="--encoding klingon: there is no such encoding"):
        read_catalog(tmp_path / "o.csv", options=ReadOptions(encoding="klingon"))
    with pytest.raises(InputError, match="--delimiter '::': one character, or tab"):
        read_catalog(tmp_path / "o.csv", options=ReadOptions(delimiter="::"))


def test_excels_first_line_names_the_delimiter(tmp_path):
    (tmp_path / "o.csv").write_text("sep=;\nid;title\n1;a,b,c\n2\n")
    catalog = read_catalog(tmp_path / "o.csv", max_bad=0.5)
    assert catalog.offers[0].title == "a,b,c"
    assert catalog.skipped[0].row == 4


@pytest.mark.parametrize(
    ("cell", "title"),
    [
        ('"Hello Kitty" mug', '"Hello Kitty" mug'), ('5" pipe', '5" pipe'), ('mug "Hello"', 'mug "Hello"'),
        ('"never closed', '"never closed'), ('"a" and "b"', '"a" and "b"'),
    ],
)  # fmt: skip
def test_quotes_are_characters_of_a_feed_with_tabs(tmp_path, cell, title):
    rows = "".join(f"r{number}\tplain {number}\tA\n" for number in range(5))
    (tmp_path / "o.tsv").write_text(f"id\ttitle\tbrand\n1\t{cell}\tSanrio\n{rows}")
    catalog = read_catalog(tmp_path / "o.tsv", max_bad=0)
    assert catalog.by_id["1"].title == title
    assert len(catalog) == 6


def test_quotes_enclose_cells_of_a_spreadsheet_with_tabs(tmp_path):
    (tmp_path / "o.tsv").write_text('id\ttitle\tbrand\n1\t"two\nlines, ""quoted"""\t"A\tB"\n2\t"x"\t5" wide\n')
    first, second = read_catalog(tmp_path / "o.tsv", max_bad=0)
    assert (first.title, first.attributes["brand"]) == ('two\nlines, "quoted"', "A\tB")
    assert (second.title, second.attributes["brand"]) == ("x", '5" wide')


def test_empty_lines_before_the_header(tmp_path):
    (tmp_path / "o.csv").write_text("\n\nid;title\n1;a,b\n")
    assert read_catalog(tmp_path / "o.csv").offers[0].title == "a,b"


def test_long_cells_are_read(tmp_path):
    text = "word " * 60_000
    (tmp_path / "o.csv").write_text(f"id,title,description\n1,t,{text}\n")
    assert read_catalog(tmp_path / "o.csv").offers[0].description == text


@pytest.mark.parametrize("ending", ["csv", "parquet", "jsonl"])
def test_a_column_that_is_there_twice_is_refused_by_name(tmp_path, ending):
    path = tmp_path / f"o.{ending}"
    if ending == "csv":
        path.write_text("id,title,category,category\n1,a,b,\n")
    elif ending == "parquet":
        columns = [pa.array([value]) for value in ("1", "a", "b", "")]
        pq.write_table(pa.Table.from_arrays(columns, ["id", "title", "category", "category"]), path)
    else:
        path.write_text('{"id": "1", "title": "a", "category": "b", "category": ""}\n')
    with pytest.raises(InputError, match=r"category.* is there (2 times|twice)"):
        read_catalog(path)


def test_delimiters_at_the_end_of_lines_are_no_columns(tmp_path):
    (tmp_path / "o.csv").write_text("id,title,,\n1,a,,\n2,b,,,,\n")
    catalog = read_catalog(tmp_path / "o.csv", max_bad=0)
    assert [dict(offer.extra) for offer in catalog] == [{}, {}]


def test_json_lines_are_not_broken_by_other_ends_of_lines(tmp_path):
    titles = ["a\u2028b", "a\u0085b", "a\u2029b", "a\x0bb", "a\x0cb", "a\x1cb"]
    lines = [json.dumps({"id": str(n), "title": title}, ensure_ascii=False) for n, title in enumerate(titles)]
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        (tmp_path / "o.jsonl").write_bytes("\r\n".join(lines).encode(encoding))
        read = [offer.title for offer in read_catalog(tmp_path / "o.jsonl", max_bad=0)]
        assert read == ["a\u2028b", "a b", "a\u2029b", "a b", "a b", "a b"]


def test_a_list_of_objects_is_a_catalog(tmp_path):
    rows = [{"id": 1, "title": "a"}, {"id": 2, "title": "b"}]
    for value in (rows, {"products": rows, "total": 2}):
        (tmp_path / "o.json").write_text(json.dumps(value))
        assert [offer.id for offer in read_catalog(tmp_path / "o.json")] == ["1", "2"]
    (tmp_path / "o.json").write_text("{")
    with pytest.raises(InputError, match=r"o.json: is not JSON .*read as .jsonl"):
        read_catalog(tmp_path / "o.json")


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_name_that_holds_another_delimiter(tmp_path, delimiter):
    (tmp_path / "o.csv").write_text(delimiter.join(["id", "title", '"a;b,c|d"']) + "\n" + delimiter.join("123") + "\n")
    (offer,) = read_catalog(tmp_path / "o.csv")
    assert offer.extra == {"a;b,c|d": "3"}
