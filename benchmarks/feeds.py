"""Are the same pairs found in a shop's own export as in clean JSONL?

    python benchmarks/feeds.py run --data DIR      # each set in each shape, read and matched without labels or model
    python benchmarks/feeds.py table

DIR holds abt_buy, amazon_google, wdc_products and magento_luma (`afmrl dataset` says where they come from). The offers
of a set are written as one clean JSONL and in every shape; a shape is right where its offers are read alike and every
pair has the same probability.
"""

from __future__ import annotations

import argparse
import csv
import html
import itertools
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from afmrl.data.catalog import read_catalog
from afmrl.data.reading import ReadOptions
from afmrl.files import write_json
from afmrl.matching.match import match
from common import RESULTS, add_data

SETS = ("abt_buy", "amazon_google", "wdc_products", "magento_luma")
OFFERS = 300
"""Of each set: whole products, so that there are pairs to find."""
COLUMNS = ("brand", "gtin", "mpn", "color", "size", "material", "pattern", "gender", "age_group")
"""Attributes that a Merchant feed has columns for."""
NO_ATTRIBUTES = ("price",)

Row = dict[str, Any]


def clean_rows(path: Path, count: int = OFFERS) -> list[Row]:
    """Offers of a set's file, their texts on one line; the price is no attribute, as in every feed."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    products: dict[str, list[Row]] = {}
    for row in rows:
        products.setdefault(row["product_id"], []).append(row)
    whole = sorted(products.values(), key=lambda of: (len(of) == 1, of[0]["id"]))
    chosen = sorted(itertools.islice(itertools.chain.from_iterable(whole), count), key=lambda row: row["id"])
    return [clean_row(row, path.parent) for row in chosen]


def clean_row(row: Row, folder: Path) -> Row:
    """A row with the fields that every shape can say."""
    attributes = {("brand" if key == "manufacturer" else key): str(value) for key, value in row["attributes"].items()}
    return {
        "id": row["id"],
        "title": " ".join(row["title"].split()),
        "description": " ".join(row["description"].split()),
        "image": str((folder / row["image"]).resolve()) if row["image"] else "",
        "category": row["category"].replace("/", " > "),
        "attributes": {
            key: " ".join(value.split()) for key, value in attributes.items() if value and key not in NO_ATTRIBUTES
        },
    }


# the shapes


def merchant_tsv(path: Path, rows: Sequence[Row]) -> None:
    """Google Merchant, with tabs; quotes are characters."""
    header = (
        "id", "title", "description", "link", "image_link", "availability", "price", *COLUMNS, "product_type",
        "product_detail",
    )  # fmt: skip
    lines = ["\t".join(header)]
    for row in rows:
        cells = {**row, **_known(row), "image_link": row["image"], "product_type": row["category"]}
        cells |= {"link": f"https://shop.example/{row['id']}", "availability": "in_stock", "price": "9.99 EUR"}
        details = (f"General:{key}:{value.replace(':', chr(92) + ':')}" for key, value in _others(row).items())
        cells["product_detail"] = ",".join('"' + detail.replace('"', '""') + '"' for detail in details)
        lines.append("\t".join(str(cells.get(name, "")) for name in header))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def merchant_xml(path: Path, rows: Sequence[Row]) -> None:
    """Google Merchant as RSS, its tags in g:."""
    items = []
    for row in rows:
        tags = {"g:id": row["id"], "title": row["title"], "description": row["description"]}
        tags |= {"g:image_link": row["image"], "g:product_type": row["category"], "g:price": "9.99 EUR"}
        tags |= {f"g:{key}": value for key, value in _known(row).items()}
        cells = "".join(f"<{tag}>{html.escape(value)}</{tag}>" for tag, value in tags.items() if value)
        for key, value in _others(row).items():
            cells += (
                "<g:product_detail><g:section_name>General</g:section_name>"
                f"<g:attribute_name>{html.escape(key)}</g:attribute_name>"
                f"<g:attribute_value>{html.escape(value)}</g:attribute_value></g:product_detail>"
            )
        items.append(f"<item>{cells}</item>")
    path.write_text(
        '<?xml version="1.0" encoding="UTF-8"?>\n<rss version="2.0" xmlns:g="http://base.google.com/ns/1.0"><channel>'
        f"<title>Shop</title>{''.join(items)}</channel></rss>\n",
        encoding="utf-8",
    )


def shopify(path: Path, rows: Sequence[Row]) -> None:
    """Shopify's export: what variants share is said by the handle's first row alone, rows of images between them."""
    keys = sorted({key for row in rows for key in row["attributes"]} - {"brand", "color", "size", "gtin"})
    fields = {key: f"{key} (product.metafields.custom.{key})" for key in keys}
    header = [
        "Handle", "Title", "Body (HTML)", "Vendor", "Type", "Published", "Option1 Name", "Option1 Value",
        "Option2 Name", "Option2 Value", "Variant SKU", "Variant Price", "Variant Barcode", "Image Src",
        "Image Position", "Variant Image", *fields.values(),
    ]  # fmt: skip
    lines = []
    for number, variants in enumerate(_variants(rows, own=("color", "size", "gtin"))):
        handle = f"product-{number}"
        options = [key for key in ("color", "size") if any(key in row["attributes"] for row in variants)]
        for place, row in enumerate(variants):
            attributes = row["attributes"]
            line = {"Handle": handle, "Variant SKU": row["id"], "Variant Price": "9.99"}
            line |= {"Variant Barcode": attributes.get("gtin", ""), "Variant Image": row["image"]}
            if place == 0:
                line |= {"Title": row["title"], "Body (HTML)": _as_html(row["description"]), "Published": "true"}
                line |= {"Vendor": attributes.get("brand", ""), "Type": row["category"], "Image Src": row["image"]}
                line |= {fields[key]: attributes.get(key, "") for key in keys}
                line |= {f"Option{n} Name": key.title() for n, key in enumerate(options, 1)} or {
                    "Option1 Name": "Title"
                }
            line |= {f"Option{n} Value": attributes.get(key, "") for n, key in enumerate(options, 1)}
            lines.append(line if options else {**line, "Option1 Value": "Default Title"})
        extra = ({"Handle": handle, "Image Src": row["image"], "Image Position": "2"} for row in variants[1:])
        lines += [line for line in extra if line["Image Src"]]
    _table(path, header, lines)


WOOCOMMERCE = {
    "en": "ID|Type|SKU|GTIN, UPC, EAN, or ISBN|Name|Published|Short description|Description|Regular price|Categories|"
    "Images|Parent|Brands|Attribute {} name|Attribute {} value(s)|Attribute {} visible",
    "de": "ID|Typ|Artikelnummer|GTIN, UPC, EAN oder ISBN|Name|Veröffentlicht|Kurzbeschreibung|Beschreibung|"
    "Regulärer Preis|Kategorien|Bilder|Übergeordnetes Produkt|Marken|Attribut {} Name|Attribut {} Wert(e)|"
    "Attribut {} Sichtbar",
    "fr": "ID|Type|UGS|GTIN, UPC, EAN ou ISBN|Nom|Publié|Description courte|Description|Tarif régulier|Catégories|"
    "Images|Parent|Marques|Nom de l\u2019attribut {}|Valeur(s) de l\u2019attribut {} |Attribut {} visible",
    "es": "ID|Tipo|SKU|GTIN, UPC, EAN o ISBN|Nombre|Publicado|Descripción corta|Descripción|Precio normal|Categorías|"
    "Imágenes|Superior|Marcas|Nombre del atributo {}|Valor(es) del atributo {}|Atributo visible {}",
    "pl": "ID|Typ|SKU|GTIN, UPC, EAN lub ISBN|Nazwa|Opublikowano|Krótki opis|Opis|Cena|Kategorie|Obrazki|"
    "Element nadrzędny|Marki|Nazwa atrybutu {}|Wartości atrybutu {}|Atrybut {} widoczny",
}
"""The exporter's header, in the shop's language."""


def woocommerce(language: str) -> Callable[[Path, Sequence[Row]], None]:
    """WooCommerce's export: simple products, and variations that inherit from their parent."""

    def write(path: Path, rows: Sequence[Row]) -> None:
        lines: list[Row] = []
        for number, variants in enumerate(_variants(rows, own=("color", "size", "gtin"))):
            if len(variants) == 1:
                lines.append(_product(variants[0], "simple"))
                continue
            # the parent lists all values of what its variations differ in; they say nothing else of their own
            parent = {**variants[0], "id": f"parent-{number}"}
            differing = [key for key in ("color", "size") if any(key in row["attributes"] for row in variants)]
            values = {key: dict.fromkeys(row["attributes"].get(key, "") for row in variants) for key in differing}
            line = _product({**parent, "attributes": parent["attributes"] | dict.fromkeys(differing, "")}, "variable")
            for column in [column for column in line if line[column] in differing and column.endswith("name")]:
                line[column.replace("name", "value(s)")] = ", ".join(value for value in values[line[column]] if value)
            lines.append(line | {"GTIN, UPC, EAN, or ISBN": ""})
            for row in variants:
                own = dict.fromkeys(differing, "") | {
                    key: row["attributes"].get(key, "") for key in ("color", "size", "gtin")
                }
                own = {key: value for key, value in own.items() if key in differing or value}
                said = {
                    "id": row["id"],
                    "title": row["title"],
                    "description": "",
                    "category": "",
                    "image": row["image"],
                }
                lines.append(_product({**said, "attributes": own}, "variation") | {"Parent": parent["id"]})
        numbers = [int(column.split()[1]) for line in lines for column in line if column.startswith("Attribute")]
        pairs = list(zip(WOOCOMMERCE["en"].split("|"), WOOCOMMERCE[language].split("|"), strict=True))
        named = {english: name for english, name in pairs if "{}" not in english}
        named |= {
            e.format(n): name.format(n) for n in range(1, max(numbers, default=0) + 1) for e, name in pairs if "{}" in e
        }
        numbered = ({**line, "ID": str(number)} for number, line in enumerate(lines, 100))
        _table(path, list(named.values()), ({named[name]: line[name] for name in line} for line in numbered))

    return write


def _product(row: Row, kind: str) -> Row:
    attributes = row["attributes"]
    line = {"SKU": row["id"], "Name": row["title"], "Description": _as_html(row["description"]), "Type": kind}
    line |= {"Published": "1", "Regular price": "9.99", "Categories": row["category"].replace(",", "\\,")}
    line |= {"Images": row["image"], "Brands": attributes.get("brand", "")}
    line |= {"GTIN, UPC, EAN, or ISBN": attributes.get("gtin", "")}
    for n, key in enumerate((key for key in attributes if key not in ("brand", "gtin")), 1):
        line |= {f"Attribute {n} name": key, f"Attribute {n} value(s)": attributes[key].replace(",", "\\,")}
    return line


def json_ld(path: Path, rows: Sequence[Row]) -> None:
    """schema.org/Product, one graph; what a product says of itself in additionalProperty."""
    products = []
    for row in rows:
        product = {"@type": "Product", "sku": row["id"], "name": row["title"], "description": row["description"]}
        product |= {"category": row["category"], "offers": {"@type": "Offer", "price": 9.99, "priceCurrency": "EUR"}}
        product |= {"image": [{"@type": "ImageObject", "contentUrl": row["image"]}] if row["image"] else []}
        product |= {key: value for key, value in _known(row).items() if key != "brand"}
        if "brand" in row["attributes"]:
            product["brand"] = {"@type": "Brand", "name": row["attributes"]["brand"]}
        product["additionalProperty"] = [
            {"@type": "PropertyValue", "name": key, "value": value} for key, value in _others(row).items()
        ]
        products.append(product)
    path.write_text(json.dumps({"@context": "https://schema.org", "@graph": products}), encoding="utf-8")


def plain_csv(delimiter: str, encoding: str) -> Callable[[Path, Sequence[Row]], None]:
    """A table as spreadsheets write it, its columns named in German; attributes beyond the known ones as columns."""
    named = {"id": "Artikelnummer", "title": "Bezeichnung", "description": "Beschreibung", "image": "Bild"}
    named |= {"category": "Kategorie", "brand": "Marke", "color": "Farbe", "size": "Größe", "gtin": "EAN"}

    def write(path: Path, rows: Sequence[Row]) -> None:
        lines = []
        for row in rows:
            cells = {**row, **_known(row), **{f"attribute:{key}": value for key, value in _others(row).items()}}
            lines.append({named.get(key, key): value for key, value in cells.items() if key != "attributes"})
        header = list(dict.fromkeys(name for line in lines for name in line))
        _table(path, header, lines, delimiter=delimiter, encoding=encoding)

    return write


def parquet(path: Path, rows: Sequence[Row]) -> None:
    """Parquet with structs and lists: a brand with a name, attributes as a struct, images as a list of structs."""
    import pyarrow
    import pyarrow.parquet

    keys = sorted({key for row in rows for key in row["attributes"]} - {"brand"}) or ["none"]
    table = [
        {
            "id": row["id"],
            "name": row["title"],
            "description": row["description"],
            "images": [{"url": row["image"], "position": 1}] if row["image"] else [],
            "categories": row["category"].split(" > ") if row["category"] else [],
            "brand": {"id": 7, "name": row["attributes"]["brand"]} if "brand" in row["attributes"] else None,
            "attributes": {key: row["attributes"].get(key) for key in keys},
        }
        for row in rows
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(table), path)


def jsonl(path: Path, rows: Sequence[Row]) -> None:
    """The clean form."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


SHAPES: dict[str, tuple[str, Callable[[Path, Sequence[Row]], None]]] = {
    "Google Merchant, TSV": ("merchant.tsv", merchant_tsv),
    "Google Merchant, XML": ("merchant.xml", merchant_xml),
    "Shopify export": ("products_export.csv", shopify),
    **{
        f"WooCommerce export, {language}": (f"woocommerce-{language}.csv", woocommerce(language))
        for language in WOOCOMMERCE
    },
    "schema.org JSON-LD": ("products.jsonld", json_ld),
    "CSV with ; in cp1252": ("offers.csv", plain_csv(";", "cp1252")),
    "CSV in UTF-8 with BOM": ("offers-bom.csv", plain_csv(",", "utf-8-sig")),
    "TSV in UTF-16": ("offers.tsv", plain_csv("\t", "utf-16")),
    "Parquet with structs": ("offers.parquet", parquet),
}


def _known(row: Row) -> dict[str, str]:
    return {key: value for key, value in row["attributes"].items() if key in COLUMNS}


def _others(row: Row) -> dict[str, str]:
    return {key: value for key, value in row["attributes"].items() if key not in COLUMNS}


def _variants(rows: Sequence[Row], own: Sequence[str]) -> Iterator[list[Row]]:
    """Rows that a shop would keep as variants of one product: they differ in what a variant has of its own alone."""
    products: dict[str, list[Row]] = {}
    for row in rows:
        shared = {key: value for key, value in row["attributes"].items() if key not in own}
        key = json.dumps(
            [row["title"], row["description"], row["category"], bool(row["image"]), shared], sort_keys=True
        )
        products.setdefault(key, []).append(row)
    yield from products.values()


def _as_html(text: str) -> str:
    return f"<p>{html.escape(text)}</p>" if text else ""


def _table(
    path: Path, header: Sequence[str], lines: Iterable[Row], *, delimiter: str = ",", encoding: str = "utf-8"
) -> None:
    with open(path, "w", encoding=encoding, newline="") as file:
        writer = csv.DictWriter(file, header, delimiter=delimiter, restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(lines)


# the comparison


def compared(folder: Path, shape: str, rows: Sequence[Row]) -> dict[str, Any]:
    """One shape beside the clean form: offers read, pairs found, and whether they are equal."""
    if "cp1252" in shape:
        rows = json.loads(json.dumps(rows, ensure_ascii=False).encode("cp1252", "ignore").decode("cp1252"))
    name, write = SHAPES[shape]
    jsonl(folder / "clean.jsonl", rows)
    write(folder / name, rows)
    (clean, wanted), (offers, found) = (_read_and_matched(folder / file) for file in ("clean.jsonl", name))
    return {
        "shape": shape,
        "offers": len(rows),
        "read": len(offers),
        "differently": sorted(id for id in clean if offers.get(id) != clean[id])[:5],
        "pairs": len(wanted),
        "found": len(found),
        "equal": found == wanted and offers == clean,
    }


def _read_and_matched(path: Path) -> tuple[dict[str, Any], dict[tuple[str, str], float]]:
    catalog = read_catalog(path, max_bad=0)
    offers = {
        offer.id: [offer.title, offer.description, offer.image, offer.category, _folded(offer.attributes)]
        for offer in catalog
    }
    result = match(path, max_bad=0, options=ReadOptions())
    return offers, {(pair.left.id, pair.right.id): pair.probability for pair in result.pairs if pair.same}


def _folded(attributes: Any) -> dict[str, str]:
    return {key.lower(): value for key, value in attributes.items() if value}


def run(data: Path, path: Path, count: int) -> None:
    """Every set in every shape."""
    cells = []
    for name in SETS:
        rows = clean_rows(data / name / "products.jsonl", count)
        for shape in SHAPES:
            with tempfile.TemporaryDirectory() as folder:
                cell = {"set": name, **compared(Path(folder), shape, rows)}
            cells.append(cell)
            verdict = "equal" if cell["equal"] else f"NOT EQUAL: {', '.join(cell['differently'])}"
            print(
                f"{name:15} {shape:26} {cell['read']:4} of {cell['offers']} offers, {cell['found']:4} of "
                f"{cell['pairs']} pairs, {verdict}",
                flush=True,
            )
    write_json(path, cells)


def table(path: Path) -> None:
    """Shape × set, in Markdown."""
    cells = {(cell["shape"], cell["set"]): cell for cell in json.loads(path.read_text(encoding="utf-8"))}
    print(f"| shape | {' | '.join(SETS)} |\n|{'---|' * (len(SETS) + 1)}")
    for shape in SHAPES:
        shown = [
            f"{cell['found']} of {cell['pairs']}{'' if cell['equal'] else ', not equal'}"
            for cell in (cells[shape, name] for name in SETS)
        ]
        print(f"| {shape} | {' | '.join(shown)} |")


def main() -> None:
    """One subcommand."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    runs = commands.add_parser("run", help="read and match every set in every shape")
    add_data(runs)
    runs.add_argument("--offers", type=int, default=OFFERS, help="of each set")
    shown = commands.add_parser("table", help="print the table of the results")
    for command in (runs, shown):
        command.add_argument("--results", type=Path, default=RESULTS / "feeds.json")
    arguments = parser.parse_args()
    if arguments.command == "run":
        run(arguments.data, arguments.results, arguments.offers)
    else:
        table(arguments.results)


if __name__ == "__main__":
    main()
