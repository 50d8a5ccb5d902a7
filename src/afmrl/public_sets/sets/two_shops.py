"""Abt-Buy and Amazon-Google: the offers of two shops each and which are the same; text only."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from afmrl.data.offer import Offer, SkippedRow
from afmrl.errors import InputError
from afmrl.public_sets.base import PairRow, PublicDataset, Reading, SourceRow
from afmrl.public_sets.source_files import csv_rows, find_file, require_file

SPLITS = ("train", "valid", "test")
DITTO_COLUMN = re.compile(r"\s*COL (\S+) VAL(?= |$)")


@dataclass(frozen=True)
class Shops:
    """What tells the two sets apart."""

    name: str
    left: str
    right: str
    mapping: str
    """The three files of the Leipzig distribution."""
    left_key: str
    right_key: str
    """Columns of the mapping."""


ABT_BUY_SHOPS = Shops("abt-buy", "Abt.csv", "Buy.csv", "abt_buy_perfectMapping.csv", "idAbt", "idBuy")
AMAZON_GOOGLE_SHOPS = Shops(
    "amazon-google",
    "Amazon.csv",
    "GoogleProducts.csv",
    "Amzon_GoogleProducts_perfectMapping.csv",  # sic
    "idAmazon",
    "idGoogleBase",
)


def read_two_shops(folder: Path, shops: Shops) -> Reading:
    """One of three distributions, whichever is in the folder.

    - Leipzig: two CSV files of offers (`id`, `name` or `title`, `description`, `manufacturer`, `price`; not UTF-8) and
      the perfect mapping between them. Complete, no split.
    - DeepMatcher (Magellan): `tableA.csv`, `tableB.csv`, and `train.csv`, `valid.csv`, `test.csv` of `ltable_id,
      rtable_id, label`.
    - ditto: `train.txt`, `valid.txt`, `test.txt`, lines of two offers as `COL name VAL …` and a label, by tabs. There
      are no ids: equal text is the same offer, numbered as it first appears (A00000, B00000).

    Offers of the first shop are the queries, those of the second the gallery. The product of an offer are all offers
    that labeled matches connect with it; without any, it is its own. The published splits are of pairs, not of
    products, and are in pairs.jsonl alone: `afmrl dataset split` deals products out. Layouts as Köpcke et al.,
    DeepMatcher and ditto's readers take them, and as the lines of ditto's repository are; the CSV files not checked.

    Raises:
        InputError: no distribution is complete.
    """
    if find_file(folder, shops.mapping) or find_file(folder, shops.left):
        return _leipzig(folder, shops)
    if find_file(folder, "tableA.csv"):
        return _deepmatcher(folder, shops)
    if find_file(folder, "train.txt"):
        return _ditto(folder, shops)
    raise InputError(
        f"{folder}: holds no distribution of {shops.name}: neither {shops.mapping} (Leipzig) nor tableA.csv "
        "(DeepMatcher) nor train.txt (ditto)"
    )


def _leipzig(folder: Path, shops: Shops) -> Reading:
    left, right, mapping = (require_file(folder, name) for name in (shops.left, shops.right, shops.mapping))
    found = list(csv_rows(mapping, (shops.left_key, shops.right_key)))
    pairs = [
        PairRow(f"A-{row[1][shops.left_key].strip()}", f"B-{row[1][shops.right_key].strip()}", 1)
        for row in found
        if not isinstance(row, SkippedRow)
    ]
    rows = [row for row in found if isinstance(row, SkippedRow)]
    return _reading([*_csv_offers(left, "A"), *_csv_offers(right, "B"), *rows], pairs, shops)


def _deepmatcher(folder: Path, shops: Shops) -> Reading:
    tables = [require_file(folder, name) for name in ("tableA.csv", "tableB.csv")]
    rows: list[SourceRow | SkippedRow] = [
        row for path, side in zip(tables, "AB", strict=True) for row in _csv_offers(path, side)
    ]
    pairs = []
    for split in SPLITS:
        for line in csv_rows(require_file(folder, f"{split}.csv"), ("ltable_id", "rtable_id", "label")):
            if isinstance(line, SkippedRow):
                rows.append(line)
                continue
            cells = line[1]
            label = int(cells["label"].strip() == "1")
            pairs.append(PairRow(f"A-{cells['ltable_id']}", f"B-{cells['rtable_id']}", label, split))
    return _reading(rows, pairs, shops)


def _csv_offers(path: Path, side: str) -> Iterator[SourceRow | SkippedRow]:
    for row in csv_rows(path, ("id",)):
        if isinstance(row, SkippedRow):
            yield row
            continue
        number, cells = row
        identifier = cells.pop("id").strip()
        if identifier:
            yield SourceRow(_offer(f"{side}-{identifier}", cells), str(path), number)
        else:
            yield SkippedRow(str(path), number, "id", "is missing")


def _ditto(folder: Path, shops: Shops) -> Reading:
    rows: list[SourceRow | SkippedRow] = []
    pairs = []
    numbers: dict[str, dict[str, str]] = {"A": {}, "B": {}}
    for split in SPLITS:
        path = require_file(folder, f"{split}.txt")
        # split at line feeds alone: titles hold other line separators
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").split("\n"), 1):
            if not line.strip():
                continue
            parts = line.rstrip("\r").split("\t")
            if len(parts) != 3 or parts[2].strip() not in ("0", "1"):
                rows.append(SkippedRow(str(path), number, "line", "is not 'offer, offer, 0 or 1' separated by tabs"))
                continue
            ends = []
            for side, text in zip("AB", parts, strict=False):
                known = numbers[side]
                if text not in known:
                    known[text] = f"{side}{len(known):05d}"
                    rows.append(SourceRow(_offer(known[text], parse_ditto(text)), str(path), number))
                ends.append(known[text])
            pairs.append(PairRow(ends[0], ends[1], int(parts[2]), split))
    return _reading(rows, pairs, shops)


def parse_ditto(text: str) -> dict[str, str]:
    """One offer of a ditto file as columns.

    >>> parse_ditto("COL title VAL visio 2007 COL manufacturer VAL  COL price VAL 129.95 ")
    {'title': 'visio 2007', 'manufacturer': '', 'price': '129.95'}
    """
    parts = DITTO_COLUMN.split(text)
    return {name: value.strip() for name, value in zip(parts[1::2], parts[2::2], strict=True)}


def _offer(identifier: str, cells: Mapping[str, str]) -> Offer:
    values = {name: value.strip() for name, value in cells.items()}
    title = values.pop("title", "") or values.pop("name", "")
    return Offer(
        id=identifier,
        title=title,
        description=values.pop("description", ""),
        attributes={name: value for name, value in values.items() if value and name in ("manufacturer", "price")},
        extra={"split": "", "role": "query" if identifier.startswith("A") else "gallery"},
    )


def _reading(rows: list[SourceRow | SkippedRow], pairs: list[PairRow], shops: Shops) -> Reading:
    products = _products((row.offer.id for row in rows if isinstance(row, SourceRow)), pairs, shops.name)
    named = (
        replace(row, offer=replace(row.offer, product_id=products[row.offer.id])) if isinstance(row, SourceRow) else row
        for row in rows
    )
    return Reading(named, pairs=lambda: pairs)


def _products(identifiers: Iterable[str], pairs: Iterable[PairRow], name: str) -> dict[str, str]:
    """For each offer, a name of its connected component, that of its first offer in the file order."""
    from scipy.cluster.hierarchy import DisjointSet

    order = list(dict.fromkeys(identifiers))
    known: Any = DisjointSet(order)
    for pair in pairs:
        if pair.label and pair.left in known and pair.right in known:
            known.merge(pair.left, pair.right)
    first: dict[str, str] = {}
    return {identifier: first.setdefault(known[identifier], f"{name}-{identifier}") for identifier in order}


def _dataset(shops: Shops, title: str, what: str, size: str, archive: str, ditto: str) -> PublicDataset:
    return PublicDataset(
        name=shops.name,
        title=title,
        what=what,
        size=size,
        license="none stated with the archives; offers by the shops (ditto's repository is Apache-2.0)",
        homepage="https://dbs.uni-leipzig.de/research/projects/benchmark-datasets-for-entity-resolution",
        download=f"""\
One of these, into one folder:
  Leipzig: {archive} from the homepage, unpacked: {shops.left}, {shops.right}, {shops.mapping}
  DeepMatcher: exp_data of https://github.com/anhaidgroup/deepmatcher/blob/master/Datasets.md:
    tableA.csv, tableB.csv, train.csv, valid.csv, test.csv
  ditto: {ditto} of https://github.com/megagonlabs/ditto: train.txt, valid.txt, test.txt""",
        layout_source="ditto: its repository's lines; Leipzig and DeepMatcher: readers of others, not checked",
        citation="Köpcke, Thor, Rahm, Evaluation of entity resolution approaches on real-world match problems, "
        "VLDB 2010; Mudgal et al., Deep Learning for Entity Matching, SIGMOD 2018",
        read=functools.partial(read_two_shops, shops=shops),
        has_images=False,
    )


ABT_BUY = _dataset(
    ABT_BUY_SHOPS,
    "Abt-Buy",
    "electronics of abt.com and buy.com, text only; the first shop's offers search the second's",
    "1,081 + 1,092 offers, 1,097 matches (Leipzig); 9,575 labeled pairs (DeepMatcher, ditto)",
    "Abt-Buy.zip",
    "data/er_magellan/Textual/Abt-Buy",
)
AMAZON_GOOGLE = _dataset(
    AMAZON_GOOGLE_SHOPS,
    "Amazon-Google",
    "software of Amazon and Google's product search, text only; the first shop's offers search the second's",
    "1,363 + 3,226 offers, 1,300 matches (Leipzig); 11,460 labeled pairs (DeepMatcher, ditto)",
    "Amazon-GoogleProducts.zip",
    "data/er_magellan/Structured/Amazon-Google",
)
