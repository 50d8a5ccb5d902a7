"""Feeds as shops export them."""

import csv
import json

import pytest

from afmrl.data.catalog import read_catalog
from afmrl.errors import InputError


def table(path, header, *rows, delimiter=","):
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, header, delimiter=delimiter, restval="")
        writer.writeheader()
        writer.writerows(rows)
    return path


SHOPIFY = [
    "Handle", "Title", "Body (HTML)", "Vendor", "Product Category", "Type", "Tags", "Published", "Option1 Name",
    "Option1 Value", "Option2 Name", "Option2 Value", "Variant SKU", "Variant Grams", "Variant Inventory Qty",
    "Variant Price", "Variant Barcode", "Image Src", "Image Position", "Google Shopping / MPN",
    "Google Shopping / Gender", "Variant Image", "Status",
]  # fmt: skip


def test_shopify(tmp_path):
    path = table(
        tmp_path / "products_export.csv", SHOPIFY,
        {"Handle": "dress", "Title": "Silk dress", "Body (HTML)": "<p>S&uuml;&szlig;</p>", "Vendor": "Maison Lune",
         "Product Category": "Apparel > Dresses", "Option1 Name": "Color", "Option1 Value": "Red",
         "Option2 Name": "Size", "Option2 Value": "M", "Variant SKU": "D-R-M",
         "Variant Barcode": "'4006381333931", "Variant Price": "90",
         "Image Src": "https://cdn/1.jpg", "Image Position": "1", "Google Shopping / MPN": "D1",
         "Google Shopping / Gender": "female", "Status": "active"},
        {"Handle": "dress", "Option1 Value": "Blue", "Option2 Value": "M", "Variant SKU": "D-B-M",
         "Variant Price": "90", "Image Src": "https://cdn/2.jpg", "Image Position": "2", "Variant Image": "https://cdn/2.jpg"},
        {"Handle": "dress", "Option1 Value": "Blue", "Option2 Value": "L", "Variant SKU": "D-B-M"},
        {"Handle": "dress", "Image Src": "https://cdn/3.jpg", "Image Position": "3"},
        {"Handle": "mug", "Title": "Mug", "Vendor": "Stelton", "Option1 Name": "Title",
         "Option1 Value": "Default Title", "Variant Price": "9"},
    )  # fmt: skip
    catalog = read_catalog(path, max_bad=0)
    assert [offer.id for offer in catalog] == ["D-R-M", "D-B-M", "dress/Blue/L", "mug"]
    red, blue, large, mug = catalog
    for offer in (red, blue, large):
        assert (offer.title, offer.description, offer.category) == ("Silk dress", "Süß", "Apparel > Dresses")
        assert offer.attributes["brand"] == "Maison Lune" and offer.attributes["gender"] == "female"
    assert (red.attributes["Color"], red.attributes["Size"], red.attributes["gtin"]) == ("Red", "M", "4006381333931")
    assert (blue.attributes["Color"], large.attributes["Size"]) == ("Blue", "L")
    assert "gtin" not in blue.attributes  # a barcode is one variant's
    assert mug.attributes == {"brand": "Stelton"}
    assert catalog.reading.addresses == 3
    reading = catalog.reading
    assert reading.format.startswith("Shopify product export")
    used = reading.used()
    assert (used["id"], used["image"]) == (["Variant SKU", "Handle"], ["Variant Image", "Image Src"])
    assert used["attributes"] == ["Option1 Value", "Option2 Value"]
    assert not {"Variant SKU", "handle", "Handle"} & set(reading.unused()) and reading.suspects() == []
    assert "no offers of their own: 1 image row;" in reading.line() + ";" and "1 image row" in reading.report()


def test_shopifys_images_lead_with_the_variants_own(tmp_path):
    rows = [
        {"Handle": "d", "Title": "D", "Option1 Name": "Color", "Option1 Value": "Red",
         "Image Src": "1.jpg", "Image Position": "1"},
        {"Handle": "d", "Option1 Value": "Blue", "Image Src": "2.jpg", "Image Position": "2", "Variant Image": "2.jpg"},
    ]  # fmt: skip
    red, blue = read_catalog(table(tmp_path / "s.csv", SHOPIFY, *rows), check_images=False)
    assert [red.image, blue.image] == [str(tmp_path / "1.jpg"), str(tmp_path / "2.jpg")]
    assert blue.extra["images"] == [str(tmp_path / "2.jpg"), str(tmp_path / "1.jpg")]


def test_shopifys_newer_names(tmp_path):
    header = [
        "Title",
        "URL handle",
        "Description",
        "Vendor",
        "SKU",
        "Barcode",
        "Option1 name",
        "Option1 value",
        "Price",
    ]
    path = table(
        tmp_path / "s.csv", header,
        {"Title": "Dress", "URL handle": "dress", "Description": "<p>Silk</p>", "Vendor": "Lune", "SKU": "D-R",
         "Barcode": "4006381333931", "Option1 name": "Color", "Option1 value": "Red", "Price": "9"},
        {"URL handle": "dress", "SKU": "D-B", "Option1 value": "Blue"},
    )  # fmt: skip
    red, blue = read_catalog(path)
    assert (red.id, red.description, blue.id, blue.title) == ("D-R", "Silk", "D-B", "Dress")
    assert red.attributes == {"Color": "Red", "brand": "Lune", "gtin": "4006381333931"}
    assert blue.attributes == {"Color": "Blue", "brand": "Lune"}


WOO = [
    "ID", "Type", "SKU", "GTIN, UPC, EAN, or ISBN", "Name", "Published", "Short description", "Description",
    "In stock?", "Stock", "Regular price", "Categories", "Images", "Parent", "Brands",
    "Attribute 1 name", "Attribute 1 value(s)",
    "Attribute 1 visible", "Attribute 2 name", "Attribute 2 value(s)",
]  # fmt: skip


def test_woocommerce(tmp_path):
    path = table(
        tmp_path / "wc-product-export.csv", WOO,
        {"ID": "12", "Type": "variation", "SKU": "H-B", "Name": "Hoodie - Blue", "Parent": "H",
         "Attribute 1 name": "Color", "Attribute 1 value(s)": "Blue", "Images": "b.jpg",
         "GTIN, UPC, EAN, or ISBN": "4006381333931"},
        {"ID": "10", "Type": "variable", "SKU": "H", "Name": "Hoodie", "Description": "<p>Warm\\nand soft</p>",
         "Categories": "Clothing, Clothing > Hoodies", "Images": "h.jpg, i.jpg", "Brands": "Woo",
         "Attribute 1 name": "Color", "Attribute 1 value(s)": "Blue, Red", "Attribute 2 name": "Logo",
         "Attribute 2 value(s)": "Yes"},
        {"ID": "13", "Type": "variation", "SKU": "", "Name": "Hoodie - Red", "Parent": "id:10",
         "Attribute 1 name": "Color", "Attribute 1 value(s)": "Red"},
        {"ID": "20", "Type": "simple, downloadable", "SKU": "ALB", "Name": "Album", "Categories": "Music"},
        {"ID": "30", "Type": "variable", "SKU": "EMPTY", "Name": "Without variations"},
    )  # fmt: skip
    catalog = read_catalog(path, max_bad=0, check_images=False)
    assert [offer.id for offer in catalog] == ["H-B", "13", "ALB", "EMPTY"]
    blue, red, album, _ = catalog
    for offer in (blue, red):
        assert (offer.description, offer.category) == ("Warm\nand soft", "Clothing > Hoodies")
        assert (offer.attributes["brand"], offer.attributes["Logo"]) == ("Woo", "Yes")
    assert (blue.attributes["Color"], red.attributes["Color"]) == ("Blue", "Red")
    assert blue.attributes["gtin"] == "4006381333931" and "gtin" not in red.attributes
    assert (blue.image, red.image) == (str(tmp_path / "b.jpg"), str(tmp_path / "h.jpg"))
    assert (album.title, album.category, album.attributes) == ("Album", "Music", {})
    reading = catalog.reading
    assert reading.format.startswith("WooCommerce product export")
    assert reading.used()["id"] == ["SKU", "ID"] and not {"SKU", "ID", "Parent"} & set(reading.unused())
    assert dict(reading.notes.besides) == {"parent row": 1} and "1 parent row" in reading.report()


def test_a_variation_inherits_what_it_does_not_name(tmp_path):
    path = table(
        tmp_path / "w.csv", WOO,
        {"ID": "1", "Type": "variable", "SKU": "P", "Name": "Hoodie", "Categories": "Men\\, women > Tops",
         "Attribute 1 name": "Color", "Attribute 1 value(s)": "Blue, Red", "Attribute 2 name": "Climate",
         "Attribute 2 value(s)": "Cool\\, Windy, Rain"},
        {"ID": "2", "Type": "variation", "SKU": "P-1", "Name": "Hoodie", "Parent": "P", "Attribute 1 name": "Color"},
    )  # fmt: skip
    (offer,) = read_catalog(path)
    assert (offer.category, dict(offer.attributes)) == ("Men, women > Tops", {"Climate": "Cool, Windy, Rain"})


@pytest.mark.parametrize(
    "header",
    [
        "ID|Typ|Artikelnummer|GTIN, UPC, EAN oder ISBN|Name|Bilder|Übergeordnetes Produkt|"
        "Attribut 1 Name|Attribut 1 Wert(e)",
        "ID|Type|UGS|GTIN, UPC, EAN ou ISBN|Nom|Images|Parent|Nom de l\u2019attribut 1|Valeur(s) de l\u2019attribut 1 ",
        "ID|Tipo|SKU|GTIN, UPC, EAN o ISBN|Nombre|Imágenes|Superior|Nombre del atributo 1|Valor(es) del atributo 1",
        "ID|Typ|SKU|GTIN, UPC, EAN lub ISBN|Nazwa|Obrazki|Nadrzędny|Nazwa atrybutu 1|Wartości atrybutu 1",
        "ID|Tipo|SKU|GTIN, UPC, EAN o ISBN|Nome|Immagini|Genitore|Nome dell'attributo 1|Valore dell'attributo 1",
        "ID|Type|SKU|GTIN, UPC, EAN of ISBN|Naam|Afbeeldingen|Hoofd|Naam attribuut 1|Waarde(n) attribuut 1",
    ],
)  # fmt: skip
def test_woocommerce_speaks_the_shops_language(tmp_path, header):
    path = tmp_path / "wc-product-export.csv"
    rows = [["1", "variable", "P", "", "Hoodie", "a.jpg", "", "Farbe", "blau, rot"],
            ["2", "variation", "P-1", "4006381333931", "Hoodie", "", "P", "Farbe", "rot"]]  # fmt: skip
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header.split("|"), *rows])
    catalog = read_catalog(path, check_images=False)
    (offer,) = catalog
    assert (offer.id, offer.title, offer.image) == ("P-1", "Hoodie", str(tmp_path / "a.jpg"))
    assert offer.attributes == {"Farbe": "rot", "gtin": "4006381333931"}
    assert catalog.reading.format.startswith("WooCommerce product export")


def test_shopifys_metafields_are_attributes(tmp_path):
    fields = ("Fabric (product.metafields.shopify.fabric)", "Climate (product.metafields.custom.climate)",
              "Rating (product.metafields.reviews.rating)")  # fmt: skip
    rows = [{"Handle": "d", "Title": "D", "Option1 Name": "Color", "Option1 Value": "Red", "Variant SKU": "1",
             **dict(zip(fields, ("silk; cotton", "Cool, Windy", "5.0"), strict=True))},
            {"Handle": "d", "Option1 Value": "Blue", "Variant SKU": "2"}]  # fmt: skip
    red, blue = read_catalog(table(tmp_path / "s.csv", [*SHOPIFY, *fields], *rows))
    assert red.attributes == {"material": "silk, cotton", "Climate": "Cool, Windy", "Color": "Red"}
    assert blue.attributes == {"material": "silk, cotton", "Climate": "Cool, Windy", "Color": "Blue"}


RSS = """<?xml version="1.0" encoding="{encoding}"?>
<rss version="2.0" xmlns:g="http://base.google.com/ns/1.0"><channel><title>Shop</title><link>https://shop</link>
<item><g:id>1</g:id><title>Plain title</title><g:title><![CDATA[Süße <b>Tasse</b>]]></g:title>
<description>&lt;p&gt;Caf&eacute; &amp;amp; more&lt;/p&gt;</description><g:image_link>a.jpg</g:image_link>
<g:additional_image_link>b.jpg</g:additional_image_link><g:additional_image_link>c.jpg</g:additional_image_link>
<g:brand>Stelton</g:brand><g:gtin>4006381333931</g:gtin><g:price>9 EUR</g:price>
<g:product_type>Home &gt; Mugs</g:product_type>
<g:shipping><g:country>DE</g:country><g:price>1 EUR</g:price></g:shipping>
<g:product_detail><g:section_name>S</g:section_name><g:attribute_name>Volume</g:attribute_name>
<g:attribute_value>0.4 l</g:attribute_value></g:product_detail></item>
<item><g:id>2</g:id><title>Tasse</title></item></channel></rss>"""


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "iso-8859-1", "windows-1252"])
def test_merchant_xml(tmp_path, encoding):
    (tmp_path / "feed.xml").write_bytes(RSS.format(encoding=encoding).encode(encoding))
    catalog = read_catalog(tmp_path / "feed.xml", check_images=False, max_bad=0)
    first, second = catalog
    assert (first.id, first.title, first.description) == ("1", "Süße Tasse", "Café & more")
    assert (first.category, first.extra["price"]) == ("Home > Mugs", "9 EUR")
    assert first.attributes == {"Volume": "0.4 l", "brand": "Stelton", "gtin": "4006381333931"}
    assert first.extra["images"] == [str(tmp_path / f"{name}.jpg") for name in "abc"]
    assert second.title == "Tasse"
    assert catalog.reading.format == "Google Merchant XML"


def test_merchant_atom(tmp_path):
    (tmp_path / "feed.xml").write_text(
        '<feed xmlns="http://www.w3.org/2005/Atom" xmlns:g="http://base.google.com/ns/1.0"><title>Shop</title><id>x</id>'
        '<entry><id>tag:1</id><g:id>1</g:id><title>Mug</title><link href="https://shop/1"/><g:mpn>M</g:mpn></entry></feed>'
    )
    (offer,) = read_catalog(tmp_path / "feed.xml")
    assert (offer.id, offer.title, dict(offer.attributes)) == ("1", "Mug", {"mpn": "M"})


def test_xml_that_declares_entities_or_is_broken_is_refused(tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    for declared in ('<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;">', f'<!ENTITY a SYSTEM "file://{secret}">'):
        (tmp_path / "f.xml").write_text(
            f"<!DOCTYPE x [{declared}]><rss><item><id>1</id><title>&a;</title></item></rss>"
        )
        with pytest.raises(InputError, match="f.xml:1: declares the entity 'a'"):
            read_catalog(tmp_path / "f.xml")
    (tmp_path / "f.xml").write_text("<rss><item><id>1</id>\n<title>x</item></rss>")
    with pytest.raises(InputError, match="f.xml:2: is not well-formed XML"):
        read_catalog(tmp_path / "f.xml")


ITEM = """<SHOPITEM><ITEM_ID>{id}</ITEM_ID><PRODUCTNAME>Hrnek &amp; {id}</PRODUCTNAME><DESCRIPTION>Red</DESCRIPTION>
<IMGURL>https://cdn/{id}.jpg</IMGURL><IMGURL_ALTERNATIVE>https://cdn/b.jpg</IMGURL_ALTERNATIVE><PRICE_VAT>9</PRICE_VAT>
<CATEGORYTEXT>Home | Mugs</CATEGORYTEXT><MANUFACTURER>Stelton</MANUFACTURER><EAN>4006381333931</EAN>
<PARAM><PARAM_NAME>Barva</PARAM_NAME><VAL>red</VAL></PARAM><PARAM><PARAM_NAME>Objem</PARAM_NAME><VAL>0.4 l</VAL></PARAM>
</SHOPITEM>"""


@pytest.mark.parametrize("ids", ["12", "1"])
def test_xml_of_another_shop_is_read_by_the_element_that_is_repeated(tmp_path, ids):
    items = "".join(ITEM.format(id=one) for one in ids)
    (tmp_path / "f.xml").write_text(f'<?xml version="1.0" encoding="utf-8"?><SHOP>{items}</SHOP>')
    catalog = read_catalog(tmp_path / "f.xml", max_bad=0)
    assert [offer.id for offer in catalog] == list(ids)
    offer = catalog.offers[0]
    assert (offer.title, offer.description, offer.category) == ("Hrnek & 1", "Red", "Home | Mugs")
    assert offer.attributes == {"Barva": "red", "Objem": "0.4 l", "brand": "Stelton", "gtin": "4006381333931"}
    assert offer.extra["images"] == ["https://cdn/1.jpg", "https://cdn/b.jpg"]
    assert catalog.reading.format == "XML, SHOPITEM elements" and catalog.reading.rows == len(ids)


def test_xml_whose_ids_are_in_the_elements_own_attributes(tmp_path):
    offers = "".join(
        f'<offer id="{n}"><name>Mug {n}</name><vendor>Stelton</vendor><param name="Color">red</param></offer>'
        for n in "12"
    )
    (tmp_path / "f.xml").write_text(
        f'<yml_catalog><shop><name>Shop</name><categories><category id="7">Mugs</category></categories>'
        f"<offers>{offers}</offers></shop></yml_catalog>"
    )
    first, second = read_catalog(tmp_path / "f.xml")
    assert (first.id, first.title, second.id) == ("1", "Mug 1", "2")
    assert first.attributes == {"Color": "red", "brand": "Stelton"}


def test_xml_without_products_says_what_it_has(tmp_path):
    (tmp_path / "f.xml").write_text("<urlset><url><loc>a</loc></url><url><loc>b</loc></url></urlset>")
    with pytest.raises(InputError, match="no feed of products: found 2 × url in urlset, no item or entry"):
        read_catalog(tmp_path / "f.xml")
    (tmp_path / "f.xml").write_text("<rss><channel><title>Shop</title></channel></rss>")
    with pytest.raises(InputError, match="the catalog is empty"):
        read_catalog(tmp_path / "f.xml")


PRODUCT = {
    "@context": "https://schema.org", "@type": "Product", "sku": "s1", "name": "Mug", "description": "<p>Warm</p>",
    "image": [{"@type": "ImageObject", "contentUrl": "a.jpg"}, "b.jpg"], "brand": {"@type": "Brand", "name": "Stelton"},
    "gtin13": "4006381333931", "color": "red", "category": ["Home", "Mugs"],
    "additionalProperty": [{"@type": "PropertyValue", "name": "Volume", "value": 0.4, "unitText": "l"}],
    "offers": {"@type": "Offer", "price": 9, "seller": {"@type": "Organization", "name": "Shop"}},
}  # fmt: skip


@pytest.mark.parametrize("name", ["one.jsonld", "list.json", "graph.jsonld", "lines.jsonl", "items.json"])
def test_json_ld(tmp_path, name):
    value = {
        "one.jsonld": PRODUCT, "list.json": [PRODUCT], "lines.jsonl": PRODUCT,
        "graph.jsonld": {"@context": "https://schema.org", "@graph": [{"@type": "WebPage"}, PRODUCT]},
        "items.json": {"@type": "ItemList", "itemListElement": [{"@type": "ListItem", "item": PRODUCT}]},
    }[name]  # fmt: skip
    (tmp_path / name).write_text(json.dumps(value))
    catalog = read_catalog(tmp_path / name, check_images=False)
    (offer,) = catalog
    assert (offer.id, offer.title, offer.description, offer.category) == ("s1", "Mug", "Warm", "Home > Mugs")
    assert offer.attributes == {"Volume": "0.4 l", "brand": "Stelton", "gtin": "4006381333931", "color": "red"}
    assert offer.extra["images"] == [str(tmp_path / "a.jpg"), str(tmp_path / "b.jpg")]
    assert offer.extra["seller"] == "Shop"
    assert "JSON-LD" in catalog.reading.format
    assert catalog.reading.used()["id"] == ["sku"] and "sku" not in catalog.reading.unused()


def test_variants_of_a_json_ld_group_inherit(tmp_path):
    group = {
        "@type": "ProductGroup", "@id": "g", "name": "Hoodie", "brand": {"name": "Woo"},
        "hasVariant": [{"@type": "Product", "sku": "a", "color": "red"},
                       {"@type": "Product", "sku": "b", "color": "blue", "name": "Hoodie, blue"}],
    }  # fmt: skip
    (tmp_path / "o.jsonld").write_text(json.dumps(group))
    a, b = read_catalog(tmp_path / "o.jsonld")
    assert (a.title, b.title, dict(b.attributes)) == ("Hoodie", "Hoodie, blue", {"brand": "Woo", "color": "blue"})


def test_merchant_table_is_named(tmp_path):
    path = table(
        tmp_path / "feed.tsv", ["id", "title", "image link", "availability", "product type", "brand"],
        {"id": "1", "title": '5" pipe', "availability": "in stock", "product type": "A > B", "brand": "X"},
        delimiter="\t",
    )  # fmt: skip
    catalog = read_catalog(path)
    assert catalog.reading.format.startswith("Google Merchant feed, tab, UTF-8")
    assert (catalog.offers[0].category, dict(catalog.offers[0].attributes)) == ("A > B", {"brand": "X"})


SHOPIFY_PRODUCT = {
    "id": 7, "title": "Silk dress", "body_html": "<p>Soft</p>", "vendor": "Maison Lune", "product_type": "Dresses",
    "handle": "silk-dress", "options": [{"name": "Color", "values": ["Red", "Blue"]}],
    "variants": [{"id": 71, "title": "Red", "option1": "Red", "sku": "D-R", "barcode": "4006381333931", "price": "90"},
                 {"id": 72, "title": "Blue", "option1": "Blue", "sku": "", "price": "90"}],
    "images": [{"src": "https://cdn/1.jpg", "variant_ids": []}, {"src": "https://cdn/2.jpg", "variant_ids": [72]}],
}  # fmt: skip


@pytest.mark.parametrize("name", ["products.json", "list.json", "one.json", "lines.jsonl"])
def test_shopifys_json_gives_one_offer_a_variant(tmp_path, name):
    value = {"products.json": {"products": [SHOPIFY_PRODUCT]}, "list.json": [SHOPIFY_PRODUCT]}
    (tmp_path / name).write_text(json.dumps(value.get(name, SHOPIFY_PRODUCT)))
    catalog = read_catalog(tmp_path / name, max_bad=0)
    red, blue = catalog
    assert (red.id, blue.id) == ("D-R", "72")
    for offer in catalog:
        assert (offer.title, offer.description, offer.category) == ("Silk dress", "Soft", "Dresses")
    assert red.attributes == {"Color": "Red", "brand": "Maison Lune", "gtin": "4006381333931"}
    assert blue.attributes == {"Color": "Blue", "brand": "Maison Lune"}
    assert blue.extra["images"] == ["https://cdn/2.jpg", "https://cdn/1.jpg"]
    assert catalog.reading.used()["id"] == ["variants.sku", "variants.id"]
