"""Product1M: cosmetics of Taobao; a query shows a set of several products, the gallery single ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from afmrl.data.offer import Offer, SkippedRow
from afmrl.public_sets.base import PublicDataset, Reading, SourceRow
from afmrl.public_sets.source_files import find_file, require_file

FILES = {
    # file: split, role
    "product1m_train_ossurl_v2.txt": ("train", ""),
    "product1m_dev_ossurl_v2.txt": ("val", "query"),
    "product1m_test_ossurl_v2.txt": ("test", "query"),
    "product1m_gallery_ossurl_v2.txt": ("gallery", "gallery"),
}


def read_product1m(folder: Path) -> Reading:
    """`product1m_{train,dev,test,gallery}_ossurl_v2.txt`, with `images/ID.jpg`.

    A line is `id#####title#####url#####second url#####labels`, labels joined by `#;#`; lines of the training file
    have none. A query matches every gallery offer that shows one of its products (`CAPTURE/evaluate_suit.py`), so
    matches are written to qrels.tsv, besides `product_id`. Layout checked against the dev and test file in
    zhanxlin/Product1M on GitHub; the train and gallery files as its evaluation code and XuyangShen/Product1M_download
    read them. The name of an image is that of the second address.

    Raises:
        InputError: a file of queries or gallery is missing.
    """
    train = find_file(folder, "product1m_train_ossurl_v2.txt")
    paths = [(path, *FILES[path.name]) for path in (train,) if path]
    paths += [(require_file(folder, name), *FILES[name]) for name in list(FILES)[1:]]
    images = folder / "images"
    gallery: dict[str, list[str]] = {}
    queries: list[tuple[str, tuple[str, ...]]] = []

    def rows() -> Iterator[SourceRow | SkippedRow]:
        for path, split, role in paths:
            with open(path, encoding="utf-8-sig", errors="replace") as file:
                for number, line in enumerate(file, 1):
                    parts = line.rstrip("\r\n").split("#####")
                    if len(parts) < (5 if role else 4):
                        if line.strip():
                            yield SkippedRow(str(path), number, "line", f"has {len(parts)} fields between '#####'")
                        continue
                    products = tuple(dict.fromkeys(p for p in "".join(parts[4:]).split("#;#") if p)) if role else ()
                    identifier = parts[0].strip()
                    if role == "query":
                        queries.append((identifier, products))
                    elif role == "gallery" and products:
                        gallery.setdefault(products[0], []).append(identifier)
                    offer = Offer(
                        id=identifier,
                        title=parts[1].strip(),
                        image=str(images / f"{identifier}.jpg"),
                        product_id="#;#".join(sorted(products)),
                        extra={"split": split, "role": role, "products": list(products), "image_url": parts[2]},
                    )
                    yield SourceRow(offer, str(path), number)

    def matches() -> Iterator[tuple[str, str]]:
        for query, products in queries:
            for product in products:
                for offer in gallery.get(product, []):
                    yield query, offer

    notes = () if train else ("product1m_train_ossurl_v2.txt is not here: only queries and gallery are written",)
    return Reading(rows(), matches=matches, notes=notes)


PRODUCT1M = PublicDataset(
    name="product1m",
    title="Product1M",
    what="cosmetics of Taobao: sets of several products search a gallery of single ones; image and title",
    size="1,182,083 offers",
    license="none stated in the repository; images and titles are the sellers' of Taobao",
    homepage="https://github.com/zhanxlin/Product1M",
    download="""\
Label files: the repository (dev, test) and the Google Drive folder of its README (train, gallery), into one folder:
  product1m_train_ossurl_v2.txt, product1m_dev_ossurl_v2.txt, product1m_test_ossurl_v2.txt,
  product1m_gallery_ossurl_v2.txt
  images/ID.jpg   (fetched from either of the two addresses in each line)
Images that are no longer on line: convert with a higher --max-bad, they are listed in skipped.jsonl.""",
    layout_source="dev and test file in the repository; train and gallery as its evaluation code reads them",
    citation="Zhan et al., Product1M: Towards Weakly Supervised Instance-Level Product Retrieval via Cross-Modal "
    "Pretraining, ICCV 2021, arXiv 2107.14572",
    read=read_product1m,
)
