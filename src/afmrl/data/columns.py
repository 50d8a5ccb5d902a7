"""What the columns of a catalog are read as, whatever a shop calls them."""

from __future__ import annotations

import difflib
import functools
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from afmrl.data.gtin import gtins_in
from afmrl.data.missing import says_nothing
from afmrl.data.offer import FIELDS
from afmrl.errors import InputError

NEAR = 0.84
"""How alike a column's name and a known one are (difflib's ratio) where the one is taken for a slip of the other."""
LONG = 18
"""Letters of two names together, from which two slips are one too few to make another name."""
ROW_NUMBER = "#"
"""As the column of the ids: the number of the row is its id."""
KEPT_AS = ("seller", "split", "role", "contradicts")
"""Columns that are no field of an offer and that are used by name."""
FAMILY_COLUMNS = ("family_id", "style_id", "family")
"""Columns that name the family of siblings (a style, a model line), which splits and intervals keep together; the first
that is filled counts."""

_FIELD_NAMES = {
    "id": "id, offer_id, item_id, sku, variant_sku, article_number, artikelnummer, art_nr, item_number, product_code, "
    "item_code, listing_id, asin, uid, sku_code, artikelnr, art_nummer, produktnummer, bestellnummer, référence, "
    "référence_produit, réf, code_article, code_produit, identifiant, referencia, código, código_producto, "
    "código_artículo, código_produto, identificador, codice, codice_articolo, codice_prodotto, riferimento, "
    "identificativo, artikelcode, productcode, kod, kod_produktu, identyfikator, product_id",
    "title": "title, name, product_name, product_title, item_name, item_title, offer_title, produktname, produkttitel, "
    "titel, bezeichnung, artikelbezeichnung, artikelname, nom, nombre, titolo, naam, post_title, titre, intitulé, "
    "désignation, libellé, nom_du_produit, nom_produit, título, nombre_producto, nombre_del_producto, denominación, "
    "nome, nome_prodotto, denominazione, nome_produto, nome_do_produto, designação, productnaam, artikelnaam, nazwa, "
    "nazwa_produktu, tytuł",
    "description": "description, body, body_html, long_description, product_description, item_description, "
    "description_html, beschreibung, produktbeschreibung, desc, descripcion, descrizione, short_description, "
    "kurzbeschreibung, summary, artikelbeschreibung, descriptif, description_produit, description_courte, descripción, "
    "descripción_producto, descrizione_prodotto, descrição, descrição_do_produto, omschrijving, beschrijving, "
    "productomschrijving, opis, opis_produktu",
    "image": "image, image_link, image_url, images, image_urls, image_links, image_src, image_path, image_file, "
    "main_image, main_image_url, main_image_link, primary_image, variant_image, picture, pictures, picture_url, photo, "
    "photos, photo_url, img, img_url, img_src, bild, bilder, bild_url, bildlink, additional_image_link, "
    "additional_image_links, additional_images, thumbnail, thumbnail_url, "
    "bilddatei, photo_principale, image_principale, url_image, imagen, imágenes, imagen_principal, url_imagen, "
    "imgurl_alternative, foto, fotos, immagine, immagini, url_immagine, imagem, imagens, url_imagem, "
    "afbeelding, afbeeldingen, afbeelding_url, zdjęcie, zdjęcia, obraz, obrazek",
    "category": "category, product_type, categories, category_path, category_name, product_category, breadcrumb, "
    "breadcrumbs, kategorie, kategorien, categorie, categoria, type, department, taxonomy, google_product_category, "
    "category_text, warengruppe, produktgruppe, produktkategorie, artikelgruppe, rubrik, catégorie, catégories, rayon, "
    "famille, categoría, categorías, familia, categorie_prodotto, categoria_prodotto, categorias, categorieën, "
    "productgroep, productcategorie, kategoria, kategoria_produktu",
    "seller": "seller, seller_name, shop, shop_name, store, store_name, merchant, merchant_name, marketplace, "
    "haendler, händler, verkäufer",
}  # fmt: skip
_ATTRIBUTE_NAMES = {
    "brand": "brand, brand_name, brands, manufacturer, manufacturer_name, vendor, marke, hersteller, marque, marca, "
    "merk, fabricant, nom_marque, fabricante, produttore, marka, producent, fabrikant",
    "gtin": "gtin, gtin8, gtin12, gtin13, gtin14, ean, ean8, ean13, ean_code, gtin_ean, ean_gtin, upc, upc_code, upca, "
    "barcode, variant_barcode, jan, isbn, isbn10, isbn13, gtin_upc_ean_or_isbn, "
    "ean_nummer, code_ean, code_barre, code_barres, code_à_barres, gencod, código_ean, código_barras, "
    "código_de_barras, codice_ean, codice_a_barre, streepjescode, kod_ean, kod_kreskowy",
    "mpn": "mpn, manufacturer_part_number, manufacturer_number, part_number, partno, herstellernummer, "
    "herstellerartikelnummer",
    "model": "model, model_name, modell, model_no, model_number, modelno, modellnummer",
    "color": "color, colour, colors, colours, color_name, farbe, farben, couleur, couleurs, colore, kleur, cor, "
    "kolor, barva",
    "size": "size, sizes, größe, groesse, taille, taglia, talla, maat, tamaño, tamanho, rozmiar, misura",
    "material": "material, materials, fabric, matière, materiale, materiaal, materiał, material_principal",
    "pattern": "pattern, muster",
    "gender": "gender, target_gender, geschlecht",
    "age_group": "age_group, target_age_group, altersgruppe",
    "pack": "pack, multipack, multi_pack, pack_size, pack_count, pack_quantity, units_per_pack, pieces_per_pack, "
    "items_per_pack, number_of_pieces, packungsgröße, stückzahl",
    "style": "style", "flavor": "flavor, flavour", "scent": "scent, fragrance", "finish": "finish",
    "capacity": "capacity", "edition": "edition", "format": "format", "platform": "platform",
}  # fmt: skip
_ATTRIBUTE_PREFIX = re.compile(r"^(?:seller_)?attributes?[.:/]\s*", re.IGNORECASE)
_SHOPIFY_METAFIELD = re.compile(r"\s*\(product\.metafields\.[^)]*\)\s*$")
_FEED_PREFIX = re.compile(r"^(?:\{[^}]*\}|g:|google shopping\s*/|schema:)\s*", re.IGNORECASE)
_LETTERS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ł": "l", "ø": "o", "đ": "d", "ı": "i"})
_ACCENTS = re.compile("[\u0300-\u036f]")


@functools.cache
def plain_name(column: str) -> str:
    """A column's name without case, accents, spaces, punctuation and a feed's prefix.

    >>> plain_name("g:Image_Link"), plain_name("Body (HTML)"), plain_name("Google Shopping / MPN")
    ('imagelink', 'bodyhtml', 'mpn')
    >>> plain_name("Código EAN"), plain_name("CATÉGORIE"), plain_name("Größe")
    ('codigoean', 'categorie', 'groesse')
    """
    name = _FEED_PREFIX.sub("", _SHOPIFY_METAFIELD.sub("", column.strip().lstrip("\ufeff")))
    letters = unicodedata.normalize("NFD", unicodedata.normalize("NFC", name.casefold()).translate(_LETTERS))
    # marks of Latin letters alone: those of kana make other letters
    return "".join(letter for letter in unicodedata.normalize("NFC", _ACCENTS.sub("", letters)) if letter.isalnum())


def _plain_names(names: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    return {meaning: tuple(dict.fromkeys(map(plain_name, listed.split(", ")))) for meaning, listed in names.items()}


_FIELDS = _plain_names(_FIELD_NAMES)
_ATTRIBUTES = _plain_names(_ATTRIBUTE_NAMES)
_ATTRIBUTE_OF = {name: attribute for attribute, names in _ATTRIBUTES.items() for name in names}
_FIELD_OF = {name: meaning for meaning, names in _FIELDS.items() for name in names}
ATTRIBUTE_COLUMNS = tuple(_ATTRIBUTE_NAMES)
"""Attributes of the seller that may be columns of their own."""


def attribute_named(name: str) -> str:
    """The attribute that a name means: "EAN-Code" is "gtin"; "" where it is none that is known.

    >>> attribute_named("EAN-Code"), attribute_named("colour"), attribute_named("price")
    ('gtin', 'color', '')
    """
    return _ATTRIBUTE_OF.get(plain_name(name), "")


def field_named(name: str) -> str:
    """The field that a name means: "Titre" is "title"; "" where it is none that is known.

    >>> field_named("PRODUCTNAME"), field_named("price")
    ('title', '')
    """
    return _FIELD_OF.get(plain_name(name), "")


@dataclass
class Columns:
    """The columns of one catalog: which is read as which field or attribute.

    Args:
        names: of the columns, in their order.
        given: field or attribute → column, as the user said (`--columns`); "#" as the id: the row's number.
        source: what error messages call the catalog.

    Raises:
        InputError: a column that is not there, or none that could be the id.
    """

    names: Iterable[str]
    given: Mapping[str, str] = field(default_factory=dict)
    source: str = "catalog"

    def __post_init__(self) -> None:
        self.names = list(self.names)
        self.of_field: dict[str, list[str]] = {}
        self.of_attribute: dict[str, list[str]] = {}
        self._misspelled: dict[str, tuple[str, str]] | None = None
        taken: set[str] = set()
        for name, column in self.given.items():
            if name == "id" and column == ROW_NUMBER:
                self.of_field["id"] = [ROW_NUMBER]
                continue
            found = self._find(column)
            if found is None:
                raise InputError(
                    f"{self.source}: --columns {name}={column}: there is no such column (columns: {self._listed()})"
                )
            place = self.of_field if name in FIELDS or name in KEPT_AS else self.of_attribute
            place[name] = [found]
            taken.add(found)
        free = [name for name in self.names if name not in taken]
        plain: dict[str, list[str]] = {}
        for name in free:
            plain.setdefault(plain_name(name), []).append(name)
        self._exactly(free)
        for meaning, names in _FIELDS.items():
            if meaning not in self.given:
                self.of_field[meaning] = self._candidates(meaning, names, plain)
        self._label_is_no_id()
        for meaning, names in _ATTRIBUTES.items():
            if meaning not in self.given:
                self.of_attribute[meaning] = self._candidates(meaning, names, plain)
        for name in free:
            if prefix := _ATTRIBUTE_PREFIX.match(name):
                self.of_attribute.setdefault(attribute_named(name[prefix.end() :]) or name[prefix.end() :], []).append(
                    name
                )
        if not self.of_field["id"]:
            raise InputError(
                f"{self.source}: no column is read as the offers' id (columns: {self._listed()}); name it with "
                f"--columns id=COLUMN, or take the rows' numbers with --columns id={ROW_NUMBER}"
            )
        self.of_attribute = {name: columns for name, columns in self.of_attribute.items() if columns}
        used = [*self.of_field.values(), *self.of_attribute.values()]
        self._used = {column for columns in used for column in columns}
        # a field's own column is no column besides; one that only stands in for it is kept too
        self._consumed = {columns[0] for name, columns in self.of_field.items() if columns and name in FIELDS}

    def misspelled(self) -> dict[str, tuple[str, str]]:
        """Column that is not used → (what it seems to mean, the name meant), where nothing else means it."""
        if self._misspelled is None:
            free = [name for name in self.unused() if len(plain_name(name)) >= 4]
            wanted = {
                name: meaning
                for meanings, of in ((_FIELDS, self.of_field), (_ATTRIBUTES, self.of_attribute))
                for meaning, names in meanings.items()
                if not of.get(meaning)
                for name in names
                if len(name) >= 4
            }
            found = {column: _nearest(plain_name(column), wanted) for column in free}
            self._misspelled = {column: (wanted[name], name) for column, name in found.items() if name}
        return self._misspelled

    def _exactly(self, free: list[str]) -> None:
        for meaning in ("attributes", "product_id"):
            if meaning not in self.given:
                same = [name for name in free if plain_name(name) == plain_name(meaning)]
                self.of_field[meaning] = sorted(same, key=lambda name: name != meaning)[:1]

    def _label_is_no_id(self) -> None:
        """`product_id` says which offers are one product; only where nothing else is an id it is taken for one."""
        columns = self.of_field["id"]
        if "id" in self.given:
            return
        if len(columns) > 1 or (columns and plain_name(columns[0]) != "productid"):
            columns[:] = columns[:1]
        elif columns:
            self.of_field["product_id"] = []

    def _candidates(self, meaning: str, names: tuple[str, ...], plain: Mapping[str, list[str]]) -> list[str]:
        found = [column for name in names for column in plain.get(name, ())]
        return sorted(found, key=lambda column: column != meaning)

    def _find(self, column: str) -> str | None:
        names = list(self.names)
        if column in names:
            return column
        return next((name for name in names if plain_name(name) == plain_name(column)), None)

    def _listed(self) -> str:
        return ", ".join(self.names).encode("utf-8", "replace").decode()[:400]

    def first(self, row: Mapping[str, Any], meaning: str) -> tuple[str, Any]:
        """The column that a row's field is taken from, and its value: the first that says something ("N/A" does not).

        An id is any that is not empty: a shop may call an offer "NA". Attributes are looked at one by one.
        """
        silent = is_empty if meaning in ("id", "attributes") else says_nothing
        columns = self.of_field.get(meaning, ())
        for column in columns:
            value = row.get(column)
            if not silent(value):
                return column, value
        return (columns[0] if columns else meaning), None

    def attributes(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The seller attributes that are columns of a row: attribute → value; of GTINs all that differ."""
        found: dict[str, Any] = {}
        for meaning, columns in self.of_attribute.items():
            values = [value for column in columns if not says_nothing(value := row.get(column))]
            if values:
                found[meaning] = _each_once(values) if meaning == "gtin" and len(values) > 1 else values[0]
        return found

    def others(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """What an offer keeps of a row besides its fields."""
        return {name: value for name, value in row.items() if name and name not in self._consumed}

    def used(self) -> dict[str, list[str]]:
        """Field or attribute → the columns that it is read from."""
        named = {**self.of_field, **self.of_attribute}
        for name in (*KEPT_AS[1:], *FAMILY_COLUMNS):
            named.setdefault(name, [name] if name in self.names else [])
        return {meaning: columns for meaning, columns in named.items() if columns}

    def unused(self) -> list[str]:
        """Columns that nothing is read from; they are kept and can be named."""
        by_name = (*KEPT_AS, *FAMILY_COLUMNS)
        return [name for name in self.names if name and name not in self._used and name not in by_name]


def _each_once(gtins: list[Any]) -> Any:
    """The GTINs of several columns, ean and upc: a list where they are several numbers."""
    found = {tuple(gtins_in(value)) or str(value).strip(): value for value in reversed(gtins)}
    values = list(reversed(found.values()))
    return values[0] if len(values) == 1 else values


@functools.cache
def meant_by(column: str, meanings: tuple[str, ...]) -> str:
    """The name of one of some fields that a column's name is a slip of; "" where it is none.

    >>> meant_by("tilte", ("title", "image")), meant_by("price", ("title", "image"))
    ('title', '')
    """
    plain = plain_name(column)
    return _nearest(plain, [name for meaning in meanings for name in _FIELDS[meaning]]) if len(plain) >= 4 else ""


def _nearest(written: str, names: Iterable[str]) -> str:
    """The name that was meant, by a slip of the fingers; "" where there is none.

    Short names are alike by accident ("handle" and "haendler"): there one letter too many or too few is all that a slip
    may be.
    """
    names = [name for name in names if len(name) + len(written) > LONG or abs(len(name) - len(written)) < 2]
    swapped = [name for name in names if sorted(name) == sorted(written)]
    return next(iter(swapped or difflib.get_close_matches(written, names, 1, NEAR)), "")


def is_empty(value: Any) -> bool:
    """Whether a cell holds nothing: None, NaN (as pandas writes it), blank text, an empty list."""
    if value is None:
        return True
    if isinstance(value, str):
        return not value.strip()
    if isinstance(value, float):
        return value != value
    return isinstance(value, list | tuple | dict) and not value
