"""WDC Products: offers of many web shops with hard siblings; text only."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from afmrl.data.offer import Offer, SkippedRow
from afmrl.errors import InputError
from afmrl.public_sets.base import PairRow, PublicDataset, Reading, SourceRow
from afmrl.public_sets.source_files import json_lines

PAIR_FILE = re.compile(
    r"wdcproducts(?P<corner>\d\dcc\d\drnd)(?P<unseen>\d{3}un)_(?P<part>train|valid|gs)(?:_(?P<size>small|medium|large))?"
    r"\.json(?:\.gz)?"
)


def read_wdc_products(folder: Path) -> Reading:
    """Pair files such as `wdcproducts80cc20rnd000un_train_small.json.gz` and `…_gs.json.gz`, as 80pair.zip unpacks.

    A line is one pair: `id`, `brand`, `title`, `description`, `price`, `priceCurrency`, `cluster_id`, each with
    `_left` and `_right`, then `pair_id`, `label`, `is_hard_negative`. The cluster is the product. Offers are collected
    over all files found; pairs keep their file as `pair_split` ("train_small", "valid_large", "gs_000un", …). The
    published split is one of pairs: products of `000un` and half of `050un` are in training too. The column `split`
    is by product instead: "train" for those of a training or validation file, "test" for those of gold standards
    alone (the unseen ones). Every offer is searched among the others: role "both". Layout as in the repository
    wbsg-uni-mannheim/wdcproducts and as others who unpacked 80pair.zip list its files and fields; not checked against
    the files.

    Raises:
        InputError: no pair file, files of several ratios of corner cases, or a file that is cut off.
    """
    found = {
        path: match
        for path in sorted({*folder.glob("*.json*"), *folder.glob("*/*.json*")})
        if (match := PAIR_FILE.fullmatch(path.name))
    }
    if not found:
        raise InputError(f"{folder}: no file such as wdcproducts80cc20rnd000un_train_small.json.gz is there")
    ratios = sorted({match["corner"] for match in found.values()})
    if len(ratios) > 1:
        raise InputError(f"{folder}: holds the benchmarks {' and '.join(ratios)}; give a folder with one of them")
    if len({path.name.removesuffix(".gz") for path in found}) < len(found):
        raise InputError(f"{folder}: a pair file is there twice; leave one copy")
    trained: set[str] = set()
    for path, match in found.items():
        if match["part"] != "gs":
            trained.update(
                str(line[1].get(f"cluster_id_{side}"))
                for line in json_lines(path)
                if not isinstance(line, SkippedRow)
                for side in ("left", "right")
            )

    def rows() -> Iterator[SourceRow | SkippedRow]:
        seen: set[str] = set()
        for path in found:
            for line in json_lines(path):
                if isinstance(line, SkippedRow):
                    yield line
                    continue
                number, pair = line
                for side in ("left", "right"):
                    offer = _offer(pair, side, trained)
                    if not offer.id:
                        yield SkippedRow(str(path), number, f"id_{side}", "is missing")
                    elif offer.id not in seen:
                        seen.add(offer.id)
                        yield SourceRow(offer, str(path), number)

    def pairs() -> Iterator[PairRow]:
        for path, match in found.items():
            name = f"gs_{match['unseen']}" if match["part"] == "gs" else f"{match['part']}_{match['size']}"
            for line in json_lines(path):
                if not isinstance(line, SkippedRow) and line[1].get("label") in (0, 1):
                    pair = line[1]
                    yield PairRow(str(pair.get("id_left")), str(pair.get("id_right")), int(pair["label"]), name)

    notes = () if trained else ("no training file is here: every product counts as unseen",)
    return Reading(rows(), pairs=pairs, notes=notes)


def _offer(pair: Mapping[str, Any], side: str, trained: set[str]) -> Offer:
    values = {
        name: "" if (value := pair.get(f"{name}_{side}")) is None else str(value).strip()
        for name in ("id", "brand", "title", "description", "price", "priceCurrency", "cluster_id")
    }
    price = " ".join(part for part in (values["price"], values["priceCurrency"]) if part) if values["price"] else ""
    seen = values["cluster_id"] in trained
    return Offer(
        id=values["id"],
        title=values["title"],
        description=values["description"],
        attributes={key: value for key, value in (("brand", values["brand"]), ("price", price)) if value},
        product_id=values["cluster_id"],
        extra={"split": "train" if seen else "test", "role": "both", "subset": "seen" if seen else "unseen"},
    )


WDC_PRODUCTS = PublicDataset(
    name="wdc-products",
    title="WDC Products",
    what="offers of web shops, text only, with hard siblings; labeled pairs and products",
    size="11,715 offers of 2,162 products",
    license="none stated; extracted from the Common Crawl, whose terms of use apply",
    homepage="https://webdatacommons.org/largescaleproductcorpus/wdc-products/",
    download="""\
80pair.zip (21 MB; or 50pair.zip, 20pair.zip) from the homepage, unpacked:
  wdcproducts80cc20rnd000un_train_{small,medium,large}.json.gz
  wdcproducts80cc20rnd000un_valid_{small,medium,large}.json.gz
  wdcproducts80cc20rnd{000,050,100}un_gs.json.gz
Some of them will do: offers are collected from the files that are there.""",
    layout_source="the benchmark's repository and listings of others who unpacked it; not checked against the files",
    citation="Peeters, Der, Bizer, WDC Products: A Multi-Dimensional Entity Matching Benchmark, EDBT 2024, "
    "arXiv 2301.09521",
    read=read_wdc_products,
    has_images=False,
)
