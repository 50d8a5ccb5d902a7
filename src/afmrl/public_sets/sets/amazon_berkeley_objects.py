"""Amazon Berkeley Objects (ABO): catalog listings in many languages, with several images each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from afmrl.data.offer import Offer, SkippedRow
from afmrl.errors import InputError
from afmrl.public_sets.base import PublicDataset, Reading, SourceRow
from afmrl.public_sets.source_files import csv_rows, json_lines

ATTRIBUTES = (
    "brand", "model_name", "model_number", "model_year", "color", "material", "style", "pattern", "finish_type",
    "fabric_type", "item_shape",
)  # fmt: skip
SHARDS = "0123456789abcdef"


def read_amazon_berkeley_objects(folder: Path) -> Reading:
    """`listings/metadata/listings_{0…f}.json.gz`, `images/metadata/images.csv.gz`, `images/small/…` or `…/original/…`.

    A listing's texts are lists of `{"language_tag", "value"}`: English is taken where there is some, otherwise the
    first language. One offer an image: the main one (gallery) carries the listing's text; other views (query) are the
    image alone, for with the listing's own title a view would be found by its text. `item_id` is the product: a
    product listed in several countries has several gallery offers. No split is published for listings: `afmrl dataset
    split` deals one out. Layout as in the README of the set (mirrored on the Hugging Face hub) and in code of others
    who hold the files; listings checked against single records quoted there, not against the files.

    Raises:
        InputError: listings, the table of images or the images' folder are missing.
    """
    shards = [folder / "listings" / "metadata" / f"listings_{name}.json.gz" for name in SHARDS]
    found = [path for path in shards if path.is_file()]
    if not found:
        raise InputError(f"{folder}: the file listings/metadata/listings_0.json.gz is missing")
    table = folder / "images" / "metadata" / "images.csv.gz"
    if not table.is_file():
        raise InputError(f"{folder}: the file images/metadata/images.csv.gz is missing")
    images = next((p for name in ("small", "original") if (p := folder / "images" / name).is_dir()), None)
    if images is None:
        raise InputError(f"{folder}: neither images/small nor images/original is there")
    notes = tuple(f"{path.name} is not here: its listings are left out" for path in shards if path not in found)

    def rows() -> Iterator[SourceRow | SkippedRow]:
        path_of: dict[str, str] = {}
        for row in csv_rows(table, ("image_id", "path")):
            if isinstance(row, SkippedRow):
                yield row
            else:
                path_of[row[1]["image_id"]] = row[1]["path"]
        for path in found:
            for line in json_lines(path):
                if isinstance(line, SkippedRow):
                    yield line
                else:
                    yield from _listing(path, *line, images, path_of)

    return Reading(rows(), notes=notes)


def _listing(
    path: Path, number: int, listing: Mapping[str, Any], images: Path, path_of: Mapping[str, str]
) -> Iterator[SourceRow | SkippedRow]:
    item_id = str(listing.get("item_id") or "")
    if not item_id:
        yield SkippedRow(str(path), number, "item_id", "is missing")
        return
    place = f"{item_id}-{listing.get('domain_name') or listing.get('country') or ''}"
    category = in_english(listing.get("product_type"))
    main = str(listing.get("main_image_id") or "")
    views = listing.get("other_image_id")
    attributes = {name: value for name in ATTRIBUTES if (value := in_english(listing.get(name)))}
    bullets = [str(part.get("value", "")) for part in _language(listing.get("bullet_point"))]
    shared = {"split": "", "marketplace": str(listing.get("domain_name") or "")}
    if main and main not in path_of:
        yield SkippedRow(
            str(path), number, "main_image_id", f"{main!r} is not in images.csv; kept without image", place
        )
    yield SourceRow(
        Offer(
            id=f"{place}-main",
            title=in_english(listing.get("item_name")),
            description=" ".join(bullets),
            image=str(images / path_of[main]) if main in path_of else "",
            category=category,
            attributes=attributes,
            product_id=item_id,
            extra={**shared, "role": "gallery", "view": "main"},
        ),
        str(path),
        number,
    )
    for view in dict.fromkeys(map(str, views if isinstance(views, list) else [])):
        if view == main:
            continue
        if view not in path_of:
            yield SkippedRow(str(path), number, "other_image_id", f"{view!r} is not in images.csv", f"{place}-{view}")
            continue
        yield SourceRow(
            Offer(
                id=f"{place}-{view}",
                image=str(images / path_of[view]),
                category=category,
                product_id=item_id,
                extra={**shared, "role": "query", "view": "other"},
            ),
            str(path),
            number,
        )


def _language(values: Any) -> list[Mapping[str, Any]]:
    """The entries of one language: English if there is some, otherwise that of the first entry."""
    entries = [entry for entry in values if isinstance(entry, dict)] if isinstance(values, list) else []
    tags = [str(entry.get("language_tag", "")) for entry in entries]
    chosen = next((tag for tag in tags if tag.startswith("en")), tags[0] if tags else "")
    return [entry for entry, tag in zip(entries, tags, strict=True) if tag == chosen]


def in_english(values: Any) -> str:
    """The first value in English, otherwise the first value; "" if there is none.

    >>> in_english([{"language_tag": "de_DE", "value": "Stuhl"}, {"language_tag": "en_GB", "value": "chair"}])
    'chair'
    """
    entries = _language(values)
    value = entries[0].get("value") if entries else None
    return str(value) if isinstance(value, str | int | float) else ""


AMAZON_BERKELEY_OBJECTS = PublicDataset(
    name="abo",
    title="Amazon Berkeley Objects (ABO)",
    what="Amazon listings in many languages; a product's other views search its main image with text",
    size="147,702 listings, 398,212 images",
    license="CC BY 4.0 with attribution (LICENSE-CC-BY-4.0.txt in the set; older copies say CC BY-NC 4.0)",
    homepage="https://amazon-berkeley-objects.s3.amazonaws.com/index.html",
    download="""\
archives/abo-listings.tar and archives/abo-images-small.tar (3 GB, at most 256 px) from the homepage, both unpacked
into one folder:
  listings/metadata/listings_0.json.gz … listings_f.json.gz
  images/metadata/images.csv.gz
  images/small/14/14fe8812.jpg …   (or images/original/, from archives/abo-images-original.tar)""",
    layout_source="the set's README and records quoted by others; not checked against the files",
    citation="Collins et al., ABO: Dataset and Benchmarks for Real-World 3D Object Understanding, CVPR 2022, "
    "arXiv 2110.06199",
    read=read_amazon_berkeley_objects,
)
