"""Stanford Online Products: eBay photographs, the standard set of metric learning on products."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from afmrl.data.offer import Offer, SkippedRow
from afmrl.errors import InputError
from afmrl.public_sets.base import PublicDataset, Reading, SourceRow
from afmrl.public_sets.source_files import require_file

HEADER = "image_id class_id super_class_id path"


def read_stanford_online_products(folder: Path) -> Reading:
    """`Ebay_train.txt` and `Ebay_test.txt`, images in `bicycle_final/…`, as the archive unpacks.

    Lines of `image_id class_id super_class_id path`, separated by blanks, below a header of these words. The official
    split is by product: 11,318 train, 11,316 test. Every test photograph is searched among all other ones, so its role
    is "both". There are no titles; the category is the folder's name. Layout as read by TensorFlow Datasets
    (`stanford_online_products.py`) and pytorch-metric-learning users; not checked against the files.

    Raises:
        InputError: a list is missing or has another header.
    """
    paths = {split: require_file(folder, f"Ebay_{split}.txt") for split in ("train", "test")}
    for path in paths.values():
        with open(path, encoding="utf-8", errors="replace") as file:
            header = file.readline().split()
        if header != HEADER.split():
            raise InputError(f"{path}:1: the header is {' '.join(header)[:80]!r}, expected {HEADER!r}")

    def rows() -> Iterator[SourceRow | SkippedRow]:
        for split, path in paths.items():
            with open(path, encoding="utf-8", errors="replace") as file:
                for number, line in enumerate(file, 1):
                    parts = line.split()
                    if number == 1 or not parts:
                        continue
                    if len(parts) != 4:
                        yield SkippedRow(str(path), number, "line", f"has {len(parts)} fields, expected 4")
                        continue
                    image_id, class_id, _, image = parts
                    offer = Offer(
                        id=image_id,
                        image=str(path.parent / image),
                        category=image.split("/")[0].removesuffix("_final"),
                        product_id=class_id,
                        extra={"split": split, "role": "both"},
                    )
                    yield SourceRow(offer, str(path), number)

    return Reading(rows())


STANFORD_ONLINE_PRODUCTS = PublicDataset(
    name="stanford-online-products",
    title="Stanford Online Products",
    what="eBay photographs without text; each test photograph is searched among the others",
    size="120,053 photographs of 22,634 products in 12 categories",
    license="none found stated; photographs of eBay sellers, published for research",
    homepage="https://cvgl.stanford.edu/projects/lifted_struct/",
    download="""\
Stanford_Online_Products.zip from the homepage (2.9 GB); unpack it and give the folder that holds
  Ebay_train.txt, Ebay_test.txt, bicycle_final/, cabinet_final/, …""",
    layout_source="loaders of others (TensorFlow Datasets, chainercv); not checked against the files",
    citation="Song et al., Deep Metric Learning via Lifted Structured Feature Embedding, CVPR 2016",
    read=read_stanford_online_products,
)
