"""WooCommerce's product export: simple products, and variations that inherit from their parent."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from afmrl.data.columns import plain_name
from afmrl.data.feeds.notes import FeedNotes
from afmrl.data.offer import BadRow

Rows = Iterator[tuple[int, dict[str, Any] | BadRow]]
HEADER = {"Type", "SKU", "Name"}
_BESIDES = {"Parent", "Published", "Attribute 1 name"}
"""One of them is there too: other shops have a type, a SKU and a name."""
_NAMES = {
    "ID": "id, identyfikator",
    "Type": "type, typ, tipo, soort",
    "SKU": "sku, ugs, artikelnummer, cod, ref",
    "Name": "name, nom, nombre, nazwa, nome, naam",
    "Published": "published, veröffentlicht, publié, publicado, opublikowano, opublikowany, pubblicato, gepubliceerd",
    "Short description": "short description, kurzbeschreibung, description courte, descripción corta, krótki opis, "
    "breve descrizione, korte beschrijving, descrição curta",
    "Description": "description, beschreibung, descripción, opis, descrizione, beschrijving, descrição",
    "Categories": "categories, kategorien, catégories, categorías, kategorie, categorie, categorieën, categorias",
    "Images": "images, bilder, imágenes, obrazki, immagini, afbeeldingen, imagens",
    "Parent": "parent, übergeordnetes produkt, superior, element nadrzędny, nadrzędny, genitore, hoofd, ascendente",
    "Brands": "brands, marken, marques, marcas, marki, marchi, merken",
}
"""The exporter writes its header in the shop's language."""
_ENGLISH = {plain_name(name): column for column, names in _NAMES.items() for name in names.split(", ")}
_ATTRIBUTE_WORD = re.compile(r"att?ribu|atrybut", re.IGNORECASE)
_PARTS = (
    ("name", re.compile(r"\b(?:name|nom|nombre|nazwa|nome|naam)\b", re.IGNORECASE)),
    ("value(s)", re.compile(r"\b(?:value|wert|valeur|valor|wartoś|valore|waarde)", re.IGNORECASE)),
)
_ATTRIBUTE = re.compile(r"^Attribute (\d+) name$")
_COMMA = re.compile(r"(?<!\\),\s*")
_OWN = ("ID", "Type", "SKU", "Parent", "Position")
"""What a variation does not inherit."""


def is_woocommerce(header: Iterable[str]) -> bool:
    """Whether a header is that of WooCommerce's export, in any of the languages that are known.

    >>> is_woocommerce(["ID", "Typ", "SKU", "Nazwa", "Opublikowano", "Nazwa atrybutu 1"])
    True
    """
    names = {english_column(name) for name in header}
    return names >= HEADER and bool(names & _BESIDES)


@functools.cache
def english_column(column: str) -> str:
    """A column of the export by its English name; one that is not known as it is.

    >>> english_column("Wartości atrybutu 2"), english_column("Catégories"), english_column("Meta: _unit")
    ('Attribute 2 value(s)', 'Categories', 'Meta: _unit')
    """
    if _ATTRIBUTE_WORD.search(column) and (number := re.search(r"\d+", column)):
        return next((f"Attribute {number[0]} {part}" for part, words in _PARTS if words.search(column)), column)
    plain = plain_name(column)
    return "GTIN, UPC, EAN, or ISBN" if plain.startswith("gtinupcean") else _ENGLISH.get(plain, column)


def woocommerce_rows(open_rows: Callable[[], Rows], notes: FeedNotes | None = None) -> Rows:
    """One row a simple product or a variation, whole. A variable product is an offer only without variations.

    The id is the SKU; without one, or where it is another row's too, the ID.

    Args:
        open_rows: begins to read the file; it is read twice, because a parent may come after its variations.
    """
    notes = notes or FeedNotes()
    notes.consumed |= {"SKU", "woocommerce_type"}
    parents: dict[str, dict[str, Any]] = {}
    named: set[str] = set()
    for _, row in _english(open_rows()):
        if isinstance(row, BadRow):
            continue
        if _kind(row) == "variable":
            parents[f"id:{row.get('ID', '')}"] = row
            if row["SKU"]:
                parents[row["SKU"]] = row
        elif _kind(row) == "variation":
            named.add(row.get("Parent", "").strip())
    skus: set[str] = set()
    for number, row in _english(open_rows()):
        if isinstance(row, BadRow):
            yield number, row
            continue
        kind = _kind(row)
        if kind == "variable" and {f"id:{row.get('ID', '')}", row["SKU"]} & named - {""}:
            notes.besides["parent row"] += 1
            continue
        parent = parents.get(row.get("Parent", "").strip()) if kind == "variation" else None
        sku = row["SKU"].strip()
        by_sku = bool(sku) and sku not in skus
        identifier = sku if by_sku else row.get("ID", "").strip()
        notes.takes("id", "SKU" if by_sku else "ID")
        if parent is not None:
            notes.consumed.add("Parent")
        skus.add(sku)
        for column in row:
            if (match := _ATTRIBUTE.match(column)) and row[column].strip():
                notes.takes("attributes", f"Attribute {match[1]} value(s)")
        yield number, _offer(row, parent, identifier)


def _english(rows: Rows) -> Rows:
    for number, row in rows:
        yield number, row if isinstance(row, BadRow) else {english_column(name): value for name, value in row.items()}


def _kind(row: dict[str, Any]) -> str:
    kinds = [kind.strip().lower() for kind in str(row["Type"]).split(",")]
    return next((kind for kind in kinds if kind in ("variable", "variation")), kinds[0])


def _offer(row: dict[str, Any], parent: dict[str, Any] | None, identifier: str) -> dict[str, Any]:
    # the parent lists all values of what its variations differ in; each of them names it, if only with an empty value
    differing = _attributes(row, empty=True)
    attributes = {name: value for name, value in _attributes(parent).items() if name not in differing} if parent else {}
    attributes.update(_attributes(row))
    cells = {
        column: value or (parent[column] if parent and column not in _OWN else "")
        for column, value in row.items()
        if column not in ("ID", "Type") and not column.startswith("Attribute ")
    }
    for column in ("Description", "Short description"):
        if column in cells:
            cells[column] = cells[column].replace("\\n", "\n")
    if "Categories" in cells:
        # paths with commas between: the one that says most
        deepest = max(_COMMA.split(cells["Categories"]), key=lambda path: path.count(">"))
        cells["Categories"] = deepest.replace("\\,", ",")
    return {"id": identifier, **cells, "attributes": attributes, "woocommerce_type": row["Type"]}


def _attributes(row: dict[str, Any], *, empty: bool = False) -> dict[str, str]:
    found = {}
    for column in row:
        if match := _ATTRIBUTE.match(column):
            name, value = row[column].strip(), row.get(f"Attribute {match[1]} value(s)", "").strip()
            if name and (value or empty):
                found[name] = value.replace("\\,", ",")
    return found
