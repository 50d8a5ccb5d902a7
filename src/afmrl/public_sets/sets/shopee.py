"""Shopee, Kaggle "Price Match Guarantee": postings of a marketplace in South-East Asia, image and title."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from afmrl.data.offer import Offer, SkippedRow
from afmrl.public_sets.base import PublicDataset, Reading, SourceRow
from afmrl.public_sets.source_files import csv_rows, require_file

COLUMNS = ("posting_id", "image", "image_phash", "title", "label_group")


def read_shopee(folder: Path) -> Reading:
    """`train.csv` (posting_id, image, image_phash, title, label_group) and `train_images/`.

    `label_group` is the product. The labels of Kaggle's test set are not public, and no split is: `afmrl dataset split`
    deals one out; several postings share one image file, also across label groups, so `--join-images` is needed
    there. Every posting is searched among all others: role "both". Layout as the competition's data page says and its
    notebooks read it; not checked against the files.

    Raises:
        InputError: train.csv is missing or has other columns.
    """
    path = require_file(folder, "train.csv")

    def rows() -> Iterator[SourceRow | SkippedRow]:
        for row in csv_rows(path, COLUMNS):
            if isinstance(row, SkippedRow):
                yield row
                continue
            number, cells = row
            offer = Offer(
                id=cells["posting_id"],
                title=cells["title"],
                image=str(path.parent / "train_images" / cells["image"]) if cells["image"] else "",
                product_id=cells["label_group"],
                extra={"split": "", "role": "both", "image_phash": cells["image_phash"]},
            )
            yield SourceRow(offer, str(path), number)

    return Reading(rows())


SHOPEE = PublicDataset(
    name="shopee",
    title="Shopee, Price Match Guarantee (Kaggle)",
    what="marketplace postings, image and title (English, Indonesian, Malay); every posting searches the others",
    size="34,250 postings of 11,014 products",
    license="Kaggle competition rules, to be accepted before the download; read there what they allow",
    homepage="https://www.kaggle.com/c/shopee-product-matching",
    download="""\
The competition's data (`kaggle competitions download -c shopee-product-matching`), unpacked:
  train.csv
  train_images/0000a68812bc7e98c42888dfb1c07da0.jpg …""",
    layout_source="the competition's data page and notebooks; not checked against the files",
    citation="Shopee, Price Match Guarantee, Kaggle 2021",
    read=read_shopee,
)
