"""Columns as shops name them."""

import json
import unicodedata

import pytest

from afmrl.data.catalog import read_catalog, read_report, write_catalog
from afmrl.data.columns import Columns, plain_name
from afmrl.data.offer import Offer
from afmrl.data.reading import ReadOptions
from afmrl.errors import InputError
from conftest import save_image


def csv(folder, *rows, name="offers.csv"):
    (folder / name).write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder / name


def one(folder, header, row, **options):
    (offer,) = read_catalog(csv(folder, header, row), options=ReadOptions(**options), check_images=False)
    return offer


@pytest.mark.parametrize(
    "names",
    [
        ("sku", "name", "image_link", "product_type", "vendor", "ean", "modelno", "colour"),
        ("SKU", "Product Name", "Image URL", "Categories", "Manufacturer", "GTIN-13", "Model Number", "Farbe"),
        ("g:id", "g:title", "g:image_link", "g:product_type", "g:brand", "g:gtin", "g:model", "g:color"),
        ("Artikelnummer", "Produktname", "Bild", "Kategorie", "Marke", "Barcode", "Modell", "Colour"),
        ("offer_id", "Titel", "images", "category_path", "Hersteller", "UPC", "MODEL", "COLOR"),
        ("item_id", "bezeichnung", "picture", "breadcrumb", "Brand Name", "isbn", "model_no", "couleur"),
    ],
)
def test_synonyms_are_read_without_case_and_punctuation(tmp_path, names):
    row = "1,Mug,a.jpg,Kitchen > Mugs,Stelton,5709846012345,EM77,red"
    offer = one(tmp_path, ",".join(names), row)
    assert (offer.id, offer.title, offer.category) == ("1", "Mug", "Kitchen > Mugs")
    assert offer.image == str(tmp_path / "a.jpg")
    assert offer.attributes == {"brand": "Stelton", "gtin": "5709846012345", "model": "EM77", "color": "red"}


def test_columns_of_the_merchant_feed_are_seller_attributes_and_prices_never(tmp_path):
    header = (
        "id,title,brand,gtin,mpn,color,size,material,pattern,gender,age_group,price,availability,condition,"
        "quantity,shipping_weight,link"
    )
    offer = one(
        tmp_path, header, "1,Dress,Maison,4006381333931,M-1,red,M,silk,dots,female,adult,9 EUR,in stock,new,3,1 kg,u"
    )
    assert offer.attributes == {
        "brand": "Maison", "gtin": "4006381333931", "mpn": "M-1", "color": "red", "size": "M", "material": "silk",
        "pattern": "dots", "gender": "female", "age_group": "adult",
    }  # fmt: skip
    assert {"price", "availability", "condition", "quantity", "shipping_weight", "link"} <= offer.extra.keys()
    assert offer.column("gtin") == "4006381333931"


def test_an_attribute_named_by_a_synonym_is_a_column_by_its_own_name(tmp_path):
    assert one(tmp_path, "id,title,EAN", "1,Mug,4006381333931").column("gtin") == "4006381333931"


def test_what_the_attributes_say_wins_over_a_column(tmp_path):
    row = {"id": "1", "title": "x", "brand": "A", "color": "red", "attributes": {"Colour": "blue", "brand": "B"}}
    (tmp_path / "o.jsonl").write_text(json.dumps(row) + "\n")
    assert read_catalog(tmp_path / "o.jsonl").offers[0].attributes == {"Colour": "blue", "brand": "B"}


def test_several_columns_of_one_meaning_fill_each_other(tmp_path):
    path = csv(tmp_path, "id,title,name,ean,upc", "1,,Mug,,036000291452", "2,Cup,Other,4006381333931,036000291452")
    mug, cup = read_catalog(path)
    assert (mug.title, mug.attributes["gtin"]) == ("Mug", "036000291452")
    assert (cup.title, cup.attributes["gtin"]) == ("Cup", "4006381333931, 036000291452")


def test_product_id_is_the_label_and_an_id_only_where_there_is_no_other(tmp_path):
    offer = one(tmp_path, "sku,product_id,title", "s1,p1,Mug")
    assert (offer.id, offer.product_id) == ("s1", "p1")
    offer = one(tmp_path, "product_id,title", "p1,Mug")
    assert (offer.id, offer.product_id) == ("p1", "")


def test_a_row_without_its_id_gets_none_of_another_column(tmp_path):
    rows = [{"id": str(number), "title": "t", "product_id": "p"} for number in range(9)]
    lines = [json.dumps(row) for row in ({"title": "t", "product_id": "p"}, *rows)]
    (tmp_path / "o.jsonl").write_text("\n".join(lines))
    (skipped,) = read_catalog(tmp_path / "o.jsonl", max_bad=0.1).skipped
    assert (skipped.row, skipped.field, skipped.reason) == (1, "id", "is missing or not text")


def test_columns_can_be_named(tmp_path):
    header = "nr;what;who;Bund"
    offer = one(
        tmp_path, header, "7;Jeans;Levi's;W32", columns={"id": "nr", "title": "what", "brand": "who", "waist": "Bund"}
    )
    assert (offer.id, offer.title) == ("7", "Jeans")
    assert offer.attributes == {"brand": "Levi's", "waist": "W32"}
    assert one(tmp_path, "what", "Jeans", columns={"title": "what", "id": "#"}).id == "2"
    with pytest.raises(InputError, match=r"--columns title=nowhere: there is no such column \(columns: nr, what"):
        one(tmp_path, header, "7;a;b;c", columns={"id": "nr", "title": "nowhere"})


def test_a_column_that_only_later_rows_have_is_read_too(tmp_path):
    rows = [{"sku": str(number), "name": f"t{number}"} for number in range(600)]
    rows[500] |= {"ean": "4006381333931", "id": "another"}
    (tmp_path / "o.jsonl").write_text("\n".join(map(json.dumps, rows)))
    catalog = read_catalog(tmp_path / "o.jsonl")
    assert [offer.id for offer in catalog] == [row["sku"] for row in rows]
    assert catalog.by_id["500"].attributes == {"gtin": "4006381333931"}


@pytest.mark.parametrize(
    "category",
    [["Home", "Mugs"], '["Home", "Mugs"]', "Home > Mugs", "Home &gt; Mugs"],
)
def test_categories_may_be_lists(tmp_path, category):
    (tmp_path / "o.jsonl").write_text(json.dumps({"id": "1", "title": "x", "category": category}))
    assert read_catalog(tmp_path / "o.jsonl").offers[0].category == "Home > Mugs"


@pytest.mark.parametrize(
    "image",
    [
        {"image": ["a.png", "b.png"]}, {"image": "a.png, b.png"}, {"image": '["a.png", "b.png"]'},
        {"image": "a.png", "images": ["a.png", "b.png"]}, {"image_link": "a.png", "additional_image_link": "b.png"},
        {"images": "a.png|b.png"}, {"images": [{"src": "a.png"}, {"src": "b.png"}]},
        {"image": {"url": "a.png"}, "img": "b.png"},
    ],
)  # fmt: skip
def test_the_first_image_leads_and_all_are_kept(tmp_path, image):
    for name in ("a.png", "b.png"):
        save_image(tmp_path / name)
    (tmp_path / "o.jsonl").write_text(json.dumps({"id": "1", **image}))
    (offer,) = read_catalog(tmp_path / "o.jsonl")
    assert offer.image == str(tmp_path / "a.png")
    assert offer.extra["images"] == [str(tmp_path / "a.png"), str(tmp_path / "b.png")]


def test_a_comma_in_the_name_of_an_image_separates_nothing(tmp_path):
    save_image(tmp_path / "red, blue.png")
    (tmp_path / "o.jsonl").write_text(json.dumps({"id": "1", "image": "red, blue.png"}))
    assert read_catalog(tmp_path / "o.jsonl").offers[0].image == str(tmp_path / "red, blue.png")


def test_addresses_of_images_are_left_out_and_counted(tmp_path):
    path = csv(tmp_path, "id,title,image_link", "1,Mug,https://shop/a.jpg", "2,Cup,", "3,Pot,//cdn/b")
    catalog = read_catalog(path, max_bad=0)
    assert [offer.image for offer in catalog] == ["", "", ""]
    assert catalog.reading.addresses == 2
    assert catalog.by_id["1"].extra["images"] == ["https://shop/a.jpg"]
    write_catalog(tmp_path / "again.jsonl", catalog)
    assert list(read_catalog(tmp_path / "again.jsonl")) == list(catalog)
    assert "images of 2 offers are addresses and were not fetched" in catalog.reading.line()


@pytest.mark.parametrize(
    ("column", "name", "meaning"),
    [("tilte", "title", "title"), ("Prodct Name", "productname", "title"), ("desciption", "description", "description"),
     ("catgory", "category", "category"), ("imge", "image", "image"), ("brnad", "brand", "brand"),
     ("manufacurer", "manufacturer", "brand"), ("colr", "color", "color")],
)  # fmt: skip
def test_a_misspelled_column_is_hinted_at(tmp_path, column, name, meaning):
    other = "title" if meaning != "title" else "description"
    path = tmp_path / "o.jsonl"
    path.write_text("".join(json.dumps({"id": n, other: "Mug", column: "x y"}) + "\n" for n in range(3)))
    reading = read_report(path)
    assert f"column {column!r} is not used; did you mean {name!r}? --columns {meaning}={column}" in reading.suspects()


def test_a_row_with_a_misspelled_title_says_what_was_meant(tmp_path):
    path = tmp_path / "o.jsonl"
    path.write_text('{"id": 1, "title": "Mug"}\n{"id": 2, "tilte": "Cup"}\n{"id": 3, "price": 3}\n')
    first, second = read_catalog(path).skipped
    assert first.reason.endswith("; did you mean 'title' by 'tilte'?") and "did you mean" not in second.reason


def test_ordinary_columns_are_no_misspellings(tmp_path):
    names = "price stock weight style_id view subset has_match link gtin_valid currency condition tags availability"
    path = tmp_path / "o.jsonl"
    path.write_text(json.dumps({"id": 1, "title": "Mug", **dict.fromkeys(names.split(), "x")}) + "\n")
    assert read_report(path).suspects() == []


def test_what_was_read_is_said_in_one_line(tmp_path):
    path = csv(tmp_path, "SKU;Name;Marke;price;stock", "1;Mug;A;3;1", "2;;B;4;1", "2;Cup;B;4;1", "1;Pot;B;4;1")
    reading = read_catalog(path, max_bad=1).reading
    assert reading.line() == (
        f"{path}: 2 offers of 4 rows (CSV, ';', UTF-8); read: id (SKU), title (Name), brand (Marke); "
        "not used: price, stock; 2 rows left out: 1 × title, image: are both empty, one of them is needed, "
        "1 × id: … is already in row …; ids must be unique"
    )
    assert [offer.id for offer in reading.first] == ["2", "1"] or [offer.id for offer in reading.first] == ["1", "2"]


@pytest.mark.parametrize(
    ("value", "meaning"),
    [
        (["4006381333931", "036000291452"], "gtin"), (["a.jpg", "https://x/b.PNG?w=3"], "image"),
        (["A > B", "A > C"], "category"),
    ],
)  # fmt: skip
def test_a_column_that_looks_like_one_that_is_read_is_told(tmp_path, value, meaning):
    path = csv(tmp_path, "id,title,zzz,price", f"1,a,{value[0]},1", f"2,b,{value[1]},2")
    (suspect,) = read_catalog(path).reading.suspects()
    assert f"'zzz' looks like {meaning}" in suspect and f"--columns {meaning}=zzz" in suspect


def test_whole_numbers_of_pandas_are_ids_and_codes(tmp_path):
    (tmp_path / "o.jsonl").write_text('{"id": 7.0, "title": "x", "ean": 4006381333931.0, "brand": NaN}')
    (offer,) = read_catalog(tmp_path / "o.jsonl")
    assert offer.id == "7" and offer.attributes == {"gtin": "4006381333931"}


def test_a_file_of_our_own_columns_is_read_as_it_is(tmp_path):
    row = {"id": "1", "title": "x", "category": "c", "attributes": {"k": "v"}, "product_id": "p", "split": "val",
           "role": "query", "style_id": "s", "view": "main", "family_id": "f"}  # fmt: skip
    (tmp_path / "o.jsonl").write_text(json.dumps(row))
    catalog = read_catalog(tmp_path / "o.jsonl")
    extra = {name: row[name] for name in ("split", "role", "style_id", "view", "family_id")}
    assert catalog.offers[0] == Offer("1", "x", "", "", "c", {"k": "v"}, "p", extra)
    assert catalog.reading.columns.unused() == ["view"]
    assert {"split", "role", "style_id", "family_id"} <= catalog.reading.columns.used().keys()


def test_names_without_case_and_punctuation():
    assert plain_name("{http://base.google.com/ns/1.0}Image Link") == "imagelink"
    assert plain_name("Color (product.metafields.shopify.color-pattern)") == "color"
    assert Columns(["Id", "id", "ID"]).used()["id"] == ["id"]


@pytest.mark.parametrize("nothing", ["nan", "N/A", "null", "-", "None", "--", "n. a."])
def test_a_cell_that_says_nothing_is_empty(tmp_path, nothing):
    path = csv(
        tmp_path,
        "id,title,name,description,brand,category,product_id,image",
        f"1,{nothing},Mug,{nothing},{nothing},{nothing},{nothing},{nothing}",
        f"2,{nothing},{nothing},red,Acme,Mugs,p,",
        "NA,Pot,,,,,,",
    )
    catalog = read_catalog(path, max_bad=1)
    assert list(catalog)[0] == Offer("1", "Mug", extra=catalog.offers[0].extra)
    assert [offer.id for offer in catalog] == ["1", "NA"] and not catalog.lost_images
    assert [row.kind for row in catalog.skipped] == ["title, image: are both empty, one of them is needed"]


def test_a_brand_that_says_nothing_gives_way_to_one_that_does(tmp_path):
    (tmp_path / "o.jsonl").write_text(
        '{"id": 1, "title": "Mug", "attributes": {"Brand": "N/A"}, "brand": null, "manufacturer": "Acme"}'
    )
    assert read_catalog(tmp_path / "o.jsonl").offers[0].attributes["brand"] == "Acme"


def test_short_names_that_are_alike_by_accident_are_no_misspellings(tmp_path):
    path = csv(tmp_path, "id,title,handle", "1,Mug,mug", "2,Pot,pot")
    assert read_report(path).suspects() == []


def test_columns_that_differ_only_in_case_are_refused_by_name(tmp_path):
    with pytest.raises(InputError, match=r":1: column 'Brand' is there 2 times, also as 'brand' \(columns 2, 4\)"):
        read_catalog(csv(tmp_path, "id,Brand,title,brand", "1,A,Mug,B"))
    rows = [{"id": 1, "title": "a", "Brand": "A", "brand": "B"}, {"id": 2, "title": "b", "Brand": "A", "brand": "A"},
            {"id": 3, "title": "c", "Brand": "A", "brand": None}]  # fmt: skip
    (tmp_path / "o.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "o.json").write_text(json.dumps(rows))
    for name in ("o.jsonl", "o.json"):
        catalog = read_catalog(tmp_path / name, max_bad=1)
        assert [offer.attributes["brand"] for offer in catalog] == ["A", "A"]
        assert [row.field for row in catalog.skipped] == ["Brand"] and "'brand' too" in catalog.skipped[0].reason


def test_one_is_counted_as_one(tmp_path):
    assert "  1 offer of 1 row\n" in read_report(csv(tmp_path, "id,title", "1,Mug")).report()


@pytest.mark.parametrize(
    "header",
    [
        "Référence;Titre;Descriptif;Catégorie;Image principale;Marque;Code EAN;Couleur;Taille",
        "Código;Título;Descripción;Categoría;Imagen;Fabricante;Código EAN;Color;Talla",
        "CÓDIGO;NOMBRE;DESCRIPCIÓN;CATEGORÍAS;IMÁGENES;MARCA;CÓDIGO DE BARRAS;COLOR;TAMAÑO",
        "Codice;Nome prodotto;Descrizione;Categoria;Immagine;Produttore;Codice EAN;Colore;Taglia",
        "Artikelcode;Productnaam;Omschrijving;Productgroep;Afbeelding;Merk;Streepjescode;Kleur;Maat",
        "Kod produktu;Nazwa;Opis;Kategoria;Zdjęcie;Producent;Kod kreskowy;Kolor;Rozmiar",
        "Referência;Nome;Descrição;Categoria;Imagem;Fabricante;Código de barras;Cor;Tamanho",
        "Artikelnr;Artikelname;Artikelbeschreibung;Warengruppe;Bild;Hersteller;EAN;Farbe;Grösse",
        "Art.-Nr.;Bezeichnung;Beschreibung;Produktgruppe;Bilddatei;Marke;EAN-Nummer;Farbe;Größe",
    ],
)
def test_names_of_columns_in_the_languages_of_shops(header):
    names = header.split(";")
    meanings = ("id", "title", "description", "category", "image", "brand", "gtin", "color", "size")
    for form in ("NFC", "NFD"):
        spelled = [unicodedata.normalize(form, name) for name in names]
        expected = {meaning: [name] for meaning, name in zip(meanings, spelled, strict=True)}
        assert Columns(spelled).used() == expected


def test_marks_that_make_another_letter_are_no_accents():
    assert plain_name("ハ") != plain_name("バ") and plain_name("バ") == plain_name(unicodedata.normalize("NFD", "バ"))


def test_attributes_inside_of_an_object_are_read(tmp_path):
    rows = [{"id": n, "title": "Mug", "identifiers": {"ean": "4006381333931", "asin": "B0"}, "color": "red",
             "details": {"Color": "blue", "Marca": "Acme"}, "shipping": {"size": "XL"}} for n in range(2)]  # fmt: skip
    (tmp_path / "o.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    catalog = read_catalog(tmp_path / "o.jsonl")
    assert catalog.offers[0].attributes == {"brand": "Acme", "gtin": "4006381333931", "color": "red"}
    assert catalog.reading.used()["gtin"] == ["identifiers.ean"]
    assert "shipping" in catalog.reading.unused() and catalog.reading.suspects() == []


def test_a_gtin_deep_inside_of_a_row_is_told(tmp_path):
    row = {"id": 1, "title": "Mug", "codes": {"all": [{"value": "4006381333931"}, {"value": "1234567890123"}]}}
    (tmp_path / "o.jsonl").write_text(json.dumps(row))
    (suspect,) = read_report(tmp_path / "o.jsonl").suspects()
    assert suspect.startswith("codes.all.value holds a GTIN ('4006381333931') and is not used")
