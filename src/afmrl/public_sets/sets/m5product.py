"""M5Product: 6 million offers of Taobao, the set that the paper reports on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from afmrl.data.offer import Offer, SkippedRow
from afmrl.errors import InputError
from afmrl.public_sets.base import PublicDataset, Reading, SourceRow
from afmrl.public_sets.source_files import find_file, json_object_items, read_id_list

ALL, TRAIN, TEST = (f"product1m_product5m_{part}id_label.json" for part in ("", "train_", "test_"))
ID_LISTS = {
    ("fine", "query"): "query_fg_image_ids.json",
    ("fine", "gallery"): "gallery_fg_image_ids.json",
    ("coarse", "query"): "query_c_image_ids.json",
    ("coarse", "gallery"): "gallery_c_image_ids.json",
}


def read_m5product(folder: Path) -> Reading:
    """`product1m_product5m_id_label.json`, or its train and test parts, with `images/ID.jpg`.

    Each file is one object `{id: {"title", "label", "url", "video", "pv"}}`, `pv` being `key#:#value#;#key#:#value`.
    The label is a category for most offers; for those of the fine-grained lists it is read as the product, for the
    evaluation compares nothing else. Layout as in the authors' code (Xiaodongsuper/M5Product_toolkit:
    `dataloader/pretrain_dataset_ITPVA.py`, `extract_feature/generate_tsv_feature.py`, `eval/evaluate_unit.py`;
    Xiaodongsuper/SCALE_code: `evaluate_unit_v2.py`) and in code of others who hold the files; not checked against the
    files. Of the id lists only the name `gallery_fg_image_ids.json` was seen, the other three follow its pattern.

    Raises:
        InputError: none of the label files is there, or one is cut off.
    """
    paths = {split: path for split, name in (("train", TRAIN), ("test", TEST)) if (path := find_file(folder, name))}
    whole = find_file(folder, ALL)
    if not paths and whole is None:
        raise InputError(f"{folder}: the file {ALL} is missing, and so are {TRAIN} and {TEST}")
    lists = {key: path for key, name in ID_LISTS.items() if (path := find_file(folder, name))}
    roles = _roles({key: read_id_list(path) for key, path in lists.items()})
    notes = [f"id list {name} is not here" for key, name in ID_LISTS.items() if key not in lists]
    if ("fine", "gallery") not in lists or ("fine", "query") not in lists:
        notes.append("without the fine-grained lists no product_id is known: only categories are written")
    if whole is not None and not paths:
        notes.append(f"without {TRAIN} and {TEST} no split is known")
    images = folder / "images"

    def rows() -> Iterator[SourceRow | SkippedRow]:
        for split, path in paths.items() or {"": whole}.items():
            assert path is not None
            for number, identifier, record in json_object_items(path):
                if isinstance(record, dict):
                    offer = _offer(identifier, record, split, roles.get(identifier, {}), images)
                    yield SourceRow(offer, str(path), number)
                else:
                    yield SkippedRow(str(path), number, identifier, "is not a JSON object", identifier)

    return Reading(rows(), notes=tuple(notes))


def _roles(lists: Mapping[tuple[str, str], list[str]]) -> dict[str, dict[str, str]]:
    """For each listed id, task ("fine", "coarse") to role; "both" where it is query and gallery of one task."""
    roles: dict[str, dict[str, str]] = {}
    for (task, role), identifiers in lists.items():
        for identifier in identifiers:
            of_offer = roles.setdefault(identifier, {})
            of_offer[task] = "both" if of_offer.get(task, role) != role else role
    return roles


def _offer(identifier: str, record: Mapping[str, Any], split: str, roles: Mapping[str, str], images: Path) -> Offer:
    label = str(record.get("label") or "")
    fine = "fine" in roles
    return Offer(
        id=identifier,
        title=str(record.get("title") or ""),
        image=str(images / f"{identifier}.jpg"),
        category="" if fine else label,
        attributes=parse_properties(str(record.get("pv") or "")),
        product_id=label if fine else "",
        extra={
            "split": split,
            "role": roles.get("fine") or roles.get("coarse", ""),
            "task": ",".join(sorted(roles)),
            "image_url": str(record.get("url") or ""),
        },
    )


def parse_properties(text: str) -> dict[str, str]:
    """`pv` as key attributes; parts without both key and value are left out, a key given twice keeps both values.

    >>> parse_properties("品牌#:#AHC#;#颜色#:#红色#;#颜色#:#蓝色#;#无")
    {'品牌': 'AHC', '颜色': '红色, 蓝色'}
    """
    found: dict[str, str] = {}
    for part in text.split("#;#"):
        key, separator, value = part.partition("#:#")
        key, value = key.strip(), value.strip()
        if separator and key and value:
            found[key] = f"{found[key]}, {value}" if key in found else value
    return found


M5PRODUCT = PublicDataset(
    name="m5product",
    title="M5Product",
    what="Taobao offers: image, title, property table (video and audio are not read); category and product retrieval",
    size="6,313,067 offers",
    license=(
        "commitment letter: non-commercial research at universities and institutes only, no redistribution "
        "(Alibaba Group, terms_of_use.html of the homepage)"
    ),
    homepage="https://xiaodongsuper.github.io/M5Product_dataset/",
    download=f"""\
From download.html of the homepage (Google Drive or Baidu Yun), after the commitment letter, into one folder:
  {ALL}   (all), or
  {TRAIN} and {TEST}
  {", ".join(ID_LISTS.values())}
  images/ID.jpg   (the main image of each offer; the label file has its address)
Images that are no longer on line: convert with a higher --max-bad, they are listed in skipped.jsonl.""",
    layout_source="the authors' code (M5Product_toolkit, SCALE_code); not checked against the files",
    citation="Dong et al., M5Product: Self-harmonized Contrastive Learning for E-commercial Multi-modal Pretraining, "
    "CVPR 2022, arXiv 2109.04275",
    read=read_m5product,
)
