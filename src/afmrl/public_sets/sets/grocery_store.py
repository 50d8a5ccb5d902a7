"""Grocery Store: phone photographs in shops against one catalog image with text for each class."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from afmrl.data.offer import Offer, SkippedRow
from afmrl.errors import InputError
from afmrl.public_sets.base import PublicDataset, Reading, SourceRow
from afmrl.public_sets.source_files import csv_rows, decode, require_file

NAME, ID, IMAGE, TEXT = (
    "Class Name (str)",
    "Class ID (int)",
    "Iconic Image Path (str)",
    "Product Description Path (str)",
)


@dataclass(frozen=True)
class _Class:
    product_id: str
    category: str


def read_grocery_store(folder: Path) -> Reading:
    """`classes.csv`, `train.txt`, `val.txt`, `test.txt` of `dataset/`, with the images they name.

    Lines of the lists are `path, class, coarse class`. classes.csv names for each of the 81 classes the iconic image
    and its description; next to the description is `…_Information.txt` (title, country and volume). Photographs are
    queries without text; iconic offers are the gallery of all splits (split "gallery"). The classes are in all
    splits: it is a test on new photographs, not on new products. Layout checked against classes.csv and
    `…_Information.txt` of marcusklasson/GroceryStoreDataset on GitHub; the lists' columns as others read them.

    Raises:
        InputError: one of the lists is missing, or names a class that classes.csv does not know.
    """
    table = require_file(folder, "classes.csv")
    root = table.parent
    lists = {split: root / f"{split}.txt" for split in ("train", "val", "test")}
    for path in lists.values():
        if not path.is_file():
            raise InputError(f"{root}: the file {path.name} is missing")

    def rows() -> Iterator[SourceRow | SkippedRow]:
        classes: dict[str, _Class] = {}
        for row in csv_rows(table, (NAME, ID, IMAGE, TEXT)):
            if isinstance(row, SkippedRow):
                yield row
                continue
            number, cells = row
            if not cells[ID].strip().isdigit():
                yield SkippedRow(str(table), number, ID, f"is {cells[ID]!r}, expected a number")
                continue
            offer = _iconic(root, cells)
            classes[cells[ID].strip()] = _Class(offer.product_id, offer.category)
            yield SourceRow(offer, str(table), number)
        for split, path in lists.items():
            for number, line in enumerate(decode(path).split("\n"), 1):
                if line.strip():
                    yield _photograph(root, path, number, line, split, classes)

    return Reading(rows())


def _iconic(root: Path, cells: dict[str, str]) -> Offer:
    name, image = cells[NAME].strip(), cells[IMAGE].strip().lstrip("/")
    places = Path(image).parent.parts[1:]  # below iconic-images-and-descriptions
    # "Fruit/Avocado/Avocado_Iconic.jpg" is its own coarse class, "Fruit/Apple/Granny-Smith/…" belongs to one
    category = "/".join(places[:-1] if len(places) > 2 else places)
    folder = (root / image).parent
    attributes = _information(folder)
    return Offer(
        id=f"iconic-{name}",
        title=name.replace("-", " "),
        description=_description(root / cells[TEXT].strip().lstrip("/"), folder),
        image=str(root / image),
        category=category,
        attributes=attributes,
        product_id=f"{int(cells[ID]):02d}_{name}",
        extra={"split": "gallery", "role": "gallery"},
    )


def _photograph(
    root: Path, path: Path, number: int, line: str, split: str, classes: dict[str, _Class]
) -> SourceRow | SkippedRow:
    parts = [part.strip() for part in line.split(",")]
    if len(parts) != 3:
        return SkippedRow(str(path), number, "line", f"has {len(parts)} fields, expected 'path, class, coarse class'")
    of_class = classes.get(parts[1])
    if of_class is None:
        raise InputError(f"{path}:{number}: class {parts[1]!r} is not in classes.csv; are these files of one version?")
    offer = Offer(
        id=f"{split}-{Path(parts[0]).stem}",
        image=str(root / parts[0]),
        category=of_class.category,
        product_id=of_class.product_id,
        extra={"split": split, "role": "query"},
    )
    return SourceRow(offer, str(path), number)


def _description(path: Path, folder: Path) -> str:
    """The class's text; a few paths of classes.csv lack the ending or differ by a letter from the file's name."""
    if not path.is_file():
        english = sorted(p for p in folder.glob("*_Description*") if "Swedish" not in p.name)
        if not english:
            return ""
        path = english[0]
    return " ".join(decode(path).split())


def _information(folder: Path) -> dict[str, str]:
    """`Title: …` and `Country and volume: Italy, ca 180g` as key attributes."""
    path = next(iter(sorted(folder.glob("*_Information*"))), None)
    if path is None:
        return {}
    fields = dict(line.split(":", 1) for line in decode(path).splitlines() if ":" in line)
    country, _, volume = fields.get("Country and volume", "").partition(",")
    found = {"retail_title": fields.get("Title", ""), "country": country, "volume": volume}
    return {key: " ".join(value.split()) for key, value in found.items() if value.strip()}


GROCERY_STORE = PublicDataset(
    name="grocery-store",
    title="Grocery Store",
    what="phone photographs in grocery shops search 81 catalog images with text",
    size="5,125 photographs of 81 classes",
    license="MIT (repository); catalog images and texts come from a shop's web pages",
    homepage="https://github.com/marcusklasson/GroceryStoreDataset",
    download="""\
git clone https://github.com/marcusklasson/GroceryStoreDataset, and give its folder `dataset`:
  classes.csv, train.txt, val.txt, test.txt
  train/, val/, test/, iconic-images-and-descriptions/""",
    layout_source="classes.csv and description files of the repository; the lists' columns as others read them",
    citation="Klasson, Zhang, Kjellström, A Hierarchical Grocery Store Image Dataset with Visual and Semantic Labels, "
    "WACV 2019",
    read=read_grocery_store,
)
